"""The floors of the house: which room imports which, who imports an array library, and that nothing goes round."""

import ast
from pathlib import Path
from typing import NamedTuple

import pytest

import xmlp

PACKAGE = Path(xmlp.__file__).parent
LIBRARIES = {"numpy", "cupy", "torch", "jax", "array_api_strict", "numba", "sklearn"}


class Floor(NamedTuple):
    """Rooms that import only rooms of lower floors, and whether they may import an array library."""

    rooms: tuple[str, ...]
    library: bool = False


FLOORS = [  # lowest first
    Floor(("errors", "types", "version")),
    Floor(("host",), library=True),
    Floor(("graph",)),
    Floor(("compiler",)),
    Floor(("runtime", "data"), library=True),
    Floor(("backends",), library=True),
    Floor(("initializers",), library=True),
    Floor(("schedules",)),
    Floor(("activations",)),
    Floor(("layers", "losses", "optimizers")),
    Floor(("metrics",), library=True),
    Floor(("network",), library=True),
    Floor(("training",), library=True),
    Floor(("model",), library=True),
    Floor(("callbacks",)),
    Floor(("testing",), library=True),
    Floor(("estimators",), library=True),
    Floor(("verify",)),
    Floor(("",)),  # the face: xmlp/__init__.py
    Floor(("cli",), library=True),
    Floor(("__main__",)),
]
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor.rooms}


def modules() -> dict[str, str]:
    """The source of every module of the package, by its name without "xmlp."."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


SOURCES = modules()


def room(module):
    return module.partition(".")[0]


def imports(source, known):
    """All that a module imports, whatever the kind: at its top, within functions, for types only."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole.removeprefix("xmlp.") in known else node.module


def arrows(sources):
    """(module, module of the package that it imports)."""
    for module, source in sources.items():
        for name in imports(source, sources):
            if name == "xmlp" or name.startswith("xmlp."):
                there = name.removeprefix("xmlp").removeprefix(".")
                if there != module and module != "":  # the face names its rooms, and imports them when they are used
                    yield module, there


def upwards(sources):
    """The arrows that do not go to a lower floor or stay within a room."""
    return [(a, b) for a, b in arrows(sources) if room(a) != room(b) and LEVEL[room(b)] >= LEVEL[room(a)]]


def circles(sources):
    """Groups of modules of which each imports, over others, itself."""
    reached = {module: set() for module in sources}
    for module, target in arrows(sources):
        reached[module].add(target)
    for middle in sources:
        for targets in reached.values():
            if middle in targets:
                targets |= reached[middle]
    return sorted(module for module, targets in reached.items() if module in targets)


def libraries(sources):
    """(module, array library) where the floor may not import one."""
    for module, source in sources.items():
        if module and not FLOORS[LEVEL[room(module)]].library:
            yield from ((module, lib) for n in imports(source, sources) if (lib := n.partition(".")[0]) in LIBRARIES)


def test_every_room_has_a_floor():
    assert {room(module) for module in SOURCES} == set(LEVEL)


def test_no_arrow_goes_upwards():
    assert upwards(SOURCES) == []


def test_no_imports_go_round():
    assert circles(SOURCES) == []


def test_array_libraries_stay_where_they_belong():
    assert [found for found in libraries(SOURCES) if found != ("types", "numpy")] == []  # the name of a type


PLANTED = {
    "at the top": ("training.run", "from xmlp.model.trainer import Trainer"),
    "within a function": ("network.chain", "def f():\n    from xmlp.training import step"),
    "for types": ("callbacks", "if TYPE_CHECKING:\n    from xmlp.estimators import MLPClassifier"),
    "of a module": ("host.files", "import xmlp.network.configs"),
    "of the face": ("layers", "import xmlp"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_an_arrow_upwards_is_seen(kind):
    module, line = PLANTED[kind]
    assert [a for a, _ in upwards({**SOURCES, module: f"{SOURCES[module]}\n{line}\n"})] == [module]


def test_a_circle_within_a_room_is_seen():
    line = "def f():\n    from xmlp.training.run import Run\n"
    there = "training.history"
    assert set(circles({**SOURCES, there: SOURCES[there] + line})) == {"training.history", "training.run"}


def test_an_array_library_in_the_mathematics_is_seen():
    assert ("layers", "numpy") in libraries({**SOURCES, "layers": "import numpy as np"})


def test_importing_xmlp_imports_nothing_heavy(printed):
    """Reliability row R9."""
    heavy = ("cupy", "sklearn", "rich", "matplotlib", "torch", "jax", "numba", "pandas")
    loaded = printed(f"import sys, xmlp; print([m for m in {heavy!r} if m in sys.modules])")
    assert loaded.strip() == "[]"
    loaded = printed(f"import sys, xmlp; xmlp.mlp([2, 2]); print([m for m in {heavy!r} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_importing_xmlp_costs_at_most_twice_numpy(printed):
    """Reliability row R9: alternated, medians."""
    code = "import time; s = time.perf_counter(); import {}; print(time.perf_counter() - s)"
    pairs = [(float(printed(code.format("numpy"))), float(printed(code.format("xmlp")))) for _ in range(7)]
    ratio = sorted(x for _, x in pairs)[3] / sorted(n for n, _ in pairs)[3]
    print(f"import xmlp / import numpy = {ratio:.2f}")
    assert ratio <= 2


def test_public_names():
    assert sorted(xmlp.__all__) == sorted([*xmlp._HOMES, *xmlp._MODULES])
    assert sorted(xmlp.data.__all__) == sorted(xmlp.data._HOMES)
    for name in xmlp.__all__:
        assert getattr(xmlp, name) is not None
    assert set(dir(xmlp)) >= set(xmlp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = xmlp.nothing


@pytest.mark.parametrize("module", ["activations", "layers", "losses", "optimizers", "testing"])
def test_all_lists_the_public_definitions(module):
    module = getattr(xmlp, module)
    for name in module.__all__:
        assert hasattr(module, name)
        assert not name.startswith("_")

"""Imports go down the list of the design, and array libraries stay where they belong."""

import ast
from pathlib import Path

import pytest

import xmlp

PACKAGE = Path(xmlp.__file__).parent

# lowest first; a module imports modules of its own level's package or of lower levels
LEVELS = [
    {"errors", "version"},
    {"host"},
    {"graph"},
    {"compiler"},
    {"runtime", "data"},
    {"backends"},
    {"initializers"},
    {"activations", "schedules"},
    {"layers", "losses", "optimizers", "metrics"},
    {"network"},
    {"training"},
    {"model"},
    {"callbacks", "testing"},
    {"verify", "estimators"},
    {"cli"},
    {"__main__"},
]
LIBRARIES_ALLOWED = (
    "host", "runtime", "backends", "initializers", "data", "network", "testing", "training", "model", "metrics",
    "estimators", "cli",
)  # fmt: skip
LIBRARIES = {"numpy", "cupy", "torch", "jax", "array_api_strict", "numba", "sklearn"}


def level(part):
    return next(i for i, parts in enumerate(LEVELS) if part in parts)


def modules():
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """(imported module, whether at module level and not for type checkers only)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {n for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
                   for n in ast.walk(node)}  # fmt: skip
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "xmlp":
                yield from (f"xmlp.{name.name}" for name in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    here = part_of(path)
    for name in imports(path):
        if not name.startswith("xmlp."):
            continue
        there = name.split(".")[1]
        if there == here:
            continue
        late = {("runtime", "backends"), ("model", "callbacks"), ("training", "model"), ("training", "callbacks")}
        assert level(there) < level(here) or (here, there) in late, f"{here} imports {there}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_array_libraries_stay_where_they_belong(path):
    if part_of(path) not in LIBRARIES_ALLOWED:
        assert {n.partition(".")[0] for n in imports(path)} & LIBRARIES == set()


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

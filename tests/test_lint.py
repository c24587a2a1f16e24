"""The lint finds nothing in the package, and each of its rules is seen to fire."""

from pathlib import Path

import docstrings
import lint
import pytest
import sizes

ROOT = Path(__file__).resolve().parent.parent

PLANTED = {
    "library": ["import numpy as np", "from torch import nn", "import jax.numpy"],
    "standard": ["y = xp.erf(x)", "y = ctx.xp.einsum('ij,jk', x, w)", "y = xp.concatenate([x])"],
    "banned": ["y = xp.clip(x, 0, 1)", "y = ctx.xp.sign(x)", "n = xp.nonzero(x)", "m = xp.mean(x)"],
    "mask": ["y = x[x > 0]", "i = xp.where(x > 0)"],
    "method": ["s = x.sum()", "y = (x + 1).reshape(3)", "v = loss.item()", "h = x.cpu()"],
    "keyword": ["s = xp.sum(x, 0)", "c = xp.concat([x], 0)", "t = xp.take(x, i, 0)"],
}


def test_the_mathematics_speaks_the_standard_only():
    findings = [f for path in lint.files() for f in lint.check(path.read_text(encoding="utf-8"), path.name)]
    assert findings == []
    assert len(lint.files()) > 10


@pytest.mark.parametrize(("rule", "line"), [(rule, line) for rule, lines in PLANTED.items() for line in lines])
def test_a_planted_fault_is_found(rule, line):
    """Planted into a real file of the mathematics, at its end."""
    source = (ROOT / "xmlp" / "layers" / "dense.py").read_text(encoding="utf-8")
    findings = lint.check(f"{source}\n\ndef fault(xp, ctx, x, w, i, loss):\n    {line}\n", "layers/dense.py")
    assert rule in {f.rule for f in findings}


UNSAFE = (
    "import pickle", "from marshal import loads", "import numpy, yaml", "x = eval(text)", "exec(text)", "f = compile",
    "m = __import__(name)", "os.system(text)", "from os import system", "a = np.load(path, allow_pickle=True)",
    "a = np.load(path)", "subprocess.run(text, shell=True)", "subprocess.run(text, shell=wanted)",
    "p = tempfile.mktemp()", "import joblib", "import dill as d",
)  # fmt: skip


def test_nothing_in_the_package_turns_data_into_code():
    """Reliability row C10."""
    paths = sorted(lint.PACKAGE.rglob("*.py"))
    assert [f for path in paths for f in lint.check_safety(path.read_text(encoding="utf-8"), path.name)] == []
    assert len(paths) > 50


@pytest.mark.parametrize("line", UNSAFE)
def test_what_turns_data_into_code_is_found(line):
    source = (ROOT / "xmlp" / "host" / "files.py").read_text(encoding="utf-8")
    (finding, *_) = lint.check_safety(f"{source}\n\ndef fault(text, name, path, wanted):\n    {line}\n", "files.py")
    assert finding.rule == "unsafe"


def test_harmless_neighbours_are_not_taken_for_that():
    for line in ("re.compile(x)", "a.load(path)", "run(x, shell=False)", "import encodings", "model.eval"):
        assert lint.check_safety(line, "x.py") == [], line


FOREIGN = (
    "trainer._run", "from xmlp.host.files import _hash", "a.b._c(1)", "network._theta = 0\nother._stats",
)  # fmt: skip


def test_no_file_uses_the_underscore_names_of_another():
    paths = sorted(lint.PACKAGE.rglob("*.py"))
    assert [f for path in paths for f in lint.check_private(path.read_text(encoding="utf-8"), path.name)] == []


@pytest.mark.parametrize("line", FOREIGN)
def test_a_foreign_underscore_name_is_found(line):
    (finding,) = lint.check_private(line, "files.py")
    assert finding.rule == "private"


def test_own_underscore_names_are_not_taken_for_foreign_ones():
    for line in ("self._a", "cls._a()", "pair._replace(x=1)", "x.__class__", "def _f(a):\n    return a.b(_f)._f"):
        assert lint.check_private(line, "x.py") == [], line


def test_a_finding_can_be_excused_by_name_and_only_by_its_own():
    assert lint.check("y = xp.clip(x, 0, 1)  # lint: allow banned - shown here", "x.py") == []
    assert len(lint.check("y = xp.clip(x, 0, 1)  # lint: allow method - shown here", "x.py")) == 1


# --- the package as a whole -------------------------------------------------------------------------------------------

SOURCES = lint.sources()


def test_files_and_functions_are_small_and_public_definitions_have_docstrings():
    assert lint.check_package(SOURCES) == []


LINE = "x = 1\n"


def told(source, files=(), functions=()):
    """What is said of the sizes of one module, with entries for it or its functions."""
    return [text for _, _, _, text in sizes.check({"a.py": source}, dict(files), dict(functions))]


def test_a_file_that_is_too_large_is_found():
    assert told(LINE * sizes.FILE) == []
    assert told(LINE * 451) == ["file a.py: 451 lines, more than 450: cut it where the second idea begins"]


def test_a_large_file_may_shrink_but_not_grow_and_its_entry_goes_in_the_end():
    assert told(LINE * 500, {"a.py": 500}) == told(LINE * 460, {"a.py": 500}) == []
    assert told(LINE * 501, {"a.py": 500}) == ["file a.py: 501 lines, more than 500: it grew"]
    gone = ["file a.py is not larger than 450 any more: take its entry out"]
    assert told(LINE * 450, {"a.py": 500}) == gone
    assert [text for _, _, _, text in sizes.check({"b.py": LINE}, {"a.py": 500}, {})] == gone  # renamed


def function(lines, name="f", depth=0):
    """The source of a function of that many lines, `depth` classes deep."""
    classes = "".join(f"{'    ' * k}class C{k}:\n" for k in range(depth))
    return f"{classes}{'    ' * depth}def {name}():\n" + f"{'    ' * (depth + 1)}{LINE}" * (lines - 1)


def test_a_function_that_is_too_large_is_found():
    assert told(function(40)) == told(function(40, depth=1)) == []
    assert told(function(41)) == ["function a.py f: 41 lines, more than 40: cut it where the second idea begins"]
    assert told(function(41, depth=2))[0].startswith("function a.py C0.C1.f: 41 lines")
    within = "def f():\n" + "".join(f"    {line}\n" for line in function(41, "g").splitlines())
    assert [text.partition(":")[0] for text in told(within)] == ["function a.py f", "function a.py f.g"]


def test_lines_of_docstrings_do_not_count_in_functions():
    body = function(40).partition("\n")[2]
    assert told(f'def f():\n    """Long.\n{chr(10) * 50}    """\n{body}') == []


def test_a_large_function_may_shrink_but_not_grow_and_its_entry_goes_in_the_end():
    entry = {"a.py C0.f": 50}
    assert told(function(50, depth=1), (), entry) == told(function(41, depth=1), (), entry) == []
    assert told(function(51, depth=1), (), entry) == ["function a.py C0.f: 51 lines, more than 50: it grew"]
    gone = ["function a.py C0.f is not larger than 40 any more: take its entry out"]
    assert told(function(40, depth=1), (), entry) == told(LINE, (), entry) == gone


METHOD = "    def f(self): pass\n"


def documented(name, body=METHOD):
    """The source of a class with a docstring."""
    return f'class {name}:\n    """It."""\n{body}'


CLOTHED_METHOD = '    def f(self):\n        """F."""\n'
BARE = {
    "a function": ("def f(): pass", ["f"]),
    "a class and its method": (f"class C:\n{METHOD}", ["C", "C.f"]),
    "a property": (documented("C", f"    @property\n{METHOD}"), ["C.f"]),
    "under a condition": ("if True:\n    def f(): pass", ["f"]),
    "of a base": (documented("B") + documented("C(B)"), ["B.f", "C.f"]),
    "of a base that is not of the package": (documented("C(Thread)"), ["C.f"]),
}
CLOTHED = {
    "documented": 'def f():\n    """F."""',
    "private": f"def _f(): pass\nclass _C:\n{METHOD}",
    "within a function": 'def f():\n    """F."""\n    def g(): pass',
    "an override": documented("B", CLOTHED_METHOD) + documented("C(B[int])"),
    "an override, two classes up": documented("A", CLOTHED_METHOD) + "class _B(A): pass\n" + documented("C(_B)"),
    "in the place of a field": documented("B", "    f: int = 1\n") + documented("C(B)"),
    "a setter": documented("C", f"    @f.setter\n{METHOD}"),
    "with a title": '@check("1", title="what it is")\ndef f(): pass',
    "an event": documented("C", "    def on_epoch_end(self, trainer): pass\n"),
    "for type checkers": documented("C", f"    if TYPE_CHECKING:\n    {METHOD}"),
}


def bare(sources, without=()):
    return [text for _, _, _, text in docstrings.check(sources, dict(without))]


@pytest.mark.parametrize("case", BARE)
def test_a_public_definition_without_a_docstring_is_found(case):
    source, names = BARE[case]
    assert bare({"a.py": source}) == [f"{name} has none" for name in names]
    assert bare({"_a.py": source, "b/_c/d.py": source}) == []
    assert bare({"a.py": source}, {"a.py": set(names)}) == []


@pytest.mark.parametrize("case", CLOTHED)
def test_what_needs_no_docstring_is_not_asked_for_one(case):
    assert bare({"a.py": CLOTHED[case]}) == []


def test_an_entry_of_what_has_no_docstring_goes_once_it_has_one():
    found = bare({"a.py": 'def f():\n    """F."""'}, {"a.py": {"f"}, "b.py": {"g"}})
    assert found == ["f has one: take its entry out", "no such file: take its entry out"]


def test_both_are_seen_in_the_package():
    changed = {**SOURCES, "errors.py": SOURCES["errors.py"] + function(41, "_f") + "def g(): pass\n"}
    found = lint.check_package(changed)
    assert [(f.path, f.rule) for f in found] == [("xmlp/errors.py", "size"), ("xmlp/errors.py", "docstring")]

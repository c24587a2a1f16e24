"""The lint of the mathematics finds nothing in the package, and each of its rules is seen to fire."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("lint", ROOT / "ci" / "checks" / "lint.py")
lint = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lint)

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
    source = (ROOT / "xmlp" / "layers.py").read_text(encoding="utf-8")
    findings = lint.check(f"{source}\n\ndef fault(xp, ctx, x, w, i, loss):\n    {line}\n", "layers.py")
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

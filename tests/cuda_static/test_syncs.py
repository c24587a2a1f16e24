"""No hidden synchronisation within a step: the source is searched, and what is planted is found."""

import ast

import pytest
from cuda_static.syncs import PACKAGE, WITHIN, findings

PLANTED = {
    "training/step.py": [
        "float(loss)", "if bool(total): pass", "int(weight)", "print(total)", "v = total.item()", "v = grad.tolist()",
        "g = grad[grad > 0]", "v = f'{total}'", "v = grad.get()", "i = xp.nonzero(grad)", "i = xp.where(grad > 0)",
        "v = np.asarray(grad)", "v = self.network.backend.to_host(grad)", "if xp.any(grad > 0): pass",
        "xp.clip(grad, 0, 1)", "while xp.all(grad == 0): pass", "v = max(grad)", "total = sum(grad)",
    ],
    "layers/dense.py": ["float(x[0, 0])"],
    "runtime/device.py": ["rows.get()"],
    "backends/_cupy.py": ["cupy.cuda.runtime.deviceSynchronize()", "float(out[0, 0])"],
}  # fmt: skip


def source(name):
    return (PACKAGE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", WITHIN)
def test_nothing_within_a_step_waits(name):
    assert list(findings(source(name), name)) == []


@pytest.mark.parametrize("name", WITHIN)
def test_the_functions_are_there(name):
    """A function that is renamed must not escape."""
    for function in WITHIN[name] or ():
        assert f"def {function}(" in source(name)


def plant(name, fault):
    """The fault at the beginning of a function that a step calls."""
    tree = ast.parse(source(name))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in WITHIN[name]]
    functions[-1].body.insert(0, ast.parse(fault).body[0])
    return ast.unparse(tree)


@pytest.mark.parametrize(("name", "fault"), [(n, f) for n, faults in PLANTED.items() for f in faults])
def test_what_is_planted_is_found(name, fault):
    assert list(findings(plant(name, fault), name)) != []

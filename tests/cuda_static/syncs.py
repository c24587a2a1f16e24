"""What makes the host wait for a device without saying so, found in the source of whatever runs within a step.

The lint of the mathematics refuses boolean masks, `nonzero`, `clip`, array methods such as `.item()`. What follows is
on top: the conversions of Python, and the ways to a host array, in functions that a step calls.
"""

import ast
from pathlib import Path

import xmlp

PACKAGE = Path(xmlp.__file__).parent
WITHIN = {
    "layers/dense.py": {"forward", "backward"},
    "layers/dropout.py": {"forward", "backward"},
    "layers/normalization.py": {"forward", "backward", "next_statistics"},
    "layers/residual.py": {"forward", "backward", "next_statistics"},
    "layers/sequence.py": {"forward", "backward", "next_statistics", "_noted", "_derived"},
    "layers/standardize.py": {"forward", "backward"},
    "losses/base.py": {"parts", "reduced"},
    "optimizers.py": {"advance", "_applied"},
    "network/chain.py": {"pass_forward", "pass_backward", "pass_statistics"},
    "network/objective.py": {"parts", "evaluate", "backward", "penalized"},
    "network/predictor.py": {"_forward", "_block"},
    "network/functions.py": {"_call", "planned", "value", "value_and_grad", "sums"},
    "network/planned.py": {"__call__"},
    "backends/context.py": None,
    "backends/derived.py": {"pullback"},
    "training/step.py": {"__call__", "taken", "alone", "_updated", "_counted", "run"},
    "training/planned.py": {"run", "_program"},
    "backends/cuda.py": {"apply", "_function"},
    "runtime/device.py": {"once", "run", "bind", "_bound", "_launch", "_product", "_copy", "_view"},
    "backends/_cupy.py": {"kernel", "product", "copy", "view", "activate", "check", "assign", "index", "address"},
    "runtime/_cupy_streams.py": {"upload", "arrays"},
}  # None: all of the file
CONVERSIONS = {"float", "int", "bool", "complex", "list", "sum", "max", "min", "any", "all", "print", "str", "repr"}
WAYS_OUT = {
    "item", "tolist", "get", "asnumpy", "to_host", "_to_host", "nonzero", "argwhere", "flatnonzero", "unique", "clip",
    "sign", "synchronize", "deviceSynchronize", "from_dlpack", "numpy", "cpu", "block_until_ready",
}  # fmt: skip
# what these read lies on the host: shapes, scalars of a step, dictionaries, the limits of the pace
HARMLESS = {
    "float": {"size"},
    "get": {"'key'", "'weight'"},
    "list": {"enumerate(self.body", "enumerate(self.layers)", "state.slots"},
    "tolist": {"scalars.tolist()"},
    "all": {"(a.flags.c_contiguous"},
    "str": {"getattr(a, 'dtype', None)", "a.dtype", "link"},
}
COUNTERS = {"i", "n", "name"}  # in f-strings


def findings(source, name):
    """(line, what) of every suspect in the functions of one file that run within a step."""
    functions = WITHIN[name]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and (functions is None or node.name in functions):
            for line, what in _suspects(node):
                yield f"{name}:{line}", what


def _suspects(function):
    raising = {id(n) for r in ast.walk(function) if isinstance(r, ast.Raise) for n in ast.walk(r)}
    for node in ast.walk(function):
        if id(node) not in raising and _waits(node):  # no step goes on after an error
            yield node.lineno, ast.unparse(node)


def _waits(node):
    if isinstance(node, ast.Call):
        return _call_waits(node)
    if isinstance(node, ast.JoinedStr):
        return bool({ast.unparse(value) for value in _values(node)} - COUNTERS)
    if isinstance(node, ast.Subscript):
        return any(isinstance(n, ast.Compare) for n in ast.walk(node.slice))
    return isinstance(node, (ast.If, ast.While, ast.IfExp)) and _asks_arrays(node.test)


def _call_waits(node):
    plain = isinstance(node.func, ast.Name)
    called = node.func.id if plain else getattr(node.func, "attr", "")
    owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    if (owner in ("np", "numpy") and called in ("asarray", "array")) or (called == "where" and len(node.args) == 1):
        return True
    several = called in ("max", "min") and len(node.args) > 1  # of sizes; of arrays it would be xp.maximum
    if several or called not in (CONVERSIONS if plain else WAYS_OUT):
        return False
    read = ast.unparse(node.args[0] if node.args else node)
    return not any(read.startswith(harmless) for harmless in HARMLESS.get(called, ()))


def _values(text):
    return [part.value for part in text.values if isinstance(part, ast.FormattedValue)]


def _asks_arrays(test):
    """Whether a condition calls a function of arrays."""
    calls = [n.func for n in ast.walk(test) if isinstance(n, ast.Call)]
    return any(isinstance(f, ast.Attribute) and ast.unparse(f.value).endswith("xp") for f in calls)

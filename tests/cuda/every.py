"""Every built-in formula with its derivatives, and values to evaluate it at."""

import importlib
from functools import cache

import numpy as np

from xmlp.graph import Formula
from xmlp.graph.node import FLOAT, walk

MODULES = ("activations", "losses", "optimizers", "layers", "training.step")
SCALARS = {"alpha": 0.3, "factor": 0.5, "delta": 0.7, "threshold": 12345, "first": 0x12345678, "second": -98765,
           "momentum": 0.9, "rho": 0.95, "one_minus_rho": 0.05, "beta1": 0.9, "one_minus_beta1": 0.1, "beta2": 0.999,
           "one_minus_beta2": 0.001, "keep": 0.99, "eps": 1e-8, "scale": 1.25, "lr": 0.01, "l1": 0.1, "l2": 0.2,
           "clip_norm": 1.5}  # fmt: skip
POINTS = np.concatenate(
    [np.linspace(-12, 12, 97), [0.0, -0.0, 1.0, 1e-8, -1e-8, 1e-3, 30.0, -30.0, 88.0, -88.0, 1e4, -1e4, np.inf]]
)


@cache
def formulas():
    """All formulas by a readable name, partial derivatives and pullbacks among them."""
    found = {}
    for module in MODULES:
        for value in vars(importlib.import_module(f"xmlp.{module}")).values():
            if isinstance(value, Formula):
                found[value.name] = value
    for formula in list(found.values()):
        dtypes = input_dtypes(formula)
        for argument in formula.arrays:
            if dtypes.get(argument) == FLOAT and len(formula.graph.outputs) == 1:
                found[f"d{formula.name}/d{argument}"] = formula.partial(argument)
        if len(formula.arrays) == 1 and dtypes.get(formula.arrays[0]) == FLOAT:
            found[formula.pullback.name] = formula.pullback
    return found


def input_dtypes(formula):
    return {n.value: n.dtype for n in walk(*formula.graph.outputs) if n.op == "array"}


def arguments(formula, dtype, rng):
    """Arrays for every input, each with all of `POINTS` and others, differently mixed."""
    dtypes, arrays = input_dtypes(formula), []
    for i, name in enumerate(formula.arrays):
        if dtypes.get(name) == "int32":
            arrays.append(rng.integers(-(2**31), 2**31, 400, dtype=np.int32))
        else:
            values = np.concatenate([np.roll(POINTS, 17 * i), rng.normal(size=400 - len(POINTS))])
            if name == "a":  # a probability
                values = np.clip(np.abs(np.nan_to_num(values)) / 12, 0, 1)
            if name == "dy":
                values = rng.normal(size=400)
            arrays.append((np.abs(values) if name in ("v", "squared_norm") else values).astype(dtype))
    return arrays


def scalars(formula):
    return {name: SCALARS[name] for name in formula.scalars}

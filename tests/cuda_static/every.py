"""Every built-in formula with its derivatives, values to evaluate it at, and the launches of every built-in part."""

import importlib
from functools import cache

import numpy as np

import xmlp
from xmlp import activations, layers, losses, optimizers
from xmlp.compiler.cuda import lower
from xmlp.compiler.cuda_code import Launch
from xmlp.graph import Formula
from xmlp.graph.node import FLOAT, walk
from xmlp.network import functions
from xmlp.network.predictor import Predictor
from xmlp.training.planned import trace
from xmlp.training.step import Batch, Sums

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


def plans(dtype):
    """Lowered plans of training steps and predictions that between them use every built-in part, by what they are."""
    mlp, found = xmlp.mlp, {}

    def add(name, network, loss="softmax_cross_entropy", optimizer="adam", batch=32, weighted=False, **settings):
        trainer = xmlp.Trainer(network, loss=loss, optimizer=optimizer, **settings)
        state = trainer.run.state(Sums(*(np.zeros((), dtype),) * 4))
        x = np.zeros((batch, network.in_features), np.uint8 if name == "bytes" else dtype)
        labels = trainer.loss.link == "softmax"
        y = np.zeros(batch, np.int32) if labels else np.zeros((batch, network.out_features), dtype)
        data = Batch(x, y, np.ones(batch, dtype) if weighted else None, np.arange(batch, dtype=np.int32))
        found[name] = lower(trace(trainer.run.step, state, data).plan)

    for name in activations.ACTIVATIONS:
        if name != "softmax":
            add(f"activation {name}", mlp([7, 6, 5, 3], name, dtype=dtype))
    for name in losses.LOSSES:
        add(f"loss {name}", mlp([7, 6, 3], "relu", dtype=dtype), name, weighted=True)
    for name in optimizers.OPTIMIZERS:
        add(f"optimizer {name}", mlp([7, 6, 3], "relu", dtype=dtype), optimizer=name)
    momentum = optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    add("momentum", mlp([7, 6, 3], dtype=dtype), optimizer=momentum, clip_norm=1.0, l1=0.1, l2=0.1)
    for kind in ("batch", "layer"):
        normalised = mlp([7, 6, 3], "gelu", normalization=kind, dropout=0.3, dtype=dtype)
        add(f"{kind} normalisation", normalised, clip_norm=1.0)
    scaled = [layers.Standardize(mean=4.0, scale=2.0), layers.Residual([layers.Dense(7, "tanh")]), layers.Dense(3)]
    add("bytes", xmlp.Network(scaled, 7, dtype=dtype))
    wide = mlp([40, 300, 600], "relu", normalization="layer", dtype=dtype)
    add("many blocks", wide, batch=600, clip_norm=1.0, l2=0.1, weighted=True)
    return found | predictions(dtype) | evaluations(dtype)


def predictions(dtype):
    """Lowered plans of forward passes through every link."""
    found = {}
    for link in (None, "sigmoid", "softmax"):
        network = xmlp.mlp([7, 6, 3], "gelu", normalization="batch", dtype=dtype)
        predictor = Predictor(network.chain.on(Lowering(dtype))).planned_pass(link and losses.link(link), False, 1.0)
        x = np.zeros((20, 7), dtype)
        found[f"prediction {link}"] = predictor._plan((x,), {"theta": network.theta, "stats": network.stats, "x": x})
    return found


def evaluations(dtype):
    """Lowered plans of the value of a loss and of its gradient."""
    network, found = xmlp.mlp([7, 6, 3], "gelu", normalization="batch", dtype=dtype), {}
    evaluated = functions.Functions(network.chain.on(Lowering(dtype)))
    data = {"x": np.zeros((20, 7), dtype), "y": np.zeros((20, 3), dtype), "weights": np.ones(20, dtype)}
    for function in (functions.value, functions.value_and_grad, functions.sums):
        planned = evaluated.planned(function, losses.Huber(), {})
        found[function.__name__] = planned._plan((data["x"],), {"theta": network.theta, "stats": network.stats, **data})
    return found


class Lowering:
    """As much of a backend as planning asks for."""

    def __init__(self, dtype):
        self.dtype, self.lower = dtype, lower

    def reason_against_plans(self):
        return None

    def serves_any_rows(self):
        return False


def launches(dtype):
    """Every different launch of `plans`, by its name."""
    return {c.name: c for plan in plans(dtype).values() for c in plan.calls if isinstance(c, Launch)}

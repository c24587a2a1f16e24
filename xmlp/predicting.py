"""Predictions as plans: the forward pass traced once per number of rows, replayed by machine code."""

import importlib.util
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from xmlp.graph.plan import Plan, plan
from xmlp.graph.tensor import PlanError, Tensor, Tracer, TracingBackend

Array = Any
_KEPT = 8  # programs per thread; each has a work buffer


class Predictor:
    """Runs a pure forward pass on NumPy arrays. Any number of threads may call it: each has programs of its own.

    Parameters
    ----------
    forward : callable
        `forward(backend, theta, stats, x) -> y`, of a backend that it computes with.
    dtype : str
    """

    def __init__(self, forward: Callable[..., Tensor], dtype: str):
        self._forward = forward
        self._dtype = dtype
        self._local = threading.local()

    def __call__(self, theta: Array, stats: Array, x: Array) -> Array | None:
        """y, a fresh array; None if the pass cannot be planned."""
        programs = self._local.__dict__.setdefault("programs", {})
        key = (x.shape, x.dtype.char, id(theta), id(stats))  # which the program keeps alive
        if key not in programs:
            if len(programs) >= _KEPT:
                programs.pop(next(iter(programs)))
            programs[key] = self._program(theta, stats, x)
        program = programs[key]
        if program is None:
            return None
        y = np.empty_like(program.arrays["y"])
        program.bind("x", x)
        program.bind("y", y)
        program.once()
        return y

    def _program(self, theta: Array, stats: Array, x: Array) -> Any:
        from xmlp.backends.native import Program

        try:
            made, shape = self._plan(theta, stats, x)
        except (PlanError, TypeError):
            return None
        return Program(made, {"theta": theta, "stats": stats, "x": x, "y": np.empty(shape, self._dtype)})

    def _plan(self, theta: Array, stats: Array, x: Array) -> tuple[Plan, tuple[int, ...]]:
        tracer = Tracer()
        named = {"theta": theta, "stats": stats, "x": x}
        symbols = [tracer.input(n, tuple(a.shape), str(a.dtype)) for n, a in named.items()]
        y = self._forward(TracingBackend(tracer, self._dtype), *symbols)
        return plan([("y", y.node)]), y.shape


def possible(backend: Any) -> bool:
    """Whether predictions on this backend can be planned."""
    return backend.name == "numpy" and importlib.util.find_spec("llvmlite") is not None

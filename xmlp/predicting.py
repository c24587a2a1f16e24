"""Predictions as plans: the forward pass traced once per number of rows, replayed by the backend."""

import threading
from collections.abc import Callable
from typing import Any

from xmlp.backends.base import Backend
from xmlp.graph.plan import Plan, plan
from xmlp.graph.tensor import Tensor, Tracer, TracingBackend

Array = Any
_KEPT = 8  # programs per thread; each has a work buffer
_COPIED = 1 << 15  # bytes of an input that is copied into the program's own


class Predictor:
    """Runs a pure forward pass on arrays of a backend. Any number of threads may call it: each has programs of its own.

    Parameters
    ----------
    forward : callable
        `forward(backend, theta, stats, x) -> y`, of a backend that it computes with.
    backend : Backend
        One that runs plans.
    """

    def __init__(self, forward: Callable[..., Tensor], backend: Backend):
        self._forward = forward
        self._backend = backend
        self._local = threading.local()

    def __call__(self, theta: Array, stats: Array, x: Array) -> Array | None:
        """y, a fresh array; None if the pass cannot be planned for these arrays."""
        if not x.flags.c_contiguous:
            return None
        programs = self._local.__dict__.setdefault("programs", {})
        key = (x.shape, x.dtype.char, id(theta), id(stats))  # which the program keeps alive
        if key not in programs:
            if len(programs) >= _KEPT:
                programs.pop(next(iter(programs)))
            programs[key] = self._program(theta, stats, x)
        program = programs[key]
        if program is None:
            return None
        if x.nbytes <= _COPIED:  # cheaper than to bind
            program.arrays["x"][...] = x
            program.once()
            return self._backend.copy(program.arrays["y"])
        y = self._backend.empty(program.arrays["y"].shape)
        program.bind("x", x)
        program.bind("y", y)
        program.once()
        return y

    def _program(self, theta: Array, stats: Array, x: Array) -> Any:
        try:
            made, shape = self._plan(theta, stats, x)
        except Exception:  # whatever a user's layer may raise of a symbol; plainly it may work
            return None
        x = self._backend.copy(x) if x.nbytes <= _COPIED else x
        arrays = {"theta": theta, "stats": stats, "x": x, "y": self._backend.empty(shape)}
        return self._backend.program(made, arrays)

    def _plan(self, theta: Array, stats: Array, x: Array) -> tuple[Plan, tuple[int, ...]]:
        tracer = Tracer()
        named = {"theta": theta, "stats": stats, "x": x}
        symbols = [tracer.input(n, tuple(a.shape), str(a.dtype)) for n, a in named.items()]
        y = self._forward(TracingBackend(tracer, self._backend.dtype), *symbols)
        return self._backend.lower(plan([("y", y.node)])), y.shape

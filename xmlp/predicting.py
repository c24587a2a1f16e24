"""Predictions as plans: the forward pass traced once per number of rows, replayed by the backend."""

import threading
from collections.abc import Callable
from typing import Any

from xmlp.backends.base import Backend
from xmlp.backends.programs import Programs
from xmlp.graph.plan import Plan, plan
from xmlp.graph.tensor import Tensor, Tracer, TracingBackend

Array = Any
_COPIED = 1 << 15  # bytes of an input that is copied into the program's own


class Predictor:
    """Runs a pure forward pass on arrays of a backend. Any number of threads may call it: each has programs of its own.

    Parameters
    ----------
    forward : callable
        `forward(backend, theta, stats, x) -> y`, of a backend that it computes with.
    backend : Backend
        One that runs plans.
    outputs : int
        Columns of y.
    """

    def __init__(self, forward: Callable[..., Tensor], backend: Backend, outputs: int):
        self._forward = forward
        self._backend, self._outputs = backend, outputs
        self._local = threading.local()

    def __call__(self, theta: Array, stats: Array, x: Array) -> Array | None:
        """y, a fresh array; None if the pass cannot be planned for these arrays."""
        if not x.flags.c_contiguous:
            return None
        programs: Programs = self._local.__dict__.setdefault("programs", Programs())
        key = (x.shape, x.dtype.char, id(theta), id(stats))  # which the program keeps alive
        if key not in programs:
            programs.add(key, self._program(theta, stats, x))
        program = programs[key]
        if program is None:
            return None
        if x.nbytes <= _COPIED:  # cheaper than to bind
            program.arrays["x"][...] = x
            program.once()
            return self._backend.copy(program.arrays["y"])
        y = self._backend.empty((x.shape[0], self._outputs))
        program.bind("x", x)
        program.bind("y", y)
        program.once()
        program.release("x")  # the caller's
        program.release("y")
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

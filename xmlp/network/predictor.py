"""Predictions as plans: the forward pass traced once for any number of rows, replayed by the backend."""

import threading
from collections.abc import Callable
from typing import Any

from xmlp.backends.base import Backend
from xmlp.compiler.planner import Plan, plan
from xmlp.compiler.rows import Extent
from xmlp.compiler.tensor import Tensor, Tracer, TracingBackend
from xmlp.runtime.programs import Plans, Programs

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
        self._plans = Plans(backend, shared=False)
        self._local = threading.local()

    def __call__(self, theta: Array, stats: Array, x: Array) -> Array | None:
        """y, a fresh array; None if the pass cannot be planned for these arrays."""
        if not x.flags.c_contiguous:
            return None
        mine, key = self._local.__dict__, (x.shape, x.dtype.char, id(theta), id(stats))  # which the program keeps alive
        if mine.get("key") != key:
            mine["program"], mine["key"] = self._program(theta, stats, x), key
        program = mine["program"]
        if program is None:
            return None
        if x.nbytes <= _COPIED:  # cheaper than to bind
            program.x[...] = x
            program.once()
            return self._backend.copy(program.y)
        y = self._backend.empty((x.shape[0], self._outputs))
        program.bind("x", x)
        program.bind("y", y)
        program.once()
        program.release("x")  # the caller's
        program.release("y")
        return y

    def _program(self, theta: Array, stats: Array, x: Array) -> "_Prediction | None":
        """The program of this thread for these arrays, ready for as many rows."""
        mine, rows, copied = self._local.__dict__, x.shape[0], x.nbytes <= _COPIED
        kind = (x.shape[1:], x.dtype.char, id(theta), id(stats), copied)
        latest: _Prediction | None = mine.get("program")
        if latest is not None and latest.kind == kind and latest.resize(rows):
            return latest
        programs: Programs = mine.setdefault("programs", Programs())
        made = self._plans.find(rows, (x,), self._plan, theta, stats)
        together = made is not None and rows <= made.together
        key = (*kind, id(made), None if together else rows)
        if key not in programs:
            arrays = {"theta": theta, "stats": stats, "x": x, "y": self._backend.empty((rows, self._outputs))}
            programs.add(key, None if made is None else _Prediction(self._backend, made, arrays, copied, kind))
        program: _Prediction | None = programs[key]
        if program is not None and together:
            program.resize(rows)
        return program

    def _plan(self, batch: tuple[Array], theta: Array, stats: Array) -> Plan | None:
        (x,) = batch
        try:
            made = self._traced(theta, stats, x, Extent(x.shape[0], 1))
            if not made.scalars:
                return made
        except Exception:  # something asks for more of the number of rows than can be told
            pass
        try:
            return self._traced(theta, stats, x, x.shape[0])
        except Exception:  # whatever a user's layer may raise of a symbol; plainly it may work
            return None

    def _traced(self, theta: Array, stats: Array, x: Array, rows: int) -> Plan:
        tracer = Tracer()
        shapes = {"theta": (theta, theta.shape), "stats": (stats, stats.shape), "x": (x, (rows, *x.shape[1:]))}
        symbols = [tracer.input(name, tuple(shape), str(a.dtype)) for name, (a, shape) in shapes.items()]
        y = self._forward(TracingBackend(tracer, self._backend.dtype), *symbols)
        general = (int(rows), tracer.validity) if isinstance(rows, Extent) else ()
        return self._backend.lower(plan([("y", y.node)], *general))


class _Prediction:
    """A program and, where inputs are copied, its own arrays for them and for the outputs."""

    def __init__(self, backend: Backend, plan: Plan, arrays: dict[str, Array], copied: bool, kind: Any):
        rows = arrays["x"].shape[0]
        if copied:
            arrays["x"] = backend.copy(arrays["x"])
        self.program = backend.program(plan, arrays, rows if plan.serves(rows) else None)
        self._backend, self._copied, self.kind = backend, copied, kind
        self._resizable = plan.serves(rows) and rows <= plan.together
        self.plan, self.arrays = plan, self.program.arrays
        self.once, self.bind, self.release = self.program.once, self.program.bind, self.program.release
        self._view(rows)

    def _view(self, rows: int) -> None:
        self.x, self.y = (self.arrays[name][:rows, :] if self._copied else None for name in ("x", "y"))

    def resize(self, rows: int) -> bool:
        """Take so many rows from now on; returns whether that can be."""
        if not self._resizable or rows > self.plan.together or not self.plan.serves(rows):
            return False
        self.program.resize(rows)
        if self._copied:
            self._widen(rows)
            self._view(rows)
        return True

    def _widen(self, rows: int) -> None:
        """Have own arrays for as many rows, and all that are copied."""
        x = self.arrays["x"]
        if rows <= x.shape[0]:
            return
        most = max(rows, _COPIED // max(x.shape[1] * x.dtype.itemsize, 1))
        for name in ("x", "y"):
            old = self.arrays[name]
            self.bind(name, self._backend.xp.empty((most, old.shape[1]), dtype=old.dtype))

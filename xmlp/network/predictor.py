"""Predictions as plans: the forward pass traced once for any number of rows, replayed by the backend."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from xmlp.backends.base import Backend
from xmlp.compiler import tensor_graph
from xmlp.compiler.planner import Plan
from xmlp.compiler.rows import Extent
from xmlp.compiler.tensor import Tensor
from xmlp.errors import DeviceMemoryError
from xmlp.network.chain import LINKS, Chain
from xmlp.network.inputs import count
from xmlp.runtime.programs import Plans, Programs, Recent
from xmlp.types import Array

BLOCK = 2048  # rows that are predicted at a time unless the caller says otherwise
_PASSES = 8  # that are kept, by link, raw and temperature
_COPIED = 1 << 15  # bytes of an input that is copied into the program's own


class Predictor:
    """Outputs of a chain of layers, in inference mode, for rows on the device.

    Where the backend runs plans, passes are planned; what cannot be planned, or has no plan for its arrays, runs plain.
    """

    def __init__(self, chain: Chain):
        self._chain, self._backend = chain, chain.backend
        self._planned = chain.backend.reason_against_plans() is None
        self.passes: Recent[tuple[str | None, bool, float], PlannedPass] = Recent(_PASSES)

    def outputs(
        self, theta: Array, stats: Array, x: Array, *, link: str | None = None, raw: bool = False,
        temperature: float = 1.0, batch_size: int | None = None,
    ) -> Array:  # fmt: skip
        """As they are, raw, or through a link whose logits are divided by a temperature; in blocks of rows.

        What does not fit on the device is computed in halves.
        """
        kind, rows = (link, raw, temperature), x.shape[0]
        size = min(rows, BLOCK) if batch_size is None else count(batch_size, "batch_size")
        if size >= rows:
            return self._whole(kind, theta, stats, x)
        blocks = [x[start : min(start + size, rows), :] for start in range(0, rows, size)]
        return self._backend.xp.concat([self._whole(kind, theta, stats, block) for block in blocks])

    def _whole(self, kind: tuple[str | None, bool, float], theta: Array, stats: Array, x: Array) -> Array:
        try:
            return self._block(kind, theta, stats, x)
        except self._backend.out_of_memory as error:
            rows = x.shape[0]
            if rows == 1:
                raise DeviceMemoryError(
                    f"a prediction for one row does not fit on {self._backend.device}: "
                    f"{self._backend.free_bytes():,} bytes are free"
                ) from error
        self.passes.clear()  # their buffers are for batches of this size
        self._backend.release()
        halves = [self._whole(kind, theta, stats, x[h, :]) for h in (slice(rows // 2), slice(rows // 2, rows))]
        return self._backend.xp.concat(halves)

    def _block(self, kind: tuple[str | None, bool, float], theta: Array, stats: Array, x: Array) -> Array:
        if self._planned:
            planned = self.passes.find(kind)
            if planned is None:
                planned = self.passes.add(kind, self.planned_pass(*kind))
            y = planned(theta, stats, x)
            if y is not None:
                return y
        return self._forward(kind, self._backend, theta, stats, x)

    def planned_pass(self, link: str | None, raw: bool, temperature: float) -> "PlannedPass":
        """The pass of one kind, as a plan."""
        forward = partial(self._forward, (link, raw, temperature))
        return PlannedPass(forward, self._backend, self._chain.out_features)

    def _forward(
        self, kind: tuple[str | None, bool, float], backend: Any, theta: Array, stats: Array, x: Array
    ) -> Array:
        (link, raw, temperature), chain = kind, self._chain
        if backend is not self._backend:  # being traced
            chain = chain.on(backend)
        x = x if x.dtype == backend.float_dtype else backend.xp.astype(x, backend.float_dtype)
        if link is not None and temperature != 1.0:
            logits, _ = chain.pass_forward(theta, stats, x, raw=True)
            return backend.apply(LINKS[link], logits / temperature)
        y, _ = chain.pass_forward(theta, stats, x, raw=raw)
        return y if link in (None, chain.output_link) else backend.apply(LINKS[str(link)], y)


class PlannedPass:
    """A pure forward pass as a plan. Any number of threads may call it: each has programs of its own.

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
        inputs = {"theta": (theta, theta.shape), "stats": (stats, stats.shape), "x": (x, (rows, *x.shape[1:]))}
        graph = tensor_graph.trace(
            lambda backend, **tensors: {"y": self._forward(backend, **tensors)},
            {name: (tuple(shape), str(a.dtype)) for name, (a, shape) in inputs.items()},
            self._backend.dtype,
        )
        return self._backend.lower(graph.plan)


class _Prediction:
    """A program and, where inputs are copied, its own arrays for them and for the outputs."""

    def __init__(self, backend: Backend, plan: Plan, arrays: dict[str, Array], copied: bool, kind: Any):
        rows = arrays["x"].shape[0]
        if copied:
            arrays["x"] = backend.copy(arrays["x"])  # lint: allow method - of the backend
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

"""Plans as launches on a device.

What really touches a device is a `Driver`; CuPy's is in `_cupy`. Anything else that runs the emitted C can be one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from xmlp.compiler.c import Elementwise
from xmlp.compiler.calls import Call, Copy, Place, Product
from xmlp.compiler.cuda_code import Launch
from xmlp.compiler.planner import Plan
from xmlp.compiler.scalars import evaluate
from xmlp.compiler.tensor import ITEM
from xmlp.types import Array, HostArray


class Driver(Protocol):
    """What a device does for a program. Addresses are those of the device."""

    def elementwise(self, code: Elementwise) -> Callable[..., Any]:
        """A function of arrays, then numbers; the results are broadcast from the arrays, one or a tuple."""

    def kernel(self, launch: Launch) -> Callable[[Sequence[Any]], None]:
        """A function of rows, columns, the address of the list of the batch, addresses and numbers."""

    def product(self, a: Array, b: Array, out: Array, transpose_a: bool, transpose_b: bool) -> None:
        """A product of matrices, by the library of the device."""

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy bytes from one address of the device to another."""

    def bytes(self, size: int) -> Array:
        """Room, as uint8, that begins on a multiple of 64."""

    def view(self, array: Array, offset: int, dtype: str, shape: tuple[int, int]) -> Array:
        """Part of an array's memory as a matrix; `offset` in bytes."""


Bound = Callable[[Sequence[float], int], None]  # of the scalars of a step and the address of its list of rows


class Device(Protocol):
    """What a program knows of the backend that it runs on."""

    driver: Driver

    def activate(self) -> None:
        """Make the device that of the calling thread."""

    def address(self, array: Array) -> int:
        """Where an array begins in its memory."""


class DeviceProgram:
    """A lowered plan bound to arrays: `run` repeats it for a number of steps."""

    def __init__(self, plan: Plan, arrays: Mapping[str, Array], backend: Device):
        self.plan, self._backend, self._driver = plan, backend, backend.driver
        self.arrays = dict(arrays)
        self.arrays["work"] = self._driver.bytes(max(plan.work_bytes, 1))
        self.arrays["held"] = self._driver.bytes(max(plan.held_bytes, 1))
        self._calls = [self._bound(call) for call in plan.calls]
        self._buffers = [{place.buffer for place in call.places} for call in plan.calls]

    def bind(self, name: str, array: Array) -> None:
        """Put another array of the same shape and dtype in the place of the input `name`."""
        self.arrays[name] = array
        for i, call in enumerate(self.plan.calls):
            if name in self._buffers[i]:
                self._calls[i] = self._bound(call)

    def release(self, name: str) -> None:
        """Let go of the input `name`: another is bound before the next step."""
        del self.arrays[name]
        for i, buffers in enumerate(self._buffers):
            if name in buffers:
                self._calls[i] = _unbound

    def resize(self, rows: int) -> None:
        """A program on a device serves the rows that it was made for."""

    def once(self) -> None:
        """One step of a plan that has neither scalars nor a list of rows."""
        self._backend.activate()
        for call in self._calls:
            call((), 0)

    def run(self, scalars: HostArray, rows: Array, batch: int) -> None:
        """One step for each row of `scalars` (steps, scalars); `rows` (steps * batch,) int32 lists the rows to take."""
        self._backend.activate()
        start = self._backend.address(rows) if batch else 0
        for step, values in enumerate(scalars.tolist()):
            listed = start + ITEM["int32"] * batch * step
            for call in self._calls:
                call(values, listed)

    def _bound(self, call: Call) -> Bound:
        """A call with the addresses of the present arrays in it."""
        return _BOUND[type(call)](self, call)

    def _copy(self, call: Copy) -> Bound:
        target, source = self._address(call.target), self._address(call.source)
        return lambda scalars, listed: self._driver.copy(target, source, call.size)

    def _launch(self, call: Launch) -> Bound:
        kernel, sizes = self._driver.kernel(call), (call.rows, call.columns)
        places = [self._address(place) for place in call.places]
        if not call.numbers:
            return lambda scalars, listed: kernel([*sizes, listed, *places])
        nodes, names = [node for node, _ in call.numbers], self.plan.scalars

        def run(scalars: Sequence[float], listed: int) -> None:
            by_name = dict(zip(names, scalars, strict=True))
            kernel([*sizes, listed, *places, *(evaluate(node, by_name) for node in nodes)])

        return run

    def _product(self, call: Product) -> Bound:
        a, b, out = (self._view(*part, call.dtype) for part in zip(call.places, call.shapes, strict=True))
        product, flips = self._driver.product, (call.transpose_a, call.transpose_b)
        return lambda scalars, listed: product(a, b, out, *flips)

    def _address(self, place: Place) -> int:
        return self._backend.address(self.arrays[place.buffer]) + place.offset

    def _view(self, place: Place, shape: tuple[int, int], dtype: str) -> Array:
        return self._driver.view(self.arrays[place.buffer], place.offset, dtype, shape)


_BOUND: dict[type[Call], Callable[[DeviceProgram, Any], Bound]] = {
    Launch: DeviceProgram._launch,
    Product: DeviceProgram._product,
    Copy: DeviceProgram._copy,
}


def _unbound(scalars: Sequence[float], listed: int) -> None:
    raise RuntimeError("an input of this call was released and no other bound")

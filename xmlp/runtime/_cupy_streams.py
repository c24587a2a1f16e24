"""CuPy's streams, events and pinned memory for `streaming`."""

from math import prod

import cupy
import numpy as np

from xmlp.runtime.streaming import Host
from xmlp.types import Array, HostArray


class CupyLanes:
    """The thread's current stream to compute with, another to copy on."""

    def __init__(self) -> None:
        self.computing = cupy.cuda.get_current_stream()
        self.copying = cupy.cuda.Stream(non_blocking=True)

    def slot(self, arrays: Host, size: int) -> "CupySlot":
        return CupySlot(arrays, size)


class CupySlot:
    """Pinned and device buffers for `size` rows of each array."""

    def __init__(self, arrays: Host, size: int):
        self.copied = cupy.cuda.Event(disable_timing=True)
        self.used = cupy.cuda.Event(disable_timing=True)
        self._pinned = [None if a is None else _pinned((size, *a.shape[1:]), a.dtype) for a in arrays]
        self._device = [None if p is None else cupy.empty(p.shape, p.dtype) for p in self._pinned]
        self._rows = size

    def fill(self, arrays: Host, rows: HostArray) -> None:
        self._rows = len(rows)
        for array, pinned in zip(arrays, self._pinned, strict=True):
            if array is not None and pinned is not None:
                np.take(array, rows, axis=0, out=pinned[: len(rows)], mode="clip")

    def upload(self, stream: "cupy.cuda.Stream") -> None:
        for pinned, array in zip(self._pinned, self._device, strict=True):
            if pinned is not None and array is not None:
                filled = pinned[: self._rows]
                array.data.copy_from_host_async(filled.ctypes.data, filled.nbytes, stream)

    @property
    def arrays(self) -> tuple[Array | None, ...]:
        return tuple(None if a is None else a[: self._rows] for a in self._device)


def _pinned(shape: tuple[int, ...], dtype: "np.dtype[np.generic]") -> HostArray:
    """A host array that the device can read while the host goes on."""
    memory = cupy.cuda.alloc_pinned_memory(max(prod(shape) * dtype.itemsize, 1))
    return np.frombuffer(memory, dtype, prod(shape)).reshape(shape)

"""CuPy: a CUDA device. Importing CuPy needs no driver, so what counts is an allocation that succeeds."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import array_api_compat.cupy as xp
import cupy
import numpy as np

from xmlp.backends import cuda_setup
from xmlp.backends.cuda import CudaBackend
from xmlp.compiler.c import Elementwise
from xmlp.compiler.cuda_code import PRELUDE, Launch
from xmlp.errors import BackendError, DeviceMemoryError
from xmlp.runtime.programs import Recent
from xmlp.runtime.streaming import ahead
from xmlp.types import Array, Dtype, HostArray

version = cupy.__version__
MOST_KERNELS = 1000
_TF32 = 3  # CUBLAS_TF32_TENSOR_OP_MATH


def probe(device: int = 0) -> str | None:
    """Compute with one element on a device. Returns None if that works, else the reason and the remedy."""
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        if count and device >= count:
            return f"there is no CUDA device {device}: this machine has {count}"
        if not count:
            return cuda_setup.NO_DEVICE
        with cupy.cuda.Device(device):
            cupy.empty(1, dtype=cupy.float32).fill(0)
            cupy.cuda.runtime.deviceSynchronize()
            cupy.cuda.device.get_cublas_handle()
    except Exception as error:  # whatever a broken installation raises is a reason, not a crash
        return cuda_setup.explain(error, cupy.cuda.runtime, device)
    return None


class CupyDriver:
    """Kernels by NVRTC, which CuPy keeps on disk between processes; products by cuBLAS."""

    def __init__(self, tf32: bool):
        self._tf32 = tf32
        self._kernels: Recent[str, Any] = Recent(MOST_KERNELS)  # programs hold theirs

    def elementwise(self, code: Elementwise) -> Callable[..., Any]:
        return elementwise_kernel(code)  # type: ignore[no-any-return]

    def kernel(self, launch: Launch) -> Callable[[Sequence[Any]], None]:
        raw = self._kernels.find(launch.name)
        if raw is None:
            raw = self._kernels.add(launch.name, cupy.RawKernel(PRELUDE + launch.source, launch.name))
        grid, threads = (launch.blocks,), launch.threads
        integer, first = np.int32, 3 + len(launch.places)
        kinds = [np.dtype(dtype).type for _, dtype in launch.numbers]

        def call(arguments: Sequence[Any]) -> None:
            rows, columns, *addresses = arguments[:first]
            numbers = [kind(value) for kind, value in zip(kinds, arguments[first:], strict=True)]
            raw(grid, threads, (integer(rows), integer(columns), *addresses, *numbers))

        return call

    def product(self, a: Array, b: Array, out: Array, transpose_a: bool, transpose_b: bool) -> None:
        from cupy import cublas

        flips = ("T" if transpose_a else "N", "T" if transpose_b else "N")
        if not self._tf32:
            cublas.gemm(*flips, a, b, out=out)
            return
        from cupy_backends.cuda.libs import cublas as library

        handle = cupy.cuda.device.get_cublas_handle()
        mode = library.getMathMode(handle)
        library.setMathMode(handle, _TF32)
        try:
            cublas.gemm(*flips, a, b, out=out)
        finally:
            library.setMathMode(handle, mode)

    def copy(self, target: int, source: int, size: int) -> None:
        kind = cupy.cuda.runtime.memcpyDeviceToDevice
        cupy.cuda.runtime.memcpyAsync(target, source, size, kind, cupy.cuda.get_current_stream().ptr)

    def bytes(self, size: int) -> Array:
        return cupy.zeros(size, dtype=cupy.uint8)

    def view(self, array: Any, offset: int, dtype: str, shape: tuple[int, int]) -> Array:
        return cupy.ndarray(shape, dtype, memptr=array.data + offset)


def elementwise_kernel(code: Elementwise) -> Any:
    """A formula as a kernel of CuPy's, with typed parameters."""
    inputs = [f"{dtype} x{i}" for i, dtype in enumerate(code.inputs)]
    numbers = [f"{dtype} s{i}" for i, dtype in enumerate(code.numbers)]
    outputs = [f"{dtype} y{i}" for i, dtype in enumerate(code.outputs)]
    return cupy.ElementwiseKernel(", ".join([*inputs, *numbers]), ", ".join(outputs), code.body, code.name)


class CupyBackend(CudaBackend):
    """Computes on one CUDA device, which it makes current in the threads that use it.

    Parameters
    ----------
    tf32 : bool
        Whether the products of plans may round their factors to TF32 (10 bits of mantissa): faster, and less exact by
        three decimal digits.
    """

    name = "cupy"

    def __init__(self, device: str | None, dtype: Dtype, tf32: bool = False):
        if not (device or "0").isdigit():
            raise BackendError(f"cupy devices are numbers, as in 'cupy:1', got {device!r}")
        number = int(device or 0)
        reason = probe(number)
        if reason is not None:
            raise BackendError(reason)
        super().__init__(xp, cupy.cuda.Device(number), dtype, CupyDriver(tf32))
        self.tf32 = tf32
        self.out_of_memory = (cupy.cuda.memory.OutOfMemoryError,)

    @property
    def _key(self) -> tuple[str, str, str]:
        return self.name, str(self.device.id), f"{self.dtype}{' tf32' if self.tf32 else ''}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).again, (self.name, self.asked, self.dtype, self.tf32)

    def activate(self) -> None:
        self.device.use()

    def _to_device(self, array: HostArray) -> Array:
        self.activate()
        try:
            return cupy.asarray(array)
        except cupy.cuda.memory.OutOfMemoryError as error:
            raise DeviceMemoryError(
                f"an array {array.shape} of {array.dtype} needs {array.nbytes:,} bytes on {self.device}, "
                f"{self.free_bytes():,} are free. Train from batches (xmlp.model.stream.Stream) or use a smaller dtype."
            ) from error

    def _to_host(self, array: Array) -> HostArray:
        return cupy.asnumpy(array)  # type: ignore[no-any-return]

    def batches(
        self, arrays: Sequence[HostArray | None], order: HostArray, size: int, least: int = 1
    ) -> Iterator[tuple[Array | None, ...]]:
        from xmlp.runtime._cupy_streams import CupyLanes

        self.activate()
        return ahead(arrays, order, size, CupyLanes(), least)

    def check(self, array: Array, what: str) -> None:
        self.activate()
        super().check(array, what)

    def assign(self, old: Array, new: Array) -> Array:
        self.activate()
        return super().assign(old, new)

    def index(self, n: int) -> Array:
        self.activate()
        return super().index(n)

    def address(self, array: Any) -> int:
        return array.data.ptr  # type: ignore[no-any-return]

    def free_bytes(self) -> int:
        self.activate()
        free, _ = cupy.cuda.runtime.memGetInfo()
        return int(free) + int(cupy.get_default_memory_pool().free_bytes())

    def release(self) -> None:
        self.activate()
        cupy.get_default_memory_pool().free_all_blocks()


make = CupyBackend

"""CuPy: a CUDA device. Importing CuPy needs no driver, so what counts is an allocation that succeeds."""

import array_api_compat.cupy as xp
import cupy

from xmlp.backends.base import Array, Backend, HostArray
from xmlp.errors import BackendError

version = cupy.__version__


def probe(device: int = 0) -> str | None:
    """Allocate one element on a device. Returns None if that works, else the reason and the remedy."""
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return (
            f"cupy {version} is installed but finds no CUDA driver or device ({error}). Check that `nvidia-smi` works "
            "and that the driver is new enough for this build (cupy-cuda12x needs 525 or later, cupy-cuda13x 580)."
        )
    if device >= count:
        return f"there is no CUDA device {device}: this machine has {count}"
    try:
        with cupy.cuda.Device(device):
            cupy.empty(1, dtype=cupy.float32).fill(0)
            cupy.cuda.runtime.deviceSynchronize()
    except Exception as error:  # whatever a broken installation raises is a reason, not a crash
        return f"CUDA device {device} does not work: {error}"
    return None


class CupyBackend(Backend):
    name = "cupy"

    def __init__(self, device: str | None, dtype: str):
        if not (device or "0").isdigit():
            raise BackendError(f"cupy devices are numbers, as in 'cupy:1', got {device!r}")
        number = int(device or 0)
        reason = probe(number)
        if reason is not None:
            raise BackendError(reason)
        super().__init__(xp, cupy.cuda.Device(number), dtype)

    @property
    def _key(self) -> tuple[str, str, str]:
        return self.name, str(self.device.id), self.dtype

    def _to_device(self, array: HostArray) -> Array:
        with self.device:
            return cupy.asarray(array)

    def _to_host(self, array: Array) -> HostArray:
        return cupy.asnumpy(array)  # type: ignore[no-any-return]


make = CupyBackend

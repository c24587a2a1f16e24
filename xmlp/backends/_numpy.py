"""NumPy: the CPU of this machine."""

import array_api_compat.numpy as xp
import numpy as np

from xmlp.backends.base import Array, Backend, HostArray
from xmlp.errors import BackendError

version = np.__version__


class NumpyBackend(Backend):
    name = "numpy"

    def __init__(self, device: str | None, dtype: str):
        if device not in (None, "cpu"):
            raise BackendError(f"numpy runs on the device 'cpu' only, got {device!r}")
        super().__init__(xp, "cpu", dtype)

    def _to_device(self, array: HostArray) -> Array:
        return array

    def _to_host(self, array: Array) -> HostArray:
        return np.asarray(array)

    def device_of(self, array: Array) -> str:
        return "cpu"


make = NumpyBackend

"""array-api-strict: the standard and nothing else, for proving that code is portable.

Its devices are simulated. The default here is `device1`, which refuses what the plain CPU device lets pass.
"""

import array_api_strict as xp
import numpy as np

from xmlp.backends.base import Backend
from xmlp.errors import BackendError
from xmlp.types import Array, Dtype, HostArray

version = xp.__version__


class StrictBackend(Backend):
    name = "array-api-strict"

    def __init__(self, device: str | None, dtype: Dtype):
        device = device or "device1"
        try:
            super().__init__(xp, xp.Device(device), dtype)
        except ValueError as error:
            raise BackendError(f"array-api-strict has no device {device!r}: {error}") from None

    def _to_device(self, array: HostArray) -> Array:
        return xp.asarray(array, device=self.device, copy=True)

    def _to_host(self, array: Array) -> HostArray:
        on_host = xp.asarray(array, device=xp.Device("CPU_DEVICE"))
        return np.array(on_host._array)  # lint: allow private - of the library


make = StrictBackend

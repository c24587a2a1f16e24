"""PyTorch tensors, through array-api-compat. Autograd is not used: results never require gradients."""

import array_api_compat.torch as xp
import numpy as np
import torch

from xmlp.backends.base import Backend
from xmlp.errors import BackendError
from xmlp.types import Array, Dtype, HostArray

version = torch.__version__


class TorchBackend(Backend):
    name = "torch"

    def __init__(self, device: str | None, dtype: Dtype):
        try:
            place = torch.empty(1, device=device or "cpu").device
        except (RuntimeError, AssertionError) as error:
            raise BackendError(f"torch cannot use the device {device!r}: {error}".splitlines()[0]) from None
        super().__init__(xp, place, dtype)

    def _to_device(self, array: HostArray) -> Array:
        return torch.tensor(array, device=self.device)

    def _to_host(self, array: Array) -> HostArray:
        return np.array(array.detach().cpu().numpy())


make = TorchBackend

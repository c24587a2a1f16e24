"""The boundary: what callers pass is checked here once and brought to the device. Inner code trusts the result."""

import operator
from collections.abc import Callable
from typing import Any

from xmlp.backends import Backend, cast, owner
from xmlp.backends.host import check_finite, host_array
from xmlp.losses import Loss

Array = Any
_SMALL = {"B": "uint8", "?": "bool"}  # kept as they are until the batch is taken


def count(value: Any, what: str) -> int:
    """A whole number >= 1."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{what} must be an integer >= 1, got {value!r}")
    return number


class Inputs:
    """Checks and conversions for one network."""

    def __init__(self, backend: Backend, in_features: int):
        self.backend = backend
        self.in_features = in_features

    def _own(self, array: Any, what: str) -> Array | None:
        """`array` if it lives in this backend's library or can be shared without a copy; None for host data."""
        library = owner(array)
        if library is None or library == "numpy":
            return None
        if getattr(array, "requires_grad", False):
            array = array.detach()  # results never require gradients
        if library != self.backend.name:
            array = self._shared(array, library, what)
        self.backend.check(array, what)
        return array

    def _shared(self, array: Any, library: str, what: str) -> Array:
        here = self.backend.zeros(1)
        try:
            if hasattr(here, "__dlpack_device__") and array.__dlpack_device__() == here.__dlpack_device__():
                return self.backend.xp.from_dlpack(array)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:  # a dtype or layout that one lacks
            raise TypeError(
                f"{what} is an array of {library} ({array.dtype}) that {self.backend.name} cannot share: "
                f"{str(error).rstrip('.')}. Pass a NumPy array."
            ) from error
        raise TypeError(
            f"{what} is an array of {library}, the network computes with {self.backend.name} on {self.backend.device}. "
            f"Pass a NumPy array, or move the network: network.to({library!r})."
        )

    def features(self, x: Any, what: str = "x") -> tuple[Array, Callable[[Array], Any]]:
        """x as a device array (N, in_features), bytes still bytes; and how results go back to the caller."""
        array = self._own(x, what)
        if array is None:
            host = host_array(x, what)
            host = host.reshape(1, -1) if host.ndim == 1 and host.shape[0] == self.in_features else host
            self._check_shape(host.shape, what)
            check_finite(host, what)
            small = _SMALL.get(host.dtype.char)
            return self.backend.from_host(host, small), self.backend.to_host
        if array.ndim == 1 and array.shape[0] == self.in_features:
            array = self.backend.xp.reshape(array, (1, -1))
        self._check_shape(tuple(array.shape), what)
        return array, lambda result: result

    def _check_shape(self, shape: tuple[int, ...], what: str) -> None:
        if len(shape) != 2:
            raise ValueError(
                f"{what} must be two-dimensional, (N, {self.in_features}), got an array of shape {shape}. Reshape it, "
                f"with .reshape(-1, {self.in_features}) if each row is one example."
            )
        if shape[1] != self.in_features:
            raise ValueError(
                f"{what} has {shape[1]} features, the network takes {self.in_features}: its shape is {shape}"
            )
        if shape[0] == 0:
            raise ValueError(f"{what} has 0 rows; at least 1 is needed")

    def floats(self, x: Array) -> Array:
        """A batch in the floating dtype."""
        dtype = self.backend.float_dtype
        return x if x.dtype == dtype else self.backend.xp.astype(x, dtype)

    def matrix(self, value: Any, what: str, columns: int) -> Array:
        """A floating matrix (N, columns) on the device."""
        array = self._own(value, what)
        if array is None:
            array = self.backend.from_host(host_array(value, what))
        if array.ndim != 2 or array.shape[1] != columns:
            raise ValueError(f"{what} must be (N, {columns}), got the shape {tuple(array.shape)}")
        return self.floats(array)

    def vector(self, value: Any, what: str) -> Array:
        """A floating vector on the device."""
        array = self._own(value, what)
        if array is None:
            host = host_array(value, what)
            check_finite(host, what)
            array = self.backend.from_host(host)
        if array.ndim != 1:
            raise ValueError(f"{what} must be a vector, got the shape {tuple(array.shape)}")
        return self.floats(array)

    def targets(self, y: Any, loss: Loss, outputs: int, what: str = "y") -> Array:
        """Targets as `loss` takes them, on the device: reals (N, outputs) or int32 labels (N,)."""
        array = self._own(y, what)
        host = host_array(y, what) if array is None else self.backend.to_host(array)
        prepared = loss.prepare(host, outputs)
        return self.backend.from_host(prepared, "int32" if prepared.ndim == 1 else None)

    def weights(self, value: Any, rows: int, what: str = "sample_weight") -> Array | None:
        """Weights (N,) on the device, None if there are none."""
        if value is None:
            return None
        array = self._own(value, what)
        host = host_array(value, what) if array is None else self.backend.to_host(array)
        if host.shape != (rows,):
            raise ValueError(f"{what} must be ({rows},), one number per row of x, got the shape {host.shape}")
        check_finite(host, what)
        if host.min() < 0:
            raise ValueError(f"{what} must not be negative, got {host.min()} in row {int(host.argmin())}")
        if host.max() == 0:
            raise ValueError(f"{what} is 0 for every row: nothing would be learnt")
        host = cast(host, self.backend.dtype)
        if host.max() == 0:
            raise ValueError(f"{what} is too small for {self.backend.dtype}: it rounds to 0 for every row. Scale it.")
        return self.backend.from_host(host)

    def batch(
        self, x: Any, y: Any, sample_weight: Any, loss: Loss, outputs: int, what: tuple[str, str] = ("x", "y")
    ) -> tuple[Array, Array, Array | None]:
        """Features, targets and weights of as many rows each."""
        kinds = {owner(a) or "numpy" for a in (x, y)} - {"numpy", self.backend.name}
        if len({owner(a) or "numpy" for a in (x, y)}) > 1 and kinds:
            raise TypeError(
                f"{what[0]} is an array of {owner(x) or 'numpy'}, {what[1]} of {owner(y) or 'numpy'}. Use one library."
            )
        features, _ = self.features(x, what[0])
        targets = self.targets(y, loss, outputs, what[1])
        if targets.shape[0] != features.shape[0]:
            raise ValueError(f"{what[0]} has {features.shape[0]} rows, {what[1]} has {targets.shape[0]}")
        return features, targets, self.weights(sample_weight, features.shape[0])

    def thresholds(self, value: Any, outputs: int) -> list[float]:
        """One decision threshold per output."""
        host = host_array(value, "thresholds")
        check_finite(host, "thresholds")
        if host.ndim == 0:
            return [float(host)] * outputs
        if host.shape != (outputs,):
            raise ValueError(f"thresholds must be one number or ({outputs},), got the shape {host.shape}")
        return [float(t) for t in host]

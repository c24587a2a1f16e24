"""The boundary: what callers pass is checked here once and brought to the device. Inner code trusts the result."""

import operator
from collections.abc import Callable
from typing import Any

from xmlp import weights
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
        array = self.values(value, what)
        if array.ndim != 1:
            raise ValueError(f"{what} must be a vector, got the shape {tuple(array.shape)}")
        return array

    def values(self, value: Any, what: str) -> Array:
        """A floating array of any shape on the device."""
        array = self._own(value, what)
        if array is None:
            host = host_array(value, what)
            check_finite(host, what)
            array = self.backend.from_host(host)
        return self.floats(array)

    def host(self, value: Any, what: str) -> Any:
        """`value` on the host, as it is: a masked array keeps its mask."""
        array = self._own(value, what)
        return value if array is None else self.backend.to_host(array)

    def batch(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        loss: Loss,
        outputs: int,
        what: tuple[str, str] = ("x", "y"),
        *,
        output_weight: Any = None,
        class_weight: Any = None,
    ) -> tuple[Array, Array, Array | None]:
        """Features, targets and weights of as many rows each, on the device.

        Targets are as `loss` takes them, reals (N, outputs) or int32 labels (N,). Weights are (N,) or (N, outputs),
        None if there are none: the product of those of the rows, of the outputs, of the classes, and of 0 for each
        target that is missing.
        """
        kinds = {owner(a) or "numpy" for a in (x, y)} - {"numpy", self.backend.name}
        if len({owner(a) or "numpy" for a in (x, y)}) > 1 and kinds:
            raise TypeError(
                f"{what[0]} is an array of {owner(x) or 'numpy'}, {what[1]} of {owner(y) or 'numpy'}. Use one library."
            )
        features, _ = self.features(x, what[0])
        filled, present = weights.without_gaps(self.host(y, what[1]), what[1], outputs, loss.elementwise)
        targets = loss.prepare(filled, outputs)
        rows = features.shape[0]
        if targets.shape[0] != rows:
            raise ValueError(f"{what[0]} has {rows} rows, {what[1]} has {targets.shape[0]}")
        of_rows = None
        if sample_weight is not None:
            of_rows = host_array(self.host(sample_weight, "sample_weight"), "sample_weight")
            of_rows = weights.given(of_rows, rows, outputs if loss.elementwise or of_rows.ndim == 2 else 1)
        together = weights.product(of_rows, present)
        kind = "int32" if targets.ndim == 1 else None
        on_device = self.backend.from_host(targets, kind)
        return features, on_device, self.weights(together, targets, loss, outputs, output_weight, class_weight)

    def weights(
        self, of_rows: Array | None, targets: Array, loss: Loss, outputs: int, output_weight: Any, class_weight: Any
    ) -> Array | None:
        """The product of the weights of rows, outputs and classes, checked, on the device; (N,) for one output."""
        rows = targets.shape[0]
        of_outputs = None if output_weight is None else weights.of_outputs(output_weight, outputs)
        value = weights.product(of_rows, of_outputs)
        if class_weight is not None:
            value = weights.product(value, weights.of_classes(targets, class_weight, value, loss.elementwise))
        if value is None:
            return None
        if value.shape[-1] == 1 and value.ndim == 2:
            value = value.repeat(rows // value.shape[0]).reshape(-1)
        if value.ndim == 2 and not loss.elementwise:
            raise ValueError(
                f"{loss.name} does not take its outputs one by one, so they have no weights of their own. Weigh the "
                "rows, (N,), or use one of the elementwise losses."
            )
        if value.max() == 0:
            raise ValueError("the weights of all rows are zero together: nothing would be learnt")
        value = cast(value, self.backend.dtype)
        if value.max() == 0:
            raise ValueError(
                f"sample_weight is too small for {self.backend.dtype}: it rounds to zero for every row. Scale it."
            )
        return self.backend.from_host(value.repeat(rows, axis=0) if value.shape[0] < rows else value)

    def thresholds(self, value: Any, outputs: int) -> list[float]:
        """One decision threshold per output."""
        host = host_array(value, "thresholds")
        check_finite(host, "thresholds")
        if host.ndim == 0:
            return [float(host)] * outputs
        if host.shape != (outputs,):
            raise ValueError(f"thresholds must be one number or ({outputs},), got the shape {host.shape}")
        return [float(t) for t in host]

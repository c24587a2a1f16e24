"""The boundary: what callers pass is checked here once and brought to the device. Inner code trusts the result."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xmlp.backends import Backend, owner
from xmlp.host.arrays import cast, centred, check_finite, host_array, refuse_small, resolved
from xmlp.host.settings import count as count
from xmlp.losses import LOSSES, Link, Loss
from xmlp.network import row_weights as weights
from xmlp.network.row_weights import Mean
from xmlp.types import Array, HostArray

_SMALL = {"B": "uint8", "?": "bool"}  # kept as they are until the batch is taken


class Inputs:
    """Checks and conversions for one network.

    Parameters
    ----------
    offset : sequence of (int, float)
        Features and what is taken off them before they get the dtype of the backend; see `xmlp.layers.Standardize`.
    """

    def __init__(self, backend: Backend, in_features: int, offset: Sequence[tuple[int, float]] = ()):
        self.backend = backend
        self.in_features = in_features
        self.offset = tuple(offset)

    def on(self, backend: Backend) -> "Inputs":
        """The same for another backend."""
        return Inputs(backend, self.in_features, self.offset)

    def _own(self, array: Any, what: str) -> Array | None:
        """`array` if it lives in this backend's library or can be shared without a copy; None for host data."""
        library = owner(array)
        if library is None or library == "numpy":
            return None
        array = resolved(array, what)
        if library != self.backend.name:
            array = self._shared(array, library, what)
        self.backend.check(array, what)
        return self.backend.contiguous(array)

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
            host = self._table(x, what)
            if self.offset:
                host = centred(host, host_array(self._offsets(), "offset"), self.backend.dtype)
            return self.backend.from_host(host, _SMALL.get(host.dtype.char)), self.backend.to_host
        if array.ndim == 1 and array.shape[0] == self.in_features:
            array = self.backend.xp.reshape(array, (1, -1))
        self._check_shape(tuple(array.shape), what)
        return (self._centred(array) if self.offset else array), lambda result: result

    def table(self, x: Any, what: str = "x") -> Any:
        """x as a host array (N, in_features) in its own dtype."""
        return self._table(self.host(x, what), what)

    def _table(self, x: Any, what: str) -> Any:
        host = host_array(x, what)
        host = host.reshape(1, -1) if host.ndim == 1 and host.shape[0] == self.in_features else host
        self._check_shape(host.shape, what)
        check_finite(host, what)
        return host

    def _offsets(self) -> list[float]:
        """The offset of every feature."""
        given = dict(self.offset)
        return [given.get(feature, 0.0) for feature in range(self.in_features)]

    def _centred(self, array: Array) -> Array:
        """A device array less the offset: whole numbers as such, others in two parts, each a number of the dtype."""
        xp, put, rest = self.backend.xp, self.backend.from_host, self._offsets()
        if array.dtype in (xp.int32, xp.int64):
            most = xp.iinfo(array.dtype).max
            whole = [round(value) if abs(value) < most else 0 for value in rest]
            array = array - xp.asarray(whole, dtype=array.dtype, device=self.backend.device)
            rest = [value - taken for value, taken in zip(rest, whole, strict=True)]
        high = put(rest)
        low = [value - float(rounded) for value, rounded in zip(rest, self.backend.to_host(high), strict=True)]
        return (self.floats(array) - high) - put(low)

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

    def vector(self, value: Any, what: str, size: int) -> Array:
        """A floating vector (size,) on the device."""
        array = self.values(value, what)
        if array.ndim != 1:
            raise ValueError(f"{what} must be a vector, got the shape {tuple(array.shape)}")
        if tuple(array.shape) != (size,):
            raise ValueError(f"{what} has the shape ({size},), got {tuple(array.shape)}")
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
        whole: bool = False,
    ) -> tuple[Array, Array, HostArray | None]:
        """Features and targets on the device, and weights on the host, of as many rows each.

        Targets are as `loss` takes them, reals (N, outputs) or int32 labels (N,). Weights are float64, (N,) or
        (N, outputs), None if there are none: the product of those of the rows, of the outputs, of the classes, and of 0
        for each target that is missing. `placed` brings them to the device. Where these are the `whole` of the data,
        targets that all vanish in the dtype are refused.
        """
        kinds = {owner(a) or "numpy" for a in (x, y)} - {"numpy", self.backend.name}
        if len({owner(a) or "numpy" for a in (x, y)}) > 1 and kinds:
            raise TypeError(
                f"{what[0]} is an array of {owner(x) or 'numpy'}, {what[1]} of {owner(y) or 'numpy'}. Use one library."
            )
        features, _ = self.features(x, what[0])
        filled, present = weights.without_gaps(self.host(y, what[1]), what[1], outputs, loss.elementwise)
        targets = loss.prepare(filled, outputs)
        if whole:
            refuse_small(targets, what[1], self.backend.dtype)
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

    def outcomes(
        self, x: Any, y: Any, sample_weight: Any, link: Link, outputs: int
    ) -> tuple[Array, HostArray, HostArray]:  # fmt: skip
        """x on the device; on the host what came of each output, 0 or 1, and its weight, both (N, outputs)."""
        x, targets, weights = self.batch(x, y, sample_weight, LOSSES[link.loss or "binary_cross_entropy"](), outputs)
        y = self.backend.to_host(targets)
        if y.ndim == 1:
            y = (y[:, None] == range(outputs)) * 1.0
        w = 1.0 + 0.0 * y
        if weights is not None:
            w = w * (weights if weights.ndim == 2 else weights[:, None])
        return x, y, w

    def weights(
        self, of_rows: Array | None, targets: Array, loss: Loss, outputs: int, output_weight: Any, class_weight: Any
    ) -> HostArray | None:
        """The product of the weights of rows, outputs and classes, checked; (N,) for one output."""
        rows = targets.shape[0]
        tame = weights.tame if loss.reduction == "mean" else (lambda value: value)
        of_outputs = None if output_weight is None else weights.of_outputs(output_weight, outputs)
        value = weights.product(tame(of_rows), tame(of_outputs))
        if class_weight is not None:
            of_classes = weights.of_classes(targets, class_weight, value, loss.elementwise, outputs)
            value = weights.product(value, tame(of_classes))
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
        return value.repeat(rows, axis=0) if value.shape[0] < rows else value

    def placed(self, value: HostArray | None, loss: Loss, mean: Mean | None = None) -> Array | None:
        """Weights on the device: of mean 1, of their own or over a stream, or as they are where the loss is a sum."""
        if value is None:
            return None
        if loss.reduction == "mean":
            return self.backend.from_host(weights.of_mean_one(value, mean))
        if cast(value, self.backend.dtype).max() == 0 < value.max():
            raise ValueError(
                f"sample_weight is too small for {self.backend.dtype}: it rounds to zero for every row. Scale it, or "
                'take reduction "mean", for which the scale of weights does not matter.'
            )
        return self.backend.from_host(value)

    def thresholds(self, value: Any, outputs: int) -> list[float]:
        """One decision threshold per output."""
        host = host_array(value, "thresholds")
        check_finite(host, "thresholds")
        if host.ndim == 0:
            return [float(host)] * outputs
        if host.shape != (outputs,):
            raise ValueError(f"thresholds must be one number or ({outputs},), got the shape {host.shape}")
        return [float(t) for t in host]


def fitting_loss(link: Link, outputs: int, y: Any) -> str:
    """The name of the loss that an output link and targets ask for: that of the link, and softmax cross-entropy for
    labels of several classes where there is no link.

    >>> from xmlp.losses import link
    >>> fitting_loss(link("identity"), 3, [0, 2, 1]), fitting_loss(link("identity"), 1, [0.5, 2.0])
    ('softmax_cross_entropy', 'squared_error')
    """
    if link.loss not in LOSSES:
        raise ValueError(f"the link {link.name!r} names no loss of the library: pass loss=")
    labels = y is not None and outputs > 1 and np.ndim(y) == 1
    return "softmax_cross_entropy" if labels and link.is_identity else link.loss

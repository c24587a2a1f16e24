"""Arrays as scikit-learn's users pass them: of any library, sparse, and back in the kind in which they came."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import sklearn
from array_api_compat import array_namespace, device
from scipy import sparse

from xmlp.backends import Backend, BackendLike, owner
from xmlp.backends import backend as backend_named
from xmlp.data.batches import batch_order
from xmlp.host.arrays import host_array, refuse_look_alikes, resolved, spans
from xmlp.types import Array, Dtype

BLOCK_BYTES = 2**26  # what a sparse matrix may take when it is made dense; beyond that it is taken in blocks


def dispatched(x: Any) -> bool:
    """Whether `x` is an array of another library than NumPy and is to stay so."""
    return sklearn.get_config()["array_api_dispatch"] and owner(x) not in (None, "numpy")


def host(value: Any, what: str = "an argument") -> Any:
    """An array of any library on the host; what no backend knows stays as it is."""
    library = owner(value)
    if library is None or library == "numpy":
        return value
    value = resolved(value, what)
    try:
        return backend_named(library).to_host(value)
    except (RuntimeError, TypeError) as error:  # a dtype or a layout that NumPy lacks
        raise TypeError(f"{what} is an array of {library} ({value.dtype}) that NumPy cannot hold: {error}") from error


def axes(value: Any) -> int:
    """How many axes data have."""
    return np.ndim(value)


def readable(x: Any, what: str) -> Any:
    """Features as scikit-learn's validation reads them; what only looks like numbers is refused."""
    if sparse.issparse(x) or dispatched(x):
        return x
    refuse_look_alikes(x, what)
    if owner(x) not in (None, "numpy"):
        return host(x, what)
    fills = {getattr(dtype, "fill_value", 0) for dtype in getattr(x, "dtypes", ())}  # of sparse columns
    if fills - {0} and hasattr(x, "sparse"):
        return x.sparse.to_dense()
    known = hasattr(x, "__array__") or hasattr(x, "__len__")
    return x if known or not hasattr(x, "__dlpack__") else host_array(x, what)


def backend_for(x: Array, name: BackendLike | None, place: str | None, dtype: Dtype | None) -> Backend:
    """The backend that was asked for; what was not asked for follows the features."""
    dtype = dtype or ("float32" if str(x.dtype).endswith("float32") else "float64")
    if name is None and dispatched(x) and (library := owner(x)) is not None:
        own = getattr(x.device, "_device", None) or getattr(x.device, "id", None)  # of array-api-strict, of CuPy
        if library == "torch" or own is None:
            own = x.device
        return backend_named(library, device=place or str(own), dtype=dtype)
    return backend_named(name or "numpy", device=place, dtype=dtype)


def like(x: Any, result: Any) -> Any:
    """`result`, an array of the host or of the network's backend, as an array of the library and device of `x`."""
    if not dispatched(x):
        return host(result)
    if owner(result) == owner(x):
        return result
    return array_namespace(x).asarray(host(result), device=device(x))


def empty_like(x: Any) -> Array:
    """An array without elements of the library, device and dtype of `x`: what tells later which they were."""
    if not dispatched(x):
        return np.empty(0, x.dtype)
    return array_namespace(x).empty((0,), dtype=x.dtype, device=device(x))


def check_same_kind(x: Any, fitted: Array, name: str, method: str) -> None:
    """Refuse features of another array library or device than those of `fit`, while dispatch is on."""
    if not sklearn.get_config()["array_api_dispatch"]:
        return
    now, then = (owner(a) or "numpy" for a in (x, fitted))
    places = [str(device(a)) if kind != "numpy" else "cpu" for a, kind in ((x, now), (fitted, then))]
    if (now, places[0]) != (then, places[1]):
        raise ValueError(
            f"Inputs passed to {name}.{method}() must use the same namespace and the same device as those passed to "
            f"fit(): got {now} on {places[0]}, fitted with {then} on {places[1]}."
        )


def rows(x: Any, index: Any) -> Any:
    """The rows of x with these numbers."""
    if owner(x) in (None, "numpy"):
        return x[index]
    xp = array_namespace(x)
    return xp.take(x, xp.asarray(index, device=device(x)), axis=0)


def dense(x: Any) -> Any:
    """x, made dense if it is sparse and small; a larger matrix stays as it is, in rows."""
    if not sparse.issparse(x):
        return x
    return x.toarray() if block_rows(x) >= x.shape[0] else x.tocsr()


def block_rows(x: Any) -> int:
    """How many rows of a sparse matrix fit in a block."""
    return max(1, int(BLOCK_BYTES // (x.shape[1] * x.dtype.itemsize)))


def in_blocks(function: Callable[[Any], Any], x: Any) -> Any:
    """`function` of the rows of x; of a large sparse matrix a block at a time, joined on the host."""
    x = dense(x)
    if not sparse.issparse(x):
        return function(x)
    size = block_rows(x)
    return np.concatenate([host(function(x[i : i + size].toarray())) for i in range(0, x.shape[0], size)])


class SparseBatches:
    """The batches of a sparse matrix, each made dense when its turn comes, in a new order each time.

    The rows of a batch, and hence the results, are those that a dense matrix would give. `batch(x, y, weights)` makes
    of them what the trainer takes.
    """

    def __init__(
        self, x: Any, y: Any, weights: Any, size: int, least: int, order: Callable[[int], Any],
        batch: Callable[..., Any],
    ):  # fmt: skip
        self._data = x, y, weights
        self._size, self._least, self._order, self._batch = size, least, order, batch
        self._epoch = 0

    def __iter__(self) -> Iterator[Any]:
        x, y, weights = self._data
        order = self._order(self._epoch)
        self._epoch += 1
        for start, stop in spans(len(order), self._size, self._least):
            index = order[start:stop]
            yield self._batch(x[index].toarray(), y[index], None if weights is None else weights[index])


def epochs_of(count: int, seed: int, first: int, shuffle: bool) -> Callable[[int], Any]:
    """The order of the rows in each epoch after the `first`."""
    return lambda epoch: batch_order(count, seed, first + epoch, shuffle)

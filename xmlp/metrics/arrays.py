"""What metrics are of, on the host and checked: labels or reals, and weights of any scale."""

import math
from typing import Any

from xmlp.backends import backend, owner
from xmlp.host.arrays import host_array, resolved
from xmlp.types import Array


def _host(value: Any, what: str) -> Array:
    library = owner(value)
    if library not in (None, "numpy"):
        value = backend(library).to_host(resolved(value, what))
    array = host_array(value, what)
    array = array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(f"{what}: expected (N,) or (N, outputs) with N >= 1, got {array.shape}.")
    return array


def _pair(targets: Any, predictions: Any) -> tuple[Array, Array]:
    t, p = _host(targets, "targets"), _host(predictions, "predictions")
    if t.shape != p.shape:
        hint = " Turn scores or one-hot rows into labels first: argmax(axis=1)." if t.ndim != p.ndim else ""
        raise ValueError(f"expected targets and predictions of one shape, got {t.shape} and {p.shape}.{hint}")
    return t, p


def _weights(sample_weight: Any, like: Array) -> Array:
    """Weights (N,), or of the shape of the targets, of any scale."""
    xp, n = like.__array_namespace__(), like.shape[0]
    if sample_weight is None:
        return xp.ones(n, dtype=xp.float64)
    w = xp.astype(_host(sample_weight, "sample_weight"), xp.float64)
    if w.shape not in ((n,), like.shape):
        one = "one for each row" + (f", or {like.shape}, one for each target" if like.ndim == 2 else "")
        raise ValueError(f"expected sample_weight of shape ({n},), {one}, got {w.shape}.")
    if not xp.all(xp.isfinite(w)) or xp.min(w) < 0 or xp.max(w) == 0:
        raise ValueError(
            f"expected finite weights that are not negative and not all 0, got {xp.min(w)} to {xp.max(w)}."
        )
    return w


def _unit(largest: float) -> float:
    """A power of two that divides numbers up to `largest` without rounding, so that sums and squares stay in range."""
    return math.ldexp(0.5, math.frexp(largest)[1])


def labels_of(targets: Any, predictions: Any, sample_weight: Any) -> tuple[Array, Array, Array, float]:
    """Targets and predictions as whole numbers, weights of at most 2, and by what these have been divided."""
    t, p = _pair(targets, predictions)
    w = _weights(sample_weight, t)
    unit = _unit(float(w.__array_namespace__().max(w)))
    return _whole(t, "targets"), _whole(p, "predictions"), w / unit, unit


def _whole(labels: Array, what: str) -> Array:
    xp = labels.__array_namespace__()
    if xp.isdtype(labels.dtype, "real floating"):
        odd = labels[(xp.floor(labels) != labels) | ~(xp.abs(labels) < 2**31)]
        if odd.shape[0]:
            raise ValueError(
                f"{what}: expected labels, which are whole numbers, got {odd[0]}. Scores become labels with "
                "predict_label, or argmax(axis=1)."
            )
    return xp.astype(labels, xp.int64)


def indicators(labels: Array, what: str) -> Array:
    """A matrix of labels, 0 and 1, as reals."""
    xp = labels.__array_namespace__()
    if xp.min(labels) < 0 or xp.max(labels) > 1:
        raise ValueError(
            f"{what}: expected 0 and 1 in a matrix of labels {labels.shape}, got {xp.min(labels)} to "
            f"{xp.max(labels)}. Give class labels as (N,)."
        )
    return xp.astype(labels, xp.float64)


def reals_of(targets: Any, predictions: Any, sample_weight: Any) -> tuple[Array, Array, Array, Array]:
    """Give targets and predictions (N, outputs), weights that go with them, and by what each output has been divided.

    That is a power of two, so that nothing is rounded, and keeps squares of numbers of any size in range. An output
    without weight is left out.
    """
    t, p = _pair(targets, predictions)
    xp = t.__array_namespace__()
    w = _weights(sample_weight, t)
    t, p, w = (xp.reshape(xp.astype(array, xp.float64), (t.shape[0], -1)) for array in (t, p, w))
    if w.shape[1] > 1:
        counted = xp.max(w, axis=0) > 0
        t, p, w = t[:, counted], p[:, counted], w[:, counted]
        t, p = (xp.where(w > 0, array, 0.0) for array in (t, p))
    size, heaviest = (
        xp.asarray([_unit(float(largest)) for largest in xp.max(values, axis=0)])
        for values in (xp.maximum(xp.abs(t), xp.abs(p)), w)
    )
    return t / size, p / size, w / heaviest, size

"""Mean and scale of features, exact and without a float64 copy of the data."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from xmlp.host.arrays import centred

Float64 = npt.NDArray[np.float64]
_MOST = 10_000  # offsets: they stand in the configuration of a model, whose size is limited
_BLOCK = 2**13  # numbers in a block of rows: 64 KiB of float64, which stay in the cache


def mean_and_scale(x: npt.NDArray[Any]) -> tuple[Float64, Float64]:
    r"""Mean and population standard deviation of every column.

    .. math:: m_j = \frac1N \sum_i x_{ij}, \qquad s_j = \sqrt{\frac1N \sum_i (x_{ij} - m_j)^2}

    so that ``(x - mean) / scale`` is centred with variance 1. Two passes over blocks of rows, in float64 with
    compensated sums; columns of extreme size are first divided by a power of two, so that nothing overflows
    or underflows. A constant column has scale exactly 1.0: it becomes 0 and not 0/0.

    Parameters
    ----------
    x : ndarray of shape (N, features)
        Real or boolean numbers; integers beyond 2**53 are rounded to float64.

    Returns
    -------
    mean, scale : ndarray of shape (features,), float64

    Raises
    ------
    ValueError
        ``x`` is not of two dimensions, has no rows, or holds NaN or infinity (the message has the first row
        and column, and the count).
    TypeError
        ``x`` does not hold real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> mean_and_scale(np.array([[1, 5], [3, 5]], dtype=np.uint8))
    (array([2., 5.]), array([1., 1.]))
    """
    if x.dtype.kind not in "buif":
        raise TypeError(f"expected real numbers to standardize, got {x.dtype}.")
    if x.ndim != 2 or not len(x):
        raise ValueError(f"expected x of shape (N, features) with N >= 1, got {x.shape}.")
    low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
    if not (np.isfinite(low) & np.isfinite(high)).all():
        bad = ~np.isfinite(x)
        row, column = divmod(int(bad.argmax()), x.shape[1])
        raise ValueError(
            f"expected finite numbers, got {x[row, column]} in row {row}, column {column} (counted from 0); "
            f"{bad.sum()} of {x.size} numbers are NaN or infinite. Remove or fill them first."
        )
    # Squares of numbers beyond 2**400 or below 2**-400 could leave float64; a power of two divides exactly.
    exponent = np.frexp(np.maximum(np.abs(low), np.abs(high)))[1]
    exponent = np.where(np.abs(exponent) > 400, exponent, 0)
    mean = _sum(_blocks(x, exponent)) / len(x)
    centred = (rows - mean for rows in _blocks(x, exponent))
    drift, squares = np.split(_sum(_fold(np.concatenate((d, d * d), axis=1)) for d in centred), 2)
    # The mean above is rounded: the drift is what the rounding left over, and it is no part of the variance.
    scale = np.sqrt((squares - drift * drift / len(x)) / len(x))
    constant = low == high
    scale = np.maximum(np.ldexp(scale, exponent), np.finfo(np.float64).smallest_subnormal)  # never 0
    return np.where(constant, low, np.ldexp(mean, exponent)), np.where(constant, 1.0, scale)


def centred_mean_and_scale(
    x: npt.NDArray[Any], eps: float, coarse: float
) -> tuple[Float64, Float64, tuple[tuple[int, float], ...]]:
    """Mean and scale of x less an offset, and the offset: pairs (column, number) where numbers of a dtype need one.

    Those are columns at whose mean neighbouring numbers, `eps` times the mean apart, differ by more than `coarse`
    deviations, unless the dtype holds all their numbers, as bytes and other small whole numbers.

    Examples
    --------
    >>> import numpy as np
    >>> seconds = 1700000000.0 + np.arange(5.0)[:, None]
    >>> centred_mean_and_scale(seconds, 2.0**-23, 2.0**-13)
    (array([0.]), array([1.41421356]), ((0, 1700000002.0),))
    """
    mean, scale = mean_and_scale(x)
    with np.errstate(over="ignore"):
        distance = np.abs(mean) * (eps / coarse) / scale
    columns = np.flatnonzero(distance > (1 if x.dtype.itemsize > 1 else np.inf))
    columns = np.sort(columns[np.argsort(-distance[columns], kind="stable")][:_MOST])
    pairs = []
    for column in columns.tolist():
        numbers = x[:, column : column + 1]
        if (numbers == numbers[0]).all() or (distance[column] < 2**10 and _fit(numbers, eps)):
            continue
        step = 2.0 ** np.ceil(np.log2(scale[column]))  # of an offset that is short to write
        offset = np.round(mean[column : column + 1] / step) * step
        pairs.append((column, float(offset[0])))
        mean[column], scale[column] = (found[0] for found in mean_and_scale(centred(numbers, offset, "float64")))
    return mean, scale, tuple(pairs)


def _fit(numbers: npt.NDArray[Any], eps: float) -> bool:
    """Whether a floating dtype of this resolution holds them all."""
    dtype = np.float32 if eps > np.finfo(np.float64).eps else np.float64
    with np.errstate(over="ignore"):
        return bool((numbers == numbers.astype(dtype)).all())


def _blocks(x: npt.NDArray[Any], exponent: npt.NDArray[np.int64]) -> Iterator[Float64]:
    size = max(1, _BLOCK // max(1, x.shape[1]))
    for start in range(0, len(x), size):
        rows = x[start : start + size].astype(np.float64)
        yield np.ldexp(rows, -exponent) if exponent.any() else rows


def _sum(blocks: Iterable[Float64]) -> Float64:
    """Sum all rows and keep what every addition rounds off: right to the last bit even where terms cancel."""
    total = lost = np.zeros(())
    for block in blocks:
        rows = block
        while len(rows) > 1:
            rows, error = _add(*_halves(rows))
            lost = lost + error.sum(axis=0)
        total, error = _add(total, rows[0])
        lost = lost + error
    return total + lost


def _fold(rows: Float64) -> Float64:
    """Sum rows in pairs, pairs of pairs and so on: faster than `_sum`, and good enough for squares."""
    while len(rows) > 1:
        left, right = _halves(rows)
        rows = left + right
    return rows


def _halves(rows: Float64) -> tuple[Float64, Float64]:
    half = len(rows) // 2
    if len(rows) % 2:
        rows = np.concatenate((rows, np.zeros_like(rows[:1])))
        half += 1
    return rows[:half], rows[half:]


def _add(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Knuth's TwoSum: the rounded sum and its exact error."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)

"""Metrics of numbers, (N,) or (N, outputs)."""

from typing import Literal

from xmlp.metrics.arrays import reals_of
from xmlp.metrics.base import Metric
from xmlp.types import Data

__all__ = ["mae", "r2", "rmse"]


def mae(targets: Data, predictions: Data, *, sample_weight: Data | None = None) -> float:
    r"""Mean absolute error, averaged over the outputs: :math:`\sum_i w_i |t_i - p_i| / \sum_i w_i`.

    Parameters
    ----------
    targets, predictions : array of reals, (N,) or (N, outputs)
        True and predicted values.
    sample_weight : array (N,) or (N, outputs), optional
        Not negative; 1 each by default.

    Returns
    -------
    float
        NaN if a value is NaN.

    Raises
    ------
    ValueError
        Shapes differ or are empty, a weight is negative or all are 0.

    Examples
    --------
    >>> mae([1.0, 2.0], [1.0, 5.0])
    1.5
    """
    t, p, w, size = reals_of(targets, predictions, sample_weight)
    xp = t.__array_namespace__()
    return float(xp.mean(size * (xp.sum(w * xp.abs(t - p), axis=0) / xp.sum(w, axis=0))))


def rmse(targets: Data, predictions: Data, *, sample_weight: Data | None = None) -> float:
    r"""Root mean squared error, averaged over the outputs.

    .. math:: \sqrt{\sum_i w_i (t_i - p_i)^2 / \sum_i w_i}

    Parameters, results and errors are those of `mae`.

    Examples
    --------
    >>> rmse([0.0, 0.0], [1.0, 7.0])
    5.0
    """
    t, p, w, size = reals_of(targets, predictions, sample_weight)
    xp = t.__array_namespace__()
    return float(xp.mean(size * xp.sqrt(xp.sum(w * (t - p) ** 2, axis=0) / xp.sum(w, axis=0))))


def r2(targets: Data, predictions: Data, *, sample_weight: Data | None = None) -> float:
    r"""Coefficient of determination, averaged over the outputs.

    .. math:: 1 - \sum_i w_i (t_i - p_i)^2 / \sum_i w_i (t_i - \bar t)^2

    Where the targets of an output are all the same it is 1 if the predictions are right, else 0. Parameters
    and errors are those of `mae`.

    Returns
    -------
    float
        At most 1; 0 for predicting the mean; NaN if a value is NaN.

    Examples
    --------
    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    0.5
    """
    t, p, w, _ = reals_of(targets, predictions, sample_weight)
    xp = t.__array_namespace__()
    error = xp.sum(w * (t - p) ** 2, axis=0)
    spread = xp.sum(w * (t - xp.sum(w * t, axis=0) / xp.sum(w, axis=0)) ** 2, axis=0)
    some = xp.take_along_axis(t, xp.argmax(w, axis=0)[None, :], axis=0)
    constant = xp.all((t == some) | (w == 0), axis=0)  # not spread == 0: the mean is rounded
    scores = 1 - error / xp.where(constant, 1.0, spread)
    return float(xp.mean(xp.where(constant & ~xp.isnan(error), xp.where(error > 0, 0.0, 1.0), scores)))


Names = Literal["r2", "mae", "rmse"]
METRICS = (
    Metric("r2", r2, "predictions", True, "R2"),
    Metric("mae", mae, "predictions", False, "MAE"),
    Metric("rmse", rmse, "predictions", False, "RMSE"),
)

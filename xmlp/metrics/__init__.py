"""Metrics: how good predictions are, as Python floats, from arrays of any backend, summed on the host.

A metric is any function ``(targets, predictions, *, sample_weight=None) -> float``. Those of labels take
whole numbers: class labels (N,), or a matrix (N, outputs) of 0 and 1 with a label for each output; those of
regression take reals (N,) or (N, outputs). A single column (N, 1) is the same as (N,).
"""

from collections.abc import Callable
from typing import Literal, SupportsFloat, TypeAlias

from xmlp.errors import unknown
from xmlp.metrics import classification, regression
from xmlp.metrics.base import NEEDS, Metric
from xmlp.metrics.classification import *  # noqa: F403 - each family names in its `__all__` what it offers
from xmlp.metrics.regression import *  # noqa: F403

__all__ = ["METRICS", "Metric", "get"]
__all__ += classification.__all__
__all__ += regression.__all__

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*classification.METRICS, *regression.METRICS)}

MetricName = Literal[classification.Names, regression.Names]
MetricLike: TypeAlias = MetricName | Callable[..., SupportsFloat] | Metric


def get(metric: MetricLike) -> Metric:
    """Find a metric by name, or take a function for one.

    Parameters
    ----------
    metric : str or callable
        "accuracy", "precision", "recall", "f1", "r2", "mae", "rmse", or a function
        ``(targets, predictions, *, sample_weight=None) -> float``. Its attribute ``needs``, "predictions"
        unless given, says what it wants: the network's predictions (probabilities after a cross-entropy), its raw
        "outputs" or "labels"; ``greater_is_better`` says what better means. One with a parameter ``classes=None``
        is given the network's number of classes there.

    Returns
    -------
    Metric
        With its name, function, what it needs, direction and title.

    Raises
    ------
    ValueError
        Unknown name or `needs`.
    TypeError
        Neither a name nor callable.

    Examples
    --------
    >>> get("accuracy").needs, get(max).greater_is_better
    ('labels', None)
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ValueError(unknown("metric", metric, METRICS))
        return METRICS[metric]
    if not callable(metric):
        raise TypeError(f"expected the name of a metric or a function, got {metric!r}.")
    known = next((entry for entry in METRICS.values() if entry.function is metric), None)
    if known is not None:
        return known
    name = getattr(metric, "__name__", type(metric).__name__)
    needs = getattr(metric, "needs", "predictions")
    if needs not in NEEDS:
        raise ValueError(unknown(f"attribute needs of the metric {name}:", needs, NEEDS))
    return Metric(name, metric, needs, getattr(metric, "greater_is_better", None), name)

"""Metrics: how good predictions are, as Python floats, from arrays of any backend, summed on the host.

A metric is any function ``(targets, predictions, *, sample_weight=None) -> float``. Those of labels take
whole numbers: class labels (N,), or a matrix (N, outputs) of 0 and 1 with a label for each output; those of
regression take reals (N,) or (N, outputs). A single column (N, 1) is the same as (N,).
"""

import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, SupportsFloat, TypeAlias, overload

from xmlp.backends import backend, owner
from xmlp.errors import unknown
from xmlp.host.arrays import host_array, resolved
from xmlp.types import Array, Average, Data, HostArray, MetricName

__all__ = ["Metric", "accuracy", "confusion_matrix", "f1", "get", "mae", "precision", "r2", "recall", "rmse"]

_NEEDS = "labels", "predictions", "outputs"
_AVERAGES = ("auto", "macro", "micro", "weighted")
_BLOCK = 2**18  # numbers in the one-hot matrix of a block of rows: 2 MiB
_MAX_CLASSES = 2**16
_MAX_CELLS = 2**26  # of a confusion matrix: 512 MiB


def accuracy(targets: Data, predictions: Data, *, sample_weight: Data | None = None) -> float:
    r"""Share of the rows that are right.

    .. math:: \sum_i w_i [t_i = p_i] / \sum_i w_i

    With several labels a row, a row is right if all of its labels are; those with the weight 0 do not count.

    Parameters
    ----------
    targets, predictions : array of whole numbers, (N,) or (N, outputs)
        True and predicted labels.
    sample_weight : array (N,) or (N, outputs), optional
        Not negative; 1 each by default.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        Shapes differ or are empty, a label is no whole number, a weight is negative or all are 0.

    Examples
    --------
    >>> accuracy([0, 1, 2, 1], [0, 1, 1, 1])
    0.75
    """
    t, p, w, _ = _labels(targets, predictions, sample_weight)
    xp = t.__array_namespace__()
    right = t == p
    if t.ndim == 2:
        right = xp.all(right | (w == 0 if w.ndim == 2 else False), axis=1)
        w = xp.mean(w, axis=1) if w.ndim == 2 else w
    return float(xp.sum(xp.where(right, w, 0.0)) / xp.sum(w))


def confusion_matrix(
    targets: Data, predictions: Data, *, classes: int | None = None, sample_weight: Data | None = None
) -> HostArray:
    r"""Count how often each class is taken for each: :math:`C_{jk} = \sum_i w_i [t_i = j] [p_i = k]`.

    Parameters
    ----------
    targets, predictions : array of whole numbers (N,)
        True and predicted labels, from 0.
    classes : int, optional
        The number of classes; by default one more than the largest label, and at least 2.
    sample_weight : array (N,) or (N, outputs), optional
        Not negative; 1 each by default.

    Returns
    -------
    host array (classes, classes)
        Rows are the true classes, columns the predicted ones; int64, with weights float64.

    Raises
    ------
    ValueError
        As for `accuracy`, and if a label is out of range or there are several labels a row.

    Examples
    --------
    >>> confusion_matrix([0, 0, 1, 2], [0, 1, 1, 1])
    array([[1, 1, 0],
           [0, 1, 0],
           [0, 1, 0]])
    """
    t, p, w, unit = _labels(targets, predictions, sample_weight)
    if t.ndim != 1:
        raise ValueError(f"expected labels (N,), got {t.shape}. Take one column at a time.")
    xp, k = t.__array_namespace__(), _classes(t, p, classes)
    if k * k > _MAX_CELLS:
        raise ValueError(f"a confusion matrix of {k} classes has {k * k} cells, more than {_MAX_CELLS}.")
    counts = xp.zeros((k, k), dtype=xp.float64)
    for rows in _blocks(t.shape[0], k):
        counts += xp.matrix_transpose(_one_hot(t[rows], k)) @ (_one_hot(p[rows], k) * w[rows, None])
    counted: HostArray = counts * unit if sample_weight is not None else xp.astype(counts, xp.int64)
    return counted


@overload
def precision(
    targets: Data, predictions: Data, *, average: Average = "auto", classes: int | None = None,
    sample_weight: Data | None = None,
) -> float: ...  # fmt: skip
@overload
def precision(
    targets: Data, predictions: Data, *, average: None, classes: int | None = None, sample_weight: Data | None = None
) -> list[float]: ...
def precision(
    targets: Data,
    predictions: Data,
    *,
    average: Average | None = "auto",
    classes: int | None = None,
    sample_weight: Data | None = None,
) -> float | list[float]:
    """Of what was predicted to be of a class, the share that is: TP / (TP + FP).

    TP are the rows of the class that were predicted to be, FP other rows that were, too; 0/0 is 0.

    Parameters
    ----------
    targets, predictions : array of whole numbers, (N,) or (N, outputs)
        True and predicted labels: 0 and 1, classes from 0, or a matrix of 0 and 1, a label for each output.
    average : {"auto", "macro", "micro", "weighted", None}
        "macro": mean over the classes (those that occur, or all outputs); "micro": numerators and
        denominators are summed over the classes first; "weighted": weighted by how often a class is true;
        None: a list with a number for each class; "auto": that of class 1 if there are two, else "macro".
    classes : int, optional
        The number of classes; by default one more than the largest label, and at least 2. Give it where the last
        classes may not occur in the data: "auto" depends on it. A trainer gives that of the network.
    sample_weight : array (N,) or (N, outputs), optional
        Not negative; 1 each by default. Their scale has no effect.

    Returns
    -------
    float, or list of float for ``average=None``

    Raises
    ------
    ValueError
        As for `accuracy`, if a label is out of range, and for an unknown `average`.

    Examples
    --------
    >>> precision([1, 1, 1, 0, 0], [1, 1, 0, 1, 0])
    0.6666666666666666
    >>> precision([0, 1, 2], [0, 2, 2], average=None)
    [1.0, 0.0, 0.5]
    """
    counts = _counts(targets, predictions, classes, sample_weight)
    return _averaged(counts, counts.hits, counts.predicted, average)


@overload
def recall(
    targets: Data, predictions: Data, *, average: Average = "auto", classes: int | None = None,
    sample_weight: Data | None = None,
) -> float: ...  # fmt: skip
@overload
def recall(
    targets: Data, predictions: Data, *, average: None, classes: int | None = None, sample_weight: Data | None = None
) -> list[float]: ...
def recall(
    targets: Data,
    predictions: Data,
    *,
    average: Average | None = "auto",
    classes: int | None = None,
    sample_weight: Data | None = None,
) -> float | list[float]:
    """Of what is of a class, the share that was predicted to be: TP / (TP + FN).

    TP are the rows of the class that were predicted to be, FN those that were not; 0/0 is 0. Parameters,
    results and errors are those of `precision`.

    Examples
    --------
    >>> recall([1, 1, 1, 0, 0], [1, 1, 0, 1, 0])
    0.6666666666666666
    """
    counts = _counts(targets, predictions, classes, sample_weight)
    return _averaged(counts, counts.hits, counts.true, average)


@overload
def f1(
    targets: Data, predictions: Data, *, average: Average = "auto", classes: int | None = None,
    sample_weight: Data | None = None,
) -> float: ...  # fmt: skip
@overload
def f1(
    targets: Data, predictions: Data, *, average: None, classes: int | None = None, sample_weight: Data | None = None
) -> list[float]: ...
def f1(
    targets: Data,
    predictions: Data,
    *,
    average: Average | None = "auto",
    classes: int | None = None,
    sample_weight: Data | None = None,
) -> float | list[float]:
    """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN).

    0/0 is 0. Parameters, results and errors are those of `precision`.

    Examples
    --------
    >>> f1([1, 1, 1, 0], [1, 0, 0, 0])
    0.5
    """
    counts = _counts(targets, predictions, classes, sample_weight)
    return _averaged(counts, 2 * counts.hits, counts.predicted + counts.true, average)


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
    t, p, w, size = _reals(targets, predictions, sample_weight)
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
    t, p, w, size = _reals(targets, predictions, sample_weight)
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
    t, p, w, _ = _reals(targets, predictions, sample_weight)
    xp = t.__array_namespace__()
    error = xp.sum(w * (t - p) ** 2, axis=0)
    spread = xp.sum(w * (t - xp.sum(w * t, axis=0) / xp.sum(w, axis=0)) ** 2, axis=0)
    some = xp.take_along_axis(t, xp.argmax(w, axis=0)[None, :], axis=0)
    constant = xp.all((t == some) | (w == 0), axis=0)  # not spread == 0: the mean is rounded
    scores = 1 - error / xp.where(constant, 1.0, spread)
    return float(xp.mean(xp.where(constant & ~xp.isnan(error), xp.where(error > 0, 0.0, 1.0), scores)))


class Metric(NamedTuple):
    """A metric as the training loop uses it."""

    name: str
    function: Callable[..., Any]
    needs: str  # what it compares with the targets: "labels", "predictions", or "outputs", which no link has turned


_METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy, "labels"),
        Metric("precision", precision, "labels"),
        Metric("recall", recall, "labels"),
        Metric("f1", f1, "labels"),
        Metric("r2", r2, "predictions"),
        Metric("mae", mae, "predictions"),
        Metric("rmse", rmse, "predictions"),
    )
}


MetricLike: TypeAlias = MetricName | Callable[..., SupportsFloat] | Metric


def get(metric: MetricLike) -> Metric:
    """Find a metric by name, or take a function for one.

    Parameters
    ----------
    metric : str or callable
        "accuracy", "precision", "recall", "f1", "r2", "mae", "rmse", or a function
        ``(targets, predictions, *, sample_weight=None) -> float``. Its attribute ``needs``, "predictions"
        unless given, says what it wants: the network's predictions (probabilities after a cross-entropy), its raw
        "outputs" or "labels". One with a parameter ``classes=None``
        is given the network's number of classes there.

    Returns
    -------
    Metric
        ``(name, function, needs)``.

    Raises
    ------
    ValueError
        Unknown name or `needs`.
    TypeError
        Neither a name nor callable.

    Examples
    --------
    >>> get("accuracy").needs, get(max)
    ('labels', Metric(name='max', function=<built-in function max>, needs='predictions'))
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in _METRICS:
            raise ValueError(unknown("metric", metric, _METRICS))
        return _METRICS[metric]
    if not callable(metric):
        raise TypeError(f"expected the name of a metric or a function, got {metric!r}.")
    known = next((entry for entry in _METRICS.values() if entry.function is metric), None)
    name = getattr(metric, "__name__", type(metric).__name__)
    needs = getattr(metric, "needs", known.needs if known else "predictions")
    if needs not in _NEEDS:
        raise ValueError(unknown(f"attribute needs of the metric {name}:", needs, _NEEDS))
    return Metric(name, metric, needs)


def of_classes(function: Callable[..., Any], classes: int) -> Callable[..., Any]:
    """The function with the number of classes bound to its parameter of that name, if it has one that is not set yet.

    >>> of_classes(f1, 3)([0, 0, 0, 1], [0, 0, 0, 0]) == f1([0, 0, 0, 1], [0, 0, 0, 0], average="macro")
    True
    """
    try:
        parameter = inspect.signature(function).parameters.get("classes")
    except (TypeError, ValueError):  # of something built in, which has no signature
        return function
    return function if parameter is None or parameter.default is not None else partial(function, classes=classes)


class _Counts(NamedTuple):
    """For each class, or for each output of a matrix of labels, weighted numbers of rows."""

    hits: Array  # of the class and predicted to be
    predicted: Array
    true: Array
    counted: Array | None  # of a matrix: 1 for the outputs that have any weight, else 0


def _counts(targets: Data, predictions: Data, classes: int | None, sample_weight: Data | None) -> _Counts:
    t, p, w, _ = _labels(targets, predictions, sample_weight)
    xp = t.__array_namespace__()
    if t.ndim == 2:
        t, p = (_indicators(labels, what) for labels, what in ((t, "targets"), (p, "predictions")))
        w = w if w.ndim == 2 else w[:, None]
        counted = xp.astype(xp.max(xp.broadcast_to(w, t.shape), axis=0) > 0, xp.float64)
        hits, predicted, true = (xp.sum(w * of_class, axis=0) for of_class in (t * p, p, t))
        return _Counts(hits, predicted, true, counted)
    k = _classes(t, p, classes)
    hits = predicted = true = xp.zeros(k, dtype=xp.float64)
    for rows in _blocks(t.shape[0], k):
        in_true, in_predicted, weights = _one_hot(t[rows], k), _one_hot(p[rows], k), w[rows]
        hits = hits + weights @ (in_true * in_predicted)
        predicted = predicted + weights @ in_predicted
        true = true + weights @ in_true
    return _Counts(hits, predicted, true, None)


def _averaged(counts: _Counts, top: Array, bottom: Array, average: Average | None) -> float | list[float]:
    if average is not None and average not in _AVERAGES:
        raise ValueError(unknown("average", average, _AVERAGES))
    xp = top.__array_namespace__()
    if average == "micro":
        top, bottom = xp.sum(top, keepdims=True), xp.sum(bottom, keepdims=True)
    scores = xp.where(bottom > 0, top / xp.where(bottom > 0, bottom, 1.0), 0.0)
    if average is None:
        return [float(score) for score in scores]
    if average == "micro":
        return float(scores[0])
    if average == "auto" and counts.counted is None and scores.shape[0] == 2:
        return float(scores[1])
    if average == "weighted":
        weights = counts.true
    elif counts.counted is not None:
        weights = counts.counted
    else:
        weights = xp.astype(counts.predicted + counts.true > 0, xp.float64)
    total = float(xp.sum(weights))
    return float(xp.sum(weights * scores)) / total if total > 0 else 0.0


def _one_hot(labels: Array, classes: int) -> Array:
    xp = labels.__array_namespace__()
    return xp.astype(labels[:, None] == xp.arange(classes)[None, :], xp.float64)


def _blocks(n: int, classes: int) -> Iterator[slice]:
    size = max(1, _BLOCK // classes)
    return (slice(start, start + size) for start in range(0, n, size))


def _classes(t: Array, p: Array, classes: int | None) -> int:
    """Count the classes, after a check that every label is one."""
    xp = t.__array_namespace__()
    low, high = (int(pick(xp.stack((pick(t), pick(p))))) for pick in (xp.min, xp.max))
    k = max(2, high + 1) if classes is None else classes
    if low < 0 or high >= k:
        raise ValueError(f"expected labels of 0 to {k - 1}, got {low if low < 0 else high}.")
    if k > _MAX_CLASSES:
        raise ValueError(f"expected at most {_MAX_CLASSES} classes, got {k}. Number the classes from 0.")
    return k


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


def _labels(targets: Any, predictions: Any, sample_weight: Any) -> tuple[Array, Array, Array, float]:
    """Whole numbers, weights of at most 2, and by what these have been divided."""
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


def _indicators(labels: Array, what: str) -> Array:
    xp = labels.__array_namespace__()
    if xp.min(labels) < 0 or xp.max(labels) > 1:
        raise ValueError(
            f"{what}: expected 0 and 1 in a matrix of labels {labels.shape}, got {xp.min(labels)} to "
            f"{xp.max(labels)}. Give class labels as (N,)."
        )
    return xp.astype(labels, xp.float64)


def _reals(targets: Any, predictions: Any, sample_weight: Any) -> tuple[Array, Array, Array, Array]:
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

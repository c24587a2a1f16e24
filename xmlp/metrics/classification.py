"""Metrics of labels: class labels (N,), or a matrix (N, outputs) of 0 and 1 with a label for each output."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args, overload

from xmlp.errors import unknown
from xmlp.metrics.arrays import indicators, labels_of
from xmlp.metrics.base import Metric
from xmlp.types import Array, Average, Data, HostArray

__all__ = ["accuracy", "confusion_matrix", "f1", "precision", "recall"]

_AVERAGES = get_args(Average)
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
    t, p, w, _ = labels_of(targets, predictions, sample_weight)
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
    t, p, w, unit = labels_of(targets, predictions, sample_weight)
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


Names = Literal["accuracy", "precision", "recall", "f1"]
METRICS = (
    Metric("accuracy", accuracy, "labels", True, "accuracy"),
    Metric("precision", precision, "labels", True, "precision"),
    Metric("recall", recall, "labels", True, "recall"),
    Metric("f1", f1, "labels", True, "F1"),
)


class _Counts(NamedTuple):
    """For each class, or for each output of a matrix of labels, weighted numbers of rows."""

    hits: Array  # of the class and predicted to be
    predicted: Array
    true: Array
    counted: Array | None  # of a matrix: 1 for the outputs that have any weight, else 0


def _counts(targets: Data, predictions: Data, classes: int | None, sample_weight: Data | None) -> _Counts:
    t, p, w, _ = labels_of(targets, predictions, sample_weight)
    xp = t.__array_namespace__()
    if t.ndim == 2:
        t, p = (indicators(labels, what) for labels, what in ((t, "targets"), (p, "predictions")))
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

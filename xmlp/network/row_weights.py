"""Weights of examples, outputs and classes, and targets that are missing: one array of weights, made on the host.

A weight k is the row repeated k times, a weight 0 the row removed, a missing target the weight 0. An array (N,) weighs
examples; (N, outputs) weighs each target by itself, and the weight of an example is then the mean over its outputs.

What is averaged does not depend on the scale of the weights. They are brought to the mean 1 over the whole data set, on
the host and in double precision, and a training step divides its gradient by the number of its rows. So the expected
gradient of a minibatch is that of minibatches of the repeated rows, however few of the heavy rows it holds, and a batch
of all rows has exactly the gradient of all repeated rows. Dividing by the weight of the minibatch would do neither:
a rare heavy row would weigh no more than the batch that it falls into.
"""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xmlp.errors import unknown
from xmlp.host.arrays import check_finite, host_array
from xmlp.types import HostArray


class Mean(NamedTuple):
    """The mean weight of all rows that a stream has given so far: what takes the place of the data set's."""

    rows: int = 0
    value: float = 0.0

    def after(self, weights: HostArray | None, rows: int) -> "Mean":
        """The mean with `rows` more rows of these weights, 1 for each if they are None.

        >>> Mean().after(np.asarray([1.0, 3.0]), 2).after(None, 2)
        Mean(rows=4, value=1.5)
        """
        latest, total = 1.0 if weights is None else _mean(weights), self.rows + rows
        return Mean(total, self.value + (latest - self.value) * (rows / total))


def _mean(weights: HostArray) -> float:
    top = float(weights.max())
    return top * float((weights / top).mean()) if top else 0.0  # at most 1 each: their sum does not overflow


def of_mean_one(weights: HostArray, mean: Mean | None = None) -> HostArray:
    """Weights divided by their mean, or by that of a stream; what weighs nothing at all stays so.

    >>> of_mean_one(np.asarray([1e300, 3e300])).tolist()
    [0.5, 1.5]
    """
    if mean is not None:
        return weights / (mean.value or 1.0)
    top = float(weights.max())
    shares = weights / top if top else weights
    return shares / (float(shares.mean()) or 1.0)


def tame(weights: HostArray | None) -> HostArray | None:
    """Weights whose products neither overflow nor vanish, where their scale has no meaning.

    The factors are the same for each batch of a stream, whose weights are compared with each other.
    """
    top = 1.0 if weights is None else float(weights.max())
    if weights is None or 1e-90 < top < 1e90 or not top:
        return weights
    return weights * (1e-200 if top > 1 else 1e200)


def without_gaps(y: Any, what: str, outputs: int, elementwise: bool) -> tuple[HostArray, HostArray | None]:
    """Targets whose gaps are filled with a target that is there, and 1 where they were known, 0 where not.

    Gaps are masked elements, and NaN among real targets. The second result is None if there are none.

    >>> import numpy as np
    >>> without_gaps([[1.0, np.nan], [3.0, 4.0]], "y", 2, True)[1].tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    masked = isinstance(y, np.ma.MaskedArray)
    host = host_array(np.ma.getdata(y) if masked else y, what, gaps=True)
    of_reals = host.dtype.kind == "f" and (host.ndim == 2 or outputs == 1)  # NaN is no class label
    missing: Any = np.isnan(host) if of_reals else np.zeros(host.shape, bool)
    if masked:
        missing = missing | np.ma.getmaskarray(y)
    if not missing.any():
        return host, None
    if missing.all():
        raise ValueError(f"{what}: every target is missing, so each weight is zero: nothing would be learnt")
    if host.ndim == 1 or elementwise:
        return np.where(missing, host[~missing][0], host), 1.0 - missing
    rows = missing.any(axis=1)
    if (missing.all(axis=1) != rows).any() or rows.all():
        at = int((missing.all(axis=1) != rows).argmax())
        raise ValueError(
            f"{what}: only some of the targets in row {at} are missing, and this loss does not take its outputs one "
            "by one. Leave out whole rows, or use one of the elementwise losses."
        )
    return np.where(rows[:, None], host[~rows][0], host), 1.0 - rows


def given(value: HostArray, rows: int, outputs: int, what: str = "sample_weight") -> HostArray:
    """Check weights (N,) or (N, outputs)."""
    if value.shape not in ((rows,), (rows, outputs)):
        shapes = f"({rows},), one number per row of x" + (f", or ({rows}, {outputs})" if outputs > 1 else "")
        raise ValueError(f"{what} must be {shapes}, got the shape {value.shape}")
    _check(value, what)
    if value.max() == 0:
        raise ValueError(f"{what} is zero for every row: nothing would be learnt")
    return value


def of_outputs(value: Any, outputs: int) -> HostArray:
    """Check weights (outputs,)."""
    host = host_array(value, "output_weight")
    if host.shape != (outputs,):
        raise ValueError(f"output_weight must be ({outputs},), one number per output, got the shape {host.shape}")
    _check(host, "output_weight")
    return host[None, :]


def _check(value: HostArray, what: str) -> None:
    check_finite(value, what)
    if value.min() < 0:
        row = int(value.reshape(len(value), -1).min(axis=1).argmin())
        raise ValueError(f"{what} must not be negative, got {value.min()} in row {row}")


def product(*factors: HostArray | None) -> HostArray | None:
    """The product of weights (N,), (N, outputs) and (1, outputs); None stands for 1."""
    result: HostArray | None = None
    for factor in factors:
        if factor is None:
            continue
        if result is None:
            result = factor.astype(np.float64)
        elif result.ndim == factor.ndim:
            result = result * factor
        else:
            narrow, wide = sorted((result, factor), key=lambda a: a.ndim)
            result = narrow[:, None] * wide
    return result


def by_class(class_weight: Mapping[Any, Any], classes: Sequence[Any]) -> list[Any]:
    """The weight of each class, 1 for those that a dict leaves out.

    A label that is no class is an error, as it may be misspelt, unless all classes have weights: a part of the data may
    lack one. So does scikit-learn.

    >>> by_class({"rare": 5.0}, ["rare", "usual"]), by_class({0: 1.0, 1: 2.0, 2: 9.0}, [0, 1])
    ([5.0, 1.0], [1.0, 2.0])
    """
    known, without = set(classes), [label for label in classes if label not in class_weight]
    if without and (strange := [label for label in class_weight if label not in known]):
        label = np.asarray(strange[0]).item()
        raise ValueError(
            f"class_weight has the label {label!r} and no weight for the label {without[0]!r}; the classes are "
            f"{reprlib.repr(list(classes))}. Write the label as one of them, or give every class a weight."
        )
    return [class_weight.get(label, 1.0) for label in classes]


def of_classes(labels: HostArray, class_weight: Any, base: HostArray | None, several: bool, outputs: int) -> HostArray:
    """The weight of each label (N,), or of each of several labels a row (N, outputs).

    Parameters
    ----------
    labels : array (N,) or (N, outputs)
    class_weight : dict of label to weight, or "balanced"
        As in `by_class`; the classes are those of the outputs, and what other numbers occur. Several labels a row take
        a list of them, one per output (None for no weights), or one for all. "balanced" is W / (classes * W_c), W
        being the weight of all rows and W_c that of the class.
    base : array (N,) or (N, outputs), optional
        The weights of the rows, which balance the classes.
    several : bool
        Whether a row may have several labels, or a matrix is rather one-hot.
    outputs : int
        As many as there are classes, unless a row may have several labels.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if (labels.ndim == 2 and not several) or (labels != np.round(labels)).any():
        raise ValueError("class_weight needs integer class labels as y; use sample_weight instead")
    labels = labels.astype(np.int64)
    if labels.ndim == 1:
        base = np.ones(1) if base is None else base.reshape(len(base), -1).mean(axis=1)
        base = np.broadcast_to(base, labels.shape)
        return _of_labels(labels, class_weight, base, 2 if several else outputs)
    if isinstance(class_weight, (str, Mapping)):
        class_weight = [class_weight] * outputs
    if not isinstance(class_weight, (list, tuple)) or len(class_weight) != outputs:
        raise TypeError(f'class_weight for {outputs} outputs is "balanced", a dict, or a list of {outputs} of them')
    base = np.ones(labels.shape) if base is None else np.broadcast_to(base.reshape(len(base), -1), labels.shape)
    return np.stack([_of_labels(labels[:, k], class_weight[k], base[:, k], 2) for k in range(outputs)], axis=1)


def _of_labels(labels: HostArray, class_weight: Any, base: HostArray, classes: int) -> HostArray:
    if class_weight is None:
        return np.ones(len(labels))
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(labels, weights=base)
        present = counts > 0
        factors = base.sum() / (max(present.sum(), 1) * np.where(present, counts, 1.0))
        return np.asarray(factors[labels])
    if isinstance(class_weight, str):
        raise ValueError(unknown("class_weight", class_weight, ("balanced",)))
    if not isinstance(class_weight, Mapping):
        raise TypeError(f'class_weight is a dict of label to weight or "balanced", got {class_weight!r}')
    known = np.union1d(np.arange(classes), labels)
    weights = host_array(by_class(class_weight, known.tolist()), "class_weight")
    check_finite(weights, "class_weight")
    if weights.min() < 0:
        raise ValueError(f"class_weight must not be negative, got {weights.min()} for {known[weights.argmin()]}")
    return np.asarray(weights[np.searchsorted(known, labels)])

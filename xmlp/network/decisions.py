"""From probabilities to decisions: thresholds that suit a metric, and the temperature that makes probabilities honest.

Both are computed on the host in double precision from data that the network was not trained on.
"""

import math
from collections.abc import Callable

import numpy as np

from xmlp.errors import unknown
from xmlp.losses import Link
from xmlp.types import HostArray

Score = Callable[..., HostArray]
_ALIKE = 1e-12  # scores that differ by roundings only


def _share(part: HostArray, whole: HostArray) -> HostArray:
    """part / whole, and 0 for 0/0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 0.0)


SCORES: dict[str, Score] = {
    "accuracy": lambda tp, fp, fn, tn: _share(tp + tn, tp + fp + fn + tn),
    "balanced_accuracy": lambda tp, fp, fn, tn: (_share(tp, tp + fn) + _share(tn, tn + fp)) / 2,
    "f1": lambda tp, fp, fn, tn: _share(2 * tp, 2 * tp + fp + fn),
    "precision": lambda tp, fp, fn, tn: _share(tp, tp + fp),
    "recall": lambda tp, fp, fn, tn: _share(tp, tp + fn),
}


def score_named(metric: str | Score) -> Score:
    """A score of that name, a vectorised function of the counts (tp, fp, fn, tn); a function is itself."""
    if callable(metric):
        return metric
    if not isinstance(metric, str) or metric not in SCORES:
        raise ValueError(unknown("metric of thresholds", metric, SCORES))
    return SCORES[metric]


def best_thresholds(probabilities: HostArray, truth: HostArray, weights: HostArray, score: Score) -> list[float]:
    """For each output the threshold t with the best score of the decisions p > t.

    Every cut between neighbouring probabilities is tried, and those below and above all of them. Of equal scores the
    threshold nearest to 0.5 is taken; an output whose targets all are missing gets 0.5.

    Parameters
    ----------
    probabilities, truth, weights : array (N, outputs)
        Truth is 0 and 1.
    score : callable
        Of arrays of weighted counts, one element per cut: (tp, fp, fn, tn) -> scores. Where that is NaN, the cut is
        not taken.

    Examples
    --------
    >>> p, truth = np.asarray([[0.125], [0.25], [0.5], [0.75]]), np.asarray([[0], [1], [1], [1]])
    >>> best_thresholds(p, truth, np.ones((4, 1)), SCORES["f1"])
    [0.1875]
    """
    columns = zip(probabilities.T, truth.T, weights.T, strict=True)
    return [_best_threshold(p[w > 0], y[w > 0], _tame(w[w > 0]), score) for p, y, w in columns]


def _tame(weights: HostArray) -> HostArray:
    """Weights of at most 2, whose sums stay in range; divided by a power of two, so that nothing is rounded."""
    w = weights.astype(np.float64)
    return w / math.ldexp(0.5, math.frexp(w.max(initial=0.0))[1])


def _best_threshold(p: HostArray, truth: HostArray, w: HostArray, score: Score) -> float:
    if p.size == 0:
        return 0.5
    values, place = np.unique(p, return_inverse=True)
    below = np.zeros((2, len(values) + 1))  # weight of the negatives and positives that lie below each cut
    for k in (0, 1):
        below[k, 1:] = np.cumsum(np.bincount(place, w * (truth == k), len(values)))
    total = below[:, -1:]
    with np.errstate(all="ignore"):
        scores = np.asarray(score(total[1] - below[1], total[0] - below[0], below[1], below[0]), dtype=np.float64)
    if scores.shape != below[0].shape:
        raise ValueError(f"the metric must give one score per cut, {below[0].shape}, got the shape {scores.shape}")
    scores = np.where(np.isnan(scores), -np.inf, scores)  # 0/0: no score
    if scores.max() == -np.inf:
        raise ValueError("the metric gives NaN at every cut: give 0/0 a value, as with numpy.where")
    cuts = _cuts(values)
    best = cuts[scores >= scores.max() - _ALIKE]
    return float(best[np.abs(best - 0.5).argmin()])


def _cuts(values: HostArray) -> HostArray:
    """Thresholds between ascending probabilities: half-way, or the lower one where no number lies between."""
    first = values.dtype.type(0.0 if values[0] > 0 else -1.0)
    low, high = np.append(first, values), np.append(values, np.maximum(values[-1], values.dtype.type(1.0)))
    half = low + (high - low) / values.dtype.type(2.0)
    return np.where(half < high, half, low)


def best_temperature(logits: HostArray, targets: HostArray, weights: HostArray | None, link: Link) -> float:
    """The T > 0 for which link(logits / T) has the least negative log-likelihood (Guo et al., 2017, section 4.2).

    That is convex in 1 / T, so its derivative is bisected.

    Parameters
    ----------
    logits : array (N, outputs)
    targets : array (N, outputs)
        For a softmax rows of probabilities.
    weights : array (N, outputs), optional
        A softmax takes the same in each column.
    link : Link
        The sigmoid or the softmax.
    """
    z, y = logits.astype(np.float64), targets.astype(np.float64)
    w = np.ones_like(z) if weights is None else _tame(weights)

    def slope(inverse: float) -> float:
        """The derivative of the negative log-likelihood with respect to 1 / T."""
        with np.errstate(under="ignore"):
            p = link.function.evaluate(np, inverse * z)
        return float((w * (p - y) * z).sum())

    low, high = -7.0, 7.0  # of the logarithm of 1 / T: probabilities need not become certain
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(middle)) > 0 else (middle, high)
    return math.exp(-(low + high) / 2)

"""Cross-entropies, from probabilities or from what comes before a sigmoid or softmax."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from array_api_compat import array_namespace

from xmlp.backends.context import Context
from xmlp.graph import Formula, elementwise
from xmlp.losses.base import Loss
from xmlp.losses.elementwise import Standard
from xmlp.losses.links import CLASS, EVENT, Link
from xmlp.losses.targets import class_labels, reals, refuse
from xmlp.types import Array, LinkName, Namespace, Reduction

__all__ = ["BinaryCrossEntropy", "SoftmaxCrossEntropy"]


@elementwise
def cross_entropy_at_logit(xp, z, target):  # type: ignore[no-untyped-def]
    """L = log(1 + exp(z)) - target z, without overflow or cancellation; dL/dz = sigmoid(z) - target."""
    positive = z >= 0
    return z * (xp.where(positive, 1.0, 0.0) - target) + xp.log1p(xp.exp(xp.where(positive, -z, z)))


def _log(xp: Namespace, p: Array) -> Array:
    """log(p), -inf at 0 by selection, without computing log(0); its derivative there is taken as 0."""
    return xp.where(p > 0, xp.log(xp.where(p > 0, p, 1.0)), -xp.inf)


def _log_term(xp: Namespace, weight: Array, p: Array) -> Array:
    """-weight log(p), and 0 where the weight is 0 whatever p is."""
    return -weight * _log(xp, xp.where(weight == 0, 1.0, p))


@elementwise
def cross_entropy_at_probability(xp, a, target):  # type: ignore[no-untyped-def]
    """L = -target log(a) - (1 - target) log(1 - a), with 0 log 0 = 0 (document 002, eq. 15)."""
    return _log_term(xp, target, a) + _log_term(xp, 1.0 - target, 1.0 - a)


@elementwise
def log_term(xp, a, target):  # type: ignore[no-untyped-def]
    """L = -target log(a), with 0 log 0 = 0."""
    return _log_term(xp, target, a)


@dataclass(frozen=True)
class BinaryCrossEntropy(Standard):
    """L = -y log(a) - (1 - y) log(1 - a) for each output by itself (document 002, eq. 15), a = sigmoid(z).

    Parameters
    ----------
    from_logits : bool
        Whether the predictions are z (default) or a. From logits the loss is finite for finite z and dL/dz = a - y;
        from probabilities it is inf where a is 0 or 1 and wrong, 0 where it is right, never nan. A network that ends
        in a sigmoid is trained at its logits whatever this says.
    soft_targets : bool
        Accept targets outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> float(BinaryCrossEntropy()(np.asarray([[0.0]]), np.asarray([[1.0]])))
    0.6931471805599453
    """

    from_logits: bool = True
    reduction: Reduction = "mean"
    soft_targets: bool = False
    link: ClassVar[LinkName | Link] = "sigmoid"
    name: ClassVar[str] = "binary cross-entropy"

    @property
    def formula(self) -> Formula:
        return cross_entropy_at_logit if self.from_logits else cross_entropy_at_probability

    @property
    def output_link(self) -> Link:
        """That of its name for logits, else of probabilities."""
        return super().output_link if self.from_logits else EVENT

    def at_raw_outputs(self) -> "BinaryCrossEntropy":
        return BinaryCrossEntropy(True, self.reduction, self.soft_targets)

    def prepare(self, targets: Array, outputs: int) -> Array:
        y = reals(targets, outputs)
        if not self.soft_targets:
            refuse(array_namespace(y), y, lambda v: (v < 0) | (v > 1), "must lie in [0, 1]", self.name)
        return y


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """L = -sum_k y_k log(p_k), p = softmax(z) (Bridle, 1990); dL/dz = p - y for targets that sum to 1.

    Targets are integer labels (N,) in [0, outputs), or rows of probabilities (N, outputs).

    Parameters
    ----------
    from_logits : bool
        Whether the predictions are z (default) or p; see `BinaryCrossEntropy`. A logit of -inf masks its class.
    soft_targets : bool
        Accept rows that are negative or do not sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> loss = SoftmaxCrossEntropy()
    >>> value, dz = loss.value_and_grad(np.asarray([[1e4, -1e4, 0.0]]), np.asarray([0]))
    >>> float(value), dz.tolist()
    (0.0, [[0.0, 0.0, 0.0]])
    """

    from_logits: bool = True
    reduction: Reduction = "mean"
    soft_targets: bool = False
    link: ClassVar[LinkName | Link] = "softmax"
    name: ClassVar[str] = "softmax cross-entropy"

    @property
    def output_link(self) -> Link:
        """That of its name for logits, else of probabilities."""
        return super().output_link if self.from_logits else CLASS

    def at_raw_outputs(self) -> "SoftmaxCrossEntropy":
        return SoftmaxCrossEntropy(True, self.reduction, self.soft_targets)

    def terms_and_gradient(self, ctx: Context, predictions: Array, targets: Array) -> tuple[Array, Array]:
        xp, classes = ctx.xp, predictions.shape[-1]
        labels = targets.ndim == predictions.ndim - 1
        y = targets
        if labels:
            y = xp.astype(xp.expand_dims(targets, axis=-1) == ctx.index(classes), predictions.dtype)
        if not self.from_logits:
            return ctx.apply(log_term, predictions, y), ctx.apply(log_term.derivative, predictions, y)
        shifted = predictions - xp.max(predictions, axis=-1, keepdims=True)
        e = xp.exp(shifted)
        total = xp.sum(e, axis=-1, keepdims=True)
        log_p = shifted - xp.log(total)
        terms = -y * xp.where(y == 0, 0.0, log_p)  # a masked class has log p = -inf
        p = e / total
        return terms, (p - y if labels else p * xp.sum(y, axis=-1, keepdims=True) - y)

    def prepare(self, targets: Array, outputs: int) -> Array:
        xp = array_namespace(targets)
        if targets.ndim == 2 and targets.shape[1] == 1 and outputs > 1 and xp.isdtype(targets.dtype, "integral"):
            targets = xp.reshape(targets, (-1,))
        if targets.ndim == 1:
            return class_labels(xp, targets, outputs)
        y = reals(targets, outputs)
        if not self.soft_targets:
            refuse(xp, y, lambda v: (v < 0) | (v > 1), "must lie in [0, 1]", self.name)
            sums = xp.sum(y, axis=1)
            refuse(xp, sums, lambda v: xp.abs(v - 1.0) > 1e-3, "must sum to 1 over the classes", self.name)
        return y

    def _check_predictions(self, xp: Namespace, predictions: Array) -> None:
        if self.from_logits and bool(xp.any(xp.max(predictions, axis=1) == -xp.inf)):
            raise ValueError(f"{self.name}: all logits of an example are -inf, so no class is left to choose")


Names = Literal["binary_cross_entropy", "softmax_cross_entropy"]
LOSSES: dict[str, type[Loss]] = {
    "binary_cross_entropy": BinaryCrossEntropy, "softmax_cross_entropy": SoftmaxCrossEntropy,
}  # fmt: skip

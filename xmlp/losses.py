"""Losses. The terms of one example are summed over its outputs, then averaged over the batch.

From a loss the training step takes three things: the sum of the weighted terms, the sum of the weights, and the
gradient of the first with respect to the predictions. The two sums travel separately, so that batches of any sizes add
up exactly.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from array_api_compat import array_namespace, device

from xmlp.backends.context import Context, plain
from xmlp.errors import unknown
from xmlp.graph import Formula, elementwise
from xmlp.host.once import once
from xmlp.host.scalars import Normalized, normalize
from xmlp.host.settings import flag, number
from xmlp.types import Array

__all__ = [
    "AbsoluteError", "BinaryCrossEntropy", "Huber", "Loss", "SoftmaxCrossEntropy", "SquaredError",
]  # fmt: skip


@dataclass(frozen=True)
class Loss(Normalized, ABC):
    """A loss: terms of shape (N, outputs) and their gradient with respect to the predictions.

    Attributes
    ----------
    reduction : {"mean", "sum", "none"}
        How the losses of the examples become one number: their weighted mean, their weighted sum, or not at all.
    link : str
        What turns the raw outputs of a network trained with it into predictions: "identity", "sigmoid", "softmax".
    elementwise : bool
        Whether each term depends on one output alone: then outputs can have weights of their own.
    """

    link: ClassVar[str] = "identity"
    elementwise: ClassVar[bool] = False
    name: ClassVar[str] = "loss"

    def __post_init__(self) -> None:
        Normalized.__post_init__(self)
        _check_reduction(getattr(self, "reduction", "mean"))
        for name in ("half", "from_logits", "soft_targets"):
            flag(getattr(self, name, False), f"{type(self).__name__}({name})")

    if TYPE_CHECKING:  # a field of every concrete loss, with a default; declared here it would have to come first

        @property
        def reduction(self) -> str: ...

    @abstractmethod
    def terms_and_gradient(self, ctx: Context, predictions: Array, targets: Array) -> tuple[Array, Array]:
        """The loss terms, and the derivative of their sum with respect to the predictions; both (N, outputs)."""

    def at_raw_outputs(self) -> "Loss":
        """The same loss as a function of what comes before the link: at logits instead of probabilities."""
        return self

    def prepare(self, targets: Array, outputs: int) -> Array:
        """Check host targets; returns them as `terms_and_gradient` takes them, (N, outputs) or labels (N,)."""
        return reals(targets, outputs)

    # --- inside a step: pure, on device arrays ------------------------------------------------------------------------

    def parts(
        self, ctx: Context, predictions: Array, targets: Array, sample_weight: Array | None
    ) -> tuple[Array, Array | float, Array]:
        """(sum of weighted losses, sum of the examples' weights, gradient of the first); `xmlp.network.row_weights`."""
        return _weighted(ctx.xp, *self.terms_and_gradient(ctx, predictions, targets), sample_weight)

    def reduced(self, xp: Any, total: Array, weight: Array | float, gradient: Array) -> tuple[Array, Array]:
        """The loss and its gradient after the reduction over the batch; both 0 if all weights are."""
        if self.reduction == "mean":
            divisor = xp.where(weight > 0, weight, 1.0) if hasattr(weight, "dtype") else weight
            return total / divisor, gradient / divisor
        if self.reduction == "sum":
            return total, gradient
        raise ValueError(
            'reduction "none" gives one loss per example, which has no single gradient: use "mean" or "sum"'
        )

    # --- for people ---------------------------------------------------------------------------------------------------

    def _terms(self, predictions: Array, targets: Array) -> tuple[Any, Array, Array]:
        xp = array_namespace(predictions)
        if predictions.ndim != 2:
            raise ValueError(f"{self.name}: predictions must be (N, outputs), got the shape {tuple(predictions.shape)}")
        if not xp.isdtype(predictions.dtype, "real floating"):
            raise TypeError(f"{self.name}: predictions must be float32 or float64, got {predictions.dtype}")
        if predictions.shape[0] == 0:
            raise ValueError(f"{self.name}: no examples")
        prepared = self.prepare(targets, predictions.shape[1])
        if prepared.shape[0] != predictions.shape[0]:
            raise ValueError(f"{self.name}: {predictions.shape[0]} predictions, {prepared.shape[0]} targets")
        if prepared.ndim == 2:
            prepared = xp.astype(prepared, predictions.dtype)
        self._check_predictions(xp, predictions)
        terms, gradient = self.terms_and_gradient(plain(xp, device(predictions)), predictions, prepared)
        return xp, terms, gradient

    def _check_predictions(self, xp: Any, predictions: Array) -> None:
        """Refuse predictions for which the loss has no meaning."""

    def per_example(self, predictions: Array, targets: Array) -> Array:
        """One loss per example, shape (N,): the sum over its outputs (document 002, eq. 22)."""
        xp, terms, _ = self._terms(predictions, targets)
        return xp.sum(terms, axis=1)

    def per_output(self, predictions: Array, targets: Array) -> Array:
        """One loss per output, shape (outputs,): the sum over the examples (document 003, section 2.1)."""
        xp, terms, _ = self._terms(predictions, targets)
        return xp.sum(terms, axis=0)

    def __call__(self, predictions: Array, targets: Array, *, sample_weight: Array | None = None) -> Array:
        """The loss of a batch: a 0-d array, or (N,) where the reduction is "none"."""
        if self.reduction == "none":
            if sample_weight is None:
                return self.per_example(predictions, targets)
            xp, terms, _ = self._terms(predictions, targets)
            return xp.sum(_counted(xp, terms, self._checked_weights(xp, terms, sample_weight)), axis=1)
        return self.value_and_grad(predictions, targets, sample_weight=sample_weight)[0]

    def value_and_grad(
        self, predictions: Array, targets: Array, *, sample_weight: Array | None = None
    ) -> tuple[Array, Array]:
        """The loss of a batch and its gradient with respect to the predictions, (N, outputs)."""
        xp, terms, gradient = self._terms(predictions, targets)
        if sample_weight is not None:
            sample_weight = self._checked_weights(xp, terms, sample_weight)
        return self.reduced(xp, *_weighted(xp, terms, gradient, sample_weight))

    def _checked_weights(self, xp: Any, terms: Array, weight: Array) -> Array:
        """Weights in the dtype of the terms; for a mean at most 1, so that small ones do not round to 0."""
        shapes = [tuple(terms.shape[:1]), *([tuple(terms.shape)] if self.elementwise else [])]
        if tuple(weight.shape) not in shapes:
            wanted, got = " or ".join(map(str, shapes)), tuple(weight.shape)
            raise ValueError(f"sample_weight must be {wanted}, got the shape {got}")
        if not xp.isdtype(weight.dtype, "real floating"):
            weight = xp.astype(weight, terms.dtype)
        if not bool(xp.all(xp.isfinite(weight) & (weight >= 0))):
            raise ValueError("sample_weight must be finite and not negative")
        if self.reduction == "mean":
            top = xp.max(weight)
            weight = weight / xp.where(top > 0, top, 1.0)
        return xp.astype(weight, terms.dtype)


def _weighted(
    xp: Any, terms: Array, gradient: Array, sample_weight: Array | None
) -> tuple[Array, Array | float, Array]:
    """(sum of weighted terms, sum of the examples' weights, weighted gradient) of terms and gradient (..., N, outputs):
    the sums of each member of a stack.
    """
    whole = (-2, -1)
    if sample_weight is None:
        # float() would tie the plan to this number of rows
        return xp.sum(terms, axis=whole), 1.0 * terms.shape[-2], gradient
    if sample_weight.ndim == terms.ndim:
        weight = xp.sum(sample_weight, axis=whole) / float(terms.shape[-1])
    else:
        weight = xp.sum(sample_weight, axis=-1)
    return xp.sum(_counted(xp, terms, sample_weight), axis=whole), weight, _counted(xp, gradient, sample_weight)


def _counted(xp: Any, values: Array, weight: Array) -> Array:
    """Values (..., N, outputs) times weights (..., N) or (..., N, outputs); 0 where it weighs 0, even if infinite."""
    w = weight if weight.ndim == values.ndim else xp.expand_dims(weight, axis=-1)
    return xp.where(w > 0, values, 0.0) * w


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(unknown("reduction", reduction, ("mean", "sum", "none")))


@dataclass(frozen=True)
class ElementwiseLoss(Loss):
    """A loss whose terms are a formula of (prediction, target); the gradient is the formula's derivative.

    Examples
    --------
    >>> import numpy as np, xmlp
    >>> @xmlp.elementwise
    ... def quartic(xp, prediction, target):
    ...     return (prediction - target) ** 4
    >>> loss = xmlp.losses.ElementwiseLoss(quartic)
    >>> float(loss(np.asarray([[1.0], [3.0]]), np.asarray([[0.0], [1.0]])))
    8.5
    """

    formula: Formula
    reduction: str = "mean"
    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        if len(self.formula.arrays) != 2:
            raise ValueError(
                f"a loss formula takes (prediction, target), {self.formula.name} takes {self.formula.arrays}"
            )

    def terms_and_gradient(self, ctx: Context, predictions: Array, targets: Array) -> tuple[Array, Array]:
        terms = ctx.apply(self.formula, predictions, targets)
        return terms, ctx.apply(self.formula.derivative, predictions, targets)


@elementwise
def squared_error(xp, prediction, target, *, factor):  # type: ignore[no-untyped-def]
    """L = factor (prediction - target)^2."""
    return factor * (prediction - target) ** 2


@elementwise
def absolute_error(xp, prediction, target):  # type: ignore[no-untyped-def]
    """L = |prediction - target|, with derivative 0 at 0."""
    return xp.abs(prediction - target)


@elementwise
def huber(xp, prediction, target, *, delta):  # type: ignore[no-untyped-def]
    """L = u^2 / 2 + delta (|d| - u) with d = prediction - target and u = min(|d|, delta)."""
    distance = xp.abs(prediction - target)
    u = xp.minimum(distance, delta)
    return 0.5 * u**2 + delta * (distance - u)


@elementwise
def cross_entropy_at_logit(xp, z, target):  # type: ignore[no-untyped-def]
    """L = log(1 + exp(z)) - target z, without overflow or cancellation; dL/dz = sigmoid(z) - target."""
    positive = z >= 0
    return z * (xp.where(positive, 1.0, 0.0) - target) + xp.log1p(xp.exp(xp.where(positive, -z, z)))


def _log(xp: Any, p: Array) -> Array:
    """log(p), -inf at 0 by selection, without computing log(0); its derivative there is taken as 0."""
    return xp.where(p > 0, xp.log(xp.where(p > 0, p, 1.0)), -xp.inf)


def _log_term(xp: Any, weight: Array, p: Array) -> Array:
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
class _Standard(Loss):
    """A built-in elementwise loss: `formula` says which, with which scalars."""

    elementwise: ClassVar[bool] = True

    def terms_and_gradient(self, ctx: Context, predictions: Array, targets: Array) -> tuple[Array, Array]:
        return ElementwiseLoss(self.formula).terms_and_gradient(ctx, predictions, targets)

    @property
    @abstractmethod
    def formula(self) -> Formula:
        """The formula of (prediction, target)."""


@dataclass(frozen=True)
class SquaredError(_Standard):
    """L = (y_hat - y)^2, or half of it (document 003, section 2.2.1; with `half` the negative log-likelihood of a
    Gaussian with unit variance, up to a constant).

    >>> import numpy as np
    >>> float(SquaredError()(np.asarray([[3.0]]), np.asarray([[1.0]])))
    4.0
    """

    half: bool = False
    reduction: str = "mean"
    name: ClassVar[str] = "squared error"

    @property
    def formula(self) -> Formula:
        return squared_error.bind(factor=0.5 if self.half else 1.0)


@dataclass(frozen=True)
class AbsoluteError(_Standard):
    """L = |y_hat - y|; the derivative at 0 is 0."""

    reduction: str = "mean"
    name: ClassVar[str] = "absolute error"

    @property
    def formula(self) -> Formula:
        return absolute_error


@dataclass(frozen=True)
class Huber(_Standard):
    """L = d^2 / 2 for |d| <= delta, delta (|d| - delta / 2) beyond, d = y_hat - y (Huber, 1964)."""

    delta: float = 1.0
    reduction: str = "mean"
    name: ClassVar[str] = "Huber loss"

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        number(self.delta, "delta", above=True)

    @property
    def formula(self) -> Formula:
        return huber.bind(delta=self.delta)


@dataclass(frozen=True)
class BinaryCrossEntropy(_Standard):
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
    reduction: str = "mean"
    soft_targets: bool = False
    link: ClassVar[str] = "sigmoid"
    name: ClassVar[str] = "binary cross-entropy"

    @property
    def formula(self) -> Formula:
        return cross_entropy_at_logit if self.from_logits else cross_entropy_at_probability

    def at_raw_outputs(self) -> "BinaryCrossEntropy":
        return BinaryCrossEntropy(True, self.reduction, self.soft_targets)

    def prepare(self, targets: Array, outputs: int) -> Array:
        y = reals(targets, outputs)
        if not self.soft_targets:
            _refuse(array_namespace(y), y, lambda v: (v < 0) | (v > 1), "must lie in [0, 1]", self.name)
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
    reduction: str = "mean"
    soft_targets: bool = False
    link: ClassVar[str] = "softmax"
    name: ClassVar[str] = "softmax cross-entropy"

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
            return _labels(xp, targets, outputs)
        y = reals(targets, outputs)
        if not self.soft_targets:
            _refuse(xp, y, lambda v: (v < 0) | (v > 1), "must lie in [0, 1]", self.name)
            sums = xp.sum(y, axis=1)
            _refuse(xp, sums, lambda v: xp.abs(v - 1.0) > 1e-3, "must sum to 1 over the classes", self.name)
        return y

    def _check_predictions(self, xp: Any, predictions: Array) -> None:
        if self.from_logits and bool(xp.any(xp.max(predictions, axis=1) == -xp.inf)):
            raise ValueError(f"{self.name}: all logits of an example are -inf, so no class is left to choose")


@dataclass(frozen=True)
class UserLoss(Loss):
    """An object with `fn(predictions, targets)` and `deriv(predictions, targets)` as a loss.

    `deriv` gives the derivative of the terms, (N, outputs); `fn` the terms themselves, or one loss per example (N,).
    """

    functions: Any
    reduction: str = "mean"
    name: ClassVar[str] = "user loss"

    def terms_and_gradient(self, ctx: Context, predictions: Array, targets: Array) -> tuple[Array, Array]:
        terms = self.functions.fn(predictions, targets)
        if terms.ndim < predictions.ndim:
            terms = ctx.xp.expand_dims(terms, axis=-1)
        return terms, self.functions.deriv(predictions, targets)


def reals(targets: Array, outputs: int) -> Array:
    """Targets as (N, outputs) reals; (N,) is accepted where there is one output."""
    xp = array_namespace(targets)
    if targets.ndim == 1 and outputs == 1:
        targets = xp.reshape(targets, (-1, 1))
    if targets.ndim != 2 or targets.shape[1] != outputs:
        expected = f"(N, {outputs})" + (" or (N,)" if outputs == 1 else "")
        hint = " For class labels use SoftmaxCrossEntropy." if targets.ndim == 1 and outputs > 1 else ""
        raise ValueError(f"targets must have the shape {expected}, got {tuple(targets.shape)}.{hint}")
    if not xp.isdtype(targets.dtype, "real floating"):
        targets = xp.astype(targets, xp.float64 if hasattr(xp, "float64") else xp.float32)
    _refuse(xp, targets, lambda v: ~xp.isfinite(v), "must be finite", "targets")
    return targets


def _labels(xp: Any, targets: Array, outputs: int) -> Array:
    if xp.isdtype(targets.dtype, "real floating"):
        _refuse(xp, targets, lambda v: ~xp.isfinite(v) | (v != xp.round(v)), "must be whole numbers", "class labels")
    if xp.isdtype(targets.dtype, "bool"):
        targets = xp.astype(targets, xp.int32)
    _refuse(xp, targets, lambda v: (v < 0) | (v >= outputs), f"must lie in 0..{outputs - 1}", "class labels")
    return xp.astype(targets, xp.int32) if xp.isdtype(targets.dtype, "real floating") else targets


def _refuse(xp: Any, values: Array, wrong: Callable[[Array], Array], rule: str, what: str) -> None:
    """Raise for the first element that is wrong, naming its place."""
    bad = wrong(values)
    if xp.any(bad):
        count = int(xp.sum(xp.astype(bad, xp.int32)))
        first = int(xp.argmax(xp.astype(xp.reshape(bad, (-1,)), xp.int32)))
        columns = values.shape[1] if values.ndim == 2 else 1
        place = f"row {first // columns}" + (f", output {first % columns}" if values.ndim == 2 else "")
        value = xp.reshape(values, (-1,))[first]
        number = int(value) if xp.isdtype(values.dtype, "integral") else float(value)
        more = f" ({count} such)" if count > 1 else ""
        raise ValueError(f"{what}: targets {rule}, got {number!r} in {place}{more}")


LOSSES: dict[str, type[Loss]] = {
    "squared_error": SquaredError,
    "absolute_error": AbsoluteError,
    "huber": Huber,
    "binary_cross_entropy": BinaryCrossEntropy,
    "softmax_cross_entropy": SoftmaxCrossEntropy,
}


@once
def _with_defaults(kind: type[Loss]) -> Loss:
    return kind()


def get(loss: Any) -> Loss:
    """The loss of that name; a loss is itself; a formula of (prediction, target) becomes one; `fn` and `deriv` too."""
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(unknown("loss", loss, LOSSES))
        return _with_defaults(LOSSES[loss])
    if isinstance(loss, Loss):
        if hasattr(loss, "__dataclass_fields__"):  # of the user's own, whose __post_init__ may not call the base's
            normalize(loss)
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise TypeError(f"the loss is the class {loss.__name__}, not an instance: write {loss.__name__}()")
    if isinstance(loss, Formula):
        return ElementwiseLoss(loss)
    if hasattr(loss, "fn") and hasattr(loss, "deriv"):
        return UserLoss(loss)
    raise TypeError(
        f"a loss is a name, a Loss, a formula of (prediction, target), or an object with fn and deriv, got {loss!r}"
    )

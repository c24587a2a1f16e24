"""What a loss is, and how the terms of the examples become one number."""

from abc import ABC
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from array_api_compat import array_namespace, device

from xmlp.backends import derived
from xmlp.backends.context import Context, plain
from xmlp.errors import unknown
from xmlp.host.scalars import Normalized
from xmlp.host.settings import flag
from xmlp.losses.links import Link, link
from xmlp.losses.targets import reals
from xmlp.types import Array, Differentiable, LinkName, Namespace, Reduction


@dataclass(frozen=True)
class Loss(Normalized, ABC):
    """A loss: terms of shape (N, outputs) and their gradient with respect to the predictions.

    Attributes
    ----------
    reduction : {"mean", "sum", "none"}
        How the losses of the examples become one number: their weighted mean, their weighted sum, or not at all.
    link : str or Link
        What turns the raw outputs of a network trained with it into predictions: "identity", "sigmoid", "softmax", or
        a `Link` of your own.
    elementwise : bool
        Whether each term depends on one output alone: then outputs can have weights of their own.
    """

    link: ClassVar[LinkName | Link] = "identity"
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

    def terms(self, ctx: Context, predictions: Array, targets: Array) -> Array:
        """The loss terms (N, outputs), or one for each example (N,): what a loss of one's own must say, unless it
        writes `terms_and_gradient`.
        """
        if type(self).terms_and_gradient is Loss.terms_and_gradient:
            raise NotImplementedError(f"{type(self).__name__} is a loss without terms: write its method terms")
        return self.terms_and_gradient(ctx, predictions, targets)[0]

    def terms_and_gradient(self, ctx: Context, predictions: Array, targets: Array) -> tuple[Array, Array]:
        """The loss terms, and the derivative of their sum with respect to the predictions; both (N, outputs).

        The derivative is derived from `terms`, which then are of operations that can be traced, unless it is written.
        """

        def total(ctx: Context, predictions: Array, targets: Array) -> Array:
            return ctx.xp.sum(self.terms(ctx, predictions, targets))

        terms = _columns(ctx.xp, self.terms(ctx, predictions, targets), predictions.ndim)
        found = derived.pullback(total, self, ctx, 1.0, {"predictions": predictions}, {"targets": targets})
        return terms, found["predictions"]

    def residuals(self, ctx: Context, predictions: Array, targets: Array) -> Array:
        """r, of the shape of the predictions, of a loss whose terms are r^2 / 2.

        Raises
        ------
        TypeError
            If the loss is not a sum of squares.
        """
        raise TypeError(f"the {self.name} is not a sum of squares, which residuals are of: take the squared error")

    @property
    def output_link(self) -> Link:
        """The link for the outputs that the loss takes: that of outputs which are probabilities already if they are."""
        return link(self.link)

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

    def reduced(self, xp: Namespace, total: Array, weight: Array | float, gradient: Array) -> tuple[Array, Array]:
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
        prepared = xp.astype(prepared, predictions.dtype if prepared.ndim == 2 else xp.int32)
        self._check_predictions(xp, predictions)
        terms, gradient = self.terms_and_gradient(plain(xp, device(predictions)), predictions, prepared)
        return xp, terms, gradient

    def _check_predictions(self, xp: Namespace, predictions: Array) -> None:
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

    def _checked_weights(self, xp: Namespace, terms: Array, weight: Array) -> Array:
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
    xp: Namespace, terms: Array, gradient: Array, sample_weight: Array | None
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


def _counted(xp: Namespace, values: Array, weight: Array) -> Array:
    """Values (..., N, outputs) times weights (..., N) or (..., N, outputs); 0 where it weighs 0, even if infinite."""
    w = weight if weight.ndim == values.ndim else xp.expand_dims(weight, axis=-1)
    return xp.where(w > 0, values, 0.0) * w


def _columns(xp: Namespace, terms: Array, ndim: int) -> Array:
    """Terms as (..., N, outputs), if they are one for each example."""
    return terms if terms.ndim == ndim else xp.expand_dims(terms, axis=-1)


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(unknown("reduction", reduction, ("mean", "sum", "none")))


@dataclass(frozen=True)
class UserLoss(Loss):
    """An object with `fn(predictions, targets)` and `deriv(predictions, targets)` as a loss.

    `deriv` gives the derivative of the terms, (N, outputs); `fn` the terms themselves, or one loss per example (N,).
    """

    functions: Differentiable
    reduction: Reduction = "mean"
    name: ClassVar[str] = "user loss"

    def terms_and_gradient(self, ctx: Context, predictions: Array, targets: Array) -> tuple[Array, Array]:
        terms = _columns(ctx.xp, self.functions.fn(predictions, targets), predictions.ndim)
        return terms, self.functions.deriv(predictions, targets)

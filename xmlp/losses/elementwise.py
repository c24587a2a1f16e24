"""Losses whose terms are a formula of prediction and target."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from xmlp.backends.context import Context
from xmlp.graph import Formula, elementwise
from xmlp.host.settings import number
from xmlp.losses.base import Loss
from xmlp.types import Array, Reduction

__all__ = ["AbsoluteError", "ElementwiseLoss", "Huber", "SquaredError"]


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
    reduction: Reduction = "mean"
    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        if len(self.formula.arrays) != 2:
            raise ValueError(
                f"a loss formula takes (prediction, target), {self.formula.name} takes {self.formula.arrays}"
            )

    def terms_and_gradient(self, ctx: Context, predictions: Array, targets: Array) -> tuple[Array, Array]:
        return _evaluated(self.formula, ctx, predictions, targets)


def _evaluated(formula: Formula, ctx: Context, predictions: Array, targets: Array) -> tuple[Array, Array]:
    """A formula of (prediction, target) and its derivative."""
    return ctx.apply(formula, predictions, targets), ctx.apply(formula.derivative, predictions, targets)


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


@dataclass(frozen=True)
class Standard(Loss):
    """A built-in elementwise loss: `formula` says which, with which scalars."""

    elementwise: ClassVar[bool] = True

    def terms_and_gradient(self, ctx: Context, predictions: Array, targets: Array) -> tuple[Array, Array]:
        return _evaluated(self.formula, ctx, predictions, targets)

    @property
    @abstractmethod
    def formula(self) -> Formula:
        """The formula of (prediction, target)."""


@dataclass(frozen=True)
class SquaredError(Standard):
    """L = (y_hat - y)^2, or half of it (document 003, section 2.2.1; with `half` the negative log-likelihood of a
    Gaussian with unit variance, up to a constant).

    >>> import numpy as np
    >>> float(SquaredError()(np.asarray([[3.0]]), np.asarray([[1.0]])))
    4.0
    """

    half: bool = False
    reduction: Reduction = "mean"
    name: ClassVar[str] = "squared error"

    @property
    def _factor(self) -> float:
        return 0.5 if self.half else 1.0

    @property
    def formula(self) -> Formula:
        return squared_error.bind(factor=self._factor)

    def residuals(self, ctx: Context, predictions: Array, targets: Array) -> Array:
        return (predictions - targets) * (2.0 * self._factor) ** 0.5


@dataclass(frozen=True)
class AbsoluteError(Standard):
    """L = |y_hat - y|; the derivative at 0 is 0."""

    reduction: Reduction = "mean"
    name: ClassVar[str] = "absolute error"

    @property
    def formula(self) -> Formula:
        return absolute_error


@dataclass(frozen=True)
class Huber(Standard):
    """L = d^2 / 2 for |d| <= delta, delta (|d| - delta / 2) beyond, d = y_hat - y (Huber, 1964)."""

    delta: float = 1.0
    reduction: Reduction = "mean"
    name: ClassVar[str] = "Huber loss"

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        number(self.delta, "delta", above=True)

    @property
    def formula(self) -> Formula:
        return huber.bind(delta=self.delta)


Names = Literal["squared_error", "absolute_error", "huber"]
LOSSES: dict[str, type[Loss]] = {"squared_error": SquaredError, "absolute_error": AbsoluteError, "huber": Huber}

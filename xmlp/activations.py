"""Activation functions. Each is a formula whose derivative comes from its graph; the softmax alone is not elementwise.

Smooth formulas are written with one condition each, so that their derivatives are right at exactly 0, and never
compute what would overflow in the branch that is not taken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from xmlp.errors import unknown
from xmlp.graph import Formula, elementwise
from xmlp.types import Array, Differentiable, Namespace

__all__ = [
    "elu", "gelu", "hard_sigmoid", "hard_tanh", "identity", "leaky_relu", "mish", "relu", "selu", "sigmoid", "silu",
    "softmax", "softplus", "tanh",
]  # fmt: skip


@elementwise
def identity(x):  # type: ignore[no-untyped-def]
    """f(x) = x."""
    return x


@elementwise
def relu(xp, x):  # type: ignore[no-untyped-def]
    """f(x) = max(x, 0), with f'(0) = 0 (Nair & Hinton, 2010)."""
    return xp.maximum(x, 0.0)


@elementwise
def leaky_relu(xp, x, *, alpha=0.01):  # type: ignore[no-untyped-def]
    """f(x) = x for x > 0, alpha x otherwise (Maas et al., 2013)."""
    return xp.where(x > 0, x, alpha * x)


@elementwise
def elu(xp, x, *, alpha=1.0):  # type: ignore[no-untyped-def]
    """f(x) = x for x > 0, alpha (exp(x) - 1) otherwise (Clevert et al., 2016)."""
    return xp.where(x > 0, x, alpha * xp.expm1(xp.where(x > 0, 0.0, x)))


@elementwise
def selu(xp, x):  # type: ignore[no-untyped-def]
    """f(x) = scale elu(x, alpha) with the constants that keep mean 0 and variance 1 (Klambauer et al., 2017)."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return scale * xp.where(x > 0, x, alpha * xp.expm1(xp.where(x > 0, 0.0, x)))


@elementwise
def softplus(xp, x):  # type: ignore[no-untyped-def]
    """f(x) = log(1 + exp(x)); its derivative is the sigmoid (Dugas et al., 2001)."""
    positive = x >= 0
    return xp.where(positive, x, 0.0) + xp.log1p(xp.exp(xp.where(positive, -x, x)))


@elementwise
def sigmoid(xp, x):  # type: ignore[no-untyped-def]
    """f(x) = 1 / (1 + exp(-x)), with f' = f (1 - f)."""
    e = xp.exp(xp.where(x >= 0, -x, x))
    return xp.where(x >= 0, 1.0, e) / (1.0 + e)


@elementwise
def tanh(xp, x):  # type: ignore[no-untyped-def]
    """f(x) = tanh(x), with f' = 1 - f^2."""
    return xp.tanh(x)


def _gated(xp: Namespace, x: Array, low: float, high: float, gate: Callable[[Array], Array]) -> Array:
    """x gate(x) for a gate that is 0 below `low` and 1 above `high` to the last digit: never inf * 0."""
    u = xp.where(x > high, high, xp.maximum(x, low))
    return xp.where(x > high, x, u * gate(u))


@elementwise
def _logistic(xp, x):  # type: ignore[no-untyped-def]
    """The sigmoid for |x| < 88, where exp(x) is finite in float32."""
    e = xp.exp(x)
    return e / (1.0 + e)


@elementwise
def gelu(xp, x):  # type: ignore[no-untyped-def]
    """f(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the approximation of Hendrycks & Gimpel (2016).

    Written with (1 + tanh(v)) / 2 = sigmoid(2 v): for negative x, 1 + tanh(v) would lose all its digits.
    """
    c = 1.5957691216057308  # 2 sqrt(2 / pi)
    return _gated(xp, x, -10.0, 7.5, lambda u: _logistic(c * (u + 0.044715 * u**3)))


@elementwise
def silu(xp, x):  # type: ignore[no-untyped-def]
    """f(x) = x sigmoid(x), also called swish (Elfwing et al., 2018)."""
    return _gated(xp, x, -750.0, 50.0, sigmoid)


@elementwise
def mish(xp, x):  # type: ignore[no-untyped-def]
    """f(x) = x tanh(softplus(x)) (Misra, 2020).

    Written with tanh(log(1 + exp(x))) = p / (p + 2), p = exp(x) (exp(x) + 2): 1 - tanh^2 would lose its digits.
    """
    return _gated(xp, x, -750.0, 50.0, _mish_gate)


@elementwise
def _mish_gate(xp, x):  # type: ignore[no-untyped-def]
    """p / (p + 2); for positive x, numerator and denominator times exp(-2 x)."""
    positive = x >= 0
    e = xp.exp(xp.where(positive, -x, x))
    p = xp.where(positive, 1.0 + 2.0 * e, e * (e + 2.0))
    return p / (p + xp.where(positive, 2.0 * e * e, 2.0))


@elementwise
def hard_sigmoid(xp, x):  # type: ignore[no-untyped-def]
    """f(x) = (x + 3) / 6, kept between 0 and 1 (Howard et al., 2019).

    The sum comes first: near -3 it is exact, where x / 6 + 1 / 2 would cancel.
    """
    return xp.minimum(xp.maximum(x + 3.0, 0.0), 6.0) / 6.0


@elementwise
def hard_tanh(xp, x):  # type: ignore[no-untyped-def]
    """f(x) = x, kept between -1 and 1 (Collobert, 2004)."""
    return xp.minimum(xp.maximum(x, -1.0), 1.0)


class Softmax:
    """a_i = exp(z_i) / sum_j exp(z_j) along the last axis.

    Not elementwise: the Jacobian da_i/dz_j = a_i (1[i = j] - a_j) is full, so that dz = a (da - sum_j da_j a_j).
    """

    name = "softmax"

    def __reduce__(self) -> str:
        return "softmax"  # there is one

    def __repr__(self) -> str:
        return self.name

    def evaluate(self, xp: Namespace, z: Array) -> Array:
        """a, without overflow: the largest z of a row becomes 0."""
        e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
        return e / xp.sum(e, axis=-1, keepdims=True)

    @cached_property
    def pullback(self) -> "SoftmaxPullback":
        """dz from (z, a, da)."""
        return SoftmaxPullback()


class SoftmaxPullback:
    """dz of the softmax from (z, a, da); z is not read."""

    reads = frozenset({"output", "dy"})

    def evaluate(self, xp: Namespace, z: Array, a: Array, da: Array) -> Array:
        """dz = a (da - sum_j da_j a_j)."""
        return a * (da - xp.sum(da * a, axis=-1, keepdims=True))


softmax = Softmax()


@dataclass(frozen=True)
class UserActivation:
    """An object with `fn(z)` and `deriv(z)` as an activation: a value and a derivative, both elementwise."""

    functions: Differentiable

    @property
    def name(self) -> str:
        """The name of the object's class."""
        return type(self.functions).__name__

    def evaluate(self, xp: Namespace, z: Array) -> Array:
        """`fn(z)`."""
        return self.functions.fn(z)

    @property
    def pullback(self) -> "UserPullback":
        """dz from (z, a, da)."""
        return UserPullback(self.functions)


@dataclass(frozen=True)
class UserPullback:
    """dz = da deriv(z)."""

    functions: Differentiable
    reads = frozenset({"x", "dy"})

    def evaluate(self, xp: Namespace, z: Array, a: Array, da: Array) -> Array:
        """dz = da deriv(z)."""
        return da * self.functions.deriv(z)


ActivationName = Literal[
    "elu", "gelu", "hard_sigmoid", "hard_tanh", "identity", "leaky_relu", "mish", "relu", "selu", "sigmoid", "silu",
    "softmax", "softplus", "tanh",
]  # fmt: skip
ACTIVATIONS: dict[str, Formula | Softmax] = {name: globals()[name] for name in __all__}


Function: TypeAlias = Formula | Softmax | UserActivation
ActivationLike: TypeAlias = ActivationName | Function | Differentiable | Callable[..., Array] | None


def get(activation: ActivationLike) -> Function:
    """The activation of that name; a formula is itself; a function becomes a formula; `fn` and `deriv` are accepted.

    >>> get("relu")
    relu
    >>> get("rellu")
    Traceback (most recent call last):
    ...
    ValueError: unknown activation 'rellu'. Did you mean 'relu'? Known: elu, gelu, hard_sigmoid, hard_tanh, identity, \
leaky_relu, mish, relu, selu, sigmoid, silu, softmax, softplus, tanh.
    """
    if activation is None:
        return identity
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise ValueError(unknown("activation", activation, ACTIVATIONS))
        return ACTIVATIONS[activation]
    if isinstance(activation, (Formula, Softmax, UserActivation)):
        return activation
    if hasattr(activation, "fn") and hasattr(activation, "deriv"):
        return UserActivation(activation)
    if callable(activation):
        return elementwise(activation)
    raise TypeError(f"an activation is a name, a formula, or an object with fn and deriv, got {activation!r}")

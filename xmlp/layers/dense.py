"""Layers of every network: products with weights, and activations."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xmlp import activations
from xmlp.activations import ActivationLike
from xmlp.backends.context import Context
from xmlp.graph import Formula
from xmlp.host.settings import count, flag
from xmlp.initializers import InitializerLike, InitializerName
from xmlp.initializers import get as initializer_named
from xmlp.layers.base import Layer, Params, ParamSpec, Specs, row
from xmlp.types import Array

__all__ = ["Activation", "Dense"]


@dataclass(frozen=True)
class Activation(Layer):
    """y = f(x), dx = dy f'(x) (document 002, eq. 4 and 31; for the softmax the full Jacobian, eq. 28).

    Parameters
    ----------
    function : str, formula, callable, or object with fn and deriv
    """

    function: activations.Function

    if TYPE_CHECKING:  # what is given; the field is what is made of it

        def __init__(self, function: ActivationLike): ...

    def __post_init__(self) -> None:
        Layer.__post_init__(self)
        object.__setattr__(self, "function", activations.get(self.function))
        if isinstance(self.function, Formula) and len(self.function.arrays) != 1:
            raise ValueError(f"an activation takes one array, {self.function.name} takes {self.function.arrays}")
        for name, value in getattr(self.function, "scalars", {}).items():
            if not isinstance(value, (bool, int, float)) or not abs(value) < float("inf"):
                raise ValueError(f"the scalar {name} of {self.function.name} must be a finite number, got {value!r}")

    def build(self, in_features: int) -> tuple[int, Specs]:
        return in_features, {}

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        return _activated(self.function, x, ctx)

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        return ctx.apply(self.function.pullback, *cache, dy), {}


def _activated(function: Any, x: Array, ctx: Context) -> tuple[Array, Any]:
    """y = f(x), and of x and y what the pullback reads."""
    y = ctx.apply(function, x)
    reads = function.pullback.reads
    return y, (x if reads - {"output", "dy"} else None, y if "output" in reads else None)


@dataclass(frozen=True)
class Dense(Layer):
    """y = f(x W + b), with x (..., N, I), W (..., I, units), b (..., units) (document 002, eq. 18-20, in rows).

    With dz = dy f'(z): dW = x^T dz, db = sum_n dz_n, dx = dz W^T (eq. 47 and BP3.2, BP4.2).

    Parameters
    ----------
    units : int
    activation : str, formula, callable, or object with fn and deriv; None is the identity
    use_bias : bool
    kernel_initializer : str, float or callable
        "auto" is he_normal before relu-like activations, lecun_normal before selu, glorot_uniform otherwise.
    bias_initializer : str, float or callable

    Examples
    --------
    >>> Dense(3, activation="tanh").build(4)[0]
    3
    """

    units: int
    activation: activations.Function = None  # type: ignore[assignment]  # the identity, once it is made
    use_bias: bool = True
    kernel_initializer: InitializerLike | Literal["auto"] = "auto"
    bias_initializer: InitializerLike = "zeros"

    if TYPE_CHECKING:

        def __init__(
            self, units: int, activation: ActivationLike = None, use_bias: bool = True,
            kernel_initializer: InitializerLike | Literal["auto"] = "auto", bias_initializer: InitializerLike = "zeros",
        ): ...  # fmt: skip

    def __post_init__(self) -> None:
        Layer.__post_init__(self)
        flag(self.use_bias, "Dense(use_bias)")
        object.__setattr__(self, "units", count(self.units, "Dense(units)"))
        object.__setattr__(self, "activation", Activation(self.activation).function)
        if self.kernel_initializer != "auto":
            initializer_named(self.kernel_initializer)
        initializer_named(self.bias_initializer)

    def build(self, in_features: int) -> tuple[int, Specs]:
        kernel = self.kernel_initializer
        if kernel == "auto":
            kernel = _FITTING.get(getattr(self.activation, "name", ""), "glorot_uniform")
        specs = {"W": ParamSpec((in_features, self.units), kernel)}
        if self.use_bias:
            specs["b"] = ParamSpec((self.units,), self.bias_initializer, decay=False)
        return self.units, specs

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        z = x @ params["W"]  # eq. 18
        if self.use_bias:
            z = z + row(ctx.xp, params["b"])
        if self.activation is activations.identity:
            return z, (x, None)
        y, activated = _activated(self.activation, z, ctx)  # eq. 20
        return y, (x, activated)

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, dict[str, Array]]:
        x, activated = cache
        dz = dy
        if self.activation is not activations.identity:
            dz = ctx.apply(self.activation.pullback, *activated, dy)
        grads = {"W": ctx.xp.matrix_transpose(x) @ dz}  # BP3.2
        if self.use_bias:
            grads["b"] = ctx.xp.sum(dz, axis=-2)  # BP4.2
        dx = dz @ ctx.xp.matrix_transpose(params["W"]) if ctx.input_gradient else None  # BP2.2
        return dx, grads


_FITTING: dict[str, InitializerName] = {
    name: "he_normal" for name in ("relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus")
}
_FITTING["selu"] = "lecun_normal"

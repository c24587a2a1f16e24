"""Layers that bring features to mean 0 and variance 1: of a row, of a batch."""

from dataclasses import dataclass
from typing import Any, ClassVar

from xmlp.backends.context import Context
from xmlp.host.settings import number
from xmlp.layers.base import Layer, Params, ParamSpec, Specs, row
from xmlp.types import Array, Namespace

__all__ = ["BatchNorm", "LayerNorm"]


def _normalized_gradient(xp: Namespace, normalized: Array, inverse: Array, dn: Array, axis: int) -> Array:
    """dx through n = (x - mean(x)) inverse, inverse = 1 / sqrt(var(x) + eps), both along `axis`.

    dx = inverse (dn - mean(dn) - n mean(dn n)) (Ioffe & Szegedy, 2015, section 3, collected).
    """
    size = dn.shape[axis]
    mean_dn = xp.sum(dn, axis=axis, keepdims=True) / size
    mean_dn_n = xp.sum(dn * normalized, axis=axis, keepdims=True) / size
    return inverse * (dn - mean_dn - normalized * mean_dn_n)


@dataclass(frozen=True)
class LayerNorm(Layer):
    """y = (x - mean) / sqrt(var + eps) gamma + beta, mean and variance over the features of a row (Ba et al., 2016)."""

    eps: float = 1e-5

    def __post_init__(self) -> None:
        Layer.__post_init__(self)
        number(self.eps, "eps")

    def build(self, in_features: int) -> tuple[int, Specs]:
        return in_features, _gamma_beta(in_features)

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        xp, size = ctx.xp, x.shape[-1]
        centred = x - xp.sum(x, axis=-1, keepdims=True) / size
        inverse = 1.0 / xp.sqrt(xp.sum(centred * centred, axis=-1, keepdims=True) / size + self.eps)
        normalized = centred * inverse
        return _scaled(xp, normalized, params), (normalized, inverse)

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        normalized, inverse = cache
        grads = {"gamma": ctx.xp.sum(dy * normalized, axis=-2), "beta": ctx.xp.sum(dy, axis=-2)}
        return _normalized_gradient(ctx.xp, normalized, inverse, dy * row(ctx.xp, params["gamma"]), -1), grads


def _scaled(xp: Namespace, normalized: Array, params: Params) -> Array:
    """Normalized gamma + beta."""
    return normalized * row(xp, params["gamma"]) + row(xp, params["beta"])


def _gamma_beta(features: int) -> Specs:
    return {"gamma": ParamSpec((features,), "ones", decay=False), "beta": ParamSpec((features,), "zeros", decay=False)}


@dataclass(frozen=True)
class BatchNorm(Layer):
    """y = (x - mean) / sqrt(var + eps) gamma + beta (Ioffe & Szegedy, 2015, algorithm 1).

    In training, mean and (biased) variance are those of the batch's rows, and the statistics move towards them:
    running = momentum running + (1 - momentum) batch, with the unbiased variance N / (N - 1) var. Otherwise they are
    the running ones, and so in training for a batch of one row, which has no variance: it leaves the statistics alone.
    """

    momentum: float = 0.9
    eps: float = 1e-5
    least_rows: ClassVar[int] = 2

    def __post_init__(self) -> None:
        Layer.__post_init__(self)
        number(self.momentum, "momentum", high=1.0)
        number(self.eps, "eps")

    def build(self, in_features: int) -> tuple[int, Specs]:
        return in_features, _gamma_beta(in_features)

    def statistics(self, in_features: int) -> Specs:
        return {"mean": ParamSpec((in_features,), "zeros"), "var": ParamSpec((in_features,), "ones")}

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        xp, rows = ctx.xp, x.shape[-2]
        mean, var, batch = ctx.stats["mean"], ctx.stats["var"], None
        if ctx.training and rows >= self.least_rows:
            mean = xp.sum(x, axis=-2) / rows
            centred = x - row(xp, mean)
            var = xp.sum(centred * centred, axis=-2) / rows
            batch = {"mean": mean, "var": var * (rows / (rows - 1))}
        else:
            centred = x - row(xp, mean)
        inverse = 1.0 / xp.sqrt(row(xp, var) + self.eps)
        normalized = centred * inverse
        return _scaled(xp, normalized, params), (normalized, inverse, batch)

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        normalized, inverse, batch = cache
        grads = {"gamma": ctx.xp.sum(dy * normalized, axis=-2), "beta": ctx.xp.sum(dy, axis=-2)}
        dn = dy * row(ctx.xp, params["gamma"])
        if batch is None:
            return dn * inverse, grads
        return _normalized_gradient(ctx.xp, normalized, inverse, dn, -2), grads

    def next_statistics(self, stats: Params, cache: Any) -> Params:
        batch = cache[2]
        if batch is None:
            return stats
        return {name: self.momentum * stats[name] + (1.0 - self.momentum) * batch[name] for name in batch}

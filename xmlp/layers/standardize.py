"""Standardisation with numbers that are kept with the model."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from xmlp.backends.context import Context
from xmlp.host.settings import number
from xmlp.layers.base import Layer, Params, ParamSpec, Specs, row
from xmlp.types import Array

__all__ = ["Standardize"]


COARSE = 2.0**-13  # of a deviation: how far apart neighbouring numbers of the dtype may be at the mean


@dataclass(frozen=True)
class Standardize(Layer):
    """y = (x - mean) / scale per feature, with numbers that are kept with the model and not learned.

    `Network.adapt(x)` sets them from data; until then they are the given constants. `Standardize(scale=255.0)` brings
    image bytes to [0, 1].

    Parameters
    ----------
    mean, scale : float
    offset : tuple of (int, float)
        Of the first layer: features and what is taken off them in double precision before they get the network's dtype,
        which could not tell such numbers apart, as seconds since 1970 in float32. Whoever passes x to a network has it
        done; to the pure passes (`pass_forward`) x comes without it. The kept "mean" is then the mean of the remainder.
    """

    mean: float = 0.0
    scale: float = 1.0
    offset: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        Layer.__post_init__(self)
        if isinstance(self.mean, bool) or not isinstance(self.mean, (int, float)) or not abs(self.mean) < float("inf"):
            raise ValueError(f"mean must be a finite number, got {self.mean!r}")
        number(self.scale, "scale", above=True)
        for feature, value in self.offset:
            if isinstance(feature, bool) or not isinstance(feature, int) or not abs(value) < float("inf"):
                raise ValueError(f"offset must be pairs of a feature's number and a finite number, got {self.offset!r}")

    def build(self, in_features: int) -> tuple[int, Specs]:
        if strange := [feature for feature, _ in self.offset if not 0 <= feature < in_features]:
            raise ValueError(f"offset names the feature {strange[0]}, there are {in_features}")
        return in_features, {}

    def statistics(self, in_features: int) -> Specs:
        shape, less = (in_features,), dict(self.offset)
        mean: Any = float(self.mean)
        if less:
            means = [mean - less.get(feature, 0.0) for feature in range(in_features)]
            mean = lambda rng, shape: means  # noqa: E731
        return {"mean": ParamSpec(shape, mean), "scale": ParamSpec(shape, float(self.scale))}

    def centred(self, in_features: int, eps: float) -> "Standardize":
        """With the mean as the offset where numbers of the resolution `eps` are too coarse for it."""
        if self.offset or abs(self.mean) * eps <= COARSE * self.scale:
            return self
        return replace(self, offset=tuple((feature, float(self.mean)) for feature in range(in_features)))

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        return (x - row(ctx.xp, ctx.stats["mean"])) / row(ctx.xp, ctx.stats["scale"]), None

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        return dy / row(ctx.xp, ctx.stats["scale"]), {}


def centred(layers: tuple[Layer, ...], in_features: int, eps: float) -> tuple[Layer, ...]:
    """With an offset for a first Standardize whose given mean is too far from 0 for numbers of the resolution `eps`."""
    first = layers[0]
    return (first.centred(in_features, eps), *layers[1:]) if isinstance(first, Standardize) else layers


def check_offsets(layers: Iterable[Layer]) -> None:
    """Refuse an offset that nobody would take off the layer's input."""
    if any(isinstance(layer, Standardize) and layer.offset for layer in layers):
        raise ValueError("only a Standardize that is the first layer of a network has an offset: take offset=()")

"""Random layers, and the bits that they draw."""

from dataclasses import dataclass
from typing import Any

from xmlp.backends.context import Context
from xmlp.graph import elementwise
from xmlp.host.settings import number
from xmlp.layers.base import Layer, Params, Specs
from xmlp.types import Array

__all__ = ["Dropout"]


@elementwise
def random_bits(xp, element: int, *, first: int, second: int):  # type: ignore[no-untyped-def]
    """A hash of the element's number and two keys, in wrapping 32-bit arithmetic: uniform over all int32.

    Two rounds of multiply and shift-xor after Wellons (2018), "Prospecting for hash functions", with the second key
    mixed in between, so that no two keys give permutations of each other.
    """
    h = element ^ first
    h = (h ^ ((h >> 16) & 0xFFFF)) * 0x7FEB352D
    h = (h ^ second ^ ((h >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return h ^ ((h >> 16) & 0xFFFF)


@elementwise
def masked(xp, x, bits: int, *, threshold: int, scale):  # type: ignore[no-untyped-def]
    """x scale where the random bits reach the threshold, else 0."""
    return xp.where(bits >= threshold, x * scale, 0.0)


@dataclass(frozen=True)
class Dropout(Layer):
    """y = x m / (1 - rate) with m = 1 with probability 1 - rate, else 0; in training only (Srivastava et al., 2014).

    The mask is a formula of (seed, layer, step, element), hence the same on every backend; backward makes it again.

    Examples
    --------
    >>> Dropout(0.5).build(8)
    (8, {})
    """

    rate: float
    random = True

    def __post_init__(self) -> None:
        Layer.__post_init__(self)
        number(self.rate, "rate", high=1.0)

    def build(self, in_features: int) -> tuple[int, Specs]:
        return in_features, {}

    def _mask(self, x: Array, bits: Array, ctx: Context) -> Array:
        threshold = round(self.rate * 2**32) - 2**31
        return ctx.apply(masked, x, bits, threshold=threshold, scale=1.0 / (1.0 - self.rate))

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        if not ctx.training or self.rate == 0:
            return x, None
        bits = ctx.bits(tuple(x.shape))
        return self._mask(x, bits, ctx), bits

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        return (dy if cache is None else self._mask(dy, cache, ctx)), {}

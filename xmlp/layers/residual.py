"""Layers of layers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xmlp.backends.context import Context
from xmlp.errors import unknown
from xmlp.graph import Formula
from xmlp.host.scalars import normalize
from xmlp.layers import sequence
from xmlp.layers.base import Layer, LayerLike, Params, Specs
from xmlp.layers.dense import Activation
from xmlp.layers.standardize import check_offsets
from xmlp.types import Array

__all__ = ["Residual"]


@dataclass(frozen=True)
class Residual(Layer):
    """y = x + f(x), f being a chain of layers that keeps the number of features (He et al., 2016, eq. 1).

    Examples
    --------
    >>> from xmlp.layers import Dense
    >>> Residual([Dense(8, activation="relu"), Dense(4)]).build(4)[0]
    4
    """

    layers: tuple[Layer, ...]

    if TYPE_CHECKING:

        def __init__(self, layers: Iterable[LayerLike]): ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", chain_of(self.layers))
        check_offsets(self.layers)

    @property
    def least_rows(self) -> int:  # type: ignore[override]
        return max(int(layer.least_rows) for layer in self.layers)

    def random_sites(self) -> list[tuple[int, ...]]:
        return [(i, *path) for i, layer in enumerate(self.layers) for path in layer.random_sites()]

    def build(self, in_features: int) -> tuple[int, Specs]:
        specs, features = {}, in_features
        for i, layer in enumerate(self.layers):
            features, inner = layer.build(features)
            specs.update({f"{i}.{name}": spec for name, spec in inner.items()})
        if features != in_features:
            raise ValueError(
                f"Residual: the inner layers turn {in_features} features into {features}; x + f(x) needs as many"
            )
        return in_features, specs

    def statistics(self, in_features: int) -> Specs:
        specs, features = {}, in_features
        for i, layer in enumerate(self.layers):
            specs.update({f"{i}.{name}": spec for name, spec in layer.statistics(features).items()})
            features = layer.build(features)[0]
        return specs

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        y, caches = x, []
        parts, contexts = zip(*[(_part(params, i), self._inner(ctx, i)) for i in range(len(self.layers))], strict=True)
        for y, cache in sequence.forward(self.layers, parts, x, contexts):  # noqa: B007
            caches.append(cache)
        return x + y, caches

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        grads, dx = {}, dy
        for i, layer in reversed(list(enumerate(self.layers))):
            own = self._inner(ctx, i).but(input_gradient=True)
            dx, inner = sequence.backward(layer, _part(params, i), cache[i], dx, own)
            grads.update({f"{i}.{name}": g for name, g in inner.items()})
        return dy + dx, grads

    def next_statistics(self, stats: Params, cache: Any) -> Params:
        new = {}
        for i, layer in enumerate(self.layers):
            new.update({f"{i}.{n}": v for n, v in sequence.next_statistics(layer, _part(stats, i), cache[i]).items()})
        return new

    def _inner(self, ctx: Context, i: int) -> Context:
        """The context of the i-th inner layer: its own statistics, and random bits that no sibling shares."""
        return ctx.but(stats=_part(ctx.stats, i), bits=lambda shape, *path: ctx.bits(shape, i, *path))


def _part(named: Params, i: int) -> dict[str, Array]:
    prefix = f"{i}."
    return {name.removeprefix(prefix): a for name, a in named.items() if name.startswith(prefix)}


def chain_of(layers: Iterable[LayerLike]) -> tuple[Layer, ...]:
    """Check a sequence of layers; a name is an activation."""
    if isinstance(layers, (str, Layer)) or not isinstance(layers, Iterable):
        raise TypeError(f"expected a sequence of layers, got {layers!r}. Put it in a list.")
    chain = tuple(Activation(layer) if isinstance(layer, (str, Formula)) else layer for layer in layers)
    if not chain:
        raise ValueError("expected at least one layer, got none")
    for i, layer in enumerate(chain):
        if isinstance(layer, type) and issubclass(layer, Layer):
            raise TypeError(f"layer {i} is the class {layer.__name__}, not an instance: write {layer.__name__}(...)")
        if not isinstance(layer, Layer):
            known = [kind.__name__ for kind in Layer.__subclasses__()]
            raise TypeError(f"layer {i} is {layer!r}, not a Layer. {unknown('layer', type(layer).__name__, known)}")
        if hasattr(layer, "__dataclass_fields__"):  # of the user's own, whose __post_init__ may not call the base's
            normalize(layer)
    return chain

"""Layers one after another: the passes that a network and a layer of layers share."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from xmlp.backends import derived
from xmlp.backends.context import Context
from xmlp.layers.base import Layer, Params
from xmlp.types import Array


class Passed(NamedTuple):
    """What the derived backward pass of a layer reads: all that its forward pass was given."""

    x: Array
    bits: list[Array]
    cache: Any


def forward(
    layers: Sequence[Layer], params: Sequence[Params], x: Array, contexts: Sequence[Context]
) -> Iterator[tuple[Array, Any]]:
    """The outputs and the cache of one layer after another."""
    for layer, named, ctx in zip(layers, params, contexts, strict=True):
        if layer.has_backward:
            x, cache = layer.forward(named, x, ctx)
        else:
            x, cache = _noted(layer, named, x, ctx)
        yield x, cache


def backward(
    layer: Layer, params: Params, cache: Any, dy: Array, ctx: Context
) -> tuple[Array | None, dict[str, Array]]:
    """dx and the gradients of one layer; derived from its forward pass where none is written."""
    if layer.has_backward:
        return layer.backward(params, cache, dy, ctx)
    return _derived(layer, params, cache, dy, ctx)


def next_statistics(layer: Layer, stats: Params, cache: Any) -> Params:
    """The statistics of one layer after a training step."""
    return layer.next_statistics(stats, cache.cache if isinstance(cache, Passed) else cache)


def _noted(layer: Layer, params: Params, x: Array, ctx: Context) -> tuple[Array, Passed]:
    drawn: list[Array] = []

    def bits(shape: tuple[int, ...], *path: int) -> Array:
        drawn.append(ctx.bits(shape, *path))
        return drawn[-1]

    y, cache = layer.forward(params, x, ctx.but(bits=bits))
    return y, Passed(x, drawn, cache)


def _derived(
    layer: Layer, params: Params, passed: Passed, dy: Array, ctx: Context
) -> tuple[Array | None, dict[str, Array]]:
    if dy.ndim > 2:  # a stack of members
        return _of_members(layer, params, passed, dy, ctx)
    names, kept = [*params], [*ctx.stats]

    def function(ctx: Context, x: Array, **arrays: Array) -> Array:
        drawn = iter([arrays[f"bits.{i}"] for i in range(len(passed.bits))])
        here = ctx.but(stats={n: arrays[f"stats.{n}"] for n in kept}, bits=lambda shape, *path: next(drawn))
        return layer.forward({n: arrays[f"params.{n}"] for n in names}, x, here)[0]

    inputs = {"x": passed.x, **{f"params.{n}": params[n] for n in names}}
    constants = {**{f"stats.{n}": ctx.stats[n] for n in kept}, **{f"bits.{i}": b for i, b in enumerate(passed.bits)}}
    found = derived.pullback(function, layer, ctx, dy, inputs, constants)
    return found["x"], {n: found[f"params.{n}"] for n in names}


def _of_members(
    layer: Layer, params: Params, passed: Passed, dy: Array, ctx: Context
) -> tuple[Array, dict[str, Array]]:
    """The same for each member of a stack; what all members share has as many axes fewer."""
    specs = layer.build(passed.x.shape[-1])[1] | layer.statistics(passed.x.shape[-1])

    def of(k: int, name: str, array: Array) -> Array:
        return array[k, ...] if array.ndim > len(specs[name].shape) else array

    parts = []
    for k in range(dy.shape[0]):
        x = passed.x[k, ...] if passed.x.ndim == dy.ndim else passed.x
        bits = [b[k, ...] if b.ndim == dy.ndim else b for b in passed.bits]
        own = {n: of(k, n, a) for n, a in params.items()}
        here = ctx.but(stats={n: of(k, n, a) for n, a in ctx.stats.items()})
        parts.append(_derived(layer, own, Passed(x, bits, None), dy[k, ...], here))
    gradients = {n: ctx.xp.stack([grads[n] for _, grads in parts]) for n in params}
    return ctx.xp.stack([dx for dx, _ in parts]), gradients

"""A chain of layers and the pure passes through it: functions of device arrays, with nothing hidden."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, Self

import xmlp.backends.context as contexts
from xmlp.activations import identity
from xmlp.backends import Backend
from xmlp.host import seeds
from xmlp.layers import Activation, Dense, Layer, LayerLike, chain_of, check_offsets, random_bits, sequence
from xmlp.losses import LINKS, Link, Loss, link
from xmlp.network.inputs import count
from xmlp.network.layout import Gradients, Layout
from xmlp.types import Array

Views = tuple[list[dict[str, Array]], list[dict[str, Array]]]  # of parameters and statistics, by layer and name
Keys = Mapping[tuple[int, ...], tuple[Any, Any]]  # (layer, *path of inner layers) -> two words


class Chain:
    """Layers one after another on a backend, and how their parameters and statistics lie in two flat vectors.

    Attributes
    ----------
    layers : tuple of Layer
    in_features, out_features : int
    layout, stats_layout : Layout
        Where in the vectors theta (P,) and stats (S,) the arrays of each layer lie.
    widths : list of int
        Features before the first layer and after each one.
    body : tuple of Layer
        The layers without an output sigmoid or softmax, which `output_link` names: they end in raw outputs (logits).
    """

    def __init__(self, layers: Sequence[LayerLike], in_features: int, backend: Backend):
        self.backend = backend
        self.layers = chain_of(layers)
        check_offsets(self.layers[1:])
        self.in_features = count(in_features, "in_features")
        self.widths, specs, statistics = [self.in_features], [], []
        for i, layer in enumerate(self.layers):
            try:
                out_features, spec = layer.build(self.widths[-1])
                kept = layer.statistics(self.widths[-1])
            except (TypeError, ValueError) as error:
                raise type(error)(f"layer {i}, {layer!r}: {error}") from error
            self.widths.append(out_features)
            specs.append(spec)
            statistics.append(kept)
        self.layout = Layout.of(specs)
        self.stats_layout = Layout.of(statistics)
        self.body, self.output_link = _without_link(self.layers)
        self._sites = [(i, *path) for i, layer in enumerate(self.layers) for path in layer.random_sites()]
        learning = [i for i, spec in enumerate(specs) if spec]
        self._first_learning = learning[0] if learning else 0
        self._own: tuple[Array, Array, Views] | None = None

    @property
    def out_features(self) -> int:
        """Columns of the outputs."""
        return self.widths[-1]

    @property
    def built_in(self) -> bool:
        """Whether no layer is of somebody's own."""
        inner = [layer for outer in self.layers for layer in (outer, *getattr(outer, "layers", ()))]
        return all(type(layer).__module__.startswith("xmlp.") for layer in inner)

    @property
    def random(self) -> bool:
        """Whether training draws random bits: dropout and the like."""
        return bool(self._sites)

    @property
    def least_rows(self) -> int:
        """Rows of a batch that all layers can learn their statistics from."""
        return max(int(layer.least_rows) for layer in self.layers)

    def pass_forward(
        self,
        theta: Array,
        stats: Array,
        x: Array,
        *,
        training: bool = False,
        keys: Keys | None = None,
        raw: bool = False,
    ) -> tuple[Array, list[Any]]:
        """y (..., N, out_features) and the caches; with `raw`, y comes before the output link (logits).

        What a first layer `Standardize` names as its offset has been taken off x already.
        """
        y, caches = x, []
        for y, cache in self.pass_layers(theta, stats, x, training=training, keys=keys, raw=raw):  # noqa: B007
            caches.append(cache)
        return y, caches

    def pass_layers(
        self, theta: Array, stats: Array, x: Array, *, training: bool, keys: Keys | None, raw: bool
    ) -> Iterator[tuple[Array, Any]]:
        """The outputs and the cache of one layer after another."""
        params, kept = self._views(theta, stats)
        ctx = contexts.of(self.backend, training=training)
        layers = self.body if raw else self.layers
        own = [
            ctx if keys is None and not kept[i] else ctx.but(stats=kept[i], bits=self._bits(i, keys))
            for i in range(len(layers))
        ]
        return sequence.forward(layers, params[: len(layers)], x, own)

    def _views(self, theta: Array, stats: Array) -> Views:
        """The named arrays of each layer in both vectors."""
        if self._own is not None and self._own[0] is theta and self._own[1] is stats:
            return self._own[2]
        return self.layout.views(self.backend.xp, theta), self.stats_layout.views(self.backend.xp, stats)

    def keep_views(self, theta: Array, stats: Array) -> None:
        """Make the views of these two vectors once and for all, where the library has views."""
        self._own = None
        if self.backend.in_place:
            self._own = theta, stats, self._views(theta, stats)

    def pass_backward(
        self, theta: Array, stats: Array, caches: list[Any], dy: Array, *, training: bool = False, raw: bool = False,
        input_gradient: bool = True,
    ) -> tuple[Array | None, Gradients]:  # fmt: skip
        """dx and the gradients, from the caches of `pass_forward` called in the same way."""
        xp = self.backend.xp
        params, kept = self._views(theta, stats)
        ctx = contexts.of(self.backend, training=training)
        grads: list[dict[str, Array]] = [{} for _ in self.layers]
        dx: Array | None = dy
        for i, layer in reversed(list(enumerate(self.body if raw else self.layers))):
            if i < self._first_learning and not input_gradient:
                dx = None
                break
            needed = input_gradient or i > self._first_learning
            own = ctx.but(stats=kept[i], input_gradient=needed)
            dx, grads[i] = sequence.backward(layer, params[i], caches[i], dx, own)
        self.layout.check(grads)
        flat = self.layout.pack(xp, grads, theta)
        return dx, Gradients(self.layout, flat)

    def pass_statistics(self, stats: Array, caches: list[Any]) -> Array:
        """The statistics after a training pass with these caches."""
        if not self.stats_layout.slots:
            return stats
        old = self.stats_layout.views(self.backend.xp, stats)
        passed = zip(self.layers, old, _padded(caches, old), strict=True)
        new = [dict(sequence.next_statistics(layer, kept, cache)) for layer, kept, cache in passed]
        return self.stats_layout.pack(self.backend.xp, new, stats)

    def keys(self, seed: int, step: int) -> Keys:
        """The words that key the random bits of each random layer in one step."""
        return {site: seeds.key(seed, number, step) for number, site in enumerate(self._sites)}

    def _bits(self, layer: int, keys: Keys | None) -> Callable[..., Array]:
        def bits(shape: tuple[int, ...], *path: int) -> Array:
            if keys is None:
                raise RuntimeError("random bits are available in training only")
            if (layer, *path) not in keys:
                raise ValueError(
                    f"layer {layer} asks for random bits but does not say so: set `random = True` in its class"
                )
            first, second = keys[layer, *path]
            element = self.backend.xp.reshape(self.backend.index(prod(shape)), shape)
            return self.backend.apply(random_bits, element, first=first, second=second)

        return bits

    def take_off(self, offset: tuple[tuple[int, float], ...]) -> None:
        """Make this the offset of the first layer, a Standardize."""
        first: Any = self.layers[0]
        first = replace(first, offset=offset)
        self.layers, self.body = (first, *self.layers[1:]), (first, *self.body[1:])

    def on(self, backend: Any) -> Self:
        """The same chain with its passes computing on another backend: one that traces."""
        chain = copy.copy(self)  # lint: allow method - of the chain itself
        chain.backend, chain._own = backend, None
        return chain

    def loss_at(self, loss: Loss) -> tuple[Loss, bool]:
        """The loss as it is computed here, and whether at raw outputs: a sigmoid or softmax output fuses with its
        cross-entropy, so that the gradient at its input is a - y (document 002, eq. 35).
        """
        wanted, there = link(loss.link), self.output_link
        raw = there.probabilities and wanted is there
        if there.probabilities and not (raw or wanted.is_identity):
            raise ValueError(
                f"{loss.name} goes with a {wanted.name} output or none, this network ends in a {there.name}"
            )
        return (loss.at_raw_outputs() if raw else loss), raw


def _padded(caches: list[Any], like: list[Any]) -> list[Any]:
    return [*caches, *[None] * (len(like) - len(caches))]


def _without_link(layers: tuple[Layer, ...]) -> tuple[tuple[Layer, ...], Link]:
    """The layers without a final sigmoid or softmax, and that; the identity if there is none."""
    last = layers[-1]
    function = getattr(last, "activation", None) if isinstance(last, Dense) else getattr(last, "function", None)
    for there in LINKS.values():
        if there.of_logits and function is there.function:
            if isinstance(last, Dense):
                kernel = last.kernel_initializer if last.kernel_initializer != "auto" else "glorot_uniform"
                return (*layers[:-1], replace(last, activation=identity, kernel_initializer=kernel)), there
            if isinstance(last, Activation) and len(layers) > 1:
                return layers[:-1], there
    return layers, link("identity")

"""Parameters are one flat vector; each layer sees named views of it.

A `Layout` says where each array lies. Arrays are ordered by group, so that each group (weights that decay, biases that
do not, parts with a learning rate of their own) is one slice of the vector, and of the gradient and of every vector of
optimizer state beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

from array_api_compat import array_namespace

from xmlp.initializers import draw
from xmlp.layers import ParamSpec
from xmlp.types import Array


class Slot(NamedTuple):
    """Where one array lies: elements start to stop of the vector, in C order."""

    layer: int
    name: str
    spec: ParamSpec
    start: int
    stop: int


class Group(NamedTuple):
    """A slice of the vector whose elements are treated alike."""

    start: int
    stop: int
    decay: bool
    lr_scale: float


@dataclass(frozen=True)
class Layout:
    """The order of all arrays in one flat vector."""

    layers: int
    slots: tuple[Slot, ...]
    groups: tuple[Group, ...] = field(default=())

    @classmethod
    def of(cls, specs: Sequence[dict[str, ParamSpec]]) -> "Layout":
        """Lay out the arrays of each layer."""
        entries = [(i, name, spec) for i, layer in enumerate(specs) for name, spec in layer.items()]
        order = sorted(
            entries, key=lambda e: (-e[2].lr_scale, not e[2].decay, e[0])
        )  # stable: a layer's own order stays
        slots, groups, start = [], list[Group](), 0
        for layer, name, spec in order:
            stop = start + prod(spec.shape)
            slots.append(Slot(layer, name, spec, start, stop))
            if groups and groups[-1][2:] == (spec.decay, spec.lr_scale):
                groups[-1] = groups[-1]._replace(stop=stop)
            else:
                groups.append(Group(start, stop, spec.decay, spec.lr_scale))
            start = stop
        return cls(len(specs), tuple(slots), tuple(groups))

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.slots[-1].stop if self.slots else 0

    @property
    def decayed(self) -> tuple[Group, ...]:
        """The groups that weight decay and penalties act on."""
        return tuple(g for g in self.groups if g.decay and g.lr_scale and g.stop > g.start)

    def initial(self, seed: int) -> Array:
        """The initial vector on the host, float64: each array from a generator of its own."""
        return draw([(s.spec.initializer, s.spec.shape, (s.layer, s.name)) for s in self.slots], seed)

    def spec(self, layer: int, name: str) -> ParamSpec:
        """What a layer asked for."""
        return next(s.spec for s in self.slots if (s.layer, s.name) == (layer, name))

    def sizes(self) -> list[int]:
        """Number of parameters of each layer."""
        return [sum(s.stop - s.start for s in self.slots if s.layer == i) for i in range(self.layers)]

    def views(self, xp: Any, vector: Array) -> list[dict[str, Array]]:
        """Per layer, the named arrays in `vector`: views where the library has views."""
        named: list[dict[str, Array]] = [{} for _ in range(self.layers)]
        for layer, name, spec, start, stop in self._by_layer:
            part = vector[start:stop]
            named[layer][name] = part if len(spec.shape) == 1 else xp.reshape(part, spec.shape)
        return named

    @cached_property
    def _by_layer(self) -> list[Slot]:
        return sorted(self.slots, key=lambda slot: slot.layer)

    def pack(self, xp: Any, arrays: Sequence[dict[str, Array]], like: Array) -> Array:
        """The flat vector of named arrays; `like` is a vector of this layout."""
        if not self.slots:
            return xp.zeros_like(like)
        return xp.concat([xp.reshape(arrays[s.layer][s.name], (-1,)) for s in self.slots])

    def check(self, arrays: Sequence[dict[str, Array]]) -> None:
        """Compare the names and shapes that a layer's backward returned with what its build declared."""
        for layer, name, spec, _, _ in self.slots:
            if name not in arrays[layer]:
                raise ValueError(f"layer {layer}: backward returned no gradient for {name!r}")
            if tuple(arrays[layer][name].shape) != spec.shape:
                got = tuple(arrays[layer][name].shape)
                raise ValueError(f"layer {layer}: backward returned d{name} of shape {got}, {name} is {spec.shape}")
        extra = [
            (i, n) for i, a in enumerate(arrays) for n in a if n not in {s.name for s in self.slots if s.layer == i}
        ]
        if extra:
            raise ValueError(
                f"layer {extra[0][0]}: backward returned a gradient for {extra[0][1]!r}, which build did not declare"
            )


class Gradients(Sequence[dict[str, Array]]):
    """Gradients nested as `Network.parameters`, with the flat vector in the attribute `flat`.

    The named arrays, which lie in the vector where the library has views, are made when the first is asked for.
    """

    def __init__(self, layout: Layout, flat: Array):
        self._layout, self.flat = layout, flat

    @cached_property
    def _layers(self) -> list[dict[str, Array]]:
        return self._layout.views(array_namespace(self.flat), self.flat)

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, layer: Any) -> Any:
        return self._layers[layer]

    def __repr__(self) -> str:
        return repr(self._layers)

"""The two vectors of a network, all its parameters and all its statistics, and what is written into them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from xmlp.backends.views import LayerViews, Views
from xmlp.network.chain import Chain
from xmlp.network.inputs import Inputs
from xmlp.types import Array, Data


class Vectors:
    """theta and stats of one chain of layers; what is assigned is checked, and copied in.

    Attributes
    ----------
    theta : array (P,)
    stats : array (S,)
    """

    def __init__(self, chain: Chain, inputs: Inputs, theta: Array, stats: Array):
        self._chain, self._inputs, self.theta, self.stats = chain, inputs, theta, stats
        self._layouts = {"theta": chain.layout, "stats": chain.stats_layout}
        chain.keep_views(theta, stats)

    @classmethod
    def of(cls, chain: Chain, inputs: Inputs, arrays: Mapping[str, Any]) -> "Vectors":
        """Of given numbers. Their sizes are compared before anything of the size is made."""
        sizes = {"theta": chain.layout.size, "stats": chain.stats_layout.size}
        for name, size in sizes.items():
            if tuple(arrays[name].shape) != (size,):
                raise ValueError(f"the layers need {size} numbers in {name}, got {tuple(arrays[name].shape)}")
        vectors = cls(chain, inputs, **{name: chain.backend.zeros(size) for name, size in sizes.items()})
        for name in sizes:
            vectors.assign(name, arrays[name])
        return vectors

    def named(self) -> dict[str, Array]:
        """Both by name."""
        return {"theta": self.theta, "stats": self.stats}

    def commit(self, theta: Array, stats: Array) -> None:
        """Take arrays of the backend, which are not looked at."""
        assign = self._chain.backend.assign
        self.theta, self.stats = assign(self.theta, theta), assign(self.stats, stats)

    def assign(self, name: str, value: Data) -> None:
        """Copy other numbers into one of them."""
        old = getattr(self, name)
        setattr(self, name, self._chain.backend.assign(old, self._inputs.vector(value, name, old.shape[0])))

    def pack(self, name: str, arrays: Sequence[Mapping[str, Array]]) -> None:
        """Copy the named arrays of all layers into one of them."""
        old = getattr(self, name)
        self.assign(name, self._layouts[name].pack(self._chain.backend.xp, [dict(a) for a in arrays], old))

    def views(self, name: str) -> list[Views]:
        """Per layer the named arrays: views where the library has views. Assigning copies the values in."""
        views = self._layouts[name].views(self._chain.backend.xp, getattr(self, name))
        return LayerViews(Views(v, partial(self._write, name, i)) for i, v in enumerate(views))

    def _write(self, vector: str, layer: int, name: str, value: Any) -> Array:
        """Copy values into the array of that name in a vector; returns its view."""
        layout, backend, old = self._layouts[vector], self._chain.backend, getattr(self, vector)
        slot = next((s for s in layout.slots if (s.layer, s.name) == (layer, name)), None)
        if slot is None:
            known = ", ".join(s.name for s in layout.slots if s.layer == layer)
            raise KeyError(f"layer {layer} has no array {name!r} in {vector}; it has {known or 'none'}")
        shape, xp = tuple(slot.spec.shape), backend.xp
        new = self._inputs.values(value, f"{name} of layer {layer}")
        if tuple(new.shape) != shape:
            raise ValueError(f"{name} of layer {layer} has the shape {shape}, got {tuple(new.shape)}")
        whole = xp.concat([old[: slot.start], xp.reshape(new, (-1,)), old[slot.stop :]])
        setattr(self, vector, backend.assign(old, whole))
        return layout.views(xp, getattr(self, vector))[layer][name]

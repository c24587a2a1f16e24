"""What a layer or loss is handed besides its arrays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xmlp.backends.base import Backend
from xmlp.types import Applicable, Array, Namespace


def _no_bits(*_: object) -> Array:
    raise RuntimeError("random bits are available in training only")


@dataclass(frozen=True)
class Context:
    """The surroundings of one forward or backward pass.

    Attributes
    ----------
    xp : namespace
        The Array API namespace: the only way to functions of arrays.
    apply : callable
        `apply(formula, *arrays, **scalars)` runs a formula in the backend's way.
    index : callable
        `index(n)` is the int32 array 0, 1, ..., n - 1 on the device.
    training : bool
        Whether dropout drops and batch normalisation uses the batch.
    stats : mapping
        The layer's batch statistics by name.
    bits : callable
        `bits(shape)` gives uniform random int32 of that shape: the same on every backend for one seed, layer and step.
    input_gradient : bool
        Whether anybody needs `dx` of this layer; if not, backward may return None for it.
    """

    xp: Namespace
    apply: Callable[..., Any]
    index: Callable[[int], Array]
    training: bool = False
    stats: Mapping[str, Array] = field(default_factory=dict)
    bits: Callable[..., Array] = _no_bits
    input_gradient: bool = True

    def but(self, **changes: Any) -> "Context":
        """The same surroundings with some fields replaced."""
        return Context(**{**vars(self), **changes})


def plain(xp: Namespace, place: Any = None) -> Context:
    """A context for calls outside a network: plain evaluation on the namespace `xp` and the device `place`."""

    def apply(formula: Applicable, *arrays: Array, **scalars: Any) -> Any:
        return formula.evaluate(xp, *arrays, **scalars)

    def index(n: int) -> Array:
        return xp.arange(n, dtype=xp.int32, device=place)

    return Context(xp, apply, index)


def of(backend: Backend, *, training: bool = False) -> Context:
    """The context of a backend."""
    return Context(backend.xp, backend.apply, backend.index, training)

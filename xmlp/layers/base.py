"""What a layer is, and what it asks for."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from xmlp.activations import ActivationName
from xmlp.backends.context import Context
from xmlp.graph import Formula
from xmlp.host.scalars import Normalized
from xmlp.host.settings import number
from xmlp.initializers import InitializerLike
from xmlp.initializers import get as initializer_named
from xmlp.types import Array, Namespace

Params = Mapping[str, Array]


@dataclass(frozen=True)
class ParamSpec(Normalized):
    """What a layer asks for: one array of parameters.

    Parameters
    ----------
    shape : tuple of int
    initializer : str, float or callable
        See `xmlp.initializers`.
    decay : bool
        Whether weight decay and the penalties l1 and l2 act on it; biases and normalisations usually say no.
    lr_scale : float
        Factor on the learning rate; 0 freezes the array.
    """

    shape: tuple[int, ...]
    initializer: InitializerLike = "zeros"
    decay: bool = True
    lr_scale: float = 1.0

    def __post_init__(self) -> None:
        Normalized.__post_init__(self)
        initializer_named(self.initializer)
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in self.shape):
            raise ValueError(f"a parameter's shape is a tuple of integers >= 0, got {self.shape}")
        number(self.lr_scale, "lr_scale")


Specs = dict[str, ParamSpec]


class Layer(Normalized, ABC):
    """One step of a network. Subclasses are frozen dataclasses of hyper-parameters."""

    random = False  # whether forward asks for ctx.bits in training, once
    least_rows: ClassVar[int] = 1  # of a batch from which the layer learns its statistics

    @abstractmethod
    def build(self, in_features: int) -> tuple[int, Specs]:
        """Number of output features and the arrays that the layer learns, by name."""

    @abstractmethod
    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        """y of shape (..., N, out_features), and the cache for backward."""

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, dict[str, Array]]:
        """dx of the shape of x (None allowed where `ctx.input_gradient` is false), and one gradient per parameter.

        It need not be written: networks derive it from `forward`, which then is of operations that can be traced.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward of its own: networks derive it from forward")

    @property
    def has_backward(self) -> bool:
        """Whether the backward pass is written, or else derived from `forward`."""
        return type(self).backward is not Layer.backward

    def random_sites(self) -> list[tuple[int, ...]]:
        """The places below this layer that ask for random bits, as paths of inner layers."""
        return [()] if self.random else []

    def statistics(self, in_features: int) -> Specs:
        """Arrays that the layer keeps but does not learn, by name, with their initial values."""
        return {}

    def next_statistics(self, stats: Params, cache: Any) -> Params:
        """The statistics after a training step."""
        return stats


LayerLike: TypeAlias = Layer | ActivationName | Formula


def row(xp: Namespace, values: Array) -> Array:
    """Values (..., columns), one for each column, as (..., 1, columns): beside all rows, and no other axis. A single
    vector is so as it is.
    """
    return values if values.ndim == 1 else xp.expand_dims(values, axis=-2)

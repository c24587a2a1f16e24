"""Initial values of parameters, drawn on the host in float64 so that every backend starts from the same numbers.

An initialiser is called with a NumPy generator and a shape; for a matrix (..., in, out) the fans are its last two axes.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from xmlp.errors import unknown
from xmlp.host import seeds
from xmlp.host.scalars import Normalized, plain
from xmlp.host.settings import number
from xmlp.types import HostArray

Initializer: TypeAlias = Callable[[np.random.Generator, tuple[int, ...]], HostArray]
InitializerName = Literal[
    "zeros", "ones", "normal", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal",
    "lecun_uniform", "orthogonal",
]  # fmt: skip
InitializerLike: TypeAlias = InitializerName | float | Initializer


def _finite(value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, got {value!r}")


@dataclass(frozen=True)
class Constant(Normalized):
    """All elements equal to `value`."""

    value: float = 0.0

    def __post_init__(self) -> None:
        Normalized.__post_init__(self)
        _finite(self.value, "Constant(value)")

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> HostArray:
        return np.full(shape, self.value)


@dataclass(frozen=True)
class Normal(Normalized):
    """Independent normal variables, N(mean, std^2)."""

    std: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        Normalized.__post_init__(self)
        number(self.std, "Normal(std)")
        _finite(self.mean, "Normal(mean)")

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> HostArray:
        return self.mean + self.std * rng.standard_normal(shape)


@dataclass(frozen=True)
class VarianceScaling(Normalized):
    """Zero-mean variables of variance scale / n, where n is the fan-in, the fan-out or their average.

    Glorot & Bengio (2010): scale 1, average. He et al. (2015), eq. 10: scale 2, fan-in. LeCun et al. (1998): scale 1,
    fan-in. "normal" is not truncated; "uniform" lies in +-sqrt(3 variance).
    """

    scale: float = 1.0
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_avg"
    distribution: Literal["normal", "uniform"] = "uniform"

    def __post_init__(self) -> None:
        Normalized.__post_init__(self)
        number(self.scale, "VarianceScaling(scale)")
        for what, value, known in (
            ("mode", self.mode, ("fan_in", "fan_out", "fan_avg")),
            ("distribution", self.distribution, ("normal", "uniform")),
        ):
            if value not in known:
                raise ValueError(unknown(f"{what} of VarianceScaling:", value, known))

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> HostArray:
        fan_in, fan_out = shape[-2:] if len(shape) > 1 else (shape[0], shape[0])
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        std = math.sqrt(self.scale / max(fan, 1))
        if self.distribution == "normal":
            return std * rng.standard_normal(shape)
        return rng.uniform(-math.sqrt(3.0) * std, math.sqrt(3.0) * std, shape)


@dataclass(frozen=True)
class Orthogonal(Normalized):
    """A matrix with orthonormal rows or columns, whichever are fewer, times `gain` (Saxe et al., 2014)."""

    gain: float = 1.0

    def __post_init__(self) -> None:
        Normalized.__post_init__(self)
        _finite(self.gain, "Orthogonal(gain)")

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> HostArray:
        if len(shape) < 2:
            raise ValueError(f"an orthogonal initial value needs a matrix, got the shape {shape}")
        tall = rng.standard_normal((*shape[:-2], max(shape[-2:]), min(shape[-2:])))
        q, r = np.linalg.qr(tall)
        q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]  # makes the distribution uniform
        matrix: HostArray = q if shape[-2] >= shape[-1] else np.swapaxes(q, -1, -2)
        return self.gain * matrix


INITIALIZERS: dict[InitializerName, Initializer] = {
    "zeros": Constant(0.0),
    "ones": Constant(1.0),
    "normal": Normal(),
    "glorot_normal": VarianceScaling(1.0, "fan_avg", "normal"),
    "glorot_uniform": VarianceScaling(1.0, "fan_avg", "uniform"),
    "he_normal": VarianceScaling(2.0, "fan_in", "normal"),
    "he_uniform": VarianceScaling(2.0, "fan_in", "uniform"),
    "lecun_normal": VarianceScaling(1.0, "fan_in", "normal"),
    "lecun_uniform": VarianceScaling(1.0, "fan_in", "uniform"),
    "orthogonal": Orthogonal(),
}


def get(initializer: InitializerLike) -> Initializer:
    """The initialiser of that name; a number is a constant; a callable is itself."""
    if isinstance(initializer, str):
        if initializer not in INITIALIZERS:
            raise ValueError(unknown("initializer", initializer, INITIALIZERS))
        return INITIALIZERS[initializer]
    initializer = plain(initializer)
    if isinstance(initializer, (int, float)):
        return Constant(float(initializer))
    if not callable(initializer):
        raise TypeError(f"an initializer is a name, a number or a callable (rng, shape) -> array, got {initializer!r}")
    return initializer


def draw(wanted: Iterable[tuple[InitializerLike, tuple[int, ...], tuple[int, str]]], seed: int) -> HostArray:
    """Initial values of (initializer, shape, (layer, name)) one after another, as one float64 vector.

    Each array has a generator of its own, so that adding a layer leaves the others as they were.
    """
    pieces = [np.empty(0)]
    for initializer, shape, (layer, name) in wanted:
        drawn = np.asarray(get(initializer)(seeds.generator(seed, "weights", layer, *name.encode()), shape))
        if drawn.shape != shape:
            raise ValueError(f"the initializer of layer {layer}, {name}, gave {drawn.shape} instead of {shape}")
        pieces.append(drawn.reshape(-1))
    return np.concatenate(pieces, dtype=np.float64)

"""Learning rates as functions of the number of updates made so far: schedule(0) is the rate of the first update.

Every schedule is a frozen dataclass; any function int -> float is one too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, TypeAlias

from xmlp.host.scalars import Normalized

LearningRate: TypeAlias = float | Callable[[int], float]


class Schedule(Normalized):
    """A learning rate that changes. Subclasses are frozen dataclasses with `__call__(step) -> float`."""

    def __post_init__(self) -> None:
        Normalized.__post_init__(self)
        for field in fields(self):  # type: ignore[arg-type]
            if field.type not in (int, float):
                continue
            value: Any = getattr(self, field.name)
            what = f"{type(self).__name__}({field.name})"
            least = int(field.type is int and field.name != "warmup_steps")
            wanted: Any = Integral if field.type is int else Real
            if isinstance(value, bool) or not isinstance(value, wanted):
                kind = "a whole number of steps" if field.type is int else "a number"
                raise ValueError(f"{what} must be {kind}, got {value!r}")
            if not least <= value < math.inf:
                raise ValueError(f"{what} must be finite and >= {least}, got {value!r}")
            object.__setattr__(self, field.name, field.type(value))  # NumPy's numbers become Python's

    def __call__(self, step: int) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """lr(t) = lr."""

    lr: float

    def __call__(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class Step(Schedule):
    """lr(t) = lr factor^floor(t / every_steps).

    >>> [Step(1.0, every_steps=2, factor=0.5)(t) for t in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    lr: float
    every_steps: int
    factor: float = 0.1

    def __call__(self, step: int) -> float:
        return self.lr * math.pow(self.factor, step // self.every_steps)


@dataclass(frozen=True)
class Exponential(Schedule):
    """lr(t) = lr factor^(t / per_steps).

    >>> Exponential(1.0, per_steps=10, factor=0.5)(20)
    0.25
    """

    lr: float
    per_steps: int
    factor: float = 0.5

    def __call__(self, step: int) -> float:
        return self.lr * math.pow(self.factor, step / self.per_steps)


@dataclass(frozen=True)
class Polynomial(Schedule):
    """lr(t) = end + (lr - end) (1 - t / total_steps)^power, then end.

    >>> [Polynomial(1.0, total_steps=4)(t) for t in (0, 1, 4, 9)]
    [1.0, 0.75, 0.0, 0.0]
    """

    lr: float
    total_steps: int
    end: float = 0.0
    power: float = 1.0

    def __call__(self, step: int) -> float:
        left = 1.0 - min(step / self.total_steps, 1.0)
        return self.end + (self.lr - self.end) * math.pow(left, self.power)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Linear warm-up to lr, then half a cosine down to `end` at total_steps (Loshchilov & Hutter, 2017, eq. 5).

    Warm-up is lr (t + 1) / warmup_steps: the first update (t = 0) has the rate lr / warmup_steps and not 0, the last
    one of the warm-up the whole rate.

    >>> [round(Cosine(1.0, total_steps=4)(t), 4) for t in (0, 2, 4)]
    [1.0, 0.5, 0.0]
    >>> [Cosine(1.0, total_steps=10, warmup_steps=4)(t) for t in (0, 1, 3)]
    [0.25, 0.5, 1.0]
    """

    lr: float
    total_steps: int
    warmup_steps: int = 0
    end: float = 0.0

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        if self.warmup_steps > self.total_steps:
            raise ValueError(f"Cosine(warmup_steps) must be <= {self.total_steps} in all, got {self.warmup_steps}")

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        t = min((step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1), 1.0)
        return self.end + (self.lr - self.end) * 0.5 * (1.0 + math.cos(math.pi * t))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Half a cosine up from lr / start_factor to lr, then half a cosine down to lr / end_factor (Smith & Topin, 2019).

    >>> cycle = OneCycle(1.0, total_steps=10, rise=0.5)
    >>> [round(cycle(t), 4) for t in (0, 5, 10)]
    [0.04, 1.0, 0.0001]
    """

    lr: float
    total_steps: int
    rise: float = 0.3
    start_factor: float = 25.0
    end_factor: float = 1e4

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        if self.rise > 1:
            raise ValueError(f"OneCycle(rise) must be a fraction of the steps, 0 to 1, got {self.rise!r}")
        if self.start_factor == 0 or self.end_factor == 0:
            raise ValueError("OneCycle(start_factor, end_factor) must be > 0: lr is divided by them")

    def __call__(self, step: int) -> float:
        peak = self.rise * self.total_steps
        if step < peak:
            low, t = self.lr / self.start_factor, step / peak
        else:
            low, t = self.lr / self.end_factor, 1.0 - min((step - peak) / max(self.total_steps - peak, 1e-9), 1.0)
        return low + (self.lr - low) * 0.5 * (1.0 - math.cos(math.pi * t))


SCHEDULES: dict[str, type[Schedule]] = {
    c.__name__: c for c in (Constant, Step, Exponential, Polynomial, Cosine, OneCycle)
}


def rate(lr: LearningRate, step: int) -> float:
    """The learning rate of the update after `step` updates; `lr` is a number or a schedule."""
    value = float(lr(step) if callable(lr) else lr)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"the learning rate of step {step} is {value!r}; it must be finite and >= 0")
    return value

"""Settings of an estimator as they were when it was fitted, and how they are told from others."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from xmlp import losses
from xmlp.losses import Loss, LossLike


class Rate(NamedTuple):
    """The learning rate that was asked for, and the step with which it ends if it is a named schedule."""

    wanted: Any
    end: int | None = None


@dataclass(frozen=True)
class _Later:
    """A schedule that begins after some steps."""

    schedule: Any
    start: int

    def __call__(self, step: int) -> float:
        return float(self.schedule(step - self.start))


def later(lr: Any, start: int) -> Any:
    """The rate, a schedule beginning after `made` steps."""
    return _Later(lr, start) if callable(lr) and start else lr


def frozen(value: Any) -> Any:
    """A setting as it is now, whatever becomes of the list that holds it."""
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def alike(a: Any, b: Any) -> bool:
    """Whether two settings are the same; arrays are compared by their elements."""
    if a is b:
        return True
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, tuple) or isinstance(b, tuple):
        return isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b) and all(map(alike, a, b))
    return bool(a == b)


def loss_named(loss: LossLike | Literal["auto"], default: Loss) -> Loss:
    """The loss that was asked for, "auto" being the default."""
    return default if isinstance(loss, str) and loss == "auto" else losses.get(loss)

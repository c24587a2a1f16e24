"""Limits of time, and the learning rates that were used."""

import time
from typing import TYPE_CHECKING

from xmlp.callbacks.base import Callback
from xmlp.host.settings import number

if TYPE_CHECKING:
    from xmlp.model.trainer import Trainer

__all__ = ["LearningRateMonitor", "MaxSeconds"]


class MaxSeconds(Callback):
    """Ends training after a time, within an epoch as well; the next `fit` without `epochs` would finish that.

    Parameters
    ----------
    seconds : float
        Of one `fit`.
    """

    def __init__(self, seconds: float):
        self.seconds = number(seconds, "seconds", above=True)

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._end = time.monotonic() + self.seconds

    def on_progress(self, trainer: "Trainer") -> None:
        if time.monotonic() >= self._end:
            trainer.stop()

    on_epoch_end = on_progress


class LearningRateMonitor(Callback):
    """Keeps the learning rate of every step.

    Attributes
    ----------
    rates : list of float
        `rates[i]` is that of step `first + i + 1`.
    first : int
        Steps made before.
    """

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self.first, self.rates = trainer.steps, list[float]()

    def on_progress(self, trainer: "Trainer") -> None:
        self.rates += [trainer.rate(step) for step in range(self.first + len(self.rates), trainer.steps)]

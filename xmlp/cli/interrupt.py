"""Ctrl-C and SIGTERM while a network trains."""

import signal
import threading
from types import FrameType
from typing import Any

from xmlp.model.trainer import Trainer

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """A context in which the first signal ends training after the current step, and a second one ends everything.

    It is also a callback of the trainer, for a signal that comes before training begins.

    Attributes
    ----------
    signal : Signals or None
        The signal that came.
    """

    def __init__(self, trainer: Trainer):
        self.signal: signal.Signals | None = None
        self._trainer = trainer
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup, or in the background of a script
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self.signal is not None:
            trainer.stop()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self.signal = signal.Signals(number)
        self._trainer.stop()

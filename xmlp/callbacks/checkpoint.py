"""Checkpoints, the latest and the best."""

import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xmlp.callbacks.base import Callback
from xmlp.callbacks.monitors import Monitor
from xmlp.errors import unknown
from xmlp.host.settings import count, number
from xmlp.training.checkpoints import steps_in
from xmlp.types import Direction

if TYPE_CHECKING:
    from xmlp.model.trainer import Trainer

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Saves the whole state of training, so that `Trainer.resume` can go on from there.

    The folder holds the last `keep` checkpoints, `step-....safetensors`, and `best.safetensors`.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    every_epochs : int, optional
    every_seconds : float, optional
        Within epochs too. One more is saved when `fit` begins and when it ends.
    keep : int
    best : str, optional
        The quantity of the history whose best epoch is kept: lower is better for losses, higher for the metrics, unless
        `mode` says otherwise.
    on_error : {"warn", "raise"}
        Whether training goes on when a checkpoint cannot be written. The older ones are untouched either way.

    Examples
    --------
    >>> import numpy as np, tempfile, xmlp
    >>> x, folder = np.linspace(-1, 1, 64)[:, None], tempfile.mkdtemp()
    >>> history = xmlp.mlp([1, 8, 1]).fit(x, x**2, epochs=3, callbacks=[xmlp.callbacks.Checkpoint(folder)])
    >>> xmlp.Trainer.resume(folder).epoch
    3
    """

    last = True  # the trainer calls it after all others, whose memory is then that of the same moment

    def __init__(
        self, folder: str | os.PathLike[str], *, every_epochs: int | None = 1, every_seconds: float | None = None,
        keep: int = 2, best: str | None = None, mode: Direction = "auto", on_error: Literal["warn", "raise"] = "warn",
    ):  # fmt: skip
        if on_error not in ("warn", "raise"):
            raise ValueError(unknown("on_error", on_error, ("warn", "raise")))
        self.folder, self.keep, self.on_error = Path(folder), count(keep, "keep"), on_error
        self.every_epochs = None if every_epochs is None else count(every_epochs, "every_epochs")
        self.every_seconds = None if every_seconds is None else number(every_seconds, "every_seconds")
        self._best = None if best is None else Monitor(best, 1, 0.0, mode)
        self._own: list[Path] = []  # what this run has written, the oldest first
        self._saved: tuple[int, int, int] | None = None
        self._at = time.monotonic()

    def on_fit_begin(self, trainer: "Trainer") -> None:
        if any(isinstance(c, Checkpoint) and c is not self and c.folder == self.folder for c in trainer.callbacks):
            raise ValueError(f"two Checkpoints write to {self.folder}: give each a folder of its own")
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder} is a file; a Checkpoint writes several and needs a folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoints = steps_in(self.folder)[::-1]
        before = [path for path in checkpoints if path.stem <= _name(trainer)]
        if len(before) < len(checkpoints) and not trainer.resumed:
            raise ValueError(
                f"{self.folder} holds checkpoints of another run: go on with it, Trainer.resume({str(self.folder)!r}), "
                "or choose another folder"
            )
        self._own = before if trainer.resumed else [path for path in before if path in self._own]
        self._saved, self._at = trainer.moment, time.monotonic()
        if not trainer.resumed:
            self.save(trainer)
        if self._best is not None and not trainer.resumed:
            self._best.reset()

    def on_progress(self, trainer: "Trainer") -> None:
        if self.every_seconds is not None and time.monotonic() - self._at >= self.every_seconds:
            self.save(trainer)

    def on_epoch_end(self, trainer: "Trainer") -> None:
        better = self._best is not None and self._best.improved(trainer)
        if self.every_epochs is not None and trainer.epoch % self.every_epochs == 0:
            self.save(trainer)
        if better:
            self._write(trainer, self.folder / "best.safetensors")

    def on_fit_end(self, trainer: "Trainer") -> None:
        if (trainer.finished or trainer.stopping) and self._saved != trainer.moment:
            self.save(trainer)

    def save(self, trainer: "Trainer") -> None:
        """Save a checkpoint now, and remove those that are too old."""
        path = self.folder / f"{_name(trainer)}.safetensors"
        if self._write(trainer, path):
            self._saved = trainer.moment
            self._own = [*(p for p in self._own if p != path), path]
            while len(self._own) > self.keep:
                self._own.pop(0).unlink(missing_ok=True)
        self._at = time.monotonic()

    def _write(self, trainer: "Trainer", path: Path) -> bool:
        try:
            trainer.save(path)
        except (OSError, TypeError, ValueError) as error:
            if self.on_error == "raise":
                raise
            warnings.warn(f"no checkpoint at step {trainer.steps}, training goes on: {error}", stacklevel=2)
            return False
        return True

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {} if self._best is None else self._best.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        if self._best is not None and state:
            self._best.restore(state)


def _name(trainer: "Trainer") -> str:
    return f"step-{trainer.steps:010d}"

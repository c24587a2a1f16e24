"""Callbacks: what happens while a network trains, besides training.

A callback is any object with some of these methods, each called with the trainer:

- `on_fit_begin`, `on_fit_end`: around a `fit`, the second however it ends;
- `on_epoch_begin`, `on_epoch_end`: around an epoch; at its end the epoch's row stands in `trainer.history`;
- `on_step_end`: after every single step;
- `on_progress`: now and then within an epoch, some fifty times a second at most: for what need not see every step,
  which then run in groups.

It may read the trainer (`history`, `steps`, `epoch`, `lr`, `network`), call `trainer.stop()`, change
`trainer.lr_scale` or assign `trainer.network.theta`. What it must remember when a run is cut and resumed, it returns
from `state()`, a dict of numbers, strings, None and arrays, and takes back in `restore(state)`; one whose state is an
empty dict has nothing to remember.

Examples
--------
>>> import numpy as np, xmlp
>>> class Print:
...     def on_epoch_end(self, trainer):
...         print(f"epoch {trainer.epoch}: {trainer.history['loss'][-1]:.1f}")
>>> x = np.linspace(-1, 1, 32)[:, None]
>>> history = xmlp.mlp([1, 8, 1]).fit(x, 3 * x, epochs=2, callbacks=[Print()])
epoch 1: 5.1
epoch 2: 5.0
"""

import csv
import json
import math
import os
import time
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Literal

from xmlp.errors import unknown
from xmlp.host.settings import count, flag, number
from xmlp.training.checkpoints import steps_in
from xmlp.types import Direction

if TYPE_CHECKING:
    from xmlp.model.network import Network
    from xmlp.model.trainer import Trainer

__all__ = [
    "CSVLogger", "Checkpoint", "EarlyStopping", "JSONLLogger", "LearningRateMonitor", "MaxSeconds", "ReduceOnPlateau",
]  # fmt: skip

_DIRECTIONS = {"loss": "min", "penalty": "min", "mae": "min", "rmse": "min", "accuracy": "max", "precision": "max",
               "recall": "max", "f1": "max", "r2": "max"}  # fmt: skip


class Monitor:
    """Follows one quantity of the history: the best value so far, and for how many epochs there was no better one."""

    def __init__(self, monitor: str, patience: int, min_delta: float, mode: Direction):
        if mode not in ("auto", "min", "max"):
            raise ValueError(unknown("mode", mode, ("auto", "min", "max")))
        if mode == "auto" and monitor.removeprefix("val_") not in _DIRECTIONS:
            raise ValueError(f'whether {monitor!r} is better when lower is not known: pass mode="min" or mode="max"')
        self.monitor = monitor
        self.patience, self.min_delta = count(patience, "patience"), number(min_delta, "min_delta")
        self.mode = _DIRECTIONS[monitor.removeprefix("val_")] if mode == "auto" else mode
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self.best: float | None = None
        self.best_epoch = self.wait = 0

    def improved(self, trainer: "Trainer") -> bool:
        """Take note of the epoch that has ended: whether its value is better than all before; only finite ones are."""
        value = _value(trainer, self.monitor)
        sign = 1.0 if self.mode == "min" else -1.0
        better = math.isfinite(value) and (self.best is None or sign * value < sign * self.best - self.min_delta)
        if better:
            self.best, self.best_epoch, self.wait = value, trainer.epoch, 0
        else:
            self.wait += 1
        return better

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self.best, "best_epoch": self.best_epoch, "wait": self.wait}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self.best, self.best_epoch, self.wait = state["best"], state["best_epoch"], state["wait"]


def _value(trainer: "Trainer", name: str) -> float:
    if name not in trainer.history:
        hint = " Pass validation_data or validation_split to fit." if name.startswith("val_") else ""
        raise ValueError(f"the history has no {name!r}, it has {', '.join(trainer.history)}.{hint}")
    return trainer.history[name][-1]


class EarlyStopping:
    """Ends training when a quantity has stopped to improve, and goes back to the best weights.

    Parameters
    ----------
    monitor : str
        A name of the history: "val_loss", "loss", or a metric, as "val_accuracy".
    patience : int
        Epochs without an improvement after which training ends.
    min_delta : float
        By how much a value must be better than the best one to count.
    mode : {"auto", "min", "max"}
        Whether lower or higher is better; known by itself for losses and the library's metrics.
    restore_best : bool
        Whether the network has the parameters and statistics of the best epoch in the end.

    Attributes
    ----------
    best : float or None
    best_epoch : int
        Counted from 1; 0 before there is one.
    stopped : bool
        Whether it was this callback that ended training.

    Examples
    --------
    >>> import numpy as np, xmlp
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> stopping = xmlp.callbacks.EarlyStopping(patience=3)
    >>> history = xmlp.mlp([1, 8, 1]).fit(
    ...     x, x**2, epochs=1000, optimizer=xmlp.optimizers.Adam(0.1), validation_split=0.25, callbacks=[stopping])
    >>> stopping.stopped and history.epochs == stopping.best_epoch + 3
    True
    """

    def __init__(
        self, monitor: str = "val_loss", *, patience: int = 10, min_delta: float = 0.0, mode: Direction = "auto",
        restore_best: bool = True,
    ):  # fmt: skip
        self._monitor = Monitor(monitor, patience, min_delta, mode)
        self.restore_best = flag(restore_best, "restore_best")
        self._forget()

    def _forget(self) -> None:
        self._monitor.reset()
        self.stopped = False
        self._theta: Any = None
        self._stats: Any = None

    @property
    def best(self) -> float | None:
        """The best value so far, None before the first."""
        return self._monitor.best

    @property
    def best_epoch(self) -> int:
        """The epoch of the best value, counted from 1; 0 before the first."""
        return self._monitor.best_epoch

    def on_fit_begin(self, trainer: "Trainer") -> None:
        if not trainer.resumed:
            self._forget()
        elif self.stopped:
            trainer.stop()

    def on_epoch_end(self, trainer: "Trainer") -> None:
        if self._monitor.improved(trainer):
            if self.restore_best:
                network, copy = trainer.network, trainer.network.backend.copy
                self._theta, self._stats = copy(network.theta), copy(network.stats)
        elif self._monitor.wait >= self._monitor.patience:
            self.stopped = True
            trainer.stop()

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self.stopped or trainer.finished:
            self.give_best(trainer.network)

    def give_best(self, network: "Network") -> None:
        """Give a network the parameters and statistics of the best epoch so far, if there is one and it was kept."""
        if self._theta is not None:
            network.theta, network.stats = self._theta, self._stats

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, the best weights too."""
        kept = {} if self._theta is None else {"theta": self._theta, "stats": self._stats}
        return {**self._monitor.state(), "stopped": self.stopped, **kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self._monitor.restore(state)
        self.stopped, self._theta, self._stats = state["stopped"], state.get("theta"), state.get("stats")


class ReduceOnPlateau:
    """Lowers the learning rate when a quantity has stopped to improve.

    Parameters
    ----------
    monitor, patience, min_delta, mode
        As for `EarlyStopping`.
    factor : float
        What `trainer.lr_scale` is multiplied by, 0 < factor < 1.
    min_lr : float
        No learning rate below it is set.
    """

    def __init__(
        self, monitor: str = "val_loss", *, factor: float = 0.1, patience: int = 5, min_delta: float = 0.0,
        mode: Direction = "auto", min_lr: float = 0.0,
    ):  # fmt: skip
        self._monitor = Monitor(monitor, patience, min_delta, mode)
        self.factor = number(factor, "factor", high=1.0, above=True)
        self.min_lr = number(min_lr, "min_lr")

    def on_fit_begin(self, trainer: "Trainer") -> None:
        if not trainer.resumed:
            self._monitor.reset()

    def on_epoch_end(self, trainer: "Trainer") -> None:
        if self._monitor.improved(trainer) or self._monitor.wait < self._monitor.patience:
            return
        self._monitor.wait = 0
        if trainer.lr > self.min_lr:
            trainer.lr_scale *= max(self.factor, self.min_lr / trainer.lr)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self._monitor.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self._monitor.restore(state)


class MaxSeconds:
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


class LearningRateMonitor:
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


class _Logger:
    """Writes the rows of the history to a file, a line per epoch; the epochs before this `fit` come first."""

    _newline: ClassVar[str | None] = None

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._file: IO[str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}  # the next fit begins the file again, with the epochs made so far

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._file = open(self.path, "w", encoding="utf-8", newline=self._newline)  # noqa: SIM115 - closed at the end
        self._names: list[str] = []
        for epoch in range(1, trainer.epoch + 1):
            self._line(trainer, epoch)

    def on_epoch_end(self, trainer: "Trainer") -> None:
        self._line(trainer, trainer.epoch)

    def _line(self, trainer: "Trainer", epoch: int) -> None:
        assert self._file is not None
        row = {name: column[epoch - 1] for name, column in trainer.history.items()}
        self._write(self._file, {"epoch": epoch, **row})
        self._file.flush()

    def _write(self, file: IO[str], row: dict[str, float]) -> None:
        raise NotImplementedError

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class CSVLogger(_Logger):
    """Writes the history to a CSV file while training goes on: a header, then a line per epoch.

    Parameters
    ----------
    path : path
        Overwritten when a fit begins, with the epochs so far.
    """

    _newline = ""

    def _write(self, file: IO[str], row: dict[str, float]) -> None:
        if not self._names:
            self._names = list(row)
            csv.writer(file).writerow(self._names)
        csv.writer(file).writerow([row.get(name, math.nan) for name in self._names])


class JSONLLogger(_Logger):
    """Writes the history as JSON while training goes on: an object and a line per epoch, null for what is not finite.

    Parameters
    ----------
    path : path
        Overwritten when a fit begins, with the epochs so far.
    """

    def _write(self, file: IO[str], row: dict[str, float]) -> None:
        file.write(json.dumps({k: v if math.isfinite(v) else None for k, v in row.items()}) + "\n")


class Checkpoint:
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
        found = steps_in(self.folder)[::-1]
        before = [path for path in found if path.stem <= _name(trainer)]
        if len(before) < len(found) and not trainer.resumed:
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

"""What follows a quantity of the history, and ends training or lowers its rate when that no longer improves."""

import math
from typing import TYPE_CHECKING, Any, get_args

from xmlp.callbacks.base import Callback
from xmlp.errors import unknown
from xmlp.host.settings import count, flag, number
from xmlp.metrics import METRICS
from xmlp.types import Direction

if TYPE_CHECKING:
    from xmlp.model.network import Network
    from xmlp.model.trainer import Trainer

__all__ = ["EarlyStopping", "ReduceOnPlateau"]

_GREATER_IS_BETTER = {name: bool(metric.greater_is_better) for name, metric in METRICS.items()}
_GREATER_IS_BETTER |= {"loss": False, "penalty": False}


class Monitor:
    """Follows one quantity of the history: the best value so far, and for how many epochs there was no better one."""

    def __init__(self, monitor: str, patience: int, min_delta: float, mode: Direction):
        if mode not in get_args(Direction):
            raise ValueError(unknown("mode", mode, get_args(Direction)))
        name = monitor.removeprefix("val_")
        if mode == "auto" and name not in _GREATER_IS_BETTER:
            raise ValueError(f'whether {monitor!r} is better when lower is not known: pass mode="min" or mode="max"')
        self.monitor = monitor
        self.patience, self.min_delta = count(patience, "patience"), number(min_delta, "min_delta")
        greater = mode == "max" or (mode == "auto" and _GREATER_IS_BETTER[name])
        self.sign = -1.0 if greater else 1.0
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self.best: float | None = None
        self.best_epoch = self.wait = 0

    def improved(self, trainer: "Trainer") -> bool:
        """Take note of the epoch that has ended: whether its value is better than all before; only finite ones are."""
        value = _value(trainer, self.monitor)
        better = math.isfinite(value) and (
            self.best is None or self.sign * value < self.sign * self.best - self.min_delta
        )
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


class EarlyStopping(Callback):
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


class ReduceOnPlateau(Callback):
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

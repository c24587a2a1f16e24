"""How training is told: not at all, in lines, as JSON, or as a view that moves on a terminal."""

import math
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from xmlp.cli.text import json_line, quantity
from xmlp.training import History, Trainer

if TYPE_CHECKING:
    from rich.console import RenderableType

_BARS = "▁▂▃▄▅▆▇█"
_NAMES = {"accuracy": "accuracy", "r2": "R2"}


class Course(NamedTuple):
    """How long training is going to be, and what is measured on the way."""

    epochs: int
    rows: int
    batch_size: int
    metric: str

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return math.ceil(self.rows / self.batch_size)

    def latest(self, history: History) -> list[str]:
        """The losses and metrics of the last epoch in words."""
        names = [name for name in ("loss", "val_loss", self.metric, f"val_{self.metric}") if name in history]
        names = [name for name in names if name == "loss" or f"val_{name}" not in history]
        return [f"{_word(name)} {history[name][-1]:.4f}" for name in names]


def _word(name: str) -> str:
    metric = name.removeprefix("val_")
    return ("validation " if name.startswith("val_") else "") + _NAMES.get(metric, metric)


class Quiet:
    """Says nothing."""

    def __init__(self, course: Course):
        self.course = course

    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, *error: object) -> None: ...

    def say(self, text: str) -> None:
        """Tell people something."""

    def end(self, result: dict[str, Any]) -> None:
        """Tell programs how it ended."""


class Json(Quiet):
    """An object a line: one for each epoch, one for the end."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        row = {name: column[-1] for name, column in trainer.history.items()}
        speed = self.course.rows / max(row["seconds"], 1e-9)
        click.echo(json_line({"event": "epoch", "epoch": trainer.epoch, **row, "samples_per_second": round(speed)}))

    def end(self, result: dict[str, Any]) -> None:
        click.echo(json_line({"event": "end", **result}))


class Lines(Quiet):
    """A line for each epoch."""

    def say(self, text: str) -> None:
        click.echo(text)

    def on_epoch_end(self, trainer: Trainer) -> None:
        epochs, seconds = self.course.epochs, trainer.history["seconds"][-1]
        parts = [*self.course.latest(trainer.history), f"{quantity(self.course.rows / max(seconds, 1e-9))} samples/s"]
        click.echo(f"epoch {trainer.epoch:{len(str(epochs))}}/{epochs}  " + "  ".join(parts))


class View(Quiet):
    """A bar with the epochs and the time that is left, and under it the latest numbers with their curves."""

    def __init__(self, course: Course):
        from rich.console import Console
        from rich.live import Live

        super().__init__(course)
        self._trainer: Trainer | None = None
        self._begin = self._drawn = time.perf_counter()
        self._live = Live(self, console=Console(highlight=False), auto_refresh=False)

    def __enter__(self) -> "View":
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        click.echo(text)

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._trainer, self._begin = trainer, time.perf_counter()

    def on_step_end(self, trainer: Trainer) -> None:
        if time.perf_counter() - self._drawn > 0.1:
            self.on_epoch_end(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        self._live.refresh()
        self._drawn = time.perf_counter()

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self._trainer is None:
            return Text()
        course, trainer = self.course, self._trainer
        total, done, seconds = course.epochs * course.steps, trainer.steps, time.perf_counter() - self._begin
        speed = done / max(seconds, 1e-9)
        epoch = min(trainer.epoch + (not done or done % course.steps > 0), course.epochs)
        left = timedelta(seconds=round((total - done) / speed)) if done else "?"
        grid = Table.grid(Column(no_wrap=True), Column(ratio=1), Column(no_wrap=True), padding=(0, 2), expand=True)
        speeds = f"{quantity(speed * course.rows / course.steps)} samples/s  ETA {left}"
        grid.add_row(f"epoch {epoch}/{course.epochs}", ProgressBar(total, done), f"{done / total:4.0%}  {speeds}")
        grid.add_row()
        history = trainer.history
        curves = [Text.assemble(text, "  ", (_curve(history[n]), "cyan")) for n, text in course.latest(history)]
        return Group(grid, Columns(curves))

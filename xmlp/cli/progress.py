"""How training is told: not at all, in lines, as JSON, or as a view that moves on a terminal."""

import math
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from xmlp.cli.model import NAMES
from xmlp.cli.text import json_line, quantity
from xmlp.training import History, Trainer

if TYPE_CHECKING:
    from rich.console import RenderableType

_BARS = "▁▂▃▄▅▆▇█"


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

    def measured(self, history: History) -> dict[str, list[float]]:
        """The losses and the metric by words for people; of the metric only that of the validation rows, if any."""
        metric = f"val_{self.metric}" if f"val_{self.metric}" in history else self.metric
        return {_word(name): history[name] for name in ("loss", "val_loss", metric) if name in history}


def _word(name: str) -> str:
    plain = name.removeprefix("val_")
    return ("validation " if plain != name else "") + NAMES.get(plain, plain)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _curve(values: Sequence[float], width: int = 40) -> str:
    """The latest values as a row of bars.

    >>> _curve([1.0, 2.0, 8.0])
    '▁▂█'
    """
    recent = [v for v in values[-width:] if math.isfinite(v)]
    low, span = min(recent, default=0.0), max(recent, default=0.0) - min(recent, default=0.0)
    return "".join(_BARS[round((v - low) / span * (len(_BARS) - 1)) if span else 0] for v in recent)


class Quiet:
    """Says nothing."""

    def __init__(self, course: Course):
        self.course = course
        self._steps = 0

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._steps = trainer.steps

    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, *error: object) -> None: ...

    def say(self, text: str) -> None:
        """Tell people something."""

    def end(self, result: dict[str, Any]) -> None:
        """Tell programs how it ended."""

    def speed(self, trainer: Trainer) -> float:
        """Rows a second since this was asked last, after an epoch."""
        steps, self._steps = trainer.steps - self._steps, trainer.steps
        return steps * self.course.rows / self.course.steps / max(trainer.history["seconds"][-1], 1e-9)


class Json(Quiet):
    """An object a line: one for each epoch, one for the end."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        row = {name: column[-1] for name, column in trainer.history.items()}
        row["samples_per_second"] = round(self.speed(trainer))
        click.echo(json_line({"event": "epoch", "epoch": trainer.epoch, **row}))

    def end(self, result: dict[str, Any]) -> None:
        click.echo(json_line({"event": "end", **result}))


class Lines(Quiet):
    """A line for each epoch."""

    def say(self, text: str) -> None:
        click.echo(text)

    def on_epoch_end(self, trainer: Trainer) -> None:
        epochs = self.course.epochs
        parts = [f"{word} {column[-1]:#.4g}" for word, column in self.course.measured(trainer.history).items()]
        parts.append(f"{quantity(self.speed(trainer))} samples/s")
        click.echo(f"epoch {trainer.epoch:{len(str(epochs))}}/{epochs}  " + "  ".join(parts))


class View(Quiet):
    """A bar with the epochs and the time that is left, and under it the latest numbers with their curves."""

    def __init__(self, course: Course):
        from rich.console import Console
        from rich.live import Live

        super().__init__(course)
        self._trainer: Trainer | None = None
        self._begin = self._drawn = time.perf_counter()
        self._made = 0  # steps when this fit began
        self._live = Live(self, console=Console(highlight=False), auto_refresh=False)

    def __enter__(self) -> "View":
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        click.echo(text)

    def on_fit_begin(self, trainer: Trainer) -> None:
        super().on_fit_begin(trainer)
        self._trainer, self._begin, self._made = trainer, time.perf_counter(), trainer.steps

    def on_progress(self, trainer: Trainer) -> None:
        if time.perf_counter() - self._drawn > 0.1:
            self._live.refresh()
            self._drawn = time.perf_counter()

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Column, Table
        from rich.text import Text

        if self._trainer is None:
            return Text()
        course, trainer = self.course, self._trainer
        total, done = course.epochs * course.steps, trainer.steps
        seconds = time.perf_counter() - self._begin
        speed = (done - self._made) / max(seconds, 1e-9)
        left = f"ETA {_clock((total - done) / speed)}" if self._made < done < total else _clock(seconds)
        bar = Table.grid(Column(no_wrap=True), Column(ratio=1), Column(no_wrap=True), padding=(0, 2), expand=True)
        bar.add_row(
            f"epoch {min(done // course.steps + 1, course.epochs)}/{course.epochs}",
            ProgressBar(total, done),
            f"{done / total:4.0%}  {quantity(speed * course.rows / course.steps)} samples/s  {left}",
        )
        numbers = Table.grid(padding=(0, 2))
        for word, column in course.measured(trainer.history).items():
            numbers.add_row(word, f"{column[-1]:#.4g}", Text(_curve(column), "cyan"))
        return Group(bar, numbers)

"""How training is told: not at all, in lines, as JSON, or as a view that moves on a terminal."""

import math
import sys
import textwrap
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from xmlp.cli.text import json_line, of_command, quantity, shown
from xmlp.metrics import METRICS
from xmlp.model.trainer import Trainer
from xmlp.training.history import History

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_BARS = "▁▂▃▄▅▆▇█"
_GAP = 2  # columns between the parts of the view
_LEAST_BAR = 10
_LEAST_CURVE = 5


class Course(NamedTuple):
    """How long training is going to be, and what is measured on the way."""

    epochs: int
    rows: int
    batch_size: int
    metric: str
    held: int = 2  # rows to validate on

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return math.ceil(self.rows / self.batch_size)

    def measured(self, history: History) -> dict[str, list[float]]:
        """The losses and the metric by words for people; of the metric only that of the validation rows, if any."""
        metric = f"val_{self.metric}" if f"val_{self.metric}" in history else self.metric
        names = ("loss", "val_loss", metric)
        return {_word(name): history[name] for name in names if name in history and self.defined(name)}

    def defined(self, name: str) -> bool:
        """Whether a quantity of the history has a meaning: R2 divides by the spread of targets, and one has none."""
        return name != "val_r2" or self.held > 1

    def kept(self, history: History, epoch: int) -> str:
        """Which epoch's weights the model has, and why."""
        last = history.epochs
        if "val_loss" not in history:
            return f"last epoch, {epoch}, kept: no rows are held out to tell which is best"
        validated = {word.partition(" ")[2]: v for word, v in self.measured(history).items() if " " in word}
        best = ", ".join(f"{word} {column[epoch - 1]:#.4g}" for word, column in validated.items())
        if epoch == last:
            return f"best epoch {epoch} of {last} kept, the last: {best}"
        end = ", ".join(f"{column[-1]:#.4g}" for column in validated.values())
        return f"best epoch {epoch} of {last} kept: {best}; last {end}"


def _word(name: str) -> str:
    plain = name.removeprefix("val_")
    return ("validation " if plain != name else "") + (METRICS[plain].title if plain in METRICS else plain)


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


def _warning(message: object) -> str:
    return f"warning: {shown(of_command(message))}"


class Quiet:
    """Says nothing."""

    def __init__(self, course: Course):
        self.course = course
        self._steps = 0
        self._warm: tuple[int, float] | None = None  # steps and time when the first steps were made
        self._timed = False

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._steps, self._warm, self._timed = trainer.steps, None, False

    def on_progress(self, trainer: Trainer) -> None:
        self._warm = self._warm or (trainer.steps, time.perf_counter())

    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, *error: object) -> None: ...

    def say(self, text: str) -> None:
        """Tell people something."""

    def warn(self, message: object) -> None:
        """Tell people what they should know, whatever else is told."""
        click.echo(_warning(message), err=True)

    def end(self, result: dict[str, Any]) -> None:
        """Tell programs how it ended."""

    def speed(self, trainer: Trainer) -> float:
        """Rows a second since this was asked last, after an epoch; the first steps, which compile, do not count."""
        steps, self._steps = trainer.steps - self._steps, trainer.steps
        seconds = trainer.history["seconds"][-1]
        if self._warm is not None and not self._timed and trainer.steps > self._warm[0]:
            steps, seconds = trainer.steps - self._warm[0], time.perf_counter() - self._warm[1]
        self._timed = True
        return steps * self.course.rows / self.course.steps / max(seconds, 1e-9)


class Json(Quiet):
    """An object a line: one for each epoch, one for the end."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        defined = self.course.defined
        row: dict[str, Any] = {n: column[-1] if defined(n) else None for n, column in trainer.history.items()}
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


def wrapped(text: str, width: int) -> list[str]:
    """A line that is too long for a terminal, broken between words and not between a name or number and its unit.

    >>> wrapped("validation: R2 0.01382  MAE 2.084e+05  RMSE 2.552e+05", 40)
    ['validation: R2 0.01382  MAE 2.084e+05', '  RMSE 2.552e+05']
    """
    return textwrap.wrap(text, max(width, 30), subsequent_indent="  ", break_on_hyphens=False)


class View(Quiet):
    """A bar with the epochs and the time that is left, and under it the latest numbers with their curves.

    A narrow terminal gets less: first the speed goes, then the bar, then the curves.
    """

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
        width = self._live.console.width
        click.echo("\n".join(wrapped(text, width)) if len(text) > width else text)

    def warn(self, message: object) -> None:
        """Tell it above the view, where that is on the terminal to which warnings go."""
        from rich.text import Text

        if self._live.is_started and sys.stderr.isatty():
            self._live.console.print(Text("\n".join(wrapped(_warning(message), self._live.console.width))))
        else:
            super().warn(message)

    def on_fit_begin(self, trainer: Trainer) -> None:
        super().on_fit_begin(trainer)
        self._trainer, self._begin, self._made = trainer, time.perf_counter(), trainer.steps

    def on_progress(self, trainer: Trainer) -> None:
        super().on_progress(trainer)
        if time.perf_counter() - self._drawn > 0.1:
            self._live.refresh()
            self._drawn = time.perf_counter()

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        if self._trainer is not None:
            yield self._bar(self._trainer, options.max_width)
            yield self._numbers(self._trainer, options.max_width)

    def _bar(self, trainer: Trainer, width: int) -> "RenderableType":
        """The line with the epoch, and as much more as there is room for."""
        from rich.progress_bar import ProgressBar
        from rich.table import Column, Table

        course, done = self.course, trainer.steps
        total = course.epochs * course.steps
        made, at = self._warm or (self._made, self._begin)
        speed = (done - made) / max(time.perf_counter() - at, 1e-9)
        spent = time.perf_counter() - self._begin
        left = f"ETA {_clock((total - done) / speed)}" if made < done < total else _clock(spent)
        epoch = f"epoch {min(done // course.steps + 1, course.epochs)}/{course.epochs}"
        share, rate = f"{done / total:4.0%}", f"{quantity(speed * course.rows / course.steps)} samples/s"
        for end in (f"{share}  {rate}  {left}", f"{share}  {left}"):
            if width >= len(epoch) + _LEAST_BAR + len(end) + 2 * _GAP:
                sides = Column(no_wrap=True), Column(ratio=1), Column(no_wrap=True)
                bar = Table.grid(*sides, padding=(0, _GAP), expand=True)
                bar.add_row(epoch, ProgressBar(total, done), end)
                return bar
        lines = (f"{epoch}  {share}  {left}", f"{epoch}  {left}")
        return next((line for line in lines if len(line) <= width), epoch)

    def _numbers(self, trainer: Trainer, width: int) -> "RenderableType":
        """The latest numbers; before there are any an empty line, where what is typed does not wrap the bar."""
        from rich.table import Table
        from rich.text import Text

        measured = self.course.measured(trainer.history)
        if not measured:
            return Text()
        room = width - max(map(len, measured)) - 2 * _GAP - 8 - len("^C")
        numbers = Table.grid(padding=(0, _GAP))
        for word, column in measured.items():
            curve = [Text(_curve(column, min(room, 40)), "cyan")] if room >= _LEAST_CURVE else []
            numbers.add_row(word, f"{column[-1]:#.4g}", *curve)
        return numbers

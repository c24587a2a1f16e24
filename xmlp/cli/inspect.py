"""`xmlp inspect`: what a CSV file is taken for, on one screen, as it is shown before training."""

import reprlib
import shlex
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import click

from xmlp.cli import model, options
from xmlp.cli.listing import MOST, by_kind, enumerated, listed, names_of, wrapped
from xmlp.cli.text import counted, json_line
from xmlp.data import Survey
from xmlp.data.decision import Decision
from xmlp.data.kinds import WISHES
from xmlp.data.survey import TASKS, to_json
from xmlp.data.wishes import parse_wishes, wish


def _wishes(ctx: click.Context, param: click.Parameter, value: Any) -> dict[str, str]:
    """Read what columns are to be, from one or more options."""
    try:
        return parse_wishes(",".join(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


task_option = click.option(
    "--task", metavar="|".join(TASKS), callback=options.one_of("task", TASKS), help="[default: as the target looks]"
)
columns_option = click.option(
    "--columns", metavar="NAME:KIND,...", multiple=True, callback=_wishes,
    help=f"What columns are, where it is not seen: {', '.join(WISHES)}. A name with commas stands in double quotes.",
)  # fmt: skip
missing_option = click.option(
    "--missing", metavar="mean|refuse", callback=options.one_of("way with missing values", ("mean", "refuse")),
    help="Missing values become the mean, and that they were missing is learnt from too; or an error. [default: mean]",
)  # fmt: skip


@click.command(
    "inspect",
    cls=options.Command,
    short_help="Show what a CSV file is taken for.",
    epilog="xmlp inspect houses.csv --target price\nxmlp inspect houses.csv --columns zip:category,id:drop",
)
@click.argument("csv", metavar="CSV")
@click.option("--target", metavar="NAME", help="The column to predict.")
@task_option
@columns_option
@missing_option
@options.separator
@options.encoding
@options.as_json
def command(
    csv: str, target: str | None, task: str | None, columns: dict[str, str], missing: str | None,
    separator: str | None, encoding: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show what a CSV file with a header line is taken for, - for standard input. Nothing is trained.

    Of each column: its kind, its range or categories, how many cells have no value, and whether it is left out, with
    the reason; of the target: the task. Where it is wrong, --columns puts it right, here and in training.
    """
    table = model.read(csv, separator, encoding)
    found = Survey.of(table, target, task, columns=columns, missing=missing or "mean")
    tell(found, quiet=False, as_json=as_json)
    found.check(table)


def tell(found: Survey, *, quiet: bool, as_json: bool) -> None:
    """Say what was decided: nothing, an object in a line, or a screen."""
    if as_json:
        click.echo(json_line({"event": "table", **to_json(found)}))
    elif not quiet:
        click.echo("\n".join(screen(found, shutil.get_terminal_size((100, 24)).columns)))


def screen(found: Survey, width: int) -> Iterator[str]:
    """Lines of at most `width` characters (of 30, where it is narrower)."""
    width = max(width, 30)
    names = len(found.columns) + (found.target is not None)
    size = f"{counted(found.rows, 'row')}, {counted(names, 'column')}"
    yield from wrapped(f"{found.name}: {size}", width, "")
    yield from _target(found, width)
    if len(found.learnt) <= MOST:
        yield from listed("learnt from", [(c.name, c.kind, partial(_about, c)) for c in found.learnt], width)
    else:
        yield from _summed(found.learnt, width)
    yield from listed("left out", [(c.name, c.kind, partial(_why, c)) for c in found.dropped[:MOST]], width)
    if more := [column.name for column in found.dropped[MOST:]]:
        yield from enumerated(f"and {len(more)} more: ", more, width)
    noted = [column for column in (found.target, *found.learnt) if column is not None]
    notes = [f"{column.name}: {_with_option(column, note)}" for column in noted for note in column.notes]
    for note in notes[:MOST]:
        yield from wrapped(f"note: {note}", width, "")


def _with_option(column: Decision, note: str) -> str:
    """A note whose `:kind` is written out as the option that it stands for."""
    words, colon, kind = note.rpartition(", say :")
    return f"{words}, say --columns {shlex.quote(wish(column.name, kind))}" if colon else note


def _target(found: Survey, width: int) -> Iterator[str]:
    target = found.target
    if target is None:
        return
    yield from wrapped(f"target {target.name}: {found.task}, {_reason(found.reason)}", width, "")
    learnt = _range(target) if found.task == "regression" else names_of(found.classes, 2 * (width - 4))
    yield from wrapped(learnt, width, "  ")
    if lost := found.rows - len(found.kept):
        yield from wrapped(f"without a target, and so left out: {counted(lost, 'row')}", width, "  ")


def _reason(reason: str) -> str:
    return reason if reason == "as asked for" else f"as it has {reason}"


def _summed(columns: tuple[Decision, ...], width: int) -> Iterator[str]:
    """Many columns by their kinds, and by name those with gaps or an own way to write numbers."""
    yield f"learnt from {len(columns)} columns:"
    yield from by_kind(columns, width)
    if gaps := [f"{c.name} {c.gaps}" for c in sorted(columns, key=lambda c: -c.gaps) if c.gaps]:
        yield from enumerated(f"gaps in {counted(len(gaps), 'column')}: ", gaps, width, 3)
    if forms := [f"{c.name} ({c.format})" for c in columns if str(c.format or "")]:
        yield from enumerated("written in a way of their own: ", forms, width, 3)
    if odd := [f"{c.name} {reprlib.repr(c.odd.text)}" for c in columns if c.odd is not None]:
        yield from enumerated("not to be read: ", odd, width, 3)


def _why(column: Decision, room: int) -> str:
    """Why a column is left out."""
    return column.reason


def _about(column: Decision, room: int) -> str:
    """What is to be known of a column, the most important first."""
    odd = column.odd
    parts = [] if odd is None else [f"{counted(odd.rows, 'cell')} not to be read, such as {reprlib.repr(odd.text)}"]
    parts += [counted(column.gaps, "gap")] * (column.gaps > 0)
    return "; ".join([*parts, names_of(column.categories, room) if column.kind == "category" else _range(column)])


def _range(column: Decision) -> str:
    form = f" ({column.format})" if str(column.format or "") else ""
    if column.low is None:
        return f"no value{form}"
    low, high = (f"{end:.6g}" if isinstance(end, float) else end for end in (column.low, column.high))
    return f"{low} to {high}{form}"

"""Options that several commands share, and checks that click does not have."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import click

from xmlp.errors import unknown

Callback = Callable[[click.Context, click.Parameter, Any], Any]
_MAX_UNITS = 2**20

backend = click.option(
    "--backend", default="auto", show_default=True, metavar="NAME",
    help="numpy, cupy, torch, jax, or another; auto is cupy where a CUDA device works, else numpy.",
)  # fmt: skip
encoding = click.option(
    "--encoding", metavar="NAME", help="Of the CSV file, such as cp1252. [default: UTF-8, or UTF-16 where it is marked]"
)
as_json = click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout instead of text.")


def _separator(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    from xmlp.data import dialect  # which would import NumPy before it is needed

    value = {**{name: mark for mark, name in dialect.NAMES.items()}, "\\t": "\t"}.get(value, value)
    try:
        dialect.check_separator(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


separator = click.option(
    "--separator", metavar="MARK", callback=_separator,
    help="Between the cells of the CSV file: one character, or tab. [default: , ; tab or | as the first rows have it]",
)  # fmt: skip


def refuse_without_file(csv: str | None, settings: dict[str, Any]) -> None:
    """Refuse settings about a CSV file where there is none."""
    for name, value in settings.items():
        if csv is None and value is not None:
            raise click.UsageError(f"{name} is about a CSV file, and none is given")


_DROP = "To leave columns out, say --columns NAME:drop"
_KIND = "To say what a column is, say --columns NAME:category (or number, date, drop)"
_ELSEWHERE = {  # how other programs call it
    **dict.fromkeys(("--drop", "--drop-columns", "--exclude", "--ignore", "--skip", "--id", "--index"), _DROP),
    **dict.fromkeys(("--categorical", "--categories", "--category", "--numeric", "--number", "--date"), _KIND),
    **dict.fromkeys(("--dates", "--parse-dates", "--types", "--dtypes", "--kinds"), _KIND),
}


class Command(click.Command):
    """A command whose epilog is examples. `ctx.meta["arguments"]` are the words that it was called with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The arguments; an option of another command is answered with what it is called here."""
        ctx.meta["arguments"] = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = _ELSEWHERE.get(error.option_name)
            if hint is None or not any(param.name == "columns" for param in self.params):
                raise
            raise click.UsageError(f"no such option: {error.option_name}. {hint}", ctx) from None

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, line by line."""
        examples(self.epilog, formatter)


def examples(lines: str | None, formatter: click.HelpFormatter) -> None:
    """Write examples as they are, where click would join their lines."""
    formatter.write("\nExamples:\n" + "".join(f"  {line}\n" for line in (lines or "").splitlines()))


def one_of(what: str, names: Iterable[str]) -> Callback:
    """Check that a value is one of the names."""
    known = tuple(names)

    def check(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if value is not None and value not in known:
            raise click.BadParameter(unknown(what, value, known))
        return value

    return check


def between(low: float, high: float = math.inf, *, above: bool = False) -> Callback:
    """Check that a number is finite, at least `low` (more with `above`) and less than `high`."""

    def check(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if value is not None and not (low < value < high or (value == low and not above)):
            limits = f"{'>' if above else '>='} {low:g}" + ("" if high == math.inf else f" and < {high:g}")
            raise click.BadParameter(f"expected a finite number {limits}, got {value:g}.")
        return value

    return check


def sizes(ctx: click.Context, param: click.Parameter, value: Any) -> tuple[int, ...] | None:
    """Read the sizes of hidden layers: "128,64", or "none"."""
    if value is None or value.strip() == "none":
        return None if value is None else ()
    parts = [part.strip() for part in value.split(",")]
    found = tuple(int(part) if part.isascii() and part.isdigit() and len(part) < 10 else 0 for part in parts)
    if not all(1 <= units <= _MAX_UNITS for units in found):
        raise click.BadParameter(f"expected sizes of 1 to {_MAX_UNITS} with commas, as in 128,64, got {value!r}.")
    return found

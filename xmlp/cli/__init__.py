"""The command `xmlp`: thin over the Python API. What a user does wrong is one line on stderr and never a traceback."""

import errno
import importlib
import io
import os
import sys
import traceback
from typing import Any, NoReturn

import click

import xmlp
from xmlp.cli.options import examples
from xmlp.cli.text import of_command, shown
from xmlp.errors import BackendError, DivergenceError, OutOfMemoryError, unknown

__all__ = ["main"]

_COMMANDS = ("train", "evaluate", "predict", "inspect", "info", "verify")
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_EXAMPLES = """xmlp train                              the embedded digits, in seconds
xmlp train houses.csv --target price    a table of your own
xmlp predict model.safetensors new.csv"""
_MISTAKES = (click.ClickException, ValueError, TypeError, OSError, MemoryError, BackendError, DivergenceError)


class Absent(io.TextIOBase):
    """Standard output that whoever started this process has closed: what is written to it is not lost in silence.

    The null device takes its place, so that no file that is opened later gets its number.
    """

    def __init__(self, place: io.TextIOBase) -> None:
        self._place = place

    def write(self, text: str, /) -> int:
        """Refuse, as a closed file does."""
        raise OSError(errno.EBADF, "standard output is closed")


class Commands(click.Group):
    """The commands, each imported when it is asked for, and the one place where errors become exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported when it is asked for."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"xmlp.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; an unknown one is answered with the nearest."""
        if args[0] not in _COMMANDS:
            ctx.fail(unknown("command", args[0], _COMMANDS))
        return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, line by line."""
        examples(self.epilog, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a closed pipe ends it."""
        try:
            super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads the output has seen enough
            _settle_output()
            ctx.exit(141)

    def main(self, *args: Any, **settings: Any) -> NoReturn:
        """The whole command, in the terms of a process: streams that may be missing, and a code at its end."""
        sys.stdout = sys.stdout or Absent(open(os.devnull, "w"))  # noqa: SIM115
        sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
        for name in ("stdout", "stderr"):
            if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            code = super().main(*args, **{**settings, "standalone_mode": False})
        except (click.Abort, KeyboardInterrupt):  # the latter before or after what click guards
            click.echo("interrupted", err=True)
            code = 130
        except _MISTAKES as error:
            if os.environ.get("XMLP_TRACEBACK") == "1":
                traceback.print_exception(error)
            click.echo(f"error: {_message(error)}", err=True)
            _settle_output()
            code = 2
        sys.exit(code or 0)


def _message(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = str(error)
    if isinstance(error, click.UsageError):
        text, where = error.format_message(), error.ctx.command_path if error.ctx else "xmlp"
        text += f"{'' if text.endswith(('.', '?', ')')) else '.'} See {where} --help."
    elif isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror + ("" if error.filename is None else f": {os.fsdecode(error.filename)}")
    elif isinstance(error, MemoryError) and not isinstance(error, OutOfMemoryError):
        text = f"not enough memory: {text or 'an allocation failed'}. Use smaller layers or batches."
    return " ".join(map(shown, of_command(text).splitlines())) or type(error).__name__


def _settle_output() -> None:
    """Write what stdout still holds; where that fails, send it nowhere, or Python would complain at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


@click.group(cls=Commands, invoke_without_command=True, context_settings=_SETTINGS, epilog=_EXAMPLES)
@click.version_option(xmlp.__version__, prog_name="xmlp", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Train multilayer perceptrons and use them, on a CPU or a CUDA device.

    Exit codes: 0 done, 1 a verification failed, 2 wrong usage or bad input, 130 or 143 interrupted.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())

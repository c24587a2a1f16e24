"""`xmlp predict`: predictions for the rows of a CSV file, as a CSV file."""

import io
import sys
from collections.abc import Iterable
from typing import Any

import click
import numpy as np

from xmlp.cli import model, options, paths
from xmlp.data import Table, TableSchema, write_predictions
from xmlp.data.wishes import parse_names
from xmlp.errors import unknown
from xmlp.host import files
from xmlp.model.network import Network
from xmlp.types import BackendName


@click.command(
    "predict",
    cls=options.Command,
    short_help="Predict for the rows of a CSV file.",
    epilog="xmlp predict model.safetensors new.csv -o predicted.csv",
)
@click.argument("path", metavar="MODEL")
@click.argument("csv", metavar="[CSV]", required=False)
@click.option("-o", "--output", metavar="FILE", help="Write to this file, whole or not at all, instead of stdout.")
@click.option(
    "--keep", metavar="NAME,...", multiple=True,
    help="Columns of the file to write before the predictions. A name with commas stands in double quotes.",
)  # fmt: skip
@options.separator
@options.encoding
@options.backend
def command(
    path: str, csv: str | None, output: str | None, keep: tuple[str, ...], separator: str | None, encoding: str | None,
    backend: BackendName,
) -> None:  # fmt: skip
    """Predict for the rows of a CSV file, or of standard input.

    Columns are found by name, in any order; others are ignored, the target may be absent. For classes the result has
    the columns `prediction` and `p_CLASS` with the probabilities, for numbers `prediction` in the target's unit; before
    them stand those that --keep names, such as an identifier. A text that a spreadsheet would run as a formula,
    one that begins with = + - or @ and is no number, is written with an apostrophe in front.
    """
    network, schema = model.load(path, backend)
    if csv is None and sys.stdin is not None and sys.stdin.isatty():
        raise click.UsageError("give a CSV file, or - to type one")
    target = None if output is None else paths.writable(output, path, csv)
    table = model.read(csv or "-", separator, encoding)
    x = model.encoded(schema, table, network.dtype)
    columns = _kept(table, keep)
    made = _predicted(network, schema, x)
    if twice := columns.keys() & made.keys():
        raise click.UsageError(f"--keep {min(twice)}: the predictions have a column of this name")
    columns |= made
    if target is not None:
        text = io.StringIO(newline="")
        write_predictions(text, columns)
        files.replace_file(target, text.getvalue().encode())
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    write_predictions(sys.stdout, columns)


def _kept(table: Table, keep: tuple[str, ...]) -> dict[str, Any]:
    """The columns that are asked for, by names with commas between them or of which a comma is a part."""
    names = [name for given in keep for name in _names(table, given)]
    for name in names:
        if name not in table.columns:
            raise click.UsageError(f"--keep: {unknown('column', name, list(table.columns)[:50])}")
    return {name: table.columns[name] for name in names}


def _names(table: Table, given: str) -> list[str]:
    if given in table.columns:
        return [given]
    try:
        return parse_names(given)
    except ValueError as error:
        raise click.UsageError(f"--keep: {error}") from None


def _predicted(network: Network, schema: TableSchema, x: Any) -> dict[str, Any]:
    """The columns of the result by name."""
    if schema.task == "regression":
        return {"prediction": _plain(network.predict(x, model.BATCH)[:, 0])}
    p = network.predict_proba(x, model.BATCH)
    labels = network.predict_label(x, batch_size=model.BATCH)
    shares = {f"p_{name}": _plain(p[:, k]) for k, name in enumerate(schema.classes)}
    return {"prediction": [schema.classes[label] for label in labels], **shares}


def _plain(values: Iterable[Any]) -> list[str]:
    """Numbers that read back as the same, without an exponent where that is not long.

    >>> _plain(np.asarray([1e8, 0.00025, 3.0, 1e-30], dtype=np.float32))
    ['100000000.0', '0.00025', '3.0', '1e-30']
    """
    short = (value == 0 or 1e-9 < abs(value) < 1e16 for value in values)
    return [
        np.format_float_positional(value, trim="0") if few else str(value)
        for value, few in zip(values, short, strict=True)
    ]

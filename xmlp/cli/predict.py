"""`xmlp predict`: predictions for the rows of a CSV file, as a CSV file."""

import io
import sys

import click

from xmlp import files
from xmlp.cli import model, options, paths
from xmlp.data import write_predictions


@click.command(
    "predict",
    cls=options.Command,
    short_help="Predict for the rows of a CSV file.",
    epilog="xmlp predict model.safetensors new.csv -o predicted.csv",
)
@click.argument("path", metavar="MODEL")
@click.argument("csv", metavar="[CSV]", required=False)
@click.option("-o", "--output", metavar="FILE", help="Write to this file, whole or not at all, instead of stdout.")
@options.backend
def command(path: str, csv: str | None, output: str | None, backend: str) -> None:
    """Predict for the rows of a CSV file, or of standard input.

    Columns are found by name, in any order; others are ignored, the target may be absent. For classes the result has
    the columns `prediction` and `p_CLASS` with the probabilities, for numbers `prediction` in the target's unit.
    """
    network, schema = model.load(path, backend)
    if csv is None and sys.stdin is not None and sys.stdin.isatty():
        raise click.UsageError("give a CSV file, or - to type one")
    target = None if output is None else paths.writable(output, path, csv)
    table = model.read(csv or "-")
    x = model.encoded(schema, table, network.dtype)
    if schema.task == "regression":
        columns = {"prediction": network.predict(x, model.BATCH)[:, 0]}
    else:
        p = network.predict_proba(x, model.BATCH)
        labels = network.predict_label(x, batch_size=model.BATCH)
        columns = {"prediction": [schema.classes[label] for label in labels]}
        columns |= {f"p_{name}": p[:, k] for k, name in enumerate(schema.classes)}
    if target is not None:
        text = io.StringIO(newline="")
        write_predictions(text, columns)
        files.replace_file(target, text.getvalue().encode())
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    write_predictions(sys.stdout, columns)

"""`xmlp evaluate`: how good a model is on rows whose targets are known."""

import click

from xmlp import data, metrics
from xmlp.cli import model, options
from xmlp.cli.text import columns, json_line
from xmlp.types import BackendName

_MAX_SHOWN, _MAX_JSON = 30, 1000  # classes in a confusion matrix


@click.command(
    "evaluate",
    cls=options.Command,
    short_help="Measure a model on rows whose targets are known.",
    epilog="xmlp evaluate model.safetensors houses-2025.csv",
)
@click.argument("path", metavar="MODEL")
@click.argument("csv", metavar="[CSV]", required=False)
@options.separator
@options.encoding
@options.backend
@options.as_json
def command(
    path: str, csv: str | None, separator: str | None, encoding: str | None, backend: BackendName, as_json: bool
) -> None:
    """Measure a model on a CSV file that has the target, - for standard input.

    For classes: accuracy, and precision, recall and F1 as means over the classes, and the confusion matrix. For
    numbers: R2, mean absolute error and root mean squared error in the target's unit. Without CSV, a model of the
    embedded digits is measured on their test part.
    """
    options.refuse_without_file(csv, {"--separator": separator, "--encoding": encoding})
    network, schema = model.load(path, backend)
    if csv is not None:
        table = model.read(csv, separator, encoding)
        table = model.labelled(schema, table)
        x, y = model.encoded(schema, table, network.dtype), schema.targets(table)
    elif network.metadata.get("dataset") == "digits":
        _, _, x, y = data.load("digits")
    else:
        raise click.UsageError(f"give a CSV file with the column {schema.target!r} and the features")
    found = model.scores(network, schema, x, y)
    matrix = None
    if 0 < len(schema.classes) <= _MAX_JSON:
        labels = network.predict_label(x, batch_size=model.BATCH)
        matrix = metrics.confusion_matrix(y, labels, classes=len(schema.classes)).tolist()
    base = model.baseline(schema, y)
    if as_json:
        extra = {"classes": schema.classes, "confusion_matrix": matrix} if schema.classes else {}
        click.echo(json_line({"rows": len(y), **found, "baseline": base.scores, **extra}))
        return
    scores = [(metrics.METRICS[name].title, model.score(v, 6)) for name, v in found.items()]
    click.echo(columns([("rows", len(y)), *scores]))
    click.echo(f"{base.words}: {model.told(base.scores)}")
    if matrix is not None and len(matrix) <= _MAX_SHOWN:
        click.echo("\nrows are the true classes, columns the predicted ones")
        rows = [(name, *counts) for name, counts in zip(schema.classes, matrix, strict=True)]
        click.echo(columns([("", *schema.classes), *rows]))

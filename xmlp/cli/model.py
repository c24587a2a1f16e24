"""A model file together with the table that it was trained on: what evaluate and predict need, and nothing else."""

import io
import math
import sys
from typing import Any, NamedTuple

import click
import numpy as np

from xmlp import metrics
from xmlp.cli.text import shown
from xmlp.data import Table, TableSchema, read_csv
from xmlp.errors import CheckpointError
from xmlp.model import network as networks
from xmlp.model.network import Network
from xmlp.types import BackendName

BATCH = 4096  # rows that are computed at a time


def load(path: str, backend: BackendName) -> tuple[Network, TableSchema]:
    """Read a network and how tables become its inputs.

    Raises
    ------
    CheckpointError
        If the file is damaged or was not written by `xmlp train`.
    """
    network = networks.load(path, backend)
    if "table" not in network.metadata:
        raise CheckpointError(f"{path} was not written by `xmlp train`: it does not name its inputs. Use xmlp.load.")
    return network, schema(path, network)


def schema(path: str, network: Network) -> TableSchema:
    """How tables become the inputs of a network; `CheckpointError` if that does not fit the network."""
    try:
        found = TableSchema.from_json(network.metadata["table"])
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    outputs, link = (len(found.classes), "softmax") if found.classes else (1, "identity")
    if (network.in_features, network.out_features, network.link) != (found.in_features, outputs, link):
        raise CheckpointError(f"{path}: the table and the network in it do not fit together")
    return found


def read(path: str, separator: str | None = None, encoding: str | None = None) -> Table:
    """Read a CSV file, or standard input for "-"."""
    engine = "numpy"  # needs the least memory: beside a training the tenths of a second do not count that polars saves
    if path != "-":
        return read_csv(path, separator=separator, encoding=encoding, engine=engine)
    if not isinstance(sys.stdin, io.TextIOWrapper):
        raise click.UsageError("standard input is closed")
    name = "standard input"
    return read_csv(sys.stdin.buffer, name=name, separator=separator, encoding=encoding, engine=engine)


def labelled(schema: TableSchema, table: Table) -> Table:
    """The rows that have a target; that others are left out is said."""
    rows = schema.labelled(table)
    if not len(rows):
        raise table.error("no row has a target", column=schema.target)
    if len(rows) == len(table):
        return table
    click.echo(f"note: {len(table) - len(rows)} of {len(table)} rows have no target and are left out", err=True)
    return table.take(rows)


def encoded(schema: TableSchema, table: Table, dtype: str) -> Any:
    """The inputs (N, in_features), which fit in the dtype; what is unlike the training table is said on stderr."""
    x, remarks, _ = schema.encode(table, fits=dtype)
    for remark in remarks:
        click.echo(f"note: {shown(remark)}", err=True)
    return x


def scores(network: Network, schema: TableSchema, x: Any, y: Any) -> dict[str, float]:
    """The metrics of the task; precision, recall and F1 are means over the classes, NaN is what is not defined."""
    if schema.task == "regression":
        return _errors(y, network.predict(x, BATCH)[:, 0])
    labels = network.predict_label(x, batch_size=BATCH)
    found = {"accuracy": metrics.accuracy(y, labels)}
    for name in ("precision", "recall", "f1"):
        found[name] = metrics.get(name).function(y, labels, average="macro", classes=len(schema.classes))
    return found


def _errors(y: Any, predicted: Any) -> dict[str, float]:
    found = {name: metrics.get(name).function(y, predicted) for name in ("r2", "mae", "rmse")}
    return found if len(y) > 1 else {**found, "r2": math.nan}  # the spread of one number


class Baseline(NamedTuple):
    """What predicts without features reach on the same rows: the least that a model must be better than."""

    words: str
    scores: dict[str, float]


def baseline(schema: TableSchema, y: Any) -> Baseline:
    """The most frequent class; of numbers the median for MAE and the mean for RMSE, each the best of all constants."""
    if schema.task == "regression":
        middle, mean = (np.full(len(y), value) for value in (np.median(y), np.mean(y)))
        return Baseline("always their median or mean", {"mae": metrics.mae(y, middle), "rmse": metrics.rmse(y, mean)})
    counts = np.bincount(y, minlength=len(schema.classes))
    often = int(counts.argmax())
    return Baseline(f"always {shown(schema.classes[often])}", {"accuracy": counts[often] / len(y)})


def told(scores: dict[str, float]) -> str:
    """Scores in a line for people."""
    return "  ".join(f"{metrics.METRICS[name].title} {score(value)}" for name, value in scores.items())


def score(value: float, digits: int = 4) -> str:
    """A score for people.

    >>> score(0.97654), score(float("nan"))
    ('0.9765', 'undefined')
    """
    return "undefined" if math.isnan(value) else f"{value:.{digits}g}"

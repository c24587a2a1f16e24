"""What there is to learn: rows to train on, rows held out, and how a table became numbers."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from xmlp import data
from xmlp.cli import model
from xmlp.data import Column, TableSchema
from xmlp.data.batches import split_rows
from xmlp.network import Network


class Rows(NamedTuple):
    """Features (N, in_features) and targets (N,)."""

    x: Any
    y: Any


@dataclass(frozen=True)
class Job:
    """Everything to learn from.

    Parameters
    ----------
    name : str
        For people.
    schema : TableSchema
        Goes into the model, so that other tables become features in the same way.
    train, validation, test : Rows
        `validation` is measured after each epoch, `test` once at the end; either may be absent.
    metadata : dict
        More for the model file.
    """

    name: str
    schema: TableSchema
    train: Rows
    validation: Rows | None
    test: Rows | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        return len(self.schema.classes) or 1

    @property
    def loss(self) -> str:
        return "softmax_cross_entropy" if self.schema.classes else "squared_error"

    @property
    def metric(self) -> str:
        return "accuracy" if self.schema.classes else "r2"


def digits(validation: float, seed: int) -> Job:
    """The embedded digits with their official split."""
    x, y, x_test, y_test = data.load("digits")
    pixels = tuple(Column(f"pixel_{row}_{column}") for row in range(8) for column in range(8))
    schema = TableSchema("digit", "classification", tuple("0123456789"), pixels)
    train, held = _split(len(x), validation, seed, y)
    validation_rows = Rows(x[held], y[held]) if len(held) else None
    return Job("digits", schema, Rows(x[train], y[train]), validation_rows, Rows(x_test, y_test), {"dataset": "digits"})


def table(path: str, target: str, task: str | None, missing: str, validation: float, seed: int, dtype: str) -> Job:
    """A CSV file; what is learnt about its columns comes from the training rows alone."""
    whole = model.read(path)
    checked = TableSchema.learn(whole, target, task, missing=missing)  # so that errors come in the order of the file
    labels = checked.targets(whole) if checked.classes else None
    train, held = (whole.take(rows) for rows in _split(len(whole), validation, seed, labels))
    schema = TableSchema.learn(train, target, checked.task, missing=missing)
    rows, kept = (
        Rows(model.features(schema, part, dtype), model.targets(schema, part, dtype)) if len(part) else None
        for part in (train, held)
    )
    assert rows is not None
    return Job(whole.name, schema, rows, kept)


def _split(rows: int, fraction: float, seed: int, labels: Any) -> tuple[Any, Any]:
    """Positions of the rows to train on and of those held out, among which is no class that nobody learns."""
    if not fraction:
        return np.arange(rows), np.arange(0)
    train, held = split_rows(rows, fraction, seed)
    if labels is None:
        return train, held
    known = np.isin(labels[held], labels[train])
    return np.sort(np.concatenate((train, held[~known]))), held[known]


def in_units(network: Network, mean: float, scale: float) -> None:
    """Let the last layer, which is dense, do what turns standardised predictions back: y scale + mean."""
    theta = network.backend.to_host(network.theta).astype(np.float64)
    last = network.layout.views(np, theta)[-1]
    last["W"] *= scale
    last["b"] *= scale
    last["b"] += mean
    network.theta = theta

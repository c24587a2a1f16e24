"""What there is to learn: rows to train on, rows held out, and how a table became numbers."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import click
import numpy as np

from xmlp import data
from xmlp.cli import model
from xmlp.cli.text import shown
from xmlp.data import NumberColumn, Survey, Table, TableSchema, mean_and_scale
from xmlp.data.batches import split_rows
from xmlp.data.table import check_range, labels
from xmlp.host.arrays import refuse_small
from xmlp.losses import LossName
from xmlp.metrics import MetricName
from xmlp.model.network import Network

_MAX_TOLD = 5  # classes whose rows are told one by one
_BLOCK = 8192  # rows that are compared at a time
_LEAST_STEPS = 2**10  # of the numbers that predictions can be, in a deviation of the target


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
    survey : Survey, optional
        What was decided about the table.
    """

    name: str
    schema: TableSchema
    train: Rows
    validation: Rows | None
    test: Rows | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    survey: Survey | None = None

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return len(self.schema.classes) or 1

    @property
    def loss(self) -> LossName:
        """The name of the loss."""
        return "softmax_cross_entropy" if self.schema.classes else "squared_error"

    @property
    def metric(self) -> MetricName:
        """The name of the metric that is told."""
        return "accuracy" if self.schema.classes else "r2"

    @property
    def decided(self) -> str:
        """The task, and what there is to train on: rows of each class, or the range of the numbers."""
        schema, y = self.schema, self.train.y
        if schema.classes:
            counts = np.bincount(y, minlength=len(schema.classes)).tolist()
            rows = ", ".join(f"{name[:30]} {n}" for name, n in zip(schema.classes, counts, strict=True))
            some = f"{len(counts)} classes of {min(counts)} to {max(counts)} rows"
            target = some if len(counts) > _MAX_TOLD else rows
        else:
            target = f"{y.min():g} to {y.max():g}"
        return f"{schema.task} of {schema.target}: {target}"

    @cached_property
    def _scaling(self) -> tuple[float, float]:
        """Mean and scale of the targets to train on."""
        if self.schema.classes:
            return 0.0, 1.0
        mean, scale = mean_and_scale(self.train.y[:, None])
        return float(mean[0]), float(scale[0])

    def standardized(self, rows: Rows) -> Rows:
        """Rows as the loss takes them: in a regression, targets of mean 0 and scale 1."""
        mean, scale = self._scaling
        return rows if self.schema.classes else rows._replace(y=(rows.y - mean) / scale)

    def adapt(self, network: Network) -> None:
        """Let the first layer standardise the numbers as the training rows ask for; categories stay 0 and 1.

        A category of a share p of the rows would become an input of sqrt(1/p) deviations where it occurs: the rarer
        it is, the louder.
        """
        network.adapt(self.train.x)
        first, *rest = network.statistics
        xp, numbers = network.backend.xp, network.backend.from_host(self._numbers, "bool")
        mean = xp.where(numbers, first["mean"], xp.zeros_like(first["mean"]))
        scale = xp.where(numbers, first["scale"], xp.ones_like(first["scale"]))
        network.statistics = [{"mean": mean, "scale": scale}, *rest]
        weights = np.array(network.backend.to_host(network.parameters[1]["W"]))
        weights[~self.varying] = 0.0  # nothing will be learnt of them, so that they must not count at prediction either
        network.parameters[1]["W"] = weights

    @cached_property
    def varying(self) -> Any:
        """Which of the features differ among the rows to train on (in_features,)."""
        x, found = self.train.x, np.zeros(self.train.x.shape[1], dtype=bool)
        for start in range(0, len(x), _BLOCK):
            found |= (x[start : start + _BLOCK] != x[0]).any(axis=0)
        return found

    @property
    def _numbers(self) -> Any:
        """Which of the features are numbers (in_features,)."""
        return ~self.schema.indicators

    def finish(self, network: Network) -> None:
        """Let the last layer, which is dense, turn standardised predictions back: y scale + mean."""
        if self.schema.classes:
            return
        mean, scale = self._scaling
        theta = network.backend.to_host(network.theta).astype(np.float64)
        last = network.layout.views(np, theta)[-1]
        last["W"] *= scale
        last["b"] *= scale
        last["b"] += mean
        network.theta = theta


def digits(validation: float, seed: int) -> Job:
    """The embedded digits with their official split."""
    x, y, x_test, y_test = data.load("digits")
    pixels = tuple(NumberColumn(f"pixel_{row}_{column}") for row in range(8) for column in range(8))
    schema = TableSchema("digit", "classification", tuple("0123456789"), pixels)
    train, held = _split(len(x), validation, seed, y)
    validation_rows = Rows(x[held], y[held]) if len(held) else None
    return Job("digits", schema, Rows(x[train], y[train]), validation_rows, Rows(x_test, y_test), {"dataset": "digits"})


def table(
    path: str, target: str | None, task: str | None, missing: str, columns: dict[str, str], validation: float,
    seed: int, dtype: str, separator: str | None = None, encoding: str | None = None,
) -> Job:  # fmt: skip
    """A CSV file; kinds and categories come from all of its rows, means from the training rows alone."""
    whole = model.read(path, separator, encoding)
    if target is None:
        names = ", ".join(list(whole.columns)[:20])
        raise click.UsageError(f"--target is missing: which column of {whole.name} is to be predicted? It has: {names}")
    survey = Survey.of(whole, target, task, columns=columns, missing=missing)
    survey.check(whole)
    _refuse_small(whole, survey, dtype)
    if len(survey.kept) < len(whole):
        whole = whole.take(survey.kept)
    numbers = {column.name: column.kind == "number" for column in survey.learnt}
    whole = whole.settled({**numbers, target: not survey.classes})
    classes = labels(whole, target, survey.classes) if survey.classes else None
    train, held = _split(len(whole), validation, seed, classes)
    schema = TableSchema.of(survey, whole.take(train))
    rows, kept = (_rows(schema, whole.take(part), dtype) if len(part) else None for part in (train, held))
    assert rows is not None
    if not schema.classes and (rows.y == rows.y[0]).all():
        raise whole.error(f"all targets to train on are {rows.y[0]:g}: there is nothing to learn", column=target)
    job = Job(whole.name, schema, rows, kept, survey=survey)
    _warn_of_coarse_targets(job, dtype)
    _tell_of_constants(job)
    return job


def _refuse_small(table: Table, survey: Survey, dtype: str) -> None:
    """Refuse a column of numbers of which the dtype keeps next to nothing."""
    target = None if survey.classes else survey.target
    for column in (*survey.learnt, target):
        if column is not None and isinstance(column.low, float) and isinstance(column.high, float):
            try:
                refuse_small(np.asarray([column.low, column.high]), "the column", dtype)
            except ValueError as error:
                raise table.error(str(error), column=column.name) from None


def _tell_of_constants(job: Job) -> None:
    """Say which columns vary only in rows that are held out or have no target."""
    start, names = 0, []
    for column in job.schema.columns:
        stop = start + len(column.features)
        if not job.varying[start:stop].any():
            names.append(column.name)
        start = stop
    if names:
        told = ", ".join(names[:_MAX_TOLD]) + (f" and {len(names) - _MAX_TOLD} more" if len(names) > _MAX_TOLD else "")
        click.echo(f"note: nothing is learnt of {shown(told)}: the same in all rows to train on", err=True)


def _warn_of_coarse_targets(job: Job, dtype: str) -> None:
    """Say that predictions in the target's unit are rounded to steps that its variation hardly has."""
    mean, scale = job._scaling
    step = float(np.spacing(np.asarray(abs(mean), dtype)))
    if not job.schema.classes and step > scale / _LEAST_STEPS:
        told = f"{job.schema.target} varies by {scale:.3g} around {mean:.10g}, where {dtype} has steps of {step:.3g}"
        hint = ": --dtype float64 has finer ones" if dtype == "float32" else ""
        click.echo(f"note: {shown(told)}{hint}", err=True)


def _rows(schema: TableSchema, part: Table, dtype: str) -> Rows:
    """The features and targets of a table.

    Features have the dtype of the network, unless that is too coarse for a column to be told apart once its mean is
    taken off, as seconds since 1970 are in float32: then all are float64.
    """
    y: Any = schema.targets(part)
    if not schema.classes:
        check_range(part, y[:, None], schema.target, dtype)
    x, _, coarse = schema.encode(part, dtype)
    return Rows(schema.encode(part, fits=dtype).x if coarse else x, y)


def _split(rows: int, fraction: float, seed: int, classes: Any) -> tuple[Any, Any]:
    """Positions of the rows to train on and of those held out, among which is no class that nobody learns."""
    if not fraction:
        return np.arange(rows), np.arange(0)
    train, held = split_rows(rows, fraction, seed)
    if classes is None:
        return train, held
    known = np.isin(classes[held], classes[train])
    return np.sort(np.concatenate((train, held[~known]))), held[known]

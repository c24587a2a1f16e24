"""How a table of strings becomes arrays, as was learnt from a training table."""

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xmlp.data.columns import (
    KINDS,
    CategoryColumn,
    Column,
    NumberColumn,
    check,
    fields,
    format_from_json,
    format_to_json,
    is_text,
    learn,
    positions,
    read_numbers,
    sequence,
)
from xmlp.data.csvfile import Table
from xmlp.data.missing import is_missing
from xmlp.data.numerals import PLAIN, NumberFormat
from xmlp.data.survey import MAX_CLASSES, TASKS, Survey, absent, are_numbers
from xmlp.errors import unknown

_VERSION = 2  # of the JSON; the first had none
_NO_CLASSES = ("", "NA", "NaN", "nan", "null", "?")  # were missing in the first version, too, which knew no others


_RESOLUTION = 2**16  # different values between the smallest and the largest of a column that features must keep


class Features(NamedTuple):
    """Features of a table.

    Attributes
    ----------
    x : ndarray of shape (N, in_features)
    remarks : list of str
        What was unlike the training table: categories that were never seen, gaps where none had been.
    coarse : bool
        Whether the dtype of x rounds the numbers of a column to few steps between its smallest and its largest.
    """

    x: npt.NDArray[Any]
    remarks: list[str]
    coarse: bool


@dataclass(frozen=True)
class TableSchema:
    """What was learnt from a training table, so that other tables become arrays in the same way.

    Made by `learn`; two tables with the same columns in another order give the same arrays.

    Parameters
    ----------
    target : str
        The column to predict.
    task : {"classification", "regression"}
        What the target is.
    classes : tuple of str
        Names of the classes in the order of the labels; empty for a regression.
    columns : tuple of Column
        Where the features come from, in their order.
    target_format : NumberFormat
        How the numbers of a regression are written.

    Raises
    ------
    ValueError
        The parts do not fit together.
    """

    target: str
    task: str
    classes: tuple[str, ...]
    columns: tuple[Column, ...]
    target_format: NumberFormat = PLAIN

    def __post_init__(self) -> None:
        """Check everything: the values may come from a file."""
        check(is_text(self.target) and self.target.strip(), f"the target's name is {self.target!r}")
        check(self.task in TASKS, f"the task is {self.task!r}, not one of {', '.join(TASKS)}")
        low, high = (2, MAX_CLASSES) if self.task == "classification" else (0, 0)
        check(
            low <= len(self.classes) <= high
            and all(is_text(name) and name == name.strip() and name not in _NO_CLASSES for name in self.classes)
            and len(set(self.classes)) == len(self.classes),
            f"classes for a {self.task} are not {low} to {high} different names",
        )
        names = [self.target, *(column.name for column in self.columns)]
        check(len(names) > 1 and len(set(names)) == len(names), "the columns are none or share a name")

    @classmethod
    def learn(
        cls,
        table: Table,
        target: str,
        task: str | None = None,
        *,
        columns: Mapping[str, str] | None = None,
        missing: str = "mean",
    ) -> "TableSchema":
        """Decide about a table by `Survey.of`, and learn from the rows that have a target.

        Parameters
        ----------
        table, target, task, columns, missing
            As for `Survey.of`.

        Returns
        -------
        TableSchema

        Raises
        ------
        ValueError, DataError
            As by `Survey.of` and `Survey.check`.

        Examples
        --------
        >>> table = Table("a.csv", {"size": ["1", "3"], "hue": ["red", "blue"], "y": ["no", "yes"]}, [2, 3])
        >>> schema = TableSchema.learn(table, "y")
        >>> schema.feature_names, schema.classes
        (('size', 'hue=blue', 'hue=red'), ('no', 'yes'))
        >>> schema.features(table)
        array([[1., 0., 1.],
               [3., 1., 0.]])
        >>> schema.targets(table)
        array([0, 1])
        """
        found = Survey.of(table, target, task, columns=columns, missing=missing)
        found.check(table)
        return cls.of(found, table.take(found.kept))

    @classmethod
    def of(cls, found: Survey, rows: Table) -> "TableSchema":
        """Learn what may depend on the rows, which is the means that gaps are filled with.

        Parameters
        ----------
        found : Survey
            With a target, and checked.
        rows : Table
            Those to train on.

        Returns
        -------
        TableSchema
        """
        if found.target is None or found.task is None:
            raise ValueError("expected a survey with a target.")
        columns = tuple(learn(column, rows, strict=found.strict) for column in found.learnt)
        form = found.target.format if isinstance(found.target.format, NumberFormat) else PLAIN
        return cls(found.target.name, found.task, found.classes, columns, form)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Name of each feature: the column, or ``column=category``."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def in_features(self) -> int:
        """How many features a row has."""
        return sum(len(column.features) for column in self.columns)

    @property
    def indicators(self) -> npt.NDArray[np.bool_]:
        """For each feature whether it is 0 or 1, as those of categories are, so that it needs no standardisation."""
        return np.asarray([true for column in self.columns for true in column.indicators], dtype=bool)

    def features(self, table: Table) -> npt.NDArray[np.float64]:
        """Turn a table into features; `encode` gives remarks, too.

        Columns are found by name, in any order; the target may be absent and other columns are ignored.

        Parameters
        ----------
        table : Table
            N rows.

        Returns
        -------
        ndarray of shape (N, in_features), float64

        Raises
        ------
        DataError
            A column is absent, or a cell in a column of numbers or dates does not read, or is missing where
            that is refused.
        """
        return self.encode(table).x

    def encode(self, table: Table, dtype: str = "float64", *, fits: str | None = None) -> Features:
        """Turn a table into features of a dtype, column by column, and say what was unlike the training table.

        A number that is too large for `fits`, by default the dtype, is refused.
        """
        if missing := [column.name for column in self.columns if column.name not in table.columns]:
            raise absent(table, missing, "features")
        x = np.zeros((len(table), self.in_features), dtype)
        start, remarks, coarse = 0, [], False
        for column in self.columns:
            stop = start + len(column.features)
            out = x[:, start:stop]
            if all(column.indicators):
                remarks += column.fill(table, out)
            else:
                exact = np.zeros((len(table), stop - start))
                remarks += column.fill(table, exact)
                check_range(table, exact, column.name, fits or dtype)
                out[...] = exact
                coarse = coarse or _is_coarse(exact, out)
            start = stop
        return Features(x, remarks, coarse)

    def labelled(self, table: Table) -> npt.NDArray[np.int64]:
        """Positions of the rows that have a target."""
        if self.target not in table.columns:
            raise absent(table, [self.target], "the target")
        cells = table.cells(self.target)
        gap = is_missing(cells.texts, words=are_numbers(self.classes))
        known = np.asarray([text in self.classes for text in cells.texts], dtype=bool)
        return np.flatnonzero(~(gap & ~known)[cells.codes])

    def targets(self, table: Table) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
        """Turn the target column into labels or numbers.

        Parameters
        ----------
        table : Table
            N rows.

        Returns
        -------
        ndarray of shape (N,)
            int64 positions in `classes`, or float64 for a regression.

        Raises
        ------
        DataError
            The column is absent, a cell is missing, not a finite number, or no class of the training rows.
        """
        if self.target not in table.columns:
            raise absent(table, [self.target], "the target")
        if self.task == "regression":
            values, gap = read_numbers(table, self.target, self.target_format)
            if gap.any():
                raise table.error("the target is missing; remove the row", row=int(gap.argmax()), column=self.target)
            return values
        return labels(table, self.target, self.classes)

    def to_json(self) -> dict[str, Any]:
        """Give all parts as what JSON can hold; the inverse of `from_json`."""
        return {
            "version": _VERSION,
            "target": self.target,
            "task": self.task,
            "classes": list(self.classes),
            "columns": [column.to_json() for column in self.columns],
            "target_format": format_to_json(self.target_format),
        }

    @classmethod
    def from_json(cls, data: object) -> "TableSchema":
        """Make a schema from what `to_json` gave, now or in version 1. It may have been in a file that is not trusted.

        Parameters
        ----------
        data : object
            Parsed JSON.

        Returns
        -------
        TableSchema

        Raises
        ------
        ValueError
            Anything is not as `to_json` makes it.

        Examples
        --------
        >>> schema = TableSchema("y", "regression", (), (NumberColumn("x"),))
        >>> TableSchema.from_json(schema.to_json()) == schema
        True
        """
        check(isinstance(data, dict), f"expected an object, got {reprlib.repr(data)}")
        assert isinstance(data, dict)
        if "version" not in data:
            target, task, classes, columns = fields(data, "target", "task", "classes", "columns")
            return cls(target, task, sequence(classes), tuple(_first_version(c) for c in sequence(columns)))
        names = ("version", "target", "task", "classes", "columns", "target_format")
        version, target, task, classes, columns, form = fields(data, *names)
        check(version == _VERSION, f"its version is {reprlib.repr(version)}, and this xmlp reads 1 and {_VERSION}")
        return cls(target, task, sequence(classes), tuple(map(_column, sequence(columns))), format_from_json(form))


def check_range(table: Table, values: npt.NDArray[np.float64], column: str, dtype: str) -> None:
    """Refuse a number that is too large for the dtype; the message names its cell."""
    most = np.finfo(dtype).max / 16  # leaves room for the standardisation
    if len(values) and max(values.max(), -values.min()) > most:
        row, place = divmod(int(np.abs(values).argmax()), values.shape[1])
        value = values[row, place]
        raise table.error(f"{value:g} is too large for {dtype}", row=row, column=column)


def _is_coarse(exact: npt.NDArray[np.float64], rounded: npt.NDArray[Any]) -> bool:
    """Whether rounding has left too few steps between the smallest and the largest number, as of seconds since 1970."""
    if rounded.dtype == exact.dtype or not len(exact):
        return False
    return any(  # one after another, for memory's sake
        0 < np.ptp(values) < _RESOLUTION * np.abs(values - some).max()
        for values, some in zip(exact.T, rounded.T, strict=True)
    )


def labels(table: Table, target: str, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Turn a column of classes into their positions; a class that is not among them is refused."""
    cells = table.cells(target)
    found = positions(classes, cells.texts)[cells.codes]
    if len(wrong := np.flatnonzero(found < 0)):
        row = int(wrong[0])
        cell = cells.texts[cells.codes[row]]
        known = difflib.get_close_matches(cell[:80], classes, n=10) or classes[:50]
        problem = "the target is missing" if is_missing([cell]).any() else unknown("class", cell[:80], known)
        raise table.error(problem, row=row, column=target)
    return found


def _column(data: Any) -> Column:
    check(isinstance(data, dict) and "kind" in data, f"expected a column with its kind, got {reprlib.repr(data)}")
    kind, rest = data["kind"], {name: value for name, value in data.items() if name != "kind"}
    known = isinstance(kind, str) and kind in KINDS
    check(known, f"the kind of a column is {reprlib.repr(kind)}, not one of {', '.join(KINDS)}")
    return KINDS[kind].from_json(rest)


def _first_version(data: Any) -> Column:
    """A column as files had it at first: numbers and categories as they stand, without features for gaps."""
    name, categories, mean = fields(data, "name", "categories", "mean")
    if categories is None:
        return NumberColumn(name, mean)
    check(mean is None, f"column {reprlib.repr(name)}: a mean is for numbers")
    return CategoryColumn(name, sequence(categories))

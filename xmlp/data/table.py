"""How a table of strings becomes arrays: which columns are numbers, which categories, which the target."""

import difflib
import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xmlp.data.csvfile import Table, number
from xmlp.data.standardize import mean_and_scale
from xmlp.errors import DataError, unknown

TASKS = ("classification", "regression")
MISSING = frozenset({"", "NA", "NaN", "nan", "null", "?"})
_MAX_CATEGORIES = 1000
_MAX_CLASSES = 10_000
_MAX_INFERRED_CLASSES = 20


@dataclass(frozen=True)
class Column:
    """A column that features come from: numbers, or categories as a block of 0 and 1.

    Parameters
    ----------
    name : str
        In the header.
    categories : tuple of str, optional
        Sorted; None for a column of numbers.
    mean : float, optional
        What a missing number is replaced with; None where it is refused.
    """

    name: str
    categories: tuple[str, ...] | None = None
    mean: float | None = None

    def __post_init__(self) -> None:
        """Check everything: the values may come from a file."""
        _check(_is_text(self.name) and self.name.strip(), f"a column's name is {self.name!r}")
        if self.categories is not None:
            _check(
                0 < len(self.categories) <= _MAX_CATEGORIES
                and all(map(_is_text, self.categories))
                and list(self.categories) == sorted(set(self.categories)),
                f"column {self.name!r}: categories are not 1 to {_MAX_CATEGORIES} different strings in order",
            )
        if self.mean is not None:
            _check(
                self.categories is None and isinstance(self.mean, float) and math.isfinite(self.mean),
                f"column {self.name!r}: the mean is {self.mean!r}, not a finite number or not for numbers",
            )

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that this column becomes."""
        return (self.name,) if self.categories is None else tuple(f"{self.name}={c}" for c in self.categories)


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

    Raises
    ------
    ValueError
        The parts do not fit together.
    """

    target: str
    task: str
    classes: tuple[str, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        """Check everything: the values may come from a file."""
        _check(_is_text(self.target) and self.target.strip(), f"the target's name is {self.target!r}")
        _check(self.task in TASKS, f"the task is {self.task!r}, not one of {', '.join(TASKS)}")
        low, high = (2, _MAX_CLASSES) if self.task == "classification" else (0, 0)
        _check(
            low <= len(self.classes) <= high
            and all(_is_text(name) and name == name.strip() and name not in MISSING for name in self.classes)
            and len(set(self.classes)) == len(self.classes),
            f"classes for a {self.task} are not {low} to {high} different names",
        )
        names = [self.target, *(column.name for column in self.columns)]
        _check(len(names) > 1 and len(set(names)) == len(names), "the columns are none or share a name")

    @classmethod
    def learn(cls, table: Table, target: str, task: str | None = None, *, missing: str = "refuse") -> "TableSchema":
        """Learn from the rows of training, and from those only, how a table becomes arrays.

        A column is one of numbers if every cell that is not missing reads as a number. Any other column is
        one of categories: each of its texts (the empty one and those below, too) becomes a feature that is 0
        or 1, and a text that was never seen becomes all zeros. Space around a cell has no meaning.

        Missing are cells that are empty or hold ``NA``, ``NaN``, ``nan``, ``null`` or ``?``.

        Parameters
        ----------
        table : Table
            The training rows.
        target : str
            The column to predict.
        task : {"classification", "regression"}, optional
            By default regression if the target is of numbers that have a fractional part or more than 20
            different values, else classification. Classes are sorted as numbers if all are, else as text.
        missing : {"refuse", "mean"}
            Whether a missing number is an error or becomes the mean of its column in the training rows.

        Returns
        -------
        TableSchema

        Raises
        ------
        ValueError
            Unknown `task` or `missing`.
        DataError
            There is no such target or nothing besides it; a target is missing, not a number in a regression,
            or all are of one class; a number is infinite, or missing where that is refused; a column is all
            missing, or has more than 1000 categories.

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
        if task is not None and task not in TASKS:
            raise ValueError(unknown("task", task, TASKS))
        if missing not in ("refuse", "mean"):
            raise ValueError(unknown("way with missing numbers", missing, ("refuse", "mean")))
        if not len(table):
            raise table.error("no rows to learn from")
        if target not in table.columns:
            raise _absent(table, [target], "the target")
        if len(table.columns) == 1:
            raise table.error("no columns besides the target", column=target)
        task, classes = _learn_target(table, target, task)
        columns = tuple(_learn_column(table, name, missing) for name in table.columns if name != target)
        return cls(target, task, classes, columns)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Name of each feature: the column, or ``column=category``."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def in_features(self) -> int:
        """How many features a row has."""
        return sum(1 if column.categories is None else len(column.categories) for column in self.columns)

    def features(self, table: Table) -> npt.NDArray[np.float64]:
        """Turn a table into features.

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
            A column is absent, or a cell in a column of numbers is no finite number, or missing where that is
            refused.
        """
        if absent := [column.name for column in self.columns if column.name not in table.columns]:
            raise _absent(table, absent, "features")
        x = np.zeros((len(table), self.in_features))
        start = 0
        for column in self.columns:
            if column.categories is None:
                x[:, start] = _numbers(table, column.name, column.mean)
                start += 1
                continue
            index = {category: start + i for i, category in enumerate(column.categories)}
            cells = table.columns[column.name]
            found = np.asarray([index.get(cell.strip(), -1) for cell in cells], dtype=np.int64)
            rows = np.flatnonzero(found >= 0)
            x[rows, found[rows]] = 1
            start += len(column.categories)
        return x

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
            raise _absent(table, [self.target], "the target")
        if self.task == "regression":
            return _numbers(table, self.target, None)
        index = {name: label for label, name in enumerate(self.classes)}
        labels = [index.get(cell.strip(), -1) for cell in table.columns[self.target]]
        if -1 in labels:
            row = labels.index(-1)
            cell = table.columns[self.target][row].strip()[:80]
            known = difflib.get_close_matches(cell, self.classes, n=10) or self.classes[:50]
            problem = "the target is missing" if cell in MISSING else unknown("class", cell, known)
            raise table.error(problem, row=row, column=self.target)
        return np.asarray(labels, dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """Give all parts as what JSON can hold; the inverse of `from_json`."""
        columns = [
            {"name": c.name, "categories": c.categories and list(c.categories), "mean": c.mean} for c in self.columns
        ]
        return {"target": self.target, "task": self.task, "classes": list(self.classes), "columns": columns}

    @classmethod
    def from_json(cls, data: object) -> "TableSchema":
        """Make a schema from what `to_json` gave. It may have been in a file that is not trusted.

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
        >>> schema = TableSchema("y", "regression", (), (Column("x"),))
        >>> TableSchema.from_json(schema.to_json()) == schema
        True
        """
        target, task, classes, columns = _fields(data, "target", "task", "classes", "columns")
        parts = []
        for entry in _sequence(columns):
            name, categories, mean = _fields(entry, "name", "categories", "mean")
            parts.append(Column(name, None if categories is None else _sequence(categories), mean))
        return cls(target, task, _sequence(classes), tuple(parts))


def _learn_target(table: Table, target: str, task: str | None) -> tuple[str, tuple[str, ...]]:
    cells = [cell.strip() for cell in table.columns[target]]
    for row, cell in enumerate(cells):
        if cell in MISSING:
            raise table.error("the target is missing; remove the row", row=row, column=target)
    names = set(cells)
    values = {value for value in map(number, names) if value is not None}
    numeric = all(number(name) is not None for name in names)
    if numeric or task == "regression":
        _numbers(table, target, None)
    if task is None:
        many = len(values) > _MAX_INFERRED_CLASSES or any(not value.is_integer() for value in values)
        task = "regression" if numeric and many else "classification"
    if task == "regression":
        return task, ()
    if len(names) < 2:
        raise table.error(f"all rows are of one class, {reprlib.repr(cells[0])}", column=target)
    if len(names) > _MAX_CLASSES:
        raise table.error(
            f"{len(names)} classes in {len(cells)} rows, more than {_MAX_CLASSES}; is this an identifier, "
            "or the task a regression?",
            column=target,
        )
    if numeric and len(values) < len(names):
        raise table.error("two classes are one number in two spellings; write it in one", column=target)
    return task, tuple(sorted(names, key=lambda name: (float(name) if numeric else 0.0, name)))


def _learn_column(table: Table, name: str, missing: str) -> Column:
    values = _finite(table.columns[name])
    if values is None:
        cells = [cell.strip() for cell in table.columns[name]]
        present = [cell for cell in cells if cell not in MISSING]
        if not present:
            raise table.error("every cell is missing; remove the column", column=name)
        text = next((cell for cell in present if number(cell) is None), None)
        if text is not None:
            categories = sorted(set(cells))
            if len(categories) > _MAX_CATEGORIES:
                line = table.lines[cells.index(text)]
                raise table.error(
                    f"{len(categories)} categories, more than {_MAX_CATEGORIES}. If this is an identifier or "
                    f"free text, remove the column; if it should be numbers, {reprlib.repr(text)} in line "
                    f"{line} is none",
                    column=name,
                )
            return Column(name, tuple(categories))
        _numbers(table, name, 0.0 if missing == "mean" else None)
        values = np.asarray([float(cell) for cell in present])
    return Column(name, mean=float(mean_and_scale(values[:, None])[0][0]) if missing == "mean" else None)


def _numbers(table: Table, name: str, fill: float | None) -> npt.NDArray[np.float64]:
    """Read a column of numbers, or say where it holds something else."""
    values = _finite(table.columns[name])
    if values is not None:
        return values
    values = np.empty(len(table))
    for row, cell in enumerate(table.columns[name]):
        if cell.strip() in MISSING:
            if fill is None:
                problem = f"a number is missing ({cell!r}); remove the row, or learn with missing='mean'"
                raise table.error(problem, row=row, column=name)
            values[row] = fill
            continue
        value = number(cell)
        if value is None or not math.isfinite(value):
            raise table.error(f"expected a finite number, got {reprlib.repr(cell)}", row=row, column=name)
        values[row] = value
    return values


def _finite(cells: Sequence[str]) -> npt.NDArray[np.float64] | None:
    """Read cells that are all finite numbers, quickly; None if any is not."""
    try:
        values = np.asarray([*map(float, cells)], dtype=np.float64)
    except ValueError:
        return None
    return values if np.isfinite(values).all() and "_" not in "".join(cells) else None


def _absent(table: Table, names: list[str], what: str) -> DataError:
    known = list(table.columns)
    if len(known) > 50:
        known = difflib.get_close_matches(names[0], known[:10_000], n=10) or known[:50]
    more = f" {len(names)} columns are absent: {', '.join(names[:10])}." if len(names) > 1 else ""
    return table.error(f"cannot find {what}: {unknown('column', names[0], known)}{more}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _check(condition: object, problem: str) -> None:
    if not condition:
        raise ValueError(f"table schema: {problem}.")


def _fields(data: Any, *names: str) -> tuple[Any, ...]:
    _check(isinstance(data, dict), f"expected an object with {', '.join(names)}, got {reprlib.repr(data)}")
    _check(set(data) == set(names), f"expected the keys {', '.join(names)}, got {reprlib.repr([*data])}")
    return tuple(data[name] for name in names)


def _sequence(data: Any) -> tuple[Any, ...]:
    _check(isinstance(data, list), f"expected a list, got {reprlib.repr(data)}")
    return tuple(data)

"""What is decided about a table before anything is learnt from it: kinds of columns, the task, what is left out."""

import difflib
import itertools
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xmlp.data import numerals
from xmlp.data.csvfile import Cells, Table
from xmlp.data.decision import Decision
from xmlp.data.kinds import decide, decide_fractions, spellings
from xmlp.data.missing import is_missing
from xmlp.data.numerals import NumberFormat
from xmlp.errors import DataError, unknown

TASKS = ("classification", "regression")
MAX_CLASSES = 10_000
_MAX_INFERRED_CLASSES = 20
_MOST = 8  # columns that one message is about


@dataclass(frozen=True)
class Survey:
    """Decisions about a whole table, the same for every split of its rows.

    Made by `Survey.of`.

    Attributes
    ----------
    name : str
        The file.
    rows : int
        Of the table.
    columns : tuple of Decision
        All but the target, in the order of the file.
    target : Decision or None
        None where no target was named.
    task : {"classification", "regression"} or None
    reason : str
        Why this task.
    classes : tuple of str
        Names of the classes in the order of the labels; empty for a regression.
    kept : ndarray of int64
        Positions of the rows that have a target.
    strict : bool
        Whether a missing value is refused.
    """

    name: str
    rows: int
    columns: tuple[Decision, ...]
    target: Decision | None
    task: str | None
    reason: str
    classes: tuple[str, ...]
    kept: npt.NDArray[np.int64] = field(compare=False)
    strict: bool

    @classmethod
    def of(
        cls,
        table: Table,
        target: str | None = None,
        task: str | None = None,
        *,
        columns: Mapping[str, str] | None = None,
        missing: str = "mean",
    ) -> "Survey":
        """Decide about a table.

        Parameters
        ----------
        table : Table
            All rows.
        target : str, optional
            The column to predict.
        task : {"classification", "regression"}, optional
            By default regression if the target is of numbers that have a fractional part or more than 20
            different values, else classification. Classes are sorted as numbers if all are, else as text.
        columns : dict of str to str, optional
            What columns are to be, of `kinds.WISHES`; of the target only how it is to be read.
        missing : {"mean", "refuse"}
            Whether a missing value is filled (and a missing target left out), or an error.

        Returns
        -------
        Survey

        Raises
        ------
        ValueError
            Unknown `task` or `missing`, or `columns` that contradict it.
        DataError
            There is no such column; or the target does not read, is missing where that is refused, is a date, or of
            one class. Other columns that do not read are left to `Survey.check`.

        Examples
        --------
        >>> columns = {"size": ["1", "3", "NA"], "id": ["7", "8", "9"], "y": ["no", "yes", "no"]}
        >>> table = Table("a.csv", columns, [2, 3, 4])
        >>> found = Survey.of(table, "y", columns={"id": "drop"})
        >>> found.task, found.classes, [(c.name, c.kind, c.gaps) for c in found.columns]
        ('classification', ('no', 'yes'), [('size', 'number', 1), ('id', 'drop', 0)])
        """
        wishes = dict(columns or {})
        if task is not None and task not in TASKS:
            raise ValueError(unknown("task", task, TASKS))
        if missing not in ("refuse", "mean"):
            raise ValueError(unknown("way with missing values", missing, ("refuse", "mean")))
        if not len(table):
            raise table.error("no rows to learn from")
        for name, what in ((target, "the target"), *((name, "a column that columns= names") for name in wishes)):
            if name is not None and name not in table.columns:
                raise absent(table, [name], what)
        if target is not None and len(table.columns) == 1:
            raise table.error("no columns besides the target", column=target)
        strict, rows = missing == "refuse", np.arange(len(table))
        if target is None:
            found = tuple(_columns(table, wishes).values())
            return cls(table.name, len(rows), found, None, None, "", (), rows, strict)
        task, hint = _asked(target, task, wishes.pop(target, None))
        decisions = _columns(table, wishes if hint is None else {**wishes, target: hint})
        decision, task, reason, classes, gap = _target(table, task, decisions.pop(target))
        if gap.any() and strict:
            raise table.error("the target is missing; remove the row", row=int(gap.argmax()), column=target)
        kept = np.flatnonzero(~gap)
        found = tuple(decisions.values())
        return cls(table.name, len(rows), found, decision, task, reason, classes, kept, strict)

    @property
    def learnt(self) -> tuple[Decision, ...]:
        """The columns that features come from."""
        return tuple(column for column in self.columns if column.learnt)

    @property
    def dropped(self) -> tuple[Decision, ...]:
        """The columns that are left out."""
        return tuple(column for column in self.columns if not column.learnt)

    def check(self, table: Table) -> None:
        """Refuse what cannot be learnt, all of it in one message.

        Raises
        ------
        DataError
            Cells do not read, or are missing where that is refused, or no column is left.
        """
        problems = [_problem(table, column) for column in self.learnt if column.odd is not None]
        if self.strict:
            problems += [_missing(table, column) for column in self.learnt if column.gaps and column.odd is None]
        if problems:
            raise _together(table, problems)
        if not self.learnt:
            why = "; ".join(f"{column.name}: {column.kind}, {column.reason}" for column in self.dropped[:_MOST])
            raise table.error(f"no columns to learn from ({why}). Name the kind of one: columns={{'NAME': 'category'}}")


def _columns(table: Table, wishes: dict[str, str]) -> dict[str, Decision]:
    """Decide about each column; what two decimal marks could mean is decided by the columns where one does."""
    found = {name: _column(table, name, wishes.get(name)) for name in table.columns}
    numbers = {name: column.format for name, column in found.items() if isinstance(column.format, NumberFormat)}
    open_ = [name for name, form in numbers.items() if form.group == "," and found[name].notes]
    certain = [form for name, form in numbers.items() if name not in open_]
    commas = any(f.decimal == "," for f in certain) and not any(f.decimal == "." and f.group == "," for f in certain)
    fractions = [name for name, form in numbers.items() if form.decimal == "." and not form.group]
    semicolons = getattr(getattr(table, "dialect", None), "separator", ",") == ";"  # as where commas are in numbers
    for name in open_ * (semicolons or commas) + fractions * commas:
        settled = decide(name, table.cells(name), decimal=",") if name not in wishes else found[name]
        found[name] = settled if settled.odd is None else found[name]
    return found


def _column(table: Table, name: str, wished: str | None) -> Decision:
    values = None if wished else table.floats(name)
    quick = None if values is None else decide_fractions(name, values)
    return quick or decide(name, table.cells(name), wished)


def _asked(target: str, task: str | None, wished: str | None) -> tuple[str | None, str | None]:
    """The task and how the target is to be read, from what was asked for of both."""
    if wished is None:
        return task, None
    if wished == "category" or wished.startswith(("number", "decimal")):
        asked = "classification" if wished == "category" else "regression"
        if task not in (None, asked):
            raise ValueError(f"the target {target!r} cannot be {wished} in a {task}.")
        return asked, None if wished in ("category", "number") else wished
    raise ValueError(f"the target {target!r} cannot be {wished}: it is number or category.")


def _target(
    table: Table, task: str | None, found: Decision
) -> tuple[Decision, str, str, tuple[str, ...], npt.NDArray[np.bool_]]:
    """Decide about the target: how it reads, the task and why, the classes, and which rows have none."""
    name, cells = found.name, table.cells(found.name)
    numeric = isinstance(found.format, NumberFormat) and found.kind != "date"
    if isinstance(found.format, str) and task is None:
        raise table.error(
            f"the target is of dates ({found.reason}), and only numbers and classes can be predicted; "
            "make it a number, such as days since a date, or say task='classification'",
            column=name,
        )
    few = found.whole and found.distinct <= _MAX_INFERRED_CLASSES
    reason = "as asked for"
    if task is None:
        task = "regression" if numeric and not few else "classification"
        what = f"{found.distinct} different {'whole ' if found.whole else ''}numbers"
        reason = what if numeric else f"{found.distinct} different texts"
    if task == "regression":
        found = found if numeric else decide(name, cells, "number")
        gap = is_missing(cells.texts, words=True)
        if found.odd is not None:
            raise _together(table, [_problem(table, found, target=True)])
        if gap.all():
            raise table.error("no row has a target", column=name)
        notes = tuple(note for note in found.notes if ":decimal-" in note)  # others are about features
        return replace(found, kind="number", notes=notes), task, reason, (), gap[cells.codes]
    classes, gap, notes = _classes(table, name, cells)
    decision = replace(found, kind="category", format=None, odd=None, notes=notes, distinct=len(classes))
    return replace(decision, gaps=int(gap.sum())), task, reason, classes, gap


def are_numbers(names: Iterable[str]) -> bool:
    """Whether classes are numbers, among which a word such as `unknown` says that there is none."""
    return all(map(numerals.is_number, names))


def _classes(table: Table, name: str, cells: Cells) -> tuple[tuple[str, ...], npt.NDArray[np.bool_], tuple[str, ...]]:
    void = is_missing(cells.texts, words=True)
    gap = is_missing(cells.texts, words=are_numbers(itertools.compress(cells.texts, ~void)))
    names = [text for text, missing in zip(cells.texts, gap, strict=True) if not missing]
    if not names:
        raise table.error("no row has a target", column=name)
    values = [numerals.plain([text]) for text in names]
    for text, value in zip(names, values, strict=True):
        if value is not None and not np.isfinite(value[0]):
            row = int((cells.codes == cells.texts.index(text)).argmax())
            raise table.error(f"expected a finite number, got {reprlib.repr(text)}", row=row, column=name)
    if len(names) < 2:
        raise table.error(f"all rows are of one class, {reprlib.repr(names[0])}", column=name)
    if len(names) > MAX_CLASSES:
        raise table.error(
            f"{len(names)} classes in {len(cells.codes)} rows, more than {MAX_CLASSES}; is this an identifier, "
            "or the task a regression?",
            column=name,
        )
    numbers = [float(value[0]) for value in values if value is not None]
    plain = len(numbers) == len(names)
    if plain and len(set(numbers)) < len(names):
        raise table.error("two classes are one number in two spellings; write it in one", column=name)
    notes = spellings(names, "classes")
    if len(names) > _MAX_INFERRED_CLASSES and 2 * len(names) > len(cells.codes):
        notes.append(f"{len(names)} classes in {len(cells.codes)} rows: is this an identifier?")
    order = sorted(names, key=lambda text: (float(text) if plain else 0.0, text))
    return tuple(order), gap[cells.codes], tuple(notes)


@dataclass(frozen=True)
class _Problem:
    """A column that cannot be learnt, and how it could be."""

    name: str
    row: int
    text: str
    words: str
    kinds: tuple[str, ...]


def _problem(table: Table, column: Decision, *, target: bool = False) -> _Problem:
    odd = column.odd
    assert odd is not None
    expected = "a date" if column.kind == "date" else "a finite number"
    form = f" ({column.format})" if str(column.format or "") else ""
    good, all_ = column.rows - column.gaps - odd.rows, column.rows - column.gaps
    words = f"expected {expected}{form}, got {reprlib.repr(odd.text)}"
    words += f", where {good} of {all_} cells read so" if good else ""
    if target:
        return _Problem(column.name, odd.row, odd.text, f"{words}. Mend the cell or remove the row", ())
    return _Problem(column.name, odd.row, odd.text, words, ("category", "drop"))


def _missing(table: Table, column: Decision) -> _Problem:
    words = {"number": "a number", "date": "a date", "category": "a category"}[column.kind]
    cells = table.cells(column.name)
    row = int(is_missing(cells.texts, words=column.kind != "category")[cells.codes].argmax())
    cell = str(table.columns[column.name][row])
    more = f", as in {column.gaps - 1} more rows" * (column.gaps > 1)
    text = f"{words} is missing ({cell!r}){more}; learn with missing='mean', or remove the row"
    return _Problem(column.name, row, cell, text, ())


def _together(table: Table, problems: list[_Problem]) -> DataError:
    """One error about all problems, the first in full."""
    first, *others = problems
    words = first.words
    if first.kinds:
        kind = first.kinds[0]
        wishes = {p.name: kind for p in problems[:_MOST] if p.kinds}
        words += f". Mend the cell, or read it otherwise: columns={wishes} (or {first.kinds[1]!r})"
    if others:
        where = [f"column {p.name!r}, line {table.lines[p.row]}: {reprlib.repr(p.text)}" for p in others[:_MOST]]
        words += f". Also {'; '.join(where)}" + f"; and {len(others) - _MOST} more columns" * (len(others) > _MOST)
    return table.error(words, row=first.row, column=first.name)


def absent(table: Table, names: list[str], what: str) -> DataError:
    """The error about columns that are not there."""
    known: list[str] = list(table.columns)
    if len(known) > 50:
        known = difflib.get_close_matches(names[0], known[:10_000], n=10) or known[:50]
    more = f" {len(names)} columns are absent: {', '.join(names[:10])}." if len(names) > 1 else ""
    return table.error(f"cannot find {what}: {unknown('column', names[0], known)}{more}")


def to_json(found: Survey) -> dict[str, Any]:
    """Give a survey as what JSON can hold."""
    return {
        "file": found.name,
        "rows": found.rows,
        "rows_without_target": found.rows - len(found.kept),
        "task": found.task,
        "reason": found.reason,
        "classes": list(found.classes),
        "target": None if found.target is None else _decision_to_json(found.target),
        "columns": [_decision_to_json(column) for column in found.columns],
    }


def _decision_to_json(column: Decision) -> dict[str, Any]:
    odd = None if column.odd is None else {"row": column.odd.row, "text": column.odd.text, "rows": column.odd.rows}
    return {
        "name": column.name,
        "kind": column.kind,
        "learnt": column.learnt,
        "reason": column.reason,
        "gaps": column.gaps,
        "distinct": column.distinct,
        "low": column.low,
        "high": column.high,
        "format": str(column.format or "") or None,
        "categories": list(column.categories),
        "notes": list(column.notes),
        "unreadable": odd,
    }

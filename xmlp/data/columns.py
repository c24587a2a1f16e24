"""Columns that features come from, one class a kind: how cells become numbers, and what was unusual about them."""

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xmlp.data import dates, numerals
from xmlp.data.csvfile import Cells, Table, number
from xmlp.data.decision import Decision
from xmlp.data.kinds import MAX_CATEGORIES
from xmlp.data.missing import is_missing
from xmlp.data.numerals import PLAIN, NumberFormat
from xmlp.data.standardize import mean_and_scale

Float64 = npt.NDArray[np.float64]
Fields = dict[str, Any]

PARTS = ("year", "month", "weekday", "hour")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = 86400.0
_LAST = 2.6e11  # seconds from 1970 to the end of the year 9999, and a little more


@dataclass(frozen=True)
class NumberColumn:
    """Numbers: one feature, and another that is 1 where the number was missing if any was in training.

    Parameters
    ----------
    name : str
        In the header.
    mean : float, optional
        What a missing number is replaced with; None where it is refused.
    gaps : bool
        Whether numbers were missing in the table that was learnt from.
    format : NumberFormat
        How the numbers were written there.
    """

    kind: ClassVar[str] = "number"

    name: str
    mean: float | None = None
    gaps: bool = False
    format: NumberFormat = PLAIN

    def __post_init__(self) -> None:
        """Check everything: the values may come from a file."""
        _check_name(self.name)
        _check_center(self, "mean", self.mean)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that this column becomes."""
        return (self.name, *_missing(self))

    @property
    def indicators(self) -> tuple[bool, ...]:
        """For each feature whether it is 0 or 1."""
        return (False, *[True] * self.gaps)

    def fill(self, table: Table, out: npt.NDArray[Any]) -> list[str]:
        """Write the features of a table into zeros (N, features); returns what people should know."""
        values, gap = read_numbers(table, self.name, self.format)
        if gap.any() and self.mean is None:
            raise _gap(table, self.name, gap, "number")
        out[:, 0] = values
        out[gap, 0] = self.mean
        return [*_two_readings(table, self), *_fill_gaps(self, gap, out)]

    def to_json(self) -> Fields:
        """Give all parts as what JSON can hold."""
        return {**_common(self), "mean": self.mean, "format": format_to_json(self.format)}

    @classmethod
    def from_json(cls, data: Fields) -> "NumberColumn":
        """Make one from what `to_json` gave, which may have been in a file that is not trusted."""
        name, gaps, mean, form = fields(data, "name", "gaps", "mean", "format")
        return cls(name, mean, gaps, format_from_json(form))


@dataclass(frozen=True)
class CategoryColumn:
    """Categories: each is a feature that is 0 or 1; missing ones are a category of their own if any was in training.

    A text that is no known category becomes all zeros. Where texts were missing in training, words such as ``unknown``
    and ``none`` that are no category count as missing, too.

    Parameters
    ----------
    name : str
        In the header.
    categories : tuple of str
        Sorted.
    gaps : bool
        Whether texts were missing in the table that was learnt from.
    strict : bool
        Whether a missing text is refused.
    """

    kind: ClassVar[str] = "category"

    name: str
    categories: tuple[str, ...]
    gaps: bool = False
    strict: bool = False

    def __post_init__(self) -> None:
        """Check everything: the values may come from a file."""
        _check_name(self.name)
        check(isinstance(self.gaps, bool), f"column {self.name!r}: gaps is {self.gaps!r}")
        check(isinstance(self.strict, bool), f"column {self.name!r}: strict is {self.strict!r}")
        check(
            0 < len(self.categories) <= MAX_CATEGORIES
            and all(map(is_text, self.categories))
            and list(self.categories) == sorted(set(self.categories)),
            f"column {self.name!r}: categories are not 1 to {MAX_CATEGORIES} different strings in order",
        )

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that this column becomes."""
        return (*(f"{self.name}={category}" for category in self.categories), *_missing(self))

    @property
    def indicators(self) -> tuple[bool, ...]:
        """For each feature whether it is 0 or 1."""
        return (True,) * len(self.features)

    def fill(self, table: Table, out: npt.NDArray[Any]) -> list[str]:
        """Write the features of a table into zeros (N, features); returns what people should know."""
        cells = table.cells(self.name)
        places = positions(self.categories, cells.texts)
        gap = is_missing(cells.texts, words=self.gaps, among=self.categories) & (places < 0)
        if gap.any() and self.strict:
            raise _gap(table, self.name, gap[cells.codes], "category")
        strange = (places < 0) & ~gap
        where = places[cells.codes]
        rows = np.flatnonzero(where >= 0)
        out[rows, where[rows]] = 1
        said = _fill_gaps(self, gap[cells.codes], out)
        worded = gap & ~is_missing(cells.texts, among=self.categories)
        said += _texts_said(self, cells, worded, "a word such as {}, which counts as missing")
        return said + _texts_said(self, cells, strange, "no category of the training, such as {}")

    def to_json(self) -> Fields:
        """Give all parts as what JSON can hold."""
        return {**_common(self), "categories": list(self.categories), "strict": self.strict}

    @classmethod
    def from_json(cls, data: Fields) -> "CategoryColumn":
        """Make one from what `to_json` gave, which may have been in a file that is not trusted."""
        older = {"strict": False, **data} if isinstance(data, dict) else data  # earlier models of version 2 had none
        name, gaps, categories, strict = fields(older, "name", "gaps", "categories", "strict")
        return cls(name, sequence(categories), gaps, strict)


@dataclass(frozen=True)
class DateColumn:
    """Dates: days since the mean date, and of year, month, weekday and hour those that vary.

    Month and weekday are features that are 0 or 1, the time of day is a point on a circle.

    Parameters
    ----------
    name : str
        In the header.
    layout : str
        How the dates are written, one of `dates.LAYOUTS`.
    origin : float
        The mean date of the training rows, in seconds since 1970; what a missing date is replaced with.
    parts : tuple of str
        Some of year, month, weekday, hour.
    gaps : bool
        Whether dates were missing in the table that was learnt from.
    strict : bool
        Whether a missing date is refused.
    """

    kind: ClassVar[str] = "date"

    name: str
    layout: str
    origin: float
    parts: tuple[str, ...] = ()
    gaps: bool = False
    strict: bool = False

    def __post_init__(self) -> None:
        """Check everything: the values may come from a file."""
        _check_name(self.name)
        _check_center(self, "origin", self.origin)
        within = self.origin is not None and abs(self.origin) <= _LAST
        check(within, f"column {self.name!r}: the origin is {self.origin!r}, not a date before the year 10000")
        known = isinstance(self.layout, str) and self.layout in dates.LAYOUTS
        check(known, f"column {self.name!r}: the layout is {self.layout!r}, not one of {', '.join(dates.LAYOUTS)}")
        ordered = self.parts == tuple(part for part in PARTS if part in self.parts)
        check(ordered, f"column {self.name!r}: the parts are not some of {', '.join(PARTS)}")
        check(isinstance(self.strict, bool), f"column {self.name!r}: strict is {self.strict!r}")

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that this column becomes."""
        names = [name for part in self.parts for name in _PART_NAMES[part]]
        return (self.name, *(f"{self.name} {name}" for name in names), *_missing(self))

    @property
    def indicators(self) -> tuple[bool, ...]:
        """For each feature whether it is 0 or 1."""
        parts = [part in ("month", "weekday") for part in self.parts for _ in _PART_NAMES[part]]
        return (False, *parts, *[True] * self.gaps)

    def fill(self, table: Table, out: npt.NDArray[Any]) -> list[str]:
        """Write the features of a table into zeros (N, features); returns what people should know."""
        moments, gap = _read_dates(table, self.name, self.layout)
        if gap.any() and self.strict:
            raise _gap(table, self.name, gap, "date")
        origin = np.datetime64(round(self.origin * 1e6), "us")
        wall = np.where(gap, origin, moments.wall)
        out[:, 0] = np.where(gap, 0.0, (moments.seconds - self.origin) / _DAY)
        start = 1
        for part in self.parts:
            width = len(_PART_NAMES[part])
            _fill_part(part, wall, ~gap, out[:, start : start + width])
            start += width
        return _fill_gaps(self, gap, out)

    def to_json(self) -> Fields:
        """Give all parts as what JSON can hold."""
        parts = {"layout": self.layout, "origin": self.origin, "parts": list(self.parts), "strict": self.strict}
        return {**_common(self), **parts}

    @classmethod
    def from_json(cls, data: Fields) -> "DateColumn":
        """Make one from what `to_json` gave, which may have been in a file that is not trusted."""
        names = ("name", "layout", "origin", "parts", "gaps", "strict")
        name, layout, origin, parts, gaps, strict = fields(data, *names)
        return cls(name, layout, origin, sequence(parts), gaps, strict)


Column = NumberColumn | CategoryColumn | DateColumn
KINDS: dict[str, type[NumberColumn] | type[CategoryColumn] | type[DateColumn]] = {
    "number": NumberColumn,
    "category": CategoryColumn,
    "date": DateColumn,
}
_PART_NAMES = {
    "year": ("year",),
    "month": _MONTHS,
    "weekday": _WEEKDAYS,
    "hour": ("time of day (sin)", "time of day (cos)"),
}


def positions(names: Sequence[str], texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Where each text stands among the names, -1 where it does not; where all names are numbers, as a number.

    A spreadsheet makes 2935 of the code 02935, and pandas 1.0 of the class 1 where there are gaps.

    >>> positions(["02935", "10001"], ["10001", "2935", "2936"]).tolist()
    [1, 0, -1]
    """
    index, values = {name: i for i, name in enumerate(names)}, {number(name): i for i, name in enumerate(names)}
    known = values if None not in values and len(values) == len(names) else {}
    found = (index[text] if text in index else known.get(number(text), -1) for text in texts)
    return np.fromiter(found, dtype=np.int64, count=len(texts))


def learn(decision: Decision, rows: Table, *, strict: bool) -> Column:
    """Make a column of what was decided, with the mean of the training rows."""
    name, gaps = decision.name, decision.gaps > 0
    if decision.kind == "category":
        return CategoryColumn(name, decision.categories, gaps, strict)
    if decision.kind == "date":
        layout = str(decision.format)
        return DateColumn(name, layout, _mean(_read_dates(rows, name, layout)[0].seconds), decision.parts, gaps, strict)
    form = decision.format if isinstance(decision.format, NumberFormat) else PLAIN
    return NumberColumn(name, None if strict else _mean(read_numbers(rows, name, form)[0]), gaps, form)


def _mean(values: Float64) -> float:
    present = values[~np.isnan(values)]
    return float(mean_and_scale(present[:, None])[0][0]) if len(present) else 0.0


def read_numbers(table: Table, name: str, form: NumberFormat) -> tuple[Float64, npt.NDArray[np.bool_]]:
    """Numbers of a column and which of them are missing (there NaN stands); what does not read is refused."""
    if form == PLAIN and (values := table.floats(name)) is not None:
        return values, np.zeros(len(table), dtype=bool)
    cells = table.cells(name)
    void = is_missing(cells.texts, words=True)
    known = numerals.read(form, [text for text, gap in zip(cells.texts, void, strict=True) if not gap])
    values = np.full(len(cells.texts), np.nan)
    values[~void] = known
    refuse(table, name, cells, ~np.isfinite(values) & ~void, "a finite number" + (f" ({form})" if str(form) else ""))
    return values[cells.codes], void[cells.codes]


def _two_readings(table: Table, column: NumberColumn) -> list[str]:
    """What is to be said where cells read as in training and as plain numbers, and are not the same."""
    if column.format == PLAIN:
        return []
    cells = table.cells(column.name)
    void = is_missing(cells.texts, words=True)
    texts = [text for text, gap in zip(cells.texts, void, strict=True) if not gap]
    simple = numerals.plain(texts)
    if simple is None:
        return []
    written, taken = column.format.read(texts), numerals.read(column.format, texts)
    for text, one, other, value in zip(texts, written, simple, taken, strict=True):
        if one != other:
            how = f"as in training ({column.format})" if value == one else "plainly, unlike in training"
            return [f"column {column.name!r} is read {how}: {text} is {value:.15g}"]
    return []


def _read_dates(table: Table, name: str, layout: str) -> tuple[dates.Moments, npt.NDArray[np.bool_]]:
    """Dates of a column and which of them are missing; a whole column in ISO 8601 reads in any layout."""
    cells = table.cells(name)
    void = is_missing(cells.texts, words=True)
    present = [text for text, gap in zip(cells.texts, void, strict=True) if not gap]
    moments = dates.read(layout, present)
    if np.isnat(moments.wall).any() and layout != "time":
        standard = dates.read("year-month-day", present)
        moments = moments if np.isnat(standard.wall).any() else standard
    wall = np.full(len(cells.texts), np.datetime64("NaT"), dtype="datetime64[us]")
    seconds = np.full(len(cells.texts), np.nan)
    wall[~void], seconds[~void] = moments
    refuse(table, name, cells, np.isnat(wall) & ~void, f"a date ({layout})" if layout != "time" else "a time of day")
    return dates.Moments(wall[cells.codes], seconds[cells.codes]), void[cells.codes]


def refuse(table: Table, name: str, cells: Cells, odd: npt.NDArray[np.bool_], expected: str) -> None:
    """Raise about the first cell with one of these texts, if there is one."""
    if odd.any():
        row = int(odd[cells.codes].argmax())
        text = reprlib.repr(cells.texts[cells.codes[row]])
        raise table.error(f"expected {expected}, got {text}", row=row, column=name)


def _gap(table: Table, name: str, gap: npt.NDArray[np.bool_], what: str) -> Exception:
    row = int(gap.argmax())
    cell = reprlib.repr(str(table.columns[name][row]))
    problem = f"a {what} is missing ({cell}), which is refused as missing='refuse' asked for"
    return table.error(problem, row=row, column=name)


def _fill_gaps(column: Column, gap: npt.NDArray[np.bool_], out: npt.NDArray[Any]) -> list[str]:
    if column.gaps:
        out[:, -1] = gap
        return []
    count = int(gap.sum())
    filled = "no category" if isinstance(column, CategoryColumn) else "the mean"
    said = f"column {column.name!r}: {_rows(count, gap)} have no value, as none had in training; {filled} is taken"
    return [said] if count else []


def _texts_said(column: CategoryColumn, cells: Cells, which: npt.NDArray[np.bool_], words: str) -> list[str]:
    """What is to be said of the rows that hold some texts, of which words name the first."""
    if not which.any():
        return []
    held = words.format(reprlib.repr(cells.texts[int(which.argmax())]))
    return [f"column {column.name!r}: {_rows(int(cells.counts[which].sum()), cells.codes)} hold {held}"]


def _fill_part(part: str, wall: dates.Wall, known: npt.NDArray[np.bool_], out: npt.NDArray[Any]) -> None:
    if part == "year":
        out[:, 0] = wall.astype("datetime64[Y]").astype(np.int64) + 1970
    elif part == "hour":
        angle = (wall - wall.astype("datetime64[D]")).astype(np.float64) / 1e6 / _DAY * 2 * np.pi
        out[:, 0], out[:, 1] = np.where(known, np.sin(angle), 0.0), np.where(known, np.cos(angle), 0.0)
    else:
        days = wall.astype("datetime64[D]").astype(np.int64)
        which = (days + 3) % 7 if part == "weekday" else wall.astype("datetime64[M]").astype(np.int64) % 12
        rows = np.flatnonzero(known)
        out[rows, which[rows]] = 1


def _missing(column: Column) -> tuple[str, ...]:
    return (f"{column.name} is missing",) if column.gaps else ()


def _rows(count: int, table: Any) -> str:
    return f"{count} of {len(table)} rows"


def _common(column: Column) -> Fields:
    return {"kind": column.kind, "name": column.name, "gaps": column.gaps}


def format_to_json(form: NumberFormat) -> Fields:
    """Give a format as what JSON can hold."""
    return {"decimal": form.decimal, "group": form.group, "unit": form.unit}


def format_from_json(data: object) -> NumberFormat:
    """Make a format from what `format_to_json` gave."""
    parts = fields(data, "decimal", "group", "unit")
    check(all(map(is_text, parts)), f"a format of numbers is {reprlib.repr(data)}")
    try:
        return NumberFormat(*parts)
    except ValueError as error:
        raise ValueError(f"table schema: {error}.") from None


def _check_name(name: object) -> None:
    check(is_text(name) and str(name).strip(), f"a column's name is {name!r}")


def _check_center(column: Any, word: str, value: object) -> None:
    check(isinstance(column.gaps, bool), f"column {column.name!r}: gaps is {column.gaps!r}")
    finite = value is None or (isinstance(value, float) and math.isfinite(value))
    check(finite, f"column {column.name!r}: the {word} is {value!r}, not a finite number")


def is_text(value: object) -> bool:
    """Whether a value is a string of sound Unicode."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def check(condition: object, problem: str) -> None:
    """Refuse a schema that is not as it should be."""
    if not condition:
        raise ValueError(f"table schema: {problem}.")


def fields(data: Any, *names: str) -> tuple[Any, ...]:
    """The fields of an object that has these and no others."""
    check(isinstance(data, dict), f"expected an object with {', '.join(names)}, got {reprlib.repr(data)}")
    check(set(data) == set(names), f"expected the keys {', '.join(names)}, got {reprlib.repr([*data])}")
    return tuple(data[name] for name in names)


def sequence(data: Any) -> tuple[Any, ...]:
    """The elements of a list."""
    check(isinstance(data, list), f"expected a list, got {reprlib.repr(data)}")
    return tuple(data)

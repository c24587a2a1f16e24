"""What kind a column is of: decided once for all of its cells, and with the reason."""

import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xmlp.data import dates, numerals
from xmlp.data.csvfile import Cells
from xmlp.data.missing import is_missing
from xmlp.data.numerals import PLAIN, NumberFormat

LEARNT = ("number", "category", "date")
DROPPED = ("identifier", "constant", "text", "empty", "drop")
WISHES = ("number", "category", "date", "drop", "decimal-point", "decimal-comma", "day-first", "month-first")
MAX_CATEGORIES = 1000
_FEW = 20  # different texts that may be all different by chance, or are a short list
_SHORT = 10  # rows whose texts may be all different by chance
_LONG = 40  # characters of a text that is a sentence
_EXACT = 15  # digits of an integer that a float64 always holds

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_IDENTIFIERS = frozenset(
    {"id", "ids", "uuid", "guid", "identifier", "rowid", "rownames", "rownum", "rownumber", "idx", "pk", "sno", "oid"}
)
_CODES = frozenset(
    {
        "zip",
        "zipcode",
        "postcode",
        "postal",
        "plz",
        "phone",
        "telephone",
        "mobile",
        "fax",
        "ssn",
        "ean",
        "isbn",
        "barcode",
    }
)
_OWNERS = (
    "account|application|applicant|article|booking|car|case|claim|client|customer|cust|device|employee|emp|event|"
    "flight|house|image|invoice|item|listing|loan|member|movie|object|order|passenger|patient|person|policy|product|"
    "property|record|row|sample|serial|session|student|subject|ticket|trans|transaction|trip|user|vehicle"
)
_OWNED = re.compile(rf"(?:{_OWNERS})_?(?:id|no|nr|number|code|key)", re.IGNORECASE)
_UNNAMED = re.compile(r"|unnamed: [0-9]+|index|level_0|rownames|row\.names", re.IGNORECASE)


class Odd(NamedTuple):
    """A cell that does not read: where it first is, and how many rows hold such ones."""

    row: int
    text: str
    rows: int


@dataclass(frozen=True)
class Decision:
    """What a column is taken for.

    Attributes
    ----------
    name : str
        In the header.
    kind : str
        One of `LEARNT` or `DROPPED`.
    reason : str
        Why, for people.
    rows, gaps, distinct : int
        All rows; those without a value; different values.
    format : NumberFormat or str or None
        How numbers are written, or the layout of dates.
    low, high : float or str or None
        The smallest and the largest number or date.
    categories : tuple of str
        Sorted.
    parts : tuple of str
        What varies in dates: year, month, weekday, hour.
    notes : tuple of str
        What people may want to know or to decide otherwise.
    whole : bool
        Whether all numbers are whole.
    odd : Odd or None
        Why the column cannot be read.
    """

    name: str
    kind: str
    reason: str
    rows: int
    gaps: int = 0
    distinct: int = 0
    format: NumberFormat | str | None = None
    low: float | str | None = None
    high: float | str | None = None
    categories: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    whole: bool = False
    odd: Odd | None = None

    @property
    def learnt(self) -> bool:
        """Whether features come from the column."""
        return self.kind in LEARNT


class _Column(NamedTuple):
    """A column with what was found out about its texts."""

    name: str
    cells: Cells
    counts: npt.NDArray[np.int64]
    gap: npt.NDArray[np.bool_]  # texts that say nothing, in a column of words
    void: npt.NDArray[np.bool_]  # and in one of numbers or dates

    @property
    def rows(self) -> int:
        return len(self.cells.codes)

    def count(self, texts: npt.NDArray[np.bool_]) -> int:
        """How many rows hold these texts."""
        return int(self.counts[texts].sum())

    def odd(self, texts: npt.NDArray[np.bool_]) -> Odd | None:
        """The first cell with one of these texts."""
        if not texts.any():
            return None
        row = int(texts[self.cells.codes].argmax())
        return Odd(row, self.cells.texts[self.cells.codes[row]], self.count(texts))


def decide(name: str, cells: Cells, wish: str | None = None, decimal: str | None = None) -> Decision:
    """Decide what kind a column is of.

    In this order: *empty*; *number* or *date* if most cells read so (what does not read is missing, or the
    column is refused); *constant*; *identifier* if all texts differ, or the name says so and most differ;
    *text* if most differ; else *category*. Numbers with leading zeros, and integers of more than 15 digits, are
    texts. Where numbers are few and words return among them (0, 1, 2, 3+) all are categories.

    Parameters
    ----------
    name : str
        Of the column.
    cells : Cells
        Of the whole table, not of a part of it.
    wish : str, optional
        What the user knows better, one of `WISHES`.
    decimal : {".", ","}, optional
        The mark that the file is known to use.

    Returns
    -------
    Decision

    Examples
    --------
    >>> cells = Cells(["1,5", "NA", "2,25"], np.asarray([0, 1, 0, 2]))
    >>> found = decide("size", cells)
    >>> found.kind, found.gaps, found.low, found.high, str(found.format)
    ('number', 1, 1.5, 2.25, 'decimal comma')
    """
    column = _Column(name, cells, cells.counts, is_missing(cells.texts), is_missing(cells.texts, words=True))
    if wish == "drop":
        return Decision(name, "drop", "as asked for", column.rows)
    if wish is not None:
        return _obeyed(column, wish)
    if column.gap.all():
        return Decision(name, "empty", "no cell has a value", column.rows, column.rows)
    if not column.void.all() and (found := _as_numbers(column, decimal) or _as_dates(column)) is not None:
        return found
    return _as_texts(column)


def decide_fractions(name: str, values: npt.NDArray[np.float64]) -> Decision | None:
    """Decide the same about a column of plain finite numbers, quickly; None unless some have a fraction.

    >>> decide_fractions("x", np.asarray([1.0, 2.5])).high
    2.5
    """
    low, high = float(values.min()), float(values.max())
    if low == high or not (values != np.floor(values)).any():
        return None
    if low >= 1 and high < 13 and ((values % 1 >= 0.19) & (values % 1 < 0.21)).all():
        return None  # 01.2020 may be a month
    distinct = len(np.unique(values))
    return Decision(name, "number", "all cells are numbers", len(values), 0, distinct, PLAIN, low, high)


def _obeyed(column: _Column, wish: str) -> Decision:
    if wish == "category":
        return _as_categories(column, "as asked for")
    if column.void.all():
        return Decision(column.name, "empty", "no cell has a value", column.rows, column.rows)
    if wish in ("date", "day-first", "month-first"):
        layouts = [n for n in dates.LAYOUTS if wish == "date" or n != _UNWANTED[wish]]
        found = dates.infer(_present(column), column.counts[~column.void], layouts)
        if found is None:
            return Decision(column.name, "date", "as asked for", column.rows, odd=column.odd(~column.void))
        return _dates(column, found._replace(other=None if wish != "date" else found.other), "as asked for")
    decimal = {"decimal-point": ".", "decimal-comma": ","}.get(wish)
    found_numbers = numerals.infer(_present(column), column.counts[~column.void], decimal, only=decimal is not None)
    return _numbers(column, found_numbers, "as asked for")


_UNWANTED = {"day-first": "month-day-year", "month-first": "day-month-year"}


def _present(column: _Column) -> list[str]:
    return [text for text, void in zip(column.cells.texts, column.void, strict=True) if not void]


def _spread(column: _Column, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Values of the texts that are present as values of all texts."""
    everywhere = np.full(len(column.cells.texts), np.nan)
    everywhere[~column.void] = values
    return everywhere


def _mostly(column: _Column, reads: npt.NDArray[np.bool_]) -> bool:
    """Whether the rest can only be mistakes: it is small, or the same few texts."""
    odd = ~reads & ~column.void
    good, bad = column.count(reads), column.count(odd)
    return good > bad and (4 * bad <= good or int(odd.sum()) <= 5)


def _as_numbers(column: _Column, decimal: str | None) -> Decision | None:
    found = numerals.infer(_present(column), column.counts[~column.void], decimal)
    values = _spread(column, found.values)
    reads = np.zeros(len(values), dtype=bool)
    reads[~column.void] = found.numeric
    if (
        not _mostly(column, reads)
        or np.isnan(values).all()
        or _is_code(column, reads)
        or _is_short_list(column, values)
    ):
        return None
    if found.format == PLAIN and reads[~column.void].all():
        layouts = ["yearmonthday", *["month-year"] * _are_months(_present(column))]
        compact = dates.infer(_present(column), column.counts[~column.void], layouts)
        if compact is not None and not np.isnat(compact.moments.wall).any():
            return _dates(column, compact, "all cells are dates")
    return _numbers(column, found, f"{_share(column, reads)} cells are numbers")


def _are_months(texts: Sequence[str]) -> bool:
    """Whether numbers are months such as 01.2020: with two digits before the point, and a zero in front of some."""
    return all(map(_POINTED.fullmatch, texts)) and any(text[0] == "0" for text in texts)


def _share(column: _Column, reads: npt.NDArray[np.bool_]) -> str:
    return "all" if reads[~column.void].all() else f"{column.count(reads)} of {column.count(~column.void)}"


def _is_code(column: _Column, reads: npt.NDArray[np.bool_]) -> bool:
    """Whether numbers are written as only codes are: with zeros in front, or longer than any count."""
    texts = [(t, n) for t, n, r in zip(column.cells.texts, column.counts.tolist(), reads, strict=True) if r]
    digits = [(text, n) for text, n in texts if text.isascii() and text.isdigit()]
    total = sum(n for _, n in texts)
    padded = sum(n for text, n in digits if text[0] == "0" and len(text) > 1)
    same = len(digits) == len(texts) and len({len(text) for text, _ in digits}) == 1
    long = sum(n for text, n in digits if len(text) > _EXACT)
    return bool(padded and (same or 20 * padded >= total)) or 2 * long > total


def _is_short_list(column: _Column, values: npt.NDArray[np.float64]) -> bool:
    """Whether few whole numbers stand among words that return: the words are no mistakes."""
    odd = np.isnan(values) & ~column.void
    least = max(5, column.count(~column.void) // 50)
    whole = values[~np.isnan(values)]
    few = len(whole) + int(odd.sum()) <= _FEW
    return bool(odd.any()) and few and bool((whole == np.floor(whole)).all() and (column.counts[odd] >= least).all())


def _numbers(column: _Column, found: numerals.Numbers, reason: str) -> Decision:
    values = _spread(column, found.values)
    finite = values[np.isfinite(values)]
    odd = column.odd(~np.isfinite(values) & ~column.void)
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
    distinct, kind, notes = len(np.unique(finite)), "number", list[str]()
    whole = bool((finite == np.floor(finite)).all())
    gaps = column.count(column.void)
    if reason != "as asked for" and odd is None:
        if distinct < 2 and not gaps:
            kind, reason = "constant", f"each cell is {column.cells.texts[0][:40]}"
        elif whole:
            kind, reason, notes = _counts(column, values, reason)
            notes = [*notes, *_date_notes(column)] if kind == "number" else notes
    if found.other is not None:
        notes.append(_either(column, found))
    return Decision(
        column.name, kind, reason, column.rows, gaps, distinct, found.format, low, high,
        notes=tuple(notes), whole=whole, odd=odd,
    )  # fmt: skip


def _counts(column: _Column, values: npt.NDArray[np.float64], reason: str) -> tuple[str, str, list[str]]:
    """Kind, reason and notes of whole numbers, which may do no more than name the rows."""
    finite = values[np.isfinite(values)]
    present, distinct = column.count(~column.void), len(np.unique(finite))
    if distinct < present or present < column.rows or present < 3:
        if not _is_named_so(column.name) or present < _SHORT:
            return "number", reason, _code_notes(column.name)
        if 2 * distinct > present:
            return "identifier", "its name says so, and most cells differ", []
        return "number", reason, ["its name is that of an identifier; if its numbers measure nothing, say :category"]
    in_order = values[column.cells.codes]
    counts_rows = in_order[0] in (0, 1) and bool((np.diff(in_order) == 1).all())
    if counts_rows and _UNNAMED.fullmatch(column.name):
        return "identifier", "it counts the rows", []
    if _is_named_so(column.name) and present >= _SHORT:
        return "identifier", "its name says so, and all cells differ", []
    consecutive = finite.max() - finite.min() == present - 1 and present > _FEW
    if consecutive:
        return "number", reason, ["all cells differ and leave no number out; if it only counts the rows, say :drop"]
    return "number", reason, _code_notes(column.name)


def _code_notes(name: str) -> list[str]:
    coded = _CODES & {word.lower() for word in _WORDS.findall(name)}
    return ["its name is that of a code; if its numbers measure nothing, say :category"] if coded else []


def _date_notes(column: _Column) -> list[str]:
    """What is to be said of whole numbers of six digits that may all be days or months."""
    texts = _present(column)
    if len(texts) < 2 or not all(map(_SIX.fullmatch, texts)):
        return []
    months = [f"{text[:4]}-{text[4:]}" for text in texts]
    days = [f"20{text[:2]}-{text[2:4]}-{text[4:]}" for text in texts]
    for layout, written in (("year-month", months), ("year-month-day", days)):
        if not np.isnat(dates.read(layout, written).wall).any() and (layout != "year-month" or _are_recent(texts)):
            taken = f"{texts[0]} is a number; if it is {written[0]}, write it so"
            return [f"{taken}; if it measures nothing, say :category"]
    return []


def _are_recent(texts: Sequence[str]) -> bool:
    return all(text[:2] in ("19", "20") for text in texts)


def _either(column: _Column, found: numerals.Numbers) -> str:
    assert found.other is not None
    text = next(t for t in _present(column) if found.format.read([t])[0] != found.other.read([t])[0])
    taken, other = found.format.read([text])[0], found.other.read([text])[0]
    word = "decimal-comma" if found.other.decimal == "," else "decimal-point"
    return f"{text} is taken for {taken:.15g}; if it is {other:.15g}, say :{word}"


def _as_dates(column: _Column) -> Decision | None:
    present = _present(column)
    found = dates.infer(present, column.counts[~column.void])
    if found is None:
        return None
    reads = np.zeros(len(column.void), dtype=bool)
    reads[~column.void] = found.dated
    return _dates(column, found, f"{_share(column, reads)} cells are dates") if _mostly(column, reads) else None


def _dates(column: _Column, found: dates.Dates, reason: str) -> Decision:
    seconds = _spread(column, found.moments.seconds)
    odd, wall = column.odd(np.isnan(seconds) & ~column.void), found.moments.wall
    wall = np.sort(wall[~np.isnat(wall)])
    distinct = len(np.unique(seconds[~np.isnan(seconds)]))
    gaps, kind = column.count(column.void), "date"
    if distinct < 2 and not gaps and reason != "as asked for" and odd is None:
        kind, reason = "constant", f"each cell is {column.cells.texts[0][:40]}"
    low, high = _shown(found.layout, wall[0], wall), _shown(found.layout, wall[-1], wall)
    notes = []
    if short := next((text for text in _present(column) if _TWO_DIGITS.fullmatch(text)), None):
        year = dates.read(found.layout, [short]).wall[0].astype("datetime64[Y]")
        notes.append(f"{short} is taken for a day of {year}: the year is the last number, 1969 to 2068")
    if found.layout == "year-month" and odd is None and _are_years(present := _present(column)):
        notes.append(f"{present[0]} is taken for a month; if it is two years, say :category")
    if found.other is not None and odd is None:
        text = next(t for t in _present(column) if len({str(dates.read(n, [t]).wall[0]) for n in _BOTH}) == 2)
        taken = dates.read(found.layout, [text]).wall[0].astype("datetime64[D]")
        word = "day-first" if found.other == "day-month-year" else "month-first"
        notes.append(f"{text} is taken for {taken}; if the other number is the day, say :{word}")
    return Decision(
        column.name, kind, reason, column.rows, gaps, distinct, found.layout, low, high,
        parts=_varying(found.layout, wall), notes=tuple(notes), odd=odd,
    )  # fmt: skip


def _are_years(texts: Sequence[str]) -> bool:
    """Whether months such as 2001-02 may all be two years, of which one follows the other."""
    return len(texts) > 1 and all(int(text[5:]) == (int(text[2:4]) + 1) % 100 for text in texts)


_POINTED = re.compile(r"(?:0[1-9]|1[0-2])\.(?:19|20)[0-9]{2}")
_MONTHLY = ("year-month", "month-year", "name-year")
_SIX = re.compile("[0-9]{6}")
_BOTH = ("day-month-year", "month-day-year")
_TWO_DIGITS = re.compile(r"\d{1,2}([-./ ])\d{1,2}\1\d{2}(\D.*)?")


def _shown(layout: str, moment: np.datetime64, wall: dates.Wall) -> str:
    clock = bool((wall != wall.astype("datetime64[D]")).any())
    text = str(moment.astype("datetime64[s]" if clock else "datetime64[D]"))
    return text[11:] if layout == "time" else text.replace("T", " ")


def _varying(layout: str, wall: dates.Wall) -> tuple[str, ...]:
    days = wall.astype("datetime64[D]")
    varies = {
        "year": len(np.unique(wall.astype("datetime64[Y]"))) > 1,
        "month": len(np.unique(wall.astype("datetime64[M]").astype(np.int64) % 12)) > 1,
        "weekday": layout not in _MONTHLY and len(np.unique(days.astype(np.int64) % 7)) > 1,
        "hour": bool((wall != days).any()),
    }
    return tuple(part for part, true in varies.items() if true)


def _as_texts(column: _Column) -> Decision:
    present, distinct = column.count(~column.gap), int((~column.gap).sum())
    gaps = column.rows - present
    text = next(t for t, gap in zip(column.cells.texts, column.gap, strict=True) if not gap)

    def dropped(kind: str, reason: str) -> Decision:
        return Decision(column.name, kind, reason, column.rows, gaps, distinct)

    if distinct == 1 and not gaps:
        return dropped("constant", f"each cell is {reprlib.repr(text)}")
    long = sum(map(len, column.cells.texts)) > _LONG * len(column.cells.texts)
    named = _is_named_so(column.name) and 2 * distinct > present
    if present >= _SHORT and not long and (distinct == present or named):
        return dropped("identifier", "all cells differ" if distinct == present else "its name says so, and most differ")
    if 2 * distinct > present and (distinct > _FEW or (long and present >= _SHORT)):
        return dropped("text", f"{distinct} different texts in {present} rows")
    if distinct > MAX_CATEGORIES:
        return dropped("text", f"{distinct} different texts, more than {MAX_CATEGORIES} categories")
    return _as_categories(column, f"{distinct} different texts")


def _as_categories(column: _Column, reason: str) -> Decision:
    texts = [(int(column.counts[i]), column.cells.texts[i]) for i in np.flatnonzero(~column.gap)]
    notes = spellings([text for _, text in texts], "categories")
    if len(texts) > MAX_CATEGORIES:
        notes.append(f"{len(texts)} categories: the {MAX_CATEGORIES} most frequent are learnt")
        texts = sorted(texts, key=lambda pair: (-pair[0], pair[1]))[:MAX_CATEGORIES]
    names, gaps = tuple(sorted(text for _, text in texts)), column.count(column.gap)
    kind = "category" if names else "empty"
    return Decision(
        column.name, kind, reason, column.rows, gaps, int((~column.gap).sum()), categories=names, notes=tuple(notes)
    )


def spellings(texts: Sequence[str], what: str) -> list[str]:
    """Say which texts differ in nothing but case or blanks.

    >>> spellings(["yes", "no", "YES"], "classes")
    ["'YES' and 'yes' are two classes"]
    """
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(" ".join(text.casefold().split()), []).append(text)
    twice = [sorted(group) for group in groups.values() if len(group) > 1]
    more = f" (and {len(twice) - 1} more pairs)" if len(twice) > 1 else ""
    return [f"{twice[0][0]!r} and {twice[0][1]!r} are two {what}{more}"] if twice else []


def _is_named_so(name: str) -> bool:
    """Whether a name is that of an identifier.

    >>> [_is_named_so(name) for name in ("PassengerId", "customer_id", "id", "humid", "userid", "Unnamed: 0", "paid")]
    [True, True, True, False, True, True, False]
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    ends = {words[0], words[-1]} if words else {""}
    return bool(ends & _IDENTIFIERS) or any(f.fullmatch(name) is not None for f in (_OWNED, _UNNAMED))

"""What kind a column is of: decided once for all of its cells, and with the reason."""

import re
import reprlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from xmlp.data import dates, names, numerals
from xmlp.data.decision import Decision, TextColumn
from xmlp.data.numerals import PLAIN
from xmlp.data.texttable import Cells

WISHES = ("number", "category", "date", "drop", "decimal-point", "decimal-comma", "day-first", "month-first")
MAX_CATEGORIES = 1000
_FEW = 20  # different texts that may be all different by chance, or are a short list
_SHORT = 10  # rows whose texts may be all different by chance
_LONG = 40  # characters of a text that is a sentence
_EXACT = 15  # digits of an integer that a float64 always holds


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
    column = TextColumn.of(name, cells)
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
    if (low >= 1 and high < 13 and ((values % 1 > 0.1899) & (values % 1 < 0.21)).all()) or (low > 1900 and high < 2100):
        return None  # 1.2020 and 2020.01 may be months, which their texts tell
    distinct = len(np.unique(values))
    return Decision(name, "number", "all cells are numbers", len(values), 0, distinct, PLAIN, low, high)


def _obeyed(column: TextColumn, wish: str) -> Decision:
    if wish == "category":
        return _as_categories(column, "as asked for")
    if column.void.all():
        return Decision(column.name, "empty", "no cell has a value", column.rows, column.rows)
    if wish in ("date", "day-first", "month-first"):
        layouts = [n for n in dates.LAYOUTS if wish == "date" or n != _UNWANTED[wish]]
        found = dates.infer(column.present(), column.counts[~column.void], layouts)
        if found is None:
            return Decision(column.name, "date", "as asked for", column.rows, odd=column.odd(~column.void))
        return _dates(column, found._replace(other=None if wish != "date" else found.other), "as asked for")
    decimal = {"decimal-point": ".", "decimal-comma": ","}.get(wish)
    found_numbers = numerals.infer(column.present(), column.counts[~column.void], decimal, only=decimal is not None)
    return _numbers(column, found_numbers, "as asked for")


_UNWANTED = {"day-first": "month-day-year", "month-first": "day-month-year"}


def _as_numbers(column: TextColumn, decimal: str | None) -> Decision | None:
    found = numerals.infer(column.present(), column.counts[~column.void], decimal)
    values = column.spread(found.values)
    reads = np.zeros(len(values), dtype=bool)
    reads[~column.void] = found.numeric
    if not column.mostly(reads) or np.isnan(values).all() or _is_code(column, reads) or _is_short_list(column, values):
        return None
    if found.format == PLAIN and reads[~column.void].all():
        layouts = ["yearmonthday", *["month-year"] * _are_months(column.present())]
        compact = dates.infer(column.present(), column.counts[~column.void], layouts)
        if compact is not None and not np.isnat(compact.moments.wall).any():
            return _dates(column, compact, "all cells are dates")
    return _numbers(column, found, f"{column.share(reads)} cells are numbers")


def _are_months(texts: Sequence[str]) -> bool:
    """Whether numbers are months such as 01.2020: with two digits before the point, and a zero in front of some."""
    return all(map(_POINTED.fullmatch, texts)) and any(text[0] == "0" for text in texts)


def _is_code(column: TextColumn, reads: npt.NDArray[np.bool_]) -> bool:
    """Whether numbers are written as only codes are: with zeros in front, or longer than any count."""
    texts = [(t, n) for t, n, r in zip(column.cells.texts, column.counts.tolist(), reads, strict=True) if r]
    digits = [(text, n) for text, n in texts if text.isascii() and text.isdigit()]
    total = sum(n for _, n in texts)
    padded = sum(n for text, n in digits if text[0] == "0" and len(text) > 1)
    same = len(digits) == len(texts) and len({len(text) for text, _ in digits}) == 1
    long = sum(n for text, n in digits if len(text) > _EXACT)
    return bool(padded and (same or 20 * padded >= total)) or 2 * long > total


def _is_short_list(column: TextColumn, values: npt.NDArray[np.float64]) -> bool:
    """Whether few whole numbers stand among words that return: the words are no mistakes."""
    odd = np.isnan(values) & ~column.void
    least = max(5, column.count(~column.void) // 50)
    whole = values[~np.isnan(values)]
    few = len(whole) + int(odd.sum()) <= _FEW
    return bool(odd.any()) and few and bool((whole == np.floor(whole)).all() and (column.counts[odd] >= least).all())


def _numbers(column: TextColumn, found: numerals.Numbers, reason: str) -> Decision:
    values = column.spread(found.values)
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
        else:
            notes = _month_notes(column)
    if found.other is not None:
        notes.append(_either(column, found))
    return Decision(
        column.name, kind, reason, column.rows, gaps, distinct, found.format, low, high,
        notes=tuple(notes), whole=whole, odd=odd,
    )  # fmt: skip


def _counts(column: TextColumn, values: npt.NDArray[np.float64], reason: str) -> tuple[str, str, list[str]]:
    """Kind, reason and notes of whole numbers, which may do no more than name the rows."""
    finite = values[np.isfinite(values)]
    present, distinct = column.count(~column.void), len(np.unique(finite))
    if distinct < present or present < column.rows or present < 3:
        if not names.is_identifier(column.name) or present < _SHORT:
            return "number", reason, _code_notes(column.name)
        if 2 * distinct > present:
            return "identifier", "its name says so, and most cells differ", []
        return "number", reason, ["its name is that of an identifier; if its numbers measure nothing, say :category"]
    in_order = values[column.cells.codes]
    counts_rows = in_order[0] in (0, 1) and bool((np.diff(in_order) == 1).all())
    if counts_rows and names.UNNAMED.fullmatch(column.name):
        return "identifier", "it counts the rows", []
    if names.is_identifier(column.name) and present >= _SHORT:
        return "identifier", "its name says so, and all cells differ", []
    consecutive = finite.max() - finite.min() == present - 1 and present > _FEW
    if consecutive:
        return "number", reason, ["all cells differ and leave no number out; if it only counts the rows, say :drop"]
    return "number", reason, _code_notes(column.name)


def _code_notes(name: str) -> list[str]:
    return ["its name is that of a code; if its numbers measure nothing, say :category"] if names.is_code(name) else []


def _date_notes(column: TextColumn) -> list[str]:
    """What is to be said of whole numbers of six digits that may all be days or months."""
    texts = column.present()
    if len(texts) < 2 or not all(map(_SIX.fullmatch, texts)):
        return []
    months = [f"{text[:4]}-{text[4:]}" for text in texts]
    days = [f"20{text[:2]}-{text[2:4]}-{text[4:]}" for text in texts]
    for layout, written in (("year-month", months), ("year-month-day", days)):
        if not np.isnat(dates.read(layout, written).wall).any() and (layout != "year-month" or _are_recent(texts)):
            taken = f"{texts[0]} is a number; if it is {written[0]}, write it so"
            return [f"{taken}; if it measures nothing, say :category"]
    return []


def _month_notes(column: TextColumn) -> list[str]:
    """What is to be said of numbers such as 1.2020 or 2020.01 that may all be months."""
    texts = column.present()
    for layout, form in _MONTHS.items():
        if len(texts) > 1 and all(map(form.fullmatch, texts)):
            month = dates.read(layout, texts[:1]).wall[0].astype("datetime64[M]")
            return [f"{texts[0]} is a number; if it is the month {month}, say :date"]
    return []


def _are_recent(texts: Sequence[str]) -> bool:
    return all(text[:2] in ("19", "20") for text in texts)


def _either(column: TextColumn, found: numerals.Numbers) -> str:
    assert found.other is not None
    text = next(t for t in column.present() if found.format.read([t])[0] != found.other.read([t])[0])
    taken, other = found.format.read([text])[0], found.other.read([text])[0]
    word = "decimal-comma" if found.other.decimal == "," else "decimal-point"
    return f"{text} is taken for {taken:.15g}; if it is {other:.15g}, say :{word}"


def _as_dates(column: TextColumn) -> Decision | None:
    present = column.present()
    found = dates.infer(present, column.counts[~column.void])
    if found is None:
        return None
    reads = np.zeros(len(column.void), dtype=bool)
    reads[~column.void] = found.dated
    return _dates(column, found, f"{column.share(reads)} cells are dates") if column.mostly(reads) else None


def _dates(column: TextColumn, found: dates.Dates, reason: str) -> Decision:
    seconds = column.spread(found.moments.seconds)
    odd, wall = column.odd(np.isnan(seconds) & ~column.void), found.moments.wall
    wall = np.sort(wall[~np.isnat(wall)])
    distinct = len(np.unique(seconds[~np.isnan(seconds)]))
    gaps, kind = column.count(column.void), "date"
    if distinct < 2 and not gaps and reason != "as asked for" and odd is None:
        kind, reason = "constant", f"each cell is {column.cells.texts[0][:40]}"
    low, high = _shown(found.layout, wall[0], wall), _shown(found.layout, wall[-1], wall)
    notes = []
    if short := next((text for text in column.present() if _TWO_DIGITS.fullmatch(text)), None):
        year = dates.read(found.layout, [short]).wall[0].astype("datetime64[Y]")
        notes.append(f"{short} is taken for a day of {year}: the year is the last number, 1969 to 2068")
    if found.layout == "year-month" and odd is None and _are_years(present := column.present()):
        notes.append(f"{present[0]} is taken for a month; if it is two years, say :category")
    if found.other is not None and odd is None:
        text = next(t for t in column.present() if len({str(dates.read(n, [t]).wall[0]) for n in _BOTH}) == 2)
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
_MONTHS = {
    "month-year": re.compile(r"(?:0?[1-9]|1[0-2])\.(?:19|20)[0-9]{2}"),
    "year-month": re.compile(r"(?:19|20)[0-9]{2}\.(?:0?[1-9]|1[0-2])"),
}
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


def _as_texts(column: TextColumn) -> Decision:
    present, distinct = column.count(~column.gap), int((~column.gap).sum())
    gaps = column.rows - present
    text = next(t for t, gap in zip(column.cells.texts, column.gap, strict=True) if not gap)

    def dropped(kind: str, reason: str) -> Decision:
        return Decision(column.name, kind, reason, column.rows, gaps, distinct)

    if distinct == 1 and not gaps:
        return dropped("constant", f"each cell is {reprlib.repr(text)}")
    long = sum(map(len, column.cells.texts)) > _LONG * len(column.cells.texts)
    named = names.is_identifier(column.name) and 2 * distinct > present
    if present >= _SHORT and not long and (distinct == present or named):
        return dropped("identifier", "all cells differ" if distinct == present else "its name says so, and most differ")
    if 2 * distinct > present and (distinct > _FEW or (long and present >= _SHORT)):
        return dropped("text", f"{distinct} different texts in {present} rows")
    if distinct > MAX_CATEGORIES:
        return dropped("text", f"{distinct} different texts, more than {MAX_CATEGORIES} categories")
    return _as_categories(column, f"{distinct} different texts")


def _as_categories(column: TextColumn, reason: str) -> Decision:
    texts = [(int(column.counts[i]), column.cells.texts[i]) for i in np.flatnonzero(~column.gap)]
    notes = spellings([text for _, text in texts], "categories")
    if len(texts) > MAX_CATEGORIES:
        notes.append(f"{len(texts)} categories: the {MAX_CATEGORIES} most frequent are learnt")
        texts = sorted(texts, key=lambda pair: (-pair[0], pair[1]))[:MAX_CATEGORIES]
    categories, gaps = tuple(sorted(text for _, text in texts)), column.count(column.gap)
    kind = "category" if categories else "empty"
    return Decision(
        column.name,
        kind,
        reason,
        column.rows,
        gaps,
        int((~column.gap).sum()),
        categories=categories,
        notes=tuple(notes),
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

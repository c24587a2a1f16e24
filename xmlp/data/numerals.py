"""Numbers as people write them: marks between groups of digits, decimal commas, currencies, percent, brackets."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

_GROUPS = {"": "", ",": "commas", ".": "points", " ": "spaces", "'": "apostrophes"}
_DECIMALS = {".": "point", ",": "comma"}
_SYMBOLS = "[$€£¥₹₽₩₺₴₫₪₱฿₦₡₲₵₸₼₾¢]"
_CODES = (
    "USD|EUR|GBP|JPY|CNY|RMB|CHF|SEK|NOK|DKK|PLN|CZK|HUF|RON|RUB|TRY|UAH|AUD|CAD|NZD|SGD|HKD|TWD|KRW|INR|IDR|MYR|THB|PHP|"
    "VND|ZAR|NGN|KES|EGP|AED|SAR|ILS|BRL|ARS|CLP|COP|MXN|PEN|BTC|Rs|kr"
)
_BEFORE = rf"(?:[A-Z]{{1,2}})?{_SYMBOLS}|(?:{_CODES})\.?"
_AFTER = rf"{_BEFORE}|[%‰°]|°?[^\W\d_]{{1,12}}(?:/[^\W\d_]{{1,8}})?[²³]?\.?"
_PARTS = re.compile(
    rf"(?P<open>\()?\s?(?P<sign>[+-])?\s?(?P<before>{_BEFORE})?\s?(?P<inner>[+-])?"
    r"(?P<digits>[0-9](?:[0-9.,' ]*[0-9])?[.,]?|[.,][0-9]+|inf(?:inity)?(?!\w))"
    rf"(?P<power>e[+-]?[0-9]+)?\s?(?P<after>{_AFTER})?\s?(?P<tail>-)?(?P<close>\))?",
    re.IGNORECASE,
)
_MONEY = re.compile(rf"{_BEFORE}|[%‰]")
_QUOTES = re.compile(r"""^(?:="(.*)"|"(.*)"|'(.*)'|“(.*)”|'(.*))$""", re.DOTALL)
# spaces that do not break, minus signs and apostrophes that typesetters take
_TYPESET = str.maketrans("\u00a0\u2007\u2009\u202f\u2212\uff0b\u2019\u02bc", "    -+''")
_MAX_TEXT = 80  # characters of a number
_DIGITS, _LEADING = str.maketrans("023456789", "1" * 9), str.maketrans("23456789", "1" * 8)


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a column are written.

    Parameters
    ----------
    decimal : {".", ","}
        The mark before the fraction.
    group : {"", ",", ".", " ", "'"}
        What may stand between groups of digits.
    unit : str
        What stands before or after each number: a currency, ``%``, ``kg``. A number is read as it stands, so
        12% is 12.

    Raises
    ------
    ValueError
        There is no such way to write.

    Examples
    --------
    >>> NumberFormat(",", ".", "€").read(["1.234,50 €", "(3)", "2.50"]).tolist()
    [1234.5, -3.0, nan]
    """

    decimal: str = "."
    group: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        """Check everything: the values may come from a file."""
        known = self.decimal in _DECIMALS and self.group in _GROUPS and self.decimal != self.group
        if not known or not isinstance(self.unit, str) or len(self.unit) > 30:
            raise ValueError(f"numbers are not written as {self.decimal!r}, {self.group!r}, {str(self.unit)[:30]!r}")

    def __str__(self) -> str:
        """Say it in words; nothing for plain numbers.

        >>> str(NumberFormat(",", ".", "€"))
        'decimal comma, points between thousands, in €'
        """
        words = [f"decimal {_DECIMALS[self.decimal]}"] if self.decimal != "." else []
        words += [f"{_GROUPS[self.group]} between thousands"] if self.group else []
        return ", ".join(words + ([f"in {self.unit}"] if self.unit else []))

    def read(self, texts: Sequence[str]) -> Float64:
        """Read texts that are written so, or without the unit; NaN where one is not."""
        values = _read_all(self, texts)
        return np.asarray([self._value(text) for text in texts], dtype=np.float64) if values is None else values

    def _value(self, text: str) -> float:
        parts = _split(text)
        if (
            parts is None
            or parts.unit not in ("", self.unit)
            or (self.decimal, self.group) not in _fitting(parts.shape)
        ):
            return np.nan
        return parts.value(self.decimal, self.group)


PLAIN = NumberFormat()
_Marks = tuple[str, str]  # between fraction and whole, between groups
# Those that come first are taken where several fit all numbers of a column.
_ORDER: list[_Marks] = [(".", ""), (".", ","), (",", ""), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'")]
_WITH_COMMA = [(",", ""), (",", "."), (".", ""), (".", ","), *_ORDER[4:]]
_SAMPLE = 2000  # texts that show how numbers are written


class Numbers(NamedTuple):
    """A column of texts, read as numbers.

    Attributes
    ----------
    format : NumberFormat
        That of most rows.
    values : ndarray of float64
        For each text; NaN where it does not read so.
    numeric : ndarray of bool
        For each text, whether it reads as a number in some format.
    other : NumberFormat or None
        One that fits as many rows and gives other numbers.
    """

    format: NumberFormat
    values: Float64
    numeric: npt.NDArray[np.bool_]
    other: NumberFormat | None = None


class _Parts(NamedTuple):
    negative: bool
    digits: str
    power: str
    unit: str
    shape: str  # the digits with 1 for all but 0 where it leads

    def value(self, decimal: str, group: str) -> float:
        text = self.digits.replace(group, "") if group else self.digits
        return float(("-" if self.negative else "") + text.replace(decimal, ".") + self.power)


def _split(text: str) -> _Parts | None:
    """Take a text apart; None if there is no way to read it as a number."""
    if len(text) > _MAX_TEXT:
        return None
    text = unquoted(text).translate(_TYPESET)
    found = _PARTS.fullmatch(text)
    if found is None:
        return None
    open_, sign, before, inner, digits, power, after, tail, close = found.groups()
    if not digits.isascii():  # such as a dotless i, which is an i where case is ignored
        return None
    minus = [sign == "-", inner == "-", tail == "-", open_ is not None]
    if (open_ is None) != (close is None) or (before and after) or sum(minus) > 1 or (sign and inner):
        return None
    shape = digits[0].translate(_LEADING) + digits[1:].translate(_DIGITS)
    return _Parts(any(minus), digits, power or "", (before or after or "").rstrip("."), shape)


def unquoted(text: str) -> str:
    """Leave out quotes around a text, or the apostrophe with which spreadsheets mark one.

    >>> unquoted('"2"'), unquoted("='2'"), unquoted("'2")
    ('2', "='2'", '2')
    """
    found = _QUOTES.match(text)
    return text if found is None else next(part for part in found.groups() if part is not None).strip()


def is_number(text: str) -> bool:
    """Whether a text is a number, as computers or people write them.

    >>> [is_number(text) for text in ("-1.5e3", "-inf", "-1.234,50 €", "-5%", "-2+3", "-SUM(A1)", "-")]
    [True, True, True, True, False, False, False]
    """
    parts = _split(text)
    return plain([text]) is not None or (parts is not None and bool(_fitting(parts.shape)))


@lru_cache(4096)
def _fitting(shape: str) -> tuple[_Marks, ...]:
    """All marks with which digits of this shape are a number."""
    return tuple(marks for marks in _ORDER if _pattern(*marks).fullmatch(shape))


@lru_cache
def _pattern(decimal: str, group: str) -> "re.Pattern[str]":
    d, g = re.escape(decimal), re.escape(group)
    whole = "[01]1*"
    if group:
        whole += f"|1{{1,3}}(?:{g}111)+"
    if group == ",":
        whole += "|1{1,2}(?:,11)+,111"  # 12,34,567 in India
    return re.compile(f"(?:{whole})(?:{d}1*)?|{d}1+|inf(?:inity)?", re.IGNORECASE)


def _read_all(form: NumberFormat, texts: Sequence[str]) -> Float64 | None:
    """Read many texts at once, if all are written alike, with the unit and without brackets and powers."""
    lines = "\n".join(texts)
    if _lines(form).fullmatch(lines if lines.isascii() else (lines := lines.translate(_TYPESET))) is None:
        return None
    for mark in (form.unit, form.group, " "):
        lines = lines.replace(mark, "") if mark else lines
    return np.asarray([*map(float, lines.replace(form.decimal, ".").split("\n"))], dtype=np.float64)


@lru_cache
def _lines(form: NumberFormat) -> "re.Pattern[str]":
    d, g, unit = map(re.escape, (form.decimal, form.group, form.unit))
    whole = f"(?:[1-9][0-9]{{0,2}}(?:{g}[0-9]{{3}})++|[0-9]{{1,4}}+)" if g else "[0-9]++"
    number = f"{whole}(?:{d}[0-9]*+)?"
    line = f"(?:-? ?{unit} ?-?{number}|-?{number} ?{unit})" if unit else f"-?{number}"
    return re.compile(f"{line}(?:\n{line})*+")


def plain(texts: Sequence[str]) -> Float64 | None:
    """Read texts that are all numbers as computers write them, possibly infinite; None if one is not.

    >>> plain(["1", "-2.5e3"]), plain(["1_000"]), plain(["1,5"])
    (array([ 1.0e+00, -2.5e+03]), None, None)
    """
    try:
        values = np.asarray([*map(float, texts)], dtype=np.float64)
    except ValueError:
        return None
    return None if np.isnan(values).any() or "_" in "".join(texts) else values


def infer(
    texts: Sequence[str], counts: npt.NDArray[np.int64], decimal: str | None = None, *, only: bool = False
) -> Numbers:
    """Find out how most rows of a column write their numbers, and read them so.

    A comma that alone and always stands before three digits separates thousands, unless `decimal` says that
    it does not. Whoever writes one number of five digits with marks between thousands and another without
    means two things by the mark: the rarer ones do not read. A point is never taken for a mark between
    thousands because of a few numbers with a comma.

    Parameters
    ----------
    texts : sequence of str
        The different texts, without those that are missing.
    counts : ndarray of int64
        How many rows hold each.
    decimal : {".", ","}, optional
        The decimal mark that is taken where two would do.
    only : bool
        Whether it is the only one.

    Returns
    -------
    Numbers

    Examples
    --------
    >>> infer(["1,234.50", "12"], np.asarray([1, 1]))[:2]
    (NumberFormat(decimal='.', group=',', unit=''), array([1234.5,   12. ]))
    >>> infer(["3,14", "12"], np.asarray([1, 1])).values.tolist()
    [3.14, 12.0]
    """
    values = None if decimal == "," else plain(texts)
    if values is not None:
        return Numbers(PLAIN, values, np.ones(len(texts), dtype=bool))
    if len(texts) > _SAMPLE:
        some = _sample(counts)
        found = infer([texts[i] for i in some], counts[some], decimal, only=only)
        if not found.numeric.any():
            return Numbers(PLAIN, np.full(len(texts), np.nan), np.zeros(len(texts), dtype=bool))
        if (values := _read_all(found.format, texts)) is not None:
            certain = found.other is None or _read_all(found.other, texts) is None
            return Numbers(found.format, values, np.ones(len(texts), dtype=bool), None if certain else found.other)
    return _infer(texts, counts, _WITH_COMMA if decimal == "," else _ORDER, decimal, only)


def _sample(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The most frequent texts, and some of all."""
    often = np.argsort(-counts, kind="stable")[: _SAMPLE // 2]
    return np.union1d(often, np.arange(0, len(counts), 2 * len(counts) // _SAMPLE + 1))[:_SAMPLE]


def _infer(
    texts: Sequence[str], counts: npt.NDArray[np.int64], order: list[_Marks], decimal: str | None, only: bool
) -> Numbers:
    """The same, by the look of each text."""
    parts = [_split(text) for text in texts]
    unit = _unit(parts, counts)
    numeric = [p is not None and (p.unit == unit or _is_money(p.unit)) and bool(_fitting(p.shape)) for p in parts]
    found = {i: p for i, p in enumerate(parts) if p is not None and p.unit == unit and numeric[i]}
    values = np.full(len(texts), np.nan)
    if not found:
        return Numbers(PLAIN, values, np.asarray(numeric, dtype=bool))
    order = [marks for marks in order if not only or marks[0] == decimal]
    marks, odd, other = _choose(order, [*found.values()], counts[[*found]], decimal is None)
    for i, part in found.items():
        if marks in _fitting(part.shape) and part.digits not in odd:
            values[i] = part.value(*marks)
    rival = None if other is None or np.isnan(values).any() else NumberFormat(*other, unit)
    return Numbers(NumberFormat(*marks, unit), values, np.asarray(numeric), rival)


def _choose(
    order: list[_Marks], parts: Sequence[_Parts], counts: npt.NDArray[np.int64], free: bool
) -> tuple[_Marks, set[str], _Marks | None]:
    """The marks of most rows, digits that fit them by chance, and others that fit as well."""
    if not any(mark in p.digits for p in parts for mark in ",. '"):
        return (".", ""), set(), None
    shapes, which = np.unique([p.shape for p in parts], return_inverse=True)
    fits = np.asarray([[marks in _fitting(str(shape)) for marks in order] for shape in shapes])[which]
    weights = counts @ fits
    best = int(weights.argmax())
    for i in (best, 0):  # 0 is a decimal point and no groups
        cells = [(n, p.digits) for n, p, fit in zip(counts.tolist(), parts, fits[:, i], strict=True) if fit]
        if not (i and free and _alone(order[i], cells) and 2 * weights[0] > counts.sum()):
            break
    others = _others(order[i], order, weights, parts) if i == best else iter(())
    return order[i], _inconsistent(order[i], cells), next(others, None)


def _unit(parts: Sequence[_Parts | None], counts: npt.NDArray[np.int64]) -> str:
    """What most numbers stand beside; a word counts only where (nearly) all have it, or 1st were a number."""
    rows: dict[str, int] = {}
    for part, count in zip(parts, counts.tolist(), strict=True):
        if part is not None:
            rows[part.unit] = rows.get(part.unit, 0) + count
    total = counts.sum()
    known = {u: n for u, n in rows.items() if _is_money(u) or n > 0.95 * total}
    return max(known, key=lambda unit: known[unit], default="")


def _is_money(unit: str) -> bool:
    return not unit or _MONEY.fullmatch(unit) is not None


def _alone(marks: _Marks, cells: Sequence[tuple[int, str]]) -> bool:
    """Whether nothing shows that a point or comma separates groups: it stands once, and never beside the other."""
    decimal, group = marks
    grouped = [digits for _, digits in cells if group in digits]
    both = any(decimal in digits or digits.count(group) > 1 for digits in grouped)
    return group in (".", ",") and any(decimal in digits for _, digits in cells) and not both


def _inconsistent(marks: _Marks, cells: Sequence[tuple[int, str]]) -> set[str]:
    """Digits that fit marks between groups, but in which they can hardly mean what they mean in the others."""
    decimal, group = marks
    if not group:
        return set()
    grouped = {digits: n for n, digits in cells if group in digits}
    long = {digits: n for n, digits in cells if len(digits.split(decimal)[0]) > 4 and digits not in grouped}
    rarer = grouped if sum(grouped.values()) < sum(long.values()) else long
    return set(rarer) if grouped and long else set()


def _others(marks: _Marks, order: list[_Marks], weights: Any, parts: Sequence[_Parts]) -> Iterator[_Marks]:
    """Marks that fit as many rows with the other decimal mark, and read some of them otherwise."""
    for other, weight in zip(order, weights, strict=True):
        if weight == weights[order.index(marks)] and other[0] != marks[0]:
            both = (p for p in parts if {marks, other} <= {*_fitting(p.shape)})
            if any(p.value(*other) != p.value(*marks) for p in both):
                yield other


def read(form: NumberFormat, texts: Sequence[str]) -> Float64:
    """Read the texts of a column whose format is known; NaN where one does not read.

    A column that is not written so but all plainly, or all in one other unmistakable way with the same unit, is
    read in that one: a file may have gone through another program. Among numbers in percent all must be,
    or none.

    >>> read(NumberFormat(",", "."), ["1.234,5", "2"]).tolist(), read(NumberFormat(",", "."), ["1234.5"]).tolist()
    ([1234.5, 2.0], [1234.5])
    """
    simple = plain(texts)
    if form == PLAIN and simple is not None:
        return simple
    values = form.read(texts)
    if form.unit in ("%", "‰"):
        bare = ~np.isnan(NumberFormat(form.decimal, form.group).read(texts))
        if not (bare | np.isnan(values)).all():
            values[bare] = np.nan  # 0.12 beside 5% may mean 12%
    if not np.isnan(values).any():
        return values
    if simple is not None:
        return simple
    found = infer(texts, np.ones(len(texts), dtype=np.int64))
    certain = found.other is None and found.format.unit in ("", form.unit) and not np.isnan(found.values).any()
    return found.values if certain else values

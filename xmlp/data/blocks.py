"""Rows of a table in little memory: the bytes of their cells and where each cell ends."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Strings = list[str]
Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Lines = Sequence[int] | npt.NDArray[np.int64]

_DIGITS = (
    15  # a whole number of so many digits is exact in float64, and so is 10**22; then their quotient is rounded once
)
_POWERS = np.asarray([10.0**k for k in range(_DIGITS + 1)])
_WIDE = 2 * _DIGITS  # a longer cell is read by itself
_SHORT = 256  # rows for which Python is as quick as NumPy
_MAX_WORDS = 8  # cells of up to 64 bytes are told apart by NumPy, longer ones by a dictionary
_MANY = 10_000  # texts for which a dictionary no longer lies near the processor
SAMPLE = 1000  # cells that tell whether most of a column differ
_SLOTS = 20  # bits of a number that few texts share
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, with its bits spread: 2**64 divided by the golden ratio


class Block(Protocol):
    """Some rows of a table. Columns are known by position; `lines` has the line where each row begins."""

    lines: Lines

    def strings(self, column: int) -> Strings:
        """All cells."""

    def cell(self, column: int, row: int) -> str:
        """One of them."""

    def numbers(self, column: int, strict: bool) -> Floats | None:
        """Cells that are plain finite numbers, NaN for others; None if strict and there is another."""

    def cells(self, column: int) -> tuple[Strings, Codes]:
        """Different cells in the order of first occurrence, and for each row the position of its cell.

        Where most cells differ, some may occur twice.
        """


def number(cell: str) -> float | None:
    """Read a cell as a number, possibly infinite or NaN; None if it is not one.

    >>> number(" -1.5e3 "), number("1_000"), number("12 kg")
    (-1500.0, None, None)
    """
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def plain_numbers(cells: Sequence[str], strict: bool) -> Floats | None:
    """Read cells that are plain finite numbers; NaN for others, or None for all if strict."""
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
        if np.isfinite(values).all() and "_" not in "".join(cells):
            return values
    except ValueError:
        pass
    if strict:
        return None
    value = {cell: x for cell in set(cells) if (x := number(cell)) is not None and math.isfinite(x)}
    return np.asarray([value.get(cell, math.nan) for cell in cells], dtype=np.float64)


def trimmed(cells: Strings) -> Strings:
    """Cells without the spaces before them."""
    return [cell.lstrip(" ") for cell in cells] if any(cell[:1] == " " for cell in cells) else cells


def different(cells: Iterable[str]) -> tuple[Strings, Codes]:
    """Each different text in the order of first occurrence, and for each the position of its text."""
    texts = list(cells)
    if len(texts) > _MANY and (found := _mostly_different(texts)) is not None:
        return found
    position = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return list(position), np.fromiter(map(position.__getitem__, texts), np.int64, len(texts))


def _mostly_different(texts: Strings) -> tuple[Strings, Codes] | None:
    """The same where few texts stand twice: sorting their hashes is quicker than a large dictionary."""
    hashes = np.fromiter(map(hash, texts), np.int64, len(texts))
    ordered = np.sort(hashes)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return texts, np.arange(len(texts))
    rows = np.flatnonzero(twice[np.minimum(np.searchsorted(twice, hashes), len(twice) - 1)] == hashes)
    if len(rows) > len(texts) / 4:
        return None
    origin, first = np.arange(len(texts)), dict[str, int]()
    origin[rows] = [first.setdefault(texts[row], row) for row in rows.tolist()]
    new = origin == np.arange(len(texts))
    return [*itertools.compress(texts, new.tolist())], (np.cumsum(new) - 1)[origin]


def renumbered(first: npt.NDArray[np.int64], codes: Codes) -> tuple[npt.NDArray[np.int64], Codes]:
    """Groups in the order in which each first occurs: their old numbers, and the codes with the new ones."""
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return order, rank[codes]


def _origins(keys: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], Codes]:
    """Where each different key first occurs, and for each key the position of its like; now and then two share one."""
    place, rows = (keys * _FACTOR) >> np.uint64(64 - _SLOTS), np.arange(len(keys))
    slots = np.empty(2**_SLOTS, np.int64)
    slots[place[::-1]] = rows[::-1]  # the first row with a key is the last that is written
    first = slots[place]
    new = first == rows
    return np.flatnonzero(new), (np.cumsum(new) - 1)[first]


class Lists:
    """Columns that are lists of text."""

    def __init__(self, columns: Sequence[Sequence[str]], lines: Sequence[int]) -> None:
        self.columns = columns
        self.lines: Lines = lines

    def strings(self, column: int) -> Strings:
        """All cells."""
        return list(self.columns[column])

    def cell(self, column: int, row: int) -> str:
        """One of them."""
        return self.columns[column][row]

    def numbers(self, column: int, strict: bool) -> Floats | None:
        """Cells that are plain finite numbers."""
        return plain_numbers(self.columns[column], strict)

    def cells(self, column: int) -> tuple[Strings, Codes]:
        """Each different cell."""
        return different(self.columns[column])


class Spans:
    """Cells as stretches of bytes.

    Parameters
    ----------
    data : bytes
        Row after row in UTF-8, with one byte after each cell.
    ends : ndarray of shape (N, columns), int32
        Where in `data` each cell ends.
    lines : sequence of int
        The line where each row begins.
    quoted : bool
        Whether a cell that begins with a quote is to be read without its first and last byte.
    crlf : bool
        Whether a row may have one more byte at its end, which is no part of its last cell.
    """

    def __init__(
        self,
        data: bytes,
        ends: npt.NDArray[np.int32],
        lines: Lines,
        *,
        quoted: bool = False,
        crlf: bool = False,
    ) -> None:
        self.data, self.ends, self.lines, self.quoted, self.crlf = data, ends, lines, quoted, crlf

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[str]], lines: Sequence[int]) -> "Spans":
        """Take rows of text without NUL, all of one length."""
        data = ("\0".join(itertools.chain.from_iterable(rows)) + "\0").encode()
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 0).astype(np.int32)
        return cls(data, ends.reshape(len(rows), -1), np.asarray(lines, dtype=np.int64))

    def longest(self) -> int:
        """Bytes of the longest cell, at least."""
        return int(np.diff(self.ends.ravel(), prepend=-1).max()) - 1

    def strings(self, column: int) -> Strings:
        """All cells."""
        return self._texts(*self._span(column))

    def cell(self, column: int, row: int) -> str:
        """One of them."""
        start, stop = self._span(column)
        return self._texts(start[row : row + 1], stop[row : row + 1])[0]

    def numbers(self, column: int, strict: bool) -> Floats | None:
        """Cells that are plain finite numbers."""
        if len(self.ends) < _SHORT:
            return plain_numbers(self.strings(column), strict)
        start, stop = self._span(column)
        if strict and plain_numbers(self._texts(start[:1], stop[:1]), True) is None:
            return None
        values, regular = _decimals(np.frombuffer(self.data, np.uint8), start, stop)
        if not regular.all():
            rows = np.flatnonzero(~regular)
            others = plain_numbers(self._texts(start[rows], stop[rows]), strict)
            if others is None:
                return None
            values[rows] = others
        return values

    def cells(self, column: int) -> tuple[Strings, Codes]:
        """Each different cell."""
        if len(self.ends) < _SHORT:
            return different(self.strings(column))
        start, stop = self._span(column)
        if len(set(self._texts(start[:SAMPLE], stop[:SAMPLE]))) > 0.9 * SAMPLE:
            return self._texts(start, stop), np.arange(len(start))
        words = _words(np.frombuffer(self.data, np.uint8), start, stop)
        if words is not None:
            key = words[0].copy()
            for word in words[1:]:
                key = key * _FACTOR + word
            origin, codes = _origins(key)
            if all((word == word[origin][codes]).all() for word in words):  # no two texts share a place
                return self._texts(start[origin], stop[origin]), codes
        return different(self._texts(start, stop))

    def _span(self, column: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Where the cells of a column begin and end."""
        stop = self.ends[:, column]
        if column:
            start = self.ends[:, column - 1] + np.int32(1)
        else:
            start = np.zeros_like(stop)
            start[1:] = self.ends[:-1, -1] + 1
        if not self.quoted:
            return start, stop
        codes = np.frombuffer(self.data, np.uint8)
        if self.crlf and column == self.ends.shape[1] - 1:
            stop = stop - ((codes[stop - 1] == ord("\r")) & (stop > start))
        quoted = codes[start] == ord('"')
        return start + quoted, (stop - quoted).astype(np.int32)

    def _texts(self, start: npt.NDArray[np.int32], stop: npt.NDArray[np.int32]) -> Strings:
        spans = zip(start.tolist(), stop.tolist(), strict=True)
        if len(start) > 1000 and self.data.isascii():  # one decoding for all
            text = self.data.decode("ascii")
            return [text[a:b] for a, b in spans]
        data = self.data
        return [data[a:b].decode() for a, b in spans]


def _decimals(
    data: npt.NDArray[np.uint8], start: npt.NDArray[np.int32], stop: npt.NDArray[np.int32]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Numbers such as -12.5 of at most 15 digits, and which cells are such: digits / 10**(digits after the point).

    Both are exact in float64, so that the quotient is the number that Python's float gives.
    """
    length = stop - start
    n = len(length)
    digits, after, points = np.zeros(n, np.int8), np.zeros(n, np.int8), np.zeros(n, np.int8)
    values, shortest = np.zeros(n), int(length.min(initial=0))
    for k in range(min(int(length.max(initial=0)), _WIDE), 0, -1):
        letter = data[stop - k]
        if k > shortest:  # before some cells
            letter *= length >= k
        value = letter - np.uint8(48)
        digit = value < 10
        values = np.where(digit, values * 10 + value, values)
        digits += digit
        after += digit & (points > 0)
        points += letter == 46
    sign = data[np.minimum(start, len(data) - 1)]
    negative = sign == 45
    regular = (digits > 0) & (digits <= _DIGITS) & (points <= 1) & (digits + points + negative == length)
    values /= _POWERS[np.minimum(after, _DIGITS)]
    return np.where(negative, -values, values), regular


def _words(
    data: npt.NDArray[np.uint8], start: npt.NDArray[np.int32], stop: npt.NDArray[np.int32]
) -> list[npt.NDArray[np.uint64]] | None:
    """The cells as words of 8 bytes, with zeros after the end; None if some are long."""
    length = stop - start
    count = max(1, -(-int(length.max(initial=0)) // 8))
    if count > _MAX_WORDS:
        return None
    padded = np.zeros(len(data) + 8 * count, np.uint8)
    padded[: len(data)] = data
    at = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))  # the word that begins at each byte
    words: list[npt.NDArray[np.uint64]] = []
    for i in range(count):
        unused = 8 * np.clip(8 * (i + 1) - length, 0, 8).astype(np.uint64)
        mask = np.where(unused < 64, np.uint64(2**64 - 1) >> np.minimum(unused, np.uint64(63)), np.uint64(0))
        words.append(np.bitwise_and(at[start + 8 * i], mask, dtype=np.uint64))
    return words

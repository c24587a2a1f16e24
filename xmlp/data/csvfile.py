"""CSV files: tables of strings in, columns of numbers and strings out. No cell is trusted on either side."""

import csv
import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

import numpy as np
import numpy.typing as npt

from xmlp.errors import DataError

_MAX_ROW = 2**25  # characters: room for a million columns
_ROWS = 1024  # rows that are held twice while they are turned into columns


class Writable(Protocol):
    """What `write_predictions` needs of a stream."""

    def write(self, text: str, /) -> object:
        """Take a piece of text."""


@dataclass(frozen=True)
class Cells:
    """One column, each different text once.

    Attributes
    ----------
    texts : list of str
        The different texts without the space around them, in the order in which they first occur.
    codes : ndarray of shape (N,), int64
        For each row the position of its text.
    """

    texts: list[str]
    codes: npt.NDArray[np.int64]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many rows hold each text."""
        return np.bincount(self.codes, minlength=len(self.texts))


@dataclass(frozen=True)
class Table:
    """Columns of strings, as they stand in a CSV file.

    Parameters
    ----------
    name : str
        The file, for messages.
    columns : dict of str to sequence of str
        The cells of each column, all of one length, in the order of the file.
    lines : sequence of int
        The line in the file, from 1, where each row begins.
    """

    name: str
    columns: Mapping[str, Sequence[str]]
    lines: Sequence[int]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.lines)

    def take(self, indices: npt.ArrayLike) -> "Table":
        """Select rows by position, in the order given; each keeps the number of its line.

        >>> table = Table("ab.csv", {"a": ["x", "y", "z"]}, [2, 3, 4])
        >>> table.take([2, 0])
        Table(name='ab.csv', columns={'a': ['z', 'x']}, lines=[4, 2])
        """
        rows = np.asarray(indices, dtype=None if np.size(indices) else np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ValueError(f"expected positions of rows as integers (n,), got {rows.shape} {rows.dtype}.")
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise ValueError(f"expected positions of 0 to {len(self) - 1}, got {rows.min()} to {rows.max()}.")
        chosen = rows.tolist()
        columns = {name: [cells[i] for i in chosen] for name, cells in self.columns.items()}
        return Table(self.name, columns, [self.lines[i] for i in chosen])

    def cells(self, column: str) -> Cells:
        """A column, each different text once.

        >>> Table("ab.csv", {"a": ["x", " y", "x "]}, [2, 3, 4]).cells("a")
        Cells(texts=['x', 'y'], codes=array([0, 1, 0]))
        """
        position: dict[str, int] = {}
        codes = [position.setdefault(cell.strip(), len(position)) for cell in self.columns[column]]
        return Cells(list(position), np.asarray(codes, dtype=np.int64))

    def floats(self, column: str) -> npt.NDArray[np.float64] | None:
        """A column as numbers; None if a cell is no plain finite number.

        >>> Table("ab.csv", {"a": ["1", " 2.5"]}, [2, 3]).floats("a")
        array([1. , 2.5])
        """
        try:
            values = np.asarray([*map(float, self.columns[column])], dtype=np.float64)
        except ValueError:
            return None
        return values if np.isfinite(values).all() and "_" not in "".join(self.columns[column]) else None

    def error(self, message: str, *, row: int | None = None, column: str | None = None) -> DataError:
        """Make a `DataError` that names the file and, where given, the line of a row and the column."""
        return _error(self.name, message, None if row is None else self.lines[row], column)


def read_csv(source: str | os.PathLike[str] | TextIO, *, name: str | None = None, max_field: int = 2**20) -> Table:
    r"""Read a CSV file with a header line; every cell stays a string.

    Cells are separated by commas and may be quoted with ``"``; a quoted cell may hold commas, line ends, and
    ``""`` for a quote. The text is UTF-8, with or without a byte order mark; lines end in LF, CRLF or CR.
    Empty lines are skipped. The file is not trusted: reading stops at a row of more than 2**25 characters.

    Parameters
    ----------
    source : str, PathLike or text stream
        The file, or an open stream such as ``sys.stdin``.
    name : str, optional
        What messages call it: by default the path, or the stream's own name.
    max_field : int
        The most characters that a cell may have.

    Returns
    -------
    Table
        At least one column and one row.

    Raises
    ------
    DataError
        The file is empty or ends after the header, a column has no name or the name of another, a row has
        more or fewer cells than the header, a quote stays open, a cell or row is too long, the text is not
        UTF-8 or holds NUL. The message has the file, the line and, where there is one, the column.
    OSError
        The file cannot be opened or read.

    Examples
    --------
    >>> import io
    >>> table = read_csv(io.StringIO('size,colour\n1,"red, dark"\n\n2,blue\n'), name="things.csv")
    >>> table.columns["colour"], table.lines
    (['red, dark', 'blue'], [2, 4])
    """
    if not isinstance(source, str | os.PathLike):
        return _parse(source, name or str(getattr(source, "name", "<stream>")), max_field)
    # Bytes that are not UTF-8 become lone surrogates, which `_lines` finds, so that it can tell their line.
    with open(source, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return _parse(stream, name or os.fspath(source), max_field)


def _parse(stream: TextIO, name: str, max_field: int) -> Table:
    # The limit belongs to the process, and its default is too low. It is only ever raised, for threads' sake.
    csv.field_size_limit(max(csv.field_size_limit(), max_field))
    rows = _rows(stream, name, max_field)
    line, header = next(rows, (0, []))
    if not header:
        raise _error(name, "expected a header line with the names of the columns, got an empty file")
    header = [column.strip() or f"Unnamed: {i}" for i, column in enumerate(header)]  # as pandas calls them
    seen: set[str] = set()
    for column in header:
        if column in seen:
            raise _error(name, "two columns have this name", line, column)
        seen.add(column)
    columns: list[list[str]] = [[] for _ in header]
    lines: list[int] = []
    block: list[list[str]] = []

    def flush() -> None:
        for cells, new in zip(columns, zip(*block, strict=True), strict=True):
            cells.extend(new)
        block.clear()

    for line, row in rows:
        if len(row) != len(header):
            raise _error(name, f"expected {len(header)} cells as in the header, got {len(row)}", line)
        lines.append(line)
        block.append(row)
        if len(block) == _ROWS:
            flush()
    if not lines:
        raise _error(name, "expected rows after the header, got none")
    if block:
        flush()
    return Table(name, dict(zip(header, columns, strict=True)), lines)


def _rows(stream: TextIO, name: str, max_field: int) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty, with the line where it begins."""
    line, size = 1, 0

    def lines() -> Iterator[str]:
        nonlocal size
        for text in _lines(stream, name):
            size += len(text)
            if size > _MAX_ROW:
                raise _error(name, f"a row is longer than {_MAX_ROW} characters; is this a CSV file?", line)
            yield text

    reader = csv.reader(lines(), strict=True)
    while True:
        line, size = reader.line_num + 1, 0
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _error(name, _explain(str(error), max_field), line) from None
        if row and max(map(len, row)) > max_field:
            raise _error(name, _explain("field limit", max_field), line)
        if row:
            yield line, row


def _explain(problem: str, max_field: int) -> str:
    if "unexpected end of data" in problem:
        return 'a quote (") opens in the row that begins here and never closes'
    if "field limit" in problem:
        return f'a cell is longer than {max_field} characters; is a quote (") left open?'
    if "new-line character" in problem:
        return "a carriage return stands inside a line; open the stream with newline=None"
    return f"not a row of CSV: {problem}"


def _lines(stream: TextIO, name: str) -> Iterator[str]:
    """Yield the lines of a stream, checked to be text; of one that is too long, enough to see that it is."""
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline(_MAX_ROW + 1)
        except UnicodeDecodeError as error:
            raise _error(name, f"not text in {error.encoding}: {error.reason}", number) from None
        if not line:
            return
        if number == 1:
            line = line.removeprefix("\ufeff")
        if "\0" in line or not line.isascii():
            _check_text(line, name, number)
        yield line


def _check_text(line: str, name: str, number: int) -> None:
    head = line[:200]
    marked = head[:2] in ("\udcff\udcfe", "\udcfe\udcff")
    if number == 1 and (marked or 3 * head.count("\0") > max(9, len(head))):
        raise _error(name, "expected UTF-8, this looks like UTF-16. Save the file as UTF-8", number)
    if "\0" in line:
        position = line.index("\0") + 1
        raise _error(name, f"holds a NUL character at position {position}; is this a text file?", number)
    try:
        line.encode()
    except UnicodeEncodeError as error:
        byte, position = ord(line[error.start]) & 0xFF, error.start + 1
        raise _error(
            name,
            f"expected UTF-8, got the byte {byte:#04x} at position {position}; this looks like Latin-1 or "
            "Windows-1252. Save the file as UTF-8",
            number,
        ) from None


def _error(name: str, message: str, line: int | None = None, column: str | None = None) -> DataError:
    where = name if line is None else f"{name}, line {line}"
    where += "" if column is None else f", column {column!r}"
    return DataError(f"{where}: {message}" + ("" if message.endswith((".", "?")) else "."))


def write_predictions(stream: Writable, columns: Mapping[str, Collection[Any]]) -> None:
    r"""Write columns as CSV, in such a way that no spreadsheet runs a cell as a formula.

    Numbers are written so that they read back as the same number. A text that begins with ``= + - @``, a
    tab, a carriage return or a line feed, and is not a number, gets an apostrophe in front, with which
    spreadsheets take it for text. (Who reads the file and wants the exact text back removes it.)

    Parameters
    ----------
    stream : text stream
        Open for writing; a file should be opened with ``newline=""``.
    columns : dict of str to sequence or array
        Header and cells of each column: strings and numbers, all of one length.

    Raises
    ------
    ValueError
        There are no columns, or their lengths differ.

    Examples
    --------
    >>> import sys
    >>> write_predictions(sys.stdout, {"label": ["cat", "=1+1"], "p": [0.1, 1.0]})
    label,p
    cat,0.1
    '=1+1,1.0
    """
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"expected columns of one length, got {lengths or 'no columns'}.")
    for row in itertools.chain([columns], zip(*columns.values(), strict=True)):
        stream.write(",".join(map(_safe, row)) + "\n")


def _safe(cell: object) -> str:
    text = str(cell)
    if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) and number(text) is None:
        text = f"'{text}"
    # csv.writer is not used because, before Python 3.13, it leaves a carriage return without quotes.
    return '"' + text.replace('"', '""') + '"' if not text or set(text) & set(',"\r\n') else text


def number(cell: str) -> float | None:
    """Read a cell as a number, possibly infinite or NaN; None if it is not one.

    >>> number(" -1.5e3 "), number("1_000"), number("12 kg")
    (-1500.0, None, None)
    """
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None

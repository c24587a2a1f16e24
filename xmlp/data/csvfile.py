"""CSV files: tables of strings in, columns of numbers and strings out. No cell is trusted on either side."""

import csv
import importlib
import itertools
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any, BinaryIO, Protocol, TextIO

from xmlp.data.blocks import Block, number
from xmlp.data.dialect import Dialect, check_separator, find_separator, named_separator
from xmlp.data.numerals import is_number
from xmlp.data.readers import ENGINES, ExactReader, exact_blocks, regular_block
from xmlp.data.textfile import Pieces, count_lines, failure
from xmlp.data.texttable import Cells, Table
from xmlp.errors import unknown

__all__ = ["Cells", "Table", "number", "read_csv", "write_predictions"]

_LARGE = 2**21  # bytes of a piece, which files of some mebibytes have: there the import of a library pays


class Writable(Protocol):
    """What `write_predictions` needs of a stream."""

    def write(self, text: str, /) -> object:
        """Take a piece of text."""


def read_csv(
    source: str | os.PathLike[str] | TextIO | BinaryIO,
    *,
    name: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    max_field: int = 2**20,
    engine: str | None = None,
) -> Table:
    r"""Read a CSV file with a header line; every cell stays a string.

    Cells are separated by commas, semicolons, tabs or bars and may be quoted with ``"``; a quoted cell may hold
    separators, line ends, and ``""`` for a quote. Spaces before a cell and around quotes are no part of it. Lines
    end in LF, CRLF or CR. Blank lines are skipped; in a file of one column each is a row whose cell is empty. A
    column without a name is called ``Unnamed: i``, as in pandas. The file may be packed with gzip. It is not
    trusted: reading stops at a row of more than 2**25 characters, and where more than 2**31 bytes are unpacked.

    Parameters
    ----------
    source : str, PathLike or stream
        The file, or an open stream of bytes or text, such as ``sys.stdin.buffer``.
    name : str, optional
        What messages call it: by default the path, or the stream's own name.
    separator : str, optional
        The one character between cells. By default the one with which the first rows have as many cells as the
        header, or what a first line such as ``sep=;`` names.
    encoding : str, optional
        How the text is written as bytes. By default UTF-8, or UTF-16 or UTF-32 where the file begins with their
        byte order mark. A stream of text has its own.
    max_field : int
        The most characters that a cell may have.
    engine : {"polars", "pyarrow", "numpy", "csv"}, optional
        What reads the rows that are regular; all give the same table. By default polars or pyarrow for large
        files where they are installed (``pip install "xmlp[table]"``), else NumPy. Rows that are not regular are
        always read by Python's csv module.

    Returns
    -------
    Table
        At least one column and one row.

    Raises
    ------
    TypeError
        `source` is neither a path nor a stream.
    ValueError
        `separator`, `encoding` or `engine` is none.
    DataError
        The file is empty or ends after the header, two columns have one name, a row has more or fewer cells
        than the header, a quote stays open, a cell or row is too long, the text is not of its encoding or holds
        NUL, a packed file is damaged. The message has the file, the line and, where there is one, the column.
    OSError
        The file cannot be opened or read.

    Examples
    --------
    >>> import io
    >>> table = read_csv(io.StringIO('size; colour\n1,5; "red; dark"\n\n2,0;blue\n'), name="things.csv")
    >>> table.columns["colour"], table.lines, table.dialect.separator
    (['red; dark', 'blue'], [2, 4], ';')
    """
    if separator is not None:
        check_separator(separator)
    if engine is not None and engine not in ENGINES:
        raise ValueError(unknown("engine", engine, ENGINES))
    if not isinstance(source, str | os.PathLike) and not hasattr(source, "read"):
        raise TypeError(f"expected a path or an open stream, got {type(source).__name__}.")
    if name is None:
        name = os.fspath(source) if isinstance(source, str | os.PathLike) else getattr(source, "name", "<stream>")
    # The limit belongs to the process, and its default is too low. It is only ever raised, for threads' sake.
    csv.field_size_limit(max(csv.field_size_limit(), max_field))
    return _parse(Pieces(source, str(name), encoding), str(name), separator, max_field, engine)


def _parse(source: Pieces, name: str, separator: str | None, max_field: int, engine: str | None) -> Table:
    pieces = iter(source)
    head, following, line = next(pieces, b""), next(pieces, b""), 1
    text = head.decode("utf-8", "surrogateescape")
    if named := named_separator(text):
        head, line = head[len(named[0]) :], 2
        separator = separator or named[1]
    separator = separator or find_separator(text, whole=not following)
    pieces = itertools.chain([head] if head else [], [following] if following else [], pieces)
    reader = ExactReader(pieces, name, separator, max_field, line)
    names = _names(reader, name)
    blocks = list(_blocks(reader, pieces, len(names), name, separator, max_field, engine))
    if not blocks:
        raise failure(name, "expected rows after the header, got none")
    decimal = "." if separator == "," else None
    return Table.of_blocks(name, names, blocks, Dialect(separator, decimal, encoding=source.encoding))


def _names(reader: ExactReader, name: str) -> list[str]:
    line, header = next(((line, row) for line, row in reader if row), (0, []))
    if not header:
        raise failure(name, "expected a header line with the names of the columns, got an empty file")
    reader.check(line, header)
    names = [column.strip() or f"Unnamed: {i}" for i, column in enumerate(header)]  # as pandas calls them
    seen: set[str] = set()
    for column in names:
        if column in seen:
            raise failure(name, "two columns have this name", line, column)
        seen.add(column)
    return names


def _blocks(
    reader: ExactReader,
    pieces: Iterator[bytes],
    width: int,
    name: str,
    separator: str,
    max_field: int,
    engine: str | None,
) -> Iterator[Block]:
    """Read the rows: what is regular quickly, and the rest exactly from the first piece on that is not."""
    if engine == "csv":
        yield from exact_blocks(reader, width, name)
        return
    line, rest = reader.line, b""
    for new in itertools.chain([reader.rest()], pieces):
        piece = rest + new
        if not piece:
            continue
        fast = engine or (_library() if len(piece) >= _LARGE else "numpy")
        found = regular_block(piece, width, separator, max_field, line, fast)
        if found is None:
            again = ExactReader(itertools.chain([piece], pieces), name, separator, max_field, line)
            yield from exact_blocks(again, width, name)
            return
        block, used = found
        if block is not None:
            yield block
        line, rest = line + count_lines(piece[:used]), piece[used:]
    if rest:
        yield from exact_blocks(ExactReader(iter([rest]), name, separator, max_field, line), width, name)


def _library() -> str:
    """The first of the fast libraries that is installed."""
    for name in ("polars", "pyarrow"):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        return name
    return "numpy"


def write_predictions(stream: Writable, columns: Mapping[str, Collection[Any]]) -> None:
    r"""Write columns as CSV, in such a way that no spreadsheet runs a cell as a formula.

    Numbers are written so that they read back as the same number. A text that begins with ``= + - @``, a
    tab, a carriage return or a line feed, and is not a number (``-5``, ``-1.234,50 €``), gets an apostrophe
    in front, with which spreadsheets take it for text. (Who reads the file and wants the exact text back
    removes it.)

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
    formula = text.startswith(("=", "@", "\t", "\r", "\n")) or (text.startswith(("+", "-")) and not is_number(text))
    if formula:
        text = f"'{text}"
    # csv.writer is not used because, before Python 3.13, it leaves a carriage return without quotes.
    return '"' + text.replace('"', '""') + '"' if not text or text[0] == " " or set(text) & set(',"\r\n') else text

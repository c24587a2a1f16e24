"""Readers of CSV: one that is exact and says what is wrong, fast ones for what is regular; all agree."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xmlp.data import textfile
from xmlp.data.blocks import SAMPLE, Block, Codes, Floats, Lines, Spans, Strings, plain_numbers, trimmed
from xmlp.data.textfile import check_lines, count_lines, failure

ENGINES = ("polars", "pyarrow", "numpy", "csv")
_MAX_WIDTH = 4096  # columns for which the libraries are still quick
_BLOCK_ROWS = 4096  # rows that are held twice while they become a block


class ExactReader:
    """The rows of a CSV file one by one; whatever is wrong is refused with its line.

    Spaces around quotes, and before a cell, are no part of the cell.

    Parameters
    ----------
    pieces : iterator of bytes
        UTF-8 that ends where a line ends.
    name : str
        For messages.
    separator : str
        Between cells.
    max_field : int
        The most characters of a cell.
    line : int
        The number of the first line.
    """

    def __init__(self, pieces: Iterator[bytes], name: str, separator: str, max_field: int, line: int = 1) -> None:
        self._pieces, self._name, self.max_field = pieces, name, max_field
        self._line = line  # where the row begins that is being read
        self._text = io.StringIO()
        self._last, self._pending = "", 0
        mark = re.escape(separator)
        self._cell = re.compile(rf' *(?:"((?:[^"]|"")*)" *|([^"{mark}\r\n][^{mark}\r\n]*|))(?:({mark})|[\r\n]*$)')
        self._rows = csv.reader(self._lines(), delimiter=separator, strict=True, skipinitialspace=True)
        self._first = line

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row and the line where it begins; a blank line is a row of no cells."""
        while True:
            try:
                row = next(self._rows)
            except StopIteration:
                return
            except csv.Error as error:
                row = self._spaced_row() or self._refuse(str(error))
            line, self._line, self._pending = self._line, self._first + self._rows.line_num, 0
            yield line, row

    @property
    def line(self) -> int:
        """The number of the line after the last row."""
        return self._line

    def rest(self) -> bytes:
        """Take back what was not read of the last piece."""
        return self._text.read().encode("utf-8", "surrogateescape")

    def check(self, line: int, row: Sequence[str]) -> None:
        """Refuse a row with a cell that is too long."""
        if row and max(map(len, row)) > self.max_field:
            raise failure(self._name, _explain("field limit", self.max_field), line)

    def _lines(self) -> Iterator[str]:
        number = self._line
        for piece in self._pieces:
            text = piece.decode("utf-8", "surrogateescape")
            sound = "\0" not in text and _is_utf8(piece)
            self._text = io.StringIO(text, newline="")
            for line in self._text if sound else check_lines(self._text, self._name, number):
                self._pending += len(line)
                if self._pending > textfile.MAX_ROW:
                    problem = f"a row is longer than {textfile.MAX_ROW} characters; is this a CSV file?"
                    raise failure(self._name, problem, self._line)
                self._last = line
                yield line
            number += count_lines(piece)

    def _spaced_row(self) -> list[str] | None:
        """A row of one line with spaces after a closing quote, which the csv module takes for an error."""
        if self._first + self._rows.line_num != self._line + 1:
            return None
        cells, at, more = [], 0, True
        while more:
            found = self._cell.match(self._last, at)
            if not found:
                return None
            quoted, plain, more = found.group(1), found.group(2), found.group(3) is not None
            cells.append(plain if quoted is None else quoted.replace('""', '"'))
            at = found.end()
        return cells if at == len(self._last) else None

    def _refuse(self, problem: str) -> list[str]:
        raise failure(self._name, _explain(problem, self.max_field), self._line) from None


def _is_utf8(data: bytes) -> bool:
    try:
        return data.isascii() or bool(data.decode())
    except UnicodeDecodeError:
        return False


def _explain(problem: str, max_field: int) -> str:
    if "unexpected end of data" in problem:
        return 'a quote (") opens in the row that begins here and never closes'
    if "field limit" in problem:
        return f'a cell is longer than {max_field} characters; is a quote (") left open?'
    return f"not a row of CSV: {problem}"


def exact_blocks(reader: ExactReader, width: int, name: str) -> Iterator[Block]:
    """Read all that is left. In a table of one column a blank line is a missing cell, in others it is no row."""
    rows: list[list[str]] = []
    lines: list[int] = []
    for line, row in reader:
        if width == 1 and not row:
            row = [""]
        if len(row) != width:
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            for earlier in zip(lines, rows, strict=True):
                reader.check(*earlier)
            hint = ". If the header is right, name another separator" if width == 1 else ""
            raise failure(
                name, f"expected {width} cell{'s' * (width > 1)} as in the header, got {len(row)}{hint}", line
            )
        rows.append(row)
        lines.append(line)
        if len(rows) == _BLOCK_ROWS:
            yield _exact_block(reader, rows, lines)
            rows, lines = [], []
    if rows:
        yield _exact_block(reader, rows, lines)


def _exact_block(reader: ExactReader, rows: list[list[str]], lines: list[int]) -> Spans:
    block = Spans.of_rows(rows, lines)
    if block.longest() > reader.max_field:
        for line, row in zip(lines, rows, strict=True):
            reader.check(line, row)
    return block


def regular_block(
    piece: bytes, width: int, separator: str, max_field: int, line: int, engine: str
) -> tuple[Block | None, int] | None:
    """Read what is regular: cells without quotes, or in quotes from end to end without quotes inside.

    Parameters
    ----------
    piece : bytes
        Whole lines.
    width, separator, max_field
        Of the table.
    line : int
        The number of the first line.
    engine : {"polars", "pyarrow", "numpy"}
        What to read with.

    Returns
    -------
    block : Block or None
        None if all lines are blank.
    used : int
        How many bytes of the piece were read; less than all where a quoted cell goes on in the next piece.
        Instead of both None, if the exact reader is to read the piece.
    """
    if not separator.isascii() or b"\0" in piece or not _is_utf8(piece):
        return None
    mark = separator.encode()
    if b'"' in piece:
        return _quoted_block(piece, width, mark, max_field, line)
    size = len(piece)
    if b"\r" in piece:
        piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    breaks = _breaks(piece)
    if piece.startswith(b" ") or (np.frombuffer(piece, np.uint8)[breaks[:-1] + 1] == ord(" ")).any():
        piece = re.sub(rb"(^|\n) +", rb"\1", piece)
        breaks = _breaks(piece)
    lengths = np.diff(breaks, prepend=-1)
    lines: Lines = range(line, line + len(breaks))
    if width > 1 and lengths.min() == 1:
        lines = line + np.flatnonzero(lengths > 1)
        piece = re.sub(rb"\n\n+", b"\n", piece).removeprefix(b"\n")
        if not piece:
            return None, size
    if lengths.max() > max_field or not 1 < width <= _MAX_WIDTH:
        engine = "numpy"  # which knows how long cells are, and makes nothing for each column
    block = _READERS[engine](piece, width, mark, max_field, lines)
    return None if block is None else (block, size)


def _breaks(piece: bytes) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n"))


def _spans(piece: bytes, width: int, mark: bytes, max_field: int, lines: Lines) -> Block | None:
    codes = np.frombuffer(piece, np.uint8)
    between = (codes == mark[0]) | (codes == ord("\n"))
    if (between[:-1] & (codes[1:] == ord(" "))).any():
        trimmed = re.sub(rb"([\n" + re.escape(mark) + rb"]) +", rb"\1", piece)
        return _spans(trimmed, width, mark, max_field, lines)
    ends = np.flatnonzero(between)
    last = ends[width - 1 :: width]
    if len(ends) != width * len(lines) or not (codes[last] == ord("\n")).all():
        return None
    block = Spans(piece, ends.astype(np.int32).reshape(-1, width), lines)
    return block if len(piece) <= max_field or block.longest() <= max_field else None


def _quoted_block(piece: bytes, width: int, mark: bytes, max_field: int, line: int) -> tuple[Block, int] | None:
    """Quotes that open where a cell begins and close where it ends: what is between them is text."""
    crlf = piece.count(b"\r\n")
    if piece.count(b"\r") != crlf or piece.startswith(b" ") or b"\n " in piece or mark + b" " in piece:
        return None
    codes = np.frombuffer(piece, np.uint8)
    quotes, breaks = np.flatnonzero(codes == ord('"')), np.flatnonzero(codes == ord("\n"))
    ends = np.flatnonzero((codes == mark[0]) | (codes == ord("\n")))
    ends = ends[np.searchsorted(quotes, ends) % 2 == 0]  # of these quotes, every second one closes
    last = np.flatnonzero(codes[ends] == ord("\n"))
    if not len(last) or (np.diff(last, prepend=-1) != width).any():
        return None
    ends = ends[: last[-1] + 1].reshape(-1, width)
    used = int(ends[-1, -1]) + 1
    quotes = quotes[quotes < used]
    opened, closed = codes[quotes[::2] - 1], codes[quotes[1::2] + 1]  # the byte before, the byte after
    opens = (opened == mark[0]) | (opened == ord("\n")) | (quotes[::2] == 0)
    closes = (closed == mark[0]) | (closed == ord("\n")) | (closed == ord("\r"))
    if not (opens.all() and closes.all()):
        return None
    starts = np.concatenate([[0], ends[:-1, -1] + 1])
    lines = line + np.searchsorted(breaks, starts)
    block = Spans(piece[:used], ends.astype(np.int32), lines, quoted=True, crlf=crlf > 0)
    return None if block.longest() > max_field else (block, used)


class _Polars:
    """Rows that polars holds as text."""

    def __init__(self, frame: Any, lines: Lines) -> None:
        self._frame, self.lines = frame, lines

    def strings(self, column: int) -> Strings:
        """All cells."""
        found: Strings = self._frame.to_series(column).to_list()
        return trimmed(found)

    def cell(self, column: int, row: int) -> str:
        """One of them."""
        return str(self._frame.to_series(column)[row]).lstrip(" ")

    def numbers(self, column: int, strict: bool) -> Floats | None:
        """Cells that are plain finite numbers."""
        import polars

        series = self._frame.to_series(column)
        values: Floats = series.cast(polars.Float64, strict=False).to_numpy()
        rows = np.flatnonzero(~np.isfinite(values))
        if not len(rows):
            return values
        others = plain_numbers(series[rows].to_list(), strict)
        if others is None:
            return None
        values = values.copy()
        values[rows] = others
        return values

    def cells(self, column: int) -> tuple[Strings, Codes]:
        """Different cells."""
        import polars

        series = self._frame.to_series(column)
        if len(set(series[:SAMPLE].to_list())) > 0.9 * SAMPLE:
            return series.to_list(), np.arange(len(series))
        texts = series.unique(maintain_order=True)
        return texts.to_list(), series.cast(polars.Enum(texts)).to_physical().to_numpy()


def _polars(piece: bytes, width: int, mark: bytes, max_field: int, lines: Lines) -> Block | None:
    """Read with polars. It fills short rows without a word and refuses long ones: the separators are counted."""
    import polars

    if np.count_nonzero(np.frombuffer(piece, np.uint8) == mark[0]) != len(lines) * (width - 1):
        return None
    empty = "empty_string_is_null" if int(polars.__version__.split(".")[0]) > 1 else "missing_utf8_is_empty_string"
    options: dict[str, Any] = {empty: empty.startswith("missing")}
    try:
        frame = polars.read_csv(
            io.BytesIO(piece),
            has_header=False,
            schema={str(i): polars.String for i in range(width)},
            separator=mark.decode(),
            quote_char=None,
            **options,
        )
    except polars.exceptions.PolarsError:
        return None
    return _Polars(frame, lines) if frame.shape == (len(lines), width) else None


class _Arrow:
    """Rows that pyarrow holds."""

    def __init__(self, table: Any, lines: Lines) -> None:
        self._table, self.lines = table, lines

    def strings(self, column: int) -> Strings:
        """All cells."""
        found: Strings = self._table.column(column).to_pylist()
        return trimmed(found)

    def cell(self, column: int, row: int) -> str:
        """One of them."""
        return str(self._table.column(column)[row].as_py()).lstrip(" ")

    def numbers(self, column: int, strict: bool) -> Floats | None:
        """Cells that are plain finite numbers."""
        import pyarrow
        from pyarrow import compute

        cells = self._table.column(column)
        try:
            void = compute.equal(cells, "")
            values: Floats = compute.if_else(void, None, cells).cast(pyarrow.float64()).to_numpy()
        except pyarrow.ArrowInvalid:
            return plain_numbers(self.strings(column), strict)
        if np.isfinite(values).all():
            return values
        sound = not strict and np.isfinite(values[~void.to_numpy()]).all()
        return values if sound else plain_numbers(self.strings(column), strict)

    def cells(self, column: int) -> tuple[Strings, Codes]:
        """Each different cell."""
        cells = self._table.column(column)
        if len(set(cells[:SAMPLE].to_pylist())) > 0.9 * SAMPLE:
            return cells.to_pylist(), np.arange(len(cells))
        encoded = cells.combine_chunks().dictionary_encode()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _arrow(piece: bytes, width: int, mark: bytes, max_field: int, lines: Lines) -> Block | None:
    """Read with pyarrow, which refuses rows of another length."""
    import pyarrow
    import pyarrow.csv

    names = [str(i) for i in range(width)]
    try:
        table = pyarrow.csv.read_csv(
            pyarrow.BufferReader(piece),
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=max(2**20, len(piece) // 2)),
            parse_options=pyarrow.csv.ParseOptions(delimiter=mark.decode(), quote_char=False, double_quote=False),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pyarrow.string())),
        )
    except pyarrow.ArrowInvalid:
        return None
    return _Arrow(table, lines) if table.shape == (len(lines), width) else None


_READERS: dict[str, Callable[[bytes, int, bytes, int, Lines], Block | None]] = {
    "polars": _polars,
    "pyarrow": _arrow,
    "numpy": _spans,
}

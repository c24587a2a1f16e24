"""Files as pieces of UTF-8 that end where a line ends: encodings, gzip, streams. No file is trusted."""

import codecs
import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xmlp.errors import DataError

MAX_ROW = 2**25  # characters: room for a million columns
MAX_UNPACKED = 2**31  # bytes that a gzip file may become
_FIRST = 2**16  # bytes of the first piece, in which the dialect is found; the others grow
_MARKS = {  # UTF-32 first, for its mark begins as that of UTF-16 does
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_OTHERS = {  # as files of other kinds begin, with bytes that no header has
    b"PK\x03\x04": "a zip archive or a spreadsheet; save the table as CSV",
    b"\xd0\xcf\x11\xe0": "a spreadsheet; save the table as CSV",
    b"PAR1\x15": "a Parquet file; write the table as CSV",
    b"\xfd7zX": "a file packed with xz; unpack it first",
    b"BZh91AY": "a file packed with bzip2; unpack it first",
    b"\x28\xb5\x2f\xfd": "a file packed with Zstandard; unpack it first",
}


def failure(name: str, message: str, line: int | None = None, column: str | None = None) -> DataError:
    """Make an error that names the file and, where given, the line and the column."""
    where = name if line is None else f"{name}, line {line}"
    where += "" if column is None else f", column {column!r}"
    return DataError(f"{where}: {message}" + ("" if message.endswith((".", "?")) else "."))


def count_lines(data: bytes) -> int:
    """Count the line ends: LF, CRLF and CR."""
    breaks = int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n")))
    return breaks + (data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else 0)


class Pieces:
    """The text of a file or stream in UTF-8, in pieces that end where a line ends.

    The first piece has at most 64 KiB unless its line is longer, the others grow to some mebibytes. The file is
    not trusted: no line of more than 2**25 bytes is held, and no more than 2**31 bytes are unpacked. What is not
    text is passed on as it is, for `check_line` to find.

    Parameters
    ----------
    source : str, PathLike, or a stream of bytes or text
        A stream need not be able to go back.
    name : str
        For messages.
    encoding : str, optional
        By default UTF-8, or UTF-16 and UTF-32 where the file begins with their byte order mark.

    Attributes
    ----------
    encoding : str
        The encoding that is read; known after the first piece.

    Raises
    ------
    ValueError
        There is no such encoding of text.
    """

    def __init__(self, source: Any, name: str, encoding: str | None = None) -> None:
        if encoding is not None and not _is_text_encoding(encoding):
            raise ValueError(f"expected an encoding of text such as 'utf-8' or 'cp1252', got {encoding!r}.")
        self.encoding = encoding or "utf-8"
        self._source, self._name, self._given = source, name, encoding

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces; the file is open for that long."""
        if not isinstance(self._source, str | os.PathLike):
            yield from self._cut(self._reader(self._source))
            return
        with Path(self._source).open("rb") as file:
            yield from self._cut(self._reader(file))

    def _reader(self, stream: Any) -> Callable[[int], bytes]:
        """Give a function that reads about so many bytes of UTF-8, and none at the end only."""
        if isinstance(stream.read(0), str):
            return _Lines(stream, self._name).read
        head = _read(stream, 8)
        if head[:2] == b"\x1f\x8b":
            stream, head = _Unpacked(_Headed(head, stream), self._name), b""
            head = _read(stream, 8)
        for magic, form in _OTHERS.items():
            if head.startswith(magic):
                raise failure(self._name, f"expected a CSV file, plain or packed with gzip, got {form}")
        mark = next((mark for mark in _MARKS if head.startswith(mark)), b"")
        if self._given is None and mark:
            self.encoding = _MARKS[mark]
        plain = codecs.lookup(self.encoding).name == "utf-8"
        marked = mark and (self._given is None or (plain and mark == codecs.BOM_UTF8))
        headed = _Headed(head[len(mark) :] if marked else head, stream)
        return headed.read if plain else _Decoded(headed, self.encoding, self._name).read

    def _cut(self, read: Callable[[int], bytes]) -> Iterator[bytes]:
        size, rest, line = _FIRST, b"", 1
        while data := read(size):
            if rest and max(data.find(b"\n"), data.find(b"\r")) + len(rest) > MAX_ROW:
                raise self._too_long(line)
            if rest.endswith(b"\r"):  # perhaps the first half of CRLF
                data, rest = b"\r" + data, rest[:-1]
            cut = 1 + max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1))
            if cut:
                piece, rest = b"".join((rest, memoryview(data)[:cut])), data[cut:]
                line += count_lines(piece)
                yield piece
            else:
                rest += data
            if len(rest) > MAX_ROW:
                raise self._too_long(line)
            size = max(1, min(2 * size, MAX_ROW // 8))
        if rest:
            yield rest if rest.endswith((b"\n", b"\r")) else rest + b"\n"

    def _too_long(self, line: int) -> DataError:
        return failure(self._name, f"a row is longer than {MAX_ROW} characters; is this a CSV file?", line)


def _is_text_encoding(encoding: str) -> bool:
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        return False
    return True


def _read(stream: Any, size: int) -> bytes:
    """Read exactly so many bytes, fewer at the end only; a pipe may give them one by one."""
    parts = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class _Headed:
    """A stream of which the first bytes were read already."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return _read(self._stream, size)
        part, self._head = self._head[:size], self._head[size:]
        return part + _read(self._stream, size - len(part))


class _Unpacked:
    """What a gzip stream holds, up to a limit."""

    def __init__(self, packed: Any, name: str) -> None:
        self._stream, self._name, self._size = gzip.GzipFile(fileobj=packed), name, 0

    def read(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise failure(self._name, f"expected a whole gzip file, got a damaged one: {error}") from error
        self._size += len(data)
        if self._size > MAX_UNPACKED:
            raise failure(self._name, f"unpacks to more than {MAX_UNPACKED} bytes; unpack it first")
        return data


class _Decoded:
    """A stream in another encoding, as UTF-8."""

    def __init__(self, stream: _Headed, encoding: str, name: str) -> None:
        self._stream, self._name, self._line, self._start = stream, name, 1, True
        self._decoder, self._encoding = codecs.getincrementaldecoder(encoding)(), encoding

    def read(self, size: int) -> bytes:
        text = ""
        while not text:
            data = self._stream.read(size)
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeError as error:
                raise self._no_text(error) from None
            if not data:
                break
        if self._start:
            text, self._start = text.removeprefix("\ufeff"), False
        encoded = text.encode("utf-8", "surrogatepass")
        self._line += count_lines(encoded)
        return encoded

    def _no_text(self, error: UnicodeError) -> DataError:
        line = self._line
        if isinstance(error, UnicodeDecodeError):
            line += count_lines(error.object[: error.start].decode(self._encoding, "ignore").encode("utf-8", "ignore"))
        reason = getattr(error, "reason", error)
        problem = f"not text in {self._encoding}: {reason}. Name the encoding that it is written in"
        return failure(self._name, f"{problem}, such as encoding='utf-8' or 'cp1252'", line)


class _Lines:
    """A stream of text, as UTF-8. It is read line by line, so that what it cannot decode has the number of its line."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream, self._name, self._line, self._start = stream, name, 1, True

    def read(self, size: int) -> bytes:
        lines: list[str] = []
        while size > 0:
            try:
                line = self._stream.readline(size)
            except UnicodeDecodeError as error:
                problem = f"not text in {error.encoding}: {error.reason}. Open it in binary mode, or with its encoding"
                raise failure(self._name, problem, self._line) from None
            if not line:
                break
            lines.append(line.removeprefix("\ufeff") if self._start else line)
            self._start = False
            self._line += line.endswith(("\n", "\r"))
            size -= len(line)
        text = "".join(lines)
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return text.encode("utf-8", "surrogatepass")


def check_line(line: str, name: str, number: int) -> None:
    """Refuse a line, decoded with "surrogateescape", that is not text."""
    head = line[:200]
    if number == 1 and (wide := _wide_encoding(head)):
        looks = f"this looks like {wide[:6].upper()}"
        raise failure(name, f"expected UTF-8, {looks}. Save the file as UTF-8, or read it with encoding={wide!r}", 1)
    if "\0" in line:
        position = line.index("\0") + 1
        raise failure(name, f"holds a NUL character at position {position}; is this a text file?", number)
    try:
        line.encode()
    except UnicodeEncodeError as error:
        byte, position = ord(line[error.start]) & 0xFF, error.start + 1
        raise failure(
            name,
            f"expected UTF-8, got the byte {byte:#04x} at position {position}; this looks like Latin-1 or "
            "Windows-1252. Save the file as UTF-8, or read it with encoding='cp1252'",
            number,
        ) from None


def _wide_encoding(head: str) -> str | None:
    """The encoding of several bytes a letter in which a text may be that was read as UTF-8, by the places of NULs.

    >>> [_wide_encoding("a,b,c".encode(name).decode()) for name in ("utf-16-be", "utf-32-le", "utf-8")]
    ['utf-16-be', 'utf-32-le', None]
    """
    if head[:2] in ("\udcff\udcfe", "\udcfe\udcff"):
        return "utf-32" if head[2:4] == "\0\0" else "utf-16"
    share = head.count("\0") / max(len(head), 9)
    order = "be" if head.startswith("\0") else "le"
    return None if share <= 1 / 3 else f"utf-16-{order}" if share < 0.6 else f"utf-32-{order}"


def check_lines(text: Iterable[str], name: str, number: int) -> Iterator[str]:
    """Yield the lines of a text, each checked before it is given."""
    for offset, line in enumerate(text):
        check_line(line, name, number + offset)
        yield line

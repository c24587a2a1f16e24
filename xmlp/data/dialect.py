"""How a CSV file is written: what separates its cells. Found in the first lines."""

import csv
import io
import itertools
import re
from dataclasses import dataclass

SEPARATORS = (",", ";", "\t", "|")
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_ROWS = 100  # rows that are looked at
_NUMBER = re.compile(r"\s*[+-]?(\d+|\d{1,3}([. '\u00a0]\d{3})+)?,\d+\s*%?")  # with a decimal comma


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    Attributes
    ----------
    separator : str
        What stands between two cells.
    decimal : str or None
        "." where cells are separated by commas; None where the separator leaves it open.
    quote : str
        What may enclose a cell.
    encoding : str
        How its text is written as bytes.
    """

    separator: str = ","
    decimal: str | None = "."
    quote: str = '"'
    encoding: str = "utf-8"


def check_separator(separator: str) -> None:
    """Refuse what cannot stand between cells."""
    if not isinstance(separator, str) or len(separator) != 1 or separator.isalnum() or separator in ' "\r\n\0._+-':
        raise ValueError(f"expected one character between cells, such as ',' ';' '\\t' or '|', got {separator!r}.")


def named_separator(head: str) -> tuple[str, str] | None:
    r"""The line ``sep=;`` with which spreadsheets name the separator before the header, if it is there.

    >>> named_separator("sep=;\na;b\n")
    ('sep=;\n', ';')
    """
    found = re.match(r"(?:sep=|\"sep=)([,;\t|])\"?(?:\r\n|\n|\r)", head)
    return (found.group(), found.group(1)) if found else None


def find_separator(head: str, *, whole: bool = True) -> str:
    r"""The separator with which the rows of a text have as many cells as its header.

    If several do, it is the one that leaves the fewest of the others inside its cells (a number with a decimal
    comma does not count); if none does, the one with which most rows do; a comma if none occurs in the header.

    Parameters
    ----------
    head : str
        The first lines.
    whole : bool
        Whether it is all there is; if not, its last row may be incomplete.

    Examples
    --------
    >>> find_separator("size;price\n1,5;2,5\n"), find_separator("a\tb\n1, 2\t3\n"), find_separator("text\na b\n")
    (';', '\t', ',')
    """
    best, choice = (-1.0, 0.0, 0), ","
    occurring = [separator for separator in SEPARATORS if separator in head]
    for separator in occurring:
        rows = _rows(head, separator, whole)
        if not rows or len(rows[0]) < 2:
            continue
        width = len(rows[0])
        body = rows[1:] or rows
        fitting = [row for row in body if len(row) == width]
        share = len(fitting) / len(body)
        others = [other for other in occurring if other != separator]
        strange = sum(
            any(other in cell for other in others) and not _NUMBER.fullmatch(cell) for row in fitting for cell in row
        )
        quality = (share, -strange / (width * max(1, len(fitting))), width)
        if quality > best:
            best, choice = quality, separator
    return choice


def _rows(head: str, separator: str, whole: bool) -> list[list[str]]:
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        rows.extend(row for row in itertools.islice(reader, _ROWS) if any(cell.strip() for cell in row))
    except csv.Error:
        whole = True  # what came before it is complete
    return rows if whole or len(rows) < 2 or len(rows) == _ROWS else rows[:-1]

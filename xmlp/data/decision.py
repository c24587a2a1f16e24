"""What is decided about a column, and what is known of its texts before."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xmlp.data.missing import is_missing
from xmlp.data.numerals import NumberFormat
from xmlp.data.texttable import Cells

LEARNT = ("number", "category", "date")
DROPPED = ("identifier", "constant", "text", "empty", "drop")


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


class TextColumn(NamedTuple):
    """A column with what was found out about its texts."""

    name: str
    cells: Cells
    counts: npt.NDArray[np.int64]
    gap: npt.NDArray[np.bool_]  # texts that say nothing, in a column of words
    void: npt.NDArray[np.bool_]  # and in one of numbers or dates

    @classmethod
    def of(cls, name: str, cells: Cells) -> "TextColumn":
        """Find it out."""
        return cls(name, cells, cells.counts, is_missing(cells.texts), is_missing(cells.texts, words=True))

    @property
    def rows(self) -> int:
        """How many there are."""
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

    def present(self) -> list[str]:
        """The different texts that may be numbers or dates."""
        return [text for text, void in zip(self.cells.texts, self.void, strict=True) if not void]

    def spread(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Values of the texts that are present as values of all texts."""
        everywhere = np.full(len(self.cells.texts), np.nan)
        everywhere[~self.void] = values
        return everywhere

    def mostly(self, reads: npt.NDArray[np.bool_]) -> bool:
        """Whether the rest can only be mistakes: it is small, or the same few texts."""
        odd = ~reads & ~self.void
        good, bad = self.count(reads), self.count(odd)
        return good > bad and (4 * bad <= good or int(odd.sum()) <= 5)

    def share(self, reads: npt.NDArray[np.bool_]) -> str:
        """How many of the cells that are present hold these texts, in words."""
        return "all" if reads[~self.void].all() else f"{self.count(reads)} of {self.count(~self.void)}"

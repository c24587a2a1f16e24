"""Tables of text: columns whose strings and numbers are made when they are asked for."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xmlp.data.blocks import Block, Floats, Lines, Lists, different, plain_numbers, renumbered
from xmlp.data.dialect import Dialect
from xmlp.data.textfile import failure
from xmlp.errors import DataError

_FEW = 8  # a column in which a text stands so often on average is kept as codes, too


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

    def take(self, rows: npt.NDArray[np.int64]) -> "Cells":
        """The cells of some rows; texts that are in none of them are left out."""
        used, first, codes = np.unique(self.codes[rows], return_index=True, return_inverse=True)
        order, codes = renumbered(first, codes)
        return Cells([self.texts[i] for i in used[order]], codes)


class _Store:
    """The columns of a file, which all tables of its rows share; what was read from them is kept."""

    def __init__(self, names: Sequence[str], blocks: Sequence[Block]) -> None:
        self.position = {name: i for i, name in enumerate(names)}
        self.blocks = blocks
        self._last: tuple[str, list[str]] | None = None
        self._floats: dict[str, Floats | None] = {}
        self._numbers: dict[str, Floats] = {}
        self._cells: dict[str, Cells] = {}

    def __len__(self) -> int:
        return sum(len(block.lines) for block in self.blocks)

    def lines(self) -> npt.NDArray[np.int64]:
        return np.concatenate([np.asarray(block.lines, dtype=np.int64) for block in self.blocks])

    def strings(self, name: str) -> list[str]:
        last = self._last
        if last is None or last[0] != name:
            column = self.position[name]
            cells = list(itertools.chain.from_iterable(block.strings(column) for block in self.blocks))
            self._last = last = name, cells
        return last[1]

    def cell(self, name: str, row: int) -> str:
        for block in self.blocks:
            if row < len(block.lines):
                return block.cell(self.position[name], row)
            row -= len(block.lines)
        raise IndexError(row)

    def floats(self, name: str) -> Floats | None:
        if name not in self._floats:
            if name in self._numbers:
                values: Floats | None = self._numbers[name]
                self._floats[name] = None if np.isnan(self._numbers[name]).any() else values
            else:
                self._floats[name] = self._read_numbers(name, strict=True)
        return self._floats[name]

    def numbers(self, name: str) -> Floats:
        if name not in self._numbers:
            values = self._floats.get(name)
            values = self._read_numbers(name, strict=False) if values is None else values
            assert values is not None
            self._numbers[name] = values
        return self._numbers[name]

    def _read_numbers(self, name: str, strict: bool) -> Floats | None:
        column, found = self.position[name], []
        for block in self.blocks:
            values = block.numbers(column, strict)
            if values is None:
                return None
            found.append(values)
        values = np.concatenate(found) if found else np.empty(0)
        values.flags.writeable = False
        return values

    def cells(self, name: str) -> Cells:
        if name in self._cells:
            kept = self._cells[name]
            return Cells(list(kept.texts), kept.codes.astype(np.int64))
        cells = _merged([block.cells(self.position[name]) for block in self.blocks])
        if _FEW * len(cells.texts) <= len(self):
            small = np.min_scalar_type(len(cells.texts))
            self._cells[name] = Cells(list(cells.texts), cells.codes.astype(small))
        return cells


def _merged(parts: Sequence[tuple[list[str], npt.NDArray[Any]]]) -> Cells:
    """The cells of several blocks without the space around them, each different text once."""
    found, place = different(map(str.strip, itertools.chain.from_iterable(texts for texts, _ in parts)))
    codes, start, seen = np.empty(sum(len(local) for _, local in parts), dtype=np.int64), 0, 0
    for texts, local in parts:
        stop, end = start + len(local), seen + len(texts)
        np.take(place[seen:end], local, out=codes[start:stop], mode="clip")
        start, seen = stop, end
    return Cells(found, codes)


class _Settled:
    """Columns as what they were read as, numbers or different texts, without the bytes of the file."""

    def __init__(self, columns: Sequence[Floats | Cells], lines: Lines) -> None:
        self._columns = columns
        self.lines = lines

    def strings(self, column: int) -> list[str]:
        held = self._columns[column]
        if isinstance(held, Cells):
            return [held.texts[code] for code in held.codes]
        return [*map(repr, held.tolist())]

    def cell(self, column: int, row: int) -> str:
        held = self._columns[column]
        return held.texts[held.codes[row]] if isinstance(held, Cells) else repr(held[row].item())

    def numbers(self, column: int, strict: bool) -> Floats | None:
        held = self._columns[column]
        if not isinstance(held, Cells):
            return held
        values = plain_numbers(held.texts, strict)
        return None if values is None else values[held.codes]

    def cells(self, column: int) -> tuple[list[str], npt.NDArray[np.int64]]:
        held = self._columns[column]
        return (held.texts, held.codes.astype(np.int64)) if isinstance(held, Cells) else different(self.strings(column))


class _Columns(Mapping[str, Sequence[str]]):
    """The columns of a table by name; the strings are made when they are asked for."""

    def __init__(self, store: _Store, rows: npt.NDArray[np.int64] | None) -> None:
        self._store, self._rows = store, rows
        self._last: tuple[str, list[str]] | None = None

    def __getitem__(self, name: str) -> Sequence[str]:
        if self._rows is None:
            return self._store.strings(name)
        last = self._last
        if last is None or last[0] != name:
            cells = self._store.strings(name)
            self._last = last = name, [cells[i] for i in self._rows.tolist()]
        return last[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.position)

    def __len__(self) -> int:
        return len(self._store.position)

    def __contains__(self, name: object) -> bool:
        return name in self._store.position

    def __repr__(self) -> str:
        return repr(dict(self))


class Table:
    """Columns of strings, as they stand in a CSV file.

    A file of some size is held as its bytes; strings and numbers are made when they are asked for.

    Parameters
    ----------
    name : str
        The file, for messages.
    columns : dict of str to sequence of str
        The cells of each column, all of one length, in the order of the file.
    lines : sequence of int
        The line in the file, from 1, where each row begins.
    dialect : Dialect, optional
        How the file is written, where there is one.

    Attributes
    ----------
    name : str
        The file.
    columns : mapping of str to list of str
        The cells of each column. Lists of large files are made anew for each column that is asked for.
    lines : list of int
        Where each row begins.
    dialect : Dialect or None
        How the file is written.
    """

    name: str
    columns: Mapping[str, Sequence[str]]
    dialect: Dialect | None

    def __init__(
        self,
        name: str,
        columns: Mapping[str, Sequence[str]],
        lines: Sequence[int],
        dialect: Dialect | None = None,
    ) -> None:
        self._fill(name, _Store(list(columns), [Lists(list(columns.values()), lines)]), None, dialect)

    def _fill(self, name: str, store: _Store, rows: npt.NDArray[np.int64] | None, dialect: Dialect | None) -> "Table":
        self.name, self.dialect, self._store, self._rows = name, dialect, store, rows
        self.columns = _Columns(store, rows)
        return self

    @classmethod
    def of_blocks(cls, name: str, columns: Sequence[str], blocks: Sequence[Block], dialect: Dialect) -> "Table":
        """Make a table from rows as a reader holds them."""
        return cls.__new__(cls)._fill(name, _Store(columns, blocks), None, dialect)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._store) if self._rows is None else len(self._rows)

    def __repr__(self) -> str:
        """All of a small table, the size of a large one."""
        if len(self) > 20:
            return f"<Table {self.name!r} of {len(self)} rows and {len(self.columns)} columns>"
        return f"Table(name={self.name!r}, columns={self.columns!r}, lines={self.lines!r})"

    @property
    def lines(self) -> list[int]:
        """Where each row begins."""
        lines = self._store.lines()
        return [*map(int, lines if self._rows is None else lines[self._rows])]

    def take(self, indices: npt.ArrayLike) -> "Table":
        """Select rows by position, in the order given; each keeps the number of its line.

        No string is copied: the new table knows which rows it has.

        >>> table = Table("ab.csv", {"a": ["x", "y", "z"]}, [2, 3, 4])
        >>> table.take([2, 0])
        Table(name='ab.csv', columns={'a': ['z', 'x']}, lines=[4, 2])
        """
        rows = np.asarray(indices, dtype=None if np.size(indices) else np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ValueError(f"expected positions of rows as integers (n,), got {rows.shape} {rows.dtype}.")
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise ValueError(f"expected positions of 0 to {len(self) - 1}, got {rows.min()} to {rows.max()}.")
        rows = rows.astype(np.int64)
        chosen = rows if self._rows is None else self._rows[rows]
        return Table.__new__(Table)._fill(self.name, self._store, chosen, self.dialect)

    def settled(self, numbers: Mapping[str, bool]) -> "Table":
        """The same rows of some columns, without the bytes of the file, so that a large one takes less memory.

        A column of which `numbers` says so is held as plain numbers where all of its cells are such, and no longer as
        they were written; others as their different texts.

        >>> table = Table("ab.csv", {"a": ["1", "2.50"], "b": ["1", "1"], "c": ["", ""]}, [2, 3])
        >>> table.settled({"b": False, "a": True})
        Table(name='ab.csv', columns={'b': ['1', '1'], 'a': ['1.0', '2.5']}, lines=[2, 3])
        """
        held: list[Floats | Cells] = []
        for name, plain in numbers.items():
            values = self.floats(name) if plain else None
            if values is None:
                cells = self.cells(name)
                held.append(Cells(cells.texts, cells.codes.astype(np.min_scalar_type(len(cells.texts)))))
            else:
                held.append(values)
        store = _Store(list(numbers), [_Settled(held, np.asarray(self.lines, dtype=np.int64))])
        return Table.__new__(Table)._fill(self.name, store, None, self.dialect)

    def cells(self, column: str) -> Cells:
        """A column, each different text once.

        >>> Table("ab.csv", {"a": ["x", " y", "x "]}, [2, 3, 4]).cells("a")
        Cells(texts=['x', 'y'], codes=array([0, 1, 0]))
        """
        cells = self._store.cells(column)
        return cells if self._rows is None else cells.take(self._rows)

    def floats(self, column: str) -> Floats | None:
        """A column of numbers, None if a cell is not a plain finite number.

        Plain is what Python's ``float`` reads, but for underscores; space around it has no meaning.

        Returns
        -------
        ndarray of shape (N,), float64
            Shared and not to be written to.

        Examples
        --------
        >>> table = Table("ab.csv", {"a": ["1", " -2.5 "], "b": ["3", "inf"]}, [2, 3])
        >>> table.floats("a"), table.floats("b")
        (array([ 1. , -2.5]), None)
        """
        values = self._store.floats(column)
        if self._rows is None:
            return values
        if values is None:
            if len(self) and plain_numbers([self._store.cell(column, int(self._rows[0]))], strict=True) is None:
                return None
            values = self._store.numbers(column)
        chosen = values[self._rows]
        return None if np.isnan(chosen).any() else chosen

    def numbers(self, column: str) -> Floats:
        """A column that is not all numbers: NaN for each cell that is not a plain finite number.

        >>> Table("ab.csv", {"a": ["1", "N/A", "2"]}, [2, 3, 4]).numbers("a")
        array([ 1., nan,  2.])
        """
        values = self._store.numbers(column)
        return values if self._rows is None else values[self._rows]

    def error(self, message: str, *, row: int | None = None, column: str | None = None) -> DataError:
        """Make a `DataError` that names the file and, where given, the line of a row and the column."""
        if row is None:
            return failure(self.name, message, None, column)
        at = row if self._rows is None else int(self._rows[row])
        return failure(self.name, message, int(self._store.lines()[at]), column)

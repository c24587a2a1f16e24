"""Traces and plans for any number of rows.

While a step is traced, the number of rows is a `Size` to whoever reads a shape: it can be calculated with and compared,
and notes what was done. In the shapes of nodes it is an `Extent`, an int that knows how many times the number of rows
it is; so the planner sees the numbers of one example. The trace holds for every number of rows that gives the same
answers to all comparisons, and with which no two axes get the same length by chance: `Validity`.
"""

import operator
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from xmlp.errors import reason

Number = int | float
Made = TypeVar("Made")


class Extent(int):
    """The length of an axis: `factor` times the number of rows, of which the int is one example.

    >>> columns = Extent(32, 1) * 20
    >>> columns, columns.factor, at(columns, 5)
    (640, 20, 100)
    """

    factor: int

    def __new__(cls, value: int, factor: int) -> "Extent":
        extent = super().__new__(cls, value)
        extent.factor = factor
        return extent

    def __mul__(self, other: int) -> "Extent":
        if isinstance(other, Extent):
            raise TypeError("an array whose size is the square of the number of rows is planned for each number")
        return Extent(int(self) * other, self.factor * other)

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> int:
        factor = other.factor if isinstance(other, Extent) else other
        if self.factor % factor:
            raise TypeError(f"{self.factor} times the number of rows, divided by {other}")
        quotient = self.factor // factor
        return quotient if isinstance(other, Extent) else Extent(int(self) // other, quotient)


def factor(size: int) -> int:
    """How many times the number of rows a size is; 0 if it does not depend on it."""
    return size.factor if isinstance(size, Extent) else 0


def same(a: int, b: int) -> bool:
    """Whether two lengths are the same for every number of rows.

    Raises
    ------
    TypeError
        If they are so only for that of the trace.
    """
    if a == b and factor(a) != factor(b):
        raise TypeError(f"{a} is the number of rows by chance")
    return a == b


def of_any(make: Callable[[int], Made], rows: int) -> tuple[Made, str | None]:
    """What is made for any number of rows; where that fails, for so many, and the reason.

    >>> of_any(lambda n: (n * n if n > 3 else n) + 1, 5)
    (26, 'an array whose size is the square of the number of rows is planned for each number')
    """
    try:
        return make(Extent(rows, 1)), None
    except Exception as error:  # whatever asks for more of the number of rows than can be told
        why = reason(error)
    return make(rows), why


def at(size: int, rows: int) -> int:
    """The size for a number of rows."""
    return size.factor * rows if isinstance(size, Extent) else size


class Validity:
    """For which numbers of rows a trace holds.

    Attributes
    ----------
    pinned : bool
        Whether the number itself was read: the trace holds for that number alone.
    sizes : dict
        What the trace computes of the number of rows, by its text, as functions of that number.
    """

    def __init__(self) -> None:
        self.pinned = False
        self.sizes: dict[str, Callable[[int], Number]] = {}
        self._answers: dict[str, tuple[Callable[[int], bool], bool]] = {}
        self._factors: tuple[set[int], set[int]] = set(), set()  # along rows and along columns of matrices
        self._others: tuple[set[int], set[int]] = {1}, {1}

    def answered(self, question: str, at: Callable[[int], bool], answer: bool) -> bool:
        """Note a question about the number of rows and its answer."""
        self._answers[question] = at, answer
        return answer

    def matrix(self, shape: tuple[int, int]) -> None:
        """Note the shape of a matrix that a pass may be over, or see."""
        for size, factors, others in zip(shape, self._factors, self._others, strict=True):
            if isinstance(size, Extent):
                factors.add(size.factor)
            else:
                others.add(size)

    @cached_property
    def _excluded(self) -> set[int]:
        """The numbers of rows with which a matrix would have as many rows, or columns, as one of another kind."""
        axes = zip(self._factors, self._others, strict=True)
        return {n // f for factors, others in axes for f in factors for n in others if n % f == 0}

    def holds(self, rows: int) -> bool:
        """Whether the trace is that of so many rows, unless it was made for exactly so many."""
        if self.pinned or rows in self._excluded:
            return False
        return all([at(rows) == answer for at, answer in self._answers.values()])


def _binary(function: Callable[..., Any], sign: str, swapped: bool = False) -> Callable[["Size", Any], Any]:
    def operate(self: "Size", other: Any) -> Any:
        if not isinstance(other, (Size, int, float)):
            return NotImplemented
        a, b = (other, self) if swapped else (self, other)
        return Size.derive(self.validity, f"({_text(a)} {sign} {_text(b)})", function, a, b)

    return operate


def _comparison(function: Callable[..., bool], sign: str) -> Callable[["Size", Any], Any]:
    def compare(self: "Size", other: Any) -> Any:
        if not isinstance(other, (Size, int, float)):
            return NotImplemented
        asked = Size.derive(self.validity, f"({self.text} {sign} {_text(other)})", function, self, other)
        return self.validity.answered(asked.text, asked.at, asked.value)

    return compare


class Size:
    """The number of rows, or what was calculated of it, in a trace for any number.

    Whoever asks for the number itself, by int(), float(), as an index, a key or a text, gets it; the trace then holds
    for that number only.
    """

    __slots__ = ("at", "factor", "text", "validity", "value")
    __array_ufunc__ = None

    def __init__(
        self, validity: Validity, text: str, at: Callable[[int], Any], value: Any, factor: int | None = None
    ) -> None:
        self.validity, self.text, self.at, self.value, self.factor = validity, text, at, value, factor

    @staticmethod
    def of(validity: Validity, size: int) -> "Size | int":
        """A length of an axis as whoever reads a shape sees it."""
        if not isinstance(size, Extent):
            return size
        times = size.factor
        text = "rows" if times == 1 else f"({times} * rows)"
        return Size(validity, text, lambda rows: times * rows, int(size), times)

    @staticmethod
    def derive(validity: Validity, text: str, function: Callable[..., Any], *operands: Any) -> "Size":
        """The value of a function of sizes and numbers."""
        values = [o.value if isinstance(o, Size) else o for o in operands]

        def at(rows: int) -> Any:
            return function(*(o.at(rows) if isinstance(o, Size) else o for o in operands))

        return Size(validity, text, at, function(*values), _times(function, operands))

    def extent(self) -> int:
        """As a length of an axis."""
        return int(self) if self.factor is None else Extent(self.value, self.factor)

    __add__, __radd__ = _binary(operator.add, "+"), _binary(operator.add, "+", True)
    __sub__, __rsub__ = _binary(operator.sub, "-"), _binary(operator.sub, "-", True)
    __mul__, __rmul__ = _binary(operator.mul, "*"), _binary(operator.mul, "*", True)
    __truediv__, __rtruediv__ = _binary(operator.truediv, "/"), _binary(operator.truediv, "/", True)
    __floordiv__, __rfloordiv__ = _binary(operator.floordiv, "//"), _binary(operator.floordiv, "//", True)
    __mod__, __rmod__ = _binary(operator.mod, "%"), _binary(operator.mod, "%", True)
    __pow__, __rpow__ = _binary(operator.pow, "**"), _binary(operator.pow, "**", True)
    __lt__, __le__ = _comparison(operator.lt, "<"), _comparison(operator.le, "<=")
    __gt__, __ge__ = _comparison(operator.gt, ">"), _comparison(operator.ge, ">=")
    __eq__, __ne__ = _comparison(operator.eq, "=="), _comparison(operator.ne, "!=")

    def __neg__(self) -> "Size":
        return Size.derive(self.validity, f"(-{self.text})", operator.neg, self)

    def __bool__(self) -> bool:
        return bool(self != 0)

    def _read(self) -> Any:
        self.validity.pinned = True
        return self.value

    def __int__(self) -> int:
        return int(self._read())

    def __float__(self) -> float:
        return float(self._read())

    def __index__(self) -> int:
        return operator.index(self._read())

    def __hash__(self) -> int:
        return hash(self._read())

    def __repr__(self) -> str:
        return repr(self._read())

    def __format__(self, form: str) -> str:
        return format(self._read(), form)


def _text(operand: "Size | Number") -> str:
    return operand.text if isinstance(operand, Size) else repr(operand)


def _times(function: Callable[..., Any], operands: Sequence[Any]) -> int | None:
    """How many times the number of rows a value is; None if it is no whole multiple."""
    a, b = operands if len(operands) == 2 else (None, None)
    if function is operator.mul and isinstance(b, Size):
        a, b = b, a
    own = a.factor if isinstance(a, Size) else None
    if own is None or type(b) is not int or function not in (operator.mul, operator.floordiv):
        return None
    if function is operator.mul:
        return own * b
    return own // b if b and not own % b else None


def lines(nbytes: int) -> int:
    """Bytes in whole lines of 64."""
    return -(-nbytes // 64) * 64


class Block(NamedTuple):
    """A part of the work buffer: the bytes that it has at least, and those for each row."""

    fixed: int
    per_row: int

    def size(self, rows: int) -> int:
        """Its bytes for a number of rows, in whole lines of 64."""
        return lines(max(self.fixed, self.per_row * rows))


class Layout:
    """How the work buffer of a plan lies in memory for any number of rows."""

    def __init__(self, blocks: Sequence[Block] = (), rows: int = 0):
        self._blocks = blocks
        self._planned = self.starts(rows)

    def starts(self, rows: int) -> list[int]:
        """Where the blocks begin, and where the last ends."""
        starts = [0]
        for block in self._blocks:
            starts.append(starts[-1] + block.size(rows))
        return starts

    def moved(self, offset: int, starts: Sequence[int]) -> int:
        """The place that an offset of the plan has where the blocks begin at `starts`."""
        block = bisect_right(self._planned, offset) - 1
        return starts[block] + offset - self._planned[block]

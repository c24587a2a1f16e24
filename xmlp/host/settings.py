"""Settings as people write them: numbers of Python and NumPy alike, and truth values that are such."""

import math
import operator
from numbers import Real
from typing import Any

import numpy as np


def flag(value: Any, what: str) -> bool:
    """True or False; words and numbers are neither.

    >>> flag("no", "shuffle")
    Traceback (most recent call last):
    ...
    ValueError: shuffle must be True or False, got 'no'
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{what} must be True or False, got {value!r}")
    return bool(value)


def loudness(value: Any, what: str = "verbose") -> bool:
    """Whether to print: a truth value, or the number of a level, as other libraries have it."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__") or operator.index(value) < 0:
        return flag(value, what)
    return operator.index(value) > 0


def number(value: Any, what: str, *, low: float = 0.0, high: float = math.inf, above: bool = False) -> float:
    """A finite number from `low` on, or above it, and less than `high`.

    >>> number(np.float32(0.5), "SGD(momentum)", high=1.0)
    0.5
    """
    try:
        found = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        found = math.nan
    if not (low < found if above else low <= found) or not found < high:
        raise ValueError(f"{what} must be {_range(what, low, high, above)}, got {value!r}")
    return found


def _range(what: str, low: float, high: float, above: bool) -> str:
    least, name = ">" if above else ">=", what.rpartition("(")[2].rstrip(")")
    if low == -math.inf:
        return "a finite number"
    if high == math.inf:
        return f"a finite number {least} {low:g}"
    return f"a number with {low:g} {least.replace('>', '<')} {name} < {high:g}"


def count(value: Any, what: str, least: int = 1) -> int:
    """A whole number >= `least`."""
    try:
        found = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = least - 1
    if found < least:
        raise ValueError(f"{what} must be an integer >= {least}, got {value!r}")
    return found

"""Settings that are numbers: of whatever library they come, they are Python's own from the construction on.

A NumPy number would change the dtype of what it meets, cannot be traced and cannot be written to a file.
"""

from contextlib import suppress
from dataclasses import fields
from decimal import Decimal
from numbers import Real
from typing import Any

_PYTHON = (bool, int, float, str, type(None))


def plain(value: Any) -> Any:
    """A number of any library, or an array of one number without axes, as Python's; all else as it is.

    Tuples and lists keep their kind, and what is in them is treated alike.

    >>> import numpy as np
    >>> plain(np.float32(0.5)), plain(np.int64(3)), plain(np.bool_(True)), plain((np.asarray(1.0), "a"))
    (0.5, 3, True, (1.0, 'a'))
    """
    if type(value) in _PYTHON:
        return value
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    if getattr(value, "shape", None) == ():
        return _of_array(value)
    if isinstance(value, (Real, Decimal)):
        return int(value) if isinstance(value, int) else float(value)
    return value


def _of_array(value: Any) -> Any:
    """The number in an array of one; what is being traced has none and stays."""
    with suppress(Exception):  # each library has an error of its own for that
        if hasattr(value, "item"):
            number = value.item()
            return number if type(number) in _PYTHON else float(number)  # a long double is its own item
        xp = value.__array_namespace__()
        return next((kind(value) for name, kind in _KINDS.items() if xp.isdtype(value.dtype, name)), value)
    return value


_KINDS: dict[str, type] = {"bool": bool, "integral": int, "real floating": float}


def normalize(settings: Any) -> None:
    """Make the numbers in the fields of a dataclass Python's own, of a frozen one too."""
    for field in fields(settings):
        value = getattr(settings, field.name, None)
        if (own := plain(value)) is not value:
            object.__setattr__(settings, field.name, own)


class Normalized:
    """A base of frozen dataclasses whose numbers are Python's own; a `__post_init__` of their own calls this first."""

    def __post_init__(self) -> None:
        normalize(self)

"""Exceptions and the wording of errors.

Plain mistakes in arguments raise `ValueError` or `TypeError`; the classes here are for what a program may want to
catch by kind.
"""

import difflib
from collections.abc import Iterable


class BackendError(RuntimeError):
    """A backend cannot be used here: its library, device or precision is missing. The message names the remedy."""


class DataError(ValueError):
    """A data file is not what it claims to be. The message names the file and, where there is one, the line."""


class CheckpointError(ValueError):
    """A model or checkpoint file cannot be read or does not fit. Nothing has been changed."""


class OutOfMemoryError(MemoryError):
    """Something does not fit in memory. The message says what was needed, what is free and what would fit.

    Attributes
    ----------
    needed, free : int or None
        Bytes; None where it is not known.
    """

    def __init__(self, message: str, needed: int | None = None, free: int | None = None):
        super().__init__(message, needed, free)
        self.needed = needed
        self.free = free

    def __str__(self) -> str:
        return str(self.args[0])


class DeviceMemoryError(OutOfMemoryError, BackendError):
    """The same of the memory of a device."""


class DivergenceError(ArithmeticError):
    """Training produced a loss or a parameter that is not finite.

    An `ArithmeticError` and no `ValueError`: nothing was wrong with the arguments.

    Attributes
    ----------
    step : int
        The first update that did, counted from 1; that at the end of the epoch where it is not known.
    loss : float
        Of the epoch.
    layer : int or None
        The first layer whose numbers were not finite in it; None if it is not known, or it was none.
    """

    def __init__(self, message: str, *, step: int, loss: float, layer: int | None = None):
        super().__init__(message)
        self.step = step
        self.loss = loss
        self.layer = layer

    def __reduce__(self) -> tuple[object, ...]:
        return _divergence, (str(self), self.step, self.loss, self.layer)


def _divergence(message: str, step: int, loss: float, layer: int | None) -> DivergenceError:
    """The error as it comes out of a pickle, as between processes."""
    return DivergenceError(message, step=step, loss=loss, layer=layer)


def reason(error: BaseException) -> str:
    """What an error says, as a part of another sentence: its kind where it has no message.

    >>> reason(ValueError("no such thing.")), reason(KeyError())
    ('no such thing', 'KeyError')
    """
    return (str(error) or type(error).__name__).rstrip(".")


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """Say that `name` is not a known `what`, and suggest the nearest known names.

    >>> unknown("activation", "rellu", ["relu", "tanh"])
    "unknown activation 'rellu'. Did you mean 'relu'? Known: relu, tanh."
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r}.{hint} Known: {', '.join(known)}."

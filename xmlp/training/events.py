"""Events of a fit, told to those who listen: callbacks."""

from collections.abc import Iterable, Sequence
from typing import Any

from xmlp.errors import unknown

EVENTS = ("on_fit_begin", "on_epoch_begin", "on_step_end", "on_progress", "on_epoch_end", "on_fit_end")
_ELSEWHERE = {
    "on_train_begin": "on_fit_begin", "on_train_end": "on_fit_end", "on_batch_end": "on_step_end",
    "on_train_batch_end": "on_step_end", "on_train_epoch_begin": "on_epoch_begin", "on_train_epoch_end": "on_epoch_end",
    "on_train_start": "on_fit_begin", "on_epoch_start": "on_epoch_begin", "on_train_epoch_start": "on_epoch_begin",
}  # fmt: skip


def tell(listeners: Sequence[Any], event: str, subject: Any) -> None:
    """Call the method of that name of all that have it."""
    for listener in listeners:
        if hasattr(listener, event):
            getattr(listener, event)(subject)


def tell_end(listeners: Sequence[Any], subject: Any, error: BaseException | None) -> None:
    """Tell all that a fit ends, whatever one of them does; the first error is the one to be seen."""
    first = None
    for listener in listeners:
        try:
            tell([listener], "on_fit_end", subject)
        except Exception as another:
            if error is None and first is None:
                first = another
            else:
                told = error if error is not None else first
                assert told is not None
                told.add_note(f"{type(listener).__name__}.on_fit_end failed as well: {another}")
    if first is not None:
        raise first


def callbacks_of(wanted: Any) -> list[Any]:
    """Checked callbacks, in the order in which they are called."""
    if not isinstance(wanted, Iterable) or isinstance(wanted, type):
        raise TypeError(f"callbacks is a sequence of objects, got {wanted!r}. Put it in a list.")
    callbacks = list(wanted)
    for callback in callbacks:
        _check_events(callback)
    return sorted(callbacks, key=lambda callback: bool(getattr(callback, "last", False)))


def _check_events(callback: Any) -> None:
    """Refuse what would never be called: no event at all, a name that is none, or something that is no method."""
    kind = type(callback).__name__
    if isinstance(callback, type):
        raise TypeError(f"the callback is the class {callback.__name__}, not an instance: write {callback.__name__}()")
    events = [name for name in EVENTS if hasattr(callback, name)]
    for name in events:
        if not callable(getattr(callback, name)):
            raise TypeError(f"{kind}.{name} must be a method, got {getattr(callback, name)!r}")
    for name in dir(callback):
        if name.startswith("on_") and name not in EVENTS and callable(getattr(callback, name, None)):
            if name in _ELSEWHERE:
                raise ValueError(f"{kind}.{name} would never be called: here the event is {_ELSEWHERE[name]!r}")
            raise ValueError(f"{kind}.{name} would never be called: {unknown('event', name, EVENTS)}")
    if not events:
        raise TypeError(f"a callback is an object with some of the methods {', '.join(EVENTS)}; got {callback!r}")

"""What is made once in a process, however many threads ask for it first."""

import os
import threading
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")


class Lock:
    """A re-entrant lock that in a child process is free of the parent's other threads, which do not live on there."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def after_fork(self) -> None:
        """Free the lock of a process that was forked while another thread held it."""
        if self._lock.acquire(blocking=False):  # free, or held by the thread that lives on
            self._lock.release()
        else:
            self._lock = threading.RLock()


class once(Generic[T]):
    """Make a function run once for each of its arguments: who asks while it runs waits for its result.

    `functools.lru_cache` and `cached_property` hold no lock while the function runs: each of the threads that ask
    together runs it, and all but one are left with a result that nobody else sees. What raises is tried again by the
    next who asks.

    >>> @once
    ... def made(name):
    ...     print("making", name)
    ...     return [name]
    >>> made("a") is made("a")
    making a
    True
    """

    def __init__(self, function: Callable[..., T]):
        self._function = function
        self._made: dict[tuple[Any, ...], T] = {}
        self._lock = Lock()
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> T:
        if arguments not in self._made:
            with self._lock:
                if arguments not in self._made:
                    self._made[arguments] = self._function(*arguments)
        return self._made[arguments]

    def cache_clear(self) -> None:
        """Forget what was made."""
        self._made = {}


_locks: WeakSet[Lock] = WeakSet()


def _after_fork() -> None:
    for lock in _locks:
        lock.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

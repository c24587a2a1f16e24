"""One thread for all matrix products: then their bits do not depend on how many processors there are."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

from xmlp.host.once import Lock


@contextmanager
def deterministic() -> Iterator[None]:
    """A context in which the libraries of linear algebra use one thread.

    A product that several threads share adds in another order than one thread does, so its last bits depend on their
    number. On one machine, with one version of the libraries, training in this context gives the same bits whatever
    `OMP_NUM_THREADS` says. It holds for the whole process, and for the libraries that have been loaded when it begins.

    Examples
    --------
    >>> import numpy as np, xmlp
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> with xmlp.deterministic():
    ...     history = xmlp.mlp([1, 8, 1]).fit(x, x**2, epochs=1)
    """
    global _users, _pins
    with _counting:
        if not _users:
            _pins = _pinned()
        _users += 1
    try:
        yield
    finally:
        with _counting:
            _users -= 1
            if not _users:
                _pins.close()


_counting, _users, _pins = Lock(), 0, ExitStack()  # contexts overlap in threads: the last to end restores


def _pinned() -> ExitStack:
    import numpy  # noqa: F401 - threadpoolctl sees only what is loaded
    from threadpoolctl import threadpool_limits

    pins = ExitStack()
    if find_spec("llvmlite") is not None:
        from xmlp.runtime import native

        if (library := native.blas()) is not None and library.threads is not None:
            pins.enter_context(library.threads.single(pinned=True))  # before its number is read: steps may be under way
    pins.enter_context(threadpool_limits(limits=1))
    return pins

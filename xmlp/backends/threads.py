"""One thread for all matrix products: then their bits do not depend on how many processors there are."""

from collections.abc import Iterator
from contextlib import contextmanager


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
    import numpy  # noqa: F401 - threadpoolctl sees only what is loaded
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield

"""Memory of the host: how much is left, as far as the system tells, and arrays laid out in it."""

import os
import sys
from pathlib import Path

import numpy as np

from xmlp.types import HostArray


def free() -> int | None:
    """Bytes that this process can still take: what the machine has available, or less where a limit is set.

    >>> found = free()
    >>> found is None or found > 0
    True
    """
    return min((n for n in (_available(), _below_limit()) if n is not None), default=None)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None


def _below_limit() -> int | None:
    """What a limit on the address space leaves."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return None
    return max(limit - pages * os.sysconf("SC_PAGE_SIZE"), 0)


def shown(size: int | None) -> str:
    """A number of bytes for people.

    >>> shown(2_500_000_000), shown(None)
    ('2.5 GB', 'an unknown amount')
    """
    if size is None:
        return "an unknown amount"
    for unit, name in ((1e12, "TB"), (1e9, "GB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size / 1e6:.3g} MB"


def aligned(size: int) -> HostArray:
    """Bytes that begin on a cache line.

    >>> aligned(10).ctypes.data % 64
    0
    """
    raw = np.zeros(size + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def view(array: HostArray, offset: int, dtype: str, shape: tuple[int, int]) -> HostArray:
    """Part of an array's memory as a matrix; `offset` in bytes.

    >>> view(np.arange(6, dtype="int32"), 8, "int32", (2, 2)).tolist()
    [[2, 3], [4, 5]]
    """
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    return array.reshape(-1).view(np.uint8)[offset : offset + size].view(dtype).reshape(shape)

"""The IDX format: a header of big-endian sizes, then the numbers. MNIST and its relatives come in it."""

import gzip
import io
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xmlp.errors import DataError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 32  # NumPy 1 holds 32 and NumPy 2 holds 64; data sets have at most 4


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = 2**30) -> npt.NDArray[Any]:
    """Read an IDX file, plain or packed with gzip (told apart by content, not by name).

    The file is ``00 00 type n``, then n sizes as big-endian uint32, then ``prod(sizes)`` numbers, and nothing
    after them. It is not trusted: what is declared must be what is there, and of a packed file no more is
    ever unpacked than the header declares.

    Parameters
    ----------
    path : str or PathLike
        The file.
    max_bytes : int
        Refuse a file that declares more bytes of numbers than this.

    Returns
    -------
    ndarray
        Of the declared shape, as uint8, int8, int16, int32, float32 or float64 in native byte order.

    Raises
    ------
    DataError
        The file is not IDX, too large, too short or too long, or its gzip packing is damaged.
    OSError
        The file cannot be opened or read.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "labels-idx1-ubyte")
    >>> with open(path, "wb") as file:
    ...     _ = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    >>> read_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    name = os.fspath(path)
    with Path(path).open("rb") as file:
        if file.peek(2)[:2] != b"\x1f\x8b":
            return _read(file, name, max_bytes)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read(unpacked, name, max_bytes)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{name}: expected a whole gzip file, got a damaged one: {error}") from error


def _read(file: io.BufferedIOBase, name: str, max_bytes: int) -> npt.NDArray[Any]:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES or not 1 <= head[3] <= _MAX_DIMENSIONS:
        raise DataError(
            f"{name}: expected IDX data, which begins with 00 00, a type (08 09 0b 0c 0d 0e) and 1 to "
            f"{_MAX_DIMENSIONS} dimensions, got {head.hex(' ') or 'an empty file'}."
        )
    dtype, sizes = np.dtype(_DTYPES[head[2]]), file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"{name}: expected {head[3]} sizes of 4 bytes in the header, got {len(sizes)} bytes.")
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    # A size of 0 makes the product 0 and still lets NumPy overflow, so it counts as 1 here.
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > max_bytes:
        raise DataError(f"{name}: expected at most {max_bytes} bytes, the header declares {shape} {dtype}.")
    numbers = np.empty(shape, dtype)  # memory that is not written to costs nothing: a short file stays cheap
    room, filled = numbers.reshape(-1).view(np.uint8).data, 0
    while filled < len(room) and (count := file.readinto(room[filled : filled + 2**20])):
        filled += count
    if filled < len(room):
        raise DataError(f"{name}: expected {len(room)} bytes of data for {shape} {dtype}, got {filled}.")
    if file.read(1):
        raise DataError(f"{name}: expected the file to end after {shape} {dtype}, got more bytes.")
    return numbers.astype(dtype.newbyteorder("="), copy=False)

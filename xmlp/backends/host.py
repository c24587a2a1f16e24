"""What people pass as data, turned into plain NumPy arrays or refused with a reason."""

import datetime
from typing import Any

import numpy as np

from xmlp.backends.base import HostArray, cast

_TIMES = (np.datetime64, np.timedelta64, datetime.date, datetime.time, datetime.timedelta)


def host_array(value: Any, what: str) -> HostArray:
    """A NumPy array of real numbers, integers or booleans from whatever holds such on the host.

    Accepts lists, data frames and series, arrays of numeric objects, of any byte order and memory layout.

    Raises
    ------
    TypeError
        For sparse matrices, dates, complex numbers.
    ValueError
        For masked arrays, text, ragged lists.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            f"{what} is a masked array; its mask would be lost. Fill it or drop the rows: {what}.filled(...)"
        )
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(f"{what} is a sparse matrix; pass {what}.toarray() if it fits in memory")
    names = []
    if hasattr(value, "to_numpy"):
        _check_columns(value, what)
        names = list(getattr(value, "columns", []))
        value = value.to_numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{what} is ragged: its rows differ in length ({error})") from None
    if array.dtype.kind in "OUS":
        array = _numbers(array, what, names)
    if array.dtype.kind in "mM":
        raise TypeError(f"{what} holds dates or times ({array.dtype}); convert them to numbers first")
    if array.dtype.kind == "c":
        raise TypeError(f"{what} holds complex numbers ({array.dtype}); pass the real and imaginary parts as columns")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what} must hold real numbers, got {array.dtype}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def centred(array: HostArray, offset: HostArray, dtype: str) -> HostArray:
    """`array` (N, features) less an offset (features,), in double precision, and only then in the dtype."""
    result = np.empty(array.shape, dtype)
    size = max(1, 2**16 // max(1, array.shape[1]))
    for start in range(0, len(array), size):
        rows = array[start : start + size]
        if rows.dtype.kind in "iu" and rows.dtype.itemsize == 8:
            high = rows >> 16 << 16  # both parts are exact in float64
            less = (high.astype(np.float64) - offset) + (rows - high).astype(np.float64)
        else:
            less = rows.astype(np.result_type(rows, np.float64)) - offset
        result[start : start + size] = cast(less, dtype)
    return result


def _check_columns(frame: Any, what: str) -> None:
    for name, dtype in getattr(frame, "dtypes", {}).items() if hasattr(frame, "columns") else ():
        if getattr(dtype, "kind", "O") in "mM":
            raise TypeError(f"{what}: the column {name!r} holds dates ({dtype}); convert it to numbers first")


def _numbers(array: HostArray, what: str, names: list[Any]) -> HostArray:
    times = array.dtype.kind == "O" and any(issubclass(kind, _TIMES) for kind in {type(e) for e in array.flat})
    try:
        if not times:  # float64 takes a date as the number of its days or microseconds
            return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        pass
    for at, element in np.ndenumerate(array):
        place = _place(at, names)
        if isinstance(element, _TIMES):
            raise TypeError(f"{what} holds dates or times ({element!r} in {place}); convert them to numbers first")
        try:
            float(element)
        except OverflowError:
            raise ValueError(f"{what} holds a number in {place} that does not fit in float64") from None
        except (TypeError, ValueError):
            shown = element.item() if isinstance(element, np.flexible) else element
            raise ValueError(
                f"could not convert string to float: {what} holds {shown!r} in {place}. Encode text as numbers first."
            ) from None
    raise ValueError(f"{what} cannot be read as numbers")


def _place(at: tuple[int, ...], names: list[Any]) -> str:
    """Where the element at this index is, in words; the columns may have names."""
    if not at:
        return "it"
    column = f", column {(names[at[1]] if names else at[1])!r}" if len(at) > 1 else ""
    return f"row {at[0]}{column}"


def check_finite(array: HostArray, what: str) -> None:
    """Raise for the first nan or infinity, with its place and how many there are."""
    if array.dtype.kind != "f" or array.size == 0:
        return
    if array.size > 10_000:
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(array.sum()):  # nan and infinity do not cancel; if the sum overflows, look closer
                return
    good = np.isfinite(array)
    if good.all():
        return
    bad = ~good
    at = np.unravel_index(int(bad.argmax()), array.shape)
    place = _place(tuple(map(int, at)), [])
    raise ValueError(
        f"{what} contains NaN or infinity: {array[at]} in {place}, {int(bad.sum())} in all. Drop or fill them."
    )

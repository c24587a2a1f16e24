"""What people pass as data, turned into plain NumPy arrays or refused with a reason."""

from typing import Any

import numpy as np

HostArray = np.ndarray[Any, Any]


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
    if hasattr(value, "to_numpy"):
        _check_columns(value, what)
        value = value.to_numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{what} is ragged: its rows differ in length ({error})") from None
    if array.dtype.kind in "OUS":
        array = _numbers(array, what)
    if array.dtype.kind in "mM":
        raise TypeError(f"{what} holds dates or times ({array.dtype}); convert them to numbers first")
    if array.dtype.kind == "c":
        raise TypeError(f"{what} holds complex numbers ({array.dtype}); pass the real and imaginary parts as columns")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what} must hold real numbers, got {array.dtype}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _check_columns(frame: Any, what: str) -> None:
    for name, dtype in getattr(frame, "dtypes", {}).items() if hasattr(frame, "columns") else ():
        if getattr(dtype, "kind", "O") in "mM":
            raise TypeError(f"{what}: the column {name!r} holds dates ({dtype}); convert it to numbers first")


def _numbers(array: HostArray, what: str) -> HostArray:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        pass
    for at, element in np.ndenumerate(array):
        try:
            float(element)
        except (TypeError, ValueError):
            place = f"row {at[0]}" + (f", column {at[1]}" if len(at) > 1 else "") if at else "it"
            raise ValueError(
                f"could not convert string to float: {what} holds {element!r} in {place}. Encode text as numbers first."
            ) from None
    raise ValueError(f"{what} cannot be read as numbers")


def check_finite(array: HostArray, what: str) -> None:
    """Raise for the first nan or infinity, with its place and how many there are."""
    if array.dtype.kind != "f" or array.size == 0 or (np.isfinite(array.min()) and np.isfinite(array.max())):
        return
    bad = ~np.isfinite(array)
    at = np.unravel_index(int(bad.argmax()), array.shape)
    place = f"row {at[0]}" + (f", column {at[1]}" if len(at) > 1 else "") if at else "it"
    raise ValueError(
        f"{what} contains NaN or infinity: {array[at]} in {place}, {int(bad.sum())} in all. Drop or fill them."
    )

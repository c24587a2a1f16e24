"""What people pass as data, turned into plain NumPy arrays or refused with a reason."""

import datetime
import sys
from collections.abc import Iterable, Iterator, Mapping, MappingView, Set
from typing import Any

import numpy as np

from xmlp.types import HostArray

_TIMES = (np.datetime64, np.timedelta64, datetime.date, datetime.time, datetime.timedelta)
_TEMPORAL = ("date", "time", "duration", "period")  # how the names of such dtypes begin in all libraries


def host_array(value: Any, what: str, *, gaps: bool = False) -> HostArray:
    """A NumPy array of real numbers, integers or booleans from whatever holds such on the host.

    Accepts lists, data frames and series of any library, arrays of numeric objects, of any byte order and memory
    layout, and what speaks the buffer protocol, DLPack or Arrow's.

    Parameters
    ----------
    gaps : bool
        Whether a missing value of a library's own, as pandas.NA, is NaN or refused.

    Raises
    ------
    TypeError
        For sparse matrices, dates, complex numbers, generators, sets.
    ValueError
        For masked arrays, text, dicts, ragged lists.
    """
    if type(value) is np.ndarray and value.dtype.kind in "biuf" and value.dtype.isbuiltin == 1:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            f"{what} is a masked array; its mask would be lost. Fill it or drop the rows: {what}.filled(...)"
        )
    refuse_look_alikes(value, what)
    names = list(getattr(value, "columns", [])) if hasattr(value, "to_numpy") else []
    array = _array(value, what)
    if array.dtype.kind in "OUS":
        array = _numbers(array, what, names, gaps)
    if array.dtype.kind in "mM":
        raise _dates(what, str(array.dtype))
    if array.dtype.kind == "c":
        raise TypeError(f"{what} holds complex numbers ({array.dtype}); pass the real and imaginary parts as columns")
    if array.dtype.isbuiltin == 2:  # registered by another package, as bfloat16
        array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what} must hold real numbers, got {array.dtype}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def refuse_containers(value: Any, what: str) -> None:
    """Refuse what holds numbers without an order, or not yet."""
    kind = type(value).__name__
    if isinstance(value, Mapping):
        raise ValueError(
            f"could not convert {what}, a {kind}, to an array: a dict has no order of columns. Pass a data frame, or "
            "numpy.stack([...], axis=1) of its columns."
        )
    if isinstance(value, (Set, MappingView)):
        raise TypeError(f"{what} is a {kind}, which has no order of rows or columns: pass a list or an array")
    if isinstance(value, Iterator):
        raise TypeError(f"{what} is a {kind}, which gives its items one by one and once: pass list({what}) or an array")
    if kind == "PyCapsule":
        raise TypeError(f"{what} is a DLPack capsule: pass the array that it came from, or numpy.from_dlpack(array)")
    if hasattr(value, "collect") and not hasattr(value, "__array__"):
        raise TypeError(f"{what} is a {kind}, whose rows are not computed yet: pass {what}.collect()")


def refuse_look_alikes(value: Any, what: str) -> None:
    """Refuse what only looks like an array of numbers: told by its type, before anything is converted."""
    refuse_containers(value, what)
    if hasattr(value, "nnz") and (hasattr(value, "toarray") or hasattr(value, "todense")):
        dense = "toarray" if hasattr(value, "toarray") else "todense"
        raise TypeError(f"{what} is a sparse matrix; pass {what}.{dense}() if it fits in memory")
    if str(getattr(value, "layout", "")).startswith("torch.sparse"):
        raise TypeError(f"{what} is a sparse tensor ({value.layout}); pass {what}.to_dense() if it fits in memory")
    for name, dtype in _columns(value):
        if str(dtype).lower().startswith(_TEMPORAL):
            raise TypeError(f"{what}: the column {name!r} holds dates ({dtype}); convert it to numbers first")
    dtype = getattr(value, "dtype", getattr(value, "type", None))  # Arrow's arrays have a type
    if str(dtype).lower().startswith(_TEMPORAL):
        raise _dates(what, str(dtype))


def _columns(value: Any) -> Iterable[tuple[Any, Any]]:
    """Names and dtypes of the columns of a data frame; none of anything else."""
    if hasattr(value, "columns") and hasattr(value, "dtypes"):
        return zip(value.columns, value.dtypes, strict=False)
    schema: Any = getattr(value, "schema", None)
    return zip(schema.names, schema.types, strict=False) if hasattr(schema, "types") else ()


def refuse_times(value: Any, what: str) -> None:
    """Refuse lists and arrays of objects among which are dates or times."""
    array = np.asarray(value, object)
    if any(_is_time(type(element)) for element in array.flat):
        raise _no_number(array, what, [])


def resolved(array: Any, what: str) -> Any:
    """A device array as its memory is to be read: without a gradient, a pending conjugate or a pending sign.

    Raises
    ------
    TypeError
        For sparse arrays.
    """
    refuse_look_alikes(array, what)
    if getattr(array, "requires_grad", False):
        array = array.detach()  # results never require gradients
    for pending in ("resolve_conj", "resolve_neg"):
        array = getattr(array, pending)() if hasattr(array, pending) else array
    return array


def _dates(what: str, found: str) -> TypeError:
    return TypeError(f"{what} holds dates or times ({found}); convert them to numbers first")


def _array(value: Any, what: str) -> HostArray:
    """Whatever holds numbers as a NumPy array, of objects if need be."""
    try:
        if hasattr(value, "__arrow_c_stream__") and not hasattr(value, "__array__") and "pyarrow" in sys.modules:
            value = sys.modules["pyarrow"].table(value)
        if hasattr(value, "column_names") and hasattr(value, "columns") and not hasattr(value, "to_numpy"):
            columns = [host_array(c, f"{what}: the column {n!r}", gaps=True) for n, c in _named(value)]
            return np.stack(columns, axis=1)
        if hasattr(value, "to_numpy"):
            return np.asarray(value if hasattr(value, "null_count") else value.to_numpy())
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except ValueError as error:
        if isinstance(value, (list, tuple)):
            raise ValueError(f"{what} is ragged: its rows differ in length ({error})") from None
        raise
    except Exception as error:  # each library has errors of its own
        raise TypeError(f"{what}, a {type(value).__name__}, cannot be read as a NumPy array: {error}") from error


def _named(table: Any) -> Iterable[tuple[str, Any]]:
    """The columns of an Arrow table with their names."""
    return zip(table.column_names, table.columns, strict=True)


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


def _numbers(array: HostArray, what: str, names: list[Any], gaps: bool) -> HostArray:
    if array.dtype.kind == "O":
        if array.ndim == 0 and not isinstance(array.item(), (int, float, type(None))):
            raise _no_array(array.item(), what)
        kinds = {type(element) for element in array.flat}
        if gaps and any(map(_is_missing, kinds)):
            filled = [np.nan if _is_missing(type(element)) else element for element in array.flat]
            array = np.asarray(filled, object).reshape(array.shape)
        if any(map(_is_time, kinds)):  # float64 takes a date as the number of its days or microseconds
            raise _no_number(array, what, names)
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise _no_number(array, what, names) from None


def _is_time(kind: type) -> bool:
    return issubclass(kind, _TIMES) or kind.__name__ == "Period"


def _is_missing(kind: type) -> bool:
    return kind.__name__ == "NAType"  # of pandas


def _no_array(value: Any, what: str) -> Exception:
    """The error for a single object; a word has the one of its letters."""
    if isinstance(value, (str, bytes)):
        return ValueError(
            f"could not convert string to float: {what} holds {value!r} in it. Encode text as numbers first."
        )
    return TypeError(f"{what} is a {type(value).__name__}, which is no array of numbers: {value!r}")


def _no_number(array: HostArray, what: str, names: list[Any]) -> Exception:
    """The error for the first element that is no number."""
    for at, element in np.ndenumerate(array):
        place = _place(at, names)
        if _is_time(type(element)):
            return TypeError(f"{what} holds dates or times ({element!r} in {place}); convert them to numbers first")
        if _is_missing(type(element)):
            return ValueError(f"{what} holds a missing value, {element!r}, in {place}. Drop or fill it.")
        try:
            float(element)
        except OverflowError:
            return ValueError(f"{what} holds a number in {place} that does not fit in float64")
        except (TypeError, ValueError):
            shown = element.item() if isinstance(element, np.flexible) else element
            if isinstance(shown, (str, bytes)):
                told = f"could not convert string to float: {what} holds {shown!r} in {place}."
                return ValueError(f"{told} Encode text as numbers first.")
            return ValueError(f"{what} holds {shown!r} in {place}, which is no number but a {type(shown).__name__}")
    return ValueError(f"{what} cannot be read as numbers")


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


def refuse_small(array: HostArray, what: str, dtype: str) -> None:
    """Refuse numbers of which a floating dtype keeps next to nothing: all below its smallest normal number.

    >>> import numpy as np
    >>> refuse_small(np.asarray([0.0, 1e-42]), "y", "float32")
    Traceback (most recent call last):
    ...
    ValueError: y holds no number above 1e-42, which is too small for float32. Scale it, or use dtype="float64".
    """
    if array.dtype.kind != "f" or not array.size:
        return
    most = max(float(array.max()), -float(array.min()))
    if 0 < most < float(np.finfo(dtype).smallest_normal):
        wider = ', or use dtype="float64"' if most >= float(np.finfo(np.float64).smallest_normal) else ""
        raise ValueError(f"{what} holds no number above {most:.3g}, which is too small for {dtype}. Scale it{wider}.")


def cast(array: HostArray, dtype: str) -> HostArray:
    """A host array in another dtype; an overflow of a finite value is an error and not an infinity.

    >>> import numpy as np
    >>> cast(np.asarray([1e300]), "float32")
    Traceback (most recent call last):
    ...
    ValueError: 1e+300 at index 0 does not fit in float32. Scale the data or use dtype="float64".
    """
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    if array.dtype.kind not in "biuf":
        raise TypeError(f"expected real numbers, got an array of {array.dtype}")
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(array, dtype=np.dtype(dtype)).reshape(array.shape)
    if result.dtype.kind == "f" and array.dtype.kind == "f" and array.dtype.itemsize > result.dtype.itemsize:
        lost = np.isinf(result) & np.isfinite(array)
        if lost.any():
            at = np.unravel_index(int(lost.argmax()), array.shape)
            where = ", ".join(map(str, at))
            raise ValueError(
                f'{array[at]} at index {where} does not fit in {dtype}. Scale the data or use dtype="float64".'
            )
    return result


def spans(rows: int, size: int, least: int = 1) -> list[tuple[int, int]]:
    """Where the batches of `rows` rows start and stop; fewer than `least` that are left over join the last one.

    >>> spans(7, 3), spans(7, 3, least=2), spans(8, 3, least=2)
    ([(0, 3), (3, 6), (6, 7)], [(0, 3), (3, 7)], [(0, 3), (3, 6), (6, 8)])
    """
    ends = [*range(size, rows, size), rows] if rows else []
    if len(ends) > 1 and rows - ends[-2] < least:
        del ends[-2]
    return [*zip([0, *ends], ends, strict=False)]

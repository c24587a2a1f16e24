"""What a backend is: an array namespace with a device and a floating dtype, two doors to the host, and drivers."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from xmlp.compiler.planner import Plan
from xmlp.errors import BackendError
from xmlp.host.arrays import cast, spans
from xmlp.host.once import Lock
from xmlp.runtime.programs import Program
from xmlp.types import Applicable, Array, BackendName, Dtype, HostArray, Namespace, PlacedBackendName

SMALL = ("uint8", "int32", "bool")  # host dtypes that cross as they are; all else becomes the floating dtype


class Backend(ABC):
    """One array library on one device with one floating dtype. Made by `xmlp.backend`.

    Attributes
    ----------
    name : str
        "numpy", "cupy", "torch", "jax" or "array-api-strict".
    xp : namespace
        The library's Array API namespace, through array-api-compat where it needs one.
    device : object
        The library's own device object.
    dtype : str
        "float32" or "float64".
    """

    again: ClassVar[Callable[..., "Backend"]]  # the backend of a name, device and dtype; set by the package
    name: str
    asked: str | None = None  # the device in the caller's words
    in_place = True  # whether `assign` writes into the old array
    out_of_memory: tuple[type[Exception], ...] = ()  # what the library raises when the device is full

    def __init__(self, xp: Namespace, device: Any, dtype: Dtype):
        self.xp = xp
        self.device = device
        self.dtype = dtype
        self._indices: OrderedDict[int, Array] = OrderedDict()
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"Backend({self.name!r}, device={str(self.device)!r}, dtype={self.dtype!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Backend) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).again, (self.name, self.asked, self.dtype)

    @property
    def _key(self) -> tuple[str, str, str]:
        return self.name, str(self.device), self.dtype

    @property
    def float_dtype(self) -> Any:
        """The floating dtype as an object of the library."""
        return getattr(self.xp, self.dtype)

    # --- the two doors ------------------------------------------------------------------------------------------------

    def from_host(self, array: Any, dtype: str | None = None) -> Array:
        """Bring a host array to the device.

        Parameters
        ----------
        array : array_like
            Real numbers, integers or booleans on the host, any shape.
        dtype : str, optional
            "uint8", "int32" or "bool" to keep a small dtype; otherwise the array becomes the backend's floating dtype.

        Raises
        ------
        ValueError
            If a finite value overflows in the cast.
        """
        return self._to_device(cast(np.asarray(array), dtype or self.dtype))

    def to_host(self, array: Array) -> HostArray:
        """Bring a device array to the host as a NumPy array. This waits for the device."""
        return self._to_host(array)

    def batches(
        self, arrays: Sequence[HostArray | None], order: HostArray, size: int, least: int = 1
    ) -> Iterator[tuple[Array | None, ...]]:
        """Rows of host arrays on the device, `spans` of them in this order; valid until the next are asked for."""
        for start, stop in spans(len(order), size, least):
            rows = order[start:stop]
            yield tuple(None if a is None else self.from_host(a[rows], str(a.dtype)) for a in arrays)

    @abstractmethod
    def _to_device(self, array: HostArray) -> Array: ...

    @abstractmethod
    def _to_host(self, array: Array) -> HostArray: ...

    # --- arrays that are on a device already -------------------------------------------------------------------------

    def device_of(self, array: Array) -> str:
        """The name of the device on which an array lies."""
        return str(array.device)

    def check(self, array: Array, what: str) -> None:
        """Refuse a device array of another device or floating dtype; nothing is copied silently."""
        if self.device_of(array) != str(self.device):
            raise TypeError(
                f"{what} is on device {self.device_of(array)}, the network on {self.device}. Move one of them first."
            )
        kind = str(array.dtype).rpartition(".")[2]
        if kind != self.dtype and not kind.startswith(("int", "uint", "bool")):
            remedy = f"Convert it: xp.astype(x, xp.{self.dtype})."
            if kind.startswith("complex"):
                remedy = "Pass the real and imaginary parts as columns."
            raise TypeError(f"{what} is {kind}, the network {self.dtype}. {remedy}")

    # --- drivers ------------------------------------------------------------------------------------------------------

    def apply(self, formula: Applicable, *arrays: Array, **scalars: Any) -> Any:
        """Run a formula on this backend's arrays: the one call through which formulas reach arrays."""
        return formula.evaluate(self.xp, *arrays, **scalars)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A pure function of arrays in the form in which this backend runs it best."""
        return function

    def reason_against_plans(self) -> str | None:
        """Why steps cannot be run as plans here, None if they can."""
        return f"plans run on numpy and cupy, the network is on {self.name}"

    def lower(self, plan: Plan) -> Plan:
        """A plan in terms of what this backend calls."""
        return plan

    def program(self, plan: Plan, arrays: Mapping[str, Array], rows: int | None = None) -> Program:
        """A plan, lowered, bound to arrays by name; for other rows than its own, if it and the backend serve any."""
        raise NotImplementedError

    def serves_any_rows(self) -> bool:
        """Whether a plan that serves other numbers of rows than its own can be run for them."""
        return False

    def rows_together(self, plan: Plan, shared: bool) -> int:
        """Up to how many rows one program, resized, is used for all numbers that a plan serves, instead of one each.

        `shared` says whether the program's steps may be shared among threads.
        """
        return 0

    def address(self, array: Array) -> int:
        """Where an array begins in memory, on backends that run plans."""
        raise NotImplementedError

    def assign(self, old: Array, new: Array) -> Array:
        """Give `old` the values of `new`, in place where the library can; returns the array that now holds them."""
        if old is not new:
            old[...] = new
        return old

    def index(self, n: int) -> Array:
        """The int32 array 0, 1, ..., n - 1; kept between calls."""
        if n >= 2**31:
            raise ValueError(f"{n} elements in one array: random bits are numbered with 31 bits")
        with self._lock:
            if n not in self._indices:
                self._indices[n] = self.xp.arange(n, dtype=self.xp.int32, device=self.device)
                if len(self._indices) > 16:
                    self._indices.popitem(last=False)
            return self._indices[n]

    def free_bytes(self) -> int:
        """Memory of the device that is free, on backends with an `out_of_memory`."""
        raise NotImplementedError

    def release(self) -> None:  # noqa: B027
        """Give back memory that the library keeps for later."""

    def copy(self, array: Array) -> Array:
        """A copy of an array, on its device."""
        return self.xp.asarray(array, copy=True)

    def contiguous(self, array: Array, copy: bool = False) -> Array:
        """The array, or a copy whose rows lie one after another: with `copy`, and where they do not."""
        flags = getattr(array, "flags", None)
        if not copy and (flags is None or flags.c_contiguous):
            return array
        rows = self.xp.empty(array.shape, dtype=array.dtype, device=self.device)
        rows[...] = array
        return rows

    def empty(self, shape: tuple[int, ...]) -> Array:
        """A floating array of any content."""
        return self.xp.empty(shape, dtype=self.float_dtype, device=self.device)

    def zeros(self, n: int) -> Array:
        """A floating vector of n zeros."""
        return self.xp.zeros((n,), dtype=self.float_dtype, device=self.device)


BackendLike: TypeAlias = BackendName | PlacedBackendName | Backend


def floating(dtype: str) -> Dtype:
    """Check the name of a floating dtype."""
    if (name := str(dtype)) in ("float32", "float64"):
        return name  # type: ignore[return-value]
    if "16" in str(dtype):
        raise BackendError(f"dtype {dtype!r} is refused: the Array API standard has no 16-bit floats. Use 'float32'.")
    raise BackendError(f"dtype must be 'float32' or 'float64', got {dtype!r}")

"""Backends: the array libraries on which the mathematics runs. Each is imported when it is first asked for."""

import importlib
import importlib.util
import sys
from typing import Any

from xmlp.backends import cuda_setup
from xmlp.backends.base import Backend, BackendLike, floating
from xmlp.errors import BackendError, unknown
from xmlp.host.once import once
from xmlp.types import BackendName, Dtype

__all__ = ["Backend", "BackendLike", "available_backends", "backend", "owner"]

# name -> (module here, top-level import, how to get it)
_LIBRARIES: dict[BackendName, tuple[str, str, str]] = {
    "numpy": ("_numpy", "numpy", "pip install numpy"),
    "cupy": ("_cupy", "cupy", 'pip install ".[cuda12]" or ".[cuda13]" in xmlp\'s folder, as `nvidia-smi` says'),
    "torch": ("_torch", "torch", "pip install torch"),
    "jax": ("_jax", "jax", "pip install jax"),
    "array-api-strict": ("_strict", "array_api_strict", "pip install array-api-strict"),
}


def backend(
    name: BackendLike = "numpy", *, device: str | None = None, dtype: Dtype = "float32", tf32: bool = False
) -> Backend:
    """The array library, device and precision to compute with.

    Parameters
    ----------
    name : str
        "numpy", "cupy", "torch", "jax", "array-api-strict"; a device may follow, as in "cupy:1" or "torch:cuda:0".
        "auto" is cupy where a CUDA device really works, else numpy.
    device : str, optional
        The same as the part after the colon.
    dtype : str
        "float32" or "float64". A Backend passed as `name` keeps its own device and dtype.
    tf32 : bool
        On cupy, whether the matrix products of plans may use TF32: faster on tensor cores, with factors rounded to 10
        bits of mantissa. Off by default, so that float32 is float32.

    Raises
    ------
    ValueError
        For an unknown name.
    BackendError
        If the library, the device or the dtype is not to be had here; the message says what is missing.

    Examples
    --------
    >>> import xmlp
    >>> xmlp.backend("numpy", dtype="float64")
    Backend('numpy', device='cpu', dtype='float64')
    """
    if isinstance(name, Backend):
        return name
    library, _, place = str(name).partition(":")
    if place and device and place != device:
        raise ValueError(f"two devices asked for: {place!r} in the name and device={device!r}")
    if library == "auto":
        library = "cupy" if _reason_against_cupy() is None else "numpy"
    if library not in _LIBRARIES:
        raise ValueError(unknown("backend", library, [*_LIBRARIES, "auto"]))
    if tf32 and library != "cupy":
        raise BackendError(f"tf32=True is an option of cupy, {library} has none")
    return _make(library, place or device, floating(dtype), *([True] if tf32 else []))


def _again(name: BackendName, device: str | None, dtype: Dtype, tf32: bool = False) -> Backend:
    """The backend as it comes out of a pickle."""
    return backend(name, device=device, dtype=dtype, tf32=tf32)


Backend.again = _again


@once
def _make(library: BackendName, device: str | None, dtype: Dtype, *options: bool) -> Backend:
    instance: Backend = _module(library).make(device, dtype, *options)
    instance.asked = device
    return instance


def _module(library: BackendName) -> Any:
    module, imported, remedy = _LIBRARIES[library]
    try:
        return importlib.import_module(f"xmlp.backends.{module}")
    except (Exception, SystemExit) as error:  # a broken installation raises anything
        if importlib.util.find_spec(imported) is None:
            raise BackendError(f"the backend {library!r} needs the package {imported}: {remedy}") from None
        several = cuda_setup.several_packages() if library == "cupy" else None
        reason = several or f"the package {imported} is installed but cannot be imported: {error}"
        raise BackendError(reason) from error


def _reason_against_cupy() -> str | None:
    """Why cupy cannot be used here, or None."""
    if importlib.util.find_spec("cupy") is None:
        return f"the package cupy is not installed: {_LIBRARIES['cupy'][2]}"
    try:
        return _module("cupy").probe()  # type: ignore[no-any-return]
    except BackendError as error:
        return str(error)


def available_backends() -> dict[str, str]:
    """Each backend's version, or the reason why it cannot be used here.

    >>> import xmlp, numpy
    >>> xmlp.available_backends()["numpy"] == numpy.__version__
    True
    """
    versions: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            backend(name)
            versions[name] = str(_module(name).version)
        except BackendError as error:
            versions[name] = str(error)
    return versions


def owner(array: object) -> BackendName | None:
    """The name of the backend whose library `array` belongs to, None for what no backend knows.

    Looks only at libraries that have been imported: an array of any other cannot exist.
    """
    if (known := _OWNERS.get(type(array))) is not None:
        return known
    for name, (_, imported, _) in _LIBRARIES.items():
        if imported in sys.modules and name in _TYPES:
            module, attribute = _TYPES[name]
            kind = getattr(sys.modules.get(module), attribute, None)
            if kind is not None and isinstance(array, kind):
                _OWNERS[type(array)] = name
                return name
    return None


_OWNERS: dict[type, BackendName] = {}  # of types that have come by


_TYPES = {
    "numpy": ("numpy", "ndarray"),
    "cupy": ("cupy", "ndarray"),
    "torch": ("torch", "Tensor"),
    "jax": ("jax", "Array"),
    "array-api-strict": ("array_api_strict._array_object", "Array"),
}

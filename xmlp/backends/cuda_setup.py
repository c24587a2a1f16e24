"""Why CUDA does not work here, in one line with the remedy. Needs neither CuPy nor a device."""

import importlib.metadata
from typing import Any

_PACKAGES = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x")
_DRIVERS = {11: "450", 12: "525", 13: "580"}  # the oldest driver for each major version of CUDA
_NO_DRIVER, _NO_DEVICE, _OUT_OF_MEMORY = (35,), (100,), (2,)  # of cudaError_t
NO_DEVICE = (
    "there is a CUDA driver but no device that can be used: see what `nvidia-smi -L` lists and that "
    "CUDA_VISIBLE_DEVICES does not hide it; a container needs `--gpus all`"
)


def packages() -> list[str]:
    """The CuPy packages that are installed; more than one overwrite each other's files."""
    names = []
    for name in _PACKAGES:
        try:
            importlib.metadata.version(name)
            names.append(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return names


def several_packages() -> str | None:
    """What is wrong if more than one CuPy package is installed."""
    names = packages()
    if len(names) < 2:
        return None
    return (
        f"{len(names)} CuPy packages are installed ({', '.join(names)}) and overwrite each other's files: "
        f"pip uninstall -y {' '.join(names)}, then install the one for the CUDA version that `nvidia-smi` shows"
    )


def explain(error: Exception, runtime: Any, device: int = 0) -> str:
    """What an error of CuPy's means, and what to do."""
    status, words = getattr(error, "status", None), " ".join(str(error).split())
    if status in _NO_DRIVER:
        return _driver(runtime, words)
    if status in _NO_DEVICE:
        return NO_DEVICE
    if isinstance(error, MemoryError) or status in _OUT_OF_MEMORY:
        return f"CUDA device {device} is full{_free(runtime)}: end other programs on it (`nvidia-smi` lists them)"
    if (several := several_packages()) is not None:
        return f"{several} (CuPy says: {words[:200]})"
    extra = f"cupy-cuda{_built_for(runtime) or 12}x[ctk]"
    if "header" in words.lower() or "cannot open source file" in words or "could not open source file" in words:
        return f'NVRTC finds no CUDA headers to compile kernels with: pip install "{extra}" ({words[:200]})'
    for library in ("nvrtc", "cublas"):
        if library in words.lower():
            return f'the library {library} of the CUDA toolkit is missing: pip install "{extra}" ({words[:200]})'
    return f"CUDA device {device} does not work: {words}"


def _driver(runtime: Any, words: str) -> str:
    """No driver, or one that is too old for the build of CuPy."""
    supported, built = _major(runtime, "driverGetVersion"), _built_for(runtime)
    if not supported:
        return (
            "there is no NVIDIA driver on this machine: install it until `nvidia-smi` works, or use backend='numpy' "
            f"({words})"
        )
    if (several := several_packages()) is not None:
        return several
    return (
        f"the NVIDIA driver supports CUDA {supported}, CuPy is built for CUDA {built}: update the driver to "
        f"{_DRIVERS.get(built, 'a newer one')} or later, or install cupy-cuda{supported}x instead"
    )


def _major(runtime: Any, question: str) -> int:
    try:
        return int(getattr(runtime, question)()) // 1000
    except Exception:  # a broken installation
        return 0


def _built_for(runtime: Any) -> int:
    """The major version of CUDA that CuPy is built for."""
    named = [int(name[9:-1]) for name in packages() if name != "cupy"]
    return named[0] if len(named) == 1 else _major(runtime, "runtimeGetVersion")


def _free(runtime: Any) -> str:
    try:
        free, total = runtime.memGetInfo()
    except Exception:  # full devices refuse even this
        return ""
    return f" ({free / 2**20:,.0f} of {total / 2**20:,.0f} MiB free)"

"""A CuPy that is not there: a module with as much of it as the probe touches, broken in a given way."""

import importlib.machinery
import sys
from types import ModuleType, SimpleNamespace

import array_api_compat

import xmlp.backends


class CudaError(RuntimeError):
    """CUDARuntimeError, with its number."""

    def __init__(self, status, words):
        super().__init__(words)
        self.status = status


def no_driver():
    raise CudaError(35, "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")


def no_device():
    raise CudaError(100, "cudaErrorNoDevice: no CUDA-capable device is detected")


class Device:
    def __init__(self, number):
        self.id = number

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None


def raiser(error):
    def fail(*args, **kw):
        raise error

    return fail


def cupy(*, count=lambda: 1, allocation=None, cublas=None, driver=12040, runtime=12090, memory=(2**20, 2**34)):
    """A module; `count`, `allocation` and `cublas` may raise."""
    module = ModuleType("cupy")
    module.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    array = SimpleNamespace(fill=lambda value: None)
    calls = SimpleNamespace(
        CUDARuntimeError=CudaError, getDeviceCount=count, deviceSynchronize=lambda: None,
        driverGetVersion=lambda: driver, runtimeGetVersion=lambda: runtime, memGetInfo=lambda: memory,
    )  # fmt: skip
    handles = SimpleNamespace(get_cublas_handle=raiser(cublas) if cublas else lambda: 1)
    vars(module).update(
        __version__="99.0", float32="float32", ndarray=type("ndarray", (), {}),
        empty=raiser(allocation) if allocation else lambda *a, **k: array,
        cuda=SimpleNamespace(runtime=calls, Device=Device, device=handles),
    )  # fmt: skip
    return module


def install(module, monkeypatch, packages=("cupy-cuda12x",)):
    """Put the module in CuPy's place, as those packages."""
    compat = ModuleType("array_api_compat.cupy")
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", compat)
    monkeypatch.setattr(array_api_compat, "cupy", compat, raising=False)
    monkeypatch.delitem(sys.modules, "xmlp.backends._cupy", raising=False)
    monkeypatch.delattr(xmlp.backends, "_cupy", raising=False)
    monkeypatch.setattr(xmlp.backends.cuda_setup, "packages", lambda: list(packages))
    xmlp.backends._make.cache_clear()


def forget():
    sys.modules.pop("xmlp.backends._cupy", None)
    vars(xmlp.backends).pop("_cupy", None)
    xmlp.backends._make.cache_clear()

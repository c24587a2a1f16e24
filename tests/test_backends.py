"""Backends by name: what is here, why something is not, and the two doors between host and device."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import Mode, require

import xmlp
from xmlp.backends import Backend, _make, available_backends, backend, owner
from xmlp.errors import BackendError
from xmlp.host.arrays import cast


def test_available_backends() -> None:
    found = available_backends()
    assert list(found) == ["numpy", "cupy", "torch", "jax", "array-api-strict"]
    assert found["numpy"] == np.__version__
    for name, text in found.items():
        if text[0].isdigit():
            assert backend(name).name == name
            assert text == sys.modules[name.replace("-", "_")].__version__
        else:
            with pytest.raises(BackendError) as caught:
                backend(name)
            assert text == str(caught.value)


def test_a_missing_library_is_named_with_its_remedy(printed: Any) -> None:
    program = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "jax"):
            raise ImportError("hidden")
sys.meta_path.insert(0, Hidden())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("torch", "jax") else real(name, *rest)
import xmlp
print(xmlp.available_backends()["torch"])
try: xmlp.mlp([2, 1], backend="jax")
except xmlp.BackendError as error: print(error)
"""
    assert printed(program).splitlines() == [
        "the backend 'torch' needs the package torch: pip install torch",
        "the backend 'jax' needs the package jax: pip install jax",
    ]


def test_nothing_is_imported_before_it_is_asked_for(printed: Any) -> None:
    program = """
import sys, xmlp, numpy
xmlp.mlp([2, 1]).predict(numpy.zeros((1, 2)))
print(sorted({"torch", "jax", "cupy", "array_api_strict", "pandas", "sklearn", "matplotlib"} & set(sys.modules)))
"""
    assert printed(program) == "[]\n"


# --- names ------------------------------------------------------------------------------------------------------------


def test_one_object_for_one_name(mode: Mode) -> None:
    first = backend(mode.library, device=mode.device)
    assert backend(mode.library, device=mode.device) is first
    assert backend(first) is first
    again = type(first)(mode.device, "float32")
    assert again is not first
    assert again == first
    assert hash(again) == hash(first)
    if "float64" in mode.dtypes:
        assert again != backend(mode.library, device=mode.device, dtype="float64")
    assert (first == mode.library) is False
    assert first.name == mode.library
    assert repr(first).startswith(f"Backend({mode.library!r}, device=")


def test_devices() -> None:
    strict = backend("array-api-strict:device2")
    assert (
        strict == backend("array-api-strict", device="device2") == backend("array-api-strict:device2", device="device2")
    )
    assert strict != backend("array-api-strict") == backend("array-api-strict:device1")
    assert backend("numpy:cpu") == backend("numpy")
    assert backend("array-api-strict:CPU_DEVICE").zeros(2).shape == (2,)
    assert "device2" in str(strict.zeros(3).device)
    cases = [
        ("numpy:gpu", "numpy runs on the device 'cpu' only, got 'gpu'"),
        ("array-api-strict:device9", "array-api-strict has no device 'device9'"),
    ]
    for name, words in cases:
        with pytest.raises(BackendError, match=words):
            backend(name)
    with pytest.raises(ValueError, match="two devices asked for: 'device2' in the name and device='device1'"):
        backend("array-api-strict:device2", device="device1")


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_devices_of_optional_libraries(library: str) -> None:
    require(library)
    assert backend(f"{library}:cpu").name == library
    assert xmlp.mlp([2, 1], backend=f"{library}:cpu").predict(np.zeros((1, 2))).shape == (1, 1)
    for wrong in ("nonsense", "cpu:99" if library == "jax" else "cuda:99"):
        with pytest.raises(BackendError, match=f"{library} (cannot use|has no) (the )?device"):
            backend(f"{library}:{wrong}")


@pytest.mark.parametrize("name", ["nmpy", "", "NumPy", ":cpu", None, 3, "tensorflow"])
def test_unknown_names(name: Any) -> None:
    with pytest.raises(ValueError, match="unknown backend") as caught:
        backend(name)
    assert ("Did you mean 'numpy'?" in str(caught.value)) == (name in ("nmpy", "NumPy"))


def test_dtypes() -> None:
    for refused in ("float16", "bfloat16", np.float16):
        with pytest.raises(BackendError, match="16-bit floats"):
            backend("numpy", dtype=refused)
    for unknown in ("int32", "double", "", None, int):
        with pytest.raises(BackendError, match="dtype must be 'float32' or 'float64'"):
            backend("numpy", dtype=unknown)
    assert backend("numpy", dtype=np.dtype("float64")).dtype == "float64"


def test_jax_in_float64_says_how(printed: Any) -> None:
    require("jax")
    program = """
import xmlp
print(xmlp.mlp([2, 1], backend="jax").dtype)
try: xmlp.mlp([2, 1], backend="jax", dtype="float64")
except xmlp.BackendError as error: print(error)
"""
    first, second = printed(program, JAX_ENABLE_X64="0").splitlines()
    assert first == "float32"
    assert 'jax.config.update("jax_enable_x64", True)' in second
    assert "JAX_ENABLE_X64=1" in second


# --- auto and a CuPy that does not work -------------------------------------------------------------------------------


class CudaError(RuntimeError):
    pass


def cupy_that_cannot_allocate() -> ModuleType:
    """A CuPy with a device whose memory cannot be had."""
    import importlib.machinery

    def fail(*args: Any, **kw: Any) -> Any:
        raise CudaError("cudaErrorInsufficientDriver: the driver is too old")

    class Device:
        def __init__(self, number: int) -> None: ...

        def __enter__(self) -> None: ...

        def __exit__(self, *args: object) -> None: ...

    module, compat = ModuleType("cupy"), ModuleType("array_api_compat.cupy")
    module.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    runtime = type(
        "runtime",
        (),
        {"CUDARuntimeError": CudaError, "getDeviceCount": staticmethod(lambda: 1), "deviceSynchronize": None},
    )
    vars(module).update(__version__="99.0", empty=fail, float32="float32", ndarray=type("ndarray", (), {}))
    module.cuda = type("cuda", (), {"runtime": runtime, "Device": Device})  # type: ignore[attr-defined]
    module.compat = compat  # type: ignore[attr-defined]
    return module


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    import array_api_compat

    import xmlp.backends

    module = cupy_that_cannot_allocate()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", module.compat)
    monkeypatch.setattr(array_api_compat, "cupy", module.compat, raising=False)
    monkeypatch.delitem(sys.modules, "xmlp.backends._cupy", raising=False)
    _make.cache_clear()
    yield module
    sys.modules.pop("xmlp.backends._cupy", None)
    vars(xmlp.backends).pop("_cupy", None)
    _make.cache_clear()


def test_auto_without_a_working_cupy_is_numpy() -> None:
    if available_backends()["cupy"][0].isdigit():
        pytest.skip("CuPy works here")
    assert backend("auto").name == "numpy"
    assert backend("auto", dtype="float64") == backend("numpy", dtype="float64")


def test_a_cupy_that_cannot_allocate(fake: ModuleType) -> None:
    assert backend("auto") == backend("numpy")
    reason = "CUDA device 0 does not work: cudaErrorInsufficientDriver: the driver is too old"
    assert available_backends()["cupy"] == reason
    with pytest.raises(BackendError, match=reason):
        xmlp.mlp([2, 1], backend="cupy")
    with pytest.raises(BackendError, match="there is no CUDA device 7: this machine has 1"):
        backend("cupy:7")
    with pytest.raises(BackendError, match="cupy devices are numbers"):
        backend("cupy:gpu")


def test_a_cupy_that_finds_nothing(fake: ModuleType) -> None:
    def fail() -> int:
        raise CudaError("no CUDA-capable device is detected")

    fake.cuda.runtime.getDeviceCount = staticmethod(fail)
    assert backend("auto") == backend("numpy")
    assert available_backends()["cupy"] == "CUDA device 0 does not work: no CUDA-capable device is detected"


@pytest.mark.parametrize("kind", ["ImportError", "OSError", "RuntimeError", "AttributeError"])
def test_a_cupy_whose_import_fails(printed: Any, kind: str, tmp_path: Any) -> None:
    """Whatever a broken installation raises is a reason and not a crash."""
    (tmp_path / "cupy.py").write_text(f"raise {kind}('libcudart.so.12: cannot open shared object file')")
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import xmlp
print(xmlp.backend("auto").name)
print(xmlp.available_backends()["cupy"])
"""
    name, reason = printed(program).splitlines()
    assert name == "numpy"
    assert (
        reason
        == "the package cupy is installed but cannot be imported: libcudart.so.12: cannot open shared object file"
    )


# --- the two doors ----------------------------------------------------------------------------------------------------


def test_there_and_back(mode: Mode, dtype: str) -> None:
    if dtype not in mode.dtypes:
        pytest.skip("this device has no float64")
    here = mode.backend(dtype)
    for host in (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(3)), np.eye(4)[::2, ::-1], np.zeros((0, 2))):
        array = here.from_host(host)
        assert str(array.dtype).endswith(dtype)
        assert here.device_of(array) == str(here.device)
        back = here.to_host(array)
        assert type(back) is np.ndarray
        assert back.dtype == dtype
        assert back.shape == host.shape
        assert (back == host).all()


@pytest.mark.parametrize("small", ["uint8", "int32", "bool"])
def test_small_dtypes_are_kept(small: str, mode: Mode) -> None:
    host = np.asarray([[0, 1], [200, 7]]).astype(small)
    array = mode.backend().from_host(host, small)
    assert str(array.dtype).rpartition(".")[2] == small
    back = mode.get(array)
    assert back.dtype == small
    assert (back == host).all()
    assert mode.get(mode.backend().from_host(host)).dtype == np.float32


def test_an_overflow_is_an_error(mode: Mode) -> None:
    for host, place in ((np.asarray([[1.0, 2.0], [-1e39, 1.0]]), "1, 0"), (np.asarray([0.0, 1e300]), "1")):
        with pytest.raises(ValueError, match=f"at index {place} does not fit in float32"):
            mode.backend().from_host(host)
    assert np.isinf(mode.get(mode.backend().from_host(np.asarray([np.inf])))).all(), "infinity is not an overflow"


def test_cast() -> None:
    assert cast(np.asarray(2.5), "float32").shape == ()
    assert cast(np.asarray([2**40, 1]), "float32").tolist() == [2.0**40, 1.0]
    assert cast(np.asarray([True, False]), "float64").tolist() == [1.0, 0.0]
    fortran = cast(np.asfortranarray(np.arange(6.0).reshape(2, 3)), "float64")
    assert fortran.flags.c_contiguous
    assert fortran.tolist() == [[0, 1, 2], [3, 4, 5]]
    same = np.zeros(3, np.float32)
    assert cast(same, "float32") is same or np.shares_memory(cast(same, "float32"), same)
    for wrong in (np.asarray(["a"]), np.asarray([1j]), np.asarray([None]), np.zeros(2, "M8[s]")):
        with pytest.raises(TypeError, match="expected real numbers"):
            cast(wrong, "float32")


def test_owner(mode: Mode) -> None:
    assert owner(mode.put(np.zeros(3))) == mode.library
    for nobody in ([1.0], 1.0, None, "x", np.float32(1.0)):
        assert owner(nobody) is None


def test_check_names_both_sides(mode: Mode) -> None:
    here = mode.backend()
    for fine in (np.zeros(3), np.zeros(3, np.int32), np.zeros(3, bool)):
        here.check(here.from_host(fine, None if fine.dtype.kind == "f" else str(fine.dtype)), "x")
    if "float64" in mode.dtypes:
        with pytest.raises(TypeError, match="x is float64, the network float32"):
            here.check(mode.backend("float64").from_host(np.zeros(3)), "x")


def test_numbers_of_elements_are_kept_and_bounded(mode: Mode) -> None:
    here: Backend = mode.backend()
    for n in range(30):
        assert mode.get(here.index(n)).tolist() == list(range(n))
    assert len(here._indices) <= 16
    with pytest.raises(ValueError, match="2147483648 elements in one array"):
        here.index(2**31)

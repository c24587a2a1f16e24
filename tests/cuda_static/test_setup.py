"""What is said where CUDA does not work: one line, from the library, `xmlp info`, and a command that ends with 2."""

import importlib.metadata
import json

import pytest
from cli.command import run
from cuda_static import fake

import xmlp
from xmlp.backends import cuda_setup
from xmlp.cli import info

HEADERS = 'catastrophic error: cannot open source file "cuda_fp16.h"'
BROKEN = {
    "no driver": (
        {"count": fake.no_driver, "driver": 0}, ("cupy-cuda12x",),
        ("there is no NVIDIA driver on this machine", "install it", "backend='numpy'"),
    ),
    "driver too old": (
        {"count": fake.no_driver, "driver": 12040, "runtime": 13000}, ("cupy-cuda13x",),
        ("driver supports CUDA 12, CuPy is built for CUDA 13", "update the driver to 580 or later", "cupy-cuda12x"),
    ),
    "driver but no device": (
        {"count": fake.no_device}, ("cupy-cuda12x",), ("driver but no device", "CUDA_VISIBLE_DEVICES", "--gpus all"),
    ),
    "driver that counts no device": ({"count": lambda: 0}, ("cupy-cuda12x",), ("driver but no device",)),
    "device full": (
        {"allocation": fake.CudaError(2, "cudaErrorMemoryAllocation: out of memory")}, ("cupy-cuda12x",),
        ("CUDA device 0 is full (1 of 16,384 MiB free)", "end other programs", "nvidia-smi"),
    ),
    "pool full": ({"allocation": MemoryError("Out of memory")}, ("cupy-cuda12x",), ("CUDA device 0 is full",)),
    "two packages": (
        {"allocation": RuntimeError("undefined symbol")}, ("cupy-cuda12x", "cupy-cuda13x"),
        ("2 CuPy packages are installed (cupy-cuda12x, cupy-cuda13x)", "pip uninstall -y cupy-cuda12x cupy-cuda13x"),
    ),
    "two packages, one too new": (
        {"count": fake.no_driver, "driver": 12040}, ("cupy-cuda12x", "cupy-cuda13x"), ("2 CuPy packages",),
    ),
    "no headers": (
        {"allocation": RuntimeError(HEADERS)}, ("cupy-cuda12x",),
        ("NVRTC finds no CUDA headers", 'pip install "cupy-cuda12x[ctk]"'),
    ),
    "no compiler": (
        {"allocation": RuntimeError("CuPy failed to load libnvrtc.so.12")}, ("cupy-cuda12x",),
        ("the library nvrtc of the CUDA toolkit is missing", "[ctk]"),
    ),
    "no cuBLAS": (
        {"cublas": ImportError('Failure finding "libcublasLt.so.12"')}, ("cupy-cuda12x",),
        ("the library cublas of the CUDA toolkit is missing", "[ctk]"),
    ),
    "something else": ({"allocation": OSError("bad luck")}, ("cupy-cuda12x",), ("does not work: bad luck",)),
}  # fmt: skip


@pytest.fixture
def broken(request, monkeypatch):
    settings, packages, words = BROKEN[request.param]
    fake.install(fake.cupy(**settings), monkeypatch, packages)
    yield words
    fake.forget()


@pytest.mark.parametrize("broken", BROKEN, indirect=True)
def test_cause_and_remedy_in_one_line(broken, monkeypatch):
    with pytest.raises(xmlp.BackendError) as caught:
        xmlp.mlp([2, 1], backend="cupy")
    reason = str(caught.value)
    print(reason)
    assert "\n" not in reason
    for words in broken:
        assert words in reason
    assert xmlp.available_backends()["cupy"] == reason
    assert xmlp.backend("auto").name == "numpy"

    result = run("train", "--backend", "cupy", "--epochs", 1, "--quiet", code=2)
    assert reason in " ".join(result.stderr.split())

    monkeypatch.setattr(info, "_BACKENDS", ("cupy",))
    found = json.loads(run("info", "--json").stdout)["backends"]["cupy"]
    assert found == {"works": False, "detail": f"unavailable: {reason}"}


def test_a_set_up_that_works_is_left_alone(monkeypatch):
    fake.install(fake.cupy(), monkeypatch, ("cupy-cuda12x", "cupy-cuda13x"))
    from xmlp.backends import _cupy

    assert _cupy.probe() is None
    assert "there is no CUDA device 3: this machine has 1" in _cupy.probe(3)
    fake.forget()


def test_an_import_that_fails_because_of_two_packages(monkeypatch, tmp_path):
    import sys

    (tmp_path / "cupy.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    fake.forget()
    monkeypatch.setattr(cuda_setup, "packages", lambda: ["cupy-cuda12x", "cupy-cuda13x"])
    with pytest.raises(xmlp.BackendError, match="2 CuPy packages are installed"):
        xmlp.backend("cupy")
    fake.forget()


def test_the_packages_that_are_installed(monkeypatch):
    here = {"cupy-cuda12x": "14.2.0", "cupy": "14.2.0"}

    def version(name):
        if name not in here:
            raise importlib.metadata.PackageNotFoundError(name)
        return here[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert cuda_setup.packages() == ["cupy", "cupy-cuda12x"]
    assert "pip uninstall -y cupy cupy-cuda12x" in cuda_setup.several_packages()
    del here["cupy"]
    assert cuda_setup.several_packages() is None


def test_tf32_is_an_option_of_cupy_alone():
    with pytest.raises(xmlp.BackendError, match="tf32=True is an option of cupy, numpy has none"):
        xmlp.backend("numpy", tf32=True)

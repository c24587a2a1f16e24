"""What can be proved on CuPy without a device: names, plumbing, and machine code for four architectures."""

import ast
import ctypes
import inspect
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from cuda_static import nvrtc
from cuda_static.every import formulas, launches, plans
from cuda_static.host import HostBackend, HostDriver, compiler

import xmlp
from xmlp.compiler.c import elementwise_code
from xmlp.compiler.calls import Product
from xmlp.compiler.cuda import lower
from xmlp.compiler.cuda_code import PRELUDE
from xmlp.training.planned import PlannedRunner, Sums

PACKAGE = Path(xmlp.__file__).parent


@pytest.fixture(autouse=True)
def cupy():
    return nvrtc.need()


# --- names ------------------------------------------------------------------------------------------------------------


def used():
    """(name, keywords) of every use of a namespace `xp` in the package, with the places."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        calls = {id(n.func): tuple(sorted(str(k.arg) for k in n.keywords)) for n in nodes if isinstance(n, ast.Call)}
        for node in nodes:
            of_xp = isinstance(node, ast.Attribute) and ast.unparse(node.value).rpartition(".")[2] == "xp"
            if of_xp and path.name != "_strict.py":
                found.setdefault((node.attr, calls.get(id(node), ())), f"{path.name}:{node.lineno}")
    return found


def test_every_standard_name_is_there_with_its_keywords():
    import array_api_compat.cupy as xp

    names, checked = used(), Counter()
    for (name, keywords), place in names.items():
        function = getattr(xp, name, None)
        assert function is not None, f"{place}: xp.{name}"
        checked["names"] += 1
        if keywords:
            parameters = inspect.signature(function).parameters
            assert set(keywords) <= set(parameters), f"{place}: xp.{name}({', '.join(keywords)})"
            checked["keywords"] += 1
    print(dict(checked))
    assert checked["names"] > 25
    assert checked["keywords"] > 8
    from xmlp.graph.node import OPS

    for name in OPS:
        assert name.startswith("astype") or hasattr(xp, name)


# --- arrays over host memory ------------------------------------------------------------------------------------------


def on_host(array):
    """A real cupy.ndarray whose memory is that of a host array."""
    import cupy

    memory = cupy.cuda.UnownedMemory(array.ctypes.data, array.nbytes, array, device_id=0)
    return cupy.ndarray(array.shape, array.dtype, memptr=cupy.cuda.MemoryPointer(memory, 0))


@pytest.fixture
def backend(monkeypatch):
    """A CupyBackend whose device nobody asks."""
    from xmlp.backends import _cupy

    monkeypatch.setattr(_cupy, "probe", lambda device=0: None)
    monkeypatch.setattr(_cupy.CupyBackend, "activate", lambda self: None)
    return _cupy.CupyBackend(None, "float32")


def test_arrays_are_recognised_and_refused_by_name(backend):
    array = on_host(np.ones((4, 3), np.float32))
    assert xmlp.backends.owner(array) == "cupy"
    assert backend.device_of(array) == str(backend.device) == "<CUDA Device 0>"
    backend.check(array, "x")
    backend.check(on_host(np.ones(3, np.uint8)), "x")
    with pytest.raises(TypeError, match=r"x is float64, the network float32\. Convert it"):
        backend.check(on_host(np.ones(3)), "x")
    with pytest.raises(TypeError, match="x is on device <CUDA Device 0>, the network on <CUDA Device 1>"):
        type(backend)("1", "float32").check(array, "x")
    network = xmlp.mlp([3, 2])
    for call in (network.predict, lambda x: network.fit(x, np.zeros(4), epochs=1)):
        with pytest.raises(TypeError, match="x is an array of cupy"):
            call(array)
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(array)


class Tensor:
    """An array of another library, on a device of a given kind and number."""

    def __init__(self, *place):
        self.place, self.dtype, self.device = place, "float32", "cuda:0"

    def __dlpack_device__(self):
        return self.place


def test_arrays_of_other_libraries_are_shared_on_the_same_device(backend, monkeypatch):
    """Through DLPack, without a copy; from elsewhere they are refused."""
    import xmlp.network.inputs

    shared = on_host(np.ones((4, 3), np.float32))
    monkeypatch.setattr(xmlp.network.inputs, "owner", lambda array: "torch" if isinstance(array, Tensor) else "cupy")
    monkeypatch.setattr(type(backend), "zeros", lambda self, n: Tensor(2, 0))
    monkeypatch.setattr(backend.xp, "from_dlpack", lambda array: shared)
    inputs = xmlp.network.inputs.Inputs(backend, 3)
    found, to_caller = inputs.features(Tensor(2, 0))
    assert found is shared
    assert to_caller(found) is found
    for elsewhere in (Tensor(2, 1), Tensor(1, 0)):
        with pytest.raises(
            TypeError, match="x is an array of torch, the network computes with cupy on <CUDA Device 0>"
        ):
            inputs.features(elsewhere)


def test_backends_by_device_and_option(backend):
    kind = type(backend)
    assert kind("1", "float32") != backend == kind("0", "float32")
    assert kind(None, "float32", True) != backend
    assert kind(None, "float32", True).driver._tf32
    assert repr(kind("1", "float64")) == "Backend('cupy', device='<CUDA Device 1>', dtype='float64')"
    with pytest.raises(xmlp.BackendError, match="cupy devices are numbers, as in 'cupy:1', got 'gpu'"):
        kind("gpu", "float32")


def test_views_are_of_the_same_memory(backend):
    host = np.arange(40, dtype=np.uint8)
    array = on_host(host)
    assert backend.address(array) == host.ctypes.data
    view = backend.driver.view(array, 8, "float32", (2, 3))
    assert (view.shape, view.dtype, view.data.ptr) == ((2, 3), np.float32, host.ctypes.data + 8)
    assert view.flags.c_contiguous
    assert array[:20].flags.c_contiguous


TYPES = {"int": np.int32, "float": np.float32, "double": np.float64}


class RawKernel:
    """In the place of cupy.RawKernel: runs the same source on this CPU, with the arguments that a device would get."""

    def __init__(self, source, name):
        assert source.startswith(PRELUDE)
        self.source, self.name = source[len(PRELUDE) :], name
        declared = re.search(r"\(([^()]*)\)\n{", self.source).group(1).split(", ")
        self.kinds = [None if "*" in d else TYPES[d.removeprefix("const ").partition(" ")[0]] for d in declared]

    def __call__(self, grid, block, arguments):
        for kind, given in zip(self.kinds, arguments, strict=True):
            assert type(given) is (kind or int), "an address is a whole number of 64 bits, all else has its own type"
        assert (len(grid), len(block)) == (1, 2)
        assert block[0] * block[1] <= 1024
        places, numbers = self.kinds[2:].count(None) - 1, [k for k in self.kinds[2:] if k]
        launch = SimpleNamespace(
            source=self.source, name=self.name, blocks=grid[0], threads=block, places=[0] * places,
            numbers=[(None, np.dtype(kind).name) for kind in numbers],
        )  # fmt: skip
        HostDriver().kernel(launch)([a if type(a) is int else a.item() for a in arguments])


def read(array):
    """The host memory under a cupy.ndarray."""
    raw = (ctypes.c_char * array.nbytes).from_address(array.data.ptr)
    return np.frombuffer(raw, array.dtype).reshape(array.shape)


def gemm(a_flip, b_flip, a, b, out):
    """In the place of cupy.cublas.gemm."""
    flips = {"N": lambda m: m, "T": lambda m: m.T}
    read(out)[...] = flips[a_flip](read(a)) @ flips[b_flip](read(b))


def test_a_step_through_the_real_driver(backend, monkeypatch):
    """A program of real cupy.ndarrays: addresses, argument types and products as on a device, arithmetic on the CPU."""
    import cupy

    compiler()
    blas = ModuleType("cupy.cublas")
    blas.gemm = gemm
    monkeypatch.setitem(sys.modules, "cupy.cublas", blas)
    monkeypatch.setattr(cupy, "cublas", blas, raising=False)
    monkeypatch.setattr(cupy, "RawKernel", RawKernel)
    monkeypatch.setattr(backend.driver, "bytes", lambda size: on_host(np.zeros(size, np.uint8)))
    monkeypatch.setattr(backend.driver, "copy", lambda target, source, size: ctypes.memmove(target, source, size))

    def trainer():
        network = xmlp.mlp([12, 16, 5], "gelu", dropout=0.2, normalization="batch", seed=1)
        return xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adamw", clip_norm=1.0, planned=False)

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(96, 12)).astype("f4"), rng.integers(0, 5, 96).astype(np.int32)
    plain, planned = trainer(), trainer()
    plain.fit(x, y, epochs=2, batch_size=32, shuffle=False)

    network = planned.network
    host = {"theta": np.array(network.theta), "stats": np.array(network.stats), "x": x, "y": y}
    host |= {f"slot.{n}": np.array(a) for n, a in planned.run.slots.items()} | {
        f"sum.{name}": np.zeros((), "f4") for name in Sums._fields
    }
    program = backend.program(lower(planned.plan(32)), {n: on_host(a) for n, a in host.items()})
    table = PlannedRunner(planned.run.step)._table(program.plan, 32, [planned.lr] * 6, 0, planned.seed)
    rows = on_host(np.tile(np.arange(96, dtype=np.int32), 2))
    program.run(table[:4], rows, 32)
    program.bind("x", on_host(x.copy()))
    program.run(table[4:], rows[128:], 32)
    distance = np.abs(host["theta"] - plain.network.theta).max() / np.abs(plain.network.theta).max()
    print(f"{distance:.1e} <= 1e-05  parameters after 6 steps through CuPy's own arrays")
    assert distance <= 1e-5
    assert np.abs(host["stats"] - plain.network.stats).max() <= 1e-5


def test_out_of_memory_on_the_way_in(backend, monkeypatch):
    import cupy

    def full(array):
        raise cupy.cuda.memory.OutOfMemoryError(array.nbytes, 0, 0)

    monkeypatch.setattr(cupy, "asarray", full)
    monkeypatch.setattr(type(backend), "free_bytes", lambda self: 1000)
    words = r"an array \(3, 4\) of uint8 needs 12 bytes on <CUDA Device 0>, 1,000 are free\. Train from batches"
    with pytest.raises(xmlp.errors.DeviceMemoryError, match=words):
        backend.from_host(np.zeros((3, 4), np.uint8), "uint8")


# --- machine code -----------------------------------------------------------------------------------------------------


@cache
def source(dtype):
    """Everything that the library emits for a dtype, as one text, and how many kernels that is."""
    from xmlp.backends._cupy import elementwise_kernel

    texts = {}
    for formula in formulas().values():
        code = elementwise_code(formula.graph, dtype)
        if code.arrays:
            texts[code.name] = nvrtc.cupy_source(elementwise_kernel(code), code)
    texts |= {name: launch.source for name, launch in launches(dtype).items()}
    return nvrtc.HEADERS + PRELUDE + "\n".join(texts.values()), len(texts)


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_kernel_has_machine_code(dtype, architecture):
    text, count = source(dtype)
    size, ptx = nvrtc.compiled(text, architecture)
    assert ptx.count(".entry") == count
    assert size > 1000 * count
    halves, doubles = nvrtc.instructions(ptx, "f16"), nvrtc.instructions(ptx, "f64")
    atomics = [line for line in ptx.splitlines() if re.search(r"\b(atom|red)\.", line)]
    print(f"sm_{architecture} {dtype}: {count} kernels, {size:,} bytes; f16: {len(halves)}, atomics: {len(atomics)}")
    assert halves == []
    assert atomics == [], "sums are trees in a fixed order"
    assert (doubles == []) == (dtype == "float32")


def test_the_search_for_types_finds_them():
    """The test above can fail: a double literal, a half and an atomic are seen."""
    planted = """#include <cuda_fp16.h>
    extern "C" __global__ void k(float *x, __half *h) { x[0] *= 0.1; h[0] = __hadd(h[0], h[1]); atomicAdd(x, 1.0f); }"""
    _, ptx = nvrtc.compiled(planted, 80)
    assert nvrtc.instructions(ptx, "f64")
    assert nvrtc.instructions(ptx, "f16")
    assert re.search(r"\b(atom|red)\.", ptx)


def test_a_kernel_that_does_not_compile_is_noticed():
    with pytest.raises(AssertionError, match="undefined"):
        nvrtc.compiled('extern "C" __global__ void k(float *x) { x[0] = y; }', 80)


def test_cupy_takes_every_formula():
    from xmlp.backends._cupy import elementwise_kernel

    for formula in formulas().values():
        code = elementwise_code(formula.graph, "float32")
        if code.arrays:
            kernel = elementwise_kernel(code)
            assert (kernel.nin, kernel.nout) == (len(code.inputs) + len(code.numbers), len(code.outputs))


def test_launches_on_the_host_driver_are_those_that_were_compiled():
    """The kernels of the CPU test are the same texts."""
    compiler()
    network = xmlp.mlp([7, 6, 5, 3], "gelu", backend=HostBackend())
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam")
    names = {c.name for c in trainer.plan(32).calls if not isinstance(c, Product)}
    assert names <= set(launches("float32"))
    assert len(plans("float32")) > 25

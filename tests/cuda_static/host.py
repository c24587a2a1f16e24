"""The emitted CUDA run on a CPU: gcc builds it, a loop over blocks and threads takes the place of the device."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import array_api_compat.numpy as xp
import numpy as np
import pytest

from xmlp.backends.cuda import CudaBackend
from xmlp.compiler.c import TYPES

CTYPES = {
    "float32": ctypes.c_float, "float64": ctypes.c_double, "int32": ctypes.c_int, "bool": ctypes.c_bool,
}  # fmt: skip
SHIM = """#include <math.h>
#include <stdbool.h>
#include <stddef.h>
typedef struct { unsigned x, y; } Pair;
Pair gridDim, blockDim, blockIdx, threadIdx;
#define __global__
#define __launch_bounds__(threads)
#define EACH_THREAD for (threadIdx.y = 0; threadIdx.y < blockDim.y; threadIdx.y++) \\
    for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++)
#define SYNC
#define SHARED static
"""


def compiler():
    """gcc, or the reason why the test is skipped, or fails where it is mandatory."""
    found = shutil.which(os.environ.get("CC", "gcc"))
    if found is None:
        words = "gcc is needed to run the emitted C on this CPU: apt-get install gcc"
        (pytest.fail if os.environ.get("XMLP_CUDA_STATIC") else pytest.skip)(words)
    return found


@cache
def library(source, *flags):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "code.so"
        done = subprocess.run(
            [compiler(), "-x", "c", "-std=gnu11", "-O1", "-Wall", "-Wno-parentheses", "-Wno-unused", "-Werror=implicit",
             *flags, "-shared", "-fPIC", "-o", str(path), "-", "-lm"],
            input=source, text=True, check=False, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stderr}\n{source}"
        return ctypes.CDLL(str(path))


class HostDriver:
    """A driver whose device is this CPU."""

    def __init__(self, *flags):
        self.flags = flags or ("-ffp-contract=off",)
        self.launches = 0

    def elementwise(self, code):
        arrays = [f"const {TYPES[t]} *a{i}" for i, t in enumerate(code.inputs)]
        results = [f"{TYPES[t]} *b{i}" for i, t in enumerate(code.outputs)]
        numbers = [f"const {TYPES[t]} s{i}" for i, t in enumerate(code.numbers)]
        read = "\n".join(f"const {TYPES[t]} x{i} = a{i}[i];" for i, t in enumerate(code.inputs))
        made = "\n".join(f"{TYPES[t]} y{i};" for i, t in enumerate(code.outputs))
        kept = "\n".join(f"b{i}[i] = y{i};" for i in range(len(code.outputs)))
        source = (
            f"{SHIM}void f(const long n, {', '.join([*arrays, *results, *numbers])}) {{\n"
            f"for (long i = 0; i < n; i++) {{\n{read}\n{made}\n{code.body}\n{kept}\n}}}}\n"
        )
        function = library(source, *self.flags).f
        kinds = [CTYPES[t] for t in code.numbers]

        def call(*arguments):
            self.launches += 1
            given = np.broadcast_arrays(*arguments[: len(code.inputs)])
            wide = [np.ascontiguousarray(a) for a in given]
            made = [np.empty(given[0].shape, t) for t in code.outputs]
            numbers = [kind(v) for kind, v in zip(kinds, arguments[len(code.inputs) :], strict=True)]
            pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*wide, *made)]
            function(ctypes.c_long(made[0].size), *pointers, *numbers)
            return made[0] if len(made) == 1 else tuple(made)

        return call

    def kernel(self, launch):
        loaded = library(SHIM + launch.source.replace('extern "C" ', ""), *self.flags)
        function = getattr(loaded, launch.name)
        pair = type("Pair", (ctypes.Structure,), {"_fields_": [("x", ctypes.c_uint), ("y", ctypes.c_uint)]})
        grid, shape, block = (pair.in_dll(loaded, n) for n in ("gridDim", "blockDim", "blockIdx"))
        kinds = [CTYPES[t] for _, t in launch.numbers]
        first = 3 + len(launch.places)

        def call(arguments):
            self.launches += 1
            grid.x, grid.y, (shape.x, shape.y) = launch.blocks, 1, launch.threads
            sizes = [ctypes.c_int(n) for n in arguments[:2]]
            pointers = [ctypes.c_void_p(p) for p in arguments[2:first]]
            numbers = [kind(int(v) if kind is ctypes.c_int else v)
                       for kind, v in zip(kinds, arguments[first:], strict=True)]  # fmt: skip
            for number in range(launch.blocks):
                block.x = number
                function(*sizes, *pointers, *numbers)

        return call

    def product(self, a, b, out, transpose_a, transpose_b):
        self.launches += 1
        np.matmul(a.T if transpose_a else a, b.T if transpose_b else b, out=out)

    def copy(self, target, source, size):
        self.launches += 1
        ctypes.memmove(target, source, size)

    def bytes(self, size):
        return np.zeros(size, np.uint8)

    def view(self, array, offset, dtype, shape):
        raw = array.reshape(-1).view(np.uint8)
        size = shape[0] * shape[1] * np.dtype(dtype).itemsize
        return raw[offset : offset + size].view(dtype).reshape(shape)


class HostBackend(CudaBackend):
    """The CUDA driver on NumPy's arrays."""

    name = "numpy"

    def __init__(self, dtype="float32", *flags):
        super().__init__(xp, "cpu", dtype, HostDriver(*flags))

    def _to_device(self, array):
        return array

    def _to_host(self, array):
        return np.asarray(array)

    def device_of(self, array):
        return "cpu"

    def address(self, array):
        return array.__array_interface__["data"][0]

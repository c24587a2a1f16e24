"""NVIDIA's compiler, which needs no device, and the source that CuPy makes of an elementwise kernel."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

ARCHITECTURES = (75, 80, 90, 120)
OPTIONS = ("-ftz=true", "--std=c++17")  # -ftz is what CuPy adds


def need():
    """CuPy and its NVRTC; skips the test without them, or fails where they are mandatory."""
    try:
        import cupy
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except Exception as error:
        words = f"CuPy with NVRTC is needed to compile the emitted kernels: {error}".splitlines()[0]
        (pytest.fail if os.environ.get("XMLP_CUDA_STATIC") else pytest.skip)(words)
    return cupy


def compiled(source, architecture):
    """The size of the machine code, and the PTX."""
    import cupy
    from cupy_backends.cuda.libs import nvrtc

    own = Path(cupy.__file__).parent / "_core" / "include"
    includes = [own, *(own / "cupy" / "_cccl").iterdir()]
    nvidia = Path(cupy.__file__).parent.parent / "nvidia"
    includes += [p for p in nvidia.glob("*/include") if (p / "cuda_fp16.h").exists()]
    program = nvrtc.createProgram(source, "emitted.cu", (), ())
    try:
        options = (f"--gpu-architecture=sm_{architecture}", *OPTIONS, *(f"-I{p}" for p in includes))
        nvrtc.compileProgram(program, options)
        return len(nvrtc.getCUBIN(program)), nvrtc.getPTX(program).decode()
    except Exception as error:
        raise AssertionError(f"sm_{architecture}: {error}\n{nvrtc.getProgramLog(program)[:3000]}") from error
    finally:
        nvrtc.destroyProgram(program)


HEADERS = "#include <cupy/complex.cuh>\n#include <cupy/carray.cuh>\n#include <cupy/math_constants.h>\n"
_ARRAY, _INDEXER, _SCALAR = 1, 2, 3


def cupy_source(kernel, code):
    """What CuPy hands to NVRTC for one-dimensional arrays."""
    import cupy
    from cupy._core import _kernel

    given = tuple(np.dtype(t) for t in (*code.inputs, *code.numbers))
    types = _kernel._decide_params_type(kernel.in_params, kernel.out_params, given, ())[-1]
    kinds = (
        [(_ARRAY, t) for t in code.inputs] + [(_SCALAR, t) for t in code.numbers] + [(_ARRAY, t) for t in code.outputs]
    )
    infos = [_kernel._ArgInfo(k, cupy.ndarray, np.dtype(t), k == _ARRAY, True, True) for k, t in kinds]
    infos.append(_kernel._ArgInfo(_INDEXER, None, None, 1, True, True))
    return _kernel._get_elementwise_kernel_code(tuple(infos), types, kernel.params, kernel.operation, kernel.name, "")


def instructions(ptx, kind):
    """The lines of a PTX text that mention a type, as f16 or f64."""
    pattern = re.compile(rf"\.(b?{kind}(x2)?)\b")
    return [line.strip() for line in ptx.splitlines() if pattern.search(line) and not line.strip().startswith("//")]

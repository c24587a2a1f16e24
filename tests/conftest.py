"""One `mode` fixture runs a test on every array library that is here, in every way that is worth a run of its own.

`XMLP_TEST_BACKENDS=numpy,torch` makes the listed libraries mandatory: listed and missing fails, where missing otherwise
skips. CuPy joins by itself where a CUDA device works.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("SCIPY_ARRAY_API", "1")  # scikit-learn's checks want it before SciPy is imported

import xmlp
from xmlp.backends import Backend
from xmlp.errors import BackendError

collect_ignore = ["typing"]  # programs that are checked, and not all run
LIBRARIES = ("numpy", "array-api-strict", "torch", "jax", "cupy")
MANDATORY = [name for name in os.environ.get("XMLP_TEST_BACKENDS", "numpy,array-api-strict").split(",") if name]


@dataclass(frozen=True)
class Mode:
    """A way to run: an array library, where, and what its inputs are like."""

    name: str
    library: str
    device: str | None = None
    readonly: bool = False
    dtypes: tuple[str, ...] = ("float32", "float64")

    def __str__(self) -> str:
        return self.name

    def backend(self, dtype: str = "float32") -> Backend:
        return xmlp.backend(self.library, device=self.device, dtype=dtype)

    def put(self, array: Any, dtype: str | None = "float32") -> Any:
        """A device array; dtype None keeps a small dtype (uint8, int32, bool)."""
        host = np.array(array)
        placed = self.backend(dtype or "float32").from_host(host, None if dtype else str(host.dtype))
        if self.readonly:
            placed.flags.writeable = False
        return placed

    def get(self, array: Any) -> np.ndarray:
        return self.backend().to_host(array)


MODES = (
    Mode("numpy", "numpy"),
    Mode("numpy:readonly", "numpy", readonly=True),
    Mode("strict:device1", "array-api-strict", "device1"),
    Mode("strict:no_float64", "array-api-strict", "no_float64", dtypes=("float32",)),
    Mode("torch", "torch"),
    Mode("jax", "jax"),
    Mode("cupy", "cupy"),
)


def missing(library: str) -> str | None:
    """Why a library cannot be used here, or None."""
    try:
        xmlp.backend(library)
    except BackendError as error:
        return str(error)
    return None


def require(library: str) -> None:
    """Skip the test if the library is missing; fail if it is mandatory."""
    reason = missing(library)
    if reason is not None:
        (pytest.fail if library in MANDATORY else pytest.skip)(f"{library}: {reason}")


HERE = [m for m in MODES if m.library != "cupy" or m.library in MANDATORY or missing(m.library) is None]


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test begins in an empty folder, whatever lies where the tests were started."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=HERE, ids=str)
def mode(request: pytest.FixtureRequest) -> Mode:
    require(request.param.library)
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260401)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Plant a fault for the length of a `with` block: `with planted(Dense, "backward", wrong): ...`."""

    @contextmanager
    def plant(owner: Any, name: str, fault: Any) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fault)
            yield

    return plant


@pytest.fixture
def printed() -> Callable[..., str]:
    """What a program prints in a process of its own, with some environment variables more."""

    def run(program: str, **environment: str) -> str:
        command, more = [sys.executable, "-c", program], {**os.environ, **environment}
        done = subprocess.run(command, env=more, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run

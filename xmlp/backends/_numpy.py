"""NumPy: the CPU of this machine."""

import importlib.util
from collections.abc import Mapping

import array_api_compat.numpy as xp
import numpy as np

from xmlp.backends.base import Backend
from xmlp.compiler.planner import Plan
from xmlp.compiler.sizing import for_rows
from xmlp.errors import BackendError
from xmlp.runtime.programs import Program
from xmlp.types import Array, Dtype, HostArray

version = np.__version__


class NumpyBackend(Backend):
    name = "numpy"

    def __init__(self, device: str | None, dtype: Dtype):
        if device not in (None, "cpu"):
            raise BackendError(f"numpy runs on the device 'cpu' only, got {device!r}")
        super().__init__(xp, "cpu", dtype)

    def _to_device(self, array: HostArray) -> Array:
        return array

    def _to_host(self, array: Array) -> HostArray:
        return np.asarray(array)

    def reason_against_plans(self) -> str | None:
        return None

    def program(self, plan: Plan, arrays: Mapping[str, Array], rows: int | None = None) -> Program:
        """Machine code if llvmlite is here, else array operations."""
        if _compiles():
            from xmlp.runtime import native

            return native.Program(plan, arrays, rows)
        from xmlp.runtime import replay

        return replay.Program(plan if rows is None else for_rows(plan, rows), arrays)

    def serves_any_rows(self) -> bool:
        return True

    def rows_together(self, plan: Plan, shared: bool) -> int:
        if not _compiles():
            return 0
        from xmlp.runtime import native

        return native.rows_together(plan, shared)

    def address(self, array: Array) -> int:
        start: int = array.__array_interface__["data"][0]
        return start

    def device_of(self, array: Array) -> str:
        return "cpu"


def _compiles() -> bool:
    return importlib.util.find_spec("llvmlite") is not None


make = NumpyBackend

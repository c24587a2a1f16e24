"""A backend whose kernels are written in CUDA: formulas as elementwise kernels, plans as launches."""

from collections.abc import Callable, Mapping
from typing import Any

from xmlp.backends.base import Backend
from xmlp.compiler.c import Elementwise, elementwise_code
from xmlp.compiler.cuda import lower
from xmlp.compiler.planner import Plan
from xmlp.graph import Formula
from xmlp.runtime.device import DeviceProgram, Driver
from xmlp.types import Applicable, Array, Dtype


class CudaBackend(Backend):
    """A backend that runs emitted kernels.

    Attributes
    ----------
    driver : Driver
    """

    def __init__(self, xp: Any, device: Any, dtype: Dtype, driver: Driver):
        super().__init__(xp, device, dtype)
        self.driver = driver
        self._codes: dict[Any, Elementwise | None] = {}
        self._functions: dict[str, Callable[..., Any]] = {}

    def activate(self) -> None:
        """Make the device that of the calling thread."""

    def apply(self, formula: Applicable, *arrays: Array, **scalars: Any) -> Any:
        self.activate()
        code = self._code(formula) if isinstance(formula, Formula) and len(arrays) == len(formula.arrays) else None
        if code is None or not isinstance(formula, Formula):
            return formula.evaluate(self.xp, *arrays, **scalars)
        by_name = dict(zip(formula.arrays, arrays, strict=True))
        read = [by_name[name] for name in code.arrays]
        if tuple(str(getattr(a, "dtype", None)) for a in read) != code.inputs:
            return formula.evaluate(self.xp, *arrays, **scalars)
        return self._function(code)(*read, *code.values(formula.given(scalars)))

    def _code(self, formula: Formula) -> Elementwise | None:
        """The kernel of a formula; None if array-at-a-time evaluation has to do."""
        key = (formula.graph.arrays, formula.graph.outputs)
        if key not in self._codes:
            try:
                code = elementwise_code(formula.graph, self.dtype)
            except NotImplementedError:
                code = None
            self._codes[key] = code if code is not None and code.arrays else None
        return self._codes[key]

    def _function(self, code: Elementwise) -> Callable[..., Any]:
        if code.name not in self._functions:
            self._functions[code.name] = self.driver.elementwise(code)
        return self._functions[code.name]

    def reason_against_plans(self) -> str | None:
        return None

    def lower(self, plan: Plan) -> Plan:
        return lower(plan)

    def program(self, plan: Plan, arrays: Mapping[str, Array], rows: int | None = None) -> DeviceProgram:
        self.activate()
        return DeviceProgram(plan, arrays, self)

"""A pure function of a network's arrays as plans: traced once for any number of rows, replayed by the backend."""

import threading
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from xmlp.backends.base import Backend
from xmlp.compiler import tensor_graph
from xmlp.compiler.planner import Plan
from xmlp.compiler.rows import of_any
from xmlp.compiler.tensor import PlanError, Tensor
from xmlp.compiler.tensor_graph import TensorGraph
from xmlp.errors import reason
from xmlp.runtime.programs import Plans, Program, Programs, Recent, table
from xmlp.types import Array

_COPIED = 1 << 15  # bytes of an array that is copied into the program's own: cheaper than to bind
_GRAPHS = 32  # that are kept where no plans are run
Shape = tuple[int | None, ...]  # None: the number of rows


class PlannedFunction:
    """Any number of threads may call it: each has programs of its own.

    Parameters
    ----------
    function : callable
        ``function(backend, **arrays) -> dict of arrays``, of a backend that it computes with.
    backend : Backend
        One that runs plans.
    outputs : dict of str to tuple
        The shape of each result, None standing for the number of rows.
    fixed : sequence of str
        The inputs whose first axis is not that of the rows.
    shared : bool
        Whether a call may be shared among threads.
    told : str
        What to call it in a warning if it cannot be planned; "": the reason is kept, and nothing said.

    Attributes
    ----------
    reason : str or None
        Why there is no plan, where there is none.
    planned : bool
        Whether `evaluate` runs plans.
    reason_for_sizes : str or None
        Why the latest plan that is for one number of rows is not for any number.
    """

    def __init__(
        self, function: Callable[..., Mapping[str, Tensor]], backend: Backend, outputs: Mapping[str, Shape],
        fixed: tuple[str, ...] = ("theta", "stats"), shared: bool = True, told: str = "",
    ):  # fmt: skip
        self._function, self._backend, self._outputs, self._fixed = function, backend, outputs, fixed
        self._shared, self._plans, self._told = shared, Plans(backend, shared), told
        self._local = threading.local()
        self._graphs: Recent[Any, TensorGraph] = Recent(_GRAPHS)
        self.planned = backend.reason_against_plans() is None
        self.reason: str | None = None
        self.reason_for_sizes: str | None = None

    def __call__(self, own: Mapping[str, Array], given: Mapping[str, Array]) -> dict[str, Array] | None:
        """The results, fresh arrays; None if the function cannot be planned for these arrays.

        Parameters
        ----------
        own : dict
            Arrays that live as long as the function: programs are bound to them.
        given : dict
            The caller's, of which nothing is kept.
        """
        mine, arrays = self._local.__dict__, tuple(given.values())
        key = tuple([id(a) for a in own.values()]), tuple([(a.shape, a.dtype.char) for a in arrays])
        if mine.get("key") != key:
            mine["program"], mine["key"] = self._program(own, given), key
        call: _Call | None = mine["program"]
        return None if call is None else call(given)

    def evaluate(self, own: Mapping[str, Array], given: Mapping[str, Array]) -> dict[str, Array]:
        """The results, from a plan where there is one, else from the graph, one operation at a time."""
        results = self(own, given) if self.planned else None
        if results is not None:
            return results
        arrays = {**own, **given}
        key = tuple([(tuple(a.shape), str(a.dtype)) for a in arrays.values()])
        graph = self._graphs.find(key)
        if graph is None:
            graph = self._graphs.add(key, self.graph(arrays, self._rows(given)))
        return graph.run(self._backend.xp, arrays, {}, self._backend.device)

    def _program(self, own: Mapping[str, Array], given: Mapping[str, Array]) -> "_Call | None":
        """The program of this thread for these arrays, ready for as many rows."""
        mine, rows = self._local.__dict__, self._rows(given)
        arrays = {**own, **given}
        copied = frozenset(name for name, a in given.items() if a.nbytes <= _COPIED)
        shapes = [(a.shape if name in self._fixed else a.shape[1:], a.dtype.char) for name, a in given.items()]
        kind = (*shapes, *map(id, own.values()), copied)
        latest: _Call | None = mine.get("program")
        if latest is not None and latest.kind == kind and latest.resize(rows):
            return latest
        programs: Programs = mine.setdefault("programs", Programs())
        plan = self._plans.find(rows, tuple(given.values()), self._plan, arrays)
        together = plan is not None and rows <= plan.together
        key = (*kind, id(plan), None if together else rows)
        if key not in programs:
            programs.add(key, None if plan is None else self._bound(plan, arrays, copied, kind, rows))
        program: _Call | None = programs[key]
        if program is not None and together:
            program.resize(rows)
        return program

    def _rows(self, given: Mapping[str, Array]) -> int:
        return next(int(a.shape[0]) for name, a in given.items() if name not in self._fixed)

    def _bound(self, plan: Plan, arrays: dict[str, Array], copied: frozenset[str], kind: Any, rows: int) -> "_Call":
        backend, of_rows = self._backend, {name for name, shape in self._outputs.items() if None in shape}
        arrays = {name: backend.contiguous(a, copy=name in copied) for name, a in arrays.items()}
        for name, shape in self._outputs.items():
            arrays[name] = backend.empty(tuple(rows if n is None else n for n in shape))
            whole = name in of_rows and not any(n in copied for n in arrays if n not in (*self._fixed, *self._outputs))
            if not whole and (name in of_rows or arrays[name].nbytes <= _COPIED):
                copied = copied | {name}
        names = {name for name in arrays if name not in self._fixed and name not in self._outputs} | of_rows
        return _Call(backend, plan, arrays, (copied, frozenset(names), tuple(self._outputs)), kind, rows, self._shared)

    def _plan(self, batch: tuple[Array, ...], arrays: Mapping[str, Array]) -> Plan | None:
        rows = next(int(a.shape[0]) for name, a in arrays.items() if name not in self._fixed)
        try:
            plan, refusal = of_any(partial(self._lowered, arrays), rows)
        except Exception as error:  # whatever a user's layer may raise of a symbol; plainly it may work
            self._refuse(reason(error))
            return None
        self.reason_for_sizes = refusal or self.reason_for_sizes
        return plan

    def _lowered(self, arrays: Mapping[str, Array], rows: int) -> Plan:
        graph = self.graph(arrays, rows)
        if graph.validity is not None and graph.plan.scalars and not self._shared:
            raise PlanError("it calculates with the number of rows")
        return self._backend.lower(graph.plan)

    def _refuse(self, refusal: str) -> None:
        """Keep the reason why there is no plan; the first is said."""
        if self.reason is None and self._told:
            warnings.warn(f"{self._told} runs without a plan, which is slower: {refusal}", stacklevel=2)
        self.reason = refusal

    def graph(self, arrays: Mapping[str, Array], rows: int) -> TensorGraph:
        """The graph for arrays of these shapes, with `rows` for the number of rows."""
        shapes = {n: tuple(a.shape) if n in self._fixed else (rows, *a.shape[1:]) for n, a in arrays.items()}
        inputs = {name: (shape, str(arrays[name].dtype).rpartition(".")[2]) for name, shape in shapes.items()}
        return tensor_graph.trace(self._function, inputs, self._backend.dtype)


class _Call:
    """A program with arrays of its own for what is copied."""

    def __init__(
        self, backend: Backend, plan: Plan, arrays: dict[str, Array],
        names: tuple[frozenset[str], frozenset[str], tuple[str, ...]], kind: Any, rows: int, shared: bool,
    ):  # fmt: skip
        self._backend, self.plan, self.kind, self._shared = backend, plan, kind, shared
        self._copied, self._of_rows, self._outputs = names
        self._shapes = {name: tuple(arrays[name].shape) for name in self._outputs}
        self.program: Program = backend.program(plan, arrays, rows if plan.serves(rows) else None)
        self.arrays = self.program.arrays
        self._resizable = plan.serves(rows) and rows <= plan.together
        self._view(rows)

    def __call__(self, given: Mapping[str, Array]) -> dict[str, Array]:
        program, backend, views = self.program, self._backend, self._views
        bound = []
        for name, array in given.items():
            if name in views:
                views[name][...] = array
            else:
                program.bind(name, backend.contiguous(array))
                bound.append(name)
        for name, shape in self._fresh:
            program.bind(name, backend.empty(shape))
            bound.append(name)
        if self._table is None:
            program.once()
        else:
            program.run(self._table, None, 0)
        results = {n: backend.copy(views[n]) if n in views else program.arrays[n] for n in self._outputs}
        for name in bound:
            program.release(name)
        return results

    def _view(self, rows: int) -> None:
        """The parts of own arrays that so many rows use, and the shapes of results that are made for each call."""
        self._views = {n: self.arrays[n][:rows, ...] if n in self._of_rows else self.arrays[n] for n in self._copied}
        whole = [n for n in self._outputs if n not in self._copied]
        shapes = {name: (rows, *shape[1:]) if name in self._of_rows else shape for name, shape in self._shapes.items()}
        self._fresh = [(name, shapes[name]) for name in whole]
        self._table = table(self.plan, rows, {}) if self._shared else None

    def resize(self, rows: int) -> bool:
        """Take so many rows from now on; returns whether that can be."""
        if not self._resizable or rows > self.plan.together or not self.plan.serves(rows):
            return False
        self.program.resize(rows)
        self._widen(rows)
        self._view(rows)
        return True

    def _widen(self, rows: int) -> None:
        """Have own arrays for as many rows, and all that are copied."""
        for name in self._copied & self._of_rows:
            old = self.arrays[name]
            if rows > old.shape[0]:
                width = old.nbytes // max(old.shape[0], 1)
                most = max(rows, _COPIED // max(width, 1))
                self.program.bind(
                    name, self._backend.xp.empty((most, *old.shape[1:]), dtype=old.dtype, device=self._backend.device)
                )

"""The step as a plan: traced once for any number of rows, replayed by the backend on arrays in place."""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xmlp.compiler import tensor_graph
from xmlp.compiler.planner import Plan
from xmlp.compiler.rows import of_any
from xmlp.compiler.tensor_graph import TensorGraph
from xmlp.errors import BackendError, DeviceMemoryError, reason
from xmlp.runtime.programs import Plans, Programs, table
from xmlp.training.step import Batch, Numbers, Runner, State, Step, Sums, full, share
from xmlp.types import Array

_DATA = ("x", "y", "weights")


def trace(step: Step, state: State, batch: Batch) -> TensorGraph:
    """The graph of a step for arrays of these shapes; for any number of rows, if it can be had."""

    def planned(rows: int) -> TensorGraph:
        graph = graph_of(step, state, batch, rows)
        graph.plan  # noqa: B018 - planning too may ask for more of the number of rows than can be told
        return graph

    graph, reason_for_sizes = of_any(planned, batch.size)
    return replace(graph, reason_for_sizes=reason_for_sizes) if reason_for_sizes else graph


def graph_of(step: Step, state: State, batch: Batch, rows: int) -> TensorGraph:
    """The graph of a step for arrays of these shapes, with `rows` for the number of rows of the batch."""
    of_batch = ("x", "y", "weights") if batch.rows is None else ("rows",)  # else tables, of which rows are taken
    inputs = {}
    for name, array in arrays_of(state, batch).items():
        shape = (rows, *array.shape[1:]) if name in of_batch else tuple(array.shape)
        inputs[name] = shape, str(array.dtype).rpartition(".")[2]
    names = list(inputs)

    def traced(backend: Any, **tensors: Any) -> dict[str, Any]:
        here, state = step.on(backend), _state(tensors)
        data = Batch(*(tensors.get(name) for name in Batch._fields))
        after = here(state, data, _numbers(step, backend))
        return {name: a for name, a in arrays_of(after, data).items() if name in names and name not in Batch._fields}

    return tensor_graph.trace(traced, inputs, step.backend.dtype, listed="rows")


def arrays_of(state: State, batch: Batch) -> dict[str, Array]:
    """All arrays of a step by the names that they have in its graph."""
    arrays = {"theta": state.theta, **{f"slot.{name}": slot for name, slot in state.slots.items()}}
    arrays |= {"stats": state.stats, **{f"sum.{name}": value for name, value in state.sums._asdict().items()}}
    return arrays | {name: array for name, array in batch._asdict().items() if array is not None}


def _state(tensors: dict[str, Any]) -> State:
    slots = {name.removeprefix("slot."): a for name, a in tensors.items() if name.startswith("slot.")}
    return State(tensors["theta"], slots, tensors["stats"], Sums(*(tensors[f"sum.{name}"] for name in Sums._fields)))


def _numbers(step: Step, backend: Any) -> Numbers:
    """Symbols for what the host knows, named as `PlannedRunner` gives it."""
    scalars = [
        {name: backend.scalar(f"{i}.{name}") for name in values} for i, values in enumerate(step.scalars(1.0, 1))
    ]
    keys = {
        site: (backend.scalar(f"{site}.0", "int32"), backend.scalar(f"{site}.1", "int32"))
        for site in step.objective.chain.keys(0, 0)
    }
    return Numbers(backend.scalar("share"), scalars, keys)


class PlannedRunner(Runner):
    """Runs steps as plans, changing the state in place; what cannot be planned runs plain."""

    chunk = 8

    def __init__(self, step: Step, required: bool = False):
        super().__init__(step)
        self._backend = step.backend
        self._required = required
        self._refusals: list[str] = []  # why steps could not be planned
        self._plans = Plans(self._backend, shared=True)
        self._programs = Programs()

    def run(
        self, state: State, data: Batch, order: Array | None, size: int, rates: Sequence[float], first: int, seed: int
    ) -> State:
        batch = data._replace(rows=None if order is None else order[:size])
        arrays = {name: a for name, a in arrays_of(state, data).items() if name != "rows"}
        rows = batch.size
        plan = self._plans.find(rows, batch, self._plan, state)
        if plan is None or not all(a.flags.c_contiguous for a in arrays.values()):
            after = super().run(state, data, order, size, rates, first, seed)
            self._tell()
            return after
        if not self._refusals:
            self.reason = None  # whatever steps before this runner had
        try:
            program, new = self._program(plan, arrays, rows)
        except self._backend.out_of_memory as error:
            raise self._full(plan, state, batch) from error
        sums = [program.arrays[f"sum.{name}"] for name in Sums._fields]
        for mine, given in zip(sums, state.sums, strict=True):
            mine[...] = given
        start = time.perf_counter()
        program.run(self._table(plan, rows, rates, first, seed), order, 0 if order is None else size)
        if not new:  # else it was its code that took time
            self._pace((time.perf_counter() - start) / len(rates))
        return state._replace(sums=Sums(*map(self._backend.copy, sums)))

    def _full(self, plan: Plan, state: State, batch: Batch) -> DeviceMemoryError:
        """What the step needs, and the largest batch, halved again and again, that would fit."""
        self._programs.clear()
        self._backend.release()
        free, rows = self._backend.free_bytes(), batch.size
        size, needed = rows, _bytes(plan)
        while size > 1 and _bytes(plan) > free:
            size //= 2
            plan = self._lowered(_first(batch, size), state)
        fits = size < rows and _bytes(plan) <= free
        return full(
            self._backend,
            f" with {rows} rows, which needs {needed:,} bytes beside parameters and data",
            f"A batch_size of {size} would fit." if fits else "",
        )

    def _pace(self, seconds: float) -> None:
        """Chunks of some 20 ms: long enough that their cost does not count, short enough to stop soon."""
        self.chunk = int(min(max(0.02 / max(seconds, 1e-6), 1), 4 * self.chunk, 1024))

    def _plan(self, batch: Batch, state: State) -> Plan | None:
        """The plan for these shapes, None if the step cannot be planned."""
        try:
            return self._lowered(batch, state)
        except Exception as error:  # whatever a user's layer or loss may raise of a symbol; plainly it may work
            if self._required:
                raise BackendError(f"planned=True: {error}") from error
            self._refusals.append(reason(error))
            return None

    def _lowered(self, batch: Batch, state: State) -> Plan:
        graph = trace(self.step, state, batch)
        self.reason_for_sizes = graph.reason_for_sizes or self.reason_for_sizes
        return self._backend.lower(graph.plan)

    def _tell(self) -> None:
        """Warn of the first step that could not be planned, once it has run plainly: else its own error tells."""
        if self._refusals and self.reason != self._refusals[0]:
            self.reason = self._refusals[0]
            warnings.warn(
                f"training runs without a plan, which is slower: {self.reason}. With planned=False it does so silently",
                stacklevel=2,
            )

    def _program(self, plan: Plan, arrays: Mapping[str, Array], rows: int) -> tuple[Any, bool]:
        """The plan bound to these arrays, and whether it is new. The sums are its own: they change with every epoch."""
        mine = [a for name, a in arrays.items() if name in ("theta", "stats") or name.startswith("slot.")]
        together = rows <= plan.together
        key = (id(plan), None if together else rows, *map(self._backend.address, mine))
        new = key not in self._programs
        if new:
            own = {n: self._backend.copy(a) if n.startswith("sum.") else a for n, a in arrays.items()}
            self._programs.add(key, self._backend.program(plan, own, rows if plan.serves(rows) else None))
        program = self._programs[key]
        if together and rows != program.rows:
            program.resize(rows)
        for name in [name for name in _DATA if name in arrays]:
            if name not in program.arrays or program.arrays[name] is not arrays[name]:
                program.bind(name, arrays[name])
        return program, new

    def release(self) -> None:
        """Let go of the data."""
        for program in self._programs.values():
            for name in [name for name in _DATA if name in program.arrays]:
                program.release(name)

    def _table(self, plan: Plan, rows: int, rates: Sequence[float], first: int, seed: int) -> Array:
        """The scalars of each step (steps, scalars) in the order of the plan."""
        steps, chain = len(rates), self.step.objective.chain
        numbers: dict[str, Any] = {"share": share(rows)}
        numbers |= self._scalar_columns(np.asarray(rates), np.arange(first + 1.0, first + steps + 1.0))
        for i in range(steps if chain.random else 0):
            for site, words in chain.keys(seed, first + i).items():
                for k, word in enumerate(words):
                    numbers.setdefault(f"{site}.{k}", np.empty(steps))[i] = word
        return table(plan, rows, numbers, steps)

    def _scalar_columns(self, rates: Any, steps: Any) -> Iterator[tuple[str, Any]]:
        """The optimizer's scalars, for all steps at once where its arithmetic takes arrays, else one by one."""
        try:
            scalars: list[dict[str, Any]] = [*self.step.scalars(rates, steps)]
        except Exception:  # whatever arithmetic that takes numbers only may raise
            rows = [self.step.scalars(float(lr), int(t)) for lr, t in zip(rates, steps, strict=True)]
            scalars = [{k: np.asarray([row[i][k] for row in rows]) for k in rows[0][i]} for i in range(len(rows[0]))]
        for i, values in enumerate(scalars):
            for name, value in values.items():
                yield f"{i}.{name}", value


def _bytes(plan: Plan) -> int:
    return plan.work_bytes + plan.held_bytes


def _first(batch: Batch, size: int) -> Batch:
    """A smaller batch of the same data."""
    if batch.rows is not None:
        return batch._replace(rows=batch.rows[:size])
    return Batch(batch.x[:size, :], batch.y[:size, ...], None if batch.weights is None else batch.weights[:size], None)


def runner(step: Step, planned: bool | None = None, before: Runner | None = None) -> Runner:
    """The fastest way to run a step: planned where the backend can, unless told otherwise.

    Until it has run, its reasons are those of the runner that it takes the place of.
    """
    against = step.backend.reason_against_plans()
    if planned and against is not None:
        raise BackendError(f"planned=True: {against}")
    if planned is False or against is not None:
        plain = Runner(step)
        plain.reason = against or "planned=False"
        return plain
    new = PlannedRunner(step, bool(planned))
    if before is not None:
        new.reason, new.reason_for_sizes = before.reason, before.reason_for_sizes
    return new

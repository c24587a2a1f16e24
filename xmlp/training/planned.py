"""The step as a plan: traced once for any number of rows, replayed by the backend on arrays in place."""

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xmlp.compiler.planner import Plan, plan
from xmlp.compiler.rows import Extent
from xmlp.compiler.tensor import Tensor, Tracer, TracingBackend
from xmlp.errors import BackendError, DeviceMemoryError
from xmlp.runtime.programs import Plans, Programs
from xmlp.training.step import Batch, Runner, State, Step, full

Array = Any
_DATA = ("x", "y", "weights")


def trace(step: Step, state: State, batch: Batch) -> Plan:
    """The plan of a step for arrays of these shapes; for any number of rows, if it can be had."""
    rows = batch.size
    try:
        return _traced(step, state, batch, Extent(rows, 1))
    except Exception:  # something in the step asks for more of its number of rows than can be told
        return _traced(step, state, batch, rows)


def _traced(step: Step, state: State, batch: Batch, rows: int) -> Plan:
    """The plan for arrays of these shapes, with `rows` for the number of rows of the batch."""
    tracer = Tracer()
    network = step.network.on(TracingBackend(tracer, step.network.backend.dtype))

    def symbol(name: str, array: Array, of_batch: bool = False) -> Tensor:
        shape = (rows, *array.shape[1:]) if of_batch else tuple(array.shape)
        return tracer.input(name, shape, str(array.dtype).rpartition(".")[2])

    names = state_names(state)
    symbols = State(
        symbol("theta", state.theta),
        {name: symbol(f"slot.{name}", a) for name, a in state.slots.items()},
        symbol("stats", state.stats),
        tuple(symbol(f"sum.{i}", a) for i, a in enumerate(state.sums)),
    )
    fields = ("x", "y", "weights", "rows")
    own = fields if batch.rows is None else ("rows",)  # the others are tables of any length, of which rows are taken
    data = Batch(*(None if a is None else symbol(n, a, n in own) for n, a in zip(fields, batch, strict=True)))
    scalars = [
        {name: tracer.scalar(f"{i}.{name}", "float") for name in values}
        for i, values in enumerate(step.scalars(1.0, 1))
    ]
    keys = {site: tuple(tracer.scalar(f"{site}.{i}", "int32") for i in (0, 1)) for site in network.keys(0, 0)}
    new = replace(step, network=network)(symbols, data, scalars, keys)  # type: ignore[arg-type]
    outputs = [new.theta, *(new.slots[n] for n in state.slots), new.stats, *new.sums]
    wanted = [(name, out.node) for name, out in zip(names, outputs, strict=True) if out.shape != (0,)]
    general = (int(rows), tracer.validity) if isinstance(rows, Extent) else ()
    return step.network.backend.lower(plan(wanted, *general))


def state_names(state: State) -> list[str]:
    return ["theta", *(f"slot.{n}" for n in state.slots), "stats", *(f"sum.{i}" for i in range(len(state.sums)))]


def state_arrays(state: State) -> list[Array]:
    return [state.theta, *state.slots.values(), state.stats, *state.sums]


class PlannedRunner(Runner):
    """Runs steps as plans, changing the state in place; what cannot be planned runs plain."""

    chunk = 8

    def __init__(self, step: Step, required: bool = False):
        super().__init__(step)
        self._backend = step.network.backend
        self._required = required
        self._refusals: list[str] = []  # why steps could not be planned
        self._plans = Plans(self._backend, shared=True)
        self._programs = Programs()

    def run(
        self, state: State, data: Batch, order: Array | None, size: int, rates: Sequence[float], first: int, seed: int
    ) -> State:
        batch = data._replace(rows=None if order is None else order[:size])
        arrays = [*state_arrays(state), data.x, data.y, data.weights]
        rows = batch.size
        plan = self._plans.find(rows, batch, self._plan, state)
        if plan is None or not all(a is None or a.flags.c_contiguous for a in arrays):
            after = super().run(state, data, order, size, rates, first, seed)
            self._tell()
            return after
        start = time.perf_counter()
        try:
            program = self._program(plan, state, arrays, rows)
        except self._backend.out_of_memory as error:
            raise self._full(plan, state, batch) from error
        sums = [program.arrays[f"sum.{i}"] for i in range(len(state.sums))]
        for mine, given in zip(sums, state.sums, strict=True):
            mine[...] = given
        program.run(self._table(plan, rows, rates, first, seed), order, 0 if order is None else size)
        self._pace((time.perf_counter() - start) / len(rates))
        return state._replace(sums=tuple(self._backend.copy(s) for s in sums))

    def _full(self, made: Plan, state: State, batch: Batch) -> DeviceMemoryError:
        """What the step needs, and the largest batch, halved again and again, that would fit."""
        self._programs.clear()
        self._backend.release()
        free, rows = self._backend.free_bytes(), batch.size
        size, needed = rows, _bytes(made)
        while size > 1 and _bytes(made) > free:
            size //= 2
            made = trace(self.step, state, _first(batch, size))
        fits = size < rows and _bytes(made) <= free
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
            return trace(self.step, state, batch)
        except Exception as error:  # whatever a user's layer or loss may raise of a symbol; plainly it may work
            if self._required:
                raise BackendError(f"planned=True: {error}") from error
            self._refusals.append((str(error) or type(error).__name__).rstrip("."))
            return None

    def _tell(self) -> None:
        """Warn of the first step that could not be planned, once it has run plainly: else its own error tells."""
        if self.reason is None and self._refusals:
            self.reason = self._refusals[0]
            warnings.warn(
                f"training runs without a plan, which is slower: {self.reason}. With planned=False it does so silently",
                stacklevel=2,
            )

    def _program(self, plan: Plan, state: State, arrays: Sequence[Array], rows: int) -> Any:
        """The plan bound to these arrays. The sums are its own: they change with every epoch."""
        names = self._names(state)
        mine = [a for n, a in zip(names, arrays, strict=True) if n in ("theta", "stats") or n[:5] == "slot."]
        together = rows <= plan.together
        key = (id(plan), None if together else rows, *map(self._backend.address, mine))
        if key not in self._programs:
            own = {n: self._backend.copy(a) if n.startswith("sum.") else a for n, a in zip(names, arrays, strict=True)}
            given = {n: a for n, a in own.items() if a is not None}
            self._programs.add(key, self._backend.program(plan, given, rows if plan.serves(rows) else None))
        program = self._programs[key]
        if together and rows != program.rows:
            program.resize(rows)
        given = dict(zip(names, arrays, strict=True))
        for name in _DATA:
            bound = name in program.arrays and program.arrays[name] is given[name]
            if given[name] is not None and not bound:
                program.bind(name, given[name])
        return program

    def release(self) -> None:
        """Let go of the data."""
        for program in self._programs.values():
            for name in [name for name in _DATA if name in program.arrays]:
                program.release(name)

    @staticmethod
    def _names(state: State) -> list[str]:
        return [*state_names(state), "x", "y", "weights"]

    def _table(self, plan: Plan, rows: int, rates: Sequence[float], first: int, seed: int) -> Array:
        """The scalars of each step (steps, scalars) in the order of the plan."""
        steps = len(rates)
        table = np.empty((steps, len(plan.scalars)))
        columns = {name: table[:, i] for i, name in enumerate(plan.scalars)}
        for name, value in plan.sizes(rows).items():
            columns[name][:] = value
        for name, values in self._scalar_columns(np.asarray(rates), np.arange(first + 1.0, first + steps + 1.0)):
            if name in columns:
                columns[name][:] = values
        if self.step.network.random:
            for i in range(steps):
                for site, words in self.step.network.keys(seed, first + i).items():
                    for k, word in enumerate(words):
                        if (name := f"{site}.{k}") in columns:
                            columns[name][i] = word
        return table

    def _scalar_columns(self, rates: Array, steps: Array) -> Iterator[tuple[str, Any]]:
        """The optimizer's scalars, for all steps at once where its arithmetic takes arrays, else one by one."""
        try:
            found: list[dict[str, Any]] = [*self.step.scalars(rates, steps)]
        except Exception:  # whatever arithmetic that takes numbers only may raise
            rows = [self.step.scalars(float(lr), int(t)) for lr, t in zip(rates, steps, strict=True)]
            found = [{k: np.asarray([row[i][k] for row in rows]) for k in rows[0][i]} for i in range(len(rows[0]))]
        for i, values in enumerate(found):
            for name, value in values.items():
                yield f"{i}.{name}", value


def _bytes(made: Plan) -> int:
    return made.work_bytes + made.held_bytes


def _first(batch: Batch, size: int) -> Batch:
    """A smaller batch of the same data."""
    if batch.rows is not None:
        return batch._replace(rows=batch.rows[:size])
    return Batch(batch.x[:size, :], batch.y[:size, ...], None if batch.weights is None else batch.weights[:size], None)


def runner(step: Step, planned: bool | None = None) -> Runner:
    """The fastest way to run a step: planned where the backend can, unless told otherwise."""
    reason = step.network.backend.reason_against_plans()
    if planned and reason is not None:
        raise BackendError(f"planned=True: {reason}")
    if planned is not False and reason is None:
        return PlannedRunner(step, bool(planned))
    plain = Runner(step)
    plain.reason = reason or "planned=False"
    return plain

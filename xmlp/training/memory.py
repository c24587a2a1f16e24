"""How much memory training takes, and what is said when there is not enough."""

from collections.abc import Iterator
from contextlib import contextmanager

from xmlp.compiler.tensor import PlanError
from xmlp.errors import OutOfMemoryError
from xmlp.host import memory
from xmlp.host.arrays import spans
from xmlp.training.run import Run


class Demand:
    """The memory of a run, in bytes; the data are not counted."""

    def __init__(self, run: Run):
        self._run = run
        chain, width = run.step.objective.chain, 8 if run.model.backend.dtype == "float64" else 4
        self._model = width * (chain.layout.size + chain.stats_layout.size)
        self.state = self._model + width * chain.layout.size * len(run.slots)  # what lies there already

    def of(self, batch_size: int, rows: int) -> int:
        """At the peak of training. An epoch copies the state, and the parameters once more to see that they are finite.

        Raises
        ------
        PlanError
            If the step cannot be planned.
        """
        batches = spans(rows, batch_size, self._run.step.objective.chain.least_rows)
        sizes = {batch_size, *(stop - start for start, stop in batches[-1:])}  # the last one has buffers of its own
        plans = [self._run.plan(size) for size in sizes]
        return 2 * self.state + self._model + sum(plan.work_bytes + plan.held_bytes for plan in plans)

    def largest_batch(self, batch_size: int, rows: int, free: int) -> int:
        """The largest power of two below `batch_size` with which training fits into `free` more bytes; 0 if none."""
        size = 1 << max(batch_size - 1, 1).bit_length() - 1
        while size and self.of(size, rows) - self.state > free:
            size //= 2
        return size


@contextmanager
def explained(run: Run) -> Iterator[None]:
    """Say of a failed allocation in a `fit` what was needed, what is free and which batch size would fit."""
    try:
        yield
    except OutOfMemoryError:
        raise
    except MemoryError as error:
        assert run.fit is not None
        demand, batch_size, rows, free = Demand(run), run.fit.batch_size, run.fit.rows, memory.free()
        try:
            needed: int | None = demand.of(batch_size, rows)
            fits = 0 if free is None else demand.largest_batch(batch_size, rows, free)
        except (MemoryError, PlanError, TypeError):
            needed, fits = None, 0
        advice = f"batch_size={fits} would fit" if fits else "use smaller layers or batches"
        raise OutOfMemoryError(
            f"training with batch_size={batch_size} needs {memory.shown(needed)} besides the data, "
            f"{memory.shown(free)} is free: {advice}. {str(error) or 'An allocation failed'}.",
            needed,
            free,
        ) from error

"""How much memory training takes, and what is said when there is not enough."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xmlp.compiler.tensor import PlanError
from xmlp.errors import OutOfMemoryError
from xmlp.host import memory
from xmlp.host.arrays import spans

if TYPE_CHECKING:
    from xmlp.model.trainer import Trainer


def needed(trainer: "Trainer", batch_size: int, rows: int) -> int:
    """See `Trainer.memory`. An epoch copies the state, and the parameters once more to see that they are finite."""
    batches = spans(rows, batch_size, trainer.network.least_rows)
    sizes = {batch_size, *(stop - start for start, stop in batches[-1:])}  # the last one has buffers of its own
    plans = [trainer.plan(size) for size in sizes]
    buffers = sum(plan.work_bytes + plan.held_bytes for plan in plans)
    return 2 * _bytes(trainer, *trainer._slots) + _bytes(trainer) + buffers


def _bytes(trainer: "Trainer", *slots: str) -> int:
    """Of the parameters and statistics, and of these of the optimizer's vectors."""
    network = trainer.network
    width = 8 if network.dtype == "float64" else 4
    return width * ((1 + len(slots)) * network.layout.size + int(network.stats.shape[0]))


def largest_batch(trainer: "Trainer", batch_size: int, rows: int, free: int) -> int:
    """The largest power of two below `batch_size` with which training fits into `free` more bytes; 0 if none."""
    present = _bytes(trainer, *trainer._slots)
    size = 1 << max(batch_size - 1, 1).bit_length() - 1
    while size and needed(trainer, size, rows) - present > free:
        size //= 2
    return size


@contextmanager
def explained(trainer: "Trainer") -> Iterator[None]:
    """Say of a failed allocation in a `fit` what was needed, what is free and which batch size would fit."""
    try:
        yield
    except OutOfMemoryError:
        raise
    except MemoryError as error:
        assert trainer._fit is not None
        batch_size, rows, free = trainer._fit.batch_size, trainer._fit.rows, memory.free()
        try:
            wanted: int | None = needed(trainer, batch_size, rows)
            fits = 0 if free is None else largest_batch(trainer, batch_size, rows, free)
        except (MemoryError, PlanError, TypeError):
            wanted, fits = None, 0
        advice = f"batch_size={fits} would fit" if fits else "use smaller layers or batches"
        raise OutOfMemoryError(
            f"training with batch_size={batch_size} needs {memory.shown(wanted)} besides the data, "
            f"{memory.shown(free)} is free: {advice}. {str(error) or 'An allocation failed'}.",
            wanted,
            free,
        ) from error

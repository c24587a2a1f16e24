"""How much memory training takes, and what is said when there is not enough."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from xmlp.backends import memory
from xmlp.errors import OutOfMemoryError
from xmlp.graph.tensor import PlanError

if TYPE_CHECKING:
    from xmlp.training.trainer import Trainer


def needed(trainer: "Trainer", batch_size: int) -> int:
    """Bytes that training takes besides the data, at its peak.

    The parameters, statistics and the optimizer's vectors, twice, since an epoch that diverges is undone; and the
    buffers of a planned step. Steps that are not planned hold their activations beside each other and take more.
    """
    state = trainer._state(())
    vectors = [state.theta, state.stats, *state.slots.values()]
    plan = trainer.plan(batch_size)
    held = sum(int(np.prod(a.shape)) for a in vectors) * np.dtype(trainer.network.dtype).itemsize
    return 2 * held + plan.work_bytes + plan.held_bytes


def largest_batch(trainer: "Trainer", batch_size: int, free: int) -> int:
    """The largest power of two below `batch_size` with which training fits into `free` more bytes; 0 if none.

    The state is there already, but for the copy that an epoch keeps.
    """
    present = needed(trainer, 1) // 2
    size = 1 << max(batch_size - 1, 1).bit_length() - 1
    while size and needed(trainer, size) - present > free:
        size //= 2
    return size


@contextmanager
def explained(trainer: "Trainer", batch_size: int) -> Iterator[None]:
    """Say of a failed allocation what was needed, what is free and which batch size would fit."""
    try:
        yield
    except OutOfMemoryError:
        raise
    except MemoryError as error:
        free = memory.free()
        try:
            wanted: int | None = needed(trainer, batch_size)
            fits = 0 if free is None else largest_batch(trainer, batch_size, free)
        except (MemoryError, PlanError):
            wanted, fits = None, 0
        advice = f"batch_size={fits} would fit" if fits else "use smaller layers or batches"
        raise OutOfMemoryError(
            f"training with batch_size={batch_size} needs {memory.shown(wanted)} besides the data, "
            f"{memory.shown(free)} is free: {advice}. {str(error) or 'An allocation failed'}.",
            wanted,
            free,
        ) from error

"""Where the steps of an epoch take their rows from."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from xmlp.data.batches import batch_order
from xmlp.host.arrays import spans
from xmlp.network.row_weights import Mean
from xmlp.training.step import Batch

if TYPE_CHECKING:
    from xmlp.model.trainer import Trainer

Array = Any


class Chunk(NamedTuple):
    """Steps that are made together: of `size` rows each, in the given order; one step with all rows if it is None.

    `mean` is the mean weight of what a stream has given up to here; its batch has been divided by it.
    """

    data: Batch
    order: Array | None
    size: int
    steps: int
    mean: Mean | None = None


class Rows:
    """Minibatches of rows of one data set, reshuffled each epoch."""

    again = True  # whether an epoch can be gone through a second time

    def __init__(self, data: Batch, batch_size: int, shuffle: bool, trainer: "Trainer"):
        self.data, self.batch_size, self.shuffle = data, batch_size, shuffle
        self.trainer = trainer

    def epoch(self, number: int, made: int, limit: int | None) -> Iterator[Chunk]:
        """The chunks of an epoch after the `made` steps that it has already, each of at most `limit` steps."""
        rows, size, trainer = self.data.x.shape[0], self.batch_size, self.trainer
        order = trainer.network.backend.from_host(batch_order(rows, trainer.seed, number, self.shuffle), "int32")
        batches = spans(rows, size, trainer.network.least_rows)
        whole = sum(stop - start == size for start, stop in batches)
        while made < whole:
            steps = min(limit or trainer._runner.chunk, whole - made)
            yield Chunk(self.data, order[made * size : (made + steps) * size], size, steps)
            made += steps
        for start, stop in batches[made:]:
            yield Chunk(self.data, order[start:stop], stop - start, 1)


class Stream:
    """Batches that the caller's iterable gives."""

    again = False

    def __init__(self, batches: Iterable[Any], trainer: "Trainer", weighting: dict[str, Any]):
        if not isinstance(batches, Iterable) or isinstance(batches, (str, bytes, dict)):
            raise TypeError(
                f"fit takes arrays x and y, or an iterable of batches (x, y); got x of {type(batches).__name__}, no y"
            )
        self.batches, self.trainer, self.weighting = batches, trainer, weighting

    def epoch(self, number: int, made: int, limit: int | None) -> Iterator[Chunk]:
        """One chunk for each batch, leaving out the first `made`."""
        for i, batch in enumerate(self.batches):
            if isinstance(batch, Batch):  # of `xmlp.model.stream.Stream`: checked, and on the device
                if i >= made:
                    yield Chunk(batch, None, 0, 1)
                continue
            if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                raise TypeError(f"batch {i} must be (x, y) or (x, y, sample_weight), got {type(batch).__name__}")
            if i >= made:
                what = f"batch {i}: x", f"batch {i}: y"
                yield self.trainer._chunk(*self.trainer._checked(tuple(batch), what, **self.weighting))


def fingerprint(rows: int, seed: int, epoch: int, shuffle: bool) -> str:
    """The sha256 of the order of an epoch's rows.

    >>> fingerprint(10, 0, 0, True) == fingerprint(10, 0, 0, True) != fingerprint(10, 0, 1, True)
    True
    """
    return hashlib.sha256(batch_order(rows, seed, epoch, shuffle).tobytes()).hexdigest()

"""Where the steps of an epoch take their rows from."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from xmlp.data.batches import batch_order
from xmlp.host.arrays import spans
from xmlp.network.chain import Chain
from xmlp.network.row_weights import Mean
from xmlp.training.step import Batch, Runner
from xmlp.types import Array


class Chunk(NamedTuple):
    """Steps that are made together: of `size` rows each, in the given order; one step with all rows if it is None.

    `mean` is the mean weight of what a stream has given up to here; its batch has been divided by it.
    """

    data: Batch
    order: Array | None
    size: int
    steps: int
    mean: Mean | None = None


class Repeated(Protocol):
    """What a source knows of the run that it serves."""

    seed: int
    runner: Runner


class Rows:
    """Minibatches of rows of one data set, reshuffled each epoch."""

    again = True  # whether an epoch can be gone through a second time

    def __init__(self, data: Batch, batch_size: int, shuffle: bool, run: Repeated):
        self.data, self.batch_size, self.shuffle = data, batch_size, shuffle
        self.run = run

    def epoch(self, number: int, position: int, limit: int | None) -> Iterator[Chunk]:
        """The chunks of an epoch after the first `position` steps, each of at most `limit` steps."""
        rows, size = self.data.x.shape[0], self.batch_size
        chain: Chain = self.run.runner.step.objective.chain
        order = chain.backend.from_host(batch_order(rows, self.run.seed, number, self.shuffle), "int32")
        batches = spans(rows, size, chain.least_rows)
        whole = sum(stop - start == size for start, stop in batches)
        while position < whole:
            steps = min(limit or self.run.runner.chunk, whole - position)
            yield Chunk(self.data, order[position * size : (position + steps) * size], size, steps)
            position += steps
        for start, stop in batches[position:]:
            yield Chunk(self.data, order[start:stop], stop - start, 1)


class Stream:
    """Batches that the caller's iterable gives; `prepared(batch, what)` is the chunk of one that is (x, y, ...)."""

    again = False

    def __init__(self, batches: Iterable[Any], prepared: Callable[[tuple[Any, ...], tuple[str, str]], Chunk]):
        if not isinstance(batches, Iterable) or isinstance(batches, (str, bytes, dict)):
            raise TypeError(
                f"fit takes arrays x and y, or an iterable of batches (x, y); got x of {type(batches).__name__}, no y"
            )
        self.batches, self.prepared = batches, prepared

    def epoch(self, number: int, position: int, limit: int | None) -> Iterator[Chunk]:
        """One chunk for each batch, leaving out the first `position`."""
        for i, batch in enumerate(self.batches):
            if isinstance(batch, Batch):  # of `xmlp.model.stream.Stream`: checked, and on the device
                if i >= position:
                    yield Chunk(batch, None, 0, 1)
                continue
            if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                raise TypeError(f"batch {i} must be (x, y) or (x, y, sample_weight), got {type(batch).__name__}")
            if i >= position:
                yield self.prepared(tuple(batch), (f"batch {i}: x", f"batch {i}: y"))


def fingerprint(rows: int, seed: int, epoch: int, shuffle: bool) -> str:
    """The sha256 of the order of an epoch's rows.

    >>> fingerprint(10, 0, 0, True) == fingerprint(10, 0, 0, True) != fingerprint(10, 0, 1, True)
    True
    """
    return hashlib.sha256(batch_order(rows, seed, epoch, shuffle).tobytes()).hexdigest()

"""Training on data that stay on the host: off unless a `Stream` is passed to `fit`."""

from collections.abc import Iterator

from xmlp.backends import backend
from xmlp.data.batches import batch_order
from xmlp.host.settings import count, flag
from xmlp.model.trainer import Trainer
from xmlp.training.step import Batch
from xmlp.types import Data


class Stream:
    """Batches of host data for a trainer, for data larger than the device.

    The data stay on the host, in their own small dtype; each batch is copied to the device while the one before is
    computed with. The rows of an epoch come in the order in which `fit(x, y)` would take them, and so the result is
    the same; what costs is the bus. Where the data fit on the device, `fit(x, y)` is faster.

    Parameters
    ----------
    trainer : Trainer
        Whose seed, loss and epochs decide order and targets.
    x, y, sample_weight : array_like
        As for `Trainer.fit`.
    batch_size : int
    shuffle : bool

    Examples
    --------
    >>> import numpy as np, xmlp
    >>> x = np.arange(40, dtype="uint8").reshape(20, 2)
    >>> trainer = xmlp.Trainer(xmlp.mlp([2, 4, 1]), loss="squared_error", optimizer="sgd")
    >>> stream = xmlp.model.stream.Stream(trainer, x, x[:, :1], batch_size=8)
    >>> [batch.x.shape for batch in stream]
    [(8, 2), (8, 2), (4, 2)]
    >>> len(trainer.fit(stream, epochs=2)["loss"])
    2
    """

    def __init__(
        self,
        trainer: Trainer,
        x: Data,
        y: Data,
        sample_weight: Data | None = None,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
    ):
        network = trainer.network
        host = network.inputs.on(backend("numpy", dtype=network.dtype))
        x, y, weights = host.batch(x, y, sample_weight, trainer.loss, network.out_features)
        self._arrays = x, y, host.placed(weights, trainer.loss)
        self._trainer = trainer
        self._size = count(batch_size, "batch_size")
        self._shuffle = flag(shuffle, "shuffle")

    def __iter__(self) -> Iterator[Batch]:
        trainer = self._trainer
        order = batch_order(self._arrays[0].shape[0], trainer.seed, trainer.epoch, self._shuffle)
        network = trainer.network
        for x, y, weights in network.backend.batches(self._arrays, order, self._size, network.chain.least_rows):
            yield Batch(x, y, weights, None)

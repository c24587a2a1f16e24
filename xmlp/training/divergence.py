"""Where training diverged: the epoch is made again step by step, up to the first number that is not finite."""

from typing import TYPE_CHECKING, Any

import numpy as np

import xmlp.backends.context as contexts
from xmlp.errors import DivergenceError
from xmlp.training.sources import Chunk, Rows, Stream

if TYPE_CHECKING:
    from xmlp.model.trainer import Snapshot, Trainer

Array = Any


@np.errstate(all="ignore")
def error(trainer: "Trainer", source: Rows | Stream, before: "Snapshot", loss: float) -> DivergenceError:
    """The error of an epoch whose result is not finite; the trainer is back in the state before it.

    Batches of an iterable may not come again, so then neither the step nor the layer is known.
    """
    place, layer, step = f"by step {trainer.steps}", None, trainer.steps
    trainer._restore(before)
    if source.again:
        for chunk in source.epoch(trainer.epoch, trainer.position, 1):
            last = trainer._snapshot()
            trainer._sums = trainer._advance(chunk, trainer._sums)
            trainer.position += 1
            if not _sound(trainer, last):
                step, after = trainer.steps, trainer._snapshot()
                trainer._restore(last)
                layer, what = _first(trainer, chunk, after)
                place = f"at step {step}: {what} not finite"
                break
        trainer._restore(before)
    return DivergenceError(
        f"training diverged in epoch {trainer.epoch + 1} {place}; the loss of the epoch is {loss:g}. "
        "The state before this epoch is restored. Lower the learning rate, or set clip_norm.",
        step=step,
        loss=loss,
        layer=layer,
    )


def _finite(trainer: "Trainer", *arrays: Array) -> bool:
    backend = trainer.network.backend
    return all(bool(backend.to_host(backend.xp.all(backend.xp.isfinite(a)))) for a in arrays)


def _sound(trainer: "Trainer", last: "Snapshot") -> bool:
    """Whether the latest step was made, and left finite numbers only."""
    to_host, skipped = trainer.network.backend.to_host, -1
    made = float(to_host(trainer._sums[skipped])) == float(to_host(last.state.sums[skipped]))
    return made and _finite(trainer, *trainer._sums, trainer.network.theta, trainer.network.stats)


def _first(trainer: "Trainer", chunk: Chunk, after: "Snapshot") -> tuple[int | None, str]:
    """The first layer whose numbers are not finite in the step that leads to `after`, and which numbers they are."""
    network, loss = trainer.network, trainer.loss
    loss, raw = network.loss_at(loss)
    x, y, weights = trainer._pure._taken(network.backend.xp, chunk.data._replace(rows=chunk.order))
    outputs, caches, keys = x, [], network.keys(trainer.seed, trainer.steps)
    passes = network.pass_layers(network.theta, network.stats, x, training=True, keys=keys, raw=raw)
    for i, (outputs, cache) in enumerate(passes):
        caches.append(cache)
        if not _finite(trainer, outputs):
            return i, f"the outputs of layer {i}, {type(network.layers[i]).__name__}, are"
    total, _, dy = loss.parts(contexts.of(network.backend), outputs, y, weights)
    if not _finite(trainer, total):
        return None, "the loss is"
    _, grads = network.pass_backward(network.theta, network.stats, caches, loss.of_step(dy), training=True, raw=raw)
    named = ((grads, "gradient"), (network.layout.views(network.backend.xp, after.state.theta), "update"))
    for views, what in named:
        for i, view in reversed([*enumerate(views)]):
            if not _finite(trainer, *view.values()):
                return i, f"the {what} of layer {i}, {type(network.layers[i]).__name__}, is"
    return None, "the statistics are"

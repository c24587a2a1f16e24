"""Where training diverged: the epoch is made again step by step, up to the first number that is not finite."""

import numpy as np

from xmlp.errors import DivergenceError
from xmlp.training.run import Run, Snapshot
from xmlp.training.sources import Chunk, Rows, Stream
from xmlp.training.step import Sums
from xmlp.types import Array


@np.errstate(all="ignore")
def error(run: Run, source: Rows | Stream, before: Snapshot, loss: float) -> DivergenceError:
    """The error of an epoch whose result is not finite; the run is back in the state before it.

    Batches of an iterable may not come again, so then neither the step nor the layer is known.
    """
    place, layer, step = f"by step {run.steps}", None, run.steps
    run.restore(before)
    if source.again:
        for chunk in source.epoch(run.epoch, run.position, 1):
            last = run.snapshot()
            run.sums = run.advance(chunk, run.sums)
            run.position += 1
            if not _sound(run, last.state.sums):
                step, after = run.steps, run.snapshot()
                run.restore(last)
                layer, what = _first(run, chunk, after)
                place = f"at step {step}: {what} not finite"
                break
        run.restore(before)
    return DivergenceError(
        f"training diverged in epoch {run.epoch + 1} {place}; the loss of the epoch is {loss:g}. "
        "The state before this epoch is restored. Lower the learning rate, or set clip_norm.",
        step=step,
        loss=loss,
        layer=layer,
    )


def _finite(run: Run, *arrays: Array) -> bool:
    backend = run.model.backend
    return all(bool(backend.to_host(backend.xp.all(backend.xp.isfinite(a)))) for a in arrays)


def _sound(run: Run, last: Sums) -> bool:
    """Whether the latest step was made, and left finite numbers only."""
    to_host = run.model.backend.to_host
    counted = float(to_host(run.sums.skipped)) == float(to_host(last.skipped))
    return counted and _finite(run, *run.sums, run.model.theta, run.model.stats)


def _first(run: Run, chunk: Chunk, after: Snapshot) -> tuple[int | None, str]:
    """The first layer whose numbers are not finite in the step that leads to `after`, and which numbers they are."""
    objective, chain, (theta, _, stats, _) = run.step.objective, run.step.objective.chain, run.state()
    x, y, weights = chunk.data._replace(rows=chunk.order).taken(chain.backend)
    outputs, caches, keys = x, [], chain.keys(run.seed, run.steps)
    passes = chain.pass_layers(theta, stats, x, training=True, keys=keys, raw=objective.raw)
    for i, (outputs, cache) in enumerate(passes):
        caches.append(cache)
        if not _finite(run, outputs):
            return i, f"the outputs of layer {i}, {type(chain.layers[i]).__name__}, are"
    total, _, dy = objective.parts(outputs, y, weights)
    if not _finite(run, total):
        return None, "the loss is"
    grads = objective.backward(theta, stats, caches, dy, training=True)
    named = ((grads, "gradient"), (chain.layout.views(chain.backend.xp, after.state.theta), "update"))
    for views, what in named:
        for i, view in reversed([*enumerate(views)]):
            if not _finite(run, *view.values()):
                return i, f"the {what} of layer {i}, {type(chain.layers[i]).__name__}, is"
    return None, "the statistics are"

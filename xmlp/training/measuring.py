"""The loss and the metrics of a network on data, in inference mode."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from xmlp.losses import Link
from xmlp.metrics import Metric
from xmlp.metrics.base import of_classes
from xmlp.network.functions import Functions, Rows
from xmlp.network.objective import Objective
from xmlp.training.run import Model
from xmlp.training.step import Batch
from xmlp.types import Array


class Predicting(Model, Protocol):
    """A model that predicts."""

    evaluations: Functions


@np.errstate(all="ignore")  # what overflows shows in the values
def measure(
    network: Predicting, data: Batch, batch_size: int, *, objective: Objective, metrics: Sequence[Metric] = (),
    with_loss: bool = True,
) -> dict[str, float]:  # fmt: skip
    """The values by name, without penalties; the network's link is the one that the loss asks for."""
    backend, loss, raw = network.backend, objective.loss, objective.raw
    total: Array = 0.0
    weight: Array = 0.0
    outputs = []
    whole, count = Rows(data.x, data.y, data.weights), data.x.shape[0]
    for start in range(0, count, batch_size):
        rows = slice(start, min(start + batch_size, count))
        part = whole.part(rows) if batch_size < count else whole
        sums = network.evaluations.sums(objective.loss, network.vectors, part)
        total, weight = total + sums.total, weight + sums.weight
        outputs.append(sums.outputs)
    result = {}
    if with_loss:
        numbers = [float(backend.to_host(s)) if not isinstance(s, float) else s for s in (total, weight)]
        mean = numbers[0] / numbers[1] if numbers[1] else math.nan
        result["loss"] = mean if loss.reduction == "mean" else numbers[0]
    if metrics:
        joined = backend.to_host(outputs[0] if len(outputs) == 1 else backend.xp.concat(outputs))
        w = None if data.weights is None else backend.to_host(data.weights)
        link = network.link_object if objective.link.is_identity else objective.link
        before = raw or not network.chain.output_link.probabilities  # the outputs are
        predictions = link.function.evaluate(np, joined) if before else joined
        result.update(_metric_values(metrics, joined, predictions, link, backend.to_host(data.y), w))
    return result


def _metric_values(
    metrics: Sequence[Metric], outputs: Any, predictions: Any, link: Link, targets: Any, weights: Any
) -> dict[str, float]:
    """Of metrics of labels, of predictions, and of outputs as they are."""
    classes = outputs.shape[-1] if link.outcome == "class" else 2
    if link.outcome == "class":
        labels, truth = outputs.argmax(-1), targets if targets.ndim == 1 else targets.argmax(-1)
    else:
        labels = (predictions > link.threshold).astype(np.int32)
        truth = targets if targets.ndim == 1 else (targets > 0.5).astype(np.int32)
        labels, truth = (a[:, 0] if a.ndim == 2 and a.shape[1] == 1 else a for a in (labels, truth))
    pairs = {"labels": (truth, labels), "predictions": (targets, predictions), "outputs": (targets, outputs)}
    values = {}
    for metric in metrics:
        of_rows = {} if weights is None else {"sample_weight": weights}  # a function may not know of them
        values[metric.name] = float(of_classes(metric.function, classes)(*pairs[metric.needs], **of_rows))
    return values

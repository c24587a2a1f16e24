"""The loss and the metrics of a network on data, in inference mode."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from xmlp.metrics import Metric, of_classes
from xmlp.network.functions import Functions, Rows
from xmlp.network.objective import Objective
from xmlp.training.run import Model
from xmlp.training.step import Batch


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
    total, weight, outputs = 0.0, 0.0, []
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
        link = loss.link if loss.link != "identity" else network.link
        cut = 0.0 if raw or network.chain.output_link == "identity" else 0.5
        result.update(_metric_values(metrics, joined, link, cut, backend.to_host(data.y), w))
    return result


def _metric_values(
    metrics: Sequence[Metric], outputs: Any, link: str, cut: float, targets: Any, weights: Any
) -> dict[str, float]:
    """Of metrics of labels and of those of predictions; outputs above `cut` are labels of 1."""
    classes = outputs.shape[-1] if link == "softmax" else 2
    if link == "softmax":
        labels, truth = outputs.argmax(-1), targets if targets.ndim == 1 else targets.argmax(-1)
    else:
        labels = (outputs > cut).astype(np.int32)
        truth = targets if targets.ndim == 1 else (targets > 0.5).astype(np.int32)
        labels, truth = (a[:, 0] if a.ndim == 2 and a.shape[1] == 1 else a for a in (labels, truth))
    values = {}
    for name, function, needs in metrics:
        pair = (truth, labels) if needs == "labels" else (targets, outputs)
        of_rows = {} if weights is None else {"sample_weight": weights}  # a function may not know of them
        values[name] = float(of_classes(function, classes)(*pair, **of_rows))
    return values

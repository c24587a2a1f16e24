"""The loss of a network on rows, and its gradient, as functions of arrays on the device."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from xmlp.losses import LOSSES, Loss
from xmlp.network.chain import Chain
from xmlp.network.objective import Objective
from xmlp.network.planned import PlannedFunction
from xmlp.runtime.programs import Recent
from xmlp.types import Array

_KEPT = 8  # functions, by kind and loss


class Rows(NamedTuple):
    """Checked rows: x as it came, targets as the loss takes them, and weights or None."""

    x: Array
    y: Array
    weights: Array | None

    def part(self, rows: slice) -> "Rows":
        """Some of them."""
        weights = None if self.weights is None else self.weights[rows, ...]
        return Rows(self.x[rows, :], self.y[rows, ...], weights)


class Sums(NamedTuple):
    """Of rows: the weighted losses and the weights, 0-d, and the outputs (N, columns) that the losses are of."""

    total: Array
    weight: Array | float
    outputs: Array


class Functions:
    """Functions of one chain of layers, in inference mode: planned where the backend runs plans, else plain."""

    def __init__(self, chain: Chain, planned: bool = True):
        self._chain, self._backend = chain, chain.backend
        self._planned = planned and chain.backend.reason_against_plans() is None
        self._kept: Recent[tuple[Any, Loss, int], PlannedFunction] = Recent(_KEPT)

    def value(self, loss: Loss, own: Mapping[str, Array], rows: Rows, theta: Array | None = None) -> Array:
        """The loss of rows, 0-d. `own` holds theta and stats; `theta` takes the place of the first."""
        return self._call(value, {"value": ()}, loss, own, rows, theta)["value"]

    def value_and_grad(
        self, loss: Loss, own: Mapping[str, Array], rows: Rows, theta: Array | None = None
    ) -> tuple[Array, Array]:
        """The loss of rows, 0-d, and its gradient (P,)."""
        outputs = {"value": (), "gradient": (self._chain.layout.size,)}
        results = self._call(value_and_grad, outputs, loss, own, rows, theta)
        return results["value"], results["gradient"]

    def sums(self, loss: Loss, own: Mapping[str, Array], rows: Rows) -> Sums:
        """The sums of rows; what does not fit on the device is computed in halves."""
        size = rows.x.shape[0]
        outputs: dict[str, tuple[int | None, ...]] = {"total": (), "outputs": (None, self._chain.out_features)}
        if rows.weights is not None:
            outputs["weight"] = ()
        try:
            results = self._call(sums, outputs, loss, own, rows, None)
        except self._backend.out_of_memory:
            if size == 1:
                raise
        else:
            return Sums(results["total"], results.get("weight", float(size)), results["outputs"])
        self._kept.clear()  # their buffers are for batches of this size
        self._backend.release()
        a, b = (self.sums(loss, own, rows.part(half)) for half in (slice(size // 2), slice(size // 2, size)))
        return Sums(a.total + b.total, a.weight + b.weight, self._backend.xp.concat([a.outputs, b.outputs]))

    def _call(
        self, function: Callable[..., dict[str, Any]], outputs: Mapping[str, tuple[int | None, ...]], loss: Loss,
        own: Mapping[str, Array], rows: Rows, theta: Array | None,
    ) -> dict[str, Array]:  # fmt: skip
        given = {name: array for name, array in rows._asdict().items() if array is not None}
        if theta is not None:
            own, given = {"stats": own["stats"]}, {"theta": theta, **given}
        if self._planned:
            results = self.planned(function, loss, outputs)(own, given)
            if results is not None:
                return results
        return function(Objective(self._chain, loss), self._backend, **own, **given)

    def planned(
        self, function: Callable[..., dict[str, Any]], loss: Loss, outputs: Mapping[str, tuple[int | None, ...]]
    ) -> PlannedFunction:
        """One of the functions below, as plans."""
        key = function, loss, len(outputs)
        kept = self._kept.find(key)
        if kept is None:
            of_loss = partial(function, Objective(self._chain, loss))
            told = "the loss" if self._chain.built_in and type(loss) in LOSSES.values() else ""
            kept = self._kept.add(key, PlannedFunction(of_loss, self._backend, outputs, told=told))
        return kept

    @property
    def kept(self) -> list[PlannedFunction]:
        """The latest that were asked for."""
        return self._kept.values()


def taken(objective: Objective, backend: Any, x: Array) -> tuple[Objective, Array]:
    """The objective on a backend, one that traces among them, and x in the floating dtype."""
    dtype = backend.float_dtype
    here = objective if backend is objective.chain.backend else objective.on(backend)
    return here, x if x.dtype == dtype else backend.xp.astype(x, dtype)


def value(
    objective: Objective, backend: Any, theta: Array, stats: Array, x: Array, y: Array, weights: Array | None = None
) -> dict[str, Array]:
    """The loss with the penalties of the objective, 0-d."""
    here, x = taken(objective, backend, x)
    total, weight, _ = here.sums(theta, stats, x, y, weights)
    value = objective.loss.reduced(backend.xp, total, weight, total)[0]
    return {"value": value + here.penalized(theta, theta)[0] if here.l1 or here.l2 else value}


def value_and_grad(
    objective: Objective, backend: Any, theta: Array, stats: Array, x: Array, y: Array, weights: Array | None = None
) -> dict[str, Array]:
    """The loss with the penalties of the objective, 0-d, and its gradient with respect to theta, (P,)."""
    here, x = taken(objective, backend, x)
    total, weight, grads, _ = here.evaluate(theta, stats, x, y, weights)
    value, gradient = objective.loss.reduced(backend.xp, total, weight, grads.flat)
    cost, gradient = here.penalized(theta, gradient)
    return {"value": value + cost if here.l1 or here.l2 else value, "gradient": gradient}


def sums(
    objective: Objective, backend: Any, theta: Array, stats: Array, x: Array, y: Array, weights: Array | None = None
) -> dict[str, Array]:
    """What an evaluation adds up: the weighted losses, the weights where there are any, and the outputs."""
    here, x = taken(objective, backend, x)
    total, weight, outputs = here.sums(theta, stats, x, y, weights)
    of_weights = {} if weights is None else {"weight": weight}
    return {"total": total, "outputs": outputs, **of_weights}

"""The training step: one pure function from a state and a batch to the next state.

Objective, exchange, penalties, clipping, update: nothing is written into what comes in, nothing is read back to the
host, and everything that changes from step to step is an argument. `jax.jit` runs the same function.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import xmlp.backends.context as contexts
from xmlp.backends import Backend
from xmlp.errors import DeviceMemoryError
from xmlp.graph import elementwise
from xmlp.network.chain import Keys
from xmlp.network.layout import Group
from xmlp.network.objective import Objective
from xmlp.optimizers import Optimizer, Part
from xmlp.types import Array


class Sums(NamedTuple):
    """What an epoch adds up, step by step: 0-d arrays."""

    loss: Array  # weighted losses
    weight: Array  # weights of the rows
    penalty: Array
    skipped: Array  # steps that were left out


class State(NamedTuple):
    """All that a step changes."""

    theta: Array  # (P,)
    slots: dict[str, Array]  # the optimizer's vectors, (P,) each
    stats: Array  # (S,)
    sums: Sums


class Batch(NamedTuple):
    """The data of a step: the numbered `rows` of x, y and weights, or all of them if it is None."""

    x: Array
    y: Array
    weights: Array | None
    rows: Array | None

    @property
    def size(self) -> int:
        """The number of rows of the step."""
        size: int = (self.x if self.rows is None else self.rows).shape[0]
        return size

    def taken(self, backend: Backend) -> tuple[Array, Array, Array | None]:
        """x, in the floating dtype, y and weights of the rows."""
        x, y, weights, rows = self
        xp, dtype = backend.xp, backend.float_dtype
        if rows is not None:
            x, y = xp.take(x, rows, axis=0), xp.take(y, rows, axis=0)
            weights = None if weights is None else xp.take(weights, rows, axis=0)
        return (x if x.dtype == dtype else xp.astype(x, dtype)), y, weights


class Numbers(NamedTuple):
    """What changes from step to step and the host knows."""

    share: float  # of the batch: the sum's gradient times it is the mean's
    scalars: list[dict[str, float]]  # the optimizer's, for each segment
    keys: Keys  # of the random bits


def share(rows: int) -> float:
    """What a row counts in a mean."""
    return 1.0 / rows


Exchange = Callable[[Array, Array, Any, Any], tuple[Array, Array, Any, Any]]


def alone(gradient: Array, total: Array, weight: Any, share: Any) -> tuple[Array, Array, Any, Any]:
    """The sums of one process: what it has."""
    return gradient, total, weight, share


@elementwise
def clip_factor(xp, squared_norm, *, clip_norm):  # type: ignore[no-untyped-def]
    """min(1, clip_norm / norm), and whether the norm is finite."""
    norm = xp.sqrt(squared_norm)
    return clip_norm / xp.maximum(norm, clip_norm), xp.isfinite(norm)


@dataclass(frozen=True)
class Step:
    """The pure step of an objective and an optimizer.

    Parameters
    ----------
    clip_norm : float, optional
        Bound on the norm of the whole gradient (Pascanu et al., 2013). A step whose norm is not finite changes nothing
        and is counted.
    allreduce : callable
        ``(gradient, total, weight, share)`` of the rows of this process to those of all processes that train together:
        the sums of the first three, and what a row counts in a mean over the rows of all.
    """

    objective: Objective
    optimizer: Optimizer
    clip_norm: float | None = None
    allreduce: Exchange = alone

    @property
    def backend(self) -> Backend:
        """What it computes with."""
        return self.objective.chain.backend

    def on(self, backend: Backend) -> "Step":
        """The same, computing on another backend: one that traces."""
        return replace(self, objective=self.objective.on(backend))

    @cached_property
    def segments(self) -> list[Group]:
        """The slices of theta that share the scalars of the update: as few as the settings allow."""
        merged: list[Group] = []
        for group in self.objective.chain.layout.groups:
            group = group if self.optimizer.decays else group._replace(decay=True)
            if merged and merged[-1][2:] == group[2:]:
                merged[-1] = merged[-1]._replace(stop=group.stop)
            else:
                merged.append(group)
        return merged

    def scalars(self, lr: float, step: int) -> list[dict[str, float]]:
        """The update's scalars for each segment; made on the host, in double precision."""
        return [self.optimizer.scalars(lr * s.lr_scale, step, s.decay) for s in self.segments]

    def numbers(self, rows: int, lr: float, steps: int, seed: int) -> Numbers:
        """Those of the step after so many others."""
        return Numbers(share(rows), self.scalars(lr, steps + 1), self.objective.chain.keys(seed, steps))

    def __call__(self, state: State, batch: Batch, numbers: Numbers) -> State:
        objective, xp = self.objective, self.backend.xp
        data = batch.taken(self.backend)

        total, weight, grads, stats = objective.evaluate(
            state.theta, state.stats, *data, training=True, keys=numbers.keys
        )
        grad, total, weight, row_share = self.allreduce(grads.flat, total, weight, numbers.share)
        if objective.loss.reduction == "mean":  # weights have the mean 1: the expected weight of the batch is its rows
            grad = grad * row_share
        cost, grad = objective.penalized(state.theta, grad)
        new = Sums(total, weight, cost, 0.0)
        if self.clip_norm is None:
            theta, slots = self._updated(state, grad, numbers.scalars)
        else:
            factor, finite = self.backend.apply(clip_factor, xp.sum(grad * grad), clip_norm=self.clip_norm)
            theta, slots = self._updated(state, grad * factor, numbers.scalars)
            theta, stats = xp.where(finite, theta, state.theta), xp.where(finite, stats, state.stats)
            slots = {name: xp.where(finite, slots[name], state.slots[name]) for name in slots}
            new = _counted(xp, finite, new, state)
        return State(theta, slots, stats, Sums(*(s + n for s, n in zip(state.sums, new, strict=True))))

    def _updated(self, state: State, grad: Array, scalars: list[dict[str, Any]]) -> tuple[Array, dict[str, Array]]:
        values = [v if s.lr_scale else None for s, v in zip(self.segments, scalars, strict=True)]
        parts = [Part(s.start, s.stop, v) for s, v in zip(self.segments, values, strict=True)]
        layout, ctx = self.objective.chain.layout, contexts.of(self.backend)
        return self.optimizer.advance(ctx, state.theta, grad, state.slots, parts, layout)


def _counted(xp: Any, finite: Array, new: Sums, state: State) -> Sums:
    """The sums of a step that counts only if its gradient is finite."""
    counted, none = xp.astype(finite, state.theta.dtype), 0.0 * state.sums.loss
    return Sums(
        xp.where(finite, new.loss, none),
        new.weight * counted,
        xp.where(finite, new.penalty + none, none),
        1.0 - counted,
    )


class Runner:
    """Repeats a step: one call of the function for each, in the form in which the backend runs it best."""

    chunk = 1  # steps that are best run together
    reason: str | None = None  # why steps do not run as a plan, if they do not
    reason_for_sizes: str | None = None  # why the latest plan that is for one number of rows is not for any number

    def __init__(self, step: Step):
        self.step = step
        self._function = step.backend.compile(step)

    def run(
        self, state: State, data: Batch, order: Array | None, size: int, rates: Sequence[float], first: int, seed: int
    ) -> State:
        """The state after one step for each learning rate.

        Step number `first` + i, counted from 0, takes the rows `order[i * size : (i + 1) * size]` of the data, or all
        of them if `order` is None.
        """
        for i, lr in enumerate(rates):
            rows = None if order is None else order[i * size : min((i + 1) * size, order.shape[0])]
            batch = data._replace(rows=rows)
            numbers = self.step.numbers(batch.size, lr, first + i, seed)
            try:
                state = self._function(state, batch, numbers)
            except self.step.backend.out_of_memory as error:
                raise full(self.step.backend, "", "") from error
        return state

    def release(self) -> None:
        """Let go of the data."""


def full(backend: Backend, needed: str, fitting: str) -> DeviceMemoryError:
    """The error of a step that does not fit: training never changes the batch by itself."""
    return DeviceMemoryError(
        f"{backend.device} has too little memory for a training step{needed}: {backend.free_bytes():,} bytes are free. "
        f"{fitting or 'Use a smaller batch_size.'}"
    )

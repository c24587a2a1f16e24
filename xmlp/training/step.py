"""The training step: one pure function from a state and a batch to the next state.

Forward, loss, backward, penalties, clipping, update: nothing is written into what comes in, nothing is read back to the
host, and everything that changes from step to step is an argument. `jax.jit` runs the same function.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import xmlp.backends.context as contexts
from xmlp.backends import Backend
from xmlp.errors import DeviceMemoryError
from xmlp.graph import elementwise
from xmlp.losses import Loss
from xmlp.network.chain import Chain, Keys
from xmlp.network.layout import Group
from xmlp.optimizers import Optimizer

Array = Any


class State(NamedTuple):
    """All that a step changes."""

    theta: Array  # (P,)
    slots: dict[str, Array]  # the optimizer's vectors, (P,) each
    stats: Array  # (S,)
    sums: tuple[Array, ...]  # 0-d, since the epoch began: weighted losses, weights, penalties, skipped steps


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


@elementwise
def penalty(xp, theta, *, l1, l2):  # type: ignore[no-untyped-def]
    """l1 |theta| + l2 theta^2."""
    return l1 * xp.abs(theta) + l2 * theta**2


@elementwise
def clip_factor(xp, squared_norm, *, clip_norm):  # type: ignore[no-untyped-def]
    """min(1, clip_norm / norm), and whether the norm is finite."""
    norm = xp.sqrt(squared_norm)
    return clip_norm / xp.maximum(norm, clip_norm), xp.isfinite(norm)


@dataclass(frozen=True)
class Step:
    """The pure step of one network, loss and optimizer.

    Parameters
    ----------
    l1, l2 : float
        Penalties l1 sum |w| + l2 sum w^2 of the decayed parameters, added to the loss.
    clip_norm : float, optional
        Bound on the norm of the whole gradient (Pascanu et al., 2013). A step whose norm is not finite changes nothing
        and is counted.
    """

    network: Chain
    loss: Loss
    optimizer: Optimizer
    l1: float = 0.0
    l2: float = 0.0
    clip_norm: float | None = None

    @cached_property
    def segments(self) -> list[Group]:
        """The slices of theta that share the scalars of the update: as few as the settings allow."""
        merged: list[Group] = []
        for group in self.network.layout.groups:
            group = group if self.optimizer.decays else group._replace(decay=True)
            if merged and merged[-1][2:] == group[2:]:
                merged[-1] = merged[-1]._replace(stop=group.stop)
            else:
                merged.append(group)
        return merged

    def scalars(self, lr: float, step: int) -> list[dict[str, float]]:
        """The update's scalars for each segment; made on the host, in double precision."""
        return [self.optimizer.scalars(lr * s.lr_scale, step, s.decay) for s in self.segments]

    def __call__(self, state: State, batch: Batch, scalars: list[dict[str, Any]], keys: Keys) -> State:
        network, xp = self.network, self.network.backend.xp
        loss, raw = network.loss_at(self.loss)
        x, y, weights = self._taken(xp, batch)

        outputs, caches = network.pass_forward(state.theta, state.stats, x, training=True, keys=keys, raw=raw)
        total, weight, gradient = loss.parts(contexts.of(network.backend), outputs, y, weights)
        _, grads = network.pass_backward(
            state.theta, state.stats, caches, loss.of_step(gradient), training=True, raw=raw, input_gradient=False
        )
        stats = network.pass_statistics(state.stats, caches)
        cost, grad = self._penalized(xp, state.theta, grads.flat)
        new = [total, weight, cost, 0.0]
        if self.clip_norm is None:
            theta, slots = self._updated(xp, state, grad, scalars)
        else:
            factor, finite = network.backend.apply(clip_factor, xp.sum(grad * grad), clip_norm=self.clip_norm)
            theta, slots = self._updated(xp, state, grad * factor, scalars)
            theta, stats = xp.where(finite, theta, state.theta), xp.where(finite, stats, state.stats)
            slots = {name: xp.where(finite, slots[name], state.slots[name]) for name in slots}
            counted = xp.astype(finite, theta.dtype)
            none = 0.0 * state.sums[0]
            new = [xp.where(finite, total, none), weight * counted, xp.where(finite, cost + none, none), 1.0 - counted]
        return State(theta, slots, stats, tuple(s + n for s, n in zip(state.sums, new, strict=True)))

    def _taken(self, xp: Any, batch: Batch) -> tuple[Array, Array, Array | None]:
        dtype = self.network.backend.float_dtype
        x, y, weights, rows = batch
        if rows is not None:
            x, y = xp.take(x, rows, axis=0), xp.take(y, rows, axis=0)
            weights = None if weights is None else xp.take(weights, rows, axis=0)
        return (x if x.dtype == dtype else xp.astype(x, dtype)), y, weights

    def _penalized(self, xp: Any, theta: Array, grad: Array) -> tuple[Array | float, Array]:
        """The penalties and the gradient of the objective."""
        if not (self.l1 or self.l2):
            return 0.0, grad
        backend, bound = self.network.backend, penalty.bind(l1=self.l1, l2=self.l2)
        cost, pieces = 0.0, []
        for g in self.network.layout.groups:
            piece = grad[g.start : g.stop]
            if g.decay:
                part = theta[g.start : g.stop]
                cost = cost + xp.sum(backend.apply(bound, part))
                piece = piece + backend.apply(bound.derivative, part)
            pieces.append(piece)
        return cost, xp.concat(pieces)

    def _updated(
        self, xp: Any, state: State, grad: Array, scalars: list[dict[str, Any]]
    ) -> tuple[Array, dict[str, Array]]:
        optimizer, segments = self.optimizer, self.segments

        def apply(*arrays: Array, **values: Any) -> Any:
            return self.network.backend.apply(optimizer.rule, *arrays, **values)

        if len(segments) == 1 and segments[0].lr_scale:
            return optimizer.step(apply, state.theta, grad, state.slots, scalars[0])
        pieces: list[tuple[Array, dict[str, Array]]] = []
        for segment, values in zip(segments, scalars, strict=True):
            part = slice(segment.start, segment.stop)
            theta, slots = state.theta[part], {name: s[part] for name, s in state.slots.items()}
            if segment.lr_scale:
                theta, slots = optimizer.step(apply, theta, grad[part], slots, values)
            pieces.append((theta, slots))
        if not pieces:
            return state.theta, state.slots
        names = list(state.slots)
        return xp.concat([p[0] for p in pieces]), {n: xp.concat([p[1][n] for p in pieces]) for n in names}


class Runner:
    """Repeats a step: one call of the function for each, in the form in which the backend runs it best."""

    chunk = 1  # steps that are best run together
    reason: str | None = None  # why steps do not run as a plan, if they do not

    def __init__(self, step: Step):
        self.step = step
        self._function = step.network.backend.compile(step)

    def run(
        self, state: State, data: Batch, order: Array | None, size: int, rates: Sequence[float], first: int, seed: int
    ) -> State:
        """The state after one step for each learning rate.

        Step number `first` + i, counted from 0, takes the rows `order[i * size : (i + 1) * size]` of the data, or all
        of them if `order` is None.
        """
        for i, lr in enumerate(rates):
            rows = None if order is None else order[i * size : min((i + 1) * size, order.shape[0])]
            keys = self.step.network.keys(seed, first + i)
            batch, scalars = data._replace(rows=rows), self.step.scalars(lr, first + i + 1)
            try:
                state = self._function(state, batch, scalars, keys)
            except self.step.network.backend.out_of_memory as error:
                raise full(self.step.network.backend, "", "") from error
        return state

    def release(self) -> None:
        """Let go of the data."""


def full(backend: Backend, needed: str, fitting: str) -> DeviceMemoryError:
    """The error of a step that does not fit: training never changes the batch by itself."""
    return DeviceMemoryError(
        f"{backend.device} has too little memory for a training step{needed}: {backend.free_bytes():,} bytes are free. "
        f"{fitting or 'Use a smaller batch_size.'}"
    )

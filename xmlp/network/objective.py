"""What training makes small: the loss of a network on rows, as sums over them, its gradient, and the penalties.

The gradient is that of the *sum*. Whoever takes a mean divides afterwards, so that sums of several batches, or of
several machines, can be added before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import xmlp.backends.context as contexts
from xmlp.backends import Backend
from xmlp.graph import elementwise
from xmlp.losses import Link, Loss
from xmlp.network.chain import Chain, Keys
from xmlp.network.layout import Gradients
from xmlp.types import Array


class Evaluation(NamedTuple):
    """An objective at some parameters, on some rows."""

    total: Array  # 0-d, sum of the weighted losses
    weight: Array | float  # 0-d, sum of the weights of the rows
    gradients: Gradients  # of `total`
    stats: Array  # (S,), the statistics that the rows leave


@elementwise
def penalty(xp, theta, *, l1, l2):  # type: ignore[no-untyped-def]
    """l1 |theta| + l2 theta^2."""
    return l1 * xp.abs(theta) + l2 * theta**2


@dataclass(frozen=True)
class Objective:
    """The loss of a chain of layers, with penalties; all methods are pure and take arrays of the chain's backend.

    Parameters
    ----------
    l1, l2 : float
        Penalties l1 sum |w| + l2 sum w^2 of the decayed parameters.
    """

    chain: Chain
    loss: Loss
    l1: float = 0.0
    l2: float = 0.0

    @cached_property
    def _at(self) -> tuple[Loss, bool]:
        return self.chain.loss_at(self.loss)

    @property
    def raw(self) -> bool:
        """Whether the loss is taken of the raw outputs, before the output link."""
        return self._at[1]

    @property
    def link(self) -> Link:
        """What turns the outputs that the loss is taken of into predictions."""
        return self._at[0].output_link

    def on(self, backend: Backend) -> "Objective":
        """The same, computing on another backend: one that traces."""
        return replace(self, chain=self.chain.on(backend))

    def parts(self, outputs: Array, y: Array, weights: Array | None) -> tuple[Array, Array | float, Array]:
        """(sum of the weighted losses, sum of the weights, gradient of the first) of outputs (N, columns)."""
        return self._at[0].parts(contexts.of(self.chain.backend), outputs, y, weights)

    def sums(
        self, theta: Array, stats: Array, x: Array, y: Array, weights: Array | None
    ) -> tuple[Array, Array | float, Array]:
        """(sum of the weighted losses, sum of the weights, outputs) in inference mode: one forward pass."""
        outputs, _ = self.chain.pass_forward(theta, stats, x, raw=self.raw)
        total, weight, _ = self.parts(outputs, y, weights)
        return total, weight, outputs

    def evaluate(
        self, theta: Array, stats: Array, x: Array, y: Array, weights: Array | None, *, training: bool = False,
        keys: Keys | None = None,
    ) -> Evaluation:  # fmt: skip
        """Forward, loss, backward: everything that a batch says; (seed, step) of `keys` choose dropout masks."""
        chain, raw = self.chain, self.raw
        outputs, caches = chain.pass_forward(theta, stats, x, training=training, keys=keys, raw=raw)
        total, weight, dy = self.parts(outputs, y, weights)
        grads = self.backward(theta, stats, caches, dy, training=training)
        return Evaluation(total, weight, grads, chain.pass_statistics(stats, caches) if training else stats)

    def backward(self, theta: Array, stats: Array, caches: Sequence[Any], dy: Array, *, training: bool) -> Gradients:
        """The gradients with respect to the parameters, from that with respect to the outputs."""
        chain = self.chain
        return chain.pass_backward(
            theta, stats, [*caches], dy, training=training, raw=self.raw, input_gradient=False
        )[1]  # fmt: skip

    def penalized(self, theta: Array, gradient: Array) -> tuple[Array | float, Array]:
        """The penalties, and the gradient of a loss with theirs added."""
        if not (self.l1 or self.l2):
            return 0.0, gradient
        backend, bound = self.chain.backend, penalty.bind(l1=self.l1, l2=self.l2)
        xp, cost, pieces = backend.xp, 0.0, []
        for g in self.chain.layout.groups:
            piece = gradient[g.start : g.stop]
            if g.decay:
                part = theta[g.start : g.stop]
                cost = cost + xp.sum(backend.apply(bound, part))
                piece = piece + backend.apply(bound.derivative, part)
            pieces.append(piece)
        return cost, xp.concat(pieces)

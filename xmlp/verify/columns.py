"""The form for one example: column vectors, matrices, and explicit Jacobians, as documents 000, 003 and 002 write it.

Jacobians are in numerator layout, m x n for m values of n variables; chains of derivatives are products of matrices.
"""

from collections.abc import Callable, Sequence
from typing import Any

from xmlp.backends import Backend
from xmlp.types import Array
from xmlp.verify.scalar import Pass, Stage

VALUES: dict[str, Callable[[Any, Array], Array]] = {
    "identity": lambda xp, z: z,
    "relu": lambda xp, z: xp.maximum(z, 0.0),
    "sigmoid": lambda xp, z: 1.0 / (1.0 + xp.exp(-z)),
    "tanh": lambda xp, z: xp.tanh(z),
    "softsign": lambda xp, z: z / (1.0 + xp.abs(z)),
    "softmax": lambda xp, z: xp.exp(z) / xp.sum(xp.exp(z)),
}

SLOPES: dict[str, Callable[[Any, Array, Array], Array]] = {  # of (z, a)
    "identity": lambda xp, z, a: xp.ones_like(z),
    "relu": lambda xp, z, a: xp.astype(z > 0, z.dtype),
    "sigmoid": lambda xp, z, a: a * (1.0 - a),
    "tanh": lambda xp, z, a: 1.0 - a * a,
    "softsign": lambda xp, z, a: (1.0 - xp.abs(a)) ** 2,
}

LOSSES: dict[str, tuple[Callable[[Any, Array, Array], Array], Callable[[Array, Array], Array]]] = {  # of (y, a)
    "squared": (lambda xp, y, a: xp.sum((y - a) ** 2), lambda y, a: -2.0 * (y - a)),
    "half": (lambda xp, y, a: xp.sum((y - a) ** 2) / 2.0, lambda y, a: a - y),
    "binary": (
        lambda xp, y, a: -xp.sum(y * xp.log(a) + (1.0 - y) * xp.log(1.0 - a)),
        lambda y, a: -(y / a - (1.0 - y) / (1.0 - a)),
    ),
    "categorical": (lambda xp, y, a: -xp.sum(y * xp.log(a)), lambda y, a: -(y / a)),
    "quartic": (lambda xp, y, a: xp.sum((y - a) ** 4), lambda y, a: -4.0 * (y - a) ** 3),
}


class Columns:
    """Vectors and Jacobians on one backend."""

    def __init__(self, backend: Backend):
        self.backend, self.xp = backend, backend.xp

    def put(self, values: Any) -> Array:
        """Numbers as a device array."""
        return self.backend.from_host(values)

    def column(self, values: Any) -> Array:
        """A vector as a matrix of one column."""
        return self.xp.reshape(self.put(values), (-1, 1))

    def vector(self, matrix: Array) -> Array:
        """A matrix of one column as a vector."""
        return self.xp.reshape(matrix, (-1,))

    def eye(self, n: int) -> Array:
        """The unit matrix."""
        return self.xp.eye(n, dtype=self.backend.float_dtype, device=self.backend.device)

    def diagonal(self, column: Array) -> Array:
        """A column as a diagonal matrix."""
        return self.eye(column.shape[0]) * column

    # --- the three stages of a layer and their Jacobians -----------------------------------------

    def weighted_inputs(self, stage: Stage, a: Array) -> Array:
        """The weighted inputs z = W a + b as columns (002 eq. 9 and 10; 003, section 1.2)."""
        return self.put(stage.W) @ a + self.column(stage.b)

    def activations(self, f: str, z: Array) -> Array:
        """The activations a = f(z) (002 eq. 11 and 12)."""
        return VALUES[f](self.xp, z)

    def by_weighted_inputs(self, f: str, z: Array) -> Array:
        """da/dz, n x n: diagonal for an elementwise f (003, section 2.2.2), diag(a) - a a^T for the softmax."""
        a = self.activations(f, z)
        if f == "softmax":
            return self.diagonal(a) - a @ self.xp.matrix_transpose(a)
        return self.diagonal(SLOPES[f](self.xp, z, a))

    def by_weights(self, a: Array, units: int) -> Array:
        """dz/dW, units x (units x n): slice i has a^T in its row i (003, section 2.2.3)."""
        return self.xp.reshape(self.eye(units), (units, units, 1)) * self.xp.reshape(a, (1, 1, -1))

    def by_flat_weights(self, a: Array, units: int) -> Array:
        """dz/dw, units x (units n), the weights being one long vector, row after row (002 eq. 49)."""
        return self.xp.reshape(self.by_weights(a, units), (units, -1))

    def loss_row(self, loss: str, y: Array, a: Array) -> Array:
        """dL/da, a row 1 x n (003, section 2.2.1)."""
        return self.xp.matrix_transpose(LOSSES[loss][1](y, a))

    # --- passes ----------------------------------------------------------------------------------

    def forward(self, stages: Sequence[Stage], x: Any) -> tuple[list[Array], list[Array]]:
        """The weighted inputs and the activations of all layers, as columns."""
        zs, a = [], [self.column(x)]
        for stage in stages:
            zs.append(self.weighted_inputs(stage, a[-1]))
            a.append(self.activations(stage.f, zs[-1]))
        return zs, a

    def backpropagate(self, stages: Sequence[Stage], loss: str, x: Any, y: Any) -> Pass:
        """Every derivative of the loss of one example as a product of Jacobians (003, section 2.3), as vectors."""
        zs, a = self.forward(stages, x)
        value, row = LOSSES[loss][0](self.xp, self.column(y), a[-1]), self.loss_row(loss, self.column(y), a[-1])
        das, dzs, dWs = [row], list[Array](), list[Array]()
        for stage, z, before in zip(reversed(stages), reversed(zs), reversed(a[:-1]), strict=True):
            row = row @ self.by_weighted_inputs(stage.f, z)  # 002 eq. 25
            dzs.insert(0, row)
            tensor = self.by_weights(before, len(stage.W))
            dWs.insert(0, self.xp.reshape(self.xp.tensordot(row, tensor, axes=1), tensor.shape[1:]))  # eq. 48
            row = row @ self.put(stage.W)  # dz/da = W (003, section 2.2.4)
            das.insert(0, row)
        dz = [self.vector(d) for d in dzs]
        return Pass([*map(self.vector, zs)], [*map(self.vector, a)], value, [*map(self.vector, das)], dz, dWs, dz)

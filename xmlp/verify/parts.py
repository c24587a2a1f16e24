"""Layers and losses that no document mentions, against scalar loops and difference quotients."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from xmlp import losses
from xmlp.activations import ACTIVATIONS
from xmlp.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, Residual, Standardize
from xmlp.model.network import Network
from xmlp.verify import library, scalar
from xmlp.verify.core import Trial, check
from xmlp.verify.scalar import Matrix, Number, Problem, Vector, flat, jacobian, lift, like, quotient, root, transposed

X = Problem((4, 3), ("identity",), "squared", examples=5, seed=7).x  # (5, 4)
DY = Problem((4, 3), ("identity",), "squared", examples=5, seed=8).x
EPS = 1e-5


def compare(
    t: Trial,
    layer: Layer,
    forward: Callable[..., Matrix],
    params: Mapping[str, Any],
    *,
    training: bool = False,
    stats: Mapping[str, Any] | None = None,
) -> Any:
    """Forward and backward of a layer against `forward(x, *params)`, scalar loops; returns the layer's cache.

    The gradients are those of sum dy y, so that dy is what backward gets.
    """
    want = scalar.exact(forward, X, *params.values())
    t.scalar(forward(X, *params.values()), want)
    ctx = library.context(t.backend, training=training).but(stats={k: t.put(v) for k, v in (stats or {}).items()})
    arrays = {name: t.put(value) for name, value in params.items()}
    y, cache = layer.forward(arrays, t.put(X), ctx)
    dx, grads = layer.backward(arrays, cache, t.put(DY), ctx)
    t.batch(y, want)
    t.require(set(grads) == set(params), f"gradients of {sorted(grads)} for {sorted(params)}")
    values = {"x": X, **params}
    for name in values:

        def objective(at: Any, name: str = name) -> Number:
            changed = {k: at if k == name else lift(v) for k, v in values.items()}
            return sum(a * lift(b) for a, b in zip(flat(forward(*changed.values())), flat(DY), strict=True))

        t.batch(dx if name == "x" else grads[name], quotient(objective, values[name]))
    return cache


def normalized(v: Vector) -> Vector:
    """(v - mean) / sqrt(var + eps)."""
    mean = sum(v) / len(v)
    deviation = root(sum((u - mean) ** 2 for u in v) / len(v) + like(v[0], EPS))
    return [(u - mean) / deviation for u in v]


GAMMA, BETA = [1.5, -0.5, 0.75, 2.0], [0.1, 0.2, -0.3, 0.0]


@check("layer-LayerNorm", title="layer normalisation: each row to mean 0 and variance 1")
def layer_norm(t: Trial) -> None:
    def forward(x: Matrix, gamma: Vector, beta: Vector) -> Matrix:
        return [[g * n + b for n, g, b in zip(normalized(row), gamma, beta, strict=True)] for row in x]

    compare(t, LayerNorm(EPS), forward, {"gamma": GAMMA, "beta": BETA})
    want = jacobian(lambda v: forward([v], lift(GAMMA), lift(BETA))[0], X[0])
    n, size, columns = t.columns.column(normalized(X[0])), 4, t.columns
    mean = sum(X[0]) / size
    inverse = 1 / math.sqrt(sum((v - mean) ** 2 for v in X[0]) / size + EPS)
    projection = columns.eye(size) - 1.0 / size - n @ t.xp.matrix_transpose(n) / size
    t.example(columns.diagonal(columns.column(GAMMA)) @ projection * inverse, want)


@check("layer-BatchNorm", title="batch normalisation, in training and later; its statistics")
def batch_norm(t: Trial) -> None:
    layer, stats = BatchNorm(0.75, EPS), {"mean": [0.5, 0.0, -1.0, 2.0], "var": [1.0, 4.0, 0.25, 2.0]}

    def in_training(x: Matrix, gamma: Vector, beta: Vector) -> Matrix:
        columns = [[g * n + b for n in normalized(c)] for c, g, b in zip(transposed(x), gamma, beta, strict=True)]
        return transposed(columns)

    def later(x: Matrix, gamma: Vector, beta: Vector) -> Matrix:
        kept = [(like(x[0][0], m), like(x[0][0], v)) for m, v in zip(stats["mean"], stats["var"], strict=True)]
        eps = like(x[0][0], EPS)
        scale = [(m, g / root(v + eps), b) for (m, v), g, b in zip(kept, gamma, beta, strict=True)]
        return [[(v - m) * s + b for v, (m, s, b) in zip(row, scale, strict=True)] for row in x]

    params = {"gamma": GAMMA, "beta": BETA}
    compare(t, layer, later, params, stats=stats)
    cache = compare(t, layer, in_training, params, training=True, stats=stats)
    means = [sum(c) / len(c) for c in transposed(X)]
    variances = [sum((v - m) ** 2 for v in c) / (len(c) - 1) for c, m in zip(transposed(X), means, strict=True)]
    new = layer.next_statistics({k: t.put(v) for k, v in stats.items()}, cache)
    for name, batch in (("mean", means), ("var", variances)):
        t.batch(new[name], [0.75 * old + 0.25 * now for old, now in zip(stats[name], batch, strict=True)])


@check("layer-Residual", title="residual: y = x + f(x)")
def residual(t: Trial) -> None:
    draw = Problem((4, 3, 4), ("tanh", "identity"), "squared", seed=9).stages
    params = {"0.W": transposed(draw[0].W), "0.b": draw[0].b, "1.W": transposed(draw[1].W), "1.b": draw[1].b}

    def forward(x: Matrix, W0: Matrix, b0: Vector, W1: Matrix, b1: Vector) -> Matrix:
        stages = [scalar.Stage(transposed(W0), b0, "tanh"), scalar.Stage(transposed(W1), b1, "identity")]
        return [[v + f for v, f in zip(row, scalar.forward(stages, row)[1][-1], strict=True)] for row in x]

    compare(t, Residual([Dense(3, activation="tanh"), Dense(4)]), forward, params)
    z = t.columns.column(scalar.weighted_inputs(draw[0], X[0]))
    inner = t.put(draw[1].W) @ t.columns.by_weighted_inputs("tanh", z) @ t.put(draw[0].W)
    lifted = lift(list(params.values()))
    t.example(t.columns.eye(4) + inner, jacobian(lambda v: forward([v], *lifted)[0], X[0]))


@check("layer-Standardize", title="standardise: y = (x - mean) / scale with kept numbers")
def standardize(t: Trial) -> None:
    stats = {"mean": [0.5, 0.0, -1.0, 2.0], "scale": [1.0, 4.0, 0.25, 3.0]}

    def forward(x: Matrix) -> Matrix:
        pairs = list(zip(stats["mean"], stats["scale"], strict=True))
        return [[(v - like(v, m)) / like(v, s) for v, (m, s) in zip(row, pairs, strict=True)] for row in x]

    compare(t, Standardize(), forward, {}, stats=stats)
    inverse = t.columns.column([1 / s for s in stats["scale"]])
    t.example(t.columns.diagonal(inverse), jacobian(lambda v: forward([v])[0], X[0]))


def wrapped(v: int) -> int:
    """An integer as 32 bits hold it."""
    return (v + 2**31) % 2**32 - 2**31


def hashed(element: int, first: int, second: int) -> int:
    """The random bits of one element, in integers of Python."""
    h = element ^ first
    h = wrapped((h ^ ((h >> 16) & 0xFFFF)) * 0x7FEB352D)
    h = wrapped((h ^ second ^ ((h >> 15) & 0x1FFFF)) * 0x846CA68B)
    return h ^ ((h >> 16) & 0xFFFF)


@check("layer-Dropout", title="dropout: the mask of (seed, step, layer, element)")
def dropout(t: Trial) -> None:
    rate, seed, step = 0.4, 3, 2
    network = Network([Dropout(rate)], 4, backend=t.backend)
    ((first, second),) = network.chain.keys(seed, step).values()
    threshold = round(rate * 2**32) - 2**31
    kept = [hashed(element, first, second) >= threshold for element in range(20)]
    t.require(0 < sum(kept) < 20, "the mask keeps all or nothing")
    mask = scalar.shaped([k / (1 - rate) for k in kept], X)
    want = [
        [[v * m for v, m in zip(*rows, strict=True)] for rows in zip(values, mask, strict=True)] for values in (X, DY)
    ]
    passed: Any = network.forward(X, training=True, seed=seed, step=step)
    y, caches = passed
    t.batch([y, network.backward(caches, DY)[0]], want)
    t.scalar([sum(kept) / 20], [sum(v > 0 for v in flat(mask)) / 20])
    other, _ = network.forward(X, training=True, seed=seed, step=step + 1)
    t.differ(other, y, "the masks of two steps")
    t.batch([network.forward(X)[0], t.backward(network, X, DY)[0]], [X, DY])


@check("layer-Activation", title="activations as layers: value and gradient")
def activation_layer(t: Trial) -> None:
    for name in [name for name in ACTIVATIONS if name == "softmax" or name in scalar.CURVES]:

        def forward(x: Matrix, name: str = name) -> Matrix:
            return [scalar.activations(name, row) for row in x]

        compare(t, Activation(library.activation_of(name)), forward, {})


@check("layer-Dense", title="a dense layer: value and the three gradients")
def dense(t: Trial) -> None:
    (stage,) = Problem((4, 4), ("tanh",), "squared", seed=9).stages

    def forward(x: Matrix, W: Matrix, b: Vector) -> Matrix:
        return [scalar.forward([scalar.Stage(transposed(W), b, "tanh")], row)[1][-1] for row in x]

    compare(t, Dense(4, activation="tanh"), forward, {"W": transposed(stage.W), "b": stage.b})


# --- losses -------------------------------------------------------------------------------------

A = [[0.7, -0.4, 2.5], [0.1, 0.9, -3.0], [-1.2, 0.3, 0.2]]  # predictions
Y = [[0.5, 0.4, 0.1], [0.3, -0.8, 0.6], [1.0, 0.5, 0.4]]  # targets
P = [[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]  # predictions that are probabilities
ONE_HOT = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]


def _of(of_row: Callable[[Vector, Vector], Number], target: Vector, row: Vector) -> Number:
    return of_row(row, lift(target))


def compare_loss(t: Trial, loss: losses.Loss, of_row: Callable[[Vector, Vector], Number], a: Matrix, y: Matrix) -> None:
    """The losses of examples, and the gradient of their sum, against the loss of one row in scalars."""
    want = [scalar.exact(of_row, row, target) for row, target in zip(a, y, strict=True)]
    slope = [quotient(partial(_of, of_row, target), row) for row, target in zip(a, y, strict=True)]
    t.scalar([of_row(row, target) for row, target in zip(a, y, strict=True)], want)
    t.batch(loss.per_example(t.put(a), t.put(y)), want)
    value, gradient = loss.value_and_grad(t.put(a), t.put(y))
    t.batch([value, gradient], [sum(want), slope])


def _named(name: str, a: Vector, y: Vector) -> Number:
    return scalar.loss_of(name, y, a)


@check("loss-SquaredError", title="squared error, whole and half")
def squared_error(t: Trial) -> None:
    for half, name in ((False, "squared"), (True, "half")):
        loss = losses.SquaredError(half=half, reduction="sum")
        compare_loss(t, loss, partial(_named, name), A, Y)


@check("loss-AbsoluteError", title="absolute error, with slope 0 at 0")
def absolute_error(t: Trial) -> None:
    loss = losses.AbsoluteError(reduction="sum")
    compare_loss(t, loss, lambda a, y: sum(abs(p - q) for p, q in zip(a, y, strict=True)), A, Y)
    t.batch(loss.value_and_grad(t.put([[2.0]]), t.put([[2.0]])), [0.0, [[0.0]]])


@check("loss-Huber", title="Huber loss: squares near 0, lines beyond delta")
def huber(t: Trial) -> None:
    def term(d: Number, delta: Number) -> Number:
        return d * d / 2 if abs(d) <= delta else delta * (abs(d) - delta / 2)

    for delta in (0.5, 1.0, 2.75):
        beyond = [abs(a - y) > delta for a, y in zip(flat(A), flat(Y), strict=True)]
        t.require(0 < sum(beyond) < len(beyond), f"delta = {delta} has one side only")

        def of_row(a: Vector, y: Vector, delta: float = delta) -> Number:
            return sum(term(p - q, like(p, delta)) for p, q in zip(a, y, strict=True))

        compare_loss(t, losses.Huber(delta, reduction="sum"), of_row, A, Y)


@check("loss-BinaryCrossEntropy", title="binary cross entropy at probabilities and logits")
def binary_cross_entropy(t: Trial) -> None:
    soft = [[abs(v) for v in row] for row in Y]
    for y in (ONE_HOT, soft):
        loss = losses.BinaryCrossEntropy(from_logits=False, reduction="sum")
        compare_loss(t, loss, partial(_named, "binary"), P, y)
        logits = losses.BinaryCrossEntropy(reduction="sum")
        compare_loss(t, logits, lambda z, y: scalar.loss_of("binary", y, [scalar.sigmoid(v) for v in z]), A, y)


@check("loss-SoftmaxCrossEntropy", title="softmax cross entropy at probabilities and logits; labels")
def softmax_cross_entropy(t: Trial) -> None:
    for y in (ONE_HOT, P):
        loss = losses.SoftmaxCrossEntropy(from_logits=False, reduction="sum")
        compare_loss(t, loss, partial(_named, "categorical"), P, y)
        logits = losses.SoftmaxCrossEntropy(reduction="sum")
        compare_loss(t, logits, lambda z, y: scalar.loss_of("categorical", y, scalar.activations("softmax", z)), A, y)
    labels = t.backend.from_host([row.index(1.0) for row in ONE_HOT], "int32")
    by_label, by_row = (logits.value_and_grad(t.put(A), y) for y in (labels, t.put(ONE_HOT)))
    t.batch(by_label, t.host(by_row))
    z, p = t.put(A), [scalar.activations("softmax", row) for row in A]
    delta = [[a - y for a, y in zip(*rows, strict=True)] for rows in zip(p, ONE_HOT, strict=True)]
    t.batch(logits.value_and_grad(z, labels)[1], delta)

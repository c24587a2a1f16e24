"""Document 002, the first half: forward propagation, decisions and the cross entropy (eq. 1 to 24 and 51)."""

import math
from typing import Any

from xmlp import metrics
from xmlp.activations import sigmoid
from xmlp.layers import Dense
from xmlp.losses import BinaryCrossEntropy, SquaredError
from xmlp.verify import library, scalar
from xmlp.verify.core import Trial, check
from xmlp.verify.scalar import TERMS, Problem, every, exact, flat, one, quotient, weighted_log

SPORTS = Problem((3, 2, 1), ("sigmoid", "sigmoid"), "binary")  # the network of figure 1
LABELS = Problem((3, 4, 2), ("sigmoid", "sigmoid"), "binary")


@check("002-01", equations=range(1, 5), title="z_i = sum_k a_k w_ik + b_i, a_i = f(z_i), unit by unit")
def units(t: Trial) -> None:
    want, (W, b, _) = one(SPORTS), SPORTS.stages[0]
    a1, a2, a3 = SPORTS.x[0]
    z = a1 * W[0][0] + a2 * W[0][1] + a3 * W[0][2] + b[0]
    t.scalar([z, scalar.sigmoid(z)], [want.z[0][0], want.a[1][0]])
    t.scalar(scalar.forward(SPORTS.stages, SPORTS.x[0]), [want.z, want.a])
    z = t.xp.sum(t.put(W[0]) * t.put(SPORTS.x[0])) + b[0]
    t.example([z, t.columns.activations("sigmoid", z)], [want.z[0][0], want.a[1][0]])
    got, references = t.rows(SPORTS), every(SPORTS)
    t.batch([got.z, got.a], [references.z, references.a])


@check("002-02", equations=[5], title="0 < sigmoid < 1, right far out, no overflow at +-1e4")
def stable_sigmoid(t: Trial) -> None:
    points = [0.0, 0.5, 2.0, 10.0, 30.0, 36.0]
    points += [-p for p in points] + [-100.0, -700.0]
    want = [exact(scalar.sigmoid, p) for p in points]
    got = t.host(t.backend.apply(sigmoid, t.put(points)))
    t.batch([g / w for g, w in zip(got, want, strict=True)], [1.0] * len(points))
    t.require(all(0 < g < 1 for g in got), "a value is not between 0 and 1")
    t.scalar([scalar.sigmoid(p) for p in points], want)
    column = t.put(points)
    t.example(t.columns.activations("sigmoid", column), want)
    far = t.host(t.backend.apply(sigmoid, t.put([-1e4, 1e4])))
    t.require(far == [0.0, 1.0], f"sigmoid of -1e4 and 1e4 is {far}")
    slopes = t.host(t.backend.apply(sigmoid.derivative, t.put([-1e4, 1e4])))
    t.require(slopes == [0.0, 0.0], f"its derivative there is {slopes}")


@check("002-03", equations=[6, 7, 13, 14], title="outputs are probabilities, one for each category")
def probabilities(t: Trial) -> None:
    for problem in (SPORTS, LABELS, Problem((3, 4, 5), ("tanh", "sigmoid"), "binary")):
        want = every(problem).a[-1]
        t.scalar(scalar.forward(problem.stages, problem.x[0])[1][-1], want[0])
        t.example(t.columns.vector(t.columns.forward(problem.stages, problem.x[0])[1][-1]), want[0])
        got = t.network(problem).predict_proba(problem.x)
        t.batch(got, want)
        t.require(all(0 < p < 1 for p in flat(t.host(got))), "a probability is not between 0 and 1")


@check("002-04", equations=[8], title="predict 1 where yhat > threshold, strictly, by category")
def decisions(t: Trial) -> None:
    network = t.network(LABELS)
    p = t.host(network.predict_proba(LABELS.x))
    for thresholds in ([0.5, 0.5], [p[1][0], p[2][1]], [0.0, 1.0]):
        want = [[1.0 if row[i] > thresholds[i] else 0.0 for i in range(2)] for row in p]
        t.batch(network.predict_label(LABELS.x, thresholds=thresholds), want)
    at_threshold = network.predict_label(LABELS.x, thresholds=[p[1][0], p[2][1]])
    t.require(t.host(at_threshold)[1][0] == 0 and t.host(at_threshold)[2][1] == 0, "yhat = threshold gave 1")
    t.batch(network.predict_label(LABELS.x), [[float(v > 0.5) for v in row] for row in p])
    t.batch(network.predict_label(LABELS.x, thresholds=0.3), [[float(v > 0.3) for v in row] for row in p])


@check("002-06", title="precision = TP / (TP + FP), recall = TP / (TP + FN)")
def precision_and_recall(t: Trial) -> None:
    y, decided = [1, 1, 1, 1, 0, 0, 0, 1], [1, 0, 1, 1, 1, 0, 1, 0]
    want = [3 / 5, 3 / 5], [3 / (3 + 2), 3 / (3 + 2)]
    pairs = list(zip(y, decided, strict=True))
    tp, fp, fn = pairs.count((1, 1)), pairs.count((0, 1)), pairs.count((1, 0))
    t.require((tp, fp, fn) == (3, 2, 2), "the example has other counts")
    t.scalar([tp / (tp + fp), tp / (tp + fn)], want[0])
    t.batch([metrics.precision(y, decided), metrics.recall(y, decided)], want[1])
    y, decided = [1, 1, 0, 0, 0, 0], [1, 0, 1, 1, 1, 0]
    t.batch([metrics.precision(y, decided), metrics.recall(y, decided)], [1 / 4, 1 / 2])


@check("002-07", equations=range(9, 13), title="z = W a + b, a = f(z) with vectors, W being n_l x n_(l-1)")
def vectors(t: Trial) -> None:
    want = one(LABELS)
    t.scalar(scalar.forward(LABELS.stages, LABELS.x[0]), [want.z, want.a])
    zs, a = t.columns.forward(LABELS.stages, LABELS.x[0])
    t.require([tuple(z.shape) for z in zs] == [(4, 1), (2, 1)], "a vector is not a column")
    t.example([t.columns.vector(v) for v in (*zs, *a)], [*want.z, *want.a])
    got, references = t.rows(LABELS), every(LABELS)
    t.batch([got.z, got.a], [references.z, references.a])


@check("002-08", equations=[15], title="cross entropy of one example (printed: norm, no brackets)")
def cross_entropy(t: Trial) -> None:
    want, y = one(LABELS).loss, LABELS.y[0]
    a = one(LABELS).a[-1]
    parts = [(y[i] * math.log(a[i]), (1 - y[i]) * math.log(1 - a[i])) for i in range(2)]
    t.scalar(-sum(p + q for p, q in parts), want)
    xp, (column, target) = t.xp, (t.put(a), t.put(y))
    t.example(-xp.sum(target * xp.log(column) + (1.0 - target) * xp.log(1.0 - column)), want)
    loss = BinaryCrossEntropy(from_logits=False)
    t.batch(loss.per_example(t.put(every(LABELS).a[-1]), t.put(LABELS.y)), every(LABELS).loss)
    logits = BinaryCrossEntropy().per_example(t.put(every(LABELS).z[-1]), t.put(LABELS.y))
    t.batch(logits, every(LABELS).loss)
    t.differ(-sum((p + q) ** 2 for p, q in parts), want, "the squared norm and the sum")
    t.differ(-sum(p for p, _ in parts) + sum(q for _, q in parts), want, "the sum with and without brackets")
    categorical = [TERMS["categorical"].value(y[i], a[i]) for i in range(2)]
    t.differ(sum(categorical), want, "the categorical and the binary cross entropy")


@check("002-09", title="(y, yhat) = (1, 0), (0, 1): inf; (1, 1), (0, 0): 0; never nan")
def edge_cases(t: Trial) -> None:
    y, yhat, want = [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [math.inf, math.inf, 0.0, 0.0]
    t.scalar([TERMS["binary"].value(*pair) for pair in zip(y, yhat, strict=True)], want)
    predictions, targets = ([[v] for v in values] for values in (yhat, y))
    loss = BinaryCrossEntropy(from_logits=False)
    t.batch(loss.per_example(t.put(predictions), t.put(targets)), want)
    _, gradient = loss.value_and_grad(t.put(predictions), t.put(targets))
    t.require(not any(math.isnan(v) for v in flat(t.host(gradient))), f"the gradient is {t.host(gradient)}")


@check("002-11", title="likelihoods: Gauss and squares, Bernoulli and cross entropy")
def likelihoods(t: Trial) -> None:
    y, a = LABELS.y, every(LABELS).a[-1]
    pairs = [list(zip(*both, strict=True)) for both in zip(y, a, strict=True)]
    densities = [[math.exp(-((v - p) ** 2) / 2) / math.sqrt(2 * math.pi) for v, p in row] for row in pairs]
    gauss = [-sum(math.log(d) for d in row) - len(row) * math.log(2 * math.pi) / 2 for row in densities]
    want = [sum(exact(TERMS["half"].value, v, p) for v, p in row) for row in pairs]
    t.scalar(gauss, want)
    t.batch(SquaredError(half=True).per_example(t.put(a), t.put(y)), gauss)
    bernoulli = [-math.log(math.prod(p**v * (1 - p) ** (1 - v) for v, p in row)) for row in pairs]
    t.scalar(bernoulli, every(LABELS).loss)
    t.batch(BinaryCrossEntropy(from_logits=False).per_example(t.put(a), t.put(y)), bernoulli)


class Watched:
    """An array that writes down what is done with it: the operation and the shapes that meet."""

    def __init__(self, array: Any, seen: list[tuple[Any, ...]]):
        self.array, self.seen = array, seen

    def _met(self, name: str, other: Any, result: Any) -> "Watched":
        self.seen.append((name, tuple(self.array.shape), tuple(other.shape)))
        return Watched(result, self.seen)

    def __matmul__(self, other: Any) -> "Watched":
        return self._met("@", other, self.array @ other)

    def __add__(self, other: Any) -> "Watched":
        return self._met("+", other, self.array + other)


@check("002-12", equations=range(16, 22), title="M examples at once: Z = W A + B, B never made")
def batch_forward(t: Trial) -> None:
    want, xp, stages = every(LABELS), t.xp, LABELS.stages
    W, A, b = t.put(stages[0].W), xp.matrix_transpose(t.put(LABELS.x)), t.columns.column(stages[0].b)
    M = LABELS.examples
    B = xp.broadcast_to(b, (4, M))
    shapes = [tuple(v.shape) for v in (W @ A + B, W, A, W @ A, B)]
    t.require(shapes == [(4, M), (4, 3), (3, M), (4, M), (4, M)], f"the dimensions are {shapes}")
    t.example(xp.matrix_transpose(W @ A + b), want.z[0])
    t.scalar([scalar.weighted_inputs(stages[0], x) for x in LABELS.x], want.z[0])
    got = t.rows(LABELS)
    t.batch([got.z, got.a], [want.z, want.a])
    seen = list[tuple[Any, ...]]()
    params = {"W": xp.matrix_transpose(W), "b": t.put(stages[0].b)}
    z, _ = Dense(4).forward(params, Watched(t.put(LABELS.x), seen), library.context(t.backend))
    t.batch(z.array, want.z[0])
    t.require(seen == [("@", (M, 3), (3, 4)), ("+", (M, 4), (4,))], f"the layer computed {seen}")


@check("002-13", equations=[22, 23], title="one loss for each example of a batch")
def loss_vector(t: Trial) -> None:
    want = every(LABELS)
    a, y = want.a[-1], LABELS.y
    t.scalar([scalar.loss_of("binary", y[m], a[m]) for m in range(len(y))], want.loss)
    columns = [t.columns.column(v) for v in (y[0], a[0])]
    xp, (target, yhat) = t.xp, columns
    t.example(-xp.sum(target * xp.log(yhat) + (1.0 - target) * xp.log(1.0 - yhat)), want.loss[0])
    vector = BinaryCrossEntropy(from_logits=False).per_example(t.put(a), t.put(y))
    t.require(tuple(vector.shape) == (LABELS.examples,), f"the loss vector has the shape {tuple(vector.shape)}")
    t.batch(vector, want.loss)
    t.batch(BinaryCrossEntropy(from_logits=False, reduction="none")(t.put(a), t.put(y)), want.loss)


@check("002-14", equations=[24], title="the cost is the mean over the examples, whatever the batch size")
def cost(t: Trial) -> None:
    want, M = every(LABELS), LABELS.examples
    mean = sum(want.loss) / M
    t.scalar(-sum(weighted_log(y, a) + weighted_log(1 - y, 1 - a) for y, a in _pairs(LABELS)) / M, mean)
    a, y = t.put(want.a[-1]), t.put(LABELS.y)
    loss = BinaryCrossEntropy(from_logits=False)
    t.batch(loss(a, y), mean)
    t.batch(loss(t.xp.concat([a, a]), t.xp.concat([y, y])), mean)
    value, grads = t.network(LABELS).value_and_grad(LABELS.x, LABELS.y, loss)
    t.batch(value, mean)
    twice, same = t.network(LABELS).value_and_grad(LABELS.x * 2, LABELS.y * 2, loss)
    t.batch([twice, same.flat], [mean, t.host(grads.flat)])


def _pairs(problem: Problem) -> list[tuple[float, float]]:
    """(target, prediction) of every output of every example."""
    return list(zip(flat(problem.y), flat(every(problem).a[-1]), strict=True))


@check("002-24", equations=[51], title="sigma(z) = 1 / (1 + exp(-z)) and its derivative")
def sigmoid_equation(t: Trial) -> None:
    points = [-4.0, -1.0, 0.0, 0.5, 3.0]
    want = [exact(scalar.sigmoid, p) for p in points], [quotient(scalar.sigmoid, p) for p in points]
    t.scalar([[1 / (1 + math.exp(-p)) for p in points], [scalar.slope("sigmoid", [p], 0, 0) for p in points]], want)
    z = t.columns.column(points)
    jacobian = t.columns.by_weighted_inputs("sigmoid", z)
    t.example(t.columns.vector(t.columns.activations("sigmoid", z)), want[0])
    t.example(t.xp.sum(jacobian, axis=1), want[1])
    t.batch([t.backend.apply(f, t.put(points)) for f in (sigmoid, sigmoid.derivative)], want)

"""Document 003: a chapter in Jacobians (numerator layout), and the gradients of a whole data set."""

import math
import random
from functools import partial
from typing import Any

from xmlp.layers import Activation, Dense
from xmlp.model.mlp import mlp
from xmlp.model.network import Network
from xmlp.model.trainer import Trainer
from xmlp.optimizers import Adam
from xmlp.verify import library, scalar
from xmlp.verify.backward import EVERYTHING
from xmlp.verify.core import Trial, check
from xmlp.verify.forward import LABELS
from xmlp.verify.scalar import Problem, every, jacobian, lift, one, stacked, total, transposed
from xmlp.verify.small_network import DEEP

MIXED = Problem((3, 4, 3, 2), ("relu", "sigmoid", "identity"), "squared")


@check("003-01", title="regression and classification; one target may be (N,) or (N, 1)")
def targets(t: Trial) -> None:
    single = Problem((3, 4, 1), ("tanh", "identity"), "squared")
    network, want = t.network(single), every(single)
    t.require(tuple(network.predict(single.x).shape) == (single.examples, 1), "the prediction is not (N, 1)")
    for y in (single.y, [row[0] for row in single.y]):
        value, grads = network.value_and_grad(single.x, y, library.loss_of("squared"))
        t.batch([value, grads[0]["b"]], [sum(want.loss), want.db[0]])
    classes = Problem((3, 4, 3), ("tanh", "softmax"), "categorical")
    labels = [row.index(1.0) for row in classes.y]
    for y in (classes.y, labels):
        value, grads = t.network(classes).value_and_grad(classes.x, y, library.loss_of("categorical"))
        t.batch([value, grads[0]["b"]], [sum(every(classes).loss), every(classes).db[0]])


@check("003-02", title="hidden layers are chosen, inputs and outputs follow from the data")
def sizes(t: Trial) -> None:
    x, y = DEEP.x, DEEP.y
    for hidden in ([], [3], [5, 2]):
        network = mlp([len(x[0]), *hidden, len(y[0])], backend=t.backend)
        t.require(tuple(network.predict(x).shape) == (len(x), len(y[0])), f"hidden layers {hidden}")
        t.require(network.layout.layers == len(hidden) + 1, f"{network.layout.layers} layers")
    inputs, outputs = mlp([4, 3, 2], backend=t.backend), mlp([3, 3, 1], backend=t.backend)
    t.refuses(ValueError, "features", lambda: inputs.predict(x))
    t.refuses(ValueError, "(N, 1)", lambda: outputs.value_and_grad(x, y, "squared_error"))


@check("003-03", title="h = W z + c, z = f(h), with an f for each layer")
def layers(t: Trial) -> None:
    want = one(MIXED)
    t.scalar(scalar.forward(MIXED.stages, MIXED.x[0]), [want.z, want.a])
    zs, a = t.columns.forward(MIXED.stages, MIXED.x[0])
    t.example([t.columns.vector(v) for v in (*zs, *a)], [*want.z, *want.a])
    got, references = t.rows(MIXED), every(MIXED)
    t.batch([got.z, got.a], [references.z, references.a])
    t.batch(t.network(MIXED).forward(MIXED.x)[0], references.a[-1])


@check("003-04", title="|x|: exact by hand, learned by ReLUs, not by a line")
def absolute_value(t: Trial) -> None:
    stages = [
        scalar.Stage([[1.0], [-1.0]], [0.0, 0.0], "relu"),
        scalar.Stage([[1.0, 1.0]], [0.0], "identity"),
    ]
    x = [[-2.0 + 0.25 * k] for k in range(17)]
    want = [[abs(v)] for (v,) in x]
    t.scalar([scalar.forward(stages, row)[1][-1] for row in x], want)
    t.example([t.columns.vector(t.columns.forward(stages, row)[1][-1]) for row in x], want)
    network = Network([Dense(2, activation="relu"), Dense(1)], 1, backend=t.backend)
    library.assign(network, stages)
    t.batch(network.forward(x)[0], want)
    t.require(t.host(network.forward(x)[0]) == want, "the network is not exact")
    final = {}
    for activation in ("relu", "identity"):
        start = mlp([1, 8, 1], activation, backend=t.backend, seed=3)
        trainer = Trainer(start, loss="squared_error", optimizer=Adam(0.05))
        final[activation] = trainer.fit(x, want, epochs=150, batch_size=17)["loss"][-1]
    mean = sum(v for (v,) in want) / len(want)
    best_line = sum((v - mean) ** 2 for (v,) in want) / len(want)  # by symmetry it is horizontal
    t.require(final["relu"] < 0.01, f"training from random weights reached {final['relu']:.3f}")
    t.require(final["identity"] > 0.99 * best_line, f"a linear model reached {final['identity']:.3f} < {best_line:.3f}")


@check("003-08", title="numerator layout: dy/dx of m values by n variables is m x n")
def layout(t: Trial) -> None:
    stage = DEEP.stages[0]  # 3 variables, 4 values
    columns = t.columns
    z = columns.column(one(DEEP).z[0])
    shapes = {
        "dL/da": (columns.loss_row("squared", z, z), (1, 4)),
        "da/dz": (columns.by_weighted_inputs("tanh", z), (4, 4)),
        "dz/da": (t.put(stage.W), (4, 3)),
        "dz/dW": (columns.by_weights(t.put(DEEP.x[0]), 4), (4, 4, 3)),
        "dz/dw": (columns.by_flat_weights(t.put(DEEP.x[0]), 4), (4, 12)),
    }
    for name, (array, shape) in shapes.items():
        t.require(tuple(array.shape) == shape, f"{name} has the shape {tuple(array.shape)}")
    network = Network([Dense(4)], 3, backend=t.backend)
    library.assign(network, [stage])
    dx, _ = t.backward(network, [DEEP.x[0]] * 4, columns.eye(4))
    t.require(tuple(dx.shape) == (4, 3), f"the Jacobian of a layer is {tuple(dx.shape)}")
    t.batch(dx, stage.W)


@check("003-09", title="the loss as a vector over the outputs")
def loss_by_output(t: Trial) -> None:
    for name in ("squared", "binary"):
        problem = Problem((3, 4, 2), ("tanh", "sigmoid"), name)
        a, y, term = every(problem).a[-1], problem.y, scalar.TERMS[name].value
        want = [float(sum(lift(scalar.exact(term, y[n][d], a[n][d])) for n in range(len(y)))) for d in range(2)]
        t.scalar([sum(term(y[n][d], a[n][d]) for n in range(len(y))) for d in range(2)], want)
        vector = library.loss_of(name).per_output(t.put(a), t.put(y))
        t.require(tuple(vector.shape) == (2,), f"the loss vector has the shape {tuple(vector.shape)}")
        t.batch(vector, want)


@check("003-10", title="grad h of each layer is computed once and used again")
def computed_once(t: Trial) -> None:
    taps, slopes = [library.Tap() for _ in range(3)], list[str]()

    class Recorder(library.Softsign):
        def deriv(self, z: Any) -> Any:
            slopes.append("f'")
            return super().deriv(z)

    dense = [Dense(4, activation=Recorder()), Dense(3, activation=Recorder()), Dense(2, activation=Recorder())]
    mixed = [layer for pair in zip(dense, taps, strict=True) for layer in pair]
    network = Network(mixed, 3, backend=t.backend)
    problem = Problem((3, 4, 3, 2), ("softsign",) * 3, "squared")
    library.assign(network, problem.stages)
    _, grads = t.backward(network, problem.x, every(problem).da[-1])
    t.require([len(tap.gradients) for tap in taps] == [1, 1, 1], "a gradient came by more than once")
    t.require(len(slopes) == 3, f"the derivatives of 3 activations were computed {len(slopes)} times")
    t.batch([tap.gradients[0] for tap in taps], every(problem).da[1:])
    t.batch([transposed(t.host(g["W"])) for g in grads if g], every(problem).dW)


@check("003-11", title="residual sum of squares: dL/dyhat = -2 (y - yhat)^T, a row")
def squares(t: Trial) -> None:
    want, y, yhat = one(DEEP), DEEP.y[0], one(DEEP).a[-1]
    t.scalar([-2 * (y[d] - yhat[d]) for d in range(2)], want.da[-1])
    t.example(-2.0 * t.xp.matrix_transpose(t.columns.column(y) - t.columns.column(yhat)), [want.da[-1]])
    _, gradient = library.loss_of("squared").value_and_grad(t.put(every(DEEP).a[-1]), t.put(DEEP.y))
    t.batch(gradient, every(DEEP).da[-1])


@check("003-12", title="log loss: dL/dyhat = (-y / yhat + (1 - y) / (1 - yhat))^T")
def log_loss(t: Trial) -> None:
    want, y, p = one(LABELS), LABELS.y[0], one(LABELS).a[-1]
    t.scalar([-y[d] / p[d] + (1 - y[d]) / (1 - p[d]) for d in range(2)], want.da[-1])
    target, output = t.columns.column(y), t.columns.column(p)
    t.example(t.xp.matrix_transpose(-target / output + (1.0 - target) / (1.0 - output)), [want.da[-1]])
    _, gradient = library.loss_of("binary").value_and_grad(t.put(every(LABELS).a[-1]), t.put(LABELS.y))
    t.batch(gradient, every(LABELS).da[-1])


@check("003-13", title="Jacobians of activations: diag(h > 0), diag(s (1 - s)), I")
def activation_jacobians(t: Trial) -> None:
    h = [-1.5, -0.25, 0.5, 2.0]
    for f in ("relu", "sigmoid", "identity"):
        want = jacobian(partial(scalar.activations, f), h)
        t.scalar([[scalar.slope(f, h, i, j) for j in range(4)] for i in range(4)], want)
        t.example(t.columns.by_weighted_inputs(f, t.columns.column(h)), want)
        layer, ctx = Activation(library.activation_of(f)), library.context(t.backend)
        _, cache = layer.forward({}, t.put([h] * 4), ctx)
        t.batch(layer.backward({}, cache, t.columns.eye(4), ctx)[0], want)


@check("003-14", title="dh/dc = I; dh/dW: D x (D x D'), z^T in row i of slice i")
def parameter_jacobians(t: Trial) -> None:
    stage, z = DEEP.stages[1], one(DEEP).a[1]

    by_bias = jacobian(lambda c: scalar.weighted_inputs(scalar.Stage(lift(stage.W), c, ""), lift(z)), stage.b)
    tensor = jacobian(lambda W: scalar.weighted_inputs(scalar.Stage(W, lift(stage.b), ""), lift(z)), stage.W)
    zeros = [0.0] * len(z)
    t.scalar([[z if row == i else zeros for row in range(3)] for i in range(3)], tensor)
    t.scalar([[float(i == j) for j in range(3)] for i in range(3)], by_bias)
    t.example(t.columns.by_weights(t.put(z), 3), tensor)
    t.example(t.columns.eye(3), by_bias)
    network = Network([Dense(3)], 4, backend=t.backend)
    library.assign(network, [stage])
    found = [t.backward(network, [z], [[float(i == j) for j in range(3)]])[1][0] for i in range(3)]
    t.batch([t.xp.matrix_transpose(g["W"]) for g in found], tensor)
    t.batch([g["b"] for g in found], by_bias)


@check("003-15", title="dh/dz = W")
def input_jacobian(t: Trial) -> None:
    stage, z = DEEP.stages[1], one(DEEP).a[1]
    want = jacobian(lambda v: scalar.weighted_inputs(lift(stage), v), z)
    t.scalar(stage.W, want)
    t.example(t.put(stage.W), want)
    network = Network([Dense(3)], 4, backend=t.backend)
    library.assign(network, [stage])
    t.batch(t.backward(network, [z] * 3, t.columns.eye(3))[0], want)


@check("003-16", title="dL/dW2, dL/dc2 by -(y/yhat - (1-y)/(1-yhat)) (printed: +)")
def full_chain(t: Trial) -> None:
    want, problem = one(LABELS), LABELS
    y, yhat, z = problem.y[0], want.a[-1], want.a[1]
    slopes = [scalar.sigmoid(h) * (1 - scalar.sigmoid(h)) for h in want.z[-1]]
    rows = {
        sign: [-(y[i] / yhat[i] + sign * (1 - y[i]) / (1 - yhat[i])) * slopes[i] for i in range(2)] for sign in (-1, 1)
    }
    t.scalar(rows[-1], want.db[-1])
    t.scalar([[v * a for a in z] for v in rows[-1]], want.dW[-1])
    t.require(0.0 in y, "no target is 0, where the signs differ")
    t.differ(rows[1], want.db[-1], "the printed and the right sign")
    columns, xp = t.columns, t.xp
    chain = columns.loss_row("binary", columns.column(y), columns.column(yhat)) @ columns.by_weighted_inputs(
        "sigmoid", columns.column(want.z[-1])
    )
    t.example(chain @ columns.eye(2), [want.db[-1]])
    t.example(xp.tensordot(chain, columns.by_weights(t.put(z), 2), axes=1), [want.dW[-1]])
    network = t.network(problem)
    _, grads = network.value_and_grad([problem.x[0]], [y], library.loss_of("binary"))
    t.batch([grads[-1]["W"], grads[-1]["b"]], [transposed(want.dW[-1]), want.db[-1]])


@check("003-17", title="the gradient of a data set is the sum over its observations")
def data_set(t: Trial) -> None:
    for problem in EVERYTHING:
        want, many = every(problem), range(problem.examples)
        for add, backward in ((t.scalar, scalar.backpropagate), (t.example, t.in_columns)):
            passes = [backward(problem.stages, problem.loss, problem.x[n], problem.y[n]) for n in many]
            summed = stacked(passes)
            add([summed.dW, summed.db], [want.dW, want.db])
        network, loss = t.network(problem), library.loss_of(problem.loss)
        singles = [network.value_and_grad([problem.x[n]], [problem.y[n]], loss)[1].flat for n in many]
        together = network.value_and_grad(problem.x, problem.y, loss)[1].flat
        t.batch(together, total([t.host(g) for g in singles]))
        t.batch(t.rows(problem).dW, want.dW)


@check("003-18", title="all observations at once, a column each, c added to each")
def all_columns(t: Trial) -> None:
    want, xp = every(DEEP), t.xp
    z = xp.matrix_transpose(t.put(DEEP.x))
    for layer, stage in enumerate(DEEP.stages):
        h = t.put(stage.W) @ z + t.columns.column(stage.b)
        z = t.columns.activations(stage.f, h)
        t.example([xp.matrix_transpose(h), xp.matrix_transpose(z)], [want.z[layer], want.a[layer + 1]])
    t.require(tuple(z.shape) == (2, DEEP.examples), f"Yhat^T has the shape {tuple(z.shape)}")
    t.scalar([scalar.forward(DEEP.stages, x)[1][-1] for x in DEEP.x], want.a[-1])
    t.batch(t.network(DEEP).forward(DEEP.x)[0], want.a[-1])


@check("003-19", title="dL/dH = dL/dYhat o dYhat/dH")
def hadamard(t: Trial) -> None:
    want, f = every(LABELS), "sigmoid"
    dY, H, many = want.da[-1], want.z[-1], range(LABELS.examples)
    t.scalar([[dY[n][i] * scalar.slope(f, H[n], i, i) for i in range(2)] for n in many], want.dz[-1])
    a = t.columns.activations(f, t.put(H))
    t.example(t.put(dY) * (a * (1.0 - a)), want.dz[-1])
    layer, ctx = Activation(library.activation_of(f)), library.context(t.backend)
    _, cache = layer.forward({}, t.put(H), ctx)
    t.batch(layer.backward({}, cache, t.put(dY), ctx)[0], want.dz[-1])


@check("003-20", title="dL/dc_i = sum_n dL/dH_in, the row sum")
def row_sum(t: Trial) -> None:
    want, got = every(DEEP), t.rows(DEEP)
    for layer in range(3):
        dH = transposed(want.dz[layer])  # observations in columns
        t.scalar([sum(row) for row in dH], want.db[layer])
        t.example(t.xp.sum(t.put(dH), axis=1), want.db[layer])
        t.batch(got.db[layer], want.db[layer])


@check("003-21", title="dL/dW_ij = sum_n grad H_in Z_jn, dL/dZ_in = sum_r grad H_rn W_ri")
def components(t: Trial) -> None:
    want, got = every(DEEP), t.rows(DEEP)
    many = range(DEEP.examples)
    for layer, (W, c, _) in enumerate(DEEP.stages):
        dH, Z, H = (transposed(v) for v in (want.dz[layer], want.a[layer], want.z[layer]))
        units, inputs = range(len(W)), range(len(Z))
        t.scalar([[sum(dH[i][n] * Z[j][n] for n in many) for j in inputs] for i in units], want.dW[layer])
        t.scalar([[sum(dH[r][n] * W[r][i] for r in units) for i in inputs] for n in many], want.da[layer])
        t.scalar([[sum(W[i][j] * Z[j][n] for j in inputs) + c[i] for n in many] for i in units], H)
        t.differ([[W[i][0] * Z[0][n] for n in many] for i in units], H, "one term and the sum over j")
        grad, weights = t.put(dH), t.put(W)
        t.example(grad @ t.xp.matrix_transpose(t.put(Z)), want.dW[layer])
        t.example(t.xp.matrix_transpose(t.xp.matrix_transpose(weights) @ grad), want.da[layer])
        t.batch([got.dW[layer], got.da[layer]], [want.dW[layer], want.da[layer]])


@check("003-O1", title="dL/dW and dL/dZ by tensor dot products")
def tensor_dot(t: Trial) -> None:
    want, got = every(DEEP), t.rows(DEEP)
    for layer, stage in enumerate(DEEP.stages):
        dH, Z = (t.put(transposed(v)) for v in (want.dz[layer], want.a[layer]))
        by_weights = t.xp.tensordot(dH, Z, axes=((1,), (1,)))
        by_inputs = t.xp.tensordot(t.put(stage.W), dH, axes=((0,), (0,)))
        t.example([by_weights, t.xp.matrix_transpose(by_inputs)], [want.dW[layer], want.da[layer]])
        t.batch([got.dW[layer], got.da[layer]], t.host([by_weights, t.xp.matrix_transpose(by_inputs)]))


@check("003-O2", title="width: too few units underfit, many fit the noise too")
def width_sweep(t: Trial) -> None:
    def noisy(count: int, seed: int) -> tuple[list[list[float]], list[list[float]]]:
        draw = random.Random(seed)
        x = [[-2.0 + 4.0 * k / (count - 1)] for k in range(count)]
        return x, [[math.sin(2 * v) + draw.gauss(0.0, 0.3)] for (v,) in x]

    train, test = noisy(12, 1), noisy(40, 2)
    found = []
    for width in (1, 4, 32):
        trainer = Trainer(
            mlp([1, width, 1], "tanh", backend=t.backend, seed=2), loss="squared_error", optimizer=Adam(0.05)
        )
        trainer.fit(*train, epochs=250, batch_size=12)
        found.append([trainer.evaluate(*data)["loss"] for data in (train, test)])
    (narrow, _), (middle, held), (wide, held_wide) = found
    text = ", ".join(f"{a:.3f}/{b:.3f}" for a, b in found)
    t.require(narrow > 2 * middle and middle > wide, f"the training loss does not fall with the width: {text}")
    t.require(held_wide / wide > held / middle, f"the widest network does not overfit more: {text}")

"""Document 001: a small network class whose loss is the squared norm; rows, and gradients summed over the batch."""

import math
from typing import Any

import xmlp.activations
from xmlp import losses
from xmlp.graph import elementwise
from xmlp.layers import Activation, Dense
from xmlp.model.mlp import mlp
from xmlp.model.network import Network
from xmlp.model.trainer import Trainer
from xmlp.verify import library, scalar
from xmlp.verify.core import Trial, check
from xmlp.verify.scalar import Problem, every, one, quotient, transposed

TANH = Problem((3, 4, 2), ("tanh", "tanh"), "squared")
DEEP = Problem((3, 4, 3, 2), ("tanh", "sigmoid", "tanh"), "squared")
SQUARE = Problem((2, 2, 2), ("tanh", "tanh"), "squared")
OWN = Problem((3, 4, 2), ("softsign", "softsign"), "quartic")


@check("001-01", title="sizes [20, 50, 10]: W 20 x 50 and 50 x 10, b for each unit")
def sizes(t: Trial) -> None:
    network = mlp([20, 50, 10], backend=t.backend)
    shapes = [{name: tuple(array.shape) for name, array in views.items()} for views in network.parameters]
    t.require(shapes == [{"W": (20, 50), "b": (50,)}, {"W": (50, 10), "b": (10,)}], f"the shapes are {shapes}")
    t.require(network.layout.size == 20 * 50 + 50 + 50 * 10 + 10, f"{network.layout.size} parameters")


@check("001-02", title="random normal weights and biases (not uniform in 0..1), seeded")
def random_weights(t: Trial) -> None:
    def drawn(seed: int) -> list[float]:
        dense = Dense(50, kernel_initializer="normal", bias_initializer="normal")
        return t.host(Network([dense], 40, backend=t.backend, seed=seed).theta)  # type: ignore[no-any-return]

    values = drawn(1)
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    t.require(abs(mean) < 0.1 and abs(deviation - 1) < 0.1, f"mean {mean:.3f}, standard deviation {deviation:.3f}")
    outside = sum(not 0 <= v <= 1 for v in values) / len(values)
    t.require(0.55 < outside < 0.75, f"{outside:.2f} of the values lie outside 0..1, of a normal variable 0.66 do")
    t.require(drawn(1) == values and drawn(2) != values, "the seed does not decide the weights")


@check("001-03", title="an activation and a loss are objects with fn and deriv")
def own_functions(t: Trial) -> None:
    stages, x, y = OWN.stages, OWN.x[0], OWN.y[0]
    want, got = every(OWN), t.rows(OWN)
    t.scalar(scalar.backpropagate(stages, OWN.loss, x, y).dW, one(OWN).dW)
    t.example(t.in_columns(stages, OWN.loss, x, y).dW, one(OWN).dW)
    t.batch([got.a, got.loss, got.dW, got.db], [want.a, want.loss, want.dW, want.db])


@check("001-04", title="a single example x (m,) is a batch of one row")
def one_dimension(t: Trial) -> None:
    network = t.network(TANH)
    y, _ = network.forward(TANH.x[0])
    t.require(tuple(y.shape) == (1, 2), f"the output has the shape {tuple(y.shape)}")
    t.batch(y, [one(TANH).a[-1]])
    t.batch(network.predict(t.put(TANH.x[0])), [one(TANH).a[-1]])


@check("001-05", title="f1 = W1 f0 + b1, f2 = a(f1), ...: step by step and in one line")
def recursion(t: Trial) -> None:
    want, (first, second) = one(TANH).a[-1], TANH.stages
    t.scalar(scalar.forward(TANH.stages, TANH.x[0])[1][-1], want)
    xp, put, column = t.xp, t.put, t.columns.column
    unrolled = xp.tanh(put(second.W) @ xp.tanh(put(first.W) @ column(TANH.x[0]) + column(first.b)) + column(second.b))
    t.example(t.columns.vector(unrolled), want)
    t.example(t.columns.vector(t.columns.forward(TANH.stages, TANH.x[0])[1][-1]), want)
    t.batch(t.network(TANH).forward(TANH.x)[0], every(TANH).a[-1])


@check("001-06", title="inputs and outputs may be vectors or matrices")
def vector_or_matrix(t: Trial) -> None:
    network = t.network(TANH)
    together, _ = network.forward(TANH.x)
    apart = [t.host(network.forward(x)[0])[0] for x in TANH.x]
    t.batch(apart, every(TANH).a[-1])
    t.batch(together, every(TANH).a[-1])


@check("001-07", title="the loss ||f4 - Y||^2 (printed: not squared)")
def squared_norm(t: Trial) -> None:
    a, y, want = one(TANH).a[-1], TANH.y[0], one(TANH)
    t.scalar(sum((a[i] - y[i]) ** 2 for i in range(2)), want.loss)
    t.example(t.xp.sum((t.put(a) - t.put(y)) ** 2), want.loss)
    trainer = Trainer(t.network(TANH), loss="squared_error", optimizer="sgd")
    t.batch(trainer.evaluate(TANH.x, TANH.y)["loss"], sum(every(TANH).loss) / TANH.examples)
    gradient = [2 * (a[i] - y[i]) for i in range(2)]
    t.scalar(gradient, quotient(lambda v: sum((v[i] - scalar.lift(y)[i]) ** 2 for i in range(2)), a))
    printed = quotient(lambda v: scalar.root(sum((v[i] - scalar.lift(y)[i]) ** 2 for i in range(2))), a)
    t.differ(gradient, printed, "the gradient of the norm and of its square")


@check("001-08", title="the loss is one more node of the graph")
def loss_is_a_node(t: Trial) -> None:
    squares = losses.SquaredError().formula

    @elementwise
    def f5(f3: Any, target: Any) -> Any:
        return squares(xmlp.activations.tanh(f3), target)

    t.require("tanh" in f5.source and "target" in f5.source, f"the graph of the loss reads {f5.source}")
    z, y = every(TANH).z[-1], TANH.y
    t.batch(t.backend.apply(f5.derivative, t.put(z), t.put(y)), every(TANH).dz[-1])
    t.batch([sum(row) for row in t.host(t.backend.apply(f5, t.put(z), t.put(y)))], every(TANH).loss)


@check("001-09", title="dL/db2 = 2 (Yhat - Y) a'(f3)")
def output_bias(t: Trial) -> None:
    want, y = one(TANH), TANH.y[0]
    yhat, f3 = want.a[-1], want.z[-1]
    t.scalar([2 * (yhat[i] - y[i]) * (1 - scalar.tanh(f3[i]) ** 2) for i in range(2)], want.db[-1])
    t.example(2.0 * (t.put(yhat) - t.put(y)) * (1.0 - t.put(yhat) ** 2), want.db[-1])
    t.batch(t.rows(TANH).db[-1], every(TANH).db[-1])


@check("001-10", title="dL/db1 = 2 (Yhat - Y) a'(f3) . W2 . a'(f1)")
def hidden_bias(t: Trial) -> None:
    want, y, W2 = one(TANH), TANH.y[0], TANH.stages[1].W
    yhat, f2 = want.a[-1], want.a[1]
    delta = [2 * (yhat[i] - y[i]) * (1 - yhat[i] ** 2) for i in range(2)]
    t.scalar([sum(delta[i] * W2[i][k] for i in range(2)) * (1 - f2[k] ** 2) for k in range(4)], want.db[0])
    row = t.xp.reshape(2.0 * (t.put(yhat) - t.put(y)) * (1.0 - t.put(yhat) ** 2), (1, -1))
    t.example((row @ t.put(W2))[0, :] * (1.0 - t.put(f2) ** 2), want.db[0])
    t.batch(t.rows(TANH).db, every(TANH).db)


@check("001-11", title="dL/db_(n-1) = dL/db_n . W_n . a'(z_(n-1)), layer by layer")
def bias_recursion(t: Trial) -> None:
    want, got, references = one(DEEP), t.rows(DEEP), every(DEEP)
    for n in (2, 1):
        W, z, f = DEEP.stages[n].W, want.z[n - 1], DEEP.stages[n - 1].f
        units = range(len(W))
        slopes = [scalar.slope(f, z, k, k) for k in range(len(z))]
        t.scalar([sum(want.db[n][i] * W[i][k] for i in units) * slopes[k] for k in range(len(z))], want.db[n - 1])
        row = t.xp.reshape(t.put(want.db[n]), (1, -1)) @ t.put(W)
        t.example((row @ t.columns.by_weighted_inputs(f, t.columns.column(z)))[0, :], want.db[n - 1])
        t.batch(got.dz[n - 1], references.dz[n - 1])


@check("001-12", title="dL/dW_n = dL/db_n a(z_(n-1)), a(z_0) = X (printed: db_1 in dW_2)")
def weight_from_bias(t: Trial) -> None:
    for problem in (DEEP, SQUARE):
        want, references, got = one(problem), every(problem), t.rows(problem)
        for n in range(len(problem.stages)):
            t.scalar([[db * a for a in want.a[n]] for db in want.db[n]], want.dW[n])
            t.example(t.columns.column(want.db[n]) @ t.xp.reshape(t.put(want.a[n]), (1, -1)), want.dW[n])
            t.batch(got.dW[n], references.dW[n])
    want = one(SQUARE)
    t.differ([[db * a for a in want.a[1]] for db in want.db[0]], want.dW[1], "db_1 and db_2 in dL/dW_2")


@check("001-13", title="forward keeps z and a(z), backward runs nothing forward again")
def kept(t: Trial) -> None:
    got, want = t.rows(DEEP), every(DEEP)
    t.batch([got.z, got.a], [want.z, want.a])
    calls = list[str]()

    class Recorder(library.Softsign):
        def fn(self, z: Any) -> Any:
            calls.append("fn")
            return super().fn(z)

        def deriv(self, z: Any) -> Any:
            calls.append("deriv")
            return super().deriv(z)

    network = Network([Activation(Recorder())], 2, backend=t.backend)
    t.backward(network, [[1.0, -1.0]], [[1.0, 1.0]])
    t.require(calls == ["fn", "deriv"], f"forward and backward ran {calls}")


@check("001-14", title="the gradient of a bias is summed over the batch")
def bias_of_batch(t: Trial) -> None:
    network, want = t.network(TANH), every(TANH)
    _, grads = t.backward(network, TANH.x, want.da[-1])
    t.batch([g["b"] for g in grads], want.db)
    singles = []
    for n in range(TANH.examples):
        _, grads = t.backward(network, TANH.x[n], [want.da[-1][n]])
        singles.append([t.host(g["b"]) for g in grads])
    t.batch(scalar.total(singles), want.db)
    t.scalar(scalar.total([one(TANH, n).dz for n in range(TANH.examples)]), want.db)


@check("001-15", title="dW = activations^T delta")
def weights_of_batch(t: Trial) -> None:
    want, got = every(TANH), t.rows(TANH)
    for layer in range(2):
        a, delta, many = want.a[layer], want.dz[layer], range(TANH.examples)
        t.scalar(
            [[sum(a[n][k] * delta[n][i] for n in many) for k in range(len(a[0]))] for i in range(len(delta[0]))],
            want.dW[layer],
        )
        t.example(t.xp.matrix_transpose(t.xp.matrix_transpose(t.put(a)) @ t.put(delta)), want.dW[layer])
        t.batch(got.dW[layer], want.dW[layer])


def printed_backprop(t: Trial, problem: Problem) -> tuple[list[Any], list[Any]]:
    """The loop of the document as it is printed, on rows: w_grad and b_grad, appended from the last layer on."""
    xp, activ, w_grad, b_grad = t.xp, xmlp.activations.tanh, [], list[Any]()
    weights, x = [t.put(transposed(s.W)) for s in problem.stages], t.put(problem.x)
    z, activations, deltas = [], [x], list[Any]()
    for w, stage in zip(weights, problem.stages, strict=True):
        z.append(x @ w + t.put(stage.b))
        x = xp.tanh(z[-1])
        activations.append(x)
    for i in range(len(z)):
        slope = t.backend.apply(activ.derivative, z[-i - 1])
        if i == 0:
            deltas.append(2.0 * (activations[-1] - t.put(problem.y)) * slope)
        else:
            deltas.append(deltas[i - 1] @ xp.matrix_transpose(weights[-i]) * slope)
        b_grad.append(xp.sum(deltas[i], axis=0))
        w_grad.append(xp.matrix_transpose(activations[-2 - i]) @ deltas[i])
    return w_grad, b_grad


@check("001-16", title="gradients first layer first (the printed loop: last first)")
def order(t: Trial) -> None:
    for problem in (TANH, SQUARE):
        want, network = every(problem), t.network(problem)
        w_grad, b_grad = printed_backprop(t, problem)
        t.example([t.xp.matrix_transpose(w) for w in reversed(w_grad)], want.dW)
        t.example(b_grad[::-1], want.db)
        _, grads = t.backward(network, problem.x, want.da[-1])
        for gradient, views in zip(grads, network.parameters, strict=True):
            shapes = [{name: tuple(a.shape) for name, a in arrays.items()} for arrays in (gradient, views)]
            t.require(shapes[0] == shapes[1], f"gradients of the shapes {shapes[0]} for parameters {shapes[1]}")
        t.batch([transposed(t.host(g["W"])) for g in grads], want.dW)
        t.batch([g["b"] for g in grads], want.db)
    t.differ(b_grad, want.db, "the order of the printed loop and of the layers")


@check("001-17", title="an activation is fixed: it has no parameters")
def fixed_activation(t: Trial) -> None:
    functions = {name: library.activation_of(name) for name in xmlp.activations.ACTIVATIONS}
    counts = {name: mlp([2, 3, 1], f, backend=t.backend).layout.size for name, f in functions.items()}
    t.require(set(counts.values()) == {2 * 3 + 3 + 3 + 1}, f"parameters by activation: {counts}")
    for name, f in functions.items():
        t.require(Activation(f).build(5) == (5, {}), f"{name} has parameters")


@check("001-O2", title="predictions as labels")
def labels(t: Trial) -> None:
    problem = Problem((3, 4, 3), ("tanh", "softmax"), "categorical", examples=6)
    probabilities = every(problem).a[-1]
    want = [row.index(max(row)) for row in probabilities]
    t.require(len(set(want)) > 1, "the example has one class only")
    t.scalar([scalar.forward(problem.stages, x)[1][-1] for x in problem.x], probabilities)
    network = t.network(problem)
    t.batch(network.predict_proba(problem.x), probabilities)
    t.batch(network.predict_label(problem.x), want)

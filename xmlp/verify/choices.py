"""The choices where the documents disagree, D1 to D7: layout, reduction, shape of the loss, and so on."""

import math

from xmlp import losses
from xmlp.layers import Dense
from xmlp.losses import BinaryCrossEntropy, SquaredError
from xmlp.model.mlp import mlp
from xmlp.model.network import Network
from xmlp.verify import scalar
from xmlp.verify.core import Trial, check
from xmlp.verify.forward import LABELS
from xmlp.verify.scalar import Problem, every, flat, one, scaled, transposed
from xmlp.verify.small_network import DEEP, TANH


@check("D1", title="rows or columns: x W = (W^T x^T)^T, gradients too")
def orientation(t: Trial) -> None:
    want, xp = every(TANH), t.xp
    network = t.network(TANH)
    _, grads = t.backward(network, TANH.x, want.da[-1])
    columns = xp.matrix_transpose(t.put(TANH.x))
    for layer, stage in enumerate(TANH.stages):
        W = t.put(stage.W)
        t.batch(network.parameters[layer]["W"], t.host(xp.matrix_transpose(W)))
        H = W @ columns + t.columns.column(stage.b)
        t.example(H, transposed(want.z[layer]))
        t.scalar([scalar.weighted_inputs(stage, a) for a in want.a[layer]], want.z[layer])
        delta = t.put(transposed(want.dz[layer]))
        in_columns = delta @ xp.matrix_transpose(columns)
        t.example(in_columns, want.dW[layer])
        t.batch(grads[layer]["W"], t.host(xp.matrix_transpose(in_columns)))
        columns = t.columns.activations(stage.f, H)
    t.batch(network.forward(TANH.x)[0], t.host(xp.matrix_transpose(columns)))


@check("D2", title="reduction none, sum, mean; sum = M mean, gradients too")
def reductions(t: Trial) -> None:
    want, M = every(TANH), TANH.examples
    a, y = t.put(want.a[-1]), t.put(TANH.y)
    t.scalar([scalar.loss_of("squared", TANH.y[n], want.a[-1][n]) for n in range(M)], want.loss)
    none, summed, mean = (SquaredError(reduction=r) for r in ("none", "sum", "mean"))
    t.batch([none(a, y), summed(a, y), mean(a, y)], [want.loss, sum(want.loss), sum(want.loss) / M])
    t.batch(summed.value_and_grad(a, y)[1], want.da[-1])
    t.batch(mean.value_and_grad(a, y)[1], scaled(want.da[-1], 1 / M))
    network = t.network(TANH)
    (_, by_sum), (_, by_mean) = (network.value_and_grad(TANH.x, TANH.y, loss) for loss in (summed, mean))
    t.batch(by_sum.flat, t.host(M * by_mean.flat))
    t.batch(by_sum[0]["b"], want.db[0])
    t.refuses(ValueError, "none", lambda: none.value_and_grad(a, y))


@check("D3", title="one matrix of loss terms, summed per example or per output")
def shape_of_loss(t: Trial) -> None:
    a, y, M = every(LABELS).a[-1], LABELS.y, LABELS.examples
    terms = [[scalar.TERMS["binary"].value(y[n][d], a[n][d]) for d in range(2)] for n in range(M)]
    t.scalar([sum(row) for row in terms], every(LABELS).loss)
    loss = BinaryCrossEntropy(from_logits=False)
    by_example, by_output = loss.per_example(t.put(a), t.put(y)), loss.per_output(t.put(a), t.put(y))
    t.batch(by_example, every(LABELS).loss)
    t.batch(by_output, [sum(column) for column in transposed(terms)])
    t.batch(t.xp.sum(by_example), t.host(t.xp.sum(by_output)))
    t.batch(loss(t.put(a), t.put(y)), sum(every(LABELS).loss) / M)


@check("D4", title="biases are optional and start at zero")
def biases(t: Trial) -> None:
    network = Network([Dense(4), Dense(2, use_bias=False)], 3, backend=t.backend)
    t.require([set(views) for views in network.parameters] == [{"W", "b"}, {"W"}], "use_bias is not heeded")
    t.batch(network.parameters[0]["b"], [0.0] * 4)
    t.require(any(flat(t.host(network.parameters[0]["W"]))), "the weights start at zero, too")
    random = Network([Dense(4, bias_initializer="normal")], 3, backend=t.backend)
    t.differ(random.parameters[0]["b"], [0.0] * 4, "random biases and zeros")


@check("D5", title="squared error: gradient 2 (yhat - y), with half=True yhat - y")
def half_squares(t: Trial) -> None:
    for name, half in (("squared", False), ("half", True)):
        problem = Problem(TANH.sizes, TANH.functions, name)
        want, y, yhat = every(problem), problem.y, every(problem).a[-1]
        factor = 1.0 if half else 2.0
        t.scalar([[factor * (yhat[n][d] - y[n][d]) for d in range(2)] for n in range(len(y))], want.da[-1])
        t.example(factor * (t.put(yhat[0]) - t.put(y[0])), want.da[-1][0])
        loss = SquaredError(half=half, reduction="sum")
        value, gradient = loss.value_and_grad(t.put(yhat), t.put(y))
        t.batch([value, gradient], [sum(want.loss), want.da[-1]])


@check("D6", title="activations by layer; raw output, its link by task")
def output_activation(t: Trial) -> None:
    same = Problem((3, 4, 2), ("tanh", "tanh"), "squared")  # document 001: the same everywhere
    by_task = Problem((3, 4, 2), ("tanh", "sigmoid"), "binary")  # documents 002 and 003: by task
    for problem in (same, by_task, DEEP):
        t.scalar(scalar.forward(problem.stages, problem.x[0])[1][-1], one(problem).a[-1])
        t.example(t.columns.vector(t.columns.forward(problem.stages, problem.x[0])[1][-1]), one(problem).a[-1])
        t.batch(t.network(problem).forward(problem.x)[0], every(problem).a[-1])
    x = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    for y, outputs, link in (([0, 1, 2], 3, "softmax"), ([[0.5], [1.5], [2.0]], 1, "identity")):
        network = mlp([2, 3, outputs], backend=t.backend)
        t.require(network.link == "identity", "the output is not raw")
        network.fit(x, y, epochs=1)
        t.require(network.link == link, f"the link is {network.link}, not {link}")
    t.require(
        mlp([2, 1], output_activation="sigmoid", backend=t.backend).link == "sigmoid", "the link is not the sigmoid"
    )


@check("D7", title="probabilities 0 and 1: inf or 0, never nan; logits: finite")
def exact_probabilities(t: Trial) -> None:
    p, y = [[0.0, 1.0, 0.5]], [[1.0, 1.0, 0.0]]
    t.scalar(
        [scalar.TERMS["binary"].value(a, b) for a, b in zip(y[0], p[0], strict=True)], [math.inf, 0.0, math.log(2)]
    )
    at_probabilities = BinaryCrossEntropy(from_logits=False)
    t.batch(at_probabilities.per_output(t.put(p), t.put(y)), [math.inf, 0.0, math.log(2)])
    softmax = losses.SoftmaxCrossEntropy(from_logits=False)
    t.batch(softmax.per_example(t.put([[0.0, 1.0], [1.0, 0.0]]), t.put([[0.0, 1.0], [0.0, 1.0]])), [0.0, math.inf])
    z, targets = [[-1000.0, 1000.0, 0.0]], [[1.0, 1.0, 0.0]]
    t.batch(BinaryCrossEntropy().per_output(t.put(z), t.put(targets)), [1000.0, 0.0, math.log(2)])
    for loss in (at_probabilities, softmax):
        _, gradient = loss.value_and_grad(t.put([[0.0, 1.0]]), t.put([[0.0, 1.0]]))
        t.require(not any(map(math.isnan, flat(t.host(gradient)))), f"{loss.name}: the gradient is {t.host(gradient)}")

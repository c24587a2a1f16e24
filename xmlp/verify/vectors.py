"""Document 000: from one unit to vectors, with sigmoids, without biases, for any error function."""

from functools import partial
from typing import Any

from xmlp.activations import sigmoid
from xmlp.graph.node import walk
from xmlp.layers import Activation, Dense
from xmlp.verify import library, scalar
from xmlp.verify.core import Trial, check
from xmlp.verify.scalar import Problem, every, one, total

ONE_OUTPUT = Problem((3, 4, 1), ("sigmoid", "sigmoid"), "squared", bias=False)
TWO_OUTPUTS = Problem((3, 4, 2), ("sigmoid", "sigmoid"), "quartic", bias=False)


@check("000-01", title="one unit: z_i = theta_i x, a_i = sigma(z_i)")
def unit(t: Trial) -> None:
    want, theta, x = one(ONE_OUTPUT), ONE_OUTPUT.stages[0].W[1], ONE_OUTPUT.x[0]
    z = 0.0
    for k in range(len(x)):
        z += theta[k] * x[k]
    t.scalar([z, scalar.sigmoid(z)], [want.z[0][1], want.a[1][1]])
    column = t.xp.sum(t.put(theta) * t.put(x))
    t.example([column, t.columns.activations("sigmoid", column)], [want.z[0][1], want.a[1][1]])
    got, all_examples = t.rows(ONE_OUTPUT), every(ONE_OUTPUT)
    for rows, reference in ((got.z[0], all_examples.z[0]), (got.a[1], all_examples.a[1])):
        t.batch([row[1] for row in rows], [row[1] for row in reference])


@check("000-02", title="a layer as a matrix: z = Theta x, Theta n x m")
def layer(t: Trial) -> None:
    want, stage = one(TWO_OUTPUTS), TWO_OUTPUTS.stages[0]
    t.scalar(scalar.weighted_inputs(stage, TWO_OUTPUTS.x[0]), want.z[0])
    theta = t.put(stage.W)
    t.require(tuple(theta.shape) == (4, 3), "Theta is not n x m")
    t.example(t.columns.vector(theta @ t.columns.column(TWO_OUTPUTS.x[0])), want.z[0])
    t.batch(t.rows(TWO_OUTPUTS).z[0], every(TWO_OUTPUTS).z[0])
    t.require(tuple(t.network(TWO_OUTPUTS).parameters[0]["W"].shape) == (3, 4), "W of the library is not m x n")


@check("000-03", title="any number of hidden layers and of outputs")
def depths(t: Trial) -> None:
    for depth in (1, 2, 4):
        for outputs in (1, 3):
            sizes = (3, *[3] * (depth - 1), outputs)
            problem = Problem(sizes, ("sigmoid",) * depth, "squared", bias=False)
            want, got = every(problem), t.rows(problem)
            stages, x, y = problem.stages, problem.x[0], problem.y[0]
            t.scalar(scalar.backpropagate(stages, problem.loss, x, y).dW, one(problem).dW)
            t.example(t.in_columns(stages, "squared", x, y).dW, one(problem).dW)
            t.batch([got.a[-1], got.dW], [want.a[-1], want.dW])


@check("000-04", title="a layer without bias has no bias and no gradient of one")
def no_bias(t: Trial) -> None:
    network = t.network(TWO_OUTPUTS)
    _, grads = t.backward(network, TWO_OUTPUTS.x, t.put(TWO_OUTPUTS.y))
    for views in (*network.parameters, *grads):
        t.require(set(views) == {"W"}, f"parameters or gradients are {sorted(views)}")
    t.require(network.layout.size == 3 * 4 + 4 * 2, f"{network.layout.size} parameters")
    x = [[0.0] * 3]
    t.scalar(scalar.forward(TWO_OUTPUTS.stages, x[0])[1][1], [0.5] * 4)
    t.batch(network.layers[0].forward(network.parameters[0], t.put(x), library.context(t.backend))[0], [[0.5] * 4])


@check("000-05", title="loss-agnostic: backpropagation needs dE/da of the output only")
def any_loss(t: Trial) -> None:
    problem, want = TWO_OUTPUTS, one(TWO_OUTPUTS)
    stages, x, y = problem.stages, problem.x[0], problem.y[0]
    t.scalar(scalar.backpropagate(stages, problem.loss, x, y).dW, want.dW)
    t.example(t.in_columns(stages, problem.loss, x, y).dW, want.dW)
    network = t.network(problem)
    value, grads = network.value_and_grad(problem.x, problem.y, library.Quartic())
    references = every(problem)
    mean = 1 / problem.examples
    t.batch(value, sum(references.loss) * mean)
    t.batch([g["W"] for g in grads], [scalar.scaled(scalar.transposed(dW), mean) for dW in references.dW])
    _, grads = t.backward(network, problem.x, references.da[-1])
    t.batch([g["W"] for g in grads], [scalar.transposed(dW) for dW in references.dW])


@check("000-06", title="backward needs the caches of a forward pass")
def needs_forward(t: Trial) -> None:
    network = t.network(TWO_OUTPUTS)
    passed: Any = network.forward(TWO_OUTPUTS.x)
    y, caches = passed
    nothings: list[Any] = [None, [], caches[:1]]
    for nothing in nothings:
        t.refuses(ValueError, "forward", partial(network.backward, nothing, y))
    _, grads = network.backward(caches, every(TWO_OUTPUTS).da[-1])
    t.batch(grads[0]["W"], scalar.transposed(every(TWO_OUTPUTS).dW[0]))


@check("000-07", title="dE/dz = dE/da sigma(z) (1 - sigma(z))")
def through_sigmoid(t: Trial) -> None:
    want = one(TWO_OUTPUTS)
    z, da = want.z[-1], want.da[-1]
    s = [scalar.sigmoid(v) for v in z]
    t.scalar([da[i] * s[i] * (1 - s[i]) for i in range(2)], want.dz[-1])
    a = t.columns.activations("sigmoid", t.put(z))
    t.example(t.put(da) * a * (1.0 - a), want.dz[-1])
    references, ctx = every(TWO_OUTPUTS), library.context(t.backend)
    _, cache = Activation("sigmoid").forward({}, t.put(references.z[-1]), ctx)
    t.batch(Activation("sigmoid").backward({}, cache, t.put(references.da[-1]), ctx)[0], references.dz[-1])


@check("000-08", title="the derivative of the sigmoid from its output, no second exp")
def from_output(t: Trial) -> None:
    want = one(TWO_OUTPUTS)
    pullback = sigmoid.pullback
    t.require(pullback.reads == {"output", "dy"}, f"the pullback reads {sorted(pullback.reads)}")
    operations = {node.op for node in walk(*pullback.graph.outputs)}
    t.require(not operations & {"exp", "expm1", "tanh"}, f"the pullback computes {sorted(operations)}")
    da, a = want.da[-1], want.a[-1]
    t.scalar([da[i] * (a[i] * (1 - a[i])) for i in range(2)], want.dz[-1])
    t.batch(t.backend.apply(pullback, None, t.put(a), t.put(da)), want.dz[-1])


@check("000-09", title="dE/dTheta_i = dE/dz a_i")
def weight_gradient(t: Trial) -> None:
    want = one(ONE_OUTPUT)
    dz, a = want.dz[-1][0], want.a[-2]
    t.scalar([dz * a[i] for i in range(len(a))], want.dW[-1][0])
    t.example(dz * t.put(a), want.dW[-1][0])
    t.batch(t.rows(ONE_OUTPUT).dW[-1], every(ONE_OUTPUT).dW[-1])


@check("000-10", title="dE/da_i = dE/dz Theta_i")
def activation_gradient(t: Trial) -> None:
    want, theta = one(ONE_OUTPUT), ONE_OUTPUT.stages[-1].W[0]
    dz = want.dz[-1][0]
    t.scalar([dz * theta[i] for i in range(len(theta))], want.da[-2])
    t.example(dz * t.put(theta), want.da[-2])
    t.batch(t.rows(ONE_OUTPUT).da[-2], every(ONE_OUTPUT).da[-2])


@check("000-11", title="dE/dz = dE/da o sigma(z) o (1 - sigma(z)) for a hidden layer")
def hadamard(t: Trial) -> None:
    want = one(TWO_OUTPUTS)
    da, a = want.da[1], want.a[1]
    t.scalar([da[i] * a[i] * (1 - a[i]) for i in range(4)], want.dz[0])
    t.example(t.put(da) * t.put(a) * (1.0 - t.put(a)), want.dz[0])
    t.batch(t.rows(TWO_OUTPUTS).dz, every(TWO_OUTPUTS).dz)


@check("000-12", title="dE/dTheta_i: = dE/dz_i a, row by row")
def row_form(t: Trial) -> None:
    want, x = one(TWO_OUTPUTS), TWO_OUTPUTS.x[0]
    t.scalar([[dz * v for v in x] for dz in want.dz[0]], want.dW[0])
    t.example(t.xp.stack([dz * t.put(x) for dz in want.dz[0]]), want.dW[0])
    _, grads = t.backward(t.network(TWO_OUTPUTS), x, [want.da[-1]])
    t.batch([grads[0]["W"][:, i] for i in range(4)], want.dW[0])


@check("000-13", title="dE/dTheta = dE/dz (x) a; in a batch the sum of outer products")
def outer(t: Trial) -> None:
    want, x = one(TWO_OUTPUTS), TWO_OUTPUTS.x[0]
    t.scalar([[want.dz[0][i] * x[j] for j in range(3)] for i in range(4)], want.dW[0])
    t.example(t.xp.tensordot(t.put(want.dz[0]), t.put(x), axes=0), want.dW[0])
    references, ctx = every(TWO_OUTPUTS), library.context(t.backend)
    outers = [[[dz * v for v in x] for dz in d] for d, x in zip(references.dz[0], TWO_OUTPUTS.x, strict=True)]
    W = t.put(scalar.transposed(TWO_OUTPUTS.stages[0].W))
    _, grads = Dense(4, use_bias=False).backward({"W": W}, (t.put(TWO_OUTPUTS.x), None), t.put(references.dz[0]), ctx)
    t.batch(t.xp.matrix_transpose(grads["W"]), total(outers))


@check("000-14", title="gradient by the input: dE/dx = Theta^T dE/dz")
def input_gradient(t: Trial) -> None:
    want, theta = one(TWO_OUTPUTS), TWO_OUTPUTS.stages[0].W
    dz = want.dz[0]
    t.scalar([sum(dz[i] * theta[i][j] for i in range(4)) for j in range(3)], want.da[0])
    t.example(t.columns.vector(t.xp.matrix_transpose(t.put(theta)) @ t.columns.column(dz)), want.da[0])
    network = t.network(TWO_OUTPUTS)
    dx, _ = t.backward(network, TWO_OUTPUTS.x, every(TWO_OUTPUTS).da[-1])
    t.batch(dx, every(TWO_OUTPUTS).da[0])
    t.batch(t.rows(TWO_OUTPUTS).da, every(TWO_OUTPUTS).da)

"""Document 002, the second half: backpropagation (eq. 25 to 50), and the equations that it leaves open."""

from collections.abc import Callable
from functools import partial
from typing import Any

from xmlp.activations import softmax
from xmlp.layers import Activation, Dense
from xmlp.losses import BinaryCrossEntropy, SoftmaxCrossEntropy
from xmlp.model.network import Network
from xmlp.network.functions import Functions
from xmlp.testing import Method, check_gradients
from xmlp.verify import library, scalar
from xmlp.verify.core import Trial, check
from xmlp.verify.forward import LABELS
from xmlp.verify.scalar import Problem, Stage, every, flat, one, quotient, scaled, shaped, transposed
from xmlp.verify.small_network import DEEP

CLASSES = Problem((3, 4, 3), ("tanh", "softmax"), "categorical")
WEIGHTED = Problem((3, 4, 3), ("tanh", "softmax"), "squared")  # a loss that no fusion knows, after a softmax
EVERYTHING = (DEEP, LABELS, CLASSES, WEIGHTED)


@check("002-16", equations=range(25, 29), title="BP1.1, full Jacobian: delta_k = sum_j dL/da_j da_j/dz_k")
def full_jacobian(t: Trial) -> None:
    for problem in (CLASSES, WEIGHTED):
        want = one(problem)
        z, da, units = want.z[-1], want.da[-1], range(3)
        t.scalar([sum(da[j] * scalar.slope("softmax", z, j, k) for j in units) for k in units], want.dz[-1])
        jacobian = t.columns.by_weighted_inputs("softmax", t.columns.column(z))
        t.example(jacobian, scalar.jacobian(partial(scalar.activations, "softmax"), z))
        t.example(t.columns.vector(t.columns.loss_row(problem.loss, *_output(t, problem)) @ jacobian), want.dz[-1])
        references = every(problem)
        a, gradient = t.put(references.a[-1]), t.put(references.da[-1])
        t.batch(softmax.pullback.evaluate(t.xp, None, a, gradient), references.dz[-1])
        t.batch(t.rows(problem).dz[-1], references.dz[-1])
        diagonal = [da[k] * scalar.slope("softmax", z, k, k) for k in units]
        t.differ(diagonal, want.dz[-1], "the diagonal and the full Jacobian")


def _output(t: Trial, problem: Problem) -> tuple[Any, Any]:
    """The target and the output of the first example, as columns."""
    return t.columns.column(problem.y[0]), t.columns.column(one(problem).a[-1])


@check("002-17", equations=range(29, 32), title="delta = dL/da f'(z) where the Jacobian is diagonal")
def diagonal_jacobian(t: Trial) -> None:
    for problem in (DEEP, LABELS):
        want, f = one(problem), problem.functions[-1]
        z, da = want.z[-1], want.da[-1]
        t.scalar([da[k] * scalar.slope(f, z, k, k) for k in range(2)], want.dz[-1])
        jacobian = t.columns.by_weighted_inputs(f, t.columns.column(z))
        off_diagonal = jacobian * (1.0 - t.columns.eye(2))
        t.example(off_diagonal, [[0.0, 0.0], [0.0, 0.0]])
        t.example(t.put(da) * t.xp.sum(jacobian, axis=1), want.dz[-1])
        t.example((t.xp.reshape(t.put(da), (1, -1)) @ jacobian)[0, :], want.dz[-1])
        t.batch(t.rows(problem).dz[-1], every(problem).dz[-1])


@check("002-18", equations=range(32, 36), title="cross entropy and sigmoid: delta = a - y, without f'(z)")
def fused(t: Trial) -> None:
    want, y = one(LABELS), LABELS.y[0]
    a = want.a[-1]
    t.scalar([-(y[i] / a[i] - (1 - y[i]) / (1 - a[i])) for i in range(2)], want.da[-1])
    t.scalar([-(y[i] - a[i]) / (a[i] * (1 - a[i])) for i in range(2)], want.da[-1])
    t.scalar([-(y[i] - a[i]) for i in range(2)], want.dz[-1])
    target, output = _output(t, LABELS)
    row = t.columns.loss_row("binary", target, output)
    t.example(row, [want.da[-1]])
    t.example(row @ t.columns.by_weighted_inputs("sigmoid", t.columns.column(want.z[-1])), [want.dz[-1]])
    t.example(t.columns.vector(output - target), want.dz[-1])
    references = every(LABELS)
    logits, targets = t.put(references.z[-1]), t.put(LABELS.y)
    t.batch(BinaryCrossEntropy(reduction="sum").value_and_grad(logits, targets)[1], references.dz[-1])
    t.batch(t.rows(LABELS).dz[-1], references.dz[-1])
    value, grads = t.network(LABELS).value_and_grad(LABELS.x, LABELS.y, library.loss_of("binary"))
    t.batch([value, grads[-1]["b"]], [sum(references.loss), references.db[-1]])
    # where a is 0 or 1 in floating point dL/da is infinite or nan, and the fused delta is exact
    z = t.put([[800.0, 800.0, -800.0, -800.0]])
    far = t.host(BinaryCrossEntropy(reduction="sum").value_and_grad(z, t.put([[1.0, 0.0, 1.0, 0.0]])))
    t.require(far == [1600.0, [[0.0, 1.0, -1.0, 0.0]]], f"far out loss and delta are {far}")
    network = Network([Dense(1, activation="sigmoid")], 1, backend=t.backend)
    network.theta = [800.0, 0.0]
    t.require(t.host(network.forward([[1.0]])[0]) == [[1.0]], "a is not 1")
    value, grads = network.value_and_grad([[1.0], [-1.0]], [[0.0], [1.0]], library.loss_of("binary"))
    found = t.host([value, grads[0]["W"]])
    t.require(found == [1600.0, [[2.0]]], f"far out the loss and dW of a network are {found}")


def sigmoid_loss(name: str, z: Any) -> Any:
    """The loss of a unit whose target is 0, as a function of its weighted input."""
    return scalar.TERMS[name].value(0, scalar.sigmoid(z))


@check("002-10", title="no learning slowdown with the cross entropy", tolerance=1e-9)
def learning_slowdown(t: Trial) -> None:
    z, y = 12.0, 0.0  # a saturated unit that is wrong
    gradients = {}
    for name in ("binary", "squared"):
        want, a = quotient(partial(sigmoid_loss, name), z), scalar.sigmoid(z)
        t.scalar(scalar.TERMS[name].slope(y, a) * a * (1 - a) / want, 1.0)
        network = Network([Dense(1, activation="sigmoid")], 1, backend=t.backend)
        network.theta = [z, 0.0]  # W and b: with x = 1 the weighted input is 12
        _, grads = network.value_and_grad([[1.0]], [[y]], library.loss_of(name))
        gradients[name] = t.host(grads[0]["b"])[0]
        t.batch(gradients[name] / want, 1.0)
    t.require(0.99 < gradients["binary"] < 1.01, f"the gradient of the cross entropy is {gradients['binary']:.1e}")
    t.require(gradients["squared"] < 1e-4, f"the gradient of the squared error is {gradients['squared']:.1e}")


@check("002-19", equations=[*range(36, 41), *range(43, 48)], title="BP2.1: delta_(l-1) = f'(z_(l-1)) o W^T delta_l")
def previous_error(t: Trial) -> None:
    want, got, references = one(DEEP), t.rows(DEEP), every(DEEP)
    for n in (2, 1):
        W, f = DEEP.stages[n].W, DEEP.stages[n - 1].f
        z, delta = want.z[n - 1], want.dz[n]
        units, slopes = range(len(W)), [scalar.slope(f, z, k, k) for k in range(len(z))]
        t.scalar([slopes[k] * sum(W[j][k] * delta[j] for j in units) for k in range(len(z))], want.dz[n - 1])  # eq. 43
        column, slope = t.columns.column(delta), t.columns.column(slopes)
        t.example(t.columns.vector(slope * (t.xp.matrix_transpose(t.put(W)) @ column)), want.dz[n - 1])  # eq. 47
        row = t.xp.matrix_transpose(column)
        t.example(t.columns.vector(t.xp.matrix_transpose(slope) * (row @ t.put(W))), want.dz[n - 1])  # eq. 46
        between = t.put(W) @ t.columns.diagonal(slope)
        t.example(t.columns.vector(row @ between), want.dz[n - 1])  # eq. 36 and 37
        t.batch(got.dz[n - 1], references.dz[n - 1])


@check("002-20", equations=[41, 42], title="from layer to layer: dz_j / dz_k = w_jk f'(z_k)")
def layer_to_layer(t: Trial) -> None:
    want, W, f = one(DEEP), DEEP.stages[1].W, DEEP.functions[0]
    z = want.z[0]
    reference = scalar.jacobian(next_weighted_inputs, z)
    t.scalar([[W[j][k] * scalar.slope(f, z, k, k) for k in range(4)] for j in range(3)], reference)
    t.example(t.put(W) @ t.columns.by_weighted_inputs(f, t.columns.column(z)), reference)
    # a batch of equal rows, and the rows of the unit matrix for dy: backward gives the Jacobian row by row
    network = Network([Activation(library.activation_of(f)), Dense(3)], 4, backend=t.backend)
    library.assign(network, [DEEP.stages[1]])
    t.batch(t.backward(network, [z] * 3, t.columns.eye(3))[0], reference)


def next_weighted_inputs(z: list[Any]) -> list[Any]:
    """The weighted inputs of the second layer of `DEEP` as functions of those of the first (eq. 41)."""
    return scalar.weighted_inputs(scalar.lift(DEEP.stages[1]), scalar.activations(DEEP.functions[0], z))


@check("002-21", equations=[48, 49], title="dL/dw = dL/dz dz/dw, W flattened, Jacobian n_l x n_l n_(l-1)")
def flattened(t: Trial) -> None:
    want, stage = one(DEEP), DEEP.stages[1]
    a, delta, units = want.a[1], want.dz[1], len(stage.W)
    weights = flat(stage.W)

    def weighted(w: list[Any]) -> list[Any]:
        return scalar.weighted_inputs(scalar.lift(stage)._replace(W=shaped(w, stage.W)), scalar.lift(a))

    reference = scalar.jacobian(weighted, weights)
    entries = [(i, k) for i in range(units) for k in range(len(a))]
    t.scalar([[a[k] if i == j else 0.0 for i, k in entries] for j in range(units)], reference)
    jacobian = t.columns.by_flat_weights(t.put(a), units)
    t.require(tuple(jacobian.shape) == (3, 3 * 4), f"the Jacobian is {tuple(jacobian.shape)}")
    t.example(jacobian, reference)
    t.example((t.xp.reshape(t.put(delta), (1, -1)) @ jacobian)[0, :], flat(want.dW[1]))
    network = t.network(DEEP)
    _, grads = t.backward(network, DEEP.x, every(DEEP).da[-1])
    t.require(tuple(grads.flat.shape) == tuple(network.theta.shape) == (network.layout.size,), "the vectors differ")
    for slot in network.layout.slots:
        part = t.xp.reshape(grads.flat[slot.start : slot.stop], slot.spec.shape)
        t.batch(part, t.host(grads[slot.layer][slot.name]))
        reference = every(DEEP).dW if slot.name == "W" else every(DEEP).db
        t.batch(part, transposed(reference[slot.layer]) if slot.name == "W" else reference[slot.layer])
        view = t.xp.reshape(network.theta[slot.start : slot.stop], slot.spec.shape)
        t.batch(view, t.host(network.parameters[slot.layer][slot.name]))


def differences(function: Callable[[list[float]], float], w: list[float], eps: float = 1e-6) -> list[list[float]]:
    """Difference quotients of floats by each w_j: one-sided as in eq. 50, and central."""
    here, one_sided, central = function(w), [], []
    for j in range(len(w)):
        above, below = (function([*w[:j], w[j] + step, *w[j + 1 :]]) for step in (eps, -eps))
        one_sided.append((above - here) / eps)
        central.append((above - below) / (2 * eps))
    return [one_sided, central]


@check("002-22", equations=[50], tolerance=1e-5, title="numerical gradient (L(w + eps e_j) - L(w)) / eps, and central")
def numerical_gradient(t: Trial) -> None:
    for problem in (DEEP, CLASSES):
        network, loss, first = t.network(problem), library.loss_of(problem.loss), problem.stages[0]

        def by_loops(w: list[float], problem: Problem = problem, first: Stage = first) -> float:
            stages = [first._replace(W=shaped(w, first.W)), *problem.stages[1:]]
            outputs = scalar.forward(stages, problem.x[0])[1][-1]
            return float(scalar.loss_of(problem.loss, problem.y[0], outputs))

        def by_library(w: list[float], problem: Problem = problem, network: Network = network) -> float:
            value, _ = network.value_and_grad(problem.x, problem.y, library.loss_of(problem.loss), theta=w)
            return float(t.host(value))

        want = flat(one(problem).dW[0])
        t.scalar(differences(by_loops, flat(first.W)), [want, want])
        gradient = t.host(network.value_and_grad(problem.x, problem.y, loss)[1].flat)
        numerical = differences(by_library, t.host(network.theta))
        t.batch(gradient, numerical[0])
        worst = max(abs(a - b) for a, b in zip(gradient, numerical[1], strict=True))
        t.require(worst < 1e-8, f"central differences are {worst:.0e} off")
    limits: dict[Method, float] = {"central": 1e-8, "forward": 1e-5}
    for method, limit in limits.items():
        report = check_gradients(t.network(CLASSES), CLASSES.x, CLASSES.y, SoftmaxCrossEntropy(), method=method)
        t.require(report.max_error < limit, f"{method} differences: {report}")


@check("002-23", title="P + 1 forward passes (central 2 P); backpropagation 1 + 1")
def number_of_passes(t: Trial) -> None:
    network = t.network(LABELS)
    network.evaluations = Functions(network.chain, planned=False)  # a plan would be traced once and then replayed
    parameters, calls = network.layout.size, list[str]()

    def counted(name: str) -> None:
        function = getattr(network.chain, name)

        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            calls.append(name)
            return function(*arguments, **keywords)

        setattr(network.chain, name, wrapper)

    counted("pass_forward")
    counted("pass_backward")
    network.value_and_grad(LABELS.x, LABELS.y, "binary_cross_entropy")
    t.require(calls == ["pass_forward", "pass_backward"], f"backpropagation ran {calls}")
    expected: dict[Method, int] = {"forward": parameters + 1, "central": 2 * parameters}
    for method, passes in expected.items():
        calls.clear()
        report = check_gradients(network, LABELS.x, LABELS.y, "binary_cross_entropy", method=method)
        numerical = calls.count("pass_forward") - 1  # and one for the gradient that is checked
        t.require(numerical == report.forward_passes == passes, f"{method}: {numerical} forward passes, not {passes}")
        t.require(calls.count("pass_backward") == 1, f"{method}: {calls.count('pass_backward')} backward passes")


@check("002-26", title="layers without activations collapse to one linear map")
def linear_collapse(t: Trial) -> None:
    problem = Problem((3, 4, 2), ("identity", "identity"), "squared")
    (W1, b1, _), (W2, b2, _) = problem.stages
    W = [[sum(W2[i][k] * W1[k][j] for k in range(4)) for j in range(3)] for i in range(2)]
    b = [b2[i] + sum(W2[i][k] * b1[k] for k in range(4)) for i in range(2)]
    single = scalar.Stage(W, b, "identity")
    want = every(problem).a[-1]
    t.scalar([scalar.weighted_inputs(single, x) for x in problem.x], want)
    product, bias = t.put(W2) @ t.put(W1), t.put(W2) @ t.columns.column(b1) + t.columns.column(b2)
    t.example(t.columns.vector(product @ t.columns.column(problem.x[0]) + bias), want[0])
    network = Network([Dense(2)], 3, backend=t.backend)
    library.assign(network, [single])
    t.batch(network.forward(problem.x)[0], want)
    t.batch(t.network(problem).forward(problem.x)[0], want)


@check("002-O1", title="BP3, BP4: dC/dW = A^T Delta / M, dC/db = sum Delta / M")
def open_equations(t: Trial) -> None:
    for problem in EVERYTHING:
        want, references, mean = one(problem), every(problem), 1 / problem.examples
        found = scalar.backpropagate(problem.stages, problem.loss, problem.x[0], problem.y[0])
        t.scalar([found.dW, found.db], [want.dW, want.db])
        for layer, (delta, a) in enumerate(zip(want.dz, want.a[:-1], strict=True)):
            t.example(t.columns.column(delta) @ t.xp.reshape(t.put(a), (1, -1)), want.dW[layer])
        network = t.network(problem)
        _, grads = network.value_and_grad(problem.x, problem.y, library.loss_of(problem.loss, "mean"))
        for layer, (A, Delta) in enumerate(zip(references.a[:-1], references.dz, strict=True)):
            dW = t.xp.matrix_transpose(t.put(A)) @ t.put(Delta) / problem.examples
            db = t.xp.sum(t.put(Delta), axis=0) / problem.examples
            t.batch([dW, db], [transposed(scaled(references.dW[layer], mean)), scaled(references.db[layer], mean)])
            t.batch([grads[layer]["W"], grads[layer]["b"]], t.host([dW, db]))


@check("002-O8", title="scalar, vector and batch forms agree, for four networks")
def three_forms(t: Trial) -> None:
    for problem in EVERYTHING:
        for n in range(problem.examples):
            arguments = problem.stages, problem.loss, problem.x[n], problem.y[n]
            t.scalar(scalar.backpropagate(*arguments), one(problem, n))
            t.example(t.in_columns(*arguments), one(problem, n))
        t.batch(t.rows(problem), every(problem))

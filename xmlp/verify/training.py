"""Training: descent, update rules, minibatches, penalties, and what the documents say about learning."""

import math
import random
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from xmlp import optimizers
from xmlp.layers import Dense
from xmlp.model.mlp import mlp
from xmlp.model.network import Network
from xmlp.model.trainer import Trainer
from xmlp.optimizers import SGD
from xmlp.verify import library, scalar
from xmlp.verify.core import Trial, check
from xmlp.verify.scalar import Number, Problem, Stage, Vector, every, flat, like, root, transposed
from xmlp.verify.small_network import TANH
from xmlp.verify.vectors import ONE_OUTPUT


@check("000-15", title="normal gradient descent with these gradients trains")
def gradient_descent(t: Trial) -> None:
    lr, batches = 0.2, [range(ONE_OUTPUT.examples)] * 2
    want = weights(scalar.descend(ONE_OUTPUT, scalar.differences, lr, batches))
    t.scalar(weights(scalar.descend(ONE_OUTPUT, scalar.backpropagate, lr, batches)), want)
    t.example(weights(scalar.descend(ONE_OUTPUT, t.in_columns, lr, batches)), want)
    network = t.network(ONE_OUTPUT)
    trainer = Trainer(network, loss="squared_error", optimizer=SGD(lr))
    before = trainer.step(ONE_OUTPUT.x, ONE_OUTPUT.y)
    trainer.step(ONE_OUTPUT.x, ONE_OUTPUT.y)
    t.batch(weights(library.stages_of(network, ONE_OUTPUT)), want)
    for _ in range(40):
        after = trainer.step(ONE_OUTPUT.x, ONE_OUTPUT.y)
    t.require(t.host(after) < 0.9 * t.host(before), "the loss did not fall")


def weights(stages: Sequence[Stage]) -> list[Any]:
    """The numbers of a network, without the names of its activations."""
    return [[stage.W, stage.b] for stage in stages]


@check("002-O2", title="gradient descent over minibatches, epoch by epoch")
def minibatches(t: Trial) -> None:
    problem = Problem((3, 4, 2), ("tanh", "identity"), "squared", examples=5)
    epochs, lr = 2, 0.05
    batches = [[0, 1], [2, 3], [4]] * epochs
    want = weights(scalar.descend(problem, scalar.differences, lr, batches))
    t.scalar(weights(scalar.descend(problem, scalar.backpropagate, lr, batches)), want)
    t.example(weights(scalar.descend(problem, t.in_columns, lr, batches)), want)
    network = t.network(problem)
    trainer = Trainer(network, loss="squared_error", optimizer=SGD(lr))
    trainer.fit(problem.x, problem.y, epochs=epochs, batch_size=2, shuffle=False)
    t.batch(weights(library.stages_of(network, problem)), want)
    t.require(trainer.steps == len(batches), f"{trainer.steps} steps for {len(batches)} batches")
    history = trainer.fit(problem.x, problem.y, epochs=40, batch_size=2)["loss"]
    t.require(history[-1] < 0.5 * history[0], f"the loss went from {history[0]:.3f} to {history[-1]:.3f}")


# --- update rules as they are printed, for one parameter and its gradients --------------------------


def momentum(w: Number, gradients: Vector, mu: float = 0.9, ahead: bool = False) -> Vector:
    """Update v = mu v + g; w = w - lr v, or with Nesterov's look ahead w = w - lr (g + mu v)."""
    v, path = 0, []
    for g in gradients:
        v = like(w, mu) * v + g
        w = w - like(w, LR) * (g + like(w, mu) * v if ahead else v)
        path.append(w)
    return path


def adagrad(w: Number, gradients: Vector) -> Vector:
    """Update v = v + g^2; w = w - lr g / (sqrt(v) + eps)."""
    v, path = 0, []
    for g in gradients:
        v = v + g * g
        w = w - like(w, LR) * g / (root(v) + like(w, 1e-10))
        path.append(w)
    return path


def rmsprop(w: Number, gradients: Vector) -> Vector:
    """Update v = rho v + (1 - rho) g^2; w = w - lr g / (sqrt(v) + eps)."""
    v, rho, path = 0, like(w, 0.9), []
    for g in gradients:
        v = rho * v + (1 - rho) * g * g
        w = w - like(w, LR) * g / (root(v) + like(w, 1e-8))
        path.append(w)
    return path


def adam(w: Number, gradients: Vector, weight_decay: float = 0.0) -> Vector:
    """Moments, their bias corrections, and for AdamW the decay of w by itself."""
    m, v, first, second, path = 0, 0, like(w, 0.9), like(w, 0.999), []
    for step, g in enumerate(gradients, 1):
        m = first * m + (1 - first) * g
        v = second * v + (1 - second) * g * g
        corrected = m / (1 - first**step), root(v / (1 - second**step))
        w = w - like(w, LR) * like(w, weight_decay) * w - like(w, LR) * corrected[0] / (corrected[1] + like(w, 1e-8))
        path.append(w)
    return path


LR = 0.1
RULES: dict[optimizers.Optimizer, Any] = {
    SGD(LR): lambda w, g: momentum(w, g, mu=0.0),
    SGD(LR, momentum=0.9): momentum,
    SGD(LR, momentum=0.9, nesterov=True): lambda w, g: momentum(w, g, ahead=True),
    optimizers.Adagrad(LR): adagrad,
    optimizers.RMSProp(LR, rho=0.9): rmsprop,
    optimizers.Adam(LR): adam,
    optimizers.AdamW(LR, weight_decay=0.1): lambda w, g: adam(w, g, weight_decay=0.1),
}


@check("001-O1", title="optimizers follow their printed rules and lower the loss")
def optimizers_train(t: Trial) -> None:
    start, gradients = [1.0, -0.5, 2.0], [[0.5, 1.0, -0.25], [-2.0, -1.0, 3.0], [0.0, 0.5, 0.5]]
    t.require(len({type(optimizer) for optimizer in RULES}) >= 5, "a printed rule is missing")
    for optimizer, rule in RULES.items():
        want = [scalar.exact(rule, w, g) for w, g in zip(start, gradients, strict=True)]
        t.scalar([rule(w, g) for w, g in zip(start, gradients, strict=True)], want)
        theta, path = t.put(start), []
        state = optimizer.init(theta)
        for step, g in enumerate(transposed(gradients), 1):
            theta, state = optimizer.update(theta, t.put(g), state, LR, step)
            path.append(t.host(theta))
        t.batch(transposed(path), want)
        trainer = Trainer(t.network(TANH), loss="squared_error", optimizer=optimizer)
        losses_seen = trainer.fit(TANH.x, TANH.y, epochs=12)["loss"]
        t.require(losses_seen[-1] < 0.9 * losses_seen[0], f"{optimizer} left the loss at {losses_seen[-1]:.3f}")


@check("002-15", title="regularisation l1 sum |w| + l2 sum w^2, reported by itself")
def regularised(t: Trial) -> None:
    l1, l2, lr, stages, want = 0.01, 0.02, 0.1, TANH.stages, every(TANH)

    def cost(w: list[Any]) -> Number:
        return sum(like(v, l1) * abs(v) + like(v, l2) * v * v for v in w)

    w = [flat(stage.W) for stage in stages]
    reference = sum(scalar.exact(cost, part) for part in w)
    t.scalar(sum(l1 * abs(v) + l2 * v**2 for part in w for v in part), reference)
    network = t.network(TANH)
    trainer = Trainer(network, loss="squared_error", optimizer=SGD(lr), l1=l1, l2=l2)
    history = trainer.fit(TANH.x, TANH.y, epochs=1, batch_size=TANH.examples)
    t.batch([history["loss"][0], history["penalty"][0]], [sum(want.loss) / TANH.examples, reference])
    for stage, after, dW, db in zip(stages, library.stages_of(network, TANH), want.dW, want.db, strict=True):
        slope = scalar.shaped(scalar.quotient(cost, flat(stage.W)), stage.W)
        t.batch(after.W, scalar.total([stage.W, scalar.scaled(dW, -lr / TANH.examples), scalar.scaled(slope, -lr)]))
        t.batch(after.b, scalar.total([stage.b, scalar.scaled(db, -lr / TANH.examples)]))  # biases are not penalised
    growing = [cost(flat(w)[:n]) for n in range(len(flat(w)) + 1)]
    t.require(all(a < b for a, b in pairwise(growing)), "the penalty does not grow with the number of weights")


@check("002-27", title="vanishing gradients: their norm falls from layer to layer")
def vanishing(t: Trial) -> None:
    ratios = {}
    for f in ("sigmoid", "relu"):
        problem = Problem((3, 6, 6, 6, 6, 2), (*[f] * 4, "identity"), "squared", examples=2, seed=3)
        want = [norm(dW) for dW in every(problem).dW]
        passes = [
            scalar.backpropagate(problem.stages, "squared", *data) for data in zip(problem.x, problem.y, strict=True)
        ]
        t.scalar([norm(dW) for dW in scalar.stacked(passes).dW], want)
        passes = [t.in_columns(problem.stages, "squared", *data) for data in zip(problem.x, problem.y, strict=True)]
        t.example([norm(dW) for dW in scalar.stacked(passes).dW], want)
        network = t.network(problem)
        _, grads = network.value_and_grad(problem.x, problem.y, library.loss_of("squared"))
        norms = [t.host(t.xp.sqrt(t.xp.sum(g["W"] ** 2))) for g in grads]
        t.batch([n / w for n, w in zip(norms, want, strict=True)], [1.0] * 5)
        ratios[f] = norms[0] / norms[-1]
    text = ", ".join(f"{f} {ratio:.1e}" for f, ratio in ratios.items())
    t.require(ratios["sigmoid"] < 0.01 and ratios["relu"] > 10 * ratios["sigmoid"], f"first to last layer: {text}")


def norm(matrix: Any) -> float:
    """The Euclidean norm of all elements."""
    return math.sqrt(sum(v * v for v in flat(matrix)))


@check("002-28", title="equal weights keep units equal, zero biases do no harm")
def symmetry(t: Trial) -> None:
    spread, losses_seen = {}, {}
    for kernel in ("zeros", 0.5, "glorot_uniform"):
        layers = [Dense(4, "tanh", kernel_initializer=kernel), Dense(2, kernel_initializer=kernel)]
        network = Network(layers, 3, backend=t.backend, seed=1)
        t.require(not any(t.host(network.parameters[0]["b"])), "biases do not start at 0")
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            trainer = Trainer(network, loss="squared_error", optimizer=SGD(0.1))
        t.require(bool(warned) == (kernel != "glorot_uniform"), f"{kernel}: {len(warned)} warnings of equal units")
        losses_seen[kernel] = trainer.fit(TANH.x, TANH.y, epochs=80, batch_size=4)["loss"][-1]
        incoming, outgoing = t.host(network.parameters[0]["W"]), transposed(t.host(network.parameters[1]["W"]))
        spread[kernel] = max(max(row) - min(row) for row in (*incoming, *outgoing))
    t.require(spread["zeros"] == 0 and spread[0.5] < 1e-12, f"units that started equal have differences {spread}")
    t.require(spread["glorot_uniform"] > 0.1, "units that started at random have become equal")
    t.require(
        losses_seen["glorot_uniform"] < 0.5 * min(losses_seen["zeros"], losses_seen[0.5]), f"losses: {losses_seen}"
    )


# task -> (activation of the output, loss)
TASKS = {
    "regression": ("identity", "half"),
    "several labels": ("sigmoid", "binary"),
    "several classes": ("softmax", "categorical"),
}


@check("002-O5", title="output activation and loss by task; for each delta = a - y")
def tasks(t: Trial) -> None:
    for task, (f, name) in TASKS.items():
        problem = Problem((3, 4, 3), ("tanh", f), name)
        want = every(problem)
        delta = [[a - y for a, y in zip(*rows, strict=True)] for rows in zip(want.a[-1], problem.y, strict=True)]
        t.scalar(delta, want.dz[-1])
        t.example(t.columns.backpropagate(problem.stages, name, problem.x[0], problem.y[0]).dz[-1], want.dz[-1][0])
        loss = library.loss_of(name)
        t.require(loss.link == f, f"{task}: the link of {loss.name} is {loss.link}")
        t.batch(loss.at_raw_outputs().value_and_grad(t.put(want.z[-1]), t.put(problem.y))[1], want.dz[-1])
        raw = Network([Dense(4, "tanh"), Dense(3)], 3, backend=t.backend)
        Trainer(raw, loss=loss.at_raw_outputs(), optimizer="sgd").step(problem.x, problem.y)
        t.require(raw.link == f, f"{task}: a network trained so has the link {raw.link}")


@check("002-O6", title="the library, from data to labels")
def from_data_to_labels(t: Trial) -> None:
    draw, centres = random.Random(5), [(-2.0, 0.0), (2.0, 0.0), (0.0, 3.0)]
    labels = [k % 3 for k in range(60)]
    x = [[c + draw.gauss(0.0, 0.4) for c in centres[label]] for label in labels]
    network = mlp([2, 8, 3], backend=t.backend, seed=1)
    history = network.fit(x, labels, epochs=15, batch_size=20, optimizer=optimizers.Adam(0.05), metrics=["accuracy"])
    t.require(history["loss"][-1] < 0.1 * history["loss"][0], f"the loss fell to {history['loss'][-1]:.3f} only")
    t.require(history["accuracy"][-1] == 1.0, f"the accuracy is {history['accuracy'][-1]}")
    t.batch(network.predict_label(x), labels)
    t.batch([sum(row) for row in t.host(network.predict_proba(x))], [1.0] * len(x))

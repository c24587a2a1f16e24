"""The batch form: the library itself, rows instead of columns, set to the weights of a problem."""

from dataclasses import dataclass, field
from typing import Any

import xmlp.backends.context as contexts
from xmlp import losses
from xmlp.backends import Backend
from xmlp.backends.context import Context
from xmlp.layers import Activation, Dense, Layer
from xmlp.model.network import Network
from xmlp.types import Array, Reduction
from xmlp.verify.scalar import Pass, Problem, Stage, flat, transposed


@dataclass(frozen=True)
class Tap(Layer):
    """y = x: keeps what passes it, values forwards and gradients backwards."""

    values: list[Array] = field(default_factory=list, compare=False)
    gradients: list[Array] = field(default_factory=list, compare=False)

    def build(self, in_features: int) -> tuple[int, dict[str, Any]]:
        return in_features, {}

    def forward(self, params: Any, x: Array, ctx: Context) -> tuple[Array, Any]:
        self.values.append(x)
        return x, None

    def backward(self, params: Any, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        self.gradients.append(dy)
        return dy, {}


class Softsign:
    """A user's own activation, not a formula."""

    def fn(self, z: Array) -> Array:
        """z / (1 + |z|)."""
        return z / (1.0 + abs(z))

    def deriv(self, z: Array) -> Array:
        """1 / (1 + |z|)^2."""
        return 1.0 / (1.0 + abs(z)) ** 2


class Quartic:
    """A user's own loss, not a formula."""

    def fn(self, predictions: Array, targets: Array) -> Array:
        """(y_hat - y)^4."""
        return (predictions - targets) ** 4

    def deriv(self, predictions: Array, targets: Array) -> Array:
        """4 (y_hat - y)^3."""
        return 4.0 * (predictions - targets) ** 3


def activation_of(f: str) -> Any:
    """The activation of that name, as a layer takes it."""
    return Softsign() if f == "softsign" else f


def loss_of(name: str, reduction: Reduction = "sum") -> losses.Loss:
    """The library's loss for a name of `scalar.TERMS`, at probabilities and not at logits."""
    made: dict[str, losses.Loss] = {
        "squared": losses.SquaredError(reduction=reduction),
        "half": losses.SquaredError(half=True, reduction=reduction),
        "binary": losses.BinaryCrossEntropy(from_logits=False, reduction=reduction),
        "categorical": losses.SoftmaxCrossEntropy(from_logits=False, reduction=reduction),
        "quartic": losses.UserLoss(Quartic(), reduction),
    }
    return made[name]


def network_of(problem: Problem, backend: Backend, *, stages: list[Stage] | None = None) -> Network:
    """The problem's network of Dense layers."""
    pairs = zip(problem.sizes[1:], problem.functions, strict=True)
    layers = [Dense(units, activation=activation_of(f), use_bias=problem.bias) for units, f in pairs]
    network = Network(layers, problem.sizes[0], backend=backend)
    assign(network, stages or problem.stages)
    return network


def assign(network: Network, stages: list[Stage]) -> None:
    """Give a network of Dense layers, and layers without parameters, these weights."""
    theta = [0.0] * network.layout.size
    dense = [i for i, views in enumerate(network.parameters) if "W" in views]
    for slot in network.layout.slots:
        stage = stages[dense.index(slot.layer)]
        theta[slot.start : slot.stop] = flat(transposed(stage.W) if slot.name == "W" else stage.b)
    network.theta = theta


def stages_of(network: Network, like: Problem) -> list[Stage]:
    """The weights of a network as the documents write them."""
    host = network.backend.to_host
    views = [views for views in network.parameters if "W" in views]
    return [
        Stage(transposed(host(v["W"]).tolist()), host(v["b"]).tolist() if "b" in v else s.b, s.f)
        for v, s in zip(views, like.stages, strict=True)
    ]


def rows(problem: Problem, backend: Backend) -> Pass:
    """All derivatives for all examples from one forward and one backward pass.

    Between the layers there are taps, so that nothing is fused. Values are rows; dW and db are sums over the examples.
    """
    taps, layers = [Tap()], list[Layer]()
    for units, f in zip(problem.sizes[1:], problem.functions, strict=True):
        taps += [Tap(), Tap()]
        layers += [Dense(units, use_bias=problem.bias), taps[-2], Activation(activation_of(f)), taps[-1]]
    network = Network([taps[0], *layers], problem.sizes[0], backend=backend)
    assign(network, problem.stages)
    passed: Any = network.forward(problem.x)
    outputs, caches = passed
    loss = loss_of(problem.loss)
    targets = backend.from_host(problem.y)
    _, gradient = loss.value_and_grad(outputs, targets)
    dx, grads = network.backward(caches, gradient)

    def host(array: Array) -> Any:
        return backend.to_host(array).tolist()

    values, gradients = [host(t.values[0]) for t in taps], [host(t.gradients[0]) for t in taps]
    if host(dx) != gradients[0]:
        raise AssertionError("dx of the network is not what its first layer gave")
    dense = [g for g in grads if "W" in g]
    return Pass(
        values[1::2], values[::2], host(loss.per_example(outputs, targets)), gradients[::2], gradients[1::2],
        [transposed(host(g["W"])) for g in dense], [host(g["b"]) if "b" in g else None for g in dense],
    )  # fmt: skip


def context(backend: Backend, *, training: bool = False) -> Context:
    """The surroundings of a layer outside a network."""
    return contexts.of(backend, training=training)

"""The mathematics once more, from the textbooks and on complex numbers, to measure the library against.

The derivative of an analytic f is Im f(x + ih) / h: with h = 1e-30 nothing is truncated and nothing cancels (Squire &
Trapp, 1998). Branches are taken on the real part. From the library come the settings of its layers and losses, nothing
else. Each layer, activation, loss, optimizer and metric has a record in one of the tables `LAYER_DB`, `ACTIVATION_DB`,
`LOSS_DB`, `OPTIMIZER_DB`, `METRIC_DB`, from which the tests are made. A record has the same in torch beside it, where
torch has that.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xmlp import layers as la
from xmlp import losses as lo
from xmlp import optimizers as op
from xmlp.schedules import Exponential

Array = Any
H = 1e-30


# --- complex step -----------------------------------------------------------------------------------------------------


def derivative(f: Callable[[Array], Array], x: Array) -> Array:
    """f' of an elementwise function."""
    return np.imag(f(np.asarray(x) + 1j * H)) / H


def gradients(f: Callable[[list[Array]], Array], arrays: Sequence[Array]) -> list[Array]:
    """The gradient of a scalar f with respect to each of `arrays`; f broadcasts over leading axes of any of them."""
    found = []
    for k, a in enumerate(arrays):
        nudged = a + 1j * H * np.eye(a.size).reshape(a.size, *a.shape)
        found.append(np.imag(f([*arrays[:k], nudged, *arrays[k + 1 :]])).reshape(a.shape) / H)
    return found


# --- rounding errors --------------------------------------------------------------------------------------------------


class Bounded:
    """A complex value and a bound on the rounding error of its real part, in units of the machine epsilon.

    Each operation rounds once (running error analysis; Higham, 2002, section 3.3). The bound is infinite where a branch
    hangs on rounding.
    """

    def __init__(self, value: Any, error: Any = 0.0):
        self.value = np.asarray(value, dtype=complex)
        self.error = np.broadcast_to(np.asarray(error, dtype=float), self.value.shape)

    def _with(self, f: Callable[[Any, Any], Any], other: Any, error: Callable[..., Any]) -> "Bounded":
        a, b = self, other if isinstance(other, Bounded) else Bounded(other)
        v = f(a.value, b.value)
        return Bounded(v, error(abs(a.value.real), a.error, abs(b.value.real), b.error, abs(v.real)) + abs(v.real))

    def __add__(self, other: Any) -> "Bounded":
        return self._with(operator.add, other, lambda a, ea, b, eb, v: ea + eb)

    def __sub__(self, other: Any) -> "Bounded":
        return self._with(operator.sub, other, lambda a, ea, b, eb, v: ea + eb)

    def __mul__(self, other: Any) -> "Bounded":
        return self._with(operator.mul, other, lambda a, ea, b, eb, v: ea * b + eb * a)

    def __truediv__(self, other: Any) -> "Bounded":
        return self._with(operator.truediv, other, lambda a, ea, b, eb, v: (ea + v * eb) / b)

    def __radd__(self, other: Any) -> "Bounded":
        return Bounded(other) + self

    def __rsub__(self, other: Any) -> "Bounded":
        return Bounded(other) - self

    def __rmul__(self, other: Any) -> "Bounded":
        return Bounded(other) * self

    def __rtruediv__(self, other: Any) -> "Bounded":
        return Bounded(other) / self

    def __pow__(self, k: int) -> "Bounded":
        return self * self if k == 2 else self * self * self

    def __neg__(self) -> "Bounded":
        return Bounded(-self.value, self.error)

    def _compared(self, other: Any, op: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
        a, b = self, other if isinstance(other, Bounded) else Bounded(other)
        return op(a.value.real, b.value.real), ~(abs((a.value - b.value).real) > 1e-6 + 1e-14 * (a.error + b.error))

    def __lt__(self, other: Any) -> Any:
        return self._compared(other, operator.lt)

    def __le__(self, other: Any) -> Any:
        return self._compared(other, operator.le)

    def __gt__(self, other: Any) -> Any:
        return self._compared(other, operator.gt)

    def __ge__(self, other: Any) -> Any:
        return self._compared(other, operator.ge)


class BoundedNamespace:
    """The vocabulary for `Bounded`: f and |f'| of each function."""

    def where(self, condition: tuple[Any, Any], p: Any, q: Any) -> Bounded:
        taken, unsure = condition
        p, q = (b if isinstance(b, Bounded) else Bounded(b) for b in (p, q))
        return Bounded(np.where(taken, p.value, q.value), np.where(unsure, np.inf, np.where(taken, p.error, q.error)))

    def maximum(self, a: Any, b: Any) -> Bounded:
        a = a if isinstance(a, Bounded) else Bounded(a)
        return self.where(a > b, a, b)

    def minimum(self, a: Any, b: Any) -> Bounded:
        a = a if isinstance(a, Bounded) else Bounded(a)
        return self.where(a < b, a, b)

    def abs(self, a: Bounded) -> Bounded:
        return self.where(a > 0.0, a, -a)

    def __getattr__(self, name: str) -> Callable[[Bounded], Bounded]:
        slopes = {
            "exp": np.exp, "expm1": np.exp, "log": lambda a: 1 / a, "log1p": lambda a: 1 / (1 + a),
            "sqrt": lambda a: 0.5 / np.sqrt(a), "tanh": lambda a: 1 - np.tanh(a) ** 2,
        }  # fmt: skip

        def apply(a: Bounded) -> Bounded:
            inside = {"log": a.value.real > 0, "log1p": a.value.real > -1, "sqrt": a.value.real > 0}.get(name, True)
            value, slope = (np.where(inside, f(a.value), np.nan) for f in (getattr(np, name), slopes[name]))
            return Bounded(value, abs(slope.real) * a.error + 2 * abs(value.real))

        return apply


# --- activations ------------------------------------------------------------------------------------------------------


def _gelu(z: Array) -> Array:
    return z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def _selu(z: Array) -> Array:
    return 1.0507009873554805 * np.where(z.real > 0, z, 1.6732632423543772 * (np.exp(z) - 1))


def _softplus(z: Array) -> Array:
    return np.log(1 + np.exp(z))


def _softmax(z: Array) -> Array:
    return np.exp(z) / np.sum(np.exp(z), axis=-1, keepdims=True)


def _clipped(z: Array, low: float, high: float) -> Array:
    return np.where(z.real <= low, low, np.where(z.real >= high, high, z))


@dataclass(frozen=True)
class ActivationCase:
    """f, and where f' jumps or has a kink, its documented value there; the same of torch.nn.functional."""

    f: Callable[..., Array]
    kinks: Mapping[float, float] = field(default_factory=dict)
    elementwise: bool = True
    torch: Callable[[Any, Any], Any] | None = None


ACTIVATION_DB = {
    "identity": ActivationCase(lambda z: z, torch=lambda F, z: z),
    "relu": ActivationCase(lambda z: np.where(z.real > 0, z, 0), {0.0: 0.0}, torch=lambda F, z: F.relu(z)),
    "leaky_relu": ActivationCase(
        lambda z, alpha=0.01: np.where(z.real > 0, z, alpha * z), {0.0: 0.01}, torch=lambda F, z: F.leaky_relu(z)
    ),
    "elu": ActivationCase(
        lambda z, alpha=1.0: np.where(z.real > 0, z, alpha * (np.exp(z) - 1)), {0.0: 1.0}, torch=lambda F, z: F.elu(z)
    ),
    "selu": ActivationCase(_selu, {0.0: 1.0507009873554805 * 1.6732632423543772}, torch=lambda F, z: F.selu(z)),
    "softplus": ActivationCase(_softplus, torch=lambda F, z: F.softplus(z, threshold=1000.0)),
    "sigmoid": ActivationCase(lambda z: 1 / (1 + np.exp(-z)), torch=lambda F, z: F.sigmoid(z)),
    "tanh": ActivationCase(np.tanh, torch=lambda F, z: F.tanh(z)),
    "gelu": ActivationCase(_gelu, torch=lambda F, z: F.gelu(z, approximate="tanh")),
    "silu": ActivationCase(lambda z: z / (1 + np.exp(-z)), torch=lambda F, z: F.silu(z)),
    "mish": ActivationCase(lambda z: z * np.tanh(_softplus(z)), torch=lambda F, z: F.mish(z)),
    "hard_sigmoid": ActivationCase(
        lambda z: _clipped(z / 6 + 0.5, 0, 1),
        {-3.0: 0.0, 3.0: 0.0},
        torch=lambda F, z: F.relu6(z + 3) / 6,  # F.hardsigmoid has 1/6 in float32
    ),
    "hard_tanh": ActivationCase(lambda z: _clipped(z, -1, 1), {-1.0: 0.0, 1.0: 0.0}, torch=lambda F, z: F.hardtanh(z)),
    "softmax": ActivationCase(_softmax, elementwise=False, torch=lambda F, z: F.softmax(z, dim=-1)),
}


# --- layers -----------------------------------------------------------------------------------------------------------


def random_bits(count: int, first: int, second: int) -> Array:
    """The hash behind dropout in Python integers modulo 2^32, read as signed numbers."""

    def mix(h: int) -> int:
        h ^= first & 0xFFFFFFFF
        h = (h ^ (h >> 16)) * 0x7FEB352D % 2**32
        h = (h ^ (second & 0xFFFFFFFF) ^ (h >> 15)) * 0x846CA68B % 2**32
        return h ^ (h >> 16)

    return np.asarray([mix(k) for k in range(count)], dtype=np.uint32).view(np.int32)


@dataclass(frozen=True)
class Place:
    """Where a layer stands: whether the network is training, the keys of its random bits, the path to the layer."""

    training: bool
    keys: Mapping[tuple[int, ...], tuple[int, int]]
    path: tuple[int, ...]


def _activate(function: Any, z: Array) -> Array:
    return ACTIVATION_DB[function.name].f(z, **getattr(function, "scalars", {}))


def _row(vector: Array) -> Array:
    return vector[..., None, :]


def _dropout(layer: Any, p: Any, s: Any, x: Array, at: Place) -> Array:
    if not at.training:
        return x
    rows, features = x.shape[-2:]
    u = (random_bits(rows * features, *at.keys[at.path]).astype(np.float64) + 2.0**31) / 2.0**32
    return np.where(u.reshape(rows, features) >= layer.rate, x / (1 - layer.rate), 0)


def _normalized(x: Array, mean: Array, var: Array, layer: Any, p: Any) -> Array:
    return _row(p["gamma"]) * (x - mean) / np.sqrt(var + layer.eps) + _row(p["beta"])


def _over(axis: int, x: Array) -> tuple[Array, Array]:
    mean = np.mean(x, axis=axis, keepdims=True)
    return mean, np.mean((x - mean) ** 2, axis=axis, keepdims=True)


def _batch_norm(layer: Any, p: Any, s: Any, x: Array, at: Place) -> Array:
    of_batch = at.training and x.shape[-2] > 1  # one row has no variance
    return _normalized(x, *(_over(-2, x) if of_batch else (s["mean"], s["var"])), layer, p)


def _batch_norm_in_torch(F: Any, layer: Any, p: Any, s: Any, x: Any, training: bool) -> Any:
    return F.batch_norm(x, s["mean"], s["var"], p["gamma"], p["beta"], training, 1 - layer.momentum, layer.eps)


def parts(named: Mapping[str, Array], count: int) -> list[dict[str, Array]]:
    """The arrays of each inner layer: "1.W" is the "W" of the second."""
    return [{k.partition(".")[2]: v for k, v in named.items() if k.partition(".")[0] == str(i)} for i in range(count)]


def _residual(layer: Any, p: Any, s: Any, x: Array, at: Place) -> Array:
    count = len(layer.layers)
    return x + _chain(layer.layers, parts(p, count), parts(s, count), x, at)


def _residual_in_torch(F: Any, layer: Any, p: Any, s: Any, x: Any, training: bool) -> Any:
    count = len(layer.layers)
    return x + forward_in_torch(layer.layers, parts(p, count), parts(s, count), x, training)


def _chain(layers: Sequence[Any], params: Any, stats: Any, x: Array, at: Place) -> Array:
    for i, layer in enumerate(layers):
        here = Place(at.training, at.keys, (*at.path, i))
        x = LAYER_DB[type(layer).__name__].forward(layer, params[i], stats[i], x, here)
    return x


def forward(network: Any, params: Any, x: Array, *, training: bool = False, keys: Any = ()) -> Array:
    """The outputs of a network with other parameters and inputs, either of which may be complex."""
    return _chain(network.layers, params, network.statistics, x, Place(training, dict(keys), ()))


def forward_in_torch(layers: Sequence[Any], params: Any, stats: Any, x: Any, training: bool) -> Any:
    """The same in torch."""
    import torch.nn.functional as F

    for layer, p, s in zip(layers, params, stats, strict=True):
        x = LAYER_DB[type(layer).__name__].torch(F, layer, p, s, x, training)
    return x


def _activate_in_torch(F: Any, function: Any, z: Any) -> Any:
    return ACTIVATION_DB[function.name].torch(F, z)


@dataclass(frozen=True)
class LayerCase:
    """Layers from 4 to 4 features around an activation, in training or not; of a class, forward here and in torch."""

    layers: Callable[[str], list[Any]]
    forward: Callable[[Any, Any, Any, Array, Place], Array] | None = None
    training: bool = False
    torch: Callable[[Any, Any, Any, Any, Any, bool], Any] | None = None


# a record's name begins with the class that it is about; the one that is called as the class has its forward
LAYER_DB = {
    "Dense": LayerCase(
        lambda f: [la.Dense(4, activation=f)],
        lambda layer, p, s, x, at: _activate(layer.activation, x @ p["W"] + (_row(p["b"]) if layer.use_bias else 0)),
        torch=lambda F, layer, p, s, x, _: _activate_in_torch(F, layer.activation, F.linear(x, p["W"].T, p.get("b"))),
    ),
    "Dense without bias": LayerCase(lambda f: [la.Dense(4, activation=f, use_bias=False)]),
    "Activation": LayerCase(
        lambda f: [la.Activation(f)],
        lambda layer, p, s, x, at: _activate(layer.function, x),
        torch=lambda F, layer, p, s, x, training: _activate_in_torch(F, layer.function, x),
    ),
    "BatchNorm": LayerCase(
        lambda f: [la.BatchNorm(), la.Activation(f)], _batch_norm, training=True, torch=_batch_norm_in_torch
    ),
    "BatchNorm in inference": LayerCase(lambda f: [la.BatchNorm(), la.Activation(f)]),
    "LayerNorm": LayerCase(
        lambda f: [la.LayerNorm(), la.Activation(f)],
        lambda layer, p, s, x, at: _normalized(x, *_over(-1, x), layer, p),
        torch=lambda F, layer, p, s, x, _: F.layer_norm(x, x.shape[-1:], p["gamma"], p["beta"], layer.eps),
    ),
    "Dropout": LayerCase(
        lambda f: [la.Activation(f), la.Dropout(0.4)],
        _dropout,
        training=True,
        torch=lambda F, layer, p, s, x, training: F.dropout(x, layer.rate, training),
    ),
    "Dropout in inference": LayerCase(lambda f: [la.Activation(f), la.Dropout(0.4)]),
    "Residual": LayerCase(
        lambda f: [la.Residual([la.Dense(5, activation=f), la.Dropout(0.3), la.Dense(4), la.BatchNorm()])],
        _residual,
        training=True,
        torch=_residual_in_torch,
    ),
    "Residual in inference": LayerCase(lambda f: [la.Residual([la.Activation(f), la.Residual([la.LayerNorm()])])]),
    "Standardize": LayerCase(
        lambda f: [la.Standardize(0.5, 2.0), la.Activation(f)],
        lambda layer, p, s, x, at: (x - s["mean"]) / s["scale"],
        torch=lambda F, layer, p, s, x, training: (x - s["mean"]) / s["scale"],
    ),
}


# --- losses -----------------------------------------------------------------------------------------------------------


def _reals(rng: np.random.Generator, n: int, k: int) -> tuple[Array, Array]:
    y = rng.normal(size=(n, k))
    return y, y


def _bits(rng: np.random.Generator, n: int, k: int) -> tuple[Array, Array]:
    y = rng.integers(2, size=(n, k)).astype(np.float64)
    return y, y


def _labels(rng: np.random.Generator, n: int, k: int) -> tuple[Array, Array]:
    y = rng.integers(k, size=n)
    return y, np.eye(k)[y]


def _simplex(rng: np.random.Generator, n: int, k: int) -> tuple[Array, Array]:
    y = rng.dirichlet(np.ones(k), size=n)
    return y, y


def _signed(rng: np.random.Generator, n: int, k: int) -> tuple[Array, Array]:
    y = rng.normal(0.3, 0.5, size=(n, k))
    return y, y


def _huber(d: Array, delta: float) -> Array:
    size = np.where(d.real < 0, -d, d)
    return np.where(size.real <= delta, d**2 / 2, delta * (size - delta / 2))


def _binary(z: Array, y: Array) -> Array:
    return -y * np.log(1 / (1 + np.exp(-z))) - (1 - y) * np.log(1 / (1 + np.exp(z)))


@dataclass(frozen=True)
class LossCase:
    """A loss, its terms at complex predictions and dense targets, targets (as given, dense), the output activation; the
    sum of the terms in torch, (F, predictions, targets as given), of the loss with its defaults.
    """

    loss: Any
    terms: Callable[[Array, Array], Array]
    targets: Callable[[np.random.Generator, int, int], tuple[Array, Array]] = _reals
    output: str | None = None
    torch: Callable[[Any, Any, Any], Any] | None = None


# a record's name begins with the name in LOSSES
LOSS_DB = {
    "squared_error": LossCase(
        lo.SquaredError(), lambda p, y: (p - y) ** 2, torch=lambda F, p, y: F.mse_loss(p, y, reduction="sum")
    ),
    "squared_error, half": LossCase(lo.SquaredError(half=True), lambda p, y: (p - y) ** 2 / 2),
    "absolute_error": LossCase(
        lo.AbsoluteError(),
        lambda p, y: np.where((p - y).real < 0, y - p, p - y),
        torch=lambda F, p, y: F.l1_loss(p, y, reduction="sum"),
    ),
    "huber": LossCase(
        lo.Huber(), lambda p, y: _huber(p - y, 1.0), torch=lambda F, p, y: F.huber_loss(p, y, reduction="sum")
    ),
    "huber, delta": LossCase(lo.Huber(0.3), lambda p, y: _huber(p - y, 0.3)),
    "binary_cross_entropy": LossCase(
        lo.BinaryCrossEntropy(),
        _binary,
        _bits,
        torch=lambda F, p, y: F.binary_cross_entropy_with_logits(p, y, reduction="sum"),
    ),
    "binary_cross_entropy, soft": LossCase(lo.BinaryCrossEntropy(soft_targets=True), _binary, _signed),
    "binary_cross_entropy, probabilities": LossCase(
        lo.BinaryCrossEntropy(False), lambda a, y: -y * np.log(a) - (1 - y) * np.log(1 - a), _bits, "sigmoid"
    ),
    "softmax_cross_entropy": LossCase(
        lo.SoftmaxCrossEntropy(),
        lambda z, y: -y * np.log(_softmax(z)),
        _labels,
        torch=lambda F, p, y: F.cross_entropy(p, y, reduction="sum"),
    ),
    "softmax_cross_entropy, rows": LossCase(lo.SoftmaxCrossEntropy(), lambda z, y: -y * np.log(_softmax(z)), _simplex),
    "softmax_cross_entropy, soft": LossCase(
        lo.SoftmaxCrossEntropy(soft_targets=True), lambda z, y: -y * np.log(_softmax(z)), _signed
    ),
    "softmax_cross_entropy, probabilities": LossCase(
        lo.SoftmaxCrossEntropy(False), lambda p, y: -y * np.log(p), _labels, "softmax"
    ),
}


def reduced(terms: Array, weights: Array | None, reduction: str) -> Array:
    """The loss of a batch: the examples' sums of terms, weighted, added up or averaged."""
    weights = np.ones(terms.shape[-2]) if weights is None else weights
    total = np.sum(np.sum(terms, axis=-1) * weights, axis=-1)
    return total / np.sum(weights) if reduction == "mean" else total


# --- optimizers -------------------------------------------------------------------------------------------------------

# Each is a function of one number: (parameter, gradients so far, oldest first) -> the next parameter. All history is
# summed anew, as the papers' definitions have it, so that no recursion is shared with the library.


def _decayed(values: Sequence[float], rate: float) -> float:
    return sum(v * rate ** (len(values) - 1 - k) for k, v in enumerate(values))


def _adam(lr: float, b1: float, b2: float, eps: float, decay: float = 0.0) -> Callable[..., float]:
    def step(w: float, g: Sequence[float]) -> float:
        m_hat = (1 - b1) * _decayed(g, b1) / (1 - b1 ** len(g))
        v_hat = (1 - b2) * _decayed([x * x for x in g], b2) / (1 - b2 ** len(g))
        return w - lr * decay * w - lr * m_hat / (v_hat**0.5 + eps)

    return step


@dataclass(frozen=True)
class OptimizerCase:
    """An optimizer, its step in plain numbers, the class and settings of the same in torch.optim; and how it finds two
    minima: which settings need how many steps to come how close.
    """

    optimizer: Any
    step: Callable[[float, Sequence[float]], float]
    torch: tuple[str, dict[str, Any]] | None = None
    parabola: tuple[Any, int, float] | None = None
    rosenbrock: tuple[Any, int, float] | None = None


# a record's name begins with the name in OPTIMIZERS
OPTIMIZER_DB = {
    "sgd": OptimizerCase(
        op.SGD(0.1),
        lambda w, g: w - 0.1 * g[-1],
        ("SGD", {"lr": 0.1}),
        parabola=(op.SGD(0.2), 100, 1e-12),
        rosenbrock=(op.SGD(1e-3), 40_000, 1e-5),
    ),
    "sgd, momentum": OptimizerCase(
        op.SGD(0.05, momentum=0.9),
        lambda w, g: w - 0.05 * _decayed(g, 0.9),
        ("SGD", {"lr": 0.05, "momentum": 0.9}),
        parabola=(op.SGD(0.05, momentum=0.8), 400, 1e-12),
        rosenbrock=(op.SGD(5e-4, momentum=0.9), 8000, 1e-5),
    ),
    "sgd, nesterov": OptimizerCase(
        op.SGD(0.05, momentum=0.9, nesterov=True),
        lambda w, g: w - 0.05 * (g[-1] + 0.9 * _decayed(g, 0.9)),
        ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
        parabola=(op.SGD(0.05, momentum=0.8, nesterov=True), 400, 1e-12),
        rosenbrock=(op.SGD(5e-4, momentum=0.9, nesterov=True), 8000, 1e-5),
    ),
    "adagrad": OptimizerCase(
        op.Adagrad(0.1, eps=1e-8),
        lambda w, g: w - 0.1 * g[-1] / (sum(x * x for x in g) ** 0.5 + 1e-8),
        ("Adagrad", {"lr": 0.1, "eps": 1e-8}),
        parabola=(op.Adagrad(1.0), 300, 1e-12),
        rosenbrock=(op.Adagrad(0.2), 20_000, 1e-4),
    ),
    "rmsprop": OptimizerCase(
        op.RMSProp(0.01, rho=0.9, eps=1e-6),
        lambda w, g: w - 0.01 * g[-1] / ((0.1 * _decayed([x * x for x in g], 0.9)) ** 0.5 + 1e-6),
        ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-6}),
        parabola=(op.RMSProp(Exponential(0.1, per_steps=100)), 3000, 1e-6),
        rosenbrock=(op.RMSProp(Exponential(0.02, per_steps=1000)), 10_000, 1e-3),
    ),
    "adam": OptimizerCase(
        op.Adam(0.02),
        _adam(0.02, 0.9, 0.999, 1e-8),
        ("Adam", {"lr": 0.02}),
        parabola=(op.Adam(0.1), 2000, 1e-10),
        rosenbrock=(op.Adam(0.02), 5000, 1e-5),
    ),
    "adam, other settings": OptimizerCase(
        op.Adam(0.03, beta1=0.8, beta2=0.95, eps=1e-4),
        _adam(0.03, 0.8, 0.95, 1e-4),
        ("Adam", {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-4}),
    ),
    "adamw": OptimizerCase(
        op.AdamW(0.02, weight_decay=0.1),
        _adam(0.02, 0.9, 0.999, 1e-8, 0.1),
        ("AdamW", {"lr": 0.02, "weight_decay": 0.1}),
        parabola=(op.AdamW(0.1, weight_decay=0.0), 2000, 1e-10),
        rosenbrock=(op.AdamW(0.02, weight_decay=0.0), 5000, 1e-5),
    ),
}


# --- metrics ----------------------------------------------------------------------------------------------------------


def _hits(t: Sequence[int], p: Sequence[int]) -> int:
    return sum(a == b == 1 for a, b in zip(t, p, strict=True))


def _differences(t: Sequence[float], p: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(t, p, strict=True)]


@dataclass(frozen=True)
class MetricCase:
    """A metric in plain numbers, of (targets, predictions): labels 0 and 1, or the values of one output; whether it is
    measured in the units of the targets.
    """

    value: Callable[[Sequence[float], Sequence[float]], float]
    units: bool = True


# a record has the name of the metric
METRIC_DB = {
    "accuracy": MetricCase(lambda t, p: _differences(t, p).count(0) / len(t)),
    "precision": MetricCase(lambda t, p: _hits(t, p) / sum(p)),
    "recall": MetricCase(lambda t, p: _hits(t, p) / sum(t)),
    "f1": MetricCase(lambda t, p: 2 / (sum(p) / _hits(t, p) + sum(t) / _hits(t, p))),
    "r2": MetricCase(
        lambda t, p: 1 - sum(d * d for d in _differences(t, p)) / sum((a - sum(t) / len(t)) ** 2 for a in t),
        units=False,
    ),
    "mae": MetricCase(lambda t, p: sum(abs(d) for d in _differences(t, p)) / len(t)),
    "rmse": MetricCase(lambda t, p: (sum(d * d for d in _differences(t, p)) / len(t)) ** 0.5),
}

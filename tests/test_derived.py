"""Layers that write their forward pass alone, and losses that write their terms alone: the rest is derived."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import xmlp
from xmlp import losses
from xmlp.backends import context
from xmlp.compiler.tensor import PlanError
from xmlp.layers import BatchNorm, Dense, Dropout, Layer, LayerNorm, ParamSpec, Residual
from xmlp.losses import SoftmaxCrossEntropy, SquaredError

RNG = np.random.default_rng(4)
X, Y = RNG.normal(size=(40, 5)), RNG.normal(size=(40, 3))


@dataclass(frozen=True)
class Bilinear(Layer):
    """y = tanh(x A) (x B) + c."""

    units: int

    def build(self, in_features):
        matrix = ParamSpec((in_features, self.units), "glorot_uniform")
        return self.units, {"A": matrix, "B": matrix, "c": ParamSpec((self.units,), 0.1, decay=False)}

    def forward(self, params, x, ctx):
        return ctx.xp.tanh(x @ params["A"]) * (x @ params["B"]) + params["c"], None


def forward_only(kind: type[Layer]) -> type[Layer]:
    """A layer of the library without its backward pass."""
    return type(kind.__name__, (kind,), {"backward": Layer.backward})


def layers(*, derived: bool):
    dense, norm, batch, drop = (forward_only(k) if derived else k for k in (Dense, LayerNorm, BatchNorm, Dropout))
    return [dense(8, "gelu"), norm(), Residual([dense(6, "tanh"), batch(), drop(0.4), dense(8)]), dense(3)]


def fitted(stack, planned, **settings):
    network = xmlp.Network(stack, 5, dtype="float64", seed=1, backend=settings.pop("backend", "numpy"))
    trainer = xmlp.Trainer(network, planned=planned, **{"loss": "squared_error", "optimizer": "adam", **settings})
    trainer.fit(X, settings.get("y", Y), epochs=3, batch_size=16)
    return network, trainer


@pytest.mark.parametrize("backend", ["numpy", "array-api-strict:device1", "torch", "jax"])
def test_layers_that_are_derived_and_written(backend):
    """With random bits, statistics and inner layers, planned and plain; plans take any number of rows."""
    pytest.importorskip(backend.partition(":")[0].replace("-", "_"))
    planned = (True, False) if backend == "numpy" else (None,)
    there = xmlp.backends.backend(backend, dtype="float64")
    for choice in planned:
        derived, trainer = fitted(layers(derived=True), choice, backend=backend)
        written, _ = fitted(layers(derived=False), choice, backend=backend)
        assert trainer.plan_reason is None if choice else True
        for name in ("theta", "stats"):
            a, b = (there.to_host(getattr(n, name)) for n in (derived, written))
            assert np.abs(a - b).max() <= 1e-12
        found = []  # with the statistics that it has learnt, in inference mode
        for network in (derived, written):
            y, caches = network.forward(X)
            dx, grads = network.backward(caches, y)
            found.append([there.to_host(dx), there.to_host(grads.flat)])
        for a, b in zip(*found, strict=True):
            assert np.abs(a - b).max() <= 1e-12


def test_a_layer_of_ones_own():
    network = xmlp.Network([Bilinear(6), Residual([Bilinear(6)]), Dense(3)], 5, dtype="float64", seed=2)
    assert xmlp.testing.check_gradients(network, X, Y, "huber").passed
    (planned, trainer), (plain, _) = (fitted([Bilinear(6), Dense(3)], p) for p in (True, False))
    assert trainer.plan_reason is None
    assert np.abs(planned.theta - plain.theta).max() <= 1e-13
    y, caches = network.forward(X)
    dx, grads = network.backward(caches, np.ones_like(y))
    jacobian = network.jacobian(X)
    assert np.abs(dx - jacobian.sum(axis=1)).max() <= 1e-13
    assert {*grads[0]} == {"A", "B", "c"}


def test_a_stack_of_members():
    """Parameters with a leading axis, x with and without: each member's own gradients."""
    chain = xmlp.Network([Bilinear(5), Dropout(0.5)], 5, dtype="float64").chain
    members, size = 3, chain.layout.size
    thetas = RNG.normal(size=(members, size))
    ctx = context.of(chain.backend)
    from xmlp.layers import sequence

    layer = chain.layers[0]
    stacked = {n: np.stack([chain.layout.views(np, t)[0][n] for t in thetas]) for n in ("A", "B", "c")}
    stacked["c"] = stacked["c"][:, None, :]
    for x in (X, RNG.normal(size=(members, 40, 5))):
        ((y, cache),) = sequence.forward([layer], [stacked], x, [ctx])
        dy = RNG.normal(size=y.shape)
        dx, grads = sequence.backward(layer, stacked, cache, dy, ctx)
        for k in range(members):
            own = chain.layout.views(np, thetas[k])[0]
            ((_, alone),) = sequence.forward([layer], [own], x if x.ndim == 2 else x[k], [ctx])
            dx_k, grads_k = sequence.backward(layer, own, alone, dy[k], ctx)
            assert (dx[k] == dx_k).all()
            assert (grads["A"][k] == grads_k["A"]).all()
            assert (grads["c"][k].reshape(-1) == grads_k["c"].reshape(-1)).all()


@dataclass(frozen=True)
class Terms(losses.Loss):
    """The terms of a loss of the library; the gradient is derived."""

    like: losses.Loss
    reduction: str = "mean"
    name: ClassVar[str] = "terms"

    def prepare(self, targets, outputs):
        return self.like.prepare(targets, outputs)

    def terms(self, ctx, predictions, targets):
        return self.like.terms(ctx, predictions, targets)


@dataclass(frozen=True)
class LogCosh(losses.Loss):
    """L = sum_j log cosh(p_j - t_j), one for each example."""

    reduction: str = "mean"
    name: ClassVar[str] = "log cosh"

    def terms(self, ctx, predictions, targets):
        d = predictions - targets
        return ctx.xp.sum(ctx.xp.log(0.5 * (ctx.xp.exp(d) + ctx.xp.exp(-d))), axis=-1)


@pytest.mark.parametrize("like", [SquaredError(), losses.Huber(), SoftmaxCrossEntropy()], ids=lambda loss: loss.name)
def test_losses_that_are_derived_and_written(like):
    y = RNG.integers(0, 3, size=40) if like.name.startswith("softmax") else Y
    p = RNG.normal(size=(40, 3))
    weights = RNG.random(40)
    for w in (None, weights):
        value, gradient = Terms(like).value_and_grad(p, y, sample_weight=w)
        value_of, gradient_of = like.value_and_grad(p, y, sample_weight=w)
        assert value == value_of
        assert np.abs(gradient - gradient_of).max() <= 1e-15


def test_a_loss_of_ones_own():
    network = xmlp.Network([Dense(6, "tanh"), Dense(3)], 5, dtype="float64", seed=2)
    assert xmlp.testing.check_gradients(network, X, Y, LogCosh(), sample_weight=RNG.random(40)).passed
    (planned, trainer), (plain, _) = (fitted([Bilinear(6), Dense(3)], p, loss=LogCosh()) for p in (True, False))
    assert trainer.plan_reason is None
    assert np.abs(planned.theta - plain.theta).max() <= 1e-13
    p = np.asarray([[1e300, 0.5, -0.25]]) * 0.0
    value, gradient = LogCosh().value_and_grad(p + Y[:1], Y[:1])
    assert value == 0.0
    assert (gradient == 0.0).all()


def test_what_cannot_be_derived():
    @dataclass(frozen=True)
    class Sorted(Layer):
        def build(self, in_features):
            return in_features, {}

        def forward(self, params, x, ctx):
            return ctx.xp.sort(x, axis=-1), None

    network = xmlp.Network([Dense(3), Sorted(), Dense(3)], 5)
    before = network.theta.copy()
    with pytest.raises(PlanError, match=r"Sorted\(\) has no written derivative, and none can be derived: xp\.sort"):
        network.fit(X, Y, epochs=1, planned=False)
    assert (network.theta == before).all()
    assert network.predict(X).shape == (40, 3)

    class Empty(losses.Loss):
        pass

    with pytest.raises(NotImplementedError, match="Empty is a loss without terms"):
        Empty().value_and_grad(X, X)

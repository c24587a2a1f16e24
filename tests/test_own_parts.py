"""Optimizers and losses of a user's own that are more than elementwise: each short, and planned."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

import xmlp
from xmlp import losses, optimizers
from xmlp.layers import BatchNorm, Dense, Dropout, LayerNorm, Standardize
from xmlp.optimizers import scalars_at

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 5))
Y = np.sin(X[:, :1]) + 0.1 * X[:, 1:2] * RNG.normal(size=(300, 1))


# --- an optimizer that treats each array as a whole -------------------------------------------------------------------


@xmlp.elementwise
def trusted(xp, w, g, w_norm2, g_norm2, *, lr, decay, trust):
    """w - lr trust |w| / |g + decay w| (g + decay w), the plain step where a norm is 0 (You et al., 2017, eq. 6)."""
    positive = (w_norm2 > 0) & (g_norm2 > 0)
    ratio = xp.where(positive, trust * xp.sqrt(w_norm2 / xp.where(positive, g_norm2, 1.0)), 1.0)
    return w - lr * ratio * (g + decay * w)


@dataclass(frozen=True)
class LARS(optimizers.Optimizer):
    """Layer-wise adaptive rates."""

    lr: float | Callable[[int], float] = 1.0
    trust: float = 0.02
    weight_decay: float = 1e-3
    rule: ClassVar[Any] = trusted

    def scalars(self, lr, step, decay=True):
        return {"lr": lr, "decay": self.weight_decay if decay else 0.0, "trust": self.trust}

    def advance(self, ctx, theta, grad, state, parts, layout):
        pieces = []
        for slot in layout.slots:
            w, g = theta[slot.start : slot.stop], grad[slot.start : slot.stop]
            scalars = scalars_at(parts, slot.start)
            if scalars is not None:  # else it is not trained
                whole = g + scalars["decay"] * w
                w = ctx.apply(trusted, w, g, ctx.xp.sum(w * w), ctx.xp.sum(whole * whole), **scalars)
            pieces.append(w)
        return ctx.xp.concat(pieces), {}


LAYERS = [
    Standardize(mean=0.1, scale=1.5), Dense(16, "tanh"), BatchNorm(), Dropout(0.1), Dense(8, "silu"), LayerNorm(),
    Dense(1),
]  # fmt: skip


def trained(planned, optimizer="adam", loss="squared_error", layers=LAYERS, dtype="float64", y=Y, **settings):
    network = xmlp.Network(layers, X.shape[1], dtype=dtype, seed=1)
    trainer = xmlp.Trainer(network, loss=loss, optimizer=optimizer, planned=planned, **settings)
    trainer.fit(X, y, epochs=5, batch_size=32)
    assert not planned or trainer.run.runner.reason is None
    return network, trainer


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.5, "l2": 1e-3}], ids=["plain", "penalties"])
def test_an_optimizer_by_layers_is_planned(settings):
    (planned, trainer), (plain, _) = (trained(p, LARS(), **settings) for p in (True, False))
    assert np.abs(planned.theta - plain.theta).max() <= 1e-12
    assert trainer.history["loss"][-1] < 0.7 * trainer.history["loss"][0]


def test_an_optimizer_by_layers_does_what_its_equation_says():
    network = xmlp.Network([Dense(3, "tanh"), Dense(1)], 5, dtype="float64", seed=1)
    w = network.parameters[0]["W"].copy()
    g = network.value_and_grad(X, Y, "squared_error")[1][0]["W"] + 1e-3 * w
    xmlp.Trainer(network, loss="squared_error", optimizer=LARS(0.5)).step(X, Y)
    expected = w - 0.5 * 0.02 * np.linalg.norm(w) / np.linalg.norm(g) * g
    assert np.abs(network.parameters[0]["W"] - expected).max() <= 1e-15


def test_an_optimizer_by_layers_resumes(tmp_path):
    network, trainer = trained(True, LARS())
    trainer.save(tmp_path / "run.xmlp")
    trainer.fit(X, Y, epochs=2)
    resumed = xmlp.Trainer.resume(tmp_path / "run.xmlp", custom={"LARS": LARS})
    resumed.fit(X, Y, epochs=2)
    assert np.array_equal(resumed.network.theta, network.theta)


# --- a loss whose predictions have more columns than its targets ------------------------------------------------------


@dataclass(frozen=True)
class GaussianNLL(losses.Loss):
    """Outputs m and s, the mean and the logarithm of the variance: L = s / 2 + (y - m)^2 exp(-s) / 2."""

    reduction: str = "mean"
    name: ClassVar[str] = "Gaussian likelihood"

    def prepare(self, targets, outputs):
        return losses.reals(targets, outputs // 2)

    def terms_and_gradient(self, ctx, predictions, targets):
        xp, first = ctx.xp, ctx.index(2) == 0
        m, s = (xp.sum(xp.where(w, predictions, 0.0), axis=-1, keepdims=True) for w in (first, ctx.index(2) == 1))
        error, precision = m - targets, xp.exp(-s)
        scaled = error * error * precision
        return 0.5 * (s + scaled), xp.where(first, error * precision, 0.5 * (1.0 - scaled))


@dataclass(frozen=True)
class Quantiles(losses.Loss):
    """Outputs q_i, each with as much weight p_i above it: L = sum_i max(p_i d_i, (p_i - 1) d_i), d_i = y - q_i
    (Koenker & Bassett, 1978).
    """

    count: int = 3
    reduction: str = "mean"
    elementwise: ClassVar[bool] = True

    def prepare(self, targets, outputs):
        return losses.reals(targets, 1)

    def terms_and_gradient(self, ctx, predictions, targets):
        xp = ctx.xp
        p = (1.0 + xp.astype(ctx.index(self.count), predictions.dtype)) / (self.count + 1.0)
        below = targets < predictions
        return xp.where(below, p - 1.0, p) * (targets - predictions), xp.where(below, 1.0 - p, -p)


@pytest.mark.parametrize("weights", [None, RNG.random(300)], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(("loss", "outputs"), [(GaussianNLL(), 2), (Quantiles(), 3)], ids=["Gaussian", "quantiles"])
def test_a_loss_with_more_columns_than_targets(loss, outputs, weights):
    layers = [Dense(16, "tanh"), Dense(outputs)]
    network = xmlp.Network(layers, 5, dtype="float64", seed=1)
    assert xmlp.testing.check_gradients(network, X, Y, loss, sample_weight=weights).passed
    assert not network.evaluations.kept[0].reason
    found = []
    for planned in (True, False):
        network, trainer = trained(planned, loss=loss, layers=layers)
        trainer.fit(X, Y, epochs=40, sample_weight=weights)
        assert trainer.evaluate(X, Y)["loss"] < trainer.history["loss"][0]
        found.append(network)
    assert np.abs(found[0].theta - found[1].theta).max() <= 1e-11
    if outputs == 3 and weights is None:
        below = (found[0].predict(X) > Y).mean(axis=0)
        assert np.abs(below - [0.25, 0.5, 0.75]).max() < 0.1

"""Optimizers and losses of a user's own that are more than elementwise: each short, and planned."""

import copy
import pickle
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


# --- a loss with another link -----------------------------------------------------------------------------------------

RATE = losses.Link("exp", xmlp.elementwise(lambda xp, z: xp.exp(z)))
COUNTS = RNG.poisson(np.exp(1.0 + X[:, :1] - 0.5 * X[:, 1:2])).astype(np.float64)


@xmlp.elementwise
def poisson_terms(xp, z, y):
    """L = exp(z) - y z, the negative logarithm of the Poisson distribution of mean exp(z) but for a constant."""
    return xp.exp(z) - y * z


@dataclass(frozen=True)
class Poisson(losses.Loss):
    """Counts: the raw outputs are logarithms of their means."""

    reduction: str = "mean"
    link: ClassVar[losses.Link] = RATE
    name: ClassVar[str] = "Poisson"

    def terms_and_gradient(self, ctx, predictions, targets):
        terms = ctx.apply(poisson_terms, predictions, targets)
        return terms, ctx.apply(poisson_terms.derivative, predictions, targets)


def test_a_loss_with_another_link(tmp_path):
    layers = [Dense(16, "tanh"), Dense(1)]
    (planned, trainer), (plain, _) = (
        trained(p, loss=Poisson(), layers=layers, y=COUNTS, metrics=["mae"]) for p in (True, False)
    )
    assert np.abs(planned.theta - plain.theta).max() <= 1e-12
    trainer.fit(X, COUNTS, epochs=60)
    means = planned.predict_response(X)
    assert planned.link == "exp"
    assert np.abs(means / np.exp(planned.predict(X)) - 1.0).max() <= 1e-14
    assert np.abs(means.mean() / COUNTS.mean() - 1.0) < 0.05
    assert trainer.evaluate(X, COUNTS)["mae"] == pytest.approx(np.abs(means - COUNTS).mean())
    with pytest.raises(ValueError, match=r"\"exp\": it was not trained with a cross-entropy"):
        planned.predict_proba(X)
    with pytest.raises(ValueError, match="names no loss of the library: pass loss="):
        planned.fit(X, COUNTS)


def test_a_link_of_ones_own_is_kept(tmp_path):
    network, trainer = trained(True, loss=Poisson(), layers=[Dense(1)], y=COUNTS)
    network.save(tmp_path / "model")
    trainer.save(tmp_path / "run")
    loaded = xmlp.load(tmp_path / "model", custom={"exp": RATE})
    resumed = xmlp.Trainer.resume(tmp_path / "run", custom={"exp": RATE, "Poisson": Poisson}).network
    for other in (loaded, resumed, copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert other.link == "exp"
        assert np.array_equal(other.predict_response(X), network.predict_response(X))
    for custom in (None, {"exp": Poisson}):
        with pytest.raises(xmlp.errors.CheckpointError, match="unknown link 'exp': pass a link of your own"):
            xmlp.load(tmp_path / "model", custom=custom)
    with pytest.raises(ValueError, match=r"outcome 'events'.*'event'"):
        losses.Link("exp", RATE.function, "events")
    with pytest.raises(ValueError, match=r"threshold must be a finite number, got 'a'"):
        losses.Link("exp", RATE.function, threshold="a")
    with pytest.raises(TypeError, match="the name of a link is a string, got 3"):
        losses.Link(3, RATE.function)
    with pytest.raises(TypeError, match="a formula"):
        losses.Link("exp", np.exp)
    with pytest.raises(ValueError, match=r"unknown link 'soft_max'\. Did you mean 'softmax'"):
        network.link = "soft_max"


def test_estimators_predict_through_the_link():
    counts = COUNTS[:, 0]
    model = xmlp.MLPRegressor((8,), loss=Poisson(), max_iter=60, random_state=0).fit(X, counts)
    assert np.array_equal(model.predict(X), model.network_.predict_response(X)[:, 0])
    assert np.abs(model.predict(X).mean() / counts.mean() - 1.0) < 0.05
    shares = xmlp.MLPRegressor((8,), loss="binary_cross_entropy", max_iter=5, random_state=0).fit(X, X[:, 0] > 0)
    assert 0 < shares.predict(X).min() < shares.predict(X).max() < 1
    with pytest.raises(ValueError, match="the link of the Poisson forbids"):
        xmlp.MLPRegressor(loss=Poisson(), scale_targets=True).fit(X, counts)


@pytest.mark.parametrize(
    ("loss", "link"), [(Poisson(), "exp"), (losses.BinaryCrossEntropy(from_logits=False), "event_probability")]
)
def test_a_classifier_refuses_what_is_not_of_raw_outputs(loss, link):
    with pytest.raises(ValueError, match=f"of outputs through the link '{link}': take"):
        xmlp.MLPClassifier((4,), loss=loss).fit(X, X[:, 0] > 0)


@pytest.mark.parametrize("kind", ["two classes", "three classes", "labels"])
@pytest.mark.parametrize("loss", ["squared_error", "huber", "own", "auto"])
def test_a_classifier_with_any_loss(loss, kind):
    """0 and 1 as numbers are decided at a half; the outputs of a loss of one's own are logits."""
    labels = {"two classes": X[:, 0] > 0, "three classes": np.digitize(X[:, 0], [-0.4, 0.4]), "labels": X[:, :2] > 0}
    y = labels[kind].astype(int)
    own = xmlp.elementwise(lambda xp, z, y: xp.log1p(xp.exp(xp.where(y > 0.5, -z, z))))
    model = xmlp.MLPClassifier(
        (16,), loss=own if loss == "own" else loss, max_iter=60, learning_rate=0.01, random_state=0, dtype="float64"
    ).fit(X, y)
    p, decisions = model.predict_proba(X), model.decision_function(X)
    assert ((model.predict(X) == y).mean()) > 0.9
    assert (p.min(), p.max()) >= (0, 0.9)
    assert p.max() <= 1
    if kind == "three classes":
        assert np.array_equal(p.argmax(axis=1), model.predict(X))
        assert np.allclose(p.sum(axis=1), 1)
    else:
        assert np.array_equal(p[:, 1] > 0.5 if kind == "two classes" else p > 0.5, model.predict(X))
        assert np.array_equal(decisions > 0, model.predict(X))
    with np.errstate(divide="ignore"):
        assert np.allclose(model.predict_log_proba(X), np.log(p))


@dataclass(frozen=True)
class WithoutLink(losses.SquaredError):
    """The squared error, its link given as an object."""

    link: ClassVar[losses.Link] = losses.link("identity")


def test_a_link_is_the_same_as_an_object_and_by_its_name():
    by_name, by_object = (
        xmlp.MLPRegressor((4,), loss=loss, scale_targets=True, max_iter=3, random_state=0).fit(X, Y[:, 0])
        for loss in ("squared_error", WithoutLink())
    )
    assert np.array_equal(by_name.predict(X), by_object.predict(X))
    xmlp.MLPClassifier((4,), loss=WithoutLink(), max_iter=1).fit(X, X[:, 0] > 0)
    network = xmlp.mlp([5, 4, 1], output_activation="sigmoid")
    assert network.fit(X, X[:, :1] > 0, loss=WithoutLink(), epochs=1)
    assert network.link == "sigmoid"


def test_outputs_that_are_probabilities_already_pass_no_link():
    """A network that ends in a function of its own, trained with a cross-entropy of probabilities."""
    y = (X[:, :1] > 0) * 1.0
    network = xmlp.Network([Dense(8, "tanh"), Dense(1), "hard_sigmoid"], 5, dtype="float64", seed=1)
    loss = losses.BinaryCrossEntropy(from_logits=False)
    trainer = xmlp.Trainer(network, loss=loss, optimizer="adam", metrics=["accuracy", "mae"])
    trainer.fit(X, y, epochs=20, batch_size=32)
    p, measured = network.predict(X), trainer.evaluate(X, y)
    assert network.link == "event_probability"
    assert np.array_equal(network.predict_proba(X), p)
    assert np.array_equal(network.predict_label(X)[:, None], p > 0.5)
    assert measured["accuracy"] == pytest.approx(((p > 0.5) == y).mean())
    assert measured["mae"] == pytest.approx(np.abs(p - y).mean())
    with pytest.raises(ValueError, match="no probabilities to calibrate"):
        network.calibrate(X, y)


@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy"])
def test_metrics_are_those_of_predictions_and_decisions(loss):
    """Decisions at a half: of the outputs where there is no link, of probabilities behind one, where errors are too."""
    y = (X[:, :1] > 0) * 1.0
    network, trainer = trained(True, loss=loss, layers=[Dense(8, "tanh"), Dense(1)], y=y, metrics=["accuracy", "mae"])
    p, measured = network.predict_response(X), trainer.evaluate(X, y)
    assert measured["accuracy"] == pytest.approx(((p > 0.5) == y).mean())
    assert measured["mae"] == pytest.approx(np.abs(p - y).mean())

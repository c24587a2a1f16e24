"""The loss of a network on rows and its gradient: planned as plain, for any number of rows, arrays and threads."""

import threading
import warnings
from typing import Any

import numpy as np
import pytest

import xmlp
from xmlp import losses
from xmlp.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, Standardize
from xmlp.network.functions import Functions

FEATURES, OUTPUTS = 7, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(6000, FEATURES))
REALS = RNG.normal(size=(6000, OUTPUTS))
LABELS = RNG.integers(0, OUTPUTS, 6000)
WEIGHTS = RNG.random(6000)
LAYERS: dict[str, list[Any]] = {
    "tanh": [Dense(33, "tanh"), Dense(OUTPUTS)],
    "norms": [
        Standardize(mean=0.5, scale=2.0),
        Dense(16),
        BatchNorm(),
        Activation("gelu"),
        LayerNorm(),
        Dense(OUTPUTS),
    ],
    "dropout": [Dense(16, "relu"), Dropout(0.5), Dense(OUTPUTS)],
}
TARGETS = [("squared_error", REALS), ("huber", REALS), ("softmax_cross_entropy", LABELS)]


def network_of(layers, dtype="float64", planned=True):
    network = xmlp.Network(LAYERS[layers], FEATURES, dtype=dtype, seed=1)
    network.evaluations = Functions(network.chain, planned)
    return network


def agree(a, b, tolerance):
    assert abs(float(a[0]) - float(b[0])) <= tolerance * max(1.0, abs(float(b[0])))
    assert np.abs(a[1].flat - b[1].flat).max() <= tolerance


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", LAYERS)
def test_planned_and_plain_are_the_same_for_any_rows(layers, dtype):
    """Rows that are copied and rows that are bound, in turn; plans that are made for many rows and run for few."""
    planned, plain = network_of(layers, dtype), network_of(layers, dtype, planned=False)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    for i, n in enumerate([5500, 3, 1, 6000, 100, 1500, 580, 590, 2000, 4100, 77, 6000, 2]):
        loss, y = TARGETS[i % 3]
        weights = WEIGHTS[:n] if i % 2 else None
        given = {"loss": loss, "sample_weight": weights}
        expected = plain.value_and_grad(X[:n], y[:n], **given)
        agree(planned.value_and_grad(X[:n], y[:n], **given), expected, tolerance)
        assert abs(planned.loss_value(X[:n], y[:n], **given) - expected[0]) <= tolerance * max(1.0, float(expected[0]))
    assert all(f.reason is None for f in planned.evaluations.kept)


def test_parameters_that_are_passed_take_the_place_of_its_own():
    planned, plain = network_of("tanh"), network_of("tanh", planned=False)
    before = planned.theta.copy()
    for scale in (0.5, 2.0, 0.5):
        theta = before * scale
        agree(
            planned.value_and_grad(X[:20], REALS[:20], "huber", theta=theta),
            plain.value_and_grad(X[:20], REALS[:20], "huber", theta=theta), 1e-14,
        )  # fmt: skip
    assert np.array_equal(planned.theta, before)
    planned.theta, plain.theta = before * 3, before * 3
    agree(*(n.value_and_grad(X[:20], REALS[:20], "huber") for n in (planned, plain)), 1e-13)


def test_results_are_the_callers_own():
    network = network_of("tanh")
    value, gradients = network.value_and_grad(X[:9], REALS[:9], "huber")
    kept = float(value), gradients.flat.copy()
    network.value_and_grad(X[9:18], REALS[9:18], "squared_error")
    network.value_and_grad(X[9:18], REALS[9:18], "huber")
    assert float(value) == kept[0]
    assert np.array_equal(gradients.flat, kept[1])
    gradients.flat[:] = 7.0
    assert np.abs(network.value_and_grad(X[:9], REALS[:9], "huber")[1].flat - kept[1]).max() == 0


@pytest.mark.parametrize("rows", [20, 5000])
def test_arrays_of_any_layout_that_are_not_written_to(rows):
    network = network_of("tanh")
    expected = network.value_and_grad(X[:rows], REALS[:rows], "huber")
    x, y = np.asfortranarray(X[:rows]), np.repeat(REALS[:rows], 2, axis=0)[::2]
    for array in (x, y):
        array.flags.writeable = False
    agree(network.value_and_grad(x, y, "huber"), expected, 0)
    assert np.array_equal(network.compute(x), network.compute(X[:rows]))  # on the device already
    agree(network.value_and_grad(x.astype("float32").astype("float64")[::-1], y[::-1], "huber"), expected, 1e-6)


def test_threads_have_programs_of_their_own():
    network, found = network_of("tanh"), {}
    expected = [network.value_and_grad(X[:n], REALS[:n], "huber")[1].flat for n in (5, 50, 5000)]

    def work(k):
        found[k] = [
            np.abs(network.value_and_grad(X[:n], REALS[:n], "huber")[1].flat - g).max()
            for _ in range(20) for n, g in zip((5, 50, 5000), expected, strict=True)
        ]  # fmt: skip

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 8
    assert max(max(of_thread) for of_thread in found.values()) == 0


class Sorting(Layer):
    """What no plan has: it sorts the features of each row."""

    def build(self, in_features):
        return in_features, {}

    def forward(self, params, x, ctx):
        return ctx.xp.sort(x, axis=-1), ctx.xp.argsort(x, axis=-1)

    def backward(self, params, cache, dy, ctx):
        return ctx.xp.take_along_axis(dy, ctx.xp.argsort(cache, axis=-1), axis=-1), {}


def test_what_cannot_be_planned_runs_plain_and_keeps_the_reason():
    network = xmlp.Network([Dense(5, "tanh"), Sorting(), Dense(OUTPUTS)], FEATURES, dtype="float64", seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a layer of the user's own: no news to them
        network.value_and_grad(X[:20], REALS[:20], "huber")
    report = xmlp.testing.check_gradients(network, X[:20], REALS[:20], "huber")
    assert report.passed
    (kept, *_) = network.evaluations.kept
    assert "sort" in kept.reason


def test_what_should_be_planned_and_is_not_is_said_once(monkeypatch):
    monkeypatch.setattr(
        "xmlp.network.planned.tensor_graph.trace", lambda *a: (_ for _ in ()).throw(ValueError("broken."))
    )
    network = network_of("tanh")
    with pytest.warns(UserWarning, match="the loss runs without a plan, which is slower: broken"):
        network.value_and_grad(X[:20], REALS[:20], "huber")
    with pytest.warns(UserWarning, match="prediction runs without a plan, which is slower: broken"):
        network.predict(X[:20])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.value_and_grad(X[:21], REALS[:21], "huber")
        network.predict(X[:21])


def test_functions_are_kept_up_to_a_number():
    network = network_of("tanh")
    for delta in np.linspace(0.5, 2.0, 40):
        network.loss_value(X[:5], REALS[:5], losses.Huber(delta=float(delta)))
    assert len(network.evaluations.kept) <= 8


def test_evaluate_is_the_loss_and_the_metrics_of_all_rows():
    network = network_of("tanh")
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="sgd", metrics=["accuracy"])
    for rows, batch in ((6000, 1024), (6000, 6000), (10, 3)):
        found = trainer.evaluate(X[:rows], LABELS[:rows], sample_weight=WEIGHTS[:rows], batch_size=batch)
        expected = network.loss_value(X[:rows], LABELS[:rows], "softmax_cross_entropy", sample_weight=WEIGHTS[:rows])
        assert abs(found["loss"] - float(expected)) <= 1e-12
        right = network.predict(X[:rows]).argmax(axis=1) == LABELS[:rows]
        assert abs(found["accuracy"] - np.average(right, weights=WEIGHTS[:rows])) <= 1e-12

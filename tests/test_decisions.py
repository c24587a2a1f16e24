"""Thresholds and temperatures: the best that there are for the data, kept, saved, and used by default."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from conftest import Mode
from hypothesis import given, settings
from hypothesis import strategies as st

import xmlp
from xmlp import metrics
from xmlp.activations import sigmoid, softmax
from xmlp.network import decisions

RNG = np.random.default_rng(5)
X = RNG.normal(size=(80, 3))
BITS = (X[:, :2] + 0.7 * RNG.normal(size=(80, 2)) > 0.4).astype(float)
LABELS = np.argmax(X + 0.5 * RNG.normal(size=(80, 3)), axis=1)
METRICS = {"f1": metrics.f1, "accuracy": metrics.accuracy, "precision": metrics.precision, "recall": metrics.recall}


def fitted(y: Any = BITS, backend: Any = None, scale: float = 1.0, **kw: Any) -> xmlp.Network:
    """A network that is sure of itself."""
    outputs = 3 if y is LABELS else y.shape[1]
    network = xmlp.mlp([3, 8, outputs], backend=backend or xmlp.backend(dtype="float64"), **kw)
    network.fit(X, y, loss="softmax_cross_entropy" if y is LABELS else "binary_cross_entropy", epochs=4)
    network.theta = network.backend.to_host(network.theta) * scale
    return network


@pytest.mark.parametrize("metric", METRICS)
def test_no_threshold_is_better(metric: str) -> None:
    """Every threshold that makes a difference, tried one by one with the metric of the library."""
    network = fitted()
    found = network.tune_thresholds(X, BITS, metric)
    p = network.predict_proba(X)
    for k, threshold in enumerate(found):

        def value(t: float, k: int = k) -> float:
            return METRICS[metric](BITS[:, k].astype(int), (p[:, k] > t).astype(int))

        cuts = [-1.0, *np.unique(p[:, k])]
        assert value(threshold) == max(map(value, cuts))


def test_thresholds_are_kept_and_used() -> None:
    network = fitted()
    before = network.predict_label(X)
    found = network.tune_thresholds(X, BITS, "recall")
    assert network.thresholds == found
    assert (network.predict_label(X) == (network.predict_proba(X) > found)).all()
    assert (network.predict_label(X) != before).any()
    assert (network.predict_label(X, thresholds=0.5) == before).all()


def test_weights_and_gaps_of_thresholds() -> None:
    network, counts = fitted(), RNG.integers(0, 4, 80)
    rows = np.repeat(np.arange(80), counts)
    expected = network.tune_thresholds(X[rows], BITS[rows])
    assert network.tune_thresholds(X, BITS, sample_weight=counts) == expected
    gone = counts == 0
    left = network.tune_thresholds(X[~gone], BITS[~gone])
    assert network.tune_thresholds(X, np.where(gone[:, None], np.nan, BITS)) == left
    one = network.tune_thresholds(X, np.ma.masked_array(BITS, gone[:, None] & np.asarray([True, False])))
    assert one[0] == left[0]
    assert network.tune_thresholds(X, BITS * np.asarray([np.nan, 1]))[0] == 0.5


def test_a_threshold_of_ones_own_metric() -> None:
    """A cost of 5 for what is missed and 1 for a false alarm: the cheapest of all thresholds."""
    network = fitted()
    found = network.tune_thresholds(X, BITS, lambda tp, fp, fn, tn: -(5 * fn + fp))
    p = network.predict_proba(X)
    for k in (0, 1):
        cost = [5 * BITS[p[:, k] <= t, k].sum() + (1 - BITS[p[:, k] > t, k]).sum() for t in [found[k], *p[:, k], -1]]
        assert cost[0] == min(cost)
    with pytest.raises(ValueError, match="one score per cut"):
        network.tune_thresholds(X, BITS, lambda tp, fp, fn, tn: 1.0)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30),
       st.lists(st.floats(0, 1), min_size=2, max_size=8))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_recall_never_rises_with_the_threshold(rows: Any, thresholds: list[float]) -> None:
    p, truth, w = (np.asarray(column) for column in zip(*rows, strict=True))
    if not (w * truth).any():
        return
    recalls = [
        metrics.recall(truth.astype(int), (p > t).astype(int), sample_weight=w, average=None)[1]  # type: ignore[index]
        for t in sorted(thresholds)
    ]
    assert recalls == sorted(recalls, reverse=True)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_every_cut_is_tried(rows: Any) -> None:
    """Probabilities next to each other, at 0 and at 1, in float32: a threshold splits them or there is no such cut."""
    p, truth, w = (np.asarray(column) for column in zip(*rows, strict=True))
    p = np.concatenate([p, np.nextafter(p, np.float32(1))]).astype(np.float32)
    truth, w = np.concatenate([truth, ~truth]), np.concatenate([w, w])
    found = decisions.best_thresholds(p[:, None], truth[:, None], w[:, None], decisions.SCORES["accuracy"])[0]

    def right(t: Any) -> float:
        return float(w[(p > t) == truth].sum())

    assert right(found) == max(right(t) for t in [-1.0, *p]) or not w.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neighbouring_numbers_are_split(dtype: str) -> None:
    """Half-way between two numbers next to each other rounds to one of them, which must be the lower."""
    low = np.asarray(0.3, dtype)
    for _ in range(4):
        high = np.nextafter(low, np.asarray(1, dtype))
        p = np.stack([low, high])[:, None]
        found = decisions.best_thresholds(p, p == high, np.ones((2, 1)), decisions.SCORES["accuracy"])[0]
        assert (p > found).tolist() == [[False], [True]]
        low = high


@pytest.mark.parametrize("y", [BITS, LABELS], ids=["sigmoid", "softmax"])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_calibration_is_the_minimum(y: Any, scale: float) -> None:
    network = fitted(y, scale=scale)
    z, link = network.predict(X), sigmoid if y is BITS else softmax

    def nll(temperature: float) -> float:
        p = link.evaluate(np, z / temperature)
        return -float(np.log(np.where(y == 1, p, 1 - p) if y is BITS else p[range(80), y]).sum())

    before = network.predict_proba(X)
    temperature = network.calibrate(X, y)
    assert temperature != 1
    assert (network.predict_proba(X) != before).any()
    assert np.allclose(network.predict_proba(X), link.evaluate(np, z / temperature), rtol=1e-12)
    assert nll(temperature) <= min(nll(t) for t in (1.0, temperature * 1.01, temperature / 1.01, 3 * temperature))
    assert (network.predict(X) == z).all()


def test_calibration_weighs_rows() -> None:
    network, counts = fitted(LABELS), RNG.integers(0, 4, 80)
    rows = np.repeat(np.arange(80), counts)
    weighted = network.calibrate(X, LABELS, sample_weight=counts)
    assert weighted == pytest.approx(network.calibrate(X[rows], LABELS[rows]), rel=1e-12)


def test_perfect_answers_are_not_made_certain() -> None:
    network = fitted()
    sure = network.calibrate(X, (network.predict(X) > 0).astype(float))
    assert 0 < sure < 0.01
    assert np.isfinite(network.predict_proba(X)).all()


def test_decisions_travel_with_the_network(mode: Mode, tmp_path: Any) -> None:
    network = fitted(backend=mode.backend())
    network.calibrate(X, BITS)
    network.tune_thresholds(X, BITS)
    network.save(tmp_path / "n.safetensors")
    copies = [xmlp.load(tmp_path / "n.safetensors", mode.backend()), copy.deepcopy(network), network.to("numpy")]
    for again in [*copies, pickle.loads(pickle.dumps(network))]:
        assert (again.temperature, again.thresholds) == (network.temperature, network.thresholds)
        assert (again.predict_label(X) == network.predict_label(X)).all()
    network.calibrate(X, BITS)
    assert network.thresholds is None


def test_a_built_in_sigmoid_is_calibrated_at_its_logits() -> None:
    plain, built = fitted(), fitted(output_activation="sigmoid")
    built.theta = plain.theta
    assert built.calibrate(X, BITS) == pytest.approx(plain.calibrate(X, BITS), rel=1e-12)
    assert np.allclose(built.predict_proba(X), plain.predict_proba(X), rtol=1e-13)


def test_wrong_networks_and_metrics() -> None:
    network = xmlp.mlp([3, 2])
    with pytest.raises(ValueError, match='link "identity" has no probabilities'):
        network.calibrate(X, BITS)
    with pytest.raises(ValueError, match="thresholds belong to a sigmoid link"):
        network.tune_thresholds(X, BITS)
    with pytest.raises(ValueError, match="Did you mean 'recall'"):
        fitted().tune_thresholds(X, BITS, "recal")


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"temperature": "1"}, {"thresholds": [0.5]}])
def test_a_file_with_wrong_decisions_is_refused(wrong: Any) -> None:
    network = fitted()
    with pytest.raises(xmlp.CheckpointError, match=r"temperature|thresholds"):
        xmlp.Network.from_config({**network.config(), **wrong}, network.arrays())


# --- pickles ----------------------------------------------------------------------------------------------------------


@xmlp.elementwise
def wavy(xp, x, *, width=1.0):
    return x + width * xp.tanh(x) ** 2


def test_a_pickled_network_trains_on(mode: Mode) -> None:
    network = xmlp.mlp([3, 6, 3], wavy.bind(width=0.5), "softmax", dropout=0.2, normalization="batch",
                       backend=mode.backend(), seed=3)  # fmt: skip
    network.fit(X, LABELS, epochs=1)
    again = pickle.loads(pickle.dumps(network))
    assert again.backend == network.backend
    for n in (network, again):
        n.fit(X, LABELS, epochs=1)
    assert (network.backend.to_host(network.theta) == again.backend.to_host(again.theta)).all()


def test_cuts_without_a_score_are_not_taken() -> None:
    p, truth = np.asarray([[0.1], [0.4], [0.8]]), np.asarray([[0.0], [1.0], [1.0]])
    precision = decisions.best_thresholds(p, truth, np.ones((3, 1)), lambda a, b, c, d: a / (a + b))
    assert 0.1 <= precision[0] < 0.8
    with pytest.raises(ValueError, match="NaN at every cut"):
        decisions.best_thresholds(p, truth, np.ones((3, 1)), lambda a, b, c, d: a * np.nan)
    with pytest.raises(ValueError, match="metric of thresholds"):
        decisions.score_named(["f1"])

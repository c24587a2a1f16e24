"""Weights: k is the row repeated k times, 0 the row removed, a missing target the weight 0, wherever weights count."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Mode
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import check, relative, report  # noqa: F401  (a fixture)

import xmlp
from xmlp import losses, metrics, optimizers
from xmlp.layers import Dense, LayerNorm

RNG = np.random.default_rng(11)
N = 12
X = RNG.normal(size=(N, 3))
REALS = RNG.normal(size=(N, 2))
BITS = RNG.integers(0, 2, (N, 2)).astype(float)
LABELS = np.arange(N) % 2
COUNTS = np.asarray([2, 0, 1, 3, 1, 0, 1, 4, 1, 2, 0, 1])


@xmlp.elementwise
def pseudo_huber(xp, prediction, target):
    return xp.sqrt(1 + (prediction - target) ** 2)


class Squares:
    """A loss as an object, with a derivative by hand."""

    def fn(self, predictions: Any, targets: Any) -> Any:
        return (predictions - targets) ** 2

    def deriv(self, predictions: Any, targets: Any) -> Any:
        return 2 * (predictions - targets)


ELEMENTWISE: dict[str, tuple[Any, Any]] = {
    "squared": (losses.SquaredError(), REALS),
    "absolute": (losses.AbsoluteError(), REALS),
    "Huber": (losses.Huber(0.5), REALS),
    "sum": (losses.SquaredError(reduction="sum"), REALS),
    "user's formula": (losses.ElementwiseLoss(pseudo_huber), REALS),
    "binary": (losses.BinaryCrossEntropy(), BITS),
}
LOSSES: dict[str, tuple[Any, Any]] = {
    **ELEMENTWISE,
    "softmax": (losses.SoftmaxCrossEntropy(), LABELS),
    "one-hot": (losses.SoftmaxCrossEntropy(), np.eye(2)[LABELS]),
    "user's object": (Squares(), REALS),
}
OPTIMIZERS = {
    "sgd": optimizers.SGD(0.002),
    "momentum": optimizers.SGD(0.002, momentum=0.9),
    "nesterov": optimizers.SGD(0.002, momentum=0.9, nesterov=True),
    **{name: optimizers.get(name) for name in optimizers.OPTIMIZERS if name != "sgd"},
}
PATHS = pytest.mark.parametrize("planned", [False, True], ids=["plain", "planned"])


def theta(x: Any, y: Any, loss: Any, optimizer: Any = "adam", planned: bool = False, **weights: Any) -> Any:
    """The parameters after six steps with all rows each."""
    if planned:
        pytest.importorskip("llvmlite")

    network = xmlp.Network([Dense(5, "tanh"), LayerNorm(), Dense(2)], 3, dtype="float64", seed=4)
    trainer = xmlp.Trainer(network, loss=loss, optimizer=optimizer, planned=planned, l2=1e-3)
    trainer.fit(x, y, epochs=6, batch_size=len(x), **weights)
    return network.theta


def same(a: Any, b: Any, case: str) -> None:
    check("weights as repeated rows, parameters after 6 steps", np.abs(a - b).max(), case)


@PATHS
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_is_a_number_of_rows(name: str, optimizer: str, planned: bool) -> None:
    loss, y = LOSSES[name]
    weighted = theta(X, y, loss, OPTIMIZERS[optimizer], planned, sample_weight=COUNTS)
    rows = np.repeat(np.arange(N), COUNTS)
    same(weighted, theta(X[rows], y[rows], loss, OPTIMIZERS[optimizer], planned), f"{name}, {optimizer}")


@PATHS
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", LOSSES)
def test_a_missing_target_has_the_weight_0(name: str, optimizer: str, planned: bool) -> None:
    loss, y = LOSSES[name]
    gone = COUNTS == 0
    removed = theta(X[~gone], y[~gone], loss, OPTIMIZERS[optimizer], planned)
    mask = np.broadcast_to(gone if y.ndim == 1 else gone[:, None], y.shape)
    masked = np.ma.masked_array(np.where(mask, 1, y), mask)
    same(theta(X, masked, loss, OPTIMIZERS[optimizer], planned), removed, f"{name}, masked")
    if y.ndim == 2:
        same(theta(X, np.where(mask, np.nan, y), loss, OPTIMIZERS[optimizer], planned), removed, f"{name}, NaN")


@PATHS
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_each_target_has_a_weight_of_its_own(name: str, planned: bool) -> None:
    """A gap equals the weight 0 there, whatever stands in it; weights of rows and outputs multiply."""
    loss, y = ELEMENTWISE[name]
    weights = RNG.integers(0, 3, (N, 2)).astype(float)
    free = theta(X, y, loss, planned=planned, sample_weight=weights)
    changed = np.where(weights == 0, 1 - y, y)
    assert np.array_equal(theta(X, changed, loss, planned=planned, sample_weight=weights), free)
    gaps = theta(X, np.where(weights == 0, np.nan, y), loss, planned=planned, sample_weight=np.maximum(weights, 1))
    same(gaps, free, f"{name}, gaps")
    both = theta(X, y, loss, planned=planned, sample_weight=COUNTS, output_weight=[3.0, 0.5])
    same(both, theta(X, y, loss, planned=planned, sample_weight=COUNTS[:, None] * [3.0, 0.5]), f"{name}, outputs")
    equal = theta(X, y, loss, planned=planned, sample_weight=np.stack([COUNTS, COUNTS], axis=1))
    same(equal, theta(X, y, loss, planned=planned, sample_weight=COUNTS), f"{name}, equal")


def test_the_weight_of_an_example_is_the_mean_over_its_outputs() -> None:
    """The loss by hand: two rows, errors 1 and 2, then 3 and one that is missing."""
    loss = losses.SquaredError()
    predictions, targets = np.asarray([[1.0, 2.0], [3.0, 9.0]]), np.zeros((2, 2))
    weights = np.asarray([[1.0, 1.0], [1.0, 0.0]])
    assert float(loss(predictions, targets, sample_weight=weights)) == pytest.approx((1 + 4 + 9) / 1.5, rel=1e-15)
    network = xmlp.Network([Dense(2, kernel_initializer="zeros", bias_initializer="ones")], 1, dtype="float64")
    trainer = xmlp.Trainer(network, loss=loss, optimizer="sgd")
    gaps = np.asarray([[0.0, -1.0], [-2.0, np.nan]])
    assert trainer.evaluate(np.zeros((2, 1)), gaps)["loss"] == pytest.approx((1 + 4 + 9) / 1.5, rel=1e-15)


def test_what_has_the_weight_0_may_be_infinite() -> None:
    loss = losses.BinaryCrossEntropy(from_logits=False)
    value, gradient = loss.value_and_grad(
        np.asarray([[0.0], [0.5]]), np.asarray([[1.0], [1.0]]), sample_weight=np.asarray([0.0, 2.0])
    )
    assert float(value) == pytest.approx(np.log(2), rel=1e-15)
    assert gradient.tolist() == [[0.0], [-2.0]]


def test_weights_of_targets_on_every_backend(mode: Mode) -> None:
    for dtype in mode.dtypes:
        weights, found = RNG.integers(0, 3, (N, 2)), []
        for backend, put in ((xmlp.backend(dtype=dtype), np.asarray), (mode.backend(dtype), None)):
            network = xmlp.mlp([3, 5, 2], "tanh", backend=backend)
            trainer = xmlp.Trainer(network, loss="squared_error", optimizer="adam", metrics=["mae"])
            x = X if put else mode.put(X, dtype)
            y = REALS if put else mode.put(REALS, dtype)
            history = trainer.fit(x, y, epochs=3, batch_size=5, sample_weight=weights, validation_data=(x, y, weights))
            found.append((history["val_loss"][-1], history["mae"][-1]))
        assert found[1] == pytest.approx(found[0], rel=1e-12 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("metric", [metrics.mae, metrics.rmse, metrics.r2])
def test_metrics_of_values_weigh_each_target(metric: Callable[..., float]) -> None:
    weights = RNG.integers(0, 4, (N, 2))
    columns = [metric(np.repeat(REALS[:, k], w), np.repeat(REALS[::-1, k], w)) for k, w in enumerate(weights.T)]
    assert metric(REALS, REALS[::-1], sample_weight=weights) == pytest.approx(np.mean(columns), rel=1e-13)
    one = np.stack([weights[:, 0], np.zeros(N)], axis=1)
    assert metric(REALS, REALS[::-1], sample_weight=one) == pytest.approx(columns[0], rel=1e-13)


@pytest.mark.parametrize("metric", [metrics.precision, metrics.recall, metrics.f1])
def test_metrics_of_labels_weigh_each_label(metric: Callable[..., Any]) -> None:
    truth, guess, weights = BITS, RNG.integers(0, 2, (N, 2)), RNG.integers(0, 4, (N, 2))
    columns = [
        metric(np.repeat(truth[:, k], w), np.repeat(guess[:, k], w), average=None)[1] for k, w in enumerate(weights.T)
    ]
    assert metric(truth, guess, sample_weight=weights, average=None) == pytest.approx(columns, rel=1e-14)
    assert metric(truth, guess, sample_weight=weights) == pytest.approx(np.mean(columns), rel=1e-14)
    one = np.stack([weights[:, 0], np.zeros(N)], axis=1)
    assert metric(truth, guess, sample_weight=one) == pytest.approx(columns[0], rel=1e-14)


def test_accuracy_of_several_labels_leaves_out_what_has_no_weight() -> None:
    truth, guess = [[1, 0], [1, 1], [0, 0]], [[1, 1], [1, 1], [1, 1]]
    assert metrics.accuracy(truth, guess) == 1 / 3
    weights = [[1, 0], [1, 1], [1, 1]]  # the first row's mistake does not count
    assert metrics.accuracy(truth, guess, sample_weight=weights) == (0.5 + 1) / 2.5


def test_balanced_classes_count_weights() -> None:
    rows = np.repeat(np.arange(N), COUNTS)
    y = (np.arange(N) % 3 == 0).astype(int)
    weighted = theta(X, y, "softmax_cross_entropy", sample_weight=COUNTS, class_weight="balanced")
    same(weighted, theta(X[rows], y[rows], "softmax_cross_entropy", class_weight="balanced"), "balanced")
    several = theta(X, BITS, "binary_cross_entropy", sample_weight=COUNTS, class_weight="balanced")
    same(several, theta(X[rows], BITS[rows], "binary_cross_entropy", class_weight="balanced"), "balanced outputs")


def test_class_weights_of_several_labels() -> None:
    """One mapping per output, or one for all; "balanced" makes both classes of an output weigh the same."""
    by_output = [{0: 1.0, 1: 5.0}, {0: 2.0, 1: 0.0}]
    weights = np.stack([np.where(BITS[:, k] == 1, w[1], w[0]) for k, w in enumerate(by_output)], axis=1)
    expected = theta(X, BITS, "binary_cross_entropy", sample_weight=weights)
    assert np.array_equal(theta(X, BITS, "binary_cross_entropy", class_weight=by_output), expected)
    one = theta(X, BITS, "binary_cross_entropy", class_weight={0: 1.0, 1: 3.0})
    assert np.array_equal(one, theta(X, BITS, "binary_cross_entropy", sample_weight=1 + 2 * BITS))
    share = BITS.mean(axis=0)
    balanced = theta(X, BITS, "binary_cross_entropy", class_weight="balanced")
    by_hand = np.where(BITS == 1, 0.5 / share, 0.5 / (1 - share))
    same(balanced, theta(X, BITS, "binary_cross_entropy", sample_weight=by_hand), "balanced by hand")


def test_validation_is_weighted() -> None:
    """What early stopping watches: a weight 0 or a gap in the validation data is a row removed there."""

    def watched(x: Any, y: Any, *weight: Any) -> list[float]:
        network = xmlp.mlp([3, 4, 2], dtype="float64")
        trainer = xmlp.Trainer(network, loss="squared_error", optimizer="adam", metrics=["r2"])
        trainer.fit(X, REALS, epochs=2, validation_data=(x, y, *weight))
        return [*trainer.history["val_loss"], *trainer.history["val_r2"]]

    rows = np.repeat(np.arange(N), COUNTS)
    repeated = watched(X[rows], REALS[rows])
    assert watched(X, REALS, COUNTS) == pytest.approx(repeated, rel=1e-12)
    gone = COUNTS == 0
    left = watched(X[~gone], REALS[~gone])
    assert watched(X, np.where(gone[:, None], np.nan, REALS)) == pytest.approx(left, rel=1e-12)


@given(st.lists(st.integers(0, 5), min_size=N, max_size=N).filter(any), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_any_weights_are_numbers_of_rows(counts: list[int], seed: int) -> None:
    """Loss and gradient at any point, with gaps in the targets."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random((N, 2)) < 0.3, np.nan, REALS)
    rows = np.repeat(np.arange(N), counts)
    if np.isnan(y[rows]).all():
        return
    network = xmlp.mlp([3, 4, 2], "tanh", dtype="float64", seed=seed % 1000)
    a, b = (
        network.value_and_grad(X, y, "squared_error", sample_weight=np.asarray(counts)),
        network.value_and_grad(X[rows], y[rows], "squared_error"),
    )
    assert float(a[0]) == pytest.approx(float(b[0]), rel=1e-12)
    assert relative(a[1].flat, b[1].flat) <= 1e-12


def test_outputs_of_a_softmax_have_no_weights_of_their_own() -> None:
    network = xmlp.mlp([3, 2])
    with pytest.raises(ValueError, match="softmax cross-entropy does not take its outputs one by one"):
        network.value_and_grad(X, LABELS, "softmax_cross_entropy", sample_weight=np.ones((N, 2)))
    with pytest.raises(ValueError, match="does not take its outputs one by one"):
        network.fit(X, LABELS, loss="softmax_cross_entropy", output_weight=[1, 2])
    with pytest.raises(ValueError, match=r"sample_weight must be \(12,\), got the shape \(12, 2\)"):
        losses.SoftmaxCrossEntropy().value_and_grad(REALS, LABELS, sample_weight=np.ones((N, 2)))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "output_weight short": ({"output_weight": [1.0]}, r"output_weight must be \(2,\), one number per output"),
    "output_weight negative": ({"output_weight": [1, -1]}, "output_weight must not be negative, got -1"),
    "output_weight 0": ({"output_weight": [0, 0]}, "zero together: nothing would be learnt"),
    "sample_weight": ({"sample_weight": np.ones((N, 3))}, r"sample_weight must be \(12,\).* or \(12, 2\), got"),
    "classes of outputs": ({"class_weight": {0: 1.0, 2: 3.0}}, "the label 2 and no weight for the label 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_weights_of_outputs(case: str) -> None:
    keywords, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        xmlp.mlp([3, 2]).fit(X, BITS, loss="binary_cross_entropy", **keywords)
    with pytest.raises(TypeError, match="or a list of 2 of them"):
        xmlp.mlp([3, 2]).fit(X, BITS, loss="binary_cross_entropy", class_weight=[{0: 1}])

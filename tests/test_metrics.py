import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import METRIC_DB

import xmlp
from xmlp import metrics
from xmlp.metrics.base import of_classes

COUNTED = [metrics.precision, metrics.recall, metrics.f1]
NEEDS = {name: metrics.get(name).needs for name in METRIC_DB}
BY_LABELS = [*(getattr(metrics, n) for n, needs in NEEDS.items() if needs == "labels"), metrics.confusion_matrix]
BY_VALUES = [getattr(metrics, n) for n, needs in NEEDS.items() if needs == "predictions"]

# 7 rows of the class: 4 found (TP), 3 missed (FN); 5 others: 1 wrongly taken for it (FP), 4 left alone.
TARGETS = np.array([1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
PREDICTIONS = np.array([1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0])


def found_by_name(name):
    try:
        return metrics.get(name).function is getattr(metrics, name)
    except ValueError:
        return False


def test_each_has_a_record():
    assert {name for name in metrics.__all__ if found_by_name(name)} == set(METRIC_DB)


@pytest.mark.parametrize("name", METRIC_DB)
def test_a_metric_is_its_definition(name):
    rng, function, record = np.random.default_rng(1), getattr(metrics, name), METRIC_DB[name]
    for n in (2, 9, 100):
        t, p = rng.normal(size=(2, n)) if NEEDS[name] == "predictions" else rng.integers(2, size=(2, n))
        t[0] = p[0] = 1  # a hit
        assert function(t, p) == pytest.approx(record.value(t.tolist(), p.tolist()), rel=1e-13)


def test_precision_and_recall_of_two_classes_are_the_hand_counts():
    """002-06: precision = TP/(TP+FP), recall = TP/(TP+FN)."""
    assert metrics.precision(TARGETS, PREDICTIONS) == 4 / 5
    assert metrics.recall(TARGETS, PREDICTIONS) == 4 / 7
    assert metrics.f1(TARGETS, PREDICTIONS) == 8 / 12
    assert metrics.accuracy(TARGETS, PREDICTIONS) == 8 / 12
    assert metrics.confusion_matrix(TARGETS, PREDICTIONS).tolist() == [[4, 1], [3, 4]]


def test_classes_are_averaged_as_asked():
    """Class 0: 2 of 2 found, 1 too many; class 1: 1 of 3 found; class 2: 1 of 1 found, 1 too many."""
    t, p = [0, 0, 1, 1, 1, 2], [0, 0, 0, 1, 2, 2]
    assert metrics.confusion_matrix(t, p).tolist() == [[2, 0, 0], [1, 1, 1], [0, 0, 1]]
    assert metrics.precision(t, p, average=None) == [2 / 3, 1, 1 / 2]
    assert metrics.recall(t, p, average=None) == [1, 1 / 3, 1]
    assert metrics.f1(t, p, average=None) == [4 / 5, 1 / 2, 2 / 3]
    for macro in ("auto", "macro"):
        assert metrics.recall(t, p, average=macro) == pytest.approx(7 / 9, rel=1e-15)
    assert metrics.recall(t, p, average="weighted") == pytest.approx((2 * 1 + 3 / 3 + 1) / 6, rel=1e-15)
    assert metrics.precision(t, p, average="micro") == metrics.recall(t, p, average="micro") == 4 / 6


def test_a_matrix_of_labels_is_counted_by_column():
    t = [[1, 0, 0], [1, 1, 0], [0, 1, 0]]
    p = [[1, 0, 0], [0, 1, 0], [1, 1, 0]]
    assert metrics.accuracy(t, p) == 1 / 3
    assert metrics.precision(t, p, average=None) == [1 / 2, 1, 0]
    assert metrics.recall(t, p, average=None) == [1 / 2, 1, 0]
    assert metrics.precision(t, p) == metrics.precision(t, p, average="macro") == 1 / 2
    assert metrics.precision(t, p, average="micro") == 3 / 4
    assert metrics.f1(t, p, average="weighted") == 3 / 4


def test_weights_count_as_repetitions():
    rng = np.random.default_rng(0)
    t, p, w = rng.integers(0, 4, 50), rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    for metric in BY_LABELS:
        repeated = metric(np.repeat(t, w), np.repeat(p, w))
        np.testing.assert_allclose(metric(t, p, sample_weight=w), repeated, rtol=1e-14)
    x, y = rng.standard_normal((50, 2)), rng.standard_normal((50, 2))
    for metric in BY_VALUES:
        repeated = metric(np.repeat(x, w, axis=0), np.repeat(y, w, axis=0))
        assert metric(x, y, sample_weight=w) == pytest.approx(repeated, rel=1e-13)
    assert metrics.confusion_matrix([0, 1], [0, 0], sample_weight=[0.5, 0.25]).tolist() == [
        [0.5, 0],
        [0.25, 0],
    ]


def test_zero_by_zero_is_zero():
    assert metrics.precision([1, 1], [0, 0]) == metrics.recall([0, 0], [1, 1]) == metrics.f1([0, 0], [0, 0]) == 0
    assert metrics.precision([[0, 0]], [[0, 0]], average="micro") == 0
    assert metrics.recall([[0, 0]], [[1, 0]], average="weighted") == 0


def test_a_class_that_does_not_occur_is_left_out_of_the_mean_but_not_of_the_list():
    assert metrics.precision([0, 3], [0, 3], average="macro", classes=5) == 1
    assert metrics.precision([0, 3], [0, 3], average=None, classes=5) == [1, 0, 0, 1, 0]


def test_the_number_of_classes_can_be_given():
    assert metrics.confusion_matrix([0, 1], [0, 1], classes=3).shape == (3, 3)
    assert metrics.confusion_matrix([0, 0], [0, 0]).shape == (2, 2)
    assert metrics.recall([1, 1, 0, 0], [1, 0, 0, 0], classes=2) == 1 / 2
    assert metrics.recall([1, 1, 0, 0], [1, 0, 0, 0], classes=3) == 3 / 4


def test_many_rows_are_counted_in_blocks():
    t = np.arange(200_000) % 7
    p = np.where(np.arange(200_000) % 5 == 0, (t + 1) % 7, t)
    matrix = metrics.confusion_matrix(t, p)
    assert matrix.dtype == np.int64
    assert matrix.sum() == 200_000
    np.testing.assert_array_equal(matrix, np.histogram2d(t, p, bins=7)[0])
    assert metrics.accuracy(t, p) == 160_000 / 200_000
    np.testing.assert_allclose(metrics.recall(t, p, average=None), np.diag(matrix) / matrix.sum(axis=1), rtol=1e-15)


def test_regression_by_hand():
    t, p = [1.0, 2.0, 3.0, 6.0], [1.0, 3.0, 3.0, 3.0]
    assert metrics.mae(t, p) == 1.0
    assert metrics.rmse(t, p) == math.sqrt(10 / 4)
    assert metrics.r2(t, p) == pytest.approx(1 - 10 / 14, rel=1e-15)
    assert metrics.r2(t, [3.0] * 4) == 0
    assert metrics.r2(t, t) == 1
    assert metrics.r2(t, [1.0, 2.0, 3.0, -6.0]) < 0


def test_outputs_are_averaged_uniformly():
    t, p = np.array([[1.0, 100.0], [3.0, 300.0]]), np.array([[1.0, 200.0], [2.0, 200.0]])
    assert metrics.mae(t, p) == (0.5 + 100) / 2
    assert metrics.rmse(t, p) == pytest.approx((math.sqrt(0.5) + 100) / 2, rel=1e-15)
    assert metrics.r2(t, p) == (0.5 + 0) / 2


def test_r2_of_constant_targets():
    assert metrics.r2([0.1] * 3, [0.1] * 3) == 1
    assert metrics.r2([0.1] * 3, [0.1, 0.1, 0.2]) == 0
    assert metrics.r2([5.0, 1.0], [5.0, 3.0], sample_weight=[1, 0]) == 1
    assert metrics.r2([5.0, 1.0, 1.0], [3.0, 1.0, 1.0], sample_weight=[0, 1, 1]) == 1
    assert metrics.r2([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0]], [[0.2, 1.0], [0.1, 2.0], [0.1, 3.0]]) == 0.5


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_extreme_sizes_neither_overflow_nor_vanish(size):
    t, p = np.array([[1.0, 1.0], [2.0, 2.0], [6.0, 6.0]]), np.array([[1.0, 1.0], [4.0, 4.0], [6.0, 6.0]])
    for metric in BY_VALUES:
        first = metric(t[:, 0], p[:, 0])
        expected = first * (size + 1) / 2 if METRIC_DB[metric.__name__].units else first
        assert metric(t * [size, 1], p * [size, 1]) == pytest.approx(expected, rel=1e-14)


def test_nan_stays_nan():
    for metric in BY_VALUES:
        assert math.isnan(metric([1.0, 2.0], [1.0, math.nan]))
        assert math.isnan(metric([1.0, 1.0], [1.0, math.nan]))
    assert metrics.mae([1.0, 2.0], [1.0, math.inf]) == math.inf


def test_sums_are_made_in_float64():
    n = 100_000
    t, p = np.zeros(n, np.float32), np.full(n, 0.1, np.float32)
    assert metrics.mae(t, p) == pytest.approx(float(np.float32(0.1)), rel=1e-13)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int32", "float32", "list", "column", "read-only", "mixed"])
def test_labels_of_any_kind_are_taken(kind):
    def convert(a, last=False):
        if kind == "list":
            return a.tolist()
        if kind == "column":
            return a[:, None]
        if kind == "mixed":
            return a[:, None].astype(np.float32) if last else a.astype(np.uint8)
        a = a.copy() if kind == "read-only" else a.astype(kind)
        a.flags.writeable = False
        return a

    assert metrics.precision(convert(TARGETS), convert(PREDICTIONS, last=True)) == 4 / 5
    assert metrics.accuracy(convert(TARGETS), convert(PREDICTIONS, last=True)) == 8 / 12


@pytest.mark.parametrize("library", ["array_api_strict", "torch", "jax.numpy"])
def test_arrays_of_other_libraries_are_taken(library):
    xp = pytest.importorskip(library)
    t, p = xp.asarray(TARGETS.tolist()), xp.asarray(PREDICTIONS.tolist())
    weights = xp.asarray([1.0] * 12)
    for metric in BY_LABELS[:4]:
        result = metric(t, p, sample_weight=weights)
        assert result == metric(TARGETS, PREDICTIONS)
        assert type(result) is float
    assert metrics.confusion_matrix(t, p).tolist() == [[4, 1], [3, 4]]
    for metric in BY_VALUES:
        result = metric(xp.asarray([1.0, 2.0, 4.0]), xp.asarray([1.0, 2.0, 3.0]), sample_weight=xp.asarray([1, 1, 2]))
        assert result == metric(np.array([1.0, 2, 4]), np.array([1.0, 2, 3]), sample_weight=[1, 1, 2])
        assert type(result) is float


@pytest.mark.parametrize("metric", BY_LABELS + BY_VALUES)
@pytest.mark.parametrize(
    ("targets", "predictions", "words"),
    [
        ([], [], r"targets: expected \(N,\) or \(N, outputs\) with N >= 1, got \(0,\)"),
        (1, 1, r"targets: expected .* got \(\)"),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), r"expected .* got \(2, 2, 2\)"),
        ([0, 1], [0, 1, 1], r"one shape, got \(2,\) and \(3,\)"),
        ([0, 1], [[0, 1], [1, 0]], r"got \(2,\) and \(2, 2\)\. .*argmax"),
        ([0, 1], ["a", "b"], "predictions"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(metric, targets, predictions, words):
    with pytest.raises(ValueError, match=words):
        metric(targets, predictions)


@pytest.mark.parametrize("metric", BY_LABELS + BY_VALUES)
@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1, -1], "not negative and not all 0, got -1.0 to 1.0"),
        ([0, 0], "not all 0, got 0.0 to 0.0"),
        ([1, math.nan], "finite weights"),
        ([1, math.inf], "finite weights"),
        ([1, 1, 1], r"sample_weight of shape \(2,\), one for each row, got \(3,\)"),
        ([[1, 1], [1, 1]], r"sample_weight of shape \(2,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(metric, weights, words):
    with pytest.raises(ValueError, match=words):
        metric([0, 1], [0, 1], sample_weight=weights)


@pytest.mark.parametrize("metric", BY_LABELS)
@pytest.mark.parametrize("score", [0.5, math.nan, math.inf, 1e300])
def test_scores_are_not_labels(metric, score):
    with pytest.raises(ValueError, match=f"predictions: expected labels, .*got {score}".replace("+", r"\+")):
        metric([0, 1], [0.0, score])


@pytest.mark.parametrize("metric", [*COUNTED, metrics.confusion_matrix])
def test_labels_out_of_range_are_refused(metric):
    with pytest.raises(ValueError, match="expected labels of 0 to 1, got -1"):
        metric([0, 1], [0, -1])
    with pytest.raises(ValueError, match="expected labels of 0 to 2, got 3"):
        metric([0, 3], [0, 1], classes=3)
    with pytest.raises(ValueError, match="at most 65536 classes, got 65537"):
        metric([0, 2**16], [0, 1])


@pytest.mark.parametrize("metric", COUNTED)
def test_a_matrix_of_labels_holds_0_and_1(metric):
    with pytest.raises(ValueError, match=r"targets: expected 0 and 1 in a matrix of labels \(1, 2\), got 0 to 2"):
        metric([[0, 2]], [[0, 1]])
    with pytest.raises(ValueError, match=r"unknown average 'macr'. Did you mean 'macro'"):
        metric([0, 1], [0, 1], average="macr")


def test_a_confusion_matrix_is_of_one_output_and_not_too_large():
    with pytest.raises(ValueError, match=r"expected labels \(N,\), got \(1, 2\)"):
        metrics.confusion_matrix([[0, 1]], [[0, 1]])
    with pytest.raises(ValueError, match="10001 classes has 100020001 cells"):
        metrics.confusion_matrix([0, 10_000], [0, 0])


def test_nothing_is_written_to():
    t, p, w = TARGETS.astype(np.float64), PREDICTIONS.astype(np.float64), np.ones(12)
    for array in (t, p, w):
        array.flags.writeable = False
    for metric in BY_LABELS + BY_VALUES:
        metric(t, p, sample_weight=w)


def test_metrics_are_found_by_name():
    for name in ("accuracy", "precision", "recall", "f1"):
        assert metrics.get(name)[:4] == (name, getattr(metrics, name), "labels", True)
        assert metrics.get(getattr(metrics, name)) == metrics.get(name)
    for name in ("r2", "mae", "rmse"):
        assert metrics.get(name)[:4] == (name, getattr(metrics, name), "predictions", name == "r2")
    with pytest.raises(ValueError, match=r"unknown metric 'acuracy'. Did you mean 'accuracy'"):
        metrics.get("acuracy")


def test_own_functions_are_metrics():
    def worst(targets, predictions, *, sample_weight=None):
        return 0.0

    assert metrics.get(worst) == ("worst", worst, "predictions", None, "worst")
    worst.needs, worst.greater_is_better = "labels", False
    assert metrics.get(worst) == ("worst", worst, "labels", False, "worst")
    assert metrics.get(functools.partial(worst))[0] == "partial"
    named = metrics.Metric("mine", worst, "predictions")
    assert metrics.get(named) is named
    worst.needs = "label"
    with pytest.raises(ValueError, match=r"metric worst: 'label'. Did you mean 'labels'"):
        metrics.get(worst)
    with pytest.raises(TypeError, match="expected the name of a metric or a function, got 5"):
        metrics.get(5)


AVERAGES = [("macro", "macro"), ("micro", "micro"), ("weighted", "weighted"), (None, None)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["binary", "classes", "some classes", "matrix"])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_agreement_with_scikit_learn_on_labels(name, kind, weighted):
    sk = pytest.importorskip("sklearn.metrics")
    theirs, ours = getattr(sk, f"{name}_score"), getattr(metrics, name)
    rng = np.random.default_rng(7)
    for n in (1, 5, 200):
        shape, labels = {
            "binary": ((n,), [0, 1]),
            "classes": ((n,), range(5)),
            "some classes": ((n,), [1, 4, 7]),
            "matrix": ((n, 4), [0, 1]),
        }[kind]
        t, p = rng.choice(labels, shape), rng.choice(labels, shape)
        w = rng.random(n) if weighted else None
        for average in ("macro", "micro", "weighted", None):
            chosen = None if average or kind == "matrix" else range(max(2, t.max() + 1, p.max() + 1))
            expected = theirs(t, p, labels=chosen, average=average, sample_weight=w, zero_division=0)
            np.testing.assert_allclose(ours(t, p, average=average, sample_weight=w), expected, rtol=1e-13)
        if kind == "binary":
            expected = theirs(t, p, labels=[0, 1], average="binary", sample_weight=w, zero_division=0)
            assert ours(t, p, sample_weight=w) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("weighted", [False, True])
def test_agreement_with_scikit_learn_elsewhere(weighted):
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(8)
    for outputs in (1, 3):
        t, p = rng.standard_normal((2, 100, outputs))
        w = rng.random(100) if weighted else None
        for ours, theirs in (
            (metrics.r2, sk.r2_score),
            (metrics.mae, sk.mean_absolute_error),
            (metrics.rmse, sk.root_mean_squared_error),
        ):
            assert ours(t, p, sample_weight=w) == pytest.approx(theirs(t, p, sample_weight=w), rel=1e-13)
        a, b = rng.integers(0, 3, (2, 100))
        np.testing.assert_allclose(
            metrics.confusion_matrix(a, b, sample_weight=w),
            sk.confusion_matrix(a, b, sample_weight=w),
            rtol=1e-13,
        )
        assert metrics.accuracy(a, b, sample_weight=w) == pytest.approx(sk.accuracy_score(a, b, sample_weight=w))
        a, b = rng.integers(0, 2, (2, 100, 3))
        assert metrics.accuracy(a, b, sample_weight=w) == pytest.approx(sk.accuracy_score(a, b, sample_weight=w))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30))
def test_counts_obey_their_definition(rows):
    t, p, w = (np.array(column) for column in zip(*rows, strict=True))
    if not w.any():
        w = w + 1
    k = max(2, t.max() + 1, p.max() + 1)
    expected = [[int(w[(t == i) & (p == j)].sum()) for j in range(k)] for i in range(k)]
    np.testing.assert_array_equal(metrics.confusion_matrix(t, p, sample_weight=w), expected)
    for c, (precision, recall, f1) in enumerate(
        zip(*(m(t, p, average=None, sample_weight=w) for m in COUNTED), strict=True)
    ):
        tp, fp, fn = (int(w[rows].sum()) for rows in ((t == c) & (p == c), (t != c) & (p == c), (t == c) & (p != c)))
        assert precision == (tp / (tp + fp) if tp + fp else 0)
        assert recall == (tp / (tp + fn) if tp + fn else 0)
        assert f1 == (2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-30, 1e30, 1e300])
def test_the_scale_of_weights_has_no_effect(scale):
    rng = np.random.default_rng(0)
    w = rng.uniform(0.1, 1.0, 200) * rng.integers(0, 2, 200)
    t, p = rng.integers(0, 4, (2, 200))
    for metric in BY_LABELS[:4]:
        for average in ("auto", "micro", "weighted") if metric is not metrics.accuracy else (None,):
            settings = {"average": average} if average else {}
            expected = metric(t, p, sample_weight=w, **settings)
            assert metric(t, p, sample_weight=w * scale, **settings) == pytest.approx(expected, rel=1e-12)
    bits = rng.integers(0, 2, (2, 200, 3))
    for metric in BY_LABELS[:4]:
        assert metric(*bits, sample_weight=w * scale) == pytest.approx(metric(*bits, sample_weight=w), rel=1e-12)
    x, y = rng.standard_normal((2, 200, 2))
    for metric in BY_VALUES:
        for weights in (w, np.stack([w, w[::-1]], axis=1)):
            expected = metric(x, y, sample_weight=weights)
            assert metric(x, y, sample_weight=weights * scale) == pytest.approx(expected, rel=1e-12)
    counts = metrics.confusion_matrix(t, p, sample_weight=w * scale)
    np.testing.assert_allclose(counts, metrics.confusion_matrix(t, p, sample_weight=w) * scale, rtol=1e-12)


def test_outputs_of_very_different_weights_are_all_measured():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 50, 2))
    w = rng.uniform(0.1, 1.0, (50, 2))
    for metric in BY_VALUES:
        assert metric(x, y, sample_weight=w * [1e-300, 1e300]) == pytest.approx(
            metric(x, y, sample_weight=w), rel=1e-12
        )


# --- the number of classes is that of the network ---------------------------------------------------------------------


def three_classes():
    """Labels 0 to 2, of which the last 20 rows lack the last."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4))
    y = np.concatenate([np.arange(180) % 3, np.arange(20) % 2])
    return x + y[:, None], y


@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
def test_a_trainer_measures_the_same_quantity_whichever_labels_occur(name):
    x, y = three_classes()
    trainer = xmlp.Trainer(xmlp.mlp([4, 8, 3]), loss="softmax_cross_entropy", optimizer="adam", metrics=[name])
    trainer.fit(x[:180], y[:180], epochs=1)
    truth = np.asarray([0, 0, 0, 1])
    network = trainer.network
    network.theta = 0 * network.theta
    network.parameters[-1]["b"][...] = [1.0, 0.0, 0.0]  # always class 0
    found = trainer.evaluate(x[:4], truth)[name]
    macro = {"f1": (6 / 7 + 0) / 2, "precision": (3 / 4 + 0) / 2, "recall": 1 / 2}
    assert found == pytest.approx(macro[name])
    assert found == pytest.approx(getattr(metrics, name)(truth, [0, 0, 0, 0], average="macro"))


@pytest.mark.parametrize("loss", ["auto", "squared_error"])
def test_early_stopping_watches_it_too(loss):
    x, y = three_classes()
    model = xmlp.MLPClassifier((8,), loss=loss, early_stopping=True, monitor="f1", max_iter=5, random_state=0)
    model.fit(x[:180], y[:180], validation_data=(x[180:], y[180:]))
    best = metrics.f1(y[180:], model.predict(x[180:]), average="macro")
    assert model.best_score_ == pytest.approx(best)


def test_two_classes_are_still_two():
    x, y = three_classes()
    trainer = xmlp.Trainer(xmlp.mlp([4, 8, 1]), loss="binary_cross_entropy", optimizer="adam", metrics=["f1"])
    trainer.fit(x, (y > 0).astype(int), epochs=20)
    truth = np.ones(20, int)
    assert trainer.evaluate(x[:20], truth)["f1"] == metrics.f1(truth, trainer.network.predict_label(x[:20]))


def test_functions_are_told_of_classes_if_they_ask():
    seen = []

    def asks(targets, predictions, *, sample_weight=None, classes=None):
        seen.append(classes)
        return 0.0

    def does_not(targets, predictions):
        return 1.0

    asks.needs = "labels"
    x, y = three_classes()
    bound = functools.partial(metrics.f1, classes=7, average=None)
    assert of_classes(bound, 3) is bound
    settings = {"loss": "softmax_cross_entropy", "optimizer": "adam", "metrics": [asks, does_not]}
    history = xmlp.Trainer(xmlp.mlp([4, 8, 3]), **settings).fit(x, y, epochs=1)
    assert seen == [3]
    assert history["does_not"] == [1.0]
    assert of_classes(max, 3) is max

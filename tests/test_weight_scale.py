"""The scale of weights changes nothing, and a weight k is the row repeated k times in minibatches and streams too."""

import math
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import xmlp
from xmlp import losses, optimizers
from xmlp.callbacks import EarlyStopping
from xmlp.network.row_weights import Mean

RNG = np.random.default_rng(8)
N = 40
X = RNG.normal(size=(N, 3))
REALS = np.stack([X[:, 0] - X[:, 1], X[:, 2] ** 2], axis=1)
LABELS = np.argmax(X + 0.3 * RNG.normal(size=(N, 3)), axis=1)
BITS = (X[:, :2] > 0).astype(float)
WEIGHTS = RNG.uniform(0.2, 3.0, N)
SCALES = [1 / N, 1e-6, 1e6, 1e-60, 1e60, 1e-300, 1e300]
scale_of_weights = pytest.mark.parametrize("scale", SCALES)
PATHS = pytest.mark.parametrize("planned", [False, True], ids=["plain", "planned"])
TARGETS: dict[str, tuple[Any, Any]] = {
    "squared_error": (REALS, 2),
    "softmax_cross_entropy": (LABELS, 3),
    "binary_cross_entropy": (BITS, 2),
}


def trainer(loss: Any = "squared_error", outputs: int = 2, optimizer: Any = "adam", **kw: Any) -> xmlp.Trainer:
    network = xmlp.mlp([3, 6, outputs], "tanh", dtype=kw.pop("dtype", "float64"), seed=1)
    return xmlp.Trainer(network, loss=loss, optimizer=optimizer, **kw)


# --- the scale --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["MLPRegressor", "MLPClassifier"])
def test_rows_that_all_weigh_nothing_are_refused_and_change_nothing(kind: str) -> None:
    """In the first call, in a later one, and as the only or one of the batches of a stream."""
    pytest.importorskip("sklearn")
    x, nothing = NOISE[:40], np.zeros(40)
    y, more = (x[:, 0] > 0).astype(int), {"classes": [0, 1]} if kind == "MLPClassifier" else {}
    model = getattr(xmlp, kind)((4,), random_state=0)
    with pytest.raises(ValueError, match="sample_weight is zero for every row: nothing would be learnt"):
        model.partial_fit(x, y, sample_weight=nothing, **more)
    assert not hasattr(model, "network_")
    model.partial_fit(x, y, **more)
    before = model.network_.theta.tobytes()
    with pytest.raises(ValueError, match="sample_weight is zero for every row"):
        model.partial_fit(x, y, sample_weight=nothing)
    assert model.network_.theta.tobytes() == before
    for batches in ([nothing], [nothing, nothing + 1], [nothing + 1, nothing]):
        network = xmlp.mlp([x.shape[1], 4, 2])
        before = network.theta.tobytes()
        with pytest.raises(ValueError, match="sample_weight is zero for every row"):
            network.fit([(x, y, weights) for weights in batches], loss="softmax_cross_entropy", epochs=1)
        assert network.theta.tobytes() == before or batches[0].any()
        assert np.isfinite(network.theta).all()


@PATHS
@scale_of_weights
@pytest.mark.parametrize("loss", TARGETS)
def test_training_and_what_is_measured(loss: str, scale: float, planned: bool) -> None:
    """Parameters, losses, penalties, validation, early stopping: all in minibatches, classes weighed as well."""
    if planned:
        pytest.importorskip("llvmlite")
    y, outputs = TARGETS[loss]
    more = {} if loss == "squared_error" else {"class_weight": {0: 1.0, 1: 3.0, 2: 0.5}}

    def run(factor: float) -> tuple[Any, list[list[float]]]:
        stopping = EarlyStopping(patience=2)
        one = trainer(loss, outputs, l2=1e-3, clip_norm=1.0, callbacks=[stopping], planned=planned)
        validation = (X[::3], y[::3], factor * WEIGHTS[::3])
        history = one.fit(
            X, y, epochs=6, batch_size=7, sample_weight=factor * WEIGHTS, validation_data=validation, **more
        )
        return one.network.theta, [history[n] for n in ("loss", "penalty", "val_loss")]

    (theta, seen), (wanted, expected) = run(scale), run(1.0)
    assert np.abs(theta - wanted).max() <= 1e-12
    assert np.allclose(seen, expected, rtol=1e-12)


@scale_of_weights
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_batch_at_a_time(dtype: str, scale: float) -> None:
    """Steps, gradients, evaluation, calibration and thresholds."""
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    found = []
    for factor in (1.0, scale):
        one, w = trainer("binary_cross_entropy", dtype=dtype, metrics=["f1"]), factor * WEIGHTS
        network = one.network
        values = [float(one.step(X[i : i + 5], BITS[i : i + 5], w[i : i + 5])) for i in range(0, N, 5)]
        value, grads = network.value_and_grad(X, BITS, "binary_cross_entropy", sample_weight=w)
        loss = float(network.loss_value(X, BITS, "binary_cross_entropy", sample_weight=w))
        measured = [float(value), loss, *one.evaluate(X, BITS, sample_weight=w).values()]
        temperature = network.calibrate(X, BITS, sample_weight=w)
        thresholds = network.tune_thresholds(X, BITS, sample_weight=w)
        found.append([*values, *grads.flat.tolist(), *measured, temperature, *thresholds])
    assert np.allclose(found[1], found[0], rtol=tolerance, atol=tolerance)


@scale_of_weights
def test_the_loss_alone(scale: float) -> None:
    loss, predictions = losses.SquaredError(), np.float32(REALS[::-1])
    one = loss.value_and_grad(predictions, np.float32(REALS), sample_weight=WEIGHTS)
    other = loss.value_and_grad(predictions, np.float32(REALS), sample_weight=scale * WEIGHTS)
    assert float(other[0]) == pytest.approx(float(one[0]), rel=1e-6)
    assert np.allclose(other[1], one[1], rtol=1e-6)
    assert other[1].dtype == np.float32


def test_a_sum_keeps_the_weights_as_they_are() -> None:
    loss = losses.SquaredError(reduction="sum")
    thetas = []
    for factor, lr in ((1.0, 1e-3), (1e3, 1e-6)):
        one = trainer(loss, optimizer=optimizers.SGD(lr))
        history = one.fit(X, REALS, epochs=2, batch_size=8, sample_weight=factor * WEIGHTS)
        thetas.append(one.network.theta)
        assert history["loss"][0] == pytest.approx(factor * trainer_loss(WEIGHTS), rel=0.2)
    assert np.allclose(thetas[0], thetas[1], rtol=1e-12)
    with pytest.raises(ValueError, match=r'too small for float32.*take reduction "mean"'):
        trainer(loss, dtype="float32").fit(X, REALS, epochs=1, sample_weight=np.full(N, 1e-60))


def trainer_loss(weights: Any) -> float:
    """The weighted sum of the losses at the beginning."""
    terms = ((trainer().network.predict(X) - REALS) ** 2).sum(axis=1)
    return float((weights * terms).sum())


def test_weights_of_a_loss_are_checked() -> None:
    loss, none = losses.SquaredError(), losses.SquaredError(reduction="none")
    with pytest.raises(ValueError, match="not negative"):
        loss.value_and_grad(REALS, REALS, sample_weight=-WEIGHTS)
    with pytest.raises(ValueError, match="must be finite"):
        loss(REALS, REALS, sample_weight=WEIGHTS * np.nan)
    with pytest.raises(ValueError, match=r"sample_weight must be \(40,\) or \(40, 2\), got the shape \(3,\)"):
        none(REALS, REALS, sample_weight=WEIGHTS[:3])
    single = none(np.float32(REALS), np.float32(REALS), sample_weight=WEIGHTS)
    assert single.dtype == np.float32


# --- minibatches ------------------------------------------------------------------------------------------------------


@PATHS
@pytest.mark.parametrize("size", [1, 3, 7, N])
def test_the_mean_gradient_of_minibatches_is_that_of_all_rows(size: int, planned: bool) -> None:
    """At one point: a heavy row weighs as much in a small batch, or alone, as in a large one."""
    if planned:
        pytest.importorskip("llvmlite")
    heavy = np.where(np.arange(N) == 5, 100.0, WEIGHTS)
    one = trainer(optimizer=optimizers.SGD(1.0), planned=planned)
    start, moves = one.network.theta.copy(), []

    class Back:
        def on_step_end(self, trainer: xmlp.Trainer) -> None:
            rows = size if trainer.position * size <= N else N % size
            moves.append((start - trainer.network.theta) * rows / N)
            trainer.network.theta = start

    one.callbacks = [Back()]
    one.fit(X, REALS, epochs=1, batch_size=size, sample_weight=heavy)
    gradient = one.network.value_and_grad(X, REALS, "squared_error", sample_weight=heavy)[1].flat
    assert np.abs(sum(moves) - gradient).max() <= 1e-12 * np.abs(gradient).max()


ROWS = 4000
RARE = np.zeros(ROWS, int)
RARE[RNG.choice(ROWS, 20, replace=False)] = 1
NOISE = RNG.normal(size=(ROWS, 2))  # says nothing of the class


@pytest.mark.parametrize(("size", "epochs"), [(4, 6), (32, 20), (200, 60), (ROWS, 300)])
def test_balanced_classes_are_balanced_in_minibatches(size: int, epochs: int) -> None:
    network = xmlp.mlp([2, 4, 1], "tanh", seed=3)
    network.fit(
        NOISE, RARE[:, None], loss="binary_cross_entropy", epochs=epochs, batch_size=size, class_weight="balanced"
    )
    assert float(network.predict_proba(NOISE).mean()) == pytest.approx(0.5, abs=0.05)


def test_balanced_classes_are_balanced_row_by_row() -> None:
    """SGD follows the gradient; Adam does if its second moment remembers more steps than lie between rare rows."""
    seen: list[float] = []

    class Watch:
        def on_progress(self, trainer: xmlp.Trainer) -> None:
            seen.append(float(trainer.network.predict_proba(NOISE[:200]).mean()))

    def made(optimizer: Any) -> xmlp.Trainer:
        seen.clear()
        return xmlp.Trainer(xmlp.mlp([2, 1]), loss="binary_cross_entropy", optimizer=optimizer, callbacks=[Watch()])

    for optimizer in (optimizers.SGD(1e-3), optimizers.Adam(beta2=0.9999)):
        made(optimizer).fit(NOISE, RARE[:, None], epochs=20, batch_size=1, class_weight="balanced")
        assert np.mean(seen[len(seen) // 4 :]) == pytest.approx(0.5, abs=0.05)
    weights = np.where(RARE == 1, ROWS / 40, ROWS / (2 * ROWS - 40))
    rows = [(NOISE[i : i + 1], RARE[i : i + 1, None], weights[i : i + 1]) for i in RNG.permutation(ROWS)]
    made(optimizers.SGD(1e-3)).fit(rows, epochs=3)
    assert np.mean(seen[len(seen) // 2 :]) == pytest.approx(0.5, abs=0.05)


# --- streams ----------------------------------------------------------------------------------------------------------


def test_the_mean_of_a_stream() -> None:
    weights, mean = RNG.uniform(0, 5, 100), Mean()
    for start, stop in ((0, 1), (1, 10), (10, 100)):
        mean = mean.after(weights[start:stop], stop - start)
    assert mean.value == pytest.approx(weights.mean(), rel=1e-14)
    assert Mean().after(1e300 * weights, 100).value == pytest.approx(1e300 * weights.mean(), rel=1e-14)
    assert Mean().after(1e-300 * weights, 100).value == pytest.approx(1e-300 * weights.mean(), rel=1e-14)


def batches(size: int = 7, scale: float = 1.0) -> list[tuple[Any, ...]]:
    return [(X[i : i + size], REALS[i : i + size], scale * WEIGHTS[i : i + size]) for i in range(0, N, size)]


def test_the_loss_of_an_epoch_of_batches_is_the_weighted_mean() -> None:
    one = trainer(optimizer=optimizers.SGD(1e-30), metrics=[])
    loss = one.evaluate(X, REALS, sample_weight=WEIGHTS)["loss"]
    for epoch in range(2):
        assert one.fit(batches(), epochs=1)["loss"][epoch] == pytest.approx(loss, rel=1e-12)
    mixed = [*batches()[:3], *(batch[:2] for batch in batches()[3:])]
    counted = np.where(np.arange(N) < 21, WEIGHTS, 1.0)
    expected = one.evaluate(X, REALS, sample_weight=counted)["loss"]
    found = trainer(optimizer=optimizers.SGD(1e-30)).fit(mixed, epochs=1)["loss"][0]
    assert found == pytest.approx(expected, rel=1e-12)


@scale_of_weights
def test_batches_of_any_scale(scale: float) -> None:
    thetas = []
    for factor in (1.0, scale):
        one = trainer()
        one.fit(batches(scale=factor), epochs=3)
        for batch in batches(1, factor):
            one.step(*batch)
        thetas.append(one.network.theta)
    assert np.abs(thetas[1] - thetas[0]).max() <= 1e-12


def test_a_stream_of_host_data_knows_all_weights() -> None:
    one, other = trainer(), trainer()
    one.fit(X, REALS, epochs=3, batch_size=8, sample_weight=WEIGHTS)
    other.fit(xmlp.model.stream.Stream(other, X, REALS, WEIGHTS, batch_size=8), epochs=3)
    assert np.array_equal(one.network.theta, other.network.theta)


@pytest.mark.parametrize("cut", ["checkpoint", "stop"])
def test_a_stream_that_is_cut_goes_on_to_the_bit(cut: str, tmp_path: Any) -> None:
    class Cut:
        def on_step_end(self, trainer: xmlp.Trainer) -> None:
            if trainer.steps == 9:
                trainer.save(tmp_path / "a.safetensors")
                if cut == "stop":
                    trainer.stop()

    whole = trainer(seed=3)
    whole.fit(batches(), epochs=3)
    first = trainer(seed=3, callbacks=[Cut()])
    first.fit(batches(), epochs=3)
    rest = first if cut == "stop" else xmlp.Trainer.resume(tmp_path / "a.safetensors")
    history = rest.fit(batches())
    assert np.array_equal(rest.network.theta, whole.network.theta)
    assert history["loss"] == whole.history["loss"]
    assert rest.run.mean == whole.run.mean


def test_a_diverging_epoch_of_a_stream_changes_nothing() -> None:
    one = trainer(optimizer=optimizers.SGD(0.01))
    one.fit(batches(), epochs=1)
    mean, theta = one.run.mean, one.network.theta.copy()
    wild = [(X[:5], REALS[:5], WEIGHTS[:5]), (X[:5], 1e200 * REALS[:5], WEIGHTS[:5])]
    with pytest.raises(xmlp.DivergenceError):
        one.fit(wild, epochs=1)
    assert one.run.mean == mean
    assert np.array_equal(one.network.theta, theta)


# --- one step ---------------------------------------------------------------------------------------------------------


def test_a_step_that_is_left_out_has_the_loss_nan() -> None:
    """And says so without a warning, weighted or not."""
    for weights in (None, WEIGHTS):
        one = trainer(clip_norm=1.0)
        with np.errstate(all="raise"):
            assert math.isnan(one.step(X, 1e300 * REALS, weights))
            assert math.isfinite(one.step(X, REALS, weights))
    assert one.steps == 2


def test_a_step_within_a_fit_is_refused() -> None:
    class Step:
        def on_step_end(self, trainer: xmlp.Trainer) -> None:
            trainer.step(X, REALS)

    one = trainer(callbacks=[Step()])
    with pytest.raises(RuntimeError, match="in a fit already"):
        one.fit(X, REALS, epochs=1)
    one.callbacks = []
    one.fit(X, REALS, epochs=1)
    one.step(X, REALS)


class Counts(losses.Loss):
    """Labels, and no link."""

    reduction = "mean"

    def terms_and_gradient(self, ctx: Any, predictions: Any, targets: Any) -> Any:
        raise NotImplementedError

    def prepare(self, targets: Any, outputs: int) -> Any:
        if targets.ndim != 1:
            raise ValueError("labels")
        return targets


def test_a_plan_has_the_targets_that_the_loss_takes() -> None:
    for loss, outputs, shape in (
        ("softmax_cross_entropy", 3, (8,)), ("squared_error", 1, (8, 1)), ("squared_error", 2, (8, 2)),
        ("binary_cross_entropy", 1, (8, 1)), (Counts(), 2, (8,)),
    ):  # fmt: skip
        targets = trainer(loss, outputs).run.no_targets(8)
        assert targets.shape == shape
        assert targets.dtype == (np.int32 if len(shape) == 1 else np.float64)


# --- estimators -------------------------------------------------------------------------------------------------------


def estimators() -> Iterator[tuple[str, Any, Any]]:
    pytest.importorskip("sklearn")
    yield "classes", xmlp.MLPClassifier, LABELS
    yield "two classes", xmlp.MLPClassifier, LABELS > 0
    yield "several labels", xmlp.MLPClassifier, BITS.astype(int)
    yield "numbers", xmlp.MLPRegressor, REALS


def weights_of_model(model: Any) -> Any:
    return np.asarray(model._trainer.network.theta)


@scale_of_weights
def test_estimators_of_weights_of_any_scale(scale: float) -> None:
    for name, kind, y in estimators():
        for more in ({}, {"early_stopping": True, "validation_fraction": 0.3}):
            settings = {"max_iter": 5, "batch_size": 8, "random_state": 0, **more}
            one, other = (kind((6,), **settings).fit(X, y, sample_weight=f * WEIGHTS) for f in (1.0, scale))
            assert np.abs(weights_of_model(one) - weights_of_model(other)).max() <= 1e-10, (name, more)
        one, other = kind((6,), random_state=0), kind((6,), random_state=0)
        first = {"classes": np.unique(y)} if y.ndim == 1 else {}
        for i in range(N):
            row = slice(i, i + 1)
            one.partial_fit(X[row], y[row], sample_weight=WEIGHTS[row], **first)
            other.partial_fit(X[row], y[row], sample_weight=scale * WEIGHTS[row], **first)
            if i == 20:
                other = pickle.loads(pickle.dumps(other))
        assert np.abs(weights_of_model(one) - weights_of_model(other)).max() <= 1e-10, name


def test_sparse_rows_weigh_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    from scipy import sparse

    from xmlp.estimators import arrays

    monkeypatch.setattr(arrays, "BLOCK_BYTES", 100)
    for method in ("fit", "partial_fit"):
        models = [xmlp.MLPRegressor((6,), max_iter=3, batch_size=8, random_state=0) for _ in range(2)]
        for _ in range(2):
            getattr(models[0], method)(X, REALS, 1e-30 * WEIGHTS)
            getattr(models[1], method)(sparse.csr_matrix(X), REALS, 1e-30 * WEIGHTS)
        assert np.abs(weights_of_model(models[0]) - weights_of_model(models[1])).max() <= 1e-12


def digits(rows: int) -> tuple[Any, Any, Any, Any]:
    pytest.importorskip("sklearn")
    data = xmlp.data.load("digits")
    return data.x_train[:rows] / 16, data.y_train[:rows], data.x_test / 16, data.y_test


def test_a_stream_of_a_few_rows_learns() -> None:
    x, y, x_test, y_test = digits(1500)
    model = xmlp.MLPClassifier((32,), random_state=0)
    for epoch in range(8):
        order = np.random.default_rng(epoch).permutation(len(x))
        for i in range(0, len(x), 5):
            model.partial_fit(x[order[i : i + 5]], y[order[i : i + 5]], classes=range(10))
    assert model.score(x_test, y_test) >= 0.93


def test_boosting_and_calibration_of_weighted_rows() -> None:
    """AdaBoost gives weights whose sum is 1, bagging numbers of rows; calibration passes them on."""
    x, y, x_test, y_test = digits(1500)
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier

    base = xmlp.MLPClassifier((32,), max_iter=30, random_state=0)
    alone = base.fit(x, y).score(x_test, y_test)
    for model in (
        AdaBoostClassifier(base, n_estimators=3, random_state=0), BaggingClassifier(base, 3, random_state=0),
        CalibratedClassifierCV(base, cv=3),
    ):  # fmt: skip
        assert model.fit(x, y, sample_weight=np.full(len(x), 1 / len(x))).score(x_test, y_test) > alone - 0.03

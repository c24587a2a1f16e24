"""The estimators: scikit-learn's own checks, and what users of its perceptron have asked for."""

import pickle
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")
from scipy import sparse  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.inspection import permutation_importance  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_validate  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.class_weight import compute_class_weight  # noqa: E402
from sklearn.utils.estimator_checks import estimator_checks_generator  # noqa: E402

import xmlp  # noqa: E402
from xmlp import MLPClassifier, MLPRegressor, metrics, optimizers, schedules  # noqa: E402
from xmlp.estimators import arrays  # noqa: E402

RNG = np.random.default_rng(3)
N = 120
X = RNG.normal(size=(N, 4))
BINARY = np.where(X[:, 0] + 0.3 * RNG.normal(size=N) > 0, "yes", "no")
LABELS = np.asarray(["red", "green", "blue"])[np.argmax(X[:, :3] + 0.3 * RNG.normal(size=(N, 3)), axis=1)]
BITS = (X[:, :3] + 0.3 * RNG.normal(size=(N, 3)) > 0.3).astype(int)
REALS = np.stack([1000 * X[:, 0] + 50, X[:, 1] ** 2], axis=1)
TASKS: dict[str, tuple[type, Any]] = {
    "binary": (MLPClassifier, BINARY),
    "multiclass": (MLPClassifier, LABELS),
    "multilabel": (MLPClassifier, BITS),
    "regression": (MLPRegressor, REALS[:, 0]),
    "multioutput": (MLPRegressor, REALS),
}
task = pytest.mark.parametrize("name", TASKS)
CHECKS = [(cls, check) for cls in (MLPClassifier, MLPRegressor) for _, check in estimator_checks_generator(cls())]
BEFORE_1_9 = tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9)
FORCED = "cupy|dpnp|torch is not installed|requires cuda|XPU|MPS"  # what this machine or this environment lacks


def of(name: str, **kw: Any) -> Any:
    return TASKS[name][0](**{"hidden_layer_sizes": (12,), "max_iter": 15, "random_state": 0, **kw})


def fitted(name: str, **kw: Any) -> Any:
    return of(name, **kw).fit(X, TASKS[name][1])


def scores(model: Any, x: Any = X) -> Any:
    return model.decision_function(x) if hasattr(model, "decision_function") else model.predict(x)


def name_of(check: Any) -> str:
    words = getattr(check, "keywords", {}).values()
    return " ".join([getattr(check, "func", check).__name__, *(str(w) for w in words)])


@pytest.mark.parametrize(("cls", "check"), CHECKS, ids=lambda v: v.__name__ if isinstance(v, type) else name_of(v))
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(cls: type, check: Callable[[Any], None]) -> None:
    pytest.importorskip("pandas")
    try:
        check(cls())
    except SkipTest as reason:
        if not re.search(FORCED, str(reason)):
            pytest.fail(f"skipped: {reason}")
        pytest.skip(str(reason))
    except AssertionError as error:
        if BEFORE_1_9 and "'classes_' attribute is in wrong namespace" in str(error):
            pytest.skip("before 1.9 scikit-learn wanted the labels in the library of X")
        raise


# --- what comes out ---------------------------------------------------------------------------------------------------


@task
def test_learns(name: str) -> None:
    assert fitted(name, max_iter=400, learning_rate=0.01).score(X, TASKS[name][1]) > 0.85


def test_probabilities_and_decisions_agree() -> None:
    for name in ("binary", "multiclass", "multilabel"):
        model = fitted(name)
        p, z, log_p, found = (
            model.predict_proba(X), model.decision_function(X), model.predict_log_proba(X), model.predict(X),
        )  # fmt: skip
        assert np.allclose(np.log(p), log_p, rtol=1e-12)
        if name == "multilabel":
            assert (found == (z > 0)).all()
            assert np.allclose(p, 1 / (1 + np.exp(-z)))
            continue
        assert np.allclose(p.sum(axis=1), 1)
        assert (model.classes_[p.argmax(axis=1)] == found).all()
        if name == "binary":
            assert (model.classes_[(z > 0).astype(int)] == found).all()


def test_log_probabilities_are_exact_at_the_ends() -> None:
    model = fitted("binary")
    model.network_.theta = 1000 * model.network_.theta
    log_p, z = model.predict_log_proba(X), model.decision_function(X)
    assert np.isfinite(log_p).all()
    assert np.allclose(log_p[:, 1], np.where(z < 0, z, 0), rtol=1e-12, atol=1e-9)


@task
def test_the_gradient_of_an_output(name: str) -> None:
    """Beside central differences of the decision function or the prediction."""
    model = fitted(name, activation="tanh")
    k, h = (1, 1e-6) if model.n_outputs_ > 1 else (0, 1e-6)
    found = model.input_gradient(X[:5], k)
    for j in range(4):
        step = h * np.eye(4)[j]
        difference = np.reshape((scores(model, X[:5] + step) - scores(model, X[:5] - step)) / (2 * h), (5, -1))[:, k]
        assert np.allclose(found[:, j], difference, rtol=1e-6, atol=1e-6 * np.abs(found).max())
    with pytest.raises(ValueError, match="output must be one of 0 to"):
        model.input_gradient(X, 7)


def test_the_network_underneath_is_in_the_units_of_y() -> None:
    model = fitted("multioutput", learning_rate=0.01)
    assert np.array_equal(model.network_.predict(X), model.predict(X))
    raw = fitted("multioutput", learning_rate=0.01, scale_targets=False)
    assert model.score(X, REALS) > raw.score(X, REALS) + 0.1
    assert len(raw.network_.layers) == len(model.network_.layers) - 1


def test_scaled_targets_change_units_and_nothing_else() -> None:
    a = fitted("multioutput", metrics=["mae"], validation_fraction=0.3, early_stopping=True)
    b = of("multioutput", metrics=["mae"], validation_fraction=0.3, early_stopping=True).fit(X, 4 * REALS + 8)
    assert np.allclose(b.predict(X), 4 * a.predict(X) + 8, rtol=1e-9)
    assert np.allclose(b.history_["val_mae"], np.multiply(4, a.history_["val_mae"]), rtol=1e-9)
    assert np.allclose(a.loss_curve_, b.loss_curve_, rtol=1e-9)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_reach_the_network_and_the_optimizer() -> None:
    @xmlp.elementwise
    def wavy(xp: Any, x: Any) -> Any:
        return x + xp.tanh(x) ** 2

    @xmlp.elementwise
    def log_cosh(xp: Any, prediction: Any, target: Any) -> Any:
        d = xp.abs(prediction - target)
        return d + xp.log1p(xp.exp(-2 * d))

    schedule = schedules.Polynomial(0.02, total_steps=100)
    model = fitted(
        "regression", hidden_layer_sizes=(8, 6), activation=[wavy, "tanh"], dropout=0.1, normalization="layer",
        loss=log_cosh, optimizer=optimizers.SGD(0.1, momentum=0.9), learning_rate=schedule, clip_norm=1.0,
        dtype="float32", scale_targets=False,
    )  # fmt: skip
    summary = model.network_.summary()
    for part in ("LayerNorm", "Dropout", "function=wavy", "function=tanh"):
        assert part in summary
    assert model._trainer.optimizer == optimizers.SGD(schedule, momentum=0.9)
    assert model.history_["lr"][-1] < 0.02
    assert model.predict(X).dtype == np.float32


@pytest.mark.parametrize("learning_rate", ["cosine", "one_cycle"])
def test_named_schedules_end_with_the_epochs(learning_rate: str) -> None:
    model = fitted("multiclass", learning_rate=learning_rate, tol=None)
    assert max(model.history_["lr"]) > 5e-4
    assert model.history_["lr"][-1] < 1e-4
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        fitted("multiclass", learning_rate="cosin")


def test_the_dtype_follows_the_features() -> None:
    for dtype in ("float32", "float64"):
        model = of("multiclass").fit(X.astype(dtype), LABELS)
        assert model.network_.dtype == dtype
        assert model.predict_proba(X.astype(dtype)).dtype == dtype


def test_a_loss_without_probabilities_of_its_own() -> None:
    for loss in ("squared_error", "binary_cross_entropy"):
        model = of("multiclass", loss=loss, max_iter=60, learning_rate=0.01).fit(X, LABELS)
        assert model.score(X, LABELS) > 0.8
        assert np.allclose(model.predict_proba(X).sum(axis=1), 1)


# --- weights ----------------------------------------------------------------------------------------------------------


@task
def test_weights_are_numbers_of_rows(name: str) -> None:
    y, counts = TASKS[name][1], RNG.integers(0, 4, N)
    rows = np.repeat(np.arange(N), counts)
    more = {"class_weight": "balanced"} if TASKS[name][0] is MLPClassifier else {}
    weighted = of(name, batch_size=N, **more).fit(X, y, sample_weight=counts)
    repeated = of(name, batch_size=len(rows), **more).fit(X[rows], y[rows])
    assert np.allclose(scores(weighted), scores(repeated), rtol=1e-9, atol=1e-10)


@task
def test_missing_targets_do_not_count(name: str) -> None:
    y, gone = TASKS[name][1], np.arange(N) % 7 == 0
    removed = of(name, batch_size=N).fit(X[~gone], y[~gone])
    mask = np.broadcast_to(gone if y.ndim == 1 else gone[:, None], y.shape)
    gaps = [np.ma.masked_array(y, mask)]
    if name in ("multilabel", "regression", "multioutput"):
        gaps.append(np.where(mask, np.nan, y))
    for with_gaps in gaps:
        found = of(name, batch_size=N).fit(X, with_gaps)
        assert np.allclose(scores(found), scores(removed), rtol=1e-9, atol=1e-10)


def test_single_targets_may_be_missing() -> None:
    y = np.array(REALS)
    y[::2, 1] = np.nan
    model = of("multioutput", max_iter=100, learning_rate=0.01).fit(X, y)
    assert model.score(X, y) > 0.8
    assert model.score(X, np.where(np.isnan(y), 1e9, y)) < 0 < model.score(X, y)
    labels = BITS.astype(float)
    labels[::3, 2] = np.nan
    assert of("multilabel", max_iter=100, learning_rate=0.01).fit(X, labels).score(X, BITS) > 0.7


def test_class_weights_name_labels() -> None:
    heavy = of("multiclass", l2=0.0, class_weight={"red": 50.0}).fit(X, LABELS)
    by_row = of("multiclass", l2=0.0).fit(X, LABELS, sample_weight=np.where(LABELS == "red", 50.0, 1.0))
    assert np.array_equal(heavy.predict_proba(X), by_row.predict_proba(X))
    each = of("multilabel", l2=0.0, class_weight=[{1: 3.0}, {}, {0: 2.0}]).fit(X, BITS)
    weights = np.stack([np.where(BITS[:, 0], 3, 1), np.ones(N), np.where(BITS[:, 2], 1, 2)], axis=1)
    assert np.array_equal(scores(each), scores(of("multilabel", l2=0.0).fit(X, BITS, sample_weight=weights)))
    with pytest.raises(ValueError, match="class_weight has the label 'rad'"):
        of("multiclass", class_weight={"rad": 1.0}).fit(X, LABELS)


@pytest.mark.parametrize(
    "given",
    [{}, {1: 4.0}, {0: 1.0, 1: 4.0, 2: 0.5}, {0: 1.0, 1: 4.0, 2: 0.5, 3: 9.0}, {1: 4.0, 3: 9.0}, {3: 9.0}, {"1": 4.0}],
    ids=str,
)
@pytest.mark.parametrize("by", ["estimator", "partial_fit", "trainer", "names"])
def test_which_labels_class_weights_may_have_is_what_scikit_learn_says(given: dict[Any, float], by: str) -> None:
    """A label left out has the weight 1; one that is no class is an error, unless all classes have weights."""
    labels = np.searchsorted(np.unique(LABELS), LABELS)

    def trained(class_weight: Any, sample_weight: Any = None) -> Any:
        if by == "trainer":
            network = xmlp.mlp([X.shape[1], 5, 3], seed=0)
            network.fit(X, labels, epochs=1, class_weight=class_weight, sample_weight=sample_weight)
            return network.theta
        y = labels
        if by == "names":
            names = np.asarray(["a", "b", "c", "d"])
            y = names[labels]
            class_weight = class_weight and {names[k] if k in range(4) else k: w for k, w in class_weight.items()}
        model = of("multiclass", l2=0.0, class_weight=class_weight)
        more = {"classes": np.unique(y)} if by == "partial_fit" else {}
        fit = model.partial_fit if by == "partial_fit" else model.fit
        return fit(X, y, sample_weight=sample_weight, **more).network_.theta

    try:
        weights = compute_class_weight(given, classes=np.arange(3), y=labels)
    except ValueError:
        with pytest.raises(ValueError, match=r"has the label '?[13d]'? and no weight for the label '?[0a]'?; the"):
            trained(given)
    else:
        assert np.allclose(trained(given), trained(None, weights[labels]), rtol=1e-5, atol=1e-6)


def test_weights_of_outputs() -> None:
    model = of("multioutput", l2=0.0, output_weight=[1.0, 0.0]).fit(X, REALS)
    y = REALS * [1.0, np.nan]
    assert np.allclose(model.predict(X)[:, 0], of("multioutput", l2=0.0).fit(X, y).predict(X)[:, 0], rtol=1e-9)


# --- going on ---------------------------------------------------------------------------------------------------------


@task
def test_warm_start_goes_on_with_the_optimizer(name: str) -> None:
    """Also in another process: the pickle holds what is needed."""
    y = TASKS[name][1]
    whole = of(name, max_iter=8, tol=None).fit(X, y)
    parts = of(name, max_iter=4, tol=None, warm_start=True).fit(X, y)
    later = pickle.loads(pickle.dumps(parts))
    for model in (parts, later, clone(parts).fit(X, y)):
        assert np.array_equal(scores(model.fit(X, y)), scores(whole))
        assert model.n_iter_ == 8
        assert np.allclose(model.loss_curve_, whole.loss_curve_)
    cold = of(name, max_iter=4, tol=None).fit(X, y).fit(X, y)
    assert cold.n_iter_ == 4


@task
def test_partial_fit_is_an_epoch(name: str) -> None:
    y = TASKS[name][1]
    whole = of(name, max_iter=3, tol=None, scale_targets=False) if name[:3] in ("reg", "mul") and TASKS[name][
        0] is MLPRegressor else of(name, max_iter=3, tol=None)  # fmt: skip
    whole.fit(X, y)
    model = clone(whole)
    for _ in range(3):
        first = {"classes": np.unique(y)} if name in ("binary", "multiclass") else {}
        model.partial_fit(X, y, **first)
        model = pickle.loads(pickle.dumps(model))
    assert np.array_equal(scores(model), scores(whole))
    assert model.n_iter_ == 3


def test_partial_fit_knows_classes_that_have_not_come_yet() -> None:
    some = LABELS != "blue"
    model = of("multiclass").partial_fit(X[some], LABELS[some], classes=["red", "green", "blue"])
    assert model.classes_.tolist() == ["blue", "green", "red"]
    model.partial_fit(X, LABELS)
    with pytest.raises(ValueError, match="y holds the label 'pink'"):
        model.partial_fit(X[:1], ["pink"])
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        of("multiclass").partial_fit(X, LABELS)
    with pytest.raises(ValueError, match="needs all rows at once"):
        of("multiclass", class_weight="balanced").partial_fit(X, LABELS, classes=np.unique(LABELS))


# --- validation -------------------------------------------------------------------------------------------------------


@task
def test_early_stopping_restores_the_best(name: str) -> None:
    y = TASKS[name][1]
    kept, held = slice(0, 30), slice(30, N)
    data = (X[held], y[held])
    model = of(name, max_iter=400, early_stopping=True, learning_rate=0.05, hidden_layer_sizes=(100,))
    model.fit(X[kept], y[kept], validation_data=data)
    assert model.n_iter_ < 400
    assert model.best_score_ == min(model.validation_curve_) < model.validation_curve_[-1]
    trainer = model._trainer
    again = trainer.evaluate(data[0], model._scaled(model._encoded(data[1], False)))["loss"]
    assert again == pytest.approx(model.best_score_, rel=1e-12)


def test_early_stopping_on_a_metric_of_choice() -> None:
    def misses(targets: Any, labels: Any, *, sample_weight: Any = None) -> float:
        return 1 - metrics.accuracy(targets, labels, sample_weight=sample_weight)

    misses.needs, misses.greater_is_better = "labels", False  # type: ignore[attr-defined]
    for monitor, best in (("accuracy", max), ("f1", max), (misses, min)):
        model = fitted("multiclass", early_stopping=True, monitor=monitor, max_iter=60, validation_fraction=0.3)
        assert len(model.validation_curve_) == model.n_iter_
        assert model.best_score_ == best(model.validation_curve_)
    model = fitted("regression", early_stopping=True, monitor="mae", max_iter=30)
    assert model.best_score_ == min(model.history_["val_mae"])


def test_validation_data_are_measured_only() -> None:
    plain = fitted("multiclass")
    watched = of("multiclass").fit(X, LABELS, validation_data=(X[:20], LABELS[:20], np.ones(20)))
    assert np.array_equal(scores(plain), scores(watched))
    assert len(watched.validation_curve_) == watched.n_iter_
    assert plain.validation_curve_ == []
    assert plain.best_score_ is None
    with pytest.raises(ValueError, match="validation_data must be"):
        of("multiclass").fit(X, LABELS, validation_data=X)


def test_the_split_keeps_the_shares_of_the_classes() -> None:
    y = np.asarray(["rare"] * 12 + ["common"] * 108)
    model = of("binary", early_stopping=True, validation_fraction=0.25)
    _, held = model._set_task(y) or model._split(model._encoded(y, False), None)
    assert len(held) == 30
    assert (y[held] == "rare").sum() == 3


def test_the_loss_that_no_longer_falls_ends_fitting() -> None:
    assert fitted("regression", max_iter=500, learning_rate=1e-7, n_iter_no_change=3).n_iter_ < 10
    assert fitted("regression", max_iter=20, learning_rate=1e-7, n_iter_no_change=3, tol=None).n_iter_ == 20


# --- arrays of other kinds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@task
def test_array_api_in_the_same_kind_out(name: str, library: str) -> None:
    xp = pytest.importorskip(library)
    y = TASKS[name][1]
    y = np.unique(y, return_inverse=True)[1] if y.dtype.kind == "U" else y
    theirs = of(name).fit(X, y)
    with sklearn.config_context(array_api_dispatch=True):
        x = xp.asarray(X)
        model = of(name).fit(x, xp.asarray(y))
        assert model.network_.backend.name == library.replace("_", "-")
        for method in ("predict", "predict_proba", "predict_log_proba", "decision_function", "input_gradient"):
            if hasattr(model, method):
                found, expected = getattr(model, method)(x), getattr(theirs, method)(X)
                assert type(found) is type(x)
                assert np.allclose(np.asarray(found), expected, rtol=1e-6, atol=1e-8)
        assert isinstance(model.score(x, xp.asarray(y)), float)
        model.partial_fit(x, xp.asarray(y))
        on_numpy = of(name, backend="numpy").fit(x, xp.asarray(y))
        assert on_numpy.network_.backend.name == "numpy"
        assert type(on_numpy.predict(x)) is type(x)


@pytest.mark.parametrize("library", ["torch", "array-api-strict", "jax"])
def test_numpy_in_and_out_of_another_backend(library: str) -> None:
    pytest.importorskip(library.replace("-", "_"))
    if library == "jax":
        pytest.importorskip("jax").config.update("jax_enable_x64", True)
    model, theirs = of("multiclass", backend=library).fit(X, LABELS), fitted("multiclass")
    assert type(model.predict_proba(X)) is np.ndarray
    assert np.allclose(model.predict_proba(X), theirs.predict_proba(X), rtol=1e-6)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


@task
def test_sparse_features_are_the_dense_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also beyond the size up to which they are made dense as a whole: the same batches, the same bits."""
    y = TASKS[name][1]
    x = np.where(RNG.random(X.shape) < 0.5, 0.0, X)
    more = {"class_weight": "balanced"} if TASKS[name][0] is MLPClassifier else {}
    dense = of(name, batch_size=16, **more).fit(x, y, sample_weight=np.arange(N))
    for block in (arrays.BLOCK_BYTES, 16 * 4 * 8):
        monkeypatch.setattr(arrays, "BLOCK_BYTES", block)
        model = of(name, batch_size=16, **more).fit(sparse.csr_array(x), y, sample_weight=np.arange(N))
        assert np.allclose(scores(model), scores(dense), rtol=1e-10)
        assert np.array_equal(scores(model, sparse.csc_array(x)), scores(model, x))
        assert np.array_equal(model.input_gradient(sparse.csr_array(x)), model.input_gradient(x))


@pytest.mark.parametrize("block", [16, 5])
def test_large_sparse_features_are_the_dense_ones_whatever_the_weights(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of no weight, and batches larger than a block, are those of the dense matrix too."""
    y, weights = np.array(REALS), np.arange(N) % 16 + 1.0
    weights[16:32], y[48:64] = 0, np.nan
    settings = {"batch_size": 16, "shuffle": False, "learning_rate": "cosine", "output_weight": [1.0, 3.0]}
    dense = of("multioutput", **settings).fit(X, y, sample_weight=weights)
    monkeypatch.setattr(arrays, "BLOCK_BYTES", block * 4 * 8)
    model = of("multioutput", **settings).fit(sparse.csr_array(X), y, sample_weight=weights)
    assert model.history_["lr"] == dense.history_["lr"]
    assert np.allclose(scores(model), scores(dense), rtol=1e-10)


def test_large_sparse_features_stay_within_a_bound() -> None:
    """1.6 GB if it were dense; blocks of 64 MiB."""
    x = sparse.random_array((10_000, 20_000), density=1e-4, rng=RNG, format="csr")
    y = (np.asarray(x.sum(axis=1)) > 0.5).astype(int)
    model = MLPClassifier((4,), max_iter=1, batch_size=200, random_state=0)
    tracemalloc.start()
    model.fit(x, y).predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * arrays.BLOCK_BYTES


def test_data_frames_keep_their_names() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    model = of("multiclass").fit(frame, pandas.Series(LABELS))
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a", "c", "d"]])


# --- beside scikit-learn's tools --------------------------------------------------------------------------------------


def test_search_pipeline_calibration_importance() -> None:
    pipe = make_pipeline(StandardScaler(), of("binary", max_iter=30, learning_rate=0.01))
    grid = {"mlpclassifier__hidden_layer_sizes": [(4,), (8,)], "mlpclassifier__activation": ["relu", "gelu"]}
    search = GridSearchCV(pipe, grid, n_jobs=2, cv=2).fit(X, BINARY)
    assert search.best_score_ > 0.7
    calibrated = CalibratedClassifierCV(of("binary", max_iter=30, learning_rate=0.01), cv=2).fit(X, BINARY)
    assert calibrated.score(X, BINARY) > 0.8
    importance = permutation_importance(search.best_estimator_, X, BINARY, n_repeats=3, random_state=0)
    assert importance.importances_mean.argmax() == 0


def test_metadata_routing() -> None:
    weights = np.where(LABELS == "red", 5.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        model = of("multiclass").set_fit_request(sample_weight=True, validation_data=True)
        model.set_score_request(sample_weight=True)
        assert "validation_data" in model.get_metadata_routing().fit.requests
        found = cross_validate(model, X, LABELS, params={"sample_weight": weights}, cv=2)
        plain = cross_validate(of("multiclass").set_fit_request(sample_weight=False).set_score_request(
            sample_weight=False), X, LABELS, cv=2)  # fmt: skip
    assert (found["test_score"] != plain["test_score"]).any()


def test_callbacks_of_scikit_learn() -> None:
    pytest.importorskip("sklearn.callback")

    class Watch:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def setup(self, estimator: Any, context: Any) -> None:
            self.seen.append("setup")

        def teardown(self, estimator: Any, context: Any) -> None:
            self.seen.append("teardown")

        def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
            self.seen.append(f"begin {context.task_name}")

        def on_fit_task_end(self, estimator: Any, context: Any, *, X: Any = None, fitted_estimator: Any = None) -> bool:
            self.seen.append((context.task_name, fitted_estimator.score(X, LABELS)))
            return context.task_name == "epoch" and context.task_id == 2

    watch = Watch()
    model = of("multiclass").set_callbacks(watch).fit(X, LABELS)
    assert model.n_iter_ == 3
    begun = [s for s in watch.seen if isinstance(s, str)]
    assert begun == ["setup", "begin fit", *["begin epoch"] * 3, "teardown"]
    ended = [s for s in watch.seen if isinstance(s, tuple)]
    assert [name for name, _ in ended] == ["epoch"] * 3 + ["fit"]
    assert ended[-1][1] == model.score(X, LABELS)


def test_verbose_and_callbacks_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    class Epochs:
        seen = 0

        def on_epoch_end(self, trainer: xmlp.Trainer) -> None:
            self.seen += 1

    epochs = Epochs()
    fitted("binary", max_iter=3, verbose=True).fit(X, BINARY)
    of("binary", max_iter=3, callbacks=[epochs]).fit(X, BINARY)
    assert epochs.seen == 3
    assert "epoch 3  loss" in capsys.readouterr().out


def test_calibration_and_thresholds_are_used() -> None:
    model = fitted("multilabel", max_iter=60)
    model.network_.calibrate(X, BITS)
    assert np.allclose(model.predict_proba(X), model.network_.predict_proba(X), rtol=1e-12)
    found = model.network_.tune_thresholds(X, BITS, "recall")
    assert (model.predict(X) == (model.predict_proba(X) > found)).all()
    assert (model.predict(X) != (model.predict_proba(X) > 0.5)).any()


def test_without_scikit_learn_the_remedy_is_named() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import xmlp; xmlp.MLPClassifier"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'the estimators need scikit-learn: pip install ".[sklearn]"' in run.stderr


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "masked X": (lambda: of("binary").fit(np.ma.masked_array(X, X > 2), BINARY), ValueError, "X is a masked array"),
    "one class": (lambda: of("binary").fit(X, ["a"] * N), ValueError, "at least 2 classes"),
    "several columns": (lambda: of("binary").fit(X, np.stack([LABELS, LABELS], 1)), ValueError, "several columns"),
    "all missing": (lambda: of("regression").fit(X, np.full(N, np.nan)), ValueError, "every target is missing"),
    "infinite y": (lambda: of("regression").fit(X, np.full(N, np.inf)), ValueError, "infinity"),
    "batch_size": (lambda: fitted("binary", batch_size="all"), ValueError, "unknown batch_size"),
    "fraction": (lambda: fitted("binary", early_stopping=True, validation_fraction=1.5), ValueError, "between 0 and 1"),
    "outputs": (lambda: fitted("multioutput").partial_fit(X, REALS[:, 0]), ValueError, "y must have 2 outputs"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case: str) -> None:
    run, kind, words = WRONG[case]
    with pytest.raises(kind, match=words):
        run()


# --- what fails leaves nothing behind ---------------------------------------------------------------------------------


WRECKS: dict[str, tuple[str, Any]] = {
    "divergence": ("regression", lambda m: m.fit(X * 1e200, REALS[:, 0] + 1000)),
    "negative weights": ("multiclass", lambda m: m.fit(X, np.char.add(LABELS, "ish"), sample_weight=-np.ones(N))),
    "one class": ("multiclass", lambda m: m.fit(X, ["red"] * N)),
    "fewer features": ("binary", lambda m: m.set_params(optimizer="no such").fit(X[:, :2], BINARY)),
    "another shape": ("regression", lambda m: m.fit(X, REALS, validation_data=(X[:, :2], REALS))),
}


@pytest.mark.parametrize("wreck", WRECKS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_fit_that_fails_leaves_the_model_as_it_was(wreck: str) -> None:
    name, fail = WRECKS[wreck]
    model, twin = fitted(name), fitted(name)
    before, params = model.predict(X), model.get_params()
    with pytest.raises((ValueError, ArithmeticError)):
        fail(model)
    assert np.array_equal(model.predict(X), before)
    model.set_params(**params).partial_fit(X, TASKS[name][1])
    assert np.array_equal(scores(model), scores(twin.partial_fit(X, TASKS[name][1])))


def test_an_interrupted_fit_keeps_the_epochs_made() -> None:
    class Interrupt:
        def on_epoch_end(self, trainer: Any) -> None:
            if trainer.epoch == 3:
                raise KeyboardInterrupt

    model = of("multiclass", callbacks=[Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, LABELS)
    assert model.n_iter_ >= 2
    assert model.predict(X).shape == (N,)


def test_an_interrupted_second_fit_that_has_not_begun_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted("multiclass")
    before = model.predict(X)

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model), "_begin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, np.char.add(LABELS, "ish"))
    assert np.array_equal(model.predict(X), before)


@pytest.mark.parametrize("name", ["loss", "same"])
def test_names_of_metrics_that_are_taken(name: str) -> None:
    def first(y: Any, z: Any, *, sample_weight: Any = None) -> float:
        return 1.0

    def second(y: Any, z: Any, *, sample_weight: Any = None) -> float:
        return 2.0

    first.__name__ = second.__name__ = name
    with pytest.raises(ValueError, match="is taken"):
        of("regression", metrics=[first, second]).fit(X, REALS[:, 0])


def test_the_classes_of_a_partial_fit_are_forgotten_by_a_fit() -> None:
    model = of("binary")
    for _ in range(2):
        model.partial_fit(X, LABELS, classes=np.unique(LABELS))
    assert model.fit(X, BINARY).classes_.tolist() == ["no", "yes"]
    model = of("binary")
    with pytest.raises(ValueError, match="inconsistent"):
        model.partial_fit(X, LABELS[:5], classes=np.unique(LABELS))
    assert model.fit(X, BINARY).classes_.tolist() == ["no", "yes"]


def test_a_schedule_lasts_for_as_many_partial_fits_as_there_are_epochs() -> None:
    model = of("regression", learning_rate="cosine", max_iter=10, warm_start=True)
    for _ in range(5):
        model.partial_fit(X, REALS[:, 0])
    assert 0.3 * model.history_["lr"][0] < model.history_["lr"][-1] < 0.8 * model.history_["lr"][0]
    with pytest.raises(ValueError, match="ended with the first fit"):
        model.fit(X, REALS[:, 0])


def test_metrics_are_those_of_the_first_fit() -> None:
    model = fitted("binary", warm_start=True).set_params(metrics=["f1"])
    with pytest.raises(ValueError, match="metrics and monitor are those of the first fit"):
        model.fit(X, BINARY)


def test_without_tolerance_the_best_weights_come_back_too() -> None:
    x, y = RNG.normal(size=(40, 4)), RNG.normal(size=40)
    settings = {"early_stopping": True, "max_iter": 120, "monitor": "rmse", "optimizer": optimizers.Adam(0.02)}
    model = of("regression", tol=None, **settings).fit(x[:20], y[:20], validation_data=(x[20:], y[20:]))
    assert model.n_iter_ == 120
    assert model.best_score_ == pytest.approx(np.sqrt(np.mean((model.predict(x[20:]) - y[20:]) ** 2)))


@pytest.mark.parametrize("seed", range(6))
def test_rows_without_weight_are_not_split(seed: int) -> None:
    """Early stopping watches the same rows as if they were not there."""
    kept = np.arange(N) % 5 < 2
    settings = {"early_stopping": True, "batch_size": N, "random_state": seed}
    for name in ("regression", "multiclass"):
        y = TASKS[name][1]
        gaps = np.where(kept, y, np.nan) if name == "regression" else np.ma.masked_array(y, ~kept)
        alone = of(name, **settings).fit(X[kept], y[kept])
        for model in (of(name, **settings).fit(X, y, sample_weight=kept * 1.0), of(name, **settings).fit(X, gaps)):
            assert np.allclose(model.validation_curve_, alone.validation_curve_, rtol=1e-9)
            assert np.allclose(scores(model), scores(alone), rtol=1e-9)


def test_too_few_rows_to_watch_are_refused() -> None:
    with pytest.raises(ValueError, match="Pass validation_data"):
        of("regression", early_stopping=True).fit(X[:1], REALS[:1, 0])


def test_balanced_classes_with_gaps_and_weights_of_outputs() -> None:
    masked = np.ma.masked_array(BINARY, np.arange(N) % 4 == 0)
    known = np.arange(N) % 4 != 0
    settings = {"class_weight": "balanced", "batch_size": N}
    alone = of("binary", **settings).fit(X[known], BINARY[known])
    assert np.allclose(scores(of("binary", **settings).fit(X, masked)), scores(alone), rtol=1e-9)
    plain = of("binary", **settings).fit(X, BINARY)
    for more in ({"sample_weight": np.ones((N, 1))}, {}):
        other = of("binary", **settings, **({} if more else {"output_weight": [2.0]})).fit(X, BINARY, **more)
        assert np.allclose(scores(other), scores(plain), rtol=1e-9)


def test_balanced_by_batches_is_refused_in_a_list_too() -> None:
    with pytest.raises(ValueError, match="all rows at once"):
        of("multilabel", class_weight=["balanced", None]).partial_fit(X, TASKS["multilabel"][1])


def test_the_score_of_labels_that_are_missing() -> None:
    model, gaps = fitted("multiclass"), np.arange(N) % 3 == 0
    expected = (model.predict(X) == LABELS)[~gaps].mean()
    assert model.score(X, np.ma.masked_array(LABELS, gaps)) == pytest.approx(expected)
    weights = np.arange(N) + 1.0
    weighted = np.average((model.predict(X) == LABELS)[~gaps], weights=weights[~gaps])
    assert model.score(X, np.ma.masked_array(LABELS, gaps), weights) == pytest.approx(weighted)
    several, y = fitted("multilabel"), TASKS["multilabel"][1].astype(float)
    expected = (several.predict(X) == y).all(axis=1)[~gaps].mean()
    y[gaps, 0] = np.nan
    assert several.score(X, y, np.ones(y.shape)) == pytest.approx(expected)


def test_what_is_watched_is_what_is_predicted() -> None:
    model = of("multiclass", loss="binary_cross_entropy", monitor="accuracy", max_iter=3)
    model.fit(X, LABELS, validation_data=(X, LABELS))
    assert model.validation_curve_[-1] == pytest.approx(model.score(X, LABELS))


def test_a_softmax_for_two_classes_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match='take loss="binary_cross_entropy"'):
        of("binary", loss="softmax_cross_entropy").fit(X, BINARY)


@pytest.mark.parametrize("size", [1e160, 1e-200])
def test_targets_of_extreme_size(size: float) -> None:
    usual, model = fitted("regression"), of("regression").fit(X, REALS[:, 0] * size)
    assert np.allclose(model.predict(X) / size, usual.predict(X), rtol=1e-6)

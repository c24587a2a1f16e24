"""Targets of regressors in any units, in one table or row by row: predictions and scores are those of usual numbers."""

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import xmlp
from xmlp import MLPRegressor, metrics
from xmlp.estimators.units import Moments, Units, move, none

RNG = np.random.default_rng(6)
N = 200
X = RNG.normal(size=(N, 3))
BASE = 2 * X[:, 0] + np.sin(2 * X[:, 1])
TARGETS: dict[str, Any] = {
    "1e8": 1e8 + BASE,
    "-1e8": -1e8 + BASE,
    "1e12": 1e12 + 10 * BASE,
    "seconds since 1970": 1.7e9 + 3600 * BASE,
    "nanoseconds": np.int64(1.7e18 + 1e12 * BASE),
    "tiny": 1e-9 * BASE + 1e-6,
    "single precision": np.float32(1000 + BASE),
}
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def of(**kw: Any) -> MLPRegressor:
    return MLPRegressor(**{"hidden_layer_sizes": (16,), "learning_rate": 0.01, "max_iter": 60, "random_state": 0, **kw})


@dtypes
@pytest.mark.parametrize("name", TARGETS)
def test_targets_far_from_zero(name: str, dtype: str) -> None:
    """As the same targets around 0: distinct predictions, score, metrics, what is monitored; after a pickle too."""
    x, y = X.astype(dtype), TARGETS[name]
    usual = of(metrics=["mae"]).fit(x, BASE)
    model = of(metrics=["mae"], early_stopping=True, monitor="r2", validation_fraction=0.3).fit(x, y)
    assert of().fit(x, y).score(x, y) == pytest.approx(usual.score(x, BASE), abs=1e-3)
    found = model.predict(x)
    assert len(np.unique(found)) > 0.95 * N
    assert found.dtype == ("float32" if dtype == "float32" and y.dtype == np.float32 else "float64")
    unit = float(np.float64(y).std() / BASE.std())
    assert model.history_["mae"][-1] / unit < 1.0
    assert metrics.mae(np.float64(y), np.float64(found)) / unit < 1.0
    again = model.score(x, y)
    assert again > 0.8
    assert model.best_score_ == pytest.approx(again, abs=0.15)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(x), found)


def test_outputs_of_very_different_units() -> None:
    y = np.stack([1e8 + BASE, 1e-5 * BASE, np.full(N, 3.0), -BASE], axis=1)
    for model in (of().fit(np.float32(X), y), streamed(y, 5, 12, dtype="float32")):
        found = model.predict(np.float32(X))
        assert all(metrics.r2(y[:, k], found[:, k]) > 0.7 for k in (0, 1, 3))
        assert np.abs(found[:, 2] - 3).max() < 0.2


def test_the_network_is_in_the_units_of_y_as_far_as_its_dtype_goes() -> None:
    y = 1e4 + BASE
    model = of(dtype="float32").fit(X, y)
    assert np.allclose(model.network_.predict(X)[:, 0], model.predict(X), rtol=0, atol=4e-3)  # 4 spacings of 1e4
    model.network_.theta = 0.0 * model.network_.theta
    assert np.allclose(model.predict(X), y.mean(), rtol=1e-12), "what is set in network_ counts"


def streamed(y: Any, size: int, passes: int, dtype: str = "float64", **kw: Any) -> Any:
    model = of(**{"learning_rate": 0.005, **kw})
    for epoch in range(passes):
        order = np.random.default_rng(epoch).permutation(N)
        for i in range(0, N, size):
            rows = order[i : i + size]
            model.partial_fit(X[rows].astype(dtype), y[rows])
    return model


@pytest.mark.parametrize("name", ["1e8", "tiny", "seconds since 1970"])
@pytest.mark.parametrize("size", [1, 7])
def test_rows_that_come_one_by_one(size: int, name: str) -> None:
    y = TARGETS[name]
    model = streamed(y, size, 4 if size == 1 else 20, dtype="float32")
    assert model.score(np.float32(X), y) > 0.85
    assert model._units.mean == pytest.approx(y.mean(), rel=1e-12)
    assert model._units.scale == pytest.approx(y.std(), rel=1e-6)


def test_units_of_targets_have_no_effect_on_a_stream() -> None:
    usual, other = streamed(BASE, 4, 2), streamed(2.0**-20 * BASE, 4, 2)
    assert np.allclose(other.predict(X) * 2.0**20, usual.predict(X), rtol=1e-9, atol=1e-9)


def test_a_fit_after_a_stream_and_a_stream_after_a_fit() -> None:
    y = 500 + 3 * BASE
    model = of(warm_start=True).fit(X, y)
    for i in range(0, N, 4):
        model.partial_fit(X[i : i + 4], y[i : i + 4])
    assert model.score(X, y) > 0.9
    before = model.predict(X)
    model.set_params(max_iter=1, learning_rate=1e-12).fit(X, 10 * y)
    assert np.allclose(model.predict(X), before, rtol=1e-6), "other units alone change no prediction"
    assert model._units.scale == pytest.approx((10 * y).std(), rel=1e-12)
    assert of(warm_start=True, max_iter=2).fit(X, y).fit(X, y)._units == of().fit(X, y)._units


def test_what_fails_leaves_the_predictions() -> None:
    model = of(warm_start=True, dtype="float32").fit(X, BASE)
    before = model.predict(X)
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match="output_weight"):
            getattr(model.set_params(output_weight=[1, 2, 3]), method)(X, 1e6 * BASE + 1e9)
        model.set_params(output_weight=None)
        assert np.array_equal(model.predict(X), before)
    model.partial_fit(X, BASE)
    assert np.abs(model.predict(X) - before).max() < 1.0


def written(network: Any) -> None:
    network.theta = np.full(network.theta.shape, 0.25)


def written_in_place(network: Any) -> None:
    network.parameters[1]["W"] = np.full((16, 1), 0.25)


def other_units(network: Any) -> None:
    if isinstance(network.layers[-1], xmlp.layers.Standardize):
        *others, last = network.statistics
        network.statistics = [*others, {"mean": 3 * np.asarray(last["mean"]), "scale": np.asarray(last["scale"]) / 2}]


@dtypes
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("by", ["partial_fit", "fit"])
@pytest.mark.parametrize("change", [written, written_in_place, other_units])
def test_training_goes_on_from_what_others_wrote_into_the_network(
    change: Any, by: str, scaled: bool, dtype: str
) -> None:
    model = of(dtype=dtype, scale_targets=scaled, warm_start=True, l2=0.0, max_iter=3).fit(X, 5 + BASE)
    before = model.predict(X)
    change(model.network_)
    wanted = model.predict(X)
    assert np.allclose(model.network_.predict(X)[:, 0], wanted, rtol=1e-5, atol=1e-5)
    assert (np.abs(wanted - before).max() > 0.1) == (scaled or change is not other_units)
    getattr(model.set_params(learning_rate=1e-12, max_iter=1), by)(X, 5 + BASE)
    assert np.allclose(model.predict(X), wanted, rtol=1e-5, atol=1e-5)
    assert np.allclose(model.network_.predict(X)[:, 0], wanted, rtol=1e-5, atol=1e-5)


def test_training_goes_on_from_a_network_of_the_same_layers_and_refuses_others() -> None:
    model, other = of().fit(X, BASE), of(random_state=1).fit(X, 100 + 10 * BASE)
    wanted = other.predict(X)
    model.network_ = other.network_
    model.set_params(learning_rate=1e-12).partial_fit(X, BASE)
    assert np.allclose(model.predict(X), wanted, rtol=1e-6)
    model.network_ = of(hidden_layer_sizes=(3,)).fit(X, BASE).network_
    with pytest.raises(ValueError, match="network_ was replaced by a network of other layers"):
        model.partial_fit(X, BASE)


LARGE, SMALL = (
    "y has the deviation .*, from which a network of {} cannot",
    "y holds no number above .* too small for {}",
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e-320, 1e-300, 1e-60, 1e-42, 3e-39, 1e-37, 1e-30, 1e30, 1e37, 1e39, 1e300])
def test_targets_of_any_size_are_learnt_or_refused_in_words(size: float, dtype: str) -> None:
    """Where the network in units of y can say what it has learnt, to the last digits that its dtype has."""
    y = size * BASE
    model = of(dtype=dtype, max_iter=40)
    held = size in (3e-39, 1e-37, 1e-30, 1e30, 1e37) or (dtype == "float64" and size not in (1e-320,))
    if not held:
        with pytest.raises(ValueError, match=LARGE.format(dtype)):
            model.fit(X, y)
        assert not hasattr(model, "network_")
        return
    alike = of(dtype=dtype, max_iter=40).fit(X, BASE)
    assert np.allclose(model.fit(X, y).predict(X) / size, alike.predict(X), rtol=1e-4, atol=1e-4)
    assert np.allclose(model.network_.predict(X)[:, 0].astype(float) / size, alike.predict(X), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [1e-320, 1e-60, 1e-42])
def test_targets_that_all_vanish_in_the_dtype_are_refused(size: float) -> None:
    y = size * BASE
    with pytest.raises(ValueError, match=SMALL.format("float32")):
        of(dtype="float32", scale_targets=False).fit(X, y)
    with pytest.raises(ValueError, match=SMALL.format("float32")):
        xmlp.mlp([X.shape[1], 1]).fit(X, y, loss="squared_error", epochs=1)
    few = np.where(np.arange(len(y)) < 3, 1.0, y)
    xmlp.mlp([X.shape[1], 1]).fit(X, few, loss="squared_error", epochs=1)
    part = of(dtype="float32", scale_targets=False)  # a stream may have larger ones in its other parts
    assert np.isfinite(part.partial_fit(X, BASE).partial_fit(X, y).predict(X)).all()


def test_weighted_targets_that_are_missing_in_a_stream() -> None:
    y, weights = np.stack([BASE, 100 + BASE], axis=1), RNG.integers(0, 4, N).astype(float)
    y[::3, 1] = np.nan
    weights[:2] = 1.0
    moments = Moments.of(y[:1], weights[:1])
    for i in range(1, N):
        moments = moments.joined(Moments.of(y[i : i + 1], weights[i : i + 1]))
    rows = np.repeat(np.arange(N), weights.astype(int))
    assert moments.mean == pytest.approx(np.nanmean(y[rows], axis=0), rel=1e-12)
    assert moments.deviation == pytest.approx(np.nanstd(y[rows], axis=0), rel=1e-12)
    assert moments.weight == pytest.approx((~np.isnan(y[rows])).sum(axis=0))
    tiny = Moments.of(y, 1e-300 * weights)
    assert tiny.mean == pytest.approx(moments.mean, rel=1e-12)


@pytest.mark.parametrize("size", [1e-150, 1.0, 1e150])
def test_moments_of_numbers_of_any_size(size: float) -> None:
    y = (1 + 1e-3 * BASE[:, None]) * size
    both = Moments.of(y[:50], None).joined(Moments.of(y[50:], None))
    for moments in (both, Moments.of(y, None)):
        assert moments.mean / size == pytest.approx((y / size).mean(), rel=1e-14)
        assert moments.deviation / size == pytest.approx((y / size).std(), rel=1e-9)
    assert Moments.of(np.full((7, 1), 0.1), None).deviation == 0
    assert Moments.of(np.full((7, 1), 1e8 + 0.1), RNG.uniform(size=7)).deviation == 0


@pytest.mark.parametrize("backend", ["numpy", "array-api-strict"])
def test_the_last_layer_moves_with_the_units(backend: str) -> None:
    """What the network says in units of y stays; before a scale is known there are no units."""
    network = xmlp.mlp([3, 5, 2], "tanh", backend=xmlp.backend(backend, dtype="float64"))
    old = Units(np.asarray([1.0, -50.0]), np.asarray([2.0, 10.0]), np.asarray([True, True]))
    new = Units(np.asarray([4.0, 1e3]), np.asarray([0.5, 1e4]), np.asarray([True, True]))

    def said(units: Units) -> Any:
        return np.asarray(network.predict(X)) * units.scale + units.mean

    before = said(old)
    move(network, old, new)
    assert np.allclose(said(new), before, rtol=1e-12)
    raw = np.asarray(network.predict(X))
    move(network, none(2), new)
    assert np.array_equal(np.asarray(network.predict(X)), raw)


def test_a_loss_with_a_scale_of_its_own_is_told_of_targets_far_from_it() -> None:
    y = 1000.0 * X[:, 0] + 500.0
    told = "Huber loss is trained on the targets as they are"
    for targets in (y, 1e-6 * y, y / 1000 + 1e4, np.stack([y / 1000, y], axis=1)):
        with pytest.warns(UserWarning, match=told):
            xmlp.MLPRegressor((4,), loss=xmlp.losses.Huber(), max_iter=1).fit(X, targets)
    for settings in ({"scale_targets": True}, {"scale_targets": False}):
        xmlp.MLPRegressor((4,), loss=xmlp.losses.Huber(), max_iter=1, **settings).fit(X, y)
    xmlp.MLPRegressor((4,), loss=xmlp.losses.Huber(), max_iter=1).fit(X, y / 1000)
    model = xmlp.MLPRegressor((16,), loss=xmlp.losses.Huber(), scale_targets=True, max_iter=400, random_state=0)
    assert model.fit(X, y).score(X, y) > 0.95

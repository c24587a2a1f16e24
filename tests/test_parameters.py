"""Arrays of a network by name: what is assigned to one is written into the vector, on every backend."""

import copy
from typing import Any

import numpy as np
import pytest
from conftest import Mode

import xmlp

W = np.arange(12.0).reshape(3, 4)


def network(mode: Mode) -> xmlp.Network:
    return xmlp.mlp([3, 4, 2], normalization="batch", backend=mode.backend(), seed=1)


def test_an_array_is_assigned(mode: Mode) -> None:
    here, get = network(mode), mode.get
    before = [{name: get(a).copy() for name, a in views.items()} for views in here.parameters]
    old = here.predict(np.ones((2, 3)))
    here.parameters[0]["W"] = W
    for i, views in enumerate(here.parameters):
        for name, array in views.items():
            np.testing.assert_array_equal(get(array), W if (i, name) == (0, "W") else before[i][name])
    again = xmlp.Network.from_config(here.config(), here.arrays())
    np.testing.assert_allclose(here.predict(np.ones((2, 3))), again.predict(np.ones((2, 3))), rtol=1e-5)
    assert (here.predict(np.ones((2, 3))) != old).any()


def test_other_ways_to_assign(mode: Mode) -> None:
    here, get = network(mode), mode.get
    here.parameters[0]["W"] = mode.put(W)
    here.parameters[0]["W"] += 1.0
    here.parameters[0]["W"] = here.parameters[0]["W"] * 2.0
    np.testing.assert_array_equal(get(here.parameters[0]["W"]), 2 * W + 2)
    here.parameters[0].update(W=W)
    views = here.parameters[0]
    views |= {"W": views["W"] + 1.0}
    np.testing.assert_array_equal(get(here.parameters[0]["W"]), W + 1)
    here.parameters[-1] = {"W": np.ones((4, 2)), "b": [1.0, 2.0]}
    np.testing.assert_array_equal(get(here.parameters[-1]["b"]), [1.0, 2.0])
    here.parameters = [{name: 0.0 * get(a) for name, a in views.items()} for views in here.parameters]
    assert not get(here.theta).any()
    i = next(i for i, views in enumerate(here.statistics) if views)
    name = next(iter(here.statistics[i]))
    here.statistics[i][name] = np.full(4, 3.0)
    np.testing.assert_array_equal(get(here.statistics[i][name]), np.full(4, 3.0))


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("W", W.T, ValueError, r"W of layer 0 has the shape \(3, 4\), got \(4, 3\)"),
        ("W", 0.0, ValueError, r"W of layer 0 has the shape \(3, 4\), got \(\)"),
        ("V", W, KeyError, r"layer 0 has no array 'V' in theta; it has W"),
        ("W", np.full((3, 4), np.nan), ValueError, "W of layer 0 contains NaN"),
        ("W", np.full((3, 4), "a"), ValueError, "could not convert"),
    ],
)
def test_what_does_not_fit_is_refused(mode: Mode, name: str, value: Any, error: type[Exception], message: str) -> None:
    here = network(mode)
    before = mode.get(here.theta).copy()
    with pytest.raises(error, match=message):
        here.parameters[0][name] = value
    np.testing.assert_array_equal(mode.get(here.theta), before)


def test_arrays_are_not_taken_away() -> None:
    here = xmlp.mlp([3, 4, 2])
    for take in (lambda v: v.pop("W"), lambda v: v.clear(), lambda v: v.__delitem__("W")):
        with pytest.raises(TypeError, match="can be assigned, not taken away"):
            take(here.parameters[0])
    with pytest.raises(TypeError, match=r"layer 0 has the arrays \['W', 'b'\]: assign a dict of them"):
        here.parameters[0] = {"W": W}


def test_a_copy_of_the_parameters_is_a_copy() -> None:
    here = xmlp.mlp([3, 4, 2], seed=1)
    kept = copy.deepcopy(here.parameters)
    kept[0]["W"][...] = 0.0
    kept[0]["W"] = W
    assert here.parameters[0]["W"].all()
    here.parameters = kept
    np.testing.assert_array_equal(here.parameters[0]["W"], W)


def test_the_parameters_are_a_tree_to_jax() -> None:
    jax = pytest.importorskip("jax")
    here = xmlp.mlp([3, 4, 2], backend="jax")
    assert jax.tree.map(lambda a: a.shape, here.parameters)[0] == {"W": (3, 4), "b": (4,)}


# --- metrics of one's own ---------------------------------------------------------------------------------------------


def largest(targets: Any, predictions: Any) -> float:
    return float(np.max(np.abs(targets - predictions)))


def share(targets: Any, predictions: Any) -> float:
    return float(np.mean(targets == predictions))


share.needs = "labels"  # type: ignore[attr-defined]


def test_a_metric_need_not_know_of_weights() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    here = xmlp.mlp([3, 4, 1])
    history = here.fit(x, x[:, 0], epochs=2, metrics=[largest], validation_split=0.25)
    assert all(v > 0 for v in history["largest"] + history["val_largest"])
    labels = xmlp.mlp([3, 4, 2]).fit(
        x, x[:, 0] > 0, epochs=1, metrics=[share, "accuracy"], loss="softmax_cross_entropy"
    )
    assert labels["share"] == labels["accuracy"]


def test_an_estimator_with_a_metric_that_does_not_know_of_weights() -> None:
    pytest.importorskip("sklearn")
    x = np.random.default_rng(0).normal(size=(60, 3))
    model = xmlp.MLPRegressor((4,), max_iter=2, metrics=[largest], monitor=largest, early_stopping=True).fit(
        x, 9 * x[:, 0]
    )
    assert len(model.history_["val_largest"]) == 2
    classifier = xmlp.MLPClassifier((4,), max_iter=2, metrics=[share]).fit(x, x[:, 0] > 0)
    assert len(classifier.history_["share"]) == 2

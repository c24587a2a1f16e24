"""Features far from zero, as seconds since 1970: their mean is taken off before they lose their digits in float32."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require

import xmlp
from xmlp.data import mean_and_scale
from xmlp.errors import CheckpointError
from xmlp.layers import Dense, Residual, Standardize
from xmlp.network import configs

T = np.arange(600.0)
Y = np.sin(T / 60)
Z = np.random.default_rng(0).normal(size=600)
FAR = {
    "seconds": (1.7e9 + T, Y),
    "seconds in whole numbers": (1_700_000_000 + np.arange(600), Y),
    "milliseconds": (1_700_000_000_000.0 + 1000 * T, Y),
    "nanoseconds": (1_700_000_000 * 10**9 + 10**9 * np.arange(600), Y),
    "neighbouring nanoseconds": (1_700_000_000 * 10**9 + np.arange(600), Y),
    "below zero": (-1_700_000_000 * 10**9 - np.arange(600), Y),
    "unsigned": (np.uint64(2**63) + np.arange(600, dtype=np.uint64), Y),
    "a small part": (1e8 + 1e-2 * T / 600, Y),
    "long double": (np.longdouble(1.7e9) + T.astype(np.longdouble), Y),
    "ten digits": (np.round(5e9 + 1e4 * Z), np.tanh(Z)),
}


def network(dtype: str = "float32", features: int = 1, **kw: Any) -> xmlp.Network:
    return xmlp.Network([Standardize(), Dense(32, activation="tanh"), Dense(1)], features, dtype=dtype, **kw)


def trained(made: xmlp.Network, x: Any, y: Any, epochs: int = 150) -> float:
    made.fit(x, y, epochs=epochs, optimizer=xmlp.optimizers.Adam(0.01))
    return xmlp.metrics.r2(y, made.predict(x))


def first_layer(made: xmlp.Network) -> xmlp.Network:
    alone = xmlp.Network(made.layers[:1], made.in_features, backend=made.backend)
    alone.stats = made.stats
    return alone


@pytest.mark.parametrize("case", FAR)
def test_float32_sees_what_float64_sees(case: str) -> None:
    x = FAR[case][0][:, None]
    found = first_layer(network().adapt(x)).predict(x)
    exact = x - x[0]  # of whole numbers too
    mean, scale = mean_and_scale(np.asarray(exact, np.float64))
    assert found.dtype == np.float32
    assert np.allclose(found, (exact.astype(np.float64) - mean) / scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ["seconds", "nanoseconds", "a small part", "ten digits"])
def test_training_in_float32_is_as_good_as_in_float64(case: str) -> None:
    x, y = FAR[case][0][:, None], FAR[case][1]
    scores = [trained(network(dtype).adapt(x), x, y) for dtype in ("float32", "float64")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert scores[0] > 0.99


def test_given_constants_do_it_too() -> None:
    x = FAR["seconds"][0][:, None]
    made = xmlp.Network([Standardize(mean=1.7e9 + 300, scale=173.0)], 1)
    assert np.allclose(made.predict(x)[:, 0], (T - 300) / 173, atol=1e-6)
    usual = xmlp.Network([Standardize(mean=100.0, scale=2.0)], 1)
    assert usual.layers[0] == Standardize(mean=100.0, scale=2.0)


def test_only_columns_that_need_it() -> None:
    rng = np.random.default_rng(0)
    rare = np.zeros(600)
    rare[7] = 1.0
    x = np.stack([rng.normal(size=600), 1.7e9 + T, 1 - rare, np.full(600, 1.7e9), rng.normal(size=600) + 50], axis=1)
    made = network(features=5).adapt(x)
    offset = made.layers[0].offset
    assert [feature for feature, _ in offset] == [1]
    z = first_layer(made).predict(x)
    assert np.allclose(z.mean(axis=0), 0, atol=1e-4)
    assert np.array_equal(z[:, 3], np.zeros(600))
    assert np.allclose(z[:, [0, 1, 2, 4]].std(axis=0), 1, atol=1e-4)
    assert network(features=4).adapt(np.delete(x, 1, axis=1)).layers[0].offset == ()


def test_bytes_stay_bytes() -> None:
    x = np.full((600, 2), 255, np.uint8)
    x[0] = 254
    made = network(features=2).adapt(x)
    assert made.layers[0].offset == ()
    assert made.inputs.features(x)[0].dtype == np.uint8


def test_everything_that_is_passed_is_treated_alike() -> None:
    x, y = FAR["seconds"][0][:, None], Y[:, None]
    made = network().adapt(x)
    trainer = xmlp.Trainer(made, loss="squared_error", optimizer="adam")
    trainer.fit(x, y, epochs=20)
    predicted = made.predict(x)
    loss = float(np.mean((predicted - y) ** 2))
    assert np.allclose(made.forward(x)[0], predicted, atol=1e-6)
    assert np.allclose(made.predict(x.tolist()), predicted)
    assert np.allclose(made.predict(x[3]), predicted[3:4], atol=1e-6)
    assert np.allclose(made.predict(x, batch_size=7), predicted, atol=1e-5)
    assert trainer.evaluate(x, y)["loss"] == pytest.approx(loss, rel=1e-4)
    assert float(made.loss_value(x, y, "squared_error")) == pytest.approx(loss, rel=1e-4)
    frame = pytest.importorskip("pandas").DataFrame({"t": x[:, 0].astype(np.int64)})
    assert np.allclose(made.predict(frame), predicted, atol=1e-6)


def test_a_trainer_made_before_and_batches() -> None:
    x, y = FAR["nanoseconds"][0][:, None], Y[:, None]
    results = []
    for kind in ("arrays", "batches", "stream"):
        made = network()
        trainer = xmlp.Trainer(made, loss="squared_error", optimizer="adam")
        made.adapt(x)
        if kind == "arrays":
            trainer.fit(x, y, epochs=2, shuffle=False)
        elif kind == "batches":
            trainer.fit([(x[i : i + 32], y[i : i + 32]) for i in range(0, 600, 32)], epochs=2)
        else:
            trainer.fit(xmlp.model.stream.Stream(trainer, x, y, shuffle=False), epochs=2)
        results.append(made.predict(x))
    assert np.allclose(results[0], results[1], atol=1e-5)
    assert np.allclose(results[0], results[2], atol=1e-5)
    assert np.ptp(results[0]) > 0.1


def test_files_copies_and_other_backends_keep_it(tmp_path: Path) -> None:
    x = FAR["nanoseconds"][0][:, None]
    made = network().adapt(x)
    trainer = xmlp.Trainer(made, loss="squared_error", optimizer="adam")
    trainer.fit(x, Y[:, None], epochs=2)
    made.save(tmp_path / "model")
    trainer.save(tmp_path / "checkpoint")
    expected = made.predict(x)
    others = [
        xmlp.load(tmp_path / "model"), xmlp.load(tmp_path / "checkpoint"), copy.deepcopy(made), copy.copy(made),
        pickle.loads(pickle.dumps(made)), xmlp.Trainer.resume(tmp_path / "checkpoint").network,
    ]  # fmt: skip
    for other in others:
        assert np.array_equal(other.predict(x), expected)
    assert np.allclose(made.to("array-api-strict").predict(x), expected, atol=1e-5)
    assert np.allclose(made.to("numpy", dtype="float64").predict(x), expected, atol=1e-5)
    again = xmlp.Network(made.layers, 1)  # its statistics are the initial ones: mean 0, scale 1
    again.theta, again.stats = made.theta, made.stats
    assert np.array_equal(again.predict(x), expected)
    assert np.allclose(first_layer(xmlp.Network([Standardize()], 1)).predict([[2.0]]), 2.0)


def test_adapting_again_forgets_it() -> None:
    made = network().adapt(FAR["seconds"][0][:, None])
    made.adapt(Z[:, None])
    assert made.layers[0].offset == ()
    assert np.allclose(first_layer(made).predict(Z[:, None]).std(), 1, atol=1e-4)


def test_files_of_before_are_as_they_were() -> None:
    """Their configuration has no offset, and their mean is the whole."""
    made = xmlp.Network([Standardize(mean=1e9, scale=100.0)], 1)
    config, arrays = json.loads(json.dumps(made.config())), made.arrays()
    del config["layers"][0]["offset"]
    arrays["stats"] = np.asarray([1e9, 100.0], np.float32)
    old = xmlp.Network.from_config(config, arrays)
    assert old.layers[0] == Standardize(mean=1e9, scale=100.0)
    x = np.asarray([[1e9 + 640.0], [1e9]])
    assert np.array_equal(old.predict(x), (np.float32(x) - np.float32(1e9)) / np.float32(100.0))


@pytest.mark.parametrize("backend", ["torch", "jax", "array-api-strict"])
def test_device_arrays(backend: str) -> None:
    require(backend)
    x = 1_700_000_000 + np.arange(600)[:, None]
    made = xmlp.Network([Standardize()], 1, backend=backend).adapt(x)
    expected = (T - T.mean()) / T.std()
    xp = made.backend.xp
    whole = xp.asarray(x.astype(np.int32), device=made.backend.device)
    for given, tolerance in ((x, 1e-5), (whole, 1e-5), (made.backend.from_host(x), 0.5)):
        found = made.predict(given)
        found = found if isinstance(found, np.ndarray) else made.backend.to_host(found)
        assert np.allclose(found[:, 0], expected, atol=tolerance)


def test_offsets_that_make_no_sense() -> None:
    layer = Standardize(offset=((0, 1e9),))
    with pytest.raises(ValueError, match="only a Standardize that is the first layer"):
        xmlp.Network([Dense(2), layer], 2)
    with pytest.raises(ValueError, match="only a Standardize that is the first layer"):
        Residual([layer])
    with pytest.raises(ValueError, match="offset names the feature 5, there are 2"):
        xmlp.Network([Standardize(offset=((5, 1.0),))], 2)
    with pytest.raises(ValueError, match="pairs of a feature's number and a finite number"):
        Standardize(offset=((0, float("nan")),))
    with pytest.raises(CheckpointError, match="the configuration of Standardize is not valid"):
        configs.from_json({"type": "Standardize", "offset": [3]})
    assert configs.from_json(configs.to_json(layer)) == layer


def test_the_file_of_a_wide_table_can_be_saved(tmp_path: Path) -> None:
    x = 1e9 + np.arange(8.0)[:, None] + np.arange(60_000.0)
    made = xmlp.Network([Standardize(), Dense(1)], 60_000).adapt(x)
    made.save(tmp_path / "model")
    assert np.array_equal(xmlp.load(tmp_path / "model").predict(x), made.predict(x))

"""The whole way of a user on a tiny network, in under two seconds: build, fit, predict, save, load, resume."""

import numpy as np

import xmlp

X = np.random.default_rng(0).normal(size=(64, 2))
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
SIZES, SETTINGS = [2, 16, 2], {"loss": "softmax_cross_entropy", "optimizer": xmlp.optimizers.Adam(0.02), "seed": 0}


def test_from_nothing_to_a_resumed_run(tmp_path):
    network = xmlp.mlp(SIZES, activation="tanh", seed=0)
    trainer = xmlp.Trainer(network, metrics=["accuracy"], **SETTINGS)
    history = trainer.fit(X, Y, epochs=30, batch_size=16)
    assert trainer.plan_reason is None
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["accuracy"][-1] > 0.9

    outputs, shares = network.predict(X), network.predict_proba(X)
    assert outputs.shape == shares.shape == (64, 2)
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert np.array_equal(outputs.argmax(axis=1), network.predict_label(X))

    network.save(tmp_path / "model.safetensors")
    assert np.array_equal(xmlp.load(tmp_path / "model.safetensors").predict(X), outputs)

    trainer.save(tmp_path / "run.safetensors")
    resumed = xmlp.Trainer.resume(tmp_path / "run.safetensors")
    resumed.fit(X, Y, epochs=5, batch_size=16)
    trainer.fit(X, Y, epochs=5, batch_size=16)
    assert resumed.network.theta.tobytes() == network.theta.tobytes()
    assert resumed.history["loss"] == trainer.history["loss"]


def test_a_wrong_gradient_would_be_seen():
    xmlp.testing.check_gradients(
        xmlp.mlp([2, 3, 2], activation="tanh", dtype="float64"), X[:4], Y[:4], SETTINGS["loss"]
    )

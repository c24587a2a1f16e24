"""Batch normalisation and batches of one row, which have no variance: refused alone, harmless beside others."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import require

import xmlp
from xmlp.backends import base
from xmlp.layers import BatchNorm, Dense, Residual

RNG = np.random.default_rng(0)
X = RNG.normal(size=(129, 3))
Y = X @ [[1.0], [-2.0], [0.5]]


def trainer_of(optimizer: Any = None, *, backend: str = "numpy", **kw: Any) -> xmlp.Trainer:
    network = xmlp.mlp([3, 32, 1], normalization="batch", backend=backend)
    return xmlp.Trainer(network, loss="squared_error", optimizer=optimizer or xmlp.optimizers.Adam(0.01), **kw)


def score(trainer: xmlp.Trainer, x: Any, y: Any) -> float:
    return xmlp.metrics.r2(y, trainer.network.backend.to_host(trainer.network.predict(x)))


def statistics(network: Any) -> tuple[Any, Any]:
    kept = next(s for s in network.statistics if "var" in s)
    host = network.backend.to_host
    return np.array(host(kept["mean"])), np.array(host(kept["var"]))


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("rows", [33, 65])
def test_a_last_batch_of_one_row_spoils_nothing(rows: int, planned: bool) -> None:
    x, y = X[:rows], Y[:rows]
    trainer = trainer_of(planned=planned)
    trainer.fit(x, y, epochs=250, batch_size=32)
    assert score(trainer, x, y) > 0.995
    assert trainer.steps == 250 * (rows // 32)  # the single row is in the batch before


def test_nor_does_it_with_features_far_from_zero() -> None:
    """The first epochs too are sound, when the running statistics are not yet those of the data."""
    x = X[:33] + 100
    trainer = trainer_of(xmlp.optimizers.SGD(0.01))
    trainer.fit(x, Y[:33], epochs=250, batch_size=32)
    assert score(trainer, x, Y[:33]) > 0.97


@pytest.mark.parametrize(("batch_size", "rows"), [(1, 40), (32, 1), (1, 1)])
def test_one_row_alone_is_refused(batch_size: int, rows: int) -> None:
    trainer = trainer_of()
    before = np.array(trainer.network.theta)
    with pytest.raises(ValueError, match=r"layer 1, BatchNorm, .* one row has no variance: pass (a larger|more rows)"):
        trainer.fit(X[:rows], Y[:rows], epochs=1, batch_size=batch_size)
    assert trainer.steps == 0
    assert np.array_equal(trainer.network.theta, before)


def test_it_is_refused_wherever_the_layer_is() -> None:
    network = xmlp.Network([Dense(4), Residual([BatchNorm(), Dense(4)]), Dense(1)], 3)
    assert network.chain.least_rows == 2
    with pytest.raises(ValueError, match="layer 1, Residual"):
        network.fit(X, Y, batch_size=1)
    with pytest.raises(ValueError, match="BatchNorm"):
        xmlp.MLPRegressor((4,), normalization="batch", batch_size=1).fit(X, Y[:, 0])
    with pytest.raises(ValueError, match="more rows"):  # what the split leaves
        trainer_of().fit(X[:2], Y[:2], epochs=1, validation_split=0.5)
    network = xmlp.mlp([3, 4, 1], normalization="layer")
    network.fit(X[:1], Y[:1], epochs=1)  # rows by themselves


@pytest.mark.parametrize("backend", ["numpy", "array-api-strict", "jax", "torch"])
def test_steps_of_one_row_leave_the_statistics_alone(backend: str) -> None:
    require(backend)
    trainer = trainer_of(backend=backend)
    before = statistics(trainer.network)
    theta = np.array(trainer.network.backend.to_host(trainer.network.theta))
    for i in range(5):
        trainer.step(X[i : i + 1], Y[i : i + 1])
    after = statistics(trainer.network)
    assert np.array_equal(before, after)
    assert not np.array_equal(trainer.network.backend.to_host(trainer.network.theta), theta)
    trainer.step(X[:2], Y[:2])  # two rows have a variance
    assert not np.array_equal(statistics(trainer.network), after)


def test_a_step_of_one_row_has_the_gradient_of_a_fixed_network() -> None:
    """It is normalised with the running statistics: as in inference."""
    trainer = trainer_of(xmlp.optimizers.SGD(0.05))
    trainer.fit(X, Y, epochs=2)
    network, before = trainer.network, np.array(trainer.network.theta)
    _, grads = network.value_and_grad(X[:1], Y[:1], "squared_error")
    trainer.step(X[:1], Y[:1])
    assert np.allclose(before - 0.05 * grads.flat, network.theta, rtol=1e-5, atol=1e-6)


def test_planned_and_plain_steps_agree() -> None:
    results = []
    for planned in (True, False):
        trainer = trainer_of(xmlp.optimizers.SGD(0.01), planned=planned)
        for rows in (slice(0, 8), slice(8, 9), slice(9, 11), slice(11, 12)):
            trainer.step(X[rows], Y[rows])
        results.append((np.array(trainer.network.theta), *statistics(trainer.network)))
    for planned_array, plain_array in zip(*results, strict=True):
        assert np.allclose(planned_array, plain_array, rtol=1e-5, atol=1e-6)


def test_equal_rows_are_finite() -> None:
    trainer = trainer_of()
    trainer.fit(np.repeat(X[:1], 33, axis=0), np.repeat(Y[:1], 33, axis=0), epochs=3, batch_size=32)
    assert np.isfinite(trainer.network.theta).all()
    assert np.isfinite(trainer.network.predict(X)).all()


def test_partial_fit_row_by_row() -> None:
    """A stream that gives single rows: probabilities stay such."""
    labels = (X[:, 0] > 0).astype(int)
    model = xmlp.MLPClassifier((16,), normalization="batch", learning_rate=0.01, l2=0.0, random_state=0)
    for _ in range(3):
        for i in range(100):
            model.partial_fit(X[i : i + 1], labels[i : i + 1], classes=[0, 1])
    assert model.score(X, labels) > 0.9
    assert np.array_equal(statistics(model.network_), [np.zeros(16), np.ones(16)])
    model.partial_fit(X[:50], labels[:50])
    kept = statistics(model.network_)
    model.partial_fit(X[:1], labels[:1], sample_weight=[2.0])
    assert np.array_equal(statistics(model.network_), kept)


def test_streams_with_single_rows() -> None:
    def batches() -> Iterator[Any]:
        for start in (0, 32, 64):
            yield X[start : start + 32], Y[start : start + 32]
            yield X[start + 32 : start + 33], Y[start + 32 : start + 33]

    class Again:
        def __iter__(self) -> Iterator[Any]:
            return batches()

    trainer = trainer_of()
    trainer.fit(Again(), epochs=150, validation_data=(X[:1], Y[:1]))
    assert score(trainer, X, Y) > 0.99


def test_streams_of_the_library_take_the_batches_of_fit() -> None:
    whole, streamed = trainer_of(), trainer_of()
    whole.fit(X[:65], Y[:65], epochs=3, batch_size=32)
    streamed.fit(xmlp.model.stream.Stream(streamed, X[:65], Y[:65], batch_size=32), epochs=3)
    assert whole.steps == streamed.steps == 6
    assert np.allclose(whole.network.theta, streamed.network.theta, rtol=1e-5, atol=1e-7)


def test_sparse_features_take_the_batches_of_dense_ones() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    settings: dict[str, Any] = {"normalization": "batch", "batch_size": 32, "max_iter": 5, "random_state": 0}
    dense = xmlp.MLPRegressor((8,), **settings).fit(X[:65], Y[:65, 0])
    other = xmlp.MLPRegressor((8,), **settings).fit(sparse.csr_matrix(X[:65]), Y[:65, 0])
    assert np.allclose(dense.predict(X), other.predict(X), rtol=1e-5, atol=1e-6)


def test_a_run_that_is_cut_goes_on_in_the_same_batches(tmp_path: Any) -> None:
    class Cut:
        def on_step_end(self, trainer: xmlp.Trainer) -> None:
            if trainer.steps in (4, 5):  # before and after the batch that took the single row
                trainer.save(tmp_path / f"{trainer.steps}")

    whole = trainer_of(callbacks=[Cut()])
    whole.fit(X[:65], Y[:65], epochs=3, batch_size=32)
    for steps in (4, 5):
        resumed = xmlp.Trainer.resume(tmp_path / f"{steps}")
        resumed.fit(X[:65], Y[:65])
        assert resumed.steps == whole.steps
        assert np.array_equal(resumed.network.theta, whole.network.theta)


def test_spans() -> None:
    for rows in range(1, 40):
        for size in range(2, 12):
            for least in (1, 2):
                found = base.spans(rows, size, least)
                assert [i for start, stop in found for i in range(start, stop)] == list(range(rows))
                sizes = [stop - start for start, stop in found]
                assert set(sizes[:-1]) <= {size}
                assert sizes[-1] <= size + least - 1
                assert rows == 1 or sizes[-1] >= least


def test_layer_norm_of_one_feature_is_told() -> None:
    with pytest.warns(UserWarning, match="layer 1, LayerNorm, normalises the one feature of each row by itself"):
        xmlp.mlp([3, 1, 1], normalization="layer").fit(X, Y, epochs=1)

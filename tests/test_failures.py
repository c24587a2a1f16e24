"""What fails leaves everything as it was; settings of a trainer and of its estimator that change under way are used."""

from typing import Any

import numpy as np
import pytest

import xmlp

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4))
LABELS, REALS = (X[:, 0] > 0).astype(int), 2.0 * X[:, 0]


class Breaks:
    """A callback that raises at a step of an epoch."""

    def __init__(self, error: type[BaseException] = KeyError):
        self.error = error

    def on_step_end(self, trainer: Any) -> None:
        if trainer.position == 3:
            raise self.error


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_a_call_that_fails_leaves_an_estimator_as_it_was(kind: str, way: str) -> None:
    pytest.importorskip("sklearn")
    estimator, y = (xmlp.MLPClassifier, LABELS) if kind == "classifier" else (xmlp.MLPRegressor, REALS)
    settings = {"batch_size": 20, "max_iter": 3, "learning_rate": 0.1, "random_state": 0, "warm_start": True}

    def trained(broken: bool) -> Any:
        model = estimator((5,), **settings).fit(X, y)
        if broken:
            before = np.array(model.network_.predict(X)), model.n_iter_, dict(model.history_)
            model.set_params(callbacks=[Breaks()])
            with pytest.raises(KeyError):
                getattr(model, way)(X, y.max() - y)
            assert np.array_equal(model.network_.predict(X), before[0])
            assert (model.n_iter_, dict(model.history_)) == before[1:]
            model.set_params(callbacks=[])
        getattr(model, way)(X, y)
        return model

    assert np.array_equal(trained(True).network_.theta, trained(False).network_.theta)


@pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt])
def test_rows_that_were_not_learnt_from_do_not_count_in_the_mean_weight(error: Any) -> None:
    pytest.importorskip("sklearn")
    model = xmlp.MLPClassifier((8,), random_state=0, batch_size=2, optimizer=xmlp.optimizers.SGD(0.5))
    model.partial_fit(X[:100], LABELS[:100], [0, 1])
    mean, bad = model._trainer.run.mean, np.array(X[:10])
    if error is None:
        bad[:] = 1.7e308
        error = xmlp.errors.DivergenceError
    else:
        model.set_params(callbacks=[Breaks(error)])
    with pytest.raises(error):
        model.partial_fit(bad, LABELS[:10], sample_weight=np.full(10, 1e9))
    assert model._trainer.run.mean == mean


def test_what_a_trainer_is_given_later_is_used_or_refused() -> None:
    def made(**settings: Any) -> Any:
        network = xmlp.mlp([4, 5, 1], seed=0)
        return xmlp.Trainer(network, loss="squared_error", optimizer=xmlp.optimizers.Adam(0.01), **settings)

    def after(**changes: Any) -> Any:
        trainer = made()
        trainer.fit(X, REALS, epochs=1)
        for name, value in changes.items():
            setattr(trainer, name, value)
        trainer.fit(X, REALS, epochs=1)
        return np.array(trainer.network.theta)

    plain = after()
    for change in (
        {"optimizer": xmlp.optimizers.Adam(0.01, beta1=0.1)}, {"optimizer": xmlp.optimizers.Adam(0.5)}, {"l2": 10.0},
        {"l1": 1.0}, {"clip_norm": 1e-3},
    ):  # fmt: skip
        assert not np.allclose(after(**change), plain), change
    trainer = made()
    with pytest.raises(AttributeError, match="another trainer of the same network"):
        trainer.loss = xmlp.losses.AbsoluteError()
    with pytest.raises(AttributeError, match="an optimizer of the kind that it has"):
        trainer.optimizer = xmlp.optimizers.SGD(0.01)
    with pytest.raises(ValueError, match="l2 must be"):
        trainer.l2 = -1.0
    trainer.metrics = ["mae"]
    assert "mae" in trainer.fit(X, REALS, epochs=1)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
@pytest.mark.parametrize(("rows", "size"), [(33, 32), (129, 64), (200, 32)])
def test_a_named_schedule_ends_with_the_last_step(schedule: str, rows: int, size: int) -> None:
    pytest.importorskip("sklearn")
    for normalization in (None, "batch"):
        model = xmlp.MLPRegressor(
            (8,), normalization=normalization, batch_size=size, learning_rate=schedule, max_iter=10, tol=None,
            random_state=0,
        ).fit(X[:rows], REALS[:rows])  # fmt: skip
        assert model._trainer.steps == model._rate.end


def test_a_stop_within_the_first_epoch_leaves_a_fitted_estimator() -> None:
    pytest.importorskip("sklearn")
    for model, y in ((xmlp.MLPRegressor((5,)), REALS), (xmlp.MLPClassifier((5,)), LABELS)):
        model.set_params(batch_size=8, callbacks=[xmlp.callbacks.MaxSeconds(1e-9)]).fit(X, y)
        assert model.n_iter_ == 0
        assert model.predict(X).shape == (200,)


def test_a_new_rate_is_not_scaled_by_what_a_callback_did_before() -> None:
    pytest.importorskip("sklearn")
    plateau = xmlp.callbacks.ReduceOnPlateau("loss", patience=1, factor=0.5, min_delta=10.0)
    model = xmlp.MLPRegressor((3,), max_iter=6, warm_start=True, callbacks=[plateau], random_state=0).fit(X, REALS)
    assert model.history_["lr"][-1] < 1e-3
    model.set_params(learning_rate=0.01, callbacks=()).fit(X, REALS)
    assert model.history_["lr"][-1] == 0.01


def test_labels_among_objects_are_fitted_and_scored() -> None:
    pytest.importorskip("sklearn")
    for labels in (LABELS.astype(object), (LABELS > 0).astype(object), (3 * LABELS).astype(object)):
        model = xmlp.MLPClassifier((8,), max_iter=40, learning_rate=0.01, random_state=0).fit(X, labels)
        assert model.score(X, labels) > 0.9


def test_weights_that_vanish_beside_those_before() -> None:
    pytest.importorskip("sklearn")
    model = xmlp.MLPClassifier((5,), dtype="float32").partial_fit(X[:1], LABELS[:1], [0, 1], [1e12])
    model.partial_fit(X[1:2], LABELS[1:2], None, [1e-36])
    assert np.isfinite(model.network_.theta).all()

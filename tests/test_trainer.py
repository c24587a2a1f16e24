"""The training loop: what an epoch is made of, what is recorded, what may be mixed and interrupted without a trace."""

import csv
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Mode, require

import xmlp
from xmlp import losses, optimizers, schedules
from xmlp.data.batches import batch_order, split_rows
from xmlp.errors import DivergenceError
from xmlp.layers import BatchNorm, Dense, Dropout
from xmlp.training.history import History
from xmlp.training.planned import PlannedRunner

RNG = np.random.default_rng(7)
X = RNG.normal(size=(22, 3))
LABELS = RNG.integers(0, 3, 22)
REALS = RNG.normal(size=(22, 2))
BITS = RNG.integers(0, 2, (22, 2)).astype(float)
SOFTMAX = "softmax_cross_entropy"

LOSSES: dict[str, tuple[Any, Any]] = {
    "squared error": (losses.SquaredError(), REALS),
    "half squared error": (losses.SquaredError(half=True), REALS),
    "absolute error": (losses.AbsoluteError(), REALS),
    "Huber": (losses.Huber(0.5), REALS),
    "binary": (losses.BinaryCrossEntropy(), BITS),
    "softmax, labels": (losses.SoftmaxCrossEntropy(), LABELS % 2),
    "softmax, one-hot": (losses.SoftmaxCrossEntropy(), np.eye(2)[LABELS % 2]),
}


@dataclass(frozen=True)
class Way:
    """A way to run the steps."""

    mode: Mode
    planned: bool | None = None

    def __str__(self) -> str:
        return self.mode.name + {None: "", True: " planned", False: " plain"}[self.planned]

    def network(self, sizes: Any = (3, 5, 3), dtype: str = "float32", **kw: Any) -> xmlp.Network:
        return xmlp.mlp(sizes, kw.pop("activation", "tanh"), backend=self.mode.backend(dtype), **kw)

    def trainer(self, network: xmlp.Network | None = None, **kw: Any) -> xmlp.Trainer:
        arguments = {"loss": SOFTMAX, "optimizer": optimizers.Adam(0.01), "planned": self.planned, **kw}
        return xmlp.Trainer(network or self.network(), **arguments)


PLAIN, PLANNED = Way(Mode("numpy", "numpy"), False), Way(Mode("numpy", "numpy"), True)
WAYS = (
    PLAIN,
    PLANNED,
    Way(Mode("strict:device1", "array-api-strict", "device1")),
    Way(Mode("torch", "torch")),
    Way(Mode("jax", "jax")),
    Way(Mode("cupy", "cupy")),
)


def checked(way: Way) -> Way:
    require(way.mode.library)
    if way.planned:
        pytest.importorskip("llvmlite")
    return way


@pytest.fixture(params=WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> Way:
    return checked(request.param)


@pytest.fixture(params=[PLAIN, PLANNED], ids=str)
def path(request: pytest.FixtureRequest) -> Way:
    """The two ways of NumPy."""
    return checked(request.param)


def arrays_of(trainer: xmlp.Trainer) -> list[np.ndarray]:
    host = trainer.network.backend.to_host
    return [np.array(host(a)) for a in (trainer.network.theta, trainer.network.stats, *trainer.run.slots.values())]


def state_of(trainer: xmlp.Trainer) -> tuple[Any, ...]:
    history = {name: column for name, column in trainer.history.items() if name != "seconds"}
    return [a.tobytes() for a in arrays_of(trainer)], history, trainer.steps, trainer.epoch


def theta_of(trainer: xmlp.Trainer) -> np.ndarray:
    return arrays_of(trainer)[0]


class Recorder:
    """Writes down each event with the trainer's counters, but for `on_progress`, which comes when it comes."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, int, int]] = []

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        if not name.startswith("on_") or name == "on_progress":
            raise AttributeError(name)
        return lambda t: self.events.append((name, t.epoch, t.steps, t.history.epochs))


# --- epochs -----------------------------------------------------------------------------------------------------------


def random_network(way: Way) -> xmlp.Network:
    layers = [Dense(6, "relu"), BatchNorm(), Dropout(0.25), Dense(3)]
    return xmlp.Network(layers, 3, backend=way.mode.backend(), seed=2)


def test_a_second_fit_goes_on_where_the_first_ended(way: Way) -> None:
    rate = schedules.Cosine(0.02, total_steps=15, warmup_steps=4)
    pair = [way.trainer(random_network(way), optimizer=optimizers.Adam(rate), seed=4) for _ in range(2)]
    keywords: dict[str, Any] = {"batch_size": 8, "validation_split": 0.2}
    pair[0].fit(X, LABELS, epochs=5, **keywords)
    pair[1].fit(X, LABELS, epochs=2, **keywords)
    halfway = state_of(pair[1])
    assert pair[1].fit(X, LABELS, epochs=3, **keywords) is pair[1].history
    assert state_of(pair[0]) == state_of(pair[1])
    assert state_of(pair[0]) != halfway
    assert (pair[0].epoch, pair[0].steps, pair[0].history.epochs) == (5, 15, 5)


def test_the_last_batch_may_be_smaller(way: Way) -> None:
    pair = [way.trainer() for _ in range(2)]
    pair[0].fit(X, LABELS, epochs=1, batch_size=8, shuffle=False)
    seen = [float(way.mode.get(pair[1].step(X[i : i + 8], LABELS[i : i + 8]))) for i in (0, 8, 16)]
    assert pair[0].steps == pair[1].steps == 3
    assert np.abs(theta_of(pair[0]) - theta_of(pair[1])).max() < 1e-6
    expected = (8 * seen[0] + 8 * seen[1] + 6 * seen[2]) / 22
    assert abs(pair[0].history["loss"][0] - expected) < 1e-5
    without = way.trainer()
    without.fit(X[:16], LABELS[:16], epochs=1, batch_size=8, shuffle=False)
    assert np.abs(theta_of(pair[0]) - theta_of(without)).max() > 1e-3


def test_a_batch_larger_than_the_data_is_all_of_it(path: Way) -> None:
    pair = [path.trainer() for _ in range(2)]
    pair[0].fit(X, LABELS, epochs=2, batch_size=1000)
    pair[1].fit(X, LABELS, epochs=2, batch_size=22)
    assert state_of(pair[0]) == state_of(pair[1])
    assert pair[0].steps == 2


def test_rows_are_shuffled_anew_each_epoch_and_alike_everywhere(way: Way) -> None:
    orders = [batch_order(22, 0, epoch).tolist() for epoch in range(3)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(22))
    assert len({tuple(o) for o in [*orders, range(22), batch_order(22, 1, 0).tolist()]}) == 5
    reference = checked(PLAIN).trainer()
    for order in orders:
        for i in range(0, 22, 5):
            reference.step(X[order[i : i + 5]], LABELS[order[i : i + 5]])
    trainers = [way.trainer() for _ in range(2)]
    trainers[0].fit(X, LABELS, epochs=3, batch_size=5)
    trainers[1].fit(X, LABELS, epochs=3, batch_size=5, shuffle=False)
    distance = [np.abs(theta_of(t) - theta_of(reference)).max() for t in trainers]
    assert distance[0] < 1e-5 < 1e-3 < distance[1]


def test_batches_from_an_iterable_equal_arrays(path: Way) -> None:
    """Bit for bit, with and without weights, whatever holds the batches; here the first tells the mean of all."""
    weights = np.tile([0.0, 2.0], 11)
    cuts = [slice(i, i + 8) for i in range(0, 22, 8)]
    for w in (None, weights):
        trainers = [path.trainer(random_network(path)) for _ in range(3)]
        trainers[0].fit(X, LABELS, epochs=3, batch_size=8, shuffle=False, sample_weight=w)
        batches = [(X[c], LABELS[c]) if w is None else (X[c], LABELS[c], w[c]) for c in cuts]
        trainers[1].fit(batches, epochs=3)

        class Loader:
            def __iter__(self, batches: Any = batches) -> Iterator[Any]:
                return (list(b) for b in batches)

        trainers[2].fit(Loader(), epochs=3)
        assert state_of(trainers[0]) == state_of(trainers[1]) == state_of(trainers[2])


def test_batches_may_change_from_epoch_to_epoch(way: Way) -> None:
    class Growing:
        rows = 2

        def __iter__(self) -> Iterator[Any]:
            self.rows += 2
            return iter([(X[: self.rows], LABELS[: self.rows])] * 2)

    trainer, by_hand = way.trainer(), way.trainer()
    trainer.fit(Growing(), epochs=2, validation_data=(X, LABELS))
    for rows in (4, 4, 6, 6):
        by_hand.step(X[:rows], LABELS[:rows])
    assert [a.tobytes() for a in arrays_of(trainer)] == [a.tobytes() for a in arrays_of(by_hand)]
    assert trainer.history["val_loss"][-1] == trainer.evaluate(X, LABELS)["loss"]


def test_step_returns_the_loss_before_it(way: Way) -> None:
    for loss in (losses.SoftmaxCrossEntropy(), losses.SoftmaxCrossEntropy(reduction="sum")):
        trainer = way.trainer(loss=loss)
        before = way.mode.get(trainer.network.loss_value(X, LABELS, loss))
        value = trainer.step(X, LABELS)
        assert value.shape == ()
        assert abs(way.mode.get(value) - before) <= 2e-6 * abs(before)
        assert way.mode.get(trainer.network.loss_value(X, LABELS, loss)) < before
        assert trainer.steps == 1
        assert trainer.history == {}


def test_both_paths_of_numpy_agree() -> None:
    plain, planned = (checked(w).trainer(random_network(w)) for w in (PLAIN, PLANNED))
    for trainer in (plain, planned):
        trainer.fit(X, LABELS, epochs=4, batch_size=8)
    assert isinstance(planned.run.runner, PlannedRunner)
    assert planned.run.runner._plans
    assert None not in planned.run.runner._plans.values()
    assert not isinstance(plain.run.runner, PlannedRunner)
    assert np.abs(theta_of(plain) - theta_of(planned)).max() < 1e-5


# --- callbacks --------------------------------------------------------------------------------------------------------


def test_callbacks_in_their_order(way: Way) -> None:
    recorder, silent = Recorder(), way.trainer()
    trainer = way.trainer(callbacks=[recorder])
    trainer.fit(X, LABELS, epochs=2, batch_size=16)
    assert recorder.events == [
        ("on_fit_begin", 0, 0, 0),
        ("on_epoch_begin", 0, 0, 0),
        ("on_step_end", 0, 1, 0),
        ("on_step_end", 0, 2, 0),
        ("on_epoch_end", 1, 2, 1),
        ("on_epoch_begin", 1, 2, 1),
        ("on_step_end", 1, 3, 1),
        ("on_step_end", 1, 4, 1),
        ("on_epoch_end", 2, 4, 2),
        ("on_fit_end", 2, 4, 2),
    ]
    silent.fit(X, LABELS, epochs=2, batch_size=16)
    assert state_of(silent) == state_of(trainer), "watching changes nothing"


def test_callbacks_are_called_in_the_order_of_the_list() -> None:
    seen: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_epoch_end(self, trainer: Any) -> None:
            seen.append(self.name)

    PLAIN.trainer(callbacks=(Named("a"), Named("b"))).fit(X, LABELS, epochs=2)
    assert seen == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("event", "steps", "epochs"), [("on_step_end", 1, 0), ("on_epoch_end", 3, 1), ("on_fit_begin", 0, 0)]
)
def test_stop(path: Way, event: str, steps: int, epochs: int) -> None:
    class Stopper:
        on = True

        def on_step_end(self, trainer: Any) -> None: ...

    def stop(self: Any, trainer: xmlp.Trainer) -> None:
        if self.on:
            trainer.stop()

    setattr(Stopper, event, stop)
    stopper, recorder = Stopper(), Recorder()
    trainer = path.trainer(callbacks=[stopper, recorder])
    trainer.fit(X, LABELS, epochs=5, batch_size=8)
    assert (trainer.steps, trainer.epoch, trainer.history.epochs) == (steps, epochs, epochs)
    assert recorder.events[-1][0] == "on_fit_end"
    stopper.on = False
    trainer.fit(X, LABELS, epochs=2, batch_size=8)
    assert trainer.steps == steps + 6, "a stop ends one fit, not the next"


def test_an_error_in_a_callback_ends_the_fit_in_order(path: Way) -> None:
    class Failing:
        def on_step_end(self, trainer: Any) -> None:
            if trainer.steps == 2:
                raise ZeroDivisionError("in the callback")

    recorder = Recorder()
    trainer, by_hand = path.trainer(callbacks=[recorder, Failing()]), path.trainer()
    with pytest.raises(ZeroDivisionError, match="in the callback"):
        trainer.fit(X, LABELS, epochs=2, batch_size=8, shuffle=False)
    assert recorder.events[-1] == ("on_fit_end", 0, 2, 0)
    by_hand.fit([(X[:8], LABELS[:8]), (X[8:16], LABELS[8:16])], epochs=1)
    assert state_of(trainer)[0] == state_of(by_hand)[0]


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_history(way: Way) -> None:
    trainer = way.trainer(metrics=["accuracy", "f1"], l2=1e-3)
    trainer.fit(X, LABELS, epochs=3, batch_size=8, validation_split=6 / 22)
    names = ["loss", "penalty", "lr", "accuracy", "f1", "val_loss", "val_accuracy", "val_f1", "seconds"]
    assert list(trainer.history) == names
    assert all(len(c) == 3 and all(type(v) is float for v in c) for c in trainer.history.values())
    assert all(v > 0 for v in trainer.history["seconds"])
    trainer.fit(X, LABELS, epochs=1)
    assert list(trainer.history) == names
    assert all(len(c) == 4 for c in trainer.history.values())
    assert [math.isnan(v) for v in trainer.history["val_loss"]] == [False, False, False, True]


def test_history_of_quantities_that_come_and_go() -> None:
    history = History()
    history.append({"loss": 2.0})
    history.append({"loss": 1.0, "extra": 5})
    history.append({"extra": 6.0})
    np.testing.assert_equal(dict(history), {"loss": [2.0, 1.0, math.nan], "extra": [math.nan, 5.0, 6.0]})
    assert history.epochs == 3


def test_metrics_equal_those_by_hand(way: Way) -> None:
    trainer = way.trainer(metrics=["accuracy", lambda t, p, sample_weight=None: float(np.asarray(p).sum())])
    weights = np.arange(1.0, 23.0)
    trainer.fit(X, LABELS, epochs=2, sample_weight=weights, validation_data=(X[:9], LABELS[:9]))
    network, history = trainer.network, trainer.history
    z = network.predict(X).astype(np.float64)
    right = z.argmax(axis=1) == LABELS
    assert history["accuracy"][-1] == pytest.approx((right * weights).sum() / weights.sum(), rel=1e-6)
    assert history["val_accuracy"][-1] == pytest.approx(right[:9].mean(), rel=1e-6)
    log_p = z - z.max(axis=1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    assert history["val_loss"][-1] == pytest.approx(-log_p[np.arange(9), LABELS[:9]].mean(), rel=1e-5)
    expected = -(weights * log_p[np.arange(22), LABELS]).sum() / weights.sum()
    assert trainer.evaluate(X, LABELS, sample_weight=weights)["loss"] == pytest.approx(expected, rel=1e-5)
    named = [name for name in history if name not in ("loss", "val_loss", "lr", "seconds")]
    assert [n for n in named if "accuracy" not in n] != []


@pytest.mark.parametrize("output", [None, "sigmoid"])
def test_metrics_of_several_binary_outputs(output: str | None, way: Way) -> None:
    """Rows are right where all outputs are; the limit is 0 for logits, 0.5 for probabilities."""
    network = way.network((3, 5, 2), output_activation=output)
    trainer = way.trainer(network, loss="binary_cross_entropy", metrics=["accuracy"])
    trainer.fit(X, BITS, epochs=3)
    decided = np.asarray(network.predict(X)) > (0.5 if output else 0.0)
    assert trainer.history["accuracy"][-1] == pytest.approx((decided == BITS).all(axis=1).mean(), rel=1e-6)
    assert trainer.history["accuracy"][-1] == trainer.evaluate(X, BITS)["accuracy"]
    assert (network.predict_label(X) == decided).all()


def test_metrics_of_reals(way: Way) -> None:
    network = way.network((3, 5, 2))
    trainer = way.trainer(network, loss="squared_error", metrics=["rmse", "mae", "r2"])
    trainer.fit(X, REALS, epochs=2)
    error = network.predict(X).astype(np.float64) - REALS
    assert trainer.history["mae"][-1] == pytest.approx(np.abs(error).mean(), rel=1e-4)
    assert trainer.evaluate(X, REALS)["loss"] == pytest.approx((error**2).sum(axis=1).mean(), rel=1e-5)


def test_evaluate_does_not_depend_on_its_batches(way: Way) -> None:
    trainer = way.trainer(random_network(way), metrics=["accuracy"])
    trainer.fit(X, LABELS, epochs=2)
    before = state_of(trainer)
    whole = trainer.evaluate(X, LABELS)
    expected = way.mode.get(trainer.network.loss_value(X, LABELS, SOFTMAX))
    assert whole["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert list(whole) == ["loss", "accuracy"]
    for size in (11,) if way.mode.library == "jax" else (1, 5, 22, 1000):
        assert trainer.evaluate(X, LABELS, batch_size=size) == pytest.approx(whole, rel=1e-5)
    assert state_of(trainer) == before
    assert trainer.evaluate(X[:4], LABELS[:4]) != whole


def test_the_rate_of_each_epoch_is_recorded(path: Way) -> None:
    rate = schedules.Cosine(0.1, total_steps=9)
    trainer = path.trainer(optimizer=optimizers.SGD(rate))
    assert trainer.lr == 0.1
    trainer.fit(X, LABELS, epochs=3, batch_size=8)
    assert trainer.history["lr"] == [rate(2), rate(5), rate(8)]
    assert trainer.lr == rate(9) == 0.0


def test_a_schedule_is_followed_step_by_step(way: Way) -> None:
    """SGD moves by exactly rate(t) times the gradient."""
    rates = [0.5, 0.0, 0.25]
    trainer = way.trainer(optimizer=optimizers.SGD(lambda step: rates[step]))
    network = trainer.network
    for lr in rates:
        grad = way.mode.get(network.value_and_grad(X, LABELS, SOFTMAX)[1].flat)
        before = theta_of(trainer)
        trainer.step(X, LABELS)
        assert np.abs(theta_of(trainer) - (before - lr * grad)).max() < 1e-6
        assert (theta_of(trainer) == before).all() == (lr == 0)


def test_history_to_csv(tmp_path: Path) -> None:
    history = PLAIN.trainer(metrics=["accuracy"]).fit(X, LABELS, epochs=3)
    history.to_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["epoch", *history]
    assert [[float(v) for v in row] for row in rows[1:]] == [
        [i + 1, *(history[name][i] for name in history)] for i in range(3)
    ]


def test_history_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    history = PLAIN.trainer(metrics=["accuracy"]).fit(X, LABELS, epochs=3, validation_split=0.2)
    for name, size in (("a.png", b"\x89PNG"), ("b.svg", b"<?xml")):
        history.plot(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(size)
    History().plot(tmp_path / "empty.png")
    text = (tmp_path / "b.svg").read_text()
    assert text.count('id="axes_') == 2, "one panel for the loss, one for the accuracy"


def test_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    PLAIN.trainer(metrics=["accuracy"]).fit(X, LABELS, epochs=2, verbose=True, validation_split=0.2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert all(word in lines[0] for word in ("loss ", "accuracy ", "val_loss "))
    PLAIN.trainer().fit(X, LABELS, epochs=1)
    assert capsys.readouterr().out == ""


def test_the_loss_sets_the_link() -> None:
    expected = {"softmax": SOFTMAX, "sigmoid": "binary_cross_entropy", "identity": "squared_error"}
    for link, loss in expected.items():
        trainer = PLAIN.trainer(PLAIN.network((3, 2)), loss=loss)
        assert trainer.network.link == "identity"
        trainer.step(X, BITS if link == "sigmoid" else REALS if link == "identity" else LABELS % 2)
        assert trainer.network.link == link


def test_the_loss_of_fit_in_one_call_follows_from_the_targets() -> None:
    cases = [((3, 3), LABELS, "softmax"), ((3, 2), REALS, "identity"), ((3, 1), LABELS, "identity")]
    for sizes, y, link in cases:
        network = PLAIN.network(sizes)
        history = network.fit(X, y, epochs=2, metrics=["mae"] if link == "identity" else ["accuracy"])
        assert network.link == link
        assert history.epochs == 2
    network = PLAIN.network((3, 1), output_activation="sigmoid")
    network.fit(X, BITS[:, 0], epochs=1)
    assert network.link == "sigmoid"


# --- held-out rows and weights ----------------------------------------------------------------------------------------


def test_a_validation_split_is_held_out(way: Way) -> None:
    train, held = split_rows(22, 0.3, seed=5)
    assert len(held) == 7
    assert sorted([*train, *held]) == list(range(22))
    assert split_rows(22, 0.3, seed=5)[1].tolist() == held.tolist() != split_rows(22, 0.3, seed=6)[1].tolist()
    weights = np.arange(1.0, 23.0)
    pair = [way.trainer(seed=5) for _ in range(2)]
    pair[0].fit(X, LABELS, epochs=3, batch_size=4, validation_split=0.3, sample_weight=weights)
    given = (X[held], LABELS[held], weights[held])
    pair[1].fit(X[train], LABELS[train], epochs=3, batch_size=4, sample_weight=weights[train], validation_data=given)
    assert state_of(pair[0]) == state_of(pair[1])


@pytest.mark.parametrize("case", LOSSES)
def test_a_weight_is_a_number_of_repetitions(case: str, path: Way) -> None:
    """Weight k equals the row k times, weight 0 equals no row."""
    loss, y = LOSSES[case]
    counts = np.arange(22) % 4
    rows = np.repeat(np.arange(22), counts)
    for reduction in ("mean", "sum"):
        chosen = replace(loss, reduction=reduction)
        rate = 0.1 if reduction == "mean" else 0.1 / len(rows)
        results = []
        for x, targets, w in ((X, y, counts), (X[rows], y[rows], None)):
            trainer = path.trainer(
                path.network((3, 4, 2), "float64"), loss=chosen, optimizer=optimizers.SGD(rate, momentum=0.5)
            )
            trainer.fit(x, targets, epochs=5, batch_size=100, shuffle=False, sample_weight=w)
            results.append((theta_of(trainer), np.asarray(trainer.history["loss"])))
            expected = trainer.evaluate(X[rows], y[rows])["loss"]
            assert trainer.evaluate(x, targets, sample_weight=w)["loss"] == pytest.approx(expected, rel=1e-12)
        for got, expected in zip(*results, strict=True):
            assert np.abs(got - expected).max() <= 1e-12 * max(np.abs(expected).max(), 1)
        plain = path.trainer(path.network((3, 4, 2), "float64"), loss=chosen, optimizer=optimizers.SGD(rate))
        plain.fit(X, y, epochs=5, batch_size=100, shuffle=False)
        assert np.abs(theta_of(plain) - results[0][0]).max() > 1e-3


def test_rows_given_twice_leave_the_mean_unchanged(path: Way) -> None:
    results = []
    for x, y in ((X, LABELS), (np.tile(X, (2, 1)), np.tile(LABELS, 2))):
        trainer = path.trainer(path.network(dtype="float64"), optimizer=optimizers.SGD(0.1))
        trainer.fit(x, y, epochs=5, batch_size=100, shuffle=False)
        results.append((theta_of(trainer), np.asarray(trainer.history["loss"])))
    for a, b in zip(*results, strict=True):
        assert np.abs(a - b).max() <= 1e-12


def test_a_sum_is_the_mean_at_another_rate(path: Way) -> None:
    results = []
    for reduction, rate in (("mean", 0.11), ("sum", 0.11 / 22)):
        loss = losses.SoftmaxCrossEntropy(reduction=reduction)
        trainer = path.trainer(path.network(dtype="float64"), loss=loss, optimizer=optimizers.SGD(rate))
        trainer.fit(X, LABELS, epochs=5, batch_size=22, shuffle=False)
        results.append((theta_of(trainer), np.asarray(trainer.history["loss"])))
    (a, mean), (b, total) = results
    assert np.abs(a - b).max() <= 1e-12
    assert np.abs(total - 22 * mean).max() <= 1e-11


def test_class_weights(way: Way) -> None:
    """They multiply the sample weights; "balanced" gives every class the same total."""
    given = np.linspace(0.5, 2.0, 22)
    chosen = {0: 0.5, 1: 2.0, 2: 3.0}
    counts = np.bincount(LABELS)
    totals = np.bincount(LABELS, weights=given)
    cases = [
        (chosen, None, np.asarray([chosen[k] for k in LABELS.tolist()])),
        (chosen, given, given * np.asarray([chosen[k] for k in LABELS.tolist()])),
        ("balanced", None, 22 / (3 * counts[LABELS])),
        ("balanced", given, given * (given.sum() / (3 * totals[LABELS]))),
    ]
    if way.mode.library == "jax":  # each trainer is compiled anew
        cases = cases[2:3]
    for class_weight, sample_weight, expected in cases:
        pair = [way.trainer() for _ in range(2)]
        pair[0].fit(X, LABELS, epochs=2, batch_size=8, class_weight=class_weight, sample_weight=sample_weight)
        pair[1].fit(X, LABELS, epochs=2, batch_size=8, sample_weight=expected)
        assert np.abs(theta_of(pair[0]) - theta_of(pair[1])).max() <= 1e-6
        assert abs(pair[0].history["loss"][-1] - pair[1].history["loss"][-1]) <= 1e-6
        without = way.trainer()
        without.fit(X, LABELS, epochs=2, batch_size=8, sample_weight=sample_weight)
        assert np.abs(theta_of(pair[0]) - theta_of(without)).max() > 1e-4


def test_balanced_weights_of_a_class_that_is_missing_or_of_weight_0() -> None:
    labels = np.where(LABELS == 1, 2, LABELS)
    weights = (labels == 2).astype(float)
    for w in (None, weights):
        trainer = PLAIN.trainer()
        trainer.fit(X, labels, epochs=1, class_weight="balanced", sample_weight=w)
        expected = trainer.evaluate(X, labels, sample_weight=w)
        assert np.isfinite(trainer.history["loss"]).all()
        assert expected["loss"] > 0


# --- penalties, rates of parts, clipping ------------------------------------------------------------------------------


def test_penalties_belong_to_the_objective(path: Way) -> None:
    """One SGD step moves against the gradient of loss + l1 sum |W| + l2 sum W^2, by finite differences."""
    l1, l2, lr = 0.03, 0.2, 0.5
    network = path.network((3, 4, 2), "float64")
    trainer = path.trainer(network, loss="squared_error", optimizer=optimizers.SGD(lr), l1=l1, l2=l2)
    network.theta = start = RNG.normal(size=network.layout.size)

    def weights(theta: np.ndarray) -> list[np.ndarray]:
        return [views["W"] for views in network.layout.views(np, theta)]

    def objective(theta: np.ndarray) -> float:
        cost = sum(l1 * np.abs(w).sum() + l2 * (w**2).sum() for w in weights(theta))
        return float(network.loss_value(X, REALS, "squared_error", theta=theta)) + cost

    eye = np.eye(start.size) * 1e-6
    expected = np.asarray([(objective(start + e) - objective(start - e)) / 2e-6 for e in eye])
    trainer.fit(X, REALS, epochs=1, batch_size=22, shuffle=False)
    assert np.abs((start - network.theta) / lr - expected).max() <= 1e-7 * np.abs(expected).max()
    cost = objective(start) - float(network.loss_value(X, REALS, "squared_error", theta=start))
    assert trainer.history["penalty"] == [pytest.approx(cost, rel=1e-12)]
    assert trainer.history["loss"] == [pytest.approx(objective(start) - cost, rel=1e-12)]


def test_penalties_spare_biases_and_normalisations(way: Way) -> None:
    layers = [Dense(4, "tanh", bias_initializer="ones"), BatchNorm(), Dense(2, bias_initializer="ones")]
    pair = []
    for l1, l2 in ((0.0, 0.0), (0.1, 0.1)):
        network = xmlp.Network(layers, 3, backend=way.mode.backend())
        trainer = way.trainer(network, loss="squared_error", optimizer=optimizers.SGD(0.1), l1=l1, l2=l2)
        trainer.step(X, REALS)
        pair.append([{n: way.mode.get(a) for n, a in views.items()} for views in network.parameters])
    for without, with_penalty in zip(*pair, strict=True):
        for name in without:
            moved = np.abs(without[name] - with_penalty[name]).max()
            assert moved > 1e-3 if name == "W" else moved < 1e-6, name
    assert "penalty" not in way.trainer().fit(X, LABELS, epochs=1)


def test_adamw_decays_weights_and_not_biases(way: Way) -> None:
    """With no gradient to speak of only the decay moves anything."""
    layers = [Dense(4, bias_initializer="ones"), Dense(2, bias_initializer="ones")]
    network = xmlp.Network(layers, 3, backend=way.mode.backend("float32"))
    before = [{n: np.array(way.mode.get(a)) for n, a in views.items()} for views in network.parameters]
    rule = optimizers.AdamW(0.1, eps=1.0, weight_decay=0.5)
    trainer = way.trainer(network, loss="squared_error", optimizer=rule)
    for _ in range(2):
        trainer.step(X, network.predict(X))
    for old, new in zip(before, network.parameters, strict=True):
        assert np.abs(way.mode.get(new["W"]) - 0.95**2 * old["W"]).max() < 0.02
        assert np.abs(way.mode.get(new["W"]) - old["W"]).max() > 0.05
    trainer = way.trainer(xmlp.Network(layers, 3, backend=way.mode.backend()), loss="squared_error", optimizer=rule)
    trainer.step(X, trainer.network.predict(X))
    for old, new in zip(before, trainer.network.parameters, strict=True):
        assert np.abs(way.mode.get(new["W"]) - 0.95 * old["W"]).max() < 1e-5
        assert np.abs(way.mode.get(new["b"]) - 1.0).max() < 1e-5


@dataclass(frozen=True)
class Scaled(Dense):
    """A Dense whose parameters have a learning rate of their own."""

    factor: float = 1.0

    def build(self, in_features: int) -> Any:
        out, specs = Dense.build(self, in_features)
        return out, {name: replace(spec, lr_scale=self.factor) for name, spec in specs.items()}


def test_learning_rates_of_parts(way: Way) -> None:
    moved = {}
    for factor in (1.0, 0.5, 0.0):
        network = xmlp.Network([Scaled(4, "tanh", factor=factor), Dense(2)], 3, backend=way.mode.backend())
        before = [{n: np.array(way.mode.get(a)) for n, a in v.items()} for v in network.parameters]
        trainer = way.trainer(network, loss="squared_error", optimizer=optimizers.SGD(0.1))
        trainer.step(X, REALS)
        after = [{n: np.array(way.mode.get(a)) for n, a in v.items()} for v in network.parameters]
        moved[factor] = [{n: after[i][n] - before[i][n] for n in before[i]} for i in (0, 1)]
    for name in ("W", "b"):
        assert (moved[0.0][0][name] == 0).all()
        assert np.abs(moved[1.0][0][name]).max() > 1e-4
        assert np.abs(moved[0.5][0][name] - 0.5 * moved[1.0][0][name]).max() < 1e-6
        for factor in (0.5, 0.0):
            assert np.abs(moved[factor][1][name] - moved[1.0][1][name]).max() < 1e-6


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_frozen_parameters_stay_to_the_bit(rule: str, path: Way) -> None:
    for layers in ([Scaled(4, "tanh", factor=0.0), Dense(2)], [Scaled(2, factor=0.0)]):
        network = xmlp.Network(layers, 3)
        frozen = {n: np.array(a) for n, a in network.parameters[0].items()}
        trainer = path.trainer(network, loss="squared_error", optimizer=rule, l1=0.1, l2=0.1, clip_norm=1.0)
        start = theta_of(trainer)
        trainer.fit(X, REALS, epochs=3, batch_size=8)
        assert all((network.parameters[0][n] == a).all() for n, a in frozen.items())
        assert (theta_of(trainer) == start).all() == (len(layers) == 1)


def test_clipping(way: Way) -> None:
    """The step is the gradient, scaled down to the bound where it is longer."""
    for bound in (1e-3, 1e3):
        trainer = way.trainer(optimizer=optimizers.SGD(1.0), clip_norm=bound)
        grad = way.mode.get(trainer.network.value_and_grad(X, LABELS, SOFTMAX)[1].flat)
        norm, before = float(np.sqrt((grad.astype(np.float64) ** 2).sum())), theta_of(trainer)
        assert 1e-3 < norm < 1e3
        trainer.step(X, LABELS)
        expected = before - grad * min(1.0, bound / norm)
        assert np.abs(theta_of(trainer) - expected).max() < 2e-7 * max(1.0, np.abs(before).max())


# --- gradients and losses that are not finite -------------------------------------------------------------------------

OVERFLOWING = np.float32(1e30) * np.ones((4, 3))  # finite, but its squared error is not


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_step_that_is_not_finite_is_left_out_and_counted(way: Way) -> None:
    batches = [(X[:4], REALS[:4]), (OVERFLOWING, REALS[:4]), (X[4:8], REALS[4:8])]
    pair = []
    for chosen in (batches, [batches[0], batches[2]]):
        network = xmlp.Network([Dense(4), BatchNorm(), Dense(2)], 3, backend=way.mode.backend())
        pair.append(way.trainer(network, loss="squared_error", optimizer=optimizers.SGD(0.1, 0.5), clip_norm=1.0))
        pair[-1].fit(chosen, epochs=1)
    assert [a.tobytes() for a in arrays_of(pair[0])] == [a.tobytes() for a in arrays_of(pair[1])]
    assert pair[0].history["skipped"] == [1.0]
    assert pair[0].steps == 3
    assert "skipped" not in pair[1].history
    assert math.isfinite(pair[0].history["loss"][0])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_step_that_is_not_finite_may_end_training(way: Way) -> None:
    trainer = way.trainer(
        way.network((3, 4, 2), activation="relu"), loss="squared_error", clip_norm=1.0, on_nonfinite="raise"
    )
    trainer.fit(X, REALS, epochs=1)
    before = state_of(trainer)
    with pytest.raises(DivergenceError):
        trainer.fit([(X, REALS), (OVERFLOWING, REALS[:4])], epochs=1)
    assert state_of(trainer) == before


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_restores_the_state_before_the_epoch(way: Way) -> None:
    rates = [0.01] * 6 + [1e30] * 100
    network = xmlp.Network([Dense(4, "relu"), BatchNorm(), Dense(2)], 3, backend=way.mode.backend())
    rule = optimizers.SGD(lambda step: rates[step], momentum=0.9)
    recorder = Recorder()
    trainer = way.trainer(network, loss="squared_error", optimizer=rule, callbacks=[recorder])
    trainer.fit(X, REALS, epochs=2, batch_size=8)
    before = state_of(trainer)
    told = "training diverged in epoch 3 at step 8: the outputs of layer 2, Dense, are not finite"
    with pytest.raises(DivergenceError, match=told) as caught:
        trainer.fit(X, REALS, epochs=3, batch_size=8)
    assert (caught.value.step, caught.value.layer) == (8, 2)
    assert not math.isfinite(caught.value.loss)
    assert state_of(trainer) == before
    assert recorder.events[-1] == ("on_fit_end", 2, 6, 2)
    rates[6:] = [0.01] * 100
    trainer.fit(X, REALS, epochs=1, batch_size=8)
    assert np.isfinite(trainer.history["loss"]).all()
    assert trainer.steps == 9


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_in_the_first_epoch_leaves_the_network_as_it_was(path: Way) -> None:
    network = path.network((3, 4, 2), activation="relu")
    before = network.theta.tobytes()
    with pytest.raises(DivergenceError):
        path.trainer(network, loss="binary_cross_entropy", optimizer=optimizers.SGD(1e38)).fit(
            X * 1e9, BITS, epochs=2, batch_size=4
        )
    assert network.theta.tobytes() == before
    assert network.link == "identity"


# --- data as they are -------------------------------------------------------------------------------------------------


def test_bytes_stay_bytes_until_the_batch(way: Way) -> None:
    x = RNG.integers(0, 256, (22, 3)).astype(np.uint8)
    trainer, plain = way.trainer(), way.trainer()
    assert "uint8" in str(trainer.preparation.data((x, LABELS), ("x", "y")).x.dtype)
    trainer.fit(x, LABELS, epochs=2, batch_size=8, validation_split=0.2)
    plain.fit(x.astype(np.float32), LABELS, epochs=2, batch_size=8, validation_split=0.2)
    assert state_of(trainer) == state_of(plain)


def test_arrays_on_the_device_equal_host_arrays(way: Way) -> None:
    pair = [way.trainer() for _ in range(2)]
    pair[0].fit(X.astype(np.float32), LABELS, epochs=2, batch_size=8, validation_split=0.2)
    pair[1].fit(
        way.mode.put(X), way.mode.put(LABELS.astype(np.int32), None), epochs=2, batch_size=8, validation_split=0.2
    )
    assert state_of(pair[0]) == state_of(pair[1])


def test_data_frames(path: Way) -> None:
    pandas = pytest.importorskip("pandas")
    pair = [path.trainer() for _ in range(2)]
    pair[0].fit(X, LABELS, epochs=2)
    pair[1].fit(pandas.DataFrame(X, columns=list("abc")), pandas.Series(LABELS, index=range(5, 27)), epochs=2)
    assert state_of(pair[0]) == state_of(pair[1])


def test_predictions_during_training(path: Way) -> None:
    """They see some state of the parameters; neither side stumbles over the other."""
    trainer, alone = path.trainer(random_network(path)), path.trainer(random_network(path))
    done, failures, count = threading.Event(), [], [0]

    def predict() -> None:
        try:
            while not done.is_set():
                y = trainer.network.predict(X)
                assert y.shape == (22, 3)
                assert np.isfinite(y).all()
                count[0] += 1
        except BaseException as error:  # carried to the main thread
            failures.append(error)

    threads = [threading.Thread(target=predict) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        trainer.fit(X, LABELS, epochs=60, batch_size=4)
        while count[0] < 3 and not failures:
            pass
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    assert not failures
    assert count[0] >= 3
    alone.fit(X, LABELS, epochs=60, batch_size=4)
    assert state_of(alone) == state_of(trainer)


def test_an_interrupt_leaves_parameters_and_counters_together() -> None:
    class Interrupt:
        def on_step_end(self, trainer: Any) -> None:
            if trainer.steps == 5:
                raise KeyboardInterrupt

    network = xmlp.mlp([2, 4, 2])
    before = network.theta.tobytes()
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam", callbacks=[Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(np.zeros((40, 2)), np.arange(40) % 2, epochs=1, batch_size=4)
    assert trainer.steps == 0
    assert network.theta.tobytes() == before


def test_a_loss_that_does_not_go_with_the_output_is_refused() -> None:
    network = xmlp.mlp([2, 4, 2], output_activation="softmax")
    with pytest.raises(ValueError, match="goes with a sigmoid output"):
        network.fit(np.zeros((4, 2)), np.eye(2)[[0, 1, 0, 1]], loss="binary_cross_entropy", epochs=1)


def test_a_divergence_crosses_processes() -> None:
    import copy

    error = copy.copy(xmlp.DivergenceError("text", step=3, loss=2.0))
    assert (str(error), error.step, error.loss) == ("text", 3, 2.0)


def test_a_deep_copy_of_a_network_is_its_own() -> None:
    import copy

    network = xmlp.mlp([2, 4, 2])
    other = copy.deepcopy(network)
    other.theta = other.theta * 0
    assert np.abs(network.theta).max() > 0

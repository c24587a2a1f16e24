"""What callbacks do, each by a test that fails without it."""

import csv
import json
import math
import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import Mode

import xmlp
from xmlp import Trainer, optimizers, schedules
from xmlp.callbacks import (
    CSVLogger,
    EarlyStopping,
    JSONLLogger,
    LearningRateMonitor,
    MaxSeconds,
    ReduceOnPlateau,
)
from xmlp.errors import DivergenceError

RNG = np.random.default_rng(5)
X = RNG.normal(size=(24, 3))
Y = X[:, :1] - 0.5
HELD = (X[:8], Y[:8])


def trainer(*callbacks: Any, backend: Any = "numpy", activation: str = "tanh", **kw: Any) -> Trainer:
    settings: dict[str, Any] = {"loss": "squared_error", "optimizer": optimizers.SGD(0.05), "seed": 1}
    return Trainer(xmlp.mlp([3, 5, 1], activation, backend=backend), callbacks=callbacks, **settings | kw)


class Values:
    """A metric that takes given values, one an epoch."""

    needs = "predictions"
    __name__ = "given"

    def __init__(self, *values: float):
        self.values = list(values)

    def __call__(self, targets: Any, predictions: Any, *, sample_weight: Any = None) -> float:
        return self.values.pop(0)


class Thetas:
    """Keeps the parameters of each epoch."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.kept.append(trainer.network.arrays()["theta"].copy())


# --- early stopping ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "settings", "epochs", "best", "stopped"),
    [
        ((5, 4, 4, 4, 9, 9), {"mode": "min", "patience": 2}, 4, 2, True),
        ((5, 4, 4.5, 3, 9, 9), {"mode": "min", "patience": 2}, 6, 4, True),
        ((1, 2, 2, 1, 9, 9), {"mode": "max", "patience": 2}, 4, 2, True),
        ((5, 4.5, 4.2, 9, 9, 9), {"mode": "min", "patience": 2, "min_delta": 1.0}, 3, 1, True),
        ((math.nan, math.nan, 1, 1, 1, 1), {"mode": "min", "patience": 2}, 2, 0, True),
        ((3, math.inf, 2, 1, 1, 1), {"mode": "max", "patience": 9}, 6, 1, False),
    ],
)
def test_early_stopping(
    values: tuple[float, ...], settings: dict[str, Any], epochs: int, best: int, stopped: bool
) -> None:
    stopping, thetas = EarlyStopping("given", **settings), Thetas()
    one = trainer(stopping, thetas, metrics=[Values(*values)])
    one.fit(X, Y, epochs=6)
    assert (one.epoch, stopping.best_epoch, stopping.stopped) == (epochs, best, stopped)
    assert (one.network.arrays()["theta"] == thetas.kept[(best or epochs) - 1]).all()


def test_early_stopping_on_every_backend(mode: Mode) -> None:
    stopping = EarlyStopping("given", mode="min", patience=1)
    one = trainer(stopping, backend=mode.backend(), metrics=[Values(2, 1, 3)])
    one.fit(X, Y, epochs=3)
    reference = trainer(backend=mode.backend())
    reference.fit(X, Y, epochs=2)
    assert (one.network.arrays()["theta"] == reference.network.arrays()["theta"]).all()


def test_early_stopping_may_keep_the_last_weights_and_begins_anew() -> None:
    stopping, thetas = EarlyStopping("given", mode="min", patience=1, restore_best=False), Thetas()
    one = trainer(stopping, thetas, metrics=[Values(1, 2, 9, 8, 10)])
    one.fit(X, Y, epochs=5)
    assert (one.network.arrays()["theta"] == thetas.kept[1]).all()
    one.fit(X, Y, epochs=5)
    assert (one.epoch, stopping.best_epoch) == (5, 4), "the second fit compares with its own epochs only"


def test_a_cut_fit_does_not_go_back_to_the_best_weights() -> None:
    class Stop:
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.steps == 4:
                trainer.stop()

    one, other = (trainer(*more, Stop()) for more in ([EarlyStopping("loss")], []))
    for each in (one, other):
        each.fit(X, Y, epochs=9, batch_size=10)
    assert (one.network.arrays()["theta"] == other.network.arrays()["theta"]).all()


def test_what_to_monitor_must_be_known() -> None:
    with pytest.raises(ValueError, match=r"no 'val_loss', it has loss, lr, seconds\. Pass validation_data"):
        trainer(EarlyStopping()).fit(X, Y, epochs=2)
    with pytest.raises(ValueError, match='pass mode="min" or mode="max"'):
        EarlyStopping("mine")
    for wrong in ({"patience": 0}, {"min_delta": -1.0}, {"mode": "low"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            EarlyStopping(**wrong)


# --- the learning rate ------------------------------------------------------------------------------------------------


def test_reduce_on_plateau() -> None:
    plateau = ReduceOnPlateau("given", mode="min", factor=0.5, patience=2, min_lr=0.02)
    one = trainer(plateau, metrics=[Values(5, 4, 4, 4, 4, 4, 4, 4, 4, 1)])
    rates = one.fit(X, Y, epochs=10)["lr"]
    assert rates == pytest.approx([0.05] * 4 + [0.025] * 2 + [0.02] * 4, rel=1e-15)
    slower = trainer(optimizer=optimizers.SGD(lambda step: rates[step]))
    slower.fit(X, Y, epochs=10)
    assert (slower.network.arrays()["theta"] == one.network.arrays()["theta"]).all()


def test_reduce_on_plateau_scales_a_schedule() -> None:
    plateau = ReduceOnPlateau("given", mode="min", factor=0.1, patience=1)
    rule = optimizers.SGD(schedules.Step(0.1, every_steps=2, factor=0.5))
    one = trainer(plateau, optimizer=rule, metrics=[Values(1, 2, 0, 0.5)])
    assert one.fit(X, Y, epochs=4)["lr"] == pytest.approx([0.1, 0.1, 0.005, 0.005], rel=1e-15)


def test_the_rate_of_every_step() -> None:
    monitor = LearningRateMonitor()
    rule = optimizers.SGD(schedules.Polynomial(0.1, total_steps=20))
    one = trainer(monitor, optimizer=rule)
    one.fit(X, Y, epochs=1, batch_size=8)
    one.fit(X, Y, epochs=2, batch_size=8)
    assert monitor.first == 3
    assert monitor.rates == [rule.lr(step) for step in range(3, 9)]


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_time_limit_cuts_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("xmlp.callbacks.limits.time.monotonic", lambda: now[0])

    class Clock:
        def on_step_end(self, trainer: Trainer) -> None:
            now[0] += 1.0

    one = trainer(Clock(), MaxSeconds(5))
    one.fit(X, Y, epochs=100, batch_size=8)
    assert one.moment == (5, 1, 2)
    one.fit(X, Y)
    assert one.moment == (10, 3, 1), "the limit is that of one fit"


def test_progress_is_told_while_an_epoch_is_under_way() -> None:
    class Count:
        steps: ClassVar[list[int]] = []

        def on_progress(self, trainer: Trainer) -> None:
            self.steps.append(trainer.steps)

    x = np.resize(X, (20_000, 3))
    trainer(Count()).fit(x, x[:, :1], epochs=1, batch_size=2)
    assert Count.steps == sorted(set(Count.steps))
    assert Count.steps[-1] == 10_000
    assert 3 <= len(Count.steps) <= 10_000


# --- logs -------------------------------------------------------------------------------------------------------------


def test_logs(tmp_path: Path) -> None:
    table, lines = tmp_path / "a.csv", tmp_path / "a.jsonl"
    seen: list[int] = []

    class Reader:
        def on_epoch_end(self, trainer: Trainer) -> None:
            seen.append(len(lines.read_text().splitlines()))

    one = trainer(CSVLogger(table), JSONLLogger(lines), Reader(), metrics=[Values(math.nan, 1, 2)])
    one.fit(X, Y, epochs=2)
    one.fit(X, Y, epochs=1, validation_data=None)
    assert seen == [1, 2, 3], "each line is written when its epoch ends"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    for i, row in enumerate(rows):
        expected = {"epoch": i + 1, **{name: column[i] for name, column in one.history.items()}}
        assert {name: float(value) for name, value in row.items()} == pytest.approx(expected, rel=0, nan_ok=True)
        assert told[i] == {n: v if math.isfinite(v) else None for n, v in expected.items()}
    assert len(rows) == len(told) == 3


def test_a_log_that_cannot_be_written_stops_before_training(tmp_path: Path) -> None:
    one = trainer(JSONLLogger(tmp_path / "missing" / "a.jsonl"))
    with pytest.raises(FileNotFoundError):
        one.fit(X, Y, epochs=1)
    assert one.steps == 0


# --- divergence -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("planned", [None, False])
@pytest.mark.parametrize(("batch_size", "step"), [(8, 2), (8, 6), (6, 7)])
def test_divergence_names_step_and_layer(batch_size: int, step: int, planned: bool | None) -> None:
    """The update of step `step - 1` is so large that the next forward pass overflows in the last layer."""
    rule = optimizers.SGD(lambda number: 1e30 if number == step - 2 else 1e-3)
    one = trainer(optimizer=rule, planned=planned, activation="identity")
    if whole := (step - 2) // (24 // batch_size):
        one.fit(X, Y, epochs=whole, batch_size=batch_size)
    before = one.network.arrays()["theta"].copy(), one.moment
    with pytest.raises(DivergenceError) as caught:
        one.fit(X, Y, epochs=3, batch_size=batch_size)
    assert (caught.value.step, caught.value.layer) == (step, 1)
    assert f"at step {step}: the outputs of layer 1, Dense, are not finite" in str(caught.value)
    assert ((one.network.arrays()["theta"] == before[0]).all(), one.moment) == (True, before[1])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_update_that_is_not_finite_is_found_at_once() -> None:
    one = trainer(optimizer=optimizers.SGD(lambda step: 3e38 if step == 2 else 1e-6))
    with pytest.raises(DivergenceError, match=r"at step 3: the update of layer 1, Dense, is not finite"):
        one.fit(X, 100 * Y, epochs=1, batch_size=8)
    assert one.steps == 0


# --- one fit at a time ------------------------------------------------------------------------------------------------


def test_a_trainer_is_in_one_fit_at_a_time() -> None:
    inside, go = threading.Event(), threading.Event()

    class Wait:
        def on_epoch_end(self, trainer: Trainer) -> None:
            inside.set()
            assert go.wait(30)

    one = trainer(Wait())
    thread = threading.Thread(target=one.fit, args=(X, Y), kwargs={"epochs": 1})
    thread.start()
    try:
        assert inside.wait(30)
        with pytest.raises(RuntimeError, match="in a fit already"):
            one.fit(X, Y, epochs=1)
    finally:
        go.set()
        thread.join(30)
    assert one.epoch == 1
    one.fit(X, Y, epochs=1)
    assert one.epoch == 2


# --- the end of a fit -------------------------------------------------------------------------------------------------


def test_every_callback_is_told_of_the_end() -> None:
    told: list[str] = []

    class Failing:
        def on_fit_end(self, trainer: Trainer) -> None:
            raise OSError("at the end")

    class Last:
        def on_fit_end(self, trainer: Trainer) -> None:
            told.append("end")

    class Broken:
        def on_epoch_end(self, trainer: Trainer) -> None:
            raise ZeroDivisionError("in the epoch")

    with pytest.raises(OSError, match="at the end"):
        trainer(Failing(), Last()).fit(X, Y, epochs=1)
    with pytest.raises(ZeroDivisionError, match="in the epoch") as caught:
        trainer(Broken(), Failing(), Last()).fit(X, Y, epochs=1)
    assert caught.value.__notes__ == ["Failing.on_fit_end failed as well: at the end"]
    assert told == ["end", "end"]


def test_an_interrupt_takes_a_changed_rate_back() -> None:
    class Impatient:
        def on_step_end(self, trainer: Trainer) -> None:
            trainer.lr_scale *= 0.5
            if trainer.steps == 2:
                raise KeyboardInterrupt

    one = trainer(Impatient())
    with pytest.raises(KeyboardInterrupt):
        one.fit(X, Y, epochs=1, batch_size=8)
    assert (one.steps, one.lr_scale) == (0, 1.0)

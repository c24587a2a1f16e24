"""Learning rates: values by hand, their ends, what they refuse."""

import math
from typing import Any

import numpy as np
import pytest
from tolerances import check, report  # noqa: F401  (a fixture)

import xmlp
from xmlp.schedules import SCHEDULES, Constant, Cosine, Exponential, OneCycle, Polynomial, Schedule, Step, rate

BY_HAND: dict[Schedule, dict[int, float]] = {
    Constant(0.3): {0: 0.3, 1: 0.3, 10**9: 0.3},
    Step(1.0, every_steps=3, factor=0.5): {0: 1, 2: 1, 3: 0.5, 5: 0.5, 6: 0.25, 300: 0.5**100},
    Step(0.2, every_steps=10): {9: 0.2, 10: 0.02, 20: 0.002},
    Exponential(2.0, per_steps=4, factor=0.25): {0: 2, 1: 2 / math.sqrt(2), 2: 1, 4: 0.5, 8: 0.125},
    Polynomial(1.0, total_steps=10): {0: 1, 3: 0.7, 9: 0.1, 10: 0, 11: 0},
    Polynomial(1.0, total_steps=10, end=0.2, power=2.0): {0: 1, 5: 0.2 + 0.8 / 4, 10: 0.2, 99: 0.2},
    Polynomial(0.1, total_steps=4, end=0.5): {0: 0.1, 2: 0.3, 4: 0.5},
    Cosine(1.0, total_steps=6): {0: 1, 2: 0.75, 3: 0.5, 4: 0.25, 6: 0, 7: 0},
    Cosine(0.4, total_steps=8, warmup_steps=2, end=0.1): {
        0: 0.2, 1: 0.4, 2: 0.4, 4: 0.325, 5: 0.25, 6: 0.175, 8: 0.1, 9: 0.1,
    },
    Cosine(1.0, total_steps=4, warmup_steps=4): {0: 0.25, 3: 1, 4: 1, 5: 0},
    OneCycle(1.0, total_steps=12, rise=0.5, start_factor=4.0, end_factor=10.0): {
        0: 0.25, 2: 0.4375, 3: 0.625, 4: 0.8125, 6: 1, 8: 0.775, 9: 0.55, 10: 0.325, 12: 0.1, 13: 0.1,
    },
    OneCycle(2.0, total_steps=10): {0: 0.08, 3: 2, 10: 2e-4},
    OneCycle(1.0, total_steps=4, rise=0.0, end_factor=2.0): {0: 1, 2: 0.75, 4: 0.5},
    OneCycle(1.0, total_steps=4, rise=1.0, start_factor=2.0): {0: 0.5, 2: 0.75, 4: 1},
}  # fmt: skip


@pytest.mark.parametrize("schedule", BY_HAND, ids=repr)
def test_values_by_hand(schedule: Schedule) -> None:
    for step, lr in BY_HAND[schedule].items():
        check("schedule by hand", abs(schedule(step) - lr), f"{schedule}({step})")


def test_each_schedule_is_here() -> None:
    assert {type(s).__name__ for s in BY_HAND} == set(SCHEDULES)


@pytest.mark.parametrize("schedule", BY_HAND, ids=repr)
def test_rates_are_finite_and_of_one_sign(schedule: Schedule) -> None:
    rates = [rate(schedule, t) for t in (*range(50), 10**6, 10**12)]
    assert min(rates) >= 0
    assert max(rates) <= max(BY_HAND[schedule].values())


def test_warm_up_rises_in_equal_steps_and_meets_the_cosine() -> None:
    rates = [Cosine(1.0, total_steps=100, warmup_steps=10)(t) for t in range(101)]
    check("schedule by hand", np.max(np.abs(np.diff(rates[:10]) - 0.1)), "warm-up")
    assert rates[9] == rates[10] == 1.0
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[100] == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-1.0), r"Constant\(lr\) must be finite and >= 0, got -1\.0"),
        (lambda: Constant(math.nan), r"Constant\(lr\) must be finite"),
        (lambda: Constant(math.inf), r"Constant\(lr\) must be finite"),
        (lambda: Constant("0.1"), r"Constant\(lr\) must be a number"),
        (lambda: Step(1.0, every_steps=2.5), r"Step\(every_steps\) must be a whole number of steps, got 2\.5"),
        (lambda: Step(1.0, every_steps=True), r"Step\(every_steps\) must be a whole number"),
        (lambda: Step(1.0, every_steps=0), r"Step\(every_steps\) must be"),
        (lambda: Step(1.0, every_steps=2, factor=-0.1), r"Step\(factor\) must be finite and >= 0"),
        (lambda: Exponential(1.0, per_steps=0), r"Exponential\(per_steps\) must be"),
        (lambda: Polynomial(1.0, total_steps=0), r"Polynomial\(total_steps\) must be"),
        (lambda: Polynomial(1.0, total_steps=5, end=-1.0), r"Polynomial\(end\) must be finite and >= 0"),
        (lambda: Cosine(1.0, total_steps=0), r"Cosine\(total_steps\) must be"),
        (lambda: Cosine(1.0, total_steps=10, warmup_steps=-1), r"Cosine\(warmup_steps\) must be"),
        (lambda: Cosine(1.0, total_steps=10, warmup_steps=11), r"Cosine\(warmup_steps\) must be"),
        (lambda: OneCycle(1.0, total_steps=0), r"OneCycle\(total_steps\) must be"),
        (lambda: OneCycle(1.0, total_steps=10, rise=1.5), r"OneCycle\(rise\) must be"),
        (lambda: OneCycle(1.0, total_steps=10, start_factor=0.0), r"OneCycle\(start_factor, end_factor\) must be"),
    ],
)
def test_settings_that_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_function_is_a_schedule_and_its_values_are_checked() -> None:
    assert rate(lambda step: 1 / (1 + step), 3) == 0.25
    assert rate(0.5, 7) == 0.5
    with pytest.raises(ValueError, match="the learning rate of step 4 is nan"):
        rate(lambda step: math.nan, 4)


def test_the_trainer_asks_for_the_rate_of_each_step() -> None:
    asked: list[int] = []

    def schedule(step: int) -> float:
        asked.append(step)
        return 0.5 ** (step + 1)

    network = xmlp.Network([xmlp.layers.Dense(1, use_bias=False, kernel_initializer=0.0)], 1, dtype="float64")
    trainer = xmlp.Trainer(network, loss=xmlp.losses.SquaredError(half=True), optimizer=xmlp.optimizers.SGD(schedule))
    asked.clear()
    assert trainer.lr == 0.5
    weights = []
    for _ in range(3):  # w <- w - lr (w - 1): the error halves, then falls by a quarter, then by an eighth
        trainer.step(np.ones((1, 1)), np.ones((1, 1)))
        weights.append(float(network.theta[0]))
    assert weights == [0.5, 0.625, 0.671875]
    assert sorted(set(asked)) == [0, 1, 2]
    assert trainer.lr == 0.0625

"""The pure step: what processes that train together exchange makes of their rows one batch."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import xmlp
from xmlp.training.step import Batch, State, Step, Sums


class Sum:
    """An exchange between threads, as one between processes would do it."""

    def __init__(self, members: int):
        self._barrier, self._given = threading.Barrier(members), {}

    def __call__(self, gradient, total, weight, share):
        self._given[threading.get_ident()] = gradient, total, weight, 1.0 / share
        self._barrier.wait(timeout=60)
        gradient, total, weight, rows = (sum(values) for values in zip(*self._given.values(), strict=True))
        return gradient, total, weight, 1.0 / rows


def _state(trainer: xmlp.Trainer) -> State:
    return trainer.run.state(Sums(*(np.zeros(()),) * 4))


def _after(step: Step, state: State, x, y, weights) -> State:
    return step(state, Batch(x, y, weights, None), step.numbers(x.shape[0], 0.1, 0, 0))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cut", [6, 9])
def test_parts_of_a_batch_make_the_step_of_the_whole(reduction, weighted, cut, rng):
    """With penalties and clipping, in parts of equal and of different sizes."""
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    weights = rng.uniform(0.1, 2.0, size=12) if weighted else None
    network = xmlp.mlp([3, 5, 2], activation="tanh", dtype="float64", seed=1)
    loss = xmlp.losses.SquaredError(reduction=reduction)
    trainer = xmlp.Trainer(network, loss=loss, optimizer=xmlp.optimizers.Adam(0.1), l2=0.01, clip_norm=0.5)
    step, state = trainer.run.step, _state(trainer)
    whole = _after(step, state, x, y, weights)
    together = replace(step, allreduce=Sum(2))
    with ThreadPoolExecutor(2) as pool:
        parts = [slice(0, cut), slice(cut, 12)]
        of_part = [None if weights is None else weights[part] for part in parts]
        jobs = [
            pool.submit(_after, together, state, x[part], y[part], w) for part, w in zip(parts, of_part, strict=True)
        ]
        results = [job.result() for job in jobs]
    for result in results:
        np.testing.assert_allclose(result.theta, whole.theta, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(result.sums, whole.sums, rtol=1e-12)
    assert np.array_equal(results[0].theta, results[1].theta)


def test_what_a_program_costs_to_make_says_nothing_of_its_steps(monkeypatch, rng):
    """The first chunk of a program, which waits for machine code, does not shorten the next."""
    network = xmlp.mlp([3, 4, 1], seed=1)
    trainer = xmlp.Trainer(network, loss="squared_error", optimizer="sgd", planned=True)
    runner, make = trainer.run.runner, network.backend.program

    def slow(plan, arrays, rows=None):
        program = make(plan, arrays, rows)
        run, wait = program.run, [1.0]
        program.run = lambda *given: (time.sleep(wait.pop() if wait else 0.0), run(*given))
        return program

    monkeypatch.setattr(network.backend, "program", slow)
    x, y = rng.normal(size=(100, 3)), rng.normal(size=(100, 1))
    trainer.fit(x, y, epochs=1, batch_size=8, verbose=False)  # the last batch has four rows
    assert runner.chunk > 1

"""Plans replayed by NumPy alone, as where llvmlite is not installed: the same numbers as the plain path."""

import sys
import threading
import tracemalloc

import numpy as np
import pytest
from test_plan import (
    LOSSES, NETWORKS, OPTIMIZERS, SPECIAL, D, K, N, Sign, built_in_formulas, close, compare, data, everything,
)  # fmt: skip

import xmlp
from xmlp import losses, optimizers
from xmlp.backends import replay
from xmlp.graph.plan import plan
from xmlp.graph.tensor import XP, Tracer, TracingBackend
from xmlp.layers import Dense, Standardize, random_bits


@pytest.fixture(autouse=True)
def without_llvmlite(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)


@pytest.fixture(params=[replay.BLOCK, 7], ids=["whole", "blocks"])
def block(request, monkeypatch):
    """Kernels in one block, and in many."""
    monkeypatch.setattr(replay, "BLOCK", request.param)


def replayed(function, arrays, dtype="float32", scalars=()):
    """What a traced function of arrays (and of a namespace) computes; its results are outputs of a plan."""
    tracer = Tracer()
    symbols = [tracer.input(f"in{i}", a.shape, str(a.dtype)) for i, a in enumerate(arrays)]
    results = function(TracingBackend(tracer, dtype), *symbols)
    results = results if isinstance(results, tuple) else (results,)
    outs = {f"out{i}": np.full(r.shape, 77, dtype=r.dtype) for i, r in enumerate(results)}
    made = plan([(name, r.node) for name, r in zip(outs, results, strict=True)])
    program = replay.Program(made, {f"in{i}": a for i, a in enumerate(arrays)} | outs)
    program.run(np.asarray([scalars], dtype="float64").reshape(1, -1), None, 0)
    return list(outs.values())


@pytest.mark.parametrize("formula", built_in_formulas(), ids=lambda f: f.name)
def test_every_formula_against_the_plain_evaluation(formula, dtype, rng, block):
    for size in (0, 1, 3, 50):
        arrays = [rng.normal(scale=4, size=size), *(rng.uniform(-1, 1, size) for _ in formula.arrays[1:])]
        arrays = [a.astype(dtype) for a in arrays]
        close(replayed(lambda b, *x: b.apply(formula, *x), arrays, dtype)[0], formula(*arrays), dtype)
    special = np.asarray(SPECIAL, dtype=dtype)
    arrays = [special, *(np.full_like(special, 0.5) for _ in formula.arrays[1:])]
    with np.errstate(all="ignore"):
        expected = formula(*arrays)
    close(replayed(lambda b, *x: b.apply(formula, *x), arrays, dtype)[0], expected, dtype)


def test_the_whole_vocabulary(dtype, rng, block):
    x, n = rng.normal(size=501).astype(dtype), rng.integers(-1000, 1000, 501).astype(np.int32)
    got = replayed(lambda b, *arrays: b.apply(everything, *arrays, k=7), [x, n], dtype)[0]
    close(got, everything(x, n, k=7), dtype)


def test_elements_are_numbered_through_all_blocks(block):
    keys = {"first": 0x12345678, "second": -5}
    expected = random_bits(np.arange(10, 130, dtype=np.int32), **keys)

    def bits(b, x):
        element = XP.reshape(b.index(130)[10:130], x.shape)
        return b.apply(random_bits, element, **keys) + XP.astype(x, "int32")

    for shape in ((120,), (20, 6)):
        assert (replayed(bits, [np.zeros(shape, dtype="float32")])[0].ravel() == expected).all()


def test_reductions_over_blocks(dtype, rng, block):
    x = rng.normal(size=(23, 5)).astype(dtype)

    def sums(b, x):
        row = XP.sum(x * x, axis=-1, keepdims=True)
        return XP.sum(x), XP.sum(x * 2.0, axis=0), row, x / row, XP.max(x, axis=-1)

    squares = (x * x).sum(axis=1, keepdims=True)
    for got, expected in zip(replayed(sums, [x], dtype), (
        x.sum(), 2 * x.sum(axis=0), squares, x / squares, x.max(axis=1),
    ), strict=True):  # fmt: skip
        assert np.abs(got - expected).max() <= 20 * np.finfo(dtype).eps * max(1.0, np.abs(expected).max())


def test_one_row_and_one_column(dtype, rng, block):
    for shape in ((1, 40), (40, 1), (1, 1)):
        x = rng.normal(size=shape).astype(dtype)
        got = replayed(lambda b, x: (XP.sum(x), XP.sum(x, axis=0), XP.sum(x, axis=-1)), [x], dtype)
        for array, axis in zip(got, (None, 0, 1), strict=True):
            assert np.abs(array - x.sum(axis=axis)).max() <= 50 * np.finfo(dtype).eps


# --- whole training runs ---------------------------------------------------------------------------------------------


def compared(*arguments, **settings):
    trained = compare(*arguments, **settings)
    assert all(isinstance(p, replay.Program) for p in trained._runner._programs.values())
    assert trained._runner._programs
    return trained


@pytest.mark.parametrize("net", NETWORKS)
def test_networks(net, dtype, block):
    compared(NETWORKS[net], losses.SoftmaxCrossEntropy(), "labels", optimizers.Adam(1e-2), dtype)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss, dtype):
    function, kind = LOSSES[loss]
    compared(NETWORKS["dense"], function, kind, optimizers.SGD(1e-3), dtype, weights=True)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_optimizers_penalties_and_clipping(optimizer, dtype, block):
    settings = {"l1": 1e-3, "l2": 1e-3, "clip_norm": 0.5}
    compared(NETWORKS["custom"], losses.SoftmaxCrossEntropy(), "labels", optimizer, dtype, **settings)


def test_bytes_are_scaled_on_the_way(block):
    layers = [Standardize(scale=255.0), Dense(8, activation="relu"), Dense(K)]
    compared(layers, losses.SoftmaxCrossEntropy(), "labels", optimizers.Adam(), "float32", bytes_in=True)


def test_a_step_that_is_skipped_changes_nothing(block):
    x, y = data("labels", "float64")
    x = x.copy()
    x[3] = 1e308
    network = xmlp.Network([Dense(8, activation="relu"), Dense(K)], D, dtype="float64", seed=1)
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam", clip_norm=1.0, planned=True)
    before = network.theta.copy()
    with np.errstate(all="ignore"):
        trainer.fit(x[:20], y[:20], epochs=1, batch_size=10, shuffle=False)
    assert trainer.history["skipped"] == [1.0]
    changed = network.theta.copy()
    assert (changed != before).any()
    with np.errstate(all="ignore"), pytest.raises(xmlp.DivergenceError):
        trainer.fit(x[:10], y[:10], epochs=1, batch_size=10, shuffle=False)
    assert (network.theta == changed).all()


def test_single_steps_on_fresh_arrays_are_bound_to_one_program():
    x, y = data("labels", "float32")
    thetas = []
    for planned in (True, False):
        network = xmlp.Network(NETWORKS["dense"], D, seed=1)
        trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer=Sign(), planned=planned)
        for i in range(6):
            trainer.step(np.roll(x, i, axis=0).astype("f4"), np.roll(y, i))
        thetas.append(network.theta)
        if planned:
            assert len(trainer._runner._programs) == 1
    assert np.abs(thetas[0] - thetas[1]).max() < 1e-5


# --- predictions and memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3, 2500])
def test_predictions(rows, rng):
    network = xmlp.mlp([40, 30, K], activation="tanh", seed=3)
    for _ in range(2):  # the second time it is bound
        x = rng.normal(size=(rows, 40)).astype("f4")
        expected = network.pass_forward(network.theta, network.stats, x, training=False)[0]
        assert np.abs(network.predict(x) - expected).max() <= 1e-5


def test_threads_may_predict_at_once(rng):
    network = xmlp.mlp([40, 64, K], activation="tanh", seed=3)
    inputs = [rng.normal(size=(300, 40)).astype("f4") for _ in range(4)]
    expected = [network.predict(x) for x in inputs]
    wrong = []

    def predict(i):
        wrong.extend(i for _ in range(50) if (network.predict(inputs[i]) != expected[i]).any())

    threads = [threading.Thread(target=predict, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_pass_over_a_large_array_needs_room_for_a_block_only():
    x = np.linspace(-1, 1, 2_000_000, dtype="f4")
    out = np.zeros_like(x)
    tracer = Tracer()
    symbol = tracer.input("x", x.shape, "float32")
    made = plan([("y", (XP.tanh(symbol) * XP.exp(symbol) + XP.sqrt(XP.abs(symbol))).node)])
    tracemalloc.start()
    replay.Program(made, {"x": x, "y": out}).run(np.zeros((1, 0)), None, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 4
    assert np.abs(out - (np.tanh(x) * np.exp(x) + np.sqrt(np.abs(x)))).max() < 1e-6

"""What is special to plans replayed by NumPy: blocks, and the room that they need."""

import sys
import threading
import tracemalloc

import numpy as np
import pytest

import xmlp
from xmlp.compiler.planner import plan
from xmlp.compiler.tensor import XP, Tracer, TracingBackend
from xmlp.layers import random_bits
from xmlp.runtime import replay


@pytest.fixture(autouse=True)
def without_llvmlite(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)


@pytest.fixture(params=[replay.BLOCK, 7], ids=["whole", "blocks"])
def block(request, monkeypatch):
    """Kernels in one block, and in many."""
    monkeypatch.setattr(replay, "BLOCK", request.param)


def replayed(function, arrays, dtype="float32"):
    """What a traced function of arrays (and of a namespace) computes; its results are outputs of a plan."""
    tracer = Tracer()
    symbols = [tracer.input(f"in{i}", a.shape, str(a.dtype)) for i, a in enumerate(arrays)]
    results = function(TracingBackend(tracer, dtype), *symbols)
    results = results if isinstance(results, tuple) else (results,)
    outs = {f"out{i}": np.full(r.shape, 77, dtype=r.dtype) for i, r in enumerate(results)}
    made = plan([(name, r.node) for name, r in zip(outs, results, strict=True)])
    program = replay.Program(made, {f"in{i}": a for i, a in enumerate(arrays)} | outs)
    program.once()
    return list(outs.values())


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
        for axis in (None, 0, -1):
            got = replayed(lambda b, x, axis=axis: XP.sum(2.0 * x, axis=axis), [x], dtype)[0]
            assert np.abs(got - 2 * x.sum(axis=axis)).max() <= 100 * np.finfo(dtype).eps


def test_new_states_in_the_place_of_old_ones_that_are_read_once_more(rng, block):
    x, y = rng.normal(size=(2, 5, 7)).astype("f4")
    expected = {"x": x - y, "y": x * y}
    tracer = Tracer()
    a, b = (tracer.input(name, x.shape, "float32") for name in ("x", "y"))
    arrays = {"x": x.copy(), "y": y.copy()}
    replay.Program(plan([("x", (a - b).node), ("y", (a * b).node)]), arrays).once()
    for name, value in expected.items():
        assert (arrays[name] == value).all()


@pytest.mark.parametrize("kept", ["condition", "otherwise"])
def test_a_choice_between_an_old_value_and_another_in_its_place(kept, rng, block):
    x, y = rng.normal(size=(2, 5, 7)).astype("f4")
    expected = np.where(y > 0, x, y) if kept == "condition" else np.where(y > 0, y, x)
    tracer = Tracer()
    a, b = (tracer.input(name, x.shape, "float32") for name in ("x", "y"))
    chosen = XP.where(b > 0, a, b) if kept == "condition" else XP.where(b > 0, b, a)
    replay.Program(plan([("x", chosen.node)]), {"x": x, "y": y}).once()
    assert (x == expected).all()


def test_numbers_made_of_scalars(dtype):
    tracer = Tracer()
    x = tracer.input("x", (3,), dtype)
    key, rate = tracer.scalar("key", "int32"), tracer.scalar("rate", "float")
    made = plan([("y", (x * (rate * 0.5) + XP.astype(XP.astype(x, "int32") + ((key ^ 5) >> 1), dtype) + x**3).node)])
    y = np.zeros(3, dtype=dtype)
    arrays = {"x": np.asarray([1.0, 2.0, -3.0], dtype=dtype), "y": y}
    columns = {"key": [70, 64], "rate": [9.0, 3.0]}
    table = np.asarray([columns[name] for name in made.scalars]).T
    program = replay.Program(made, arrays)
    for steps, key, rate in ((1, 70, 9.0), (2, 64, 3.0)):
        program.run(table[:steps], None, 0)
        x = arrays["x"]
        assert (y == x * (rate * 0.5) + (x.astype("int32") + ((key ^ 5) >> 1)) + x**3).all()


# --- predictions and memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3, 2500])
def test_predictions(rows, rng):
    network = xmlp.mlp([40, 30, 4], activation="tanh", seed=3)
    for _ in range(2):  # the second time it is bound
        x = rng.normal(size=(rows, 40)).astype("f4")
        expected = network.chain.pass_forward(network.theta, network.stats, x, training=False)[0]
        assert np.abs(network.predict(x) - expected).max() <= 1e-5


def test_threads_may_predict_at_once(rng):
    network = xmlp.mlp([40, 64, 4], activation="tanh", seed=3)
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


@pytest.mark.parametrize("shape", [(2_000_000,), (20_000, 100)])
def test_a_pass_over_a_large_array_needs_room_for_a_block_only(shape):
    x = np.linspace(-1, 1, 2_000_000, dtype="f4").reshape(shape)
    out = np.zeros_like(x)
    tracer = Tracer()
    symbol = tracer.input("x", x.shape, "float32")
    made = plan([("y", (XP.tanh(symbol) * XP.exp(symbol) + XP.sqrt(XP.abs(symbol))).node)])
    tracemalloc.start()
    replay.Program(made, {"x": x, "y": out}).once()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 4
    assert np.abs(out - (np.tanh(x) * np.exp(x) + np.sqrt(np.abs(x)))).max() < 1e-6


def test_binding_inputs_again_takes_no_more_room(rng, monkeypatch):
    asked = []
    monkeypatch.setattr(replay.memory, "aligned", lambda size: asked.append(size) or np.zeros(size, dtype=np.uint8))
    network = xmlp.mlp([200, 64, 4], activation="gelu", seed=3)
    counts = []
    for _ in range(4):
        network.predict(rng.normal(size=(300, 200)).astype("f4"))  # too large to be copied, so it is bound
        counts.append(len(asked))
    assert counts[0] > 2
    assert len(set(counts)) == 1

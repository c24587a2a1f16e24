"""Batches of many sizes: the results of each size alone, and plans, programs, kernels and files that do not add up."""

import gc
import importlib
import sys
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import xmlp
from xmlp import optimizers
from xmlp.backends._numpy import NumpyBackend
from xmlp.compiler import tensor_graph
from xmlp.compiler.rows import Extent, Size, Validity, at, same
from xmlp.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, Residual, Standardize
from xmlp.runtime import programs
from xmlp.training import planned

FEATURES, CLASSES = 20, 3
SIZES = [50, 1, 2, 3, 5, 16, 17, 20, 31, 32, 33, 100, 333, 1, 50, 7]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(500, FEATURES))
LABELS = RNG.integers(0, CLASSES, 500)
WEIGHTS = RNG.random(500)

NETWORKS: dict[str, list[Any]] = {
    "relu": [Dense(32, "relu"), Dense(CLASSES)],
    "batch norm": [Dense(24), BatchNorm(), Activation("tanh"), Dense(CLASSES)],
    "layer norm": [Standardize(mean=0.5, scale=2.0), Dense(24, "gelu"), LayerNorm(), Dense(CLASSES)],
    "dropout": [Dropout(0.2), Dense(32, "relu"), Dropout(0.5), Dense(CLASSES)],
    "residual": [Dense(16, "silu"), Residual([Dense(16, "relu"), BatchNorm(), Dense(16)]), Dense(CLASSES)],
}
SETTINGS: dict[str, dict[str, Any]] = {"plain": {}, "penalties": {"l1": 1e-4, "l2": 1e-3, "clip_norm": 0.5}}


@pytest.fixture
def each_size_alone(monkeypatch):
    """A context in which every shape has a plan of its own, with the number of rows written into it."""

    def alone(step, state, batch):
        return planned.graph_of(step, state, batch, batch.size)

    def use(driver="native"):
        monkeypatch.setattr(planned, "trace", alone)
        monkeypatch.setattr(NumpyBackend, "serves_any_rows", lambda self: False)
        made = importlib.import_module(f"xmlp.runtime.{driver}").Program
        monkeypatch.setattr(NumpyBackend, "program", lambda self, plan, arrays, rows=None: made(plan, arrays))

    return use


def stepped(layers, sizes=SIZES, dtype="float32", weighted=False, planned=True, **settings):
    """The parameters, statistics and predictions after a step of each size and an epoch with a smaller last batch."""
    network = xmlp.Network(layers, FEATURES, dtype=dtype, seed=3)
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam", planned=planned, **settings)
    found = []
    for n in sizes:
        trainer.step(X[:n], LABELS[:n], sample_weight=WEIGHTS[:n] if weighted else None)
        found += [network.theta.copy(), network.stats.copy(), network.predict(X[-n:])]
    trainer.fit(X[:150], LABELS[:150], sample_weight=WEIGHTS[:150] if weighted else None, epochs=2, batch_size=64)
    return [*found, network.theta.copy(), network.predict(X)], trainer


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_size_has_the_bits_that_it_has_alone(name, settings, weighted, dtype, each_size_alone):
    pytest.importorskip("llvmlite")
    mine, _ = stepped(NETWORKS[name], dtype=dtype, weighted=weighted, **SETTINGS[settings])
    each_size_alone()
    alone, _ = stepped(NETWORKS[name], dtype=dtype, weighted=weighted, **SETTINGS[settings])
    assert all(a.tobytes() == b.tobytes() for a, b in zip(mine, alone, strict=True))


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_size_has_its_bits_without_llvmlite(name, weighted, each_size_alone, monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    mine, trainer = stepped(NETWORKS[name], weighted=weighted, **SETTINGS["penalties"])
    assert {type(p).__module__ for p in trainer.run.runner._programs.values()} == {"xmlp.runtime.replay"}
    assert len({id(plan) for plan in trainer.run.runner._plans.values()}) <= 6
    each_size_alone("replay")
    alone, _ = stepped(NETWORKS[name], weighted=weighted, **SETTINGS["penalties"])
    assert all(a.tobytes() == b.tobytes() for a, b in zip(mine, alone, strict=True))


def test_shared_calls_have_the_bits_that_they_have_alone(each_size_alone):
    """Steps so large that they are cut for several threads, and programs that hold more than is resized."""
    pytest.importorskip("llvmlite")
    layers, sizes = [Dense(200, "relu"), Dense(100, "tanh"), Dense(CLASSES)], [300, 400, 64, 500, 1, 300]
    mine, _ = stepped(layers, sizes)
    each_size_alone()
    alone, _ = stepped(layers, sizes)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(mine, alone, strict=True))


@pytest.mark.parametrize("sizes", [(3000, 300), (20000, 1000, 7), (5000, 2000, 5000)])
def test_small_batches_after_the_large_ones_that_the_plan_was_made_for(sizes, each_size_alone):
    """Whose calls threads share: the tables of the small ones are not cut as those of the large ones."""
    x, y = RNG.normal(size=(max(sizes), FEATURES)), RNG.integers(0, CLASSES, max(sizes))

    def fitted():
        network = xmlp.Network([Dense(32, "relu"), Dense(1)], FEATURES, seed=3)
        trainer = xmlp.Trainer(network, loss="squared_error", optimizer="adam")
        for n in sizes:
            trainer.step(x[:n], y[:n, None])
        return network.arrays()["theta"]

    together = fitted()
    each_size_alone()
    np.testing.assert_array_equal(together, fitted())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_plan_that_is_printed_is_that_of_its_size(name):
    network = xmlp.Network(NETWORKS[name], FEATURES)
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam")
    for rows in (1, 2, 20, 32, 77):
        batch = planned.Batch(np.zeros((99, FEATURES), "f4"), np.zeros(99, "i4"), None, np.zeros(rows, "i4"))
        state = trainer.run.state(planned.Sums(*(np.zeros((), "f4"),) * 4))
        made = planned.trace(trainer.run.step, state, batch).plan
        plainly = planned.graph_of(trainer.run.step, state, batch, rows).plan
        assert str(made) == str(plainly)
        assert (made.flops, made.bytes, made.work_bytes) == (plainly.flops, plainly.bytes, plainly.work_bytes)
        other = [call.sized(55) for call in made.calls]
        if made.serves(55):
            batch = batch._replace(rows=np.zeros(55, "i4"))
            direct = planned.graph_of(trainer.run.step, state, batch, 55).plan
            assert [(c.title, c.flops, c.bytes) for c in other] == [(c.title, c.flops, c.bytes) for c in direct.calls]


def test_predictions_of_large_and_small_batches_in_turn():
    """With programs of their own, those that are resized, and inputs that are copied and not."""
    network = xmlp.mlp([FEATURES, 300, CLASSES], seed=1)
    rows = RNG.normal(size=(2000, FEATURES))
    alone = xmlp.mlp([FEATURES, 300, CLASSES], seed=1).predict(rows)
    for n in (2000, 415, 1500, 420, 1, 2000, 50, 1999, 300, 410, 2, 800, 411):
        assert np.abs(network.predict(rows[:n]) - alone[:n]).max() < 1e-5


# --- counts -----------------------------------------------------------------------------------------------------------


def many(count=400):
    return [int(n) for n in np.random.default_rng(1).permutation(np.arange(5, 501))[:count]]


def fitting():
    model = pytest.importorskip("xmlp.estimators").MLPClassifier((32,), random_state=0)
    model.partial_fit(X[:50], LABELS[:50], classes=[0, 1, 2])
    return lambda n: model.partial_fit(X[:n], LABELS[:n])


def stepping():
    network = xmlp.mlp([FEATURES, 32, CLASSES], normalization="batch", dropout=0.1)
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam", clip_norm=1.0)
    return lambda n: trainer.step(X[:n], LABELS[:n], sample_weight=WEIGHTS[:n])


def predicting():
    network = xmlp.mlp([FEATURES, 32, CLASSES], normalization="layer")
    network.link = "softmax"
    return lambda n: network.predict_proba(X[:n])


@pytest.mark.parametrize("use", [fitting, stepping, predicting])
def test_kernels_do_not_depend_on_how_many_sizes_there_are(use, monkeypatch):
    native = pytest.importorskip("xmlp.runtime.native")
    used, made, traced = use(), [], []
    monkeypatch.setattr(
        native.Compiler, "_compiled", lambda self, text, f=native.Compiler._compiled: made.append(text) or f(self, text)
    )
    monkeypatch.setenv("XMLP_CACHE", "off")
    plan = tensor_graph.plan
    monkeypatch.setattr(tensor_graph, "plan", lambda *a: traced.append(0) or plan(*a))
    for n in (50, 1, FEATURES, 32, 33):
        used(n)
    made.clear()
    traced.clear()
    for n in many():
        used(n)
    assert len(made) <= 2, "kernels that were compiled for a size"
    assert len(traced) <= 4, "plans that were made for a size"


def test_plans_and_programs_are_few_and_hold_little():
    pytest.importorskip("llvmlite")
    network = xmlp.mlp([FEATURES, 32, CLASSES])
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam")
    for n in many():
        trainer.step(X[:n], LABELS[:n])
        network.predict(X[:n])
    (predictor,) = network.predictor.passes.values()
    for plans, kept in (
        (trainer.run.runner._plans, trainer.run.runner._programs),
        (predictor._plans, predictor._local.programs),
    ):
        assert len(plans.values()) <= 6
        assert len(kept) <= 6
        assert sum(p.arrays["work"].nbytes for p in kept.values()) < 1 << 22


def test_plans_that_are_made_for_each_size_have_a_bound(each_size_alone):
    each_size_alone()
    network = xmlp.mlp([4, 3, 2])
    trainer = xmlp.Trainer(network, loss="squared_error", optimizer="sgd")
    for n in range(1, programs.MOST_PLANS + 20):
        trainer.step(X[:n, :4], X[:n, :2])
    assert len(trainer.run.runner._plans.values()) == programs.MOST_PLANS
    assert len(trainer.run.runner._programs) <= programs.MOST


def test_temperatures_are_kept_up_to_a_number():
    network = xmlp.mlp([FEATURES, 8, CLASSES], seed=1)
    network.link = "softmax"
    z = network.predict(X[:10])
    for temperature in np.linspace(0.5, 4.0, 40):
        network.temperature = float(temperature)
        e = np.exp(z / temperature)
        assert np.abs(network.predict_proba(X[:10]) - e / e.sum(axis=1, keepdims=True)).max() < 1e-6
    assert len(network.predictor.passes) <= 8


# --- machine code in memory -------------------------------------------------------------------------------------------


def test_code_goes_with_the_last_program_that_uses_it(monkeypatch):
    native = pytest.importorskip("xmlp.runtime.native")
    monkeypatch.setattr(native, "_compilers", [])
    monkeypatch.setattr(native, "_MOST_CODE", 8_000)
    kept, held = weakref.WeakSet(), []

    def compilers(trainer):
        return [program._compiler for program in trainer.run.runner._programs.values()]

    def trained(l2):
        network = xmlp.mlp([FEATURES, 8, CLASSES], seed=1)
        trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam", l2=l2)
        trainer.step(X[:50], LABELS[:50])
        kept.update(compilers(trainer))
        return trainer

    first = trained(1e-3)
    for i in range(12):
        trained(1e-5 * (i + 1))
        gc.collect()
        held.append(len(kept))
        assert native.compiler().code_bytes < 8_000 + 20_000
    assert max(held) <= 3, "that of the first program, the present one, and one in between"
    assert native.compiler() not in compilers(first)
    again = trained(1e-3)
    for trainer in (first, again):
        trainer.step(X[:70], LABELS[:70])
    assert (first.network.theta == again.network.theta).all(), "the code of an old program still runs"


# --- what layers and losses of others do with the number of rows ------------------------------------------------------


@dataclass(frozen=True)
class Reading(Layer):
    """y = x (1 + f(N) / 1000) with a function that uses the number of rows."""

    how: str

    def build(self, in_features):
        return in_features, {}

    def factor(self, ctx, x):
        n = x.shape[0]
        return {
            "float": lambda: 1.0 / float(n),
            "int": lambda: 1.0 / int(n),
            "division": lambda: 3.0 / n + n / 7 - n // 3 + n % 4 + (-n) ** 2 / 1e4,
            "root": lambda: n**0.5,
            "branch": lambda: 2.0 if n > 10 else 0.5,
            "chain": lambda: 2.0 if 3 < n <= 40 else 0.5,
            "one number": lambda: 2.0 if n == 33 else 0.5,
            "another number": lambda: 2.0 if n != 33 else 0.5,
            "extremes": lambda: 1.0 * max(n - 1, 1) + min(n, 40),
            "key": lambda: {16: 2.0, 33: 3.0}.get(n, 1.0),
            "text": lambda: float(len(str(n)) + len(f"{n:05d}")),
            "index": lambda: float([0.5, 2.0, 3.0][n % 3]),
            "range": lambda: float(sum(range(n))),
            "truth": lambda: 2.0 if n - 16 else 0.5,
            "numpy": lambda: float(np.sqrt(n)),
            "a numpy number": lambda: np.float64(2.0) * n,
            "shape": lambda: 2.0 if tuple(x.shape) == (16, FEATURES) else 0.5,
        }[self.how]()

    def forward(self, params, x, ctx):
        f = 1.0 + 1e-3 * self.factor(ctx, x)
        return x * f, f

    def backward(self, params, cache, dy, ctx):
        return dy * cache, {}


@dataclass(frozen=True)
class Mixing(Layer):
    """y = K x or x + a sum over the batch, with matrices of as many rows, or columns, as the batch has."""

    how: str

    def build(self, in_features):
        return in_features, {}

    def forward(self, params, x, ctx):
        xp, n = ctx.xp, x.shape[0]
        if self.how == "square":
            return (x @ xp.matrix_transpose(x)) @ x * (1.0 / n), x
        if self.how == "flat":
            return xp.reshape(xp.reshape(x, (-1,)) * 2.0, x.shape), x
        if self.how == "flat by number":
            return xp.reshape(xp.reshape(x, (n * x.shape[1],)) * 2.0, (n, -1)), x
        if self.how == "numbered":
            return x + xp.astype(xp.reshape(ctx.index(n), (n, 1)), x.dtype) * 0.01, x
        return x + xp.sum(x, axis=0) / n, x

    def backward(self, params, cache, dy, ctx):
        return dy, {}


HOW = [
    "float", "int", "division", "root", "branch", "chain", "one number", "another number", "extremes", "key", "text",
    "index", "range", "truth", "numpy", "a numpy number", "shape",
]  # fmt: skip


def compared(layers):
    """Planned and plain results after steps of many sizes."""
    sizes = [50, 1, 3, 16, 20, 33, 32, 16]
    settings = {"dtype": "float64", "clip_norm": 1.0}
    (mine, trainer), (plain, _) = (stepped(layers, sizes, planned=how, **settings) for how in (None, False))
    for a, b in zip(mine, plain, strict=True):
        assert np.abs(a - b).max(initial=0.0) < 1e-9 * max(1.0, np.abs(b).max(initial=0.0))
    return trainer


@pytest.mark.parametrize("how", HOW)
def test_a_layer_may_use_the_number_of_rows(how):
    compared([Dense(8, "tanh"), Reading(how), Dense(CLASSES)])


@pytest.mark.parametrize("how", ["square", "flat", "flat by number", "numbered", "sum"])
def test_a_layer_may_mix_the_rows(how):
    compared([Dense(8, "tanh"), Mixing(how), LayerNorm(), Dense(CLASSES)])


def test_why_each_size_has_a_plan_of_its_own_is_kept():
    layers = [Dense(8, "tanh"), Mixing("square"), LayerNorm(), Dense(CLASSES)]
    network = xmlp.Network(layers, FEATURES)
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam")
    assert trainer.reason_for_sizes is None
    trainer.step(X[:20], LABELS[:20])
    network.predict(X[:20])
    network.loss_value(X[:20], LABELS[:20], "softmax_cross_entropy")
    kept = [trainer, *network.predictor.passes.values(), *network.evaluations.kept]
    assert len(kept) == 3
    for function in kept:
        assert "square of the number of rows" in function.reason_for_sizes
    trainer.change(l2=0.1)
    assert "square of the number of rows" in trainer.reason_for_sizes
    assert trainer.plan_reason is None


def test_what_is_planned_for_any_number_of_rows_has_no_reason_against_it():
    network = xmlp.Network([Dense(8, "tanh"), Dense(CLASSES)], FEATURES)
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam")
    trainer.fit(X[:40], LABELS[:40], epochs=1, batch_size=16)
    network.predict(X)
    (kept,) = network.predictor.passes.values()
    assert trainer.reason_for_sizes is kept.reason_for_sizes is None


@pytest.mark.parametrize(("how", "together"), [("division", True), ("extremes", True), ("int", False)])
def test_what_is_calculated_of_the_number_makes_no_plan_of_its_own(how, together):
    pytest.importorskip("llvmlite")
    trainer = compared([Dense(8, "tanh"), Reading(how), Dense(CLASSES)])
    assert (len(trainer.run.runner._plans.values()) <= 5) == together


# --- the number of rows as a symbol -----------------------------------------------------------------------------------


def test_a_size_is_calculated_for_any_number():
    validity = Validity()
    n = Size.of(validity, Extent(6, 1))
    for value, expected in (
        (n + 1, 10), (1 - n, -8), (2 * n, 18), (n / 2, 4.5), (5 // n, 0), (n % 4, 1), (2**n, 512), (-n, -9),
        (2.0 * (n - 1) / n, 16 / 9),
    ):  # fmt: skip
        assert value.at(9) == expected
    assert (n * 4).extent().factor == (4 * n).extent().factor == 4
    assert (n * 4 // 2).extent().factor == 2
    assert not validity.pinned
    assert n > 5
    assert validity.holds(9)
    assert not validity.holds(5), "the answer would be another"
    assert not validity.holds(1), "one row is a case of its own"
    assert [int(n), float(n), n.__index__(), hash(n), repr(n), f"{n:3}"] == [6, 6.0, 6, hash(6), "6", "  6"]
    assert validity.pinned
    assert not validity.holds(9)


def test_lengths_that_are_equal_by_chance_are_told_apart():
    rows = Extent(20, 1)
    assert same(rows, Extent(20, 1))
    assert not same(rows, 21)
    with pytest.raises(TypeError, match="by chance"):
        same(rows, 20)
    with pytest.raises(TypeError, match="square"):
        rows * rows
    with pytest.raises(TypeError, match="divided by 3"):
        rows // 3
    assert (rows * 6) // (rows * 2) == 3
    assert at((rows * 6) // 2, 5) == 15
    assert at(7, 5) == 7


def test_recent_values_are_kept_and_the_first_of_a_key_stays():
    recent = programs.Recent[int, str](2)
    assert [recent.add(1, "a"), recent.add(1, "b"), recent.add(2, "c"), recent.add(3, "d")] == ["a", "a", "c", "d"]
    assert recent.items() == [(3, "d"), (2, "c")]
    assert recent.find(1) is None
    recent.clear()
    assert len(recent) == 0


@pytest.mark.parametrize("rule", [optimizers.SGD(0.01), optimizers.AdamW(1e-3)], ids=["sgd", "adamw"])
def test_streams_of_any_sizes_are_the_plain_ones(rule):
    thetas = []
    for how in (None, False):
        network = xmlp.mlp([FEATURES, 16, CLASSES], dtype="float64", seed=2)
        trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer=rule, planned=how)
        for n in [3, 100, 16, 1, 250, 2, 16, 3]:
            trainer.step(np.roll(X, n, axis=0)[:n], np.roll(LABELS, n)[:n])
        thetas.append(network.theta)
    assert np.abs(thetas[0] - thetas[1]).max() < 1e-10

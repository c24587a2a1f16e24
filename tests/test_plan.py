"""Plans: the same numbers as the plain path from either driver, for every formula and for whole training runs."""

import contextlib
import sys
import warnings
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

import xmlp
from xmlp import activations, losses, optimizers
from xmlp.compiler import tensor_graph
from xmlp.compiler.calls import Kernel, Product
from xmlp.compiler.llvm import emit
from xmlp.compiler.planner import plan
from xmlp.compiler.tensor import PlanError, Tracer, TracingBackend
from xmlp.graph import Formula, elementwise
from xmlp.layers import (
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LayerNorm,
    ParamSpec,
    Residual,
    Standardize,
    random_bits,
)  # fmt: skip
from xmlp.layers.dropout import masked
from xmlp.runtime import programs, replay
from xmlp.training.planned import PlannedRunner
from xmlp.training.step import Runner

# emitted code may differ by rounding: in ulps of max(1, |value|) for what has transcendental functions in float32
TOLERANCE = {"float32": 5e-7, "float64": 1e-15}


@pytest.fixture(params=["compiled", "replayed", "in small blocks"])
def driver(request, monkeypatch):
    """What runs a plan: machine code, or array operations as where llvmlite is not installed."""
    if request.param == "compiled":
        pytest.importorskip("llvmlite")
        return "xmlp.runtime.native"
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    if request.param == "in small blocks":
        monkeypatch.setattr(replay, "BLOCK", 7)
    return "xmlp.runtime.replay"


def run_formula(formula, arrays, scalars):
    """A formula through trace, plan and a driver; returns its outputs."""
    tracer = Tracer()
    dtype = (
        next(str(a.dtype) for a in arrays if a.dtype.kind == "f")
        if any(a.dtype.kind == "f" for a in arrays)
        else "float32"
    )
    symbols = [tracer.input(f"in{i}", a.shape, str(a.dtype)) for i, a in enumerate(arrays)]
    results = TracingBackend(tracer, dtype).apply(formula, *symbols, **scalars)
    results = results if isinstance(results, tuple) else (results,)
    outs = {f"out{i}": np.full(r.shape, 77, dtype=r.dtype) for i, r in enumerate(results)}
    made = plan([(name, r.node) for name, r in zip(outs, results, strict=True)])
    bound = {f"in{i}": a for i, a in enumerate(arrays)} | outs
    xmlp.backend("numpy").program(made, bound).run(np.zeros((1, len(made.scalars))), np.zeros(0, np.int32), 0)
    return list(outs.values())


def built_in_formulas():
    found = []
    for f in activations.ACTIVATIONS.values():
        if isinstance(f, Formula):
            found += [f for f in (f, f.derivative, f.pullback) if f.graph.used]
    for f in (
        losses.elementwise.squared_error.bind(factor=0.5), losses.elementwise.absolute_error,
        losses.elementwise.huber.bind(delta=1.0),
        losses.cross_entropy.cross_entropy_at_logit,
    ):  # fmt: skip
        found += [f, f.derivative]
    return found


SPECIAL = [0.0, -0.0, 1e-30, -1e-30, 1e-40, 1.0, -1.0, 20.0, -20.0,
           88.0, -88.0, 104.0, -104.0, 709.0, -709.0, 1e4, -1e4,
           3e38, -3e38, np.inf, -np.inf, np.nan]  # fmt: skip


def close(got, expected, dtype, factor=1.0):
    assert got.dtype == expected.dtype
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    with np.errstate(all="ignore"):
        error = np.abs(got - expected) / np.maximum(1.0, np.abs(expected))
    worst = float(np.max(np.where(same, 0.0, error), initial=0.0))
    assert worst <= factor * TOLERANCE[dtype], worst
    return worst


@pytest.mark.parametrize("formula", built_in_formulas(), ids=lambda f: f.name)
def test_every_formula_against_the_plain_evaluation(formula, dtype, driver, rng, record_property):
    worst, factor = 0.0, 8.0 if "mish" in formula.name else 1.0  # x (1 - tanh^2): ill-conditioned for large x
    for size in (0, 1, 3, 17, 4097 if replay.BLOCK > 7 else 50):
        arrays = [rng.normal(scale=4, size=size), *(rng.uniform(-1, 1, size) for _ in formula.arrays[1:])]
        arrays = [a.astype(dtype) for a in arrays]
        worst = max(worst, close(run_formula(formula, arrays, {})[0], formula(*arrays), dtype, factor))
    special = np.asarray(SPECIAL, dtype=dtype)
    arrays = [special, *(np.full_like(special, 0.5) for _ in formula.arrays[1:])]
    if formula.name.endswith("_pullback"):
        with np.errstate(all="ignore"):
            arrays[1] = activations.ACTIVATIONS[formula.name.removesuffix("_pullback")](special)
    with np.errstate(all="ignore"):
        expected = formula(*arrays)
    worst = max(worst, close(run_formula(formula, arrays, {})[0], expected, dtype, factor))
    record_property("largest error", worst)


@pytest.mark.parametrize("optimizer", [
    optimizers.SGD(0.1), optimizers.SGD(0.1, momentum=0.9), optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    optimizers.Adagrad(0.1), optimizers.RMSProp(0.1), optimizers.Adam(0.1), optimizers.AdamW(0.1),
], ids=repr)  # fmt: skip
def test_every_update_rule(optimizer, dtype, driver, rng):
    count = 1 + 1 + len(optimizer.slots)
    arrays = [np.abs(rng.normal(size=333)).astype(dtype) for _ in range(count)]
    scalars = optimizer.scalars(0.1, 3)
    got = run_formula(optimizer.rule, arrays, scalars)
    expected = optimizer.rule(*arrays, **scalars)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for g, e in zip(got, expected, strict=True):
        close(g, e, dtype)


def test_random_bits_are_identical(driver):
    element = np.arange(10_000, dtype=np.int32)
    keys = {"first": 0x12345678, "second": -5}
    expected = random_bits(element, **keys)
    assert (run_formula(random_bits, [element], keys)[0] == expected).all()
    x = np.linspace(-1, 1, 10_000, dtype=np.float32)
    settings = {"threshold": 17, "scale": 1.25}
    assert (run_formula(masked, [x, expected], settings)[0] == masked(x, expected, **settings)).all()


@elementwise
def everything(xp, x, n: int, *, k: int, s=0.25):
    """Every operation of the vocabulary that the built-in formulas leave out."""
    h = ((n + k) * 3 - 1) ^ (n << 2) & ~n | (n >> 1)
    test = ((h > 0) & (x < s)) | ~(x != 0.5) ^ xp.logical_not(x <= -1.0)
    test = xp.logical_or(test, xp.logical_and(xp.isfinite(x), h == 3))
    y = xp.where(test, xp.abs(x) ** 1.5, xp.minimum(x, s * 2.0) / (1.0 + xp.square(x)))
    return (
        xp.sqrt(xp.abs(y))
        + xp.astype(h, x.dtype) * 1e-3
        - xp.maximum(-x, y)
        + xp.astype(xp.astype(x, xp.int32), x.dtype)
    )


def test_the_whole_vocabulary(dtype, driver, rng):
    x, n = rng.normal(size=501).astype(dtype), rng.integers(-1000, 1000, 501).astype(np.int32)
    close(run_formula(everything, [x, n], {"k": 7})[0], everything(x, n, k=7), dtype)


# --- whole training runs ---------------------------------------------------------------------------------------------


@elementwise
def snake(xp, x, *, a=2.0):
    return x + xp.tanh(a * x) ** 2 / a


@dataclass(frozen=True)
class Gate(Layer):
    """A user's layer: y = x s, with a learnt factor per feature."""

    def build(self, in_features):
        return in_features, {"s": ParamSpec((in_features,), "ones", decay=False, lr_scale=0.5)}

    def forward(self, params, x, ctx):
        return x * params["s"], x

    def backward(self, params, x, dy, ctx):
        return dy * params["s"], {"s": ctx.xp.sum(dy * x, axis=-2)}


@dataclass(frozen=True)
class Sign(optimizers.Optimizer):
    """A user's optimizer, whose scalars do not take arrays."""

    lr: float = 1e-3
    slots = ("m",)

    @property
    def rule(self):
        return sign_rule

    def scalars(self, lr, step, decay=True):
        return {"lr": lr, "beta": 0.9 if step > 2 else 0.5}


@elementwise
def sign_rule(xp, theta, grad, m, *, lr, beta):
    m = beta * m + (1.0 - beta) * grad
    return theta - lr * xp.where(m > 0, 1.0, xp.where(m < 0, -1.0, 0.0)), m


N, D, K = 70, 6, 4
NETWORKS = {
    "dense": [Dense(16, activation="relu"), Dense(K)],
    "no bias": [Dense(16, activation="tanh", use_bias=False), Dense(K, use_bias=False)],
    "everything": [
        Standardize(mean=0.1, scale=2.0), Dropout(0.2), Dense(16, use_bias=False), BatchNorm(), Activation("gelu"),
        Dropout(0.3), Residual([LayerNorm(), Dense(16, activation="sigmoid"), Dropout(0.1)]),
        Dense(8, activation="mish"),
        Dense(K),
    ],
    "softmax output": [Dense(8, activation="selu"), Dense(K, activation="softmax")],
    "custom": [Gate(), Dense(16, activation=snake), Gate(), Dense(K)],
    "one layer": [Dense(K)],
}  # fmt: skip
LOSSES = {
    "softmax": (losses.SoftmaxCrossEntropy(), "labels"),
    "one-hot sum": (losses.SoftmaxCrossEntropy(reduction="sum"), "one-hot"),
    "binary": (losses.BinaryCrossEntropy(), "one-hot"),
    "huber": (losses.Huber(), "reals"),
}
OPTIMIZERS = [optimizers.SGD(0.01, momentum=0.9, nesterov=True), optimizers.Adam(1e-2), optimizers.RMSProp(1e-3),
              optimizers.AdamW(xmlp.schedules.Cosine(1e-2, 30, warmup_steps=5), weight_decay=0.1), Sign()]  # fmt: skip


def data(kind, dtype, bytes_in=False):
    rng = np.random.default_rng(3)
    x = rng.integers(0, 200, (N, D)).astype(np.uint8) if bytes_in else rng.normal(size=(N, D))
    labels = np.arange(N) % K
    return x, {"labels": labels, "one-hot": np.eye(K)[labels], "reals": rng.normal(size=(N, K))}[kind]


def train(layers, loss, y_kind, optimizer, dtype, planned, weights=False, bytes_in=False, **kw):
    network = xmlp.Network(layers, D, dtype=dtype, seed=5)
    trainer = xmlp.Trainer(network, loss=loss, optimizer=optimizer, planned=planned, seed=9, **kw)
    x, y = data(y_kind, dtype, bytes_in)
    w = np.linspace(0, 2, N) if weights else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.fit(x, y, epochs=3, batch_size=16, sample_weight=w)
    return trainer


def compare(driver, layers, loss, kind, optimizer, dtype, **kw):
    fast, plain = (train(layers, loss, kind, optimizer, dtype, planned, **kw) for planned in (True, False))
    assert isinstance(fast.run.runner, PlannedRunner)
    assert type(plain.run.runner) is Runner
    assert None not in fast.run.runner._plans.values(), "the step was not planned"
    assert {type(p).__module__ for p in fast.run.runner._programs.values()} == {driver}
    limit = {"float32": 2e-4, "float64": 1e-11}[dtype]
    for a, b in ((fast.network.theta, plain.network.theta), (fast.network.stats, plain.network.stats)):
        assert a.dtype == np.dtype(dtype)
        assert np.abs(a - b).max(initial=0) <= limit * max(1.0, np.abs(b).max(initial=0))
    for name in plain.run.slots:
        scale = np.abs(plain.run.slots[name]).max()
        assert np.abs(fast.run.slots[name] - plain.run.slots[name]).max() <= 10 * limit * scale
    assert fast.history["loss"] == pytest.approx(plain.history["loss"], rel=10 * limit)
    assert fast.steps == plain.steps
    return fast


@pytest.mark.parametrize("net", NETWORKS)
def test_networks(net, dtype, driver):
    compare(driver, NETWORKS[net], losses.SoftmaxCrossEntropy(), "labels", optimizers.Adam(1e-2), dtype)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss, dtype, driver):
    function, kind = LOSSES[loss]
    compare(driver, NETWORKS["dense"], function, kind, optimizers.SGD(1e-3), dtype, weights=True)


@pytest.mark.parametrize("weights", ["rows", "targets"])
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "binary_cross_entropy"])
def test_one_output_with_weights(loss, weights, dtype, driver):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(N, D)), rng.integers(0, 2, (N, 1)).astype(float)
    w = None
    if weights == "rows":
        w = np.linspace(0, 2, N)
    else:
        y[::5] = np.nan
    found = []
    for planned in (True, False):
        network = xmlp.Network([Dense(7, "tanh"), Dense(1)], D, dtype=dtype, seed=2)
        trainer = xmlp.Trainer(network, loss=loss, optimizer="adam", planned=planned)
        trainer.fit(x, y, epochs=3, batch_size=16, sample_weight=w)
        found.append(network.theta)
    assert np.abs(found[0] - found[1]).max() < {"float32": 2e-5, "float64": 1e-12}[dtype]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_optimizers_penalties_and_clipping(optimizer, dtype, driver):
    settings = {"l1": 1e-3, "l2": 1e-3, "clip_norm": 0.5}
    compare(driver, NETWORKS["custom"], losses.SoftmaxCrossEntropy(), "labels", optimizer, dtype, **settings)


def test_bytes_are_scaled_on_the_way(driver):
    layers = [Standardize(scale=255.0), Dense(8, activation="relu"), Dense(K)]
    fast = compare(driver, layers, losses.SoftmaxCrossEntropy(), "labels", optimizers.Adam(), "float32", bytes_in=True)
    made = next(iter(fast.run.runner._plans.values()))
    first = next(
        c for c in made.calls if isinstance(c, Kernel) and any(n.op == "take" for n in c.nodes) and c.columns == D
    )
    assert {n.op for n in first.nodes} >= {"take", "astype", "subtract", "divide"}


def test_steps_that_are_skipped_change_nothing(driver):
    x, y = data("labels", "float64")
    x = x.copy()
    x[3] = 1e308
    results = []
    for planned in (True, False):
        network = xmlp.Network([Dense(8, activation="relu"), Dense(K)], D, dtype="float64", seed=1)
        settings = {"clip_norm": 1.0, "l2": 1e-3, "planned": planned}
        trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="sgd", **settings)
        with np.errstate(all="ignore"):
            trainer.fit(x, y, epochs=1, batch_size=10, shuffle=False)
        results.append((trainer.history["skipped"], network.theta))
        others = xmlp.Network([Dense(8, activation="relu"), Dense(K)], D, dtype="float64", seed=1)
        without = xmlp.Trainer(others, loss="softmax_cross_entropy", optimizer="sgd", **settings)
        without.fit(x[10:], y[10:], epochs=1, batch_size=10, shuffle=False)
        assert np.abs(others.theta - network.theta).max() <= 1e-12
        for name in ("loss", "penalty"):
            assert trainer.history[name] == pytest.approx(without.history[name], rel=1e-12)
    assert results[0][0] == results[1][0] == [1.0]
    assert np.abs(results[0][1] - results[1][1]).max() <= 1e-12


# --- what a plan is --------------------------------------------------------------------------------------------------


def plan_of(sizes, optimizer="adam", batch=128, **kw):
    network = xmlp.mlp(sizes, **kw)
    return xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer=optimizer).plan(batch)


def test_the_plan_of_a_plain_network_has_as_few_calls_as_can_be():
    made = plan_of([784, 512, 512, 10])
    assert sum(isinstance(c, Product) for c in made.calls) == 8
    assert made.launches <= 20
    products = 2 * 128 * (3 * (784 * 512 + 512 * 512 + 512 * 10) - 784 * 512)
    assert sum(c.flops for c in made.calls if isinstance(c, Product)) == products


def test_gradients_lie_in_their_slices_and_the_update_is_one_pass_in_place():
    made = plan_of([20, 16, 4], batch=8)
    products = [c for c in made.calls if isinstance(c, Product) and c.transpose_a]
    assert {c.out.buffer for c in products} == {"held"}
    update = made.calls[-1]
    assert isinstance(update, Kernel)
    assert update.columns == 20 * 16 + 16 + 16 * 4 + 4
    assert {o.place.buffer for o in update.stores.values()} == {"theta", "slot.m", "slot.v"}
    assert {o.place for o in update.stores.values()} < {o.place for o in update.loads.values()}


def test_a_custom_layer_is_fused_like_any_other():
    network = xmlp.Network([Dense(16), Activation(snake), Gate(), Dense(K)], D)
    made = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam").plan(32)
    first = next(c for c in made.calls if isinstance(c, Kernel) and any(n.op == "tanh" for n in c.nodes))
    assert {n.op for n in first.nodes} >= {"add", "tanh", "multiply"}, (
        "bias, activation and the custom layer in one pass"
    )


def test_the_plan_prints():
    text = str(plan_of([784, 512, 512, 10]))
    assert "FLOPs" in text
    assert "product 128 x 784 x 512" in text
    assert text.splitlines()[-1].startswith(f"{len(text.splitlines()) - 2} calls")


def test_kernels_of_one_structure_are_one_whatever_the_size():
    names = [
        {emit(c).name for c in plan_of(s, batch=b).calls if isinstance(c, Kernel)}
        for s, b in (([9, 8, 3], 16), ([30, 20, 5], 16))
    ]
    assert names[0] == names[1]


@dataclass(frozen=True)
class Unplannable(Layer):
    """Uses an operation outside the closed list."""

    def build(self, in_features):
        return in_features, {}

    def forward(self, params, x, ctx):
        return x + 0.0 * ctx.xp.cumulative_sum(x, axis=-1), None

    def backward(self, params, cache, dy, ctx):
        return dy, {}


def test_what_cannot_be_planned_runs_the_plain_way():
    network = xmlp.Network([Dense(8), Unplannable(), Dense(K)], D)
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam")
    x, y = data("labels", "float32")
    with pytest.warns(UserWarning, match=r"without a plan, which is slower: .*cumulative_sum"):
        trainer.fit(x, y, epochs=2)
    assert next(iter(trainer.run.runner._plans.values())) is None
    with pytest.raises(PlanError, match="cumulative_sum"):
        trainer.plan(8)


class SquaredError:
    """A user's loss, in methods that arrays of NumPy have and symbols have not."""

    def fn(self, predictions, targets):
        return (predictions - targets).reshape(-1).__pow__(2)

    def deriv(self, predictions, targets):
        return (2 * (predictions - targets)).copy()


@dataclass(frozen=True)
class Rolled(Unplannable):
    def forward(self, params, x, ctx):
        return x.copy(), None


def test_what_only_arrays_can_do_runs_the_plain_way():
    x, y = data("reals", "float32")
    thetas = []
    for layers, loss in (([Dense(1)], "squared_error"), ([Dense(1), Rolled()], SquaredError())):
        network = xmlp.Network(layers, D)
        slower = contextlib.nullcontext() if loss == "squared_error" else pytest.warns(UserWarning, match="slower")
        with slower:
            network.fit(x, y[:, :1], loss=loss, optimizer="adam", epochs=2)
        thetas.append(network.theta)
        assert np.isfinite(network.predict(x)).all()
    assert np.abs(thetas[0] - thetas[1]).max() < 1e-6


def test_without_the_address_of_a_blas_products_go_through_numpy(monkeypatch):
    pytest.importorskip("llvmlite")
    from xmlp.runtime import native

    monkeypatch.setattr(native, "blas", lambda: None)
    name, adam = native.__name__, optimizers.Adam(1e-2)
    compare(name, NETWORKS["everything"], losses.SoftmaxCrossEntropy(), "labels", adam, "float64")


def test_results_do_not_depend_on_how_steps_are_gathered(driver):
    x, y = data("labels", "float32")
    thetas = []
    for chunk in (1, 2, 64):
        network = xmlp.Network(NETWORKS["everything"], D, seed=2)
        trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam")
        trainer.run.runner.chunk = chunk
        trainer.run.runner._pace = lambda seconds: None
        trainer.fit(x, y, epochs=3, batch_size=8)
        thetas.append(network.theta.tobytes())
    assert len(set(thetas)) == 1


@pytest.mark.parametrize("planned", [True, False])
def test_an_epoch_of_which_every_step_is_skipped_is_a_divergence(planned):
    x, y = data("labels", "float64")
    network = xmlp.Network([Dense(8, activation="relu"), Dense(K)], D, dtype="float64", seed=1)
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="sgd", clip_norm=1.0, planned=planned)
    with np.errstate(all="ignore"), pytest.raises(xmlp.DivergenceError):
        trainer.fit(np.full_like(x, 1e308), y, epochs=1, batch_size=10)


@pytest.mark.parametrize("planned", [True, False])
def test_a_batch_whose_weights_are_all_zero_does_no_harm(planned):
    x, y = data("labels", "float64")
    weights = np.where(np.arange(N) < 32, 0.0, 1.0)
    network = xmlp.Network(NETWORKS["dense"], D, dtype="float64", seed=1)
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam", planned=planned)
    trainer.fit(x, y, epochs=2, batch_size=4, sample_weight=weights, shuffle=False)
    assert np.isfinite(network.theta).all()


def test_single_steps_on_fresh_arrays_use_one_program(driver):
    x, y = data("labels", "float32")
    thetas = []
    for planned in (True, False):
        network = xmlp.Network(NETWORKS["dense"], D, seed=1)
        trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam", planned=planned)
        for i in range(6):
            trainer.step(np.roll(x, i, axis=0).astype("f4"), np.roll(y, i))
        thetas.append(network.theta)
    assert np.abs(thetas[0] - thetas[1]).max() < 1e-5
    runner = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam", planned=True)
    for i in range(6):
        runner.step(np.roll(x, i, axis=0).astype("f4"), y)
    assert len(runner.run.runner._programs) == 1


def test_data_are_let_go_of(driver):
    """After a fit, and after a prediction that is too large to be copied; then both go on."""
    _, y = data("labels", "float32")
    network = xmlp.mlp([200, 64, K])
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam")
    for _ in range(2):
        large = np.ones((N, 200), "f4")
        trainer.fit(large, y, epochs=1)
        network.predict(np.ones((300, 200), "f4"))
        kept = weakref.ref(large)
        del large
        assert kept() is None
        inputs = np.ones((300, 200), "f4")
        first = network.predict(inputs)
        kept = weakref.ref(inputs)
        del inputs
        assert kept() is None
        assert (network.predict(np.ones((300, 200), "f4")) == first).all()


def test_programs_hold_so_much_memory_and_no_more(driver, monkeypatch):
    monkeypatch.setattr(programs, "MOST_BYTES", 200_000)
    compiled = driver == "xmlp.runtime.native"
    if compiled:
        monkeypatch.setattr(f"{driver}._TOGETHER", 100_000)
    network, made = xmlp.mlp([20, 64, K]), []
    program = type(network.backend).program
    monkeypatch.setattr(type(network.backend), "program", lambda *a: made.append(0) or program(*a))
    for _ in range(3):
        for rows in range(1, 12):  # all are kept: they are small
            network.predict(np.zeros((rows, 20)))
    few = 2 if compiled else 11  # machine code: one for a single row, one that is resized for all others
    assert len(made) == few
    for rows in range(2000, 2003):
        network.predict(np.zeros((rows, 20)))
    kept = [
        p.plan.work_bytes + p.plan.held_bytes
        for p in network.predictor.passes[None, False, 1.0]._local.programs.values()
    ]
    assert len(kept) == 2
    network.predict(np.zeros((2002, 20)))
    assert len(made) == few + 3


@pytest.mark.parametrize("layers", [[Dropout(0.0)], [Dropout(0.5), Dense(5), Dropout(0.0)]], ids=["alone", "beside"])
def test_random_layers_that_need_no_bits(layers, driver):
    compare(driver, [*layers, Dense(K)], losses.SoftmaxCrossEntropy(), "labels", optimizers.Adam(1e-2), "float64")


@elementwise
def gated(xp, x, *, k=0.5):
    return x * xp.where(k > 0.2, k, 1.0) + xp.where(x > 0, k, 0.0)


def test_a_choice_between_parameters(driver, dtype):
    layers = [Dense(8, activation=gated), Dense(K)]
    compare(driver, layers, losses.SoftmaxCrossEntropy(), "labels", optimizers.Adam(1e-2), dtype)


@pytest.mark.parametrize("planned", [True, False])
def test_a_divergence_is_told_without_warnings(planned):
    x, y = np.ones((64, 4), "f4"), np.full((64, 1), 1e30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for inputs, targets in ((x, y), (x * 3e38, x[:, :1])):
            trainer = xmlp.Trainer(xmlp.mlp([4, 3, 1]), loss="squared_error", optimizer="adam", planned=planned)
            with pytest.raises(xmlp.DivergenceError):
                trainer.fit(inputs, targets, epochs=1)
        trainer = xmlp.Trainer(xmlp.mlp([4, 3, 1]), loss="squared_error", optimizer="adam", planned=planned)
        trainer.fit(x, x[:, :1], epochs=1, validation_data=(x, y))
        assert trainer.history["val_loss"] == [np.inf]


def test_planned_by_order_says_why_it_cannot_be():
    network = xmlp.Network([Dense(8), Unplannable(), Dense(K)], D)
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam", planned=True)
    x, y = data("labels", "float32")
    with pytest.raises(xmlp.BackendError, match="cumulative_sum"):
        trainer.fit(x, y, epochs=1)


def test_the_plan_is_the_same_on_every_library(mode):
    network = xmlp.Network(NETWORKS["everything"], D, backend=mode.backend())
    made = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam").plan(16)
    here = xmlp.Network(NETWORKS["everything"], D)
    assert str(made) == str(xmlp.Trainer(here, loss="softmax_cross_entropy", optimizer="adam").plan(16))


@pytest.mark.parametrize("columns", [1, 3])
def test_arrays_of_another_library_whose_rows_are_apart_train_by_a_plan(columns):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(200, columns)).astype(np.float32)
    apart = torch.tensor(np.ascontiguousarray(x.T)).T
    trained = []
    for data in (x, apart):
        network = xmlp.mlp([columns, 4, 1], seed=0)
        trainer = xmlp.Trainer(network, loss="squared_error", optimizer="adam", planned=True)
        trainer.fit(data, data[:, :1], epochs=2)
        assert len(trainer.run.runner._programs)
        trained.append(network)
    assert np.array_equal(trained[0].theta, trained[1].theta)
    assert np.array_equal(trained[0].predict(apart), trained[0].predict(x))


TRANSPOSED = {
    "result": lambda xp, a, b: xp.matrix_transpose(a * 2.0),
    "result, of an input": lambda xp, a, b: xp.matrix_transpose(a),
    "result, of a product": lambda xp, a, b: xp.matrix_transpose(a @ b),
    "elementwise": lambda xp, a, b: xp.matrix_transpose(a) * 2.0,
    "reshaped": lambda xp, a, b: xp.reshape(xp.matrix_transpose(a), (12,)) * 1.0,
    "sliced": lambda xp, a, b: xp.reshape(xp.matrix_transpose(a), (12,))[2:5] * 1.0,
    "joined": lambda xp, a, b: xp.concat([xp.reshape(xp.matrix_transpose(a), (12,)), xp.reshape(b, (6,))]),
    "largest": lambda xp, a, b: xp.max(xp.matrix_transpose(a), axis=1) * 1.0,
    "a factor, reshaped": lambda xp, a, b: xp.reshape(xp.matrix_transpose(a), (4, 3)) @ b,
    "sums": lambda xp, a, b: xp.sum(xp.matrix_transpose(a), axis=1) * 1.0,
    "sums, kept": lambda xp, a, b: xp.sum(xp.matrix_transpose(a), axis=0, keepdims=True) * 1.0,
    "sum": lambda xp, a, b: xp.sum(xp.matrix_transpose(a)) * 1.0,
    "twice": lambda xp, a, b: xp.matrix_transpose(xp.matrix_transpose(a)) * 2.0,
    "factors": lambda xp, a, b: xp.matrix_transpose(b) @ xp.matrix_transpose(a),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_a_transposed_array_is_right_or_refused(name, rng):
    """Memory holds it as it was: whatever reads it otherwise would take the elements in the wrong order."""
    arrays = {"a": rng.normal(size=(4, 3)), "b": rng.normal(size=(3, 2))}
    function, want = TRANSPOSED[name], TRANSPOSED[name](np, *arrays.values())
    graph = tensor_graph.trace(
        lambda backend, a, b: {"y": function(backend.xp, a, b)}, {n: (a.shape, "float64") for n, a in arrays.items()}
    )
    assert np.abs(graph.run(np, arrays, {})["y"] - want).max() <= 1e-14
    if name not in ("sums", "sums, kept", "sum", "twice", "factors"):
        with pytest.raises(PlanError, match="read by products only"):
            graph.plan  # noqa: B018
        return
    bound = {n: arrays[n] for n in graph.inputs} | {"y": np.empty(want.shape)}
    program = xmlp.backend("numpy", dtype="float64").program(graph.plan, bound, None)
    program.run(np.zeros((1, 0)), None, 0)
    assert np.abs(program.arrays["y"] - want).max() <= 1e-14

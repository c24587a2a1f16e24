"""Gradients of every layer, activation and loss, and the steps of every optimizer, against three independent judges:
the complex step, PyTorch's autograd and central differences; then the same on every array library.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import Mode, require
from reference import (
    ACTIVATION_DB,
    LAYER_DB,
    LOSS_DB,
    OPTIMIZER_DB,
    forward,
    forward_in_torch,
    gradients,
    reduced,
)
from tolerances import check, relative, report  # noqa: F401  (a fixture)

import xmlp
from xmlp import activations, losses
from xmlp.activations import ACTIVATIONS
from xmlp.layers import LAYERS, BatchNorm, Dense, LayerNorm, Residual
from xmlp.losses import LOSSES
from xmlp.optimizers import OPTIMIZERS

N, FEATURES, OUTPUTS = 5, 3, 3
WEIGHTS = np.asarray([0.5, 2.0, 0.0, 1.0, 3.0])
KEYS = {"seed": 3, "step": 2}  # of the dropout masks
REDUCTIONS = [("mean", None), ("sum", None), ("mean", WEIGHTS), ("sum", WEIGHTS)]


@pytest.mark.parametrize(
    ("table", "records"),
    [(LAYERS, LAYER_DB), (LOSSES, LOSS_DB), (OPTIMIZERS, OPTIMIZER_DB), (ACTIVATIONS, ACTIVATION_DB)],
    ids=["layers", "losses", "optimizers", "activations"],
)
def test_each_has_a_record(table: dict[str, Any], records: dict[str, Any]) -> None:
    assert {name.partition(",")[0].partition(" ")[0] for name in records} == set(table)


def network_of(
    layers: str, activation: str, output: str | None = None, backend: Any = "numpy", dtype: str = "float64"
) -> Any:
    """The layers of a record between two dense ones, with parameters and statistics that are all different."""
    inner = LAYER_DB[layers].layers(activation)
    ends = Dense(4, activation="tanh"), Dense(OUTPUTS, activation=output)
    network = xmlp.Network([ends[0], *inner, ends[1]], FEATURES, backend=backend, dtype=dtype)
    rng = np.random.default_rng(7)
    network.theta = rng.normal(0.1, 0.6, size=network.layout.size)
    network.stats = rng.uniform(0.5, 1.5, size=network.stats.shape[0])
    return network


def complex_step(
    network: Any, terms: Any, x: Any, training: bool, weights: Any, reduction: str
) -> tuple[Any, Any, Any]:
    """The loss, dx, and the gradient in the order of `flat`."""
    names = [(i, name) for i, named in enumerate(network.parameters) for name in sorted(named)]
    keys = network.chain.keys(**KEYS)

    def loss(arrays: list[Any]) -> Any:
        params: list[dict[str, Any]] = [{} for _ in network.layers]
        for (i, name), a in zip(names, arrays[1:], strict=True):
            params[i][name] = a
        outputs = forward(network, params, arrays[0], training=training, keys=keys)
        return reduced(terms(outputs), weights, reduction)

    arrays = [x, *(network.parameters[i][name] for i, name in names)]
    dx, *found = gradients(loss, arrays)
    return np.real(loss([x + 0j, *arrays[1:]])), dx, np.concatenate([g.ravel() for g in found])


def flat(nested: Any) -> Any:
    return np.concatenate([np.asarray(named[name]).ravel() for named in nested for name in sorted(named)])


@pytest.mark.parametrize("loss", LOSS_DB)
@pytest.mark.parametrize("layers", LAYER_DB)
def test_gradient_is_that_of_the_complex_step(layers: str, loss: str, rng: np.random.Generator) -> None:
    record, training, goal = LOSS_DB[loss], LAYER_DB[layers].training, "gradient, float64, to complex step"
    x, (given, dense) = rng.normal(size=(N, FEATURES)), record.targets(rng, N, OUTPUTS)
    for activation in ACTIVATION_DB:
        network = network_of(layers, activation, record.output)
        for reduction, weights in REDUCTIONS:
            case = f"{layers}, {activation}, {loss}, {reduction}{'' if weights is None else ', weights'}"
            function = replace(record.loss, reduction=reduction)
            outputs, caches = network.forward(x, training=training, **KEYS)
            value, dy = function.value_and_grad(outputs, given, sample_weight=weights)
            dx, grads = network.backward(caches, dy)
            true = complex_step(network, lambda p: record.terms(p, dense), x, training, weights, reduction)
            found = [(value, "loss"), (dx, "dx"), (flat(grads), "parameters")]
            if not training:  # the way of a training step, where an output activation and its cross-entropy fuse
                value, grads = network.value_and_grad(x, given, function, sample_weight=weights)
                found += [(value, "fused loss"), (dx, "dx"), (flat(grads), "fused parameters")]
            for (a, what), b in zip(found, [*true, *true], strict=False):
                check(goal, relative(a, b), f"{case}: {what}")


@pytest.mark.parametrize("summed", [False, True], ids=["terms", "one loss per example"])
def test_gradient_of_a_loss_of_ones_own_is_that_of_central_differences(summed: bool, rng: np.random.Generator) -> None:
    class Quartic:
        def fn(self, predictions: Any, targets: Any) -> Any:
            terms = (predictions - targets) ** 4
            return np.sum(terms, axis=1) if summed else terms

        def deriv(self, predictions: Any, targets: Any) -> Any:
            return 4 * (predictions - targets) ** 3

    network, x, y = network_of("Dense", "tanh"), rng.normal(size=(N, FEATURES)), rng.normal(size=(N, OUTPUTS))
    found = xmlp.testing.check_gradients(network, x, y, Quartic(), sample_weight=WEIGHTS)
    check("gradient, float64, to central differences", found.max_error, f"quartic, {summed}")
    value = network.value_and_grad(x, y, Quartic(), sample_weight=WEIGHTS)[0]
    terms = ((network.predict(x) - y) ** 4).sum(axis=1)
    assert float(value) == pytest.approx((terms * WEIGHTS).sum() / WEIGHTS.sum(), rel=1e-12)


@pytest.mark.parametrize("layers", LAYER_DB)
def test_gradient_is_that_of_central_differences(layers: str, rng: np.random.Generator) -> None:
    """Along random directions of x and theta, for the fake loss sum(y dy)."""
    x, dy, h = rng.normal(size=(N, FEATURES)), rng.normal(size=(N, OUTPUTS)), 1e-5
    for activation in ACTIVATION_DB:
        network = network_of(layers, activation)
        training, theta = LAYER_DB[layers].training, np.array(network.theta)
        u, v = rng.normal(size=x.shape), rng.normal(size=theta.shape)

        values = []
        for t in (h, -h):
            network.theta = theta + t * v
            values.append(np.sum(network.forward(x + t * u, training=training, **KEYS)[0] * dy))
        network.theta = theta
        dx, grads = network.backward(network.forward(x, training=training, **KEYS)[1], dy)
        size = np.linalg.norm(dx) + np.linalg.norm(grads.flat)
        error = np.sum(dx * u) + grads.flat @ v - (values[0] - values[1]) / (2 * h)
        check("gradient, float64, to central differences", abs(error) / size, f"{layers}, {activation}")


# --- PyTorch ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def torch() -> Any:
    require("torch")
    import torch

    torch.set_num_threads(1)  # its threads and those of NumPy's BLAS would fight over two cores
    return torch


def in_torch(nested: Any, gradient: bool = False) -> list[dict[str, Any]]:
    import torch

    return [{k: torch.tensor(np.array(a), requires_grad=gradient) for k, a in named.items()} for named in nested]


MASKED = ("Dropout", "Residual")  # by masks of our own
IN_TORCH = [name for name in LAYER_DB if name not in MASKED and LAYER_DB[name.partition(" ")[0]].torch]


@pytest.mark.parametrize("layers", IN_TORCH)
def test_gradient_is_that_of_torch(torch: Any, layers: str, rng: np.random.Generator) -> None:
    import torch.nn.functional as F

    judges = {name: record.torch for name, record in LOSS_DB.items() if record.torch}
    training = LAYER_DB[layers].training
    for activation in [name for name, record in ACTIVATION_DB.items() if record.torch]:
        network, x = network_of(layers, activation), rng.normal(size=(N, FEATURES))
        params, xt = in_torch(network.parameters, gradient=True), torch.tensor(x, requires_grad=True)
        for loss, judge in judges.items():
            given, _ = LOSS_DB[loss].targets(rng, N, OUTPUTS)
            outputs, caches = network.forward(x, training=training)
            dx, grads = network.backward(caches, losses.get(loss).value_and_grad(outputs, given)[1])
            expected = forward_in_torch(network.layers, params, in_torch(network.statistics), xt, training)
            leaves = [xt, *(named[k] for named in params for k in sorted(named))]
            true = [g.numpy() for g in torch.autograd.grad(judge(F, expected, torch.tensor(given)) / N, leaves)]
            case, goal = f"{layers}, {activation}, {loss}", "gradient, float64, to torch"
            check(goal, relative(dx, true[0]), case)
            check(goal, relative(flat(grads), np.concatenate([g.ravel() for g in true[1:]])), case)


@pytest.mark.parametrize("planned", [None, False])
@pytest.mark.parametrize("optimizer", [name for name, record in OPTIMIZER_DB.items() if record.torch])
def test_a_hundred_steps_are_those_of_torch(
    torch: Any, optimizer: str, planned: bool | None, rng: np.random.Generator
) -> None:
    import torch.nn.functional as F

    # no bias right before BatchNorm, which cancels it: its gradient would be noise, and Adam's step its sign
    head = [Dense(8, activation="relu"), LayerNorm(), Residual([Dense(6, activation="gelu"), Dense(8)])]
    network = xmlp.Network([*head, "tanh", BatchNorm(), Dense(3)], 4, dtype="float64", seed=5)
    rule = OPTIMIZER_DB[optimizer].optimizer
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer=rule, planned=planned)
    params, stats = in_torch(network.parameters, gradient=True), in_torch(network.statistics)
    name, settings = OPTIMIZER_DB[optimizer].torch
    named = [(k.rpartition(".")[2], a) for group in params for k, a in group.items()]
    groups = [
        {"params": [a for k, a in named if k == "W"]},
        {"params": [a for k, a in named if k != "W"], "weight_decay": 0.0},
    ]
    judge = getattr(torch.optim, name)(groups, **settings)
    for _ in range(100):
        x, y = rng.normal(size=(16, 4)), rng.integers(3, size=16)
        loss = F.cross_entropy(forward_in_torch(network.layers, params, stats, torch.tensor(x), True), torch.tensor(y))
        judge.zero_grad()
        loss.backward()
        judge.step()
        value = trainer.step(x, y)
        check("gradient, float64, to torch", relative(value, loss.detach().numpy()), f"{optimizer}: loss")
    goal = "parameters after 100 steps, float64, to torch"
    true = flat([{k: a.detach() for k, a in named.items()} for named in params])
    check(goal, relative(flat(network.parameters), true), optimizer)
    check(goal, relative(flat(network.statistics), flat(stats)), f"{optimizer}: statistics")


# --- precision, memory, edges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_float32_is_close_to_float64_in_three_layers_of_256(activation: str, rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(64, 20)).astype(np.float32), rng.integers(10, size=64)
    single, double = (xmlp.mlp([20, 256, 256, 256, 10], activation, dtype=d) for d in ("float32", "float64"))
    double.theta = single.theta
    check("forward, 3 x 256, float32 to float64", relative(single.predict(x), double.predict(x)), activation)
    grads = [n.value_and_grad(x, y, "softmax_cross_entropy")[1].flat for n in (single, double)]
    check("gradient, 3 x 256, float32 to float64", relative(*grads), activation)


@pytest.mark.parametrize("layers", LAYER_DB)
def test_nothing_is_written_into_what_is_given(layers: str, rng: np.random.Generator) -> None:
    x, dy = rng.normal(size=(2, N, 4))
    for activation in ACTIVATION_DB:
        network = xmlp.Network(LAYER_DB[layers].layers(activation), 4, dtype="float64")
        given = [x, dy, network.theta, network.stats]
        before = [a.copy() for a in given]
        outputs, caches = network.forward(x, training=LAYER_DB[layers].training, **KEYS)
        kept = outputs.copy()
        first = network.backward(caches, dy)[1].flat
        assert np.array_equal(first, network.backward(caches, dy)[1].flat), "backward changed its caches"
        assert np.array_equal(outputs, kept), "backward wrote into the outputs"
        assert all(np.array_equal(a, b) for a, b in zip(given, before, strict=True)), activation


@pytest.mark.parametrize("layers", LAYER_DB)
def test_one_row(layers: str, rng: np.random.Generator) -> None:
    """A batch of one row: BatchNorm takes it with its statistics and leaves these as they are."""
    training, x, dy = LAYER_DB[layers].training, rng.normal(size=(1, FEATURES)), rng.normal(size=(1, OUTPUTS))
    for activation in ACTIVATION_DB:
        network = network_of(layers, activation)
        outputs, caches = network.forward(x, training=training, **KEYS)
        dx, grads = network.backward(caches, dy)
        _, true, found = complex_step(network, lambda p: p * dy, x, training, None, "sum")
        assert outputs.shape == (1, OUTPUTS)
        error = np.max(np.abs(dx - true)), np.max(np.abs(flat(grads) - found))
        check(
            "gradient, float64, to complex step",
            max(error) / max(1.0, np.max(np.abs(grads.flat))),
            f"{layers}, {activation}, N = 1",
        )
        stats = network.chain.pass_statistics(network.stats, caches)
        assert np.array_equal(stats, network.stats)


@pytest.mark.parametrize("name", [n for n, record in ACTIVATION_DB.items() if record.kinks])
def test_subgradients_at_kinks(name: str) -> None:
    kinks = ACTIVATION_DB[name].kinks
    z = np.asarray([list(kinks)])
    slopes = np.asarray([list(kinks.values())])
    assert np.array_equal(activations.ACTIVATIONS[name].derivative(z), slopes)
    network = xmlp.Network([name], len(kinks), dtype="float64")
    dx, _ = network.backward(network.forward(z)[1], 2.0 * np.ones_like(z))
    assert np.array_equal(dx, 2.0 * slopes)


def test_subgradients_of_losses() -> None:
    y = np.asarray([[1.0, -2.0, 0.0]])
    assert np.array_equal(losses.AbsoluteError().value_and_grad(y, y)[1], [[0.0, 0.0, 0.0]])
    knees = y + np.asarray([[0.5, -0.5, 0.0]])
    assert np.array_equal(losses.Huber(0.5).value_and_grad(knees, y)[1], [[0.5, -0.5, 0.0]])


def test_a_network_at_all_zeros_has_finite_gradients() -> None:
    for activation in ACTIVATION_DB:
        network = xmlp.mlp([2, 3, 2], activation, dtype="float64", normalization="layer")
        network.theta = np.zeros(network.layout.size)
        value, grads = network.value_and_grad(np.zeros((4, 2)), np.asarray([0, 1, 1, 1]), "softmax_cross_entropy")
        assert np.isfinite(value)
        assert grads[-1]["b"].tolist() == [0.25, -0.25], activation  # p - y with p = 1/2


# --- every array library ----------------------------------------------------------------------------------------------


def kind(array: Any) -> str:
    return str(array.dtype).rpartition(".")[2]


@pytest.mark.parametrize("layers", LAYER_DB)
def test_every_library_gives_the_same(mode: Mode, layers: str, rng: np.random.Generator) -> None:
    """Two activations and losses per record: over all records each occurs."""
    first, training = 2 * list(LAYER_DB).index(layers), LAYER_DB[layers].training
    x = rng.normal(size=(N, FEATURES)).astype(np.float32)
    for k in (first, first + 1):
        activation, loss = list(ACTIVATION_DB)[k % len(ACTIVATION_DB)], list(LOSS_DB)[k % len(LOSS_DB)]
        record = LOSS_DB[loss]
        given = record.targets(rng, N, OUTPUTS)[0]
        given = given.astype(np.int32) if given.ndim == 1 else given

        def results(
            backend: Any, put: Any, activation: str = activation, record: Any = record, given: Any = given
        ) -> list[Any]:
            network = network_of(layers, activation, record.output, backend)
            outputs, caches = network.forward(put(x), training=training, **KEYS)
            value, dy = record.loss.value_and_grad(outputs, put(given), sample_weight=put(WEIGHTS))
            dx, grads = network.backward(caches, dy)
            fused = network.value_and_grad(put(x), put(given), record.loss, sample_weight=put(WEIGHTS))
            return [
                outputs,
                value,
                dx,
                grads.flat,
                fused[0],
                fused[1].flat,
                network.chain.pass_statistics(network.stats, caches),
            ]

        true = results(xmlp.backend("numpy", dtype="float64"), np.asarray)
        for dtype in mode.dtypes:
            found = results(mode.backend(dtype), lambda a, d=dtype: mode.put(a, None if a.dtype == np.int32 else d))
            assert {kind(a) for a in found} == {dtype}, (activation, loss, [kind(a) for a in found])
            goal = "any mode, float64 to NumPy" if dtype == "float64" else "any mode, float32 to float64"
            for a, b in zip(found, true, strict=True):
                check(goal, relative(mode.get(a), b), f"{mode}, {layers}, {activation}, {loss}")


@pytest.mark.parametrize("optimizer", OPTIMIZER_DB)
def test_optimizers_keep_the_dtype(mode: Mode, optimizer: str, rng: np.random.Generator) -> None:
    rule, start, grad = OPTIMIZER_DB[optimizer].optimizer, rng.normal(size=7), rng.normal(size=7)
    true, true_state = start, rule.init(start)
    for step in (1, 2):
        true, true_state = rule.update(true, grad, true_state, rule.lr, step)
    for dtype in mode.dtypes:
        theta = mode.put(start, dtype)
        state = rule.init(theta)
        for step in (1, 2):
            theta, state = rule.update(theta, mode.put(grad, dtype), state, rule.lr, step)
        assert {kind(a) for a in (theta, *state.values())} == {dtype}
        goal = "any mode, float64 to NumPy" if dtype == "float64" else "any mode, float32 to float64"
        for a, b in zip((theta, *state.values()), (true, *true_state.values()), strict=True):
            check(goal, relative(mode.get(a), b), f"{mode}, {optimizer}")


def test_training_keeps_the_dtype(mode: Mode, rng: np.random.Generator) -> None:
    for dtype in mode.dtypes:
        network = xmlp.mlp([3, 4, 2], dropout=0.2, normalization="batch", backend=mode.backend(dtype))
        trainer = xmlp.Trainer(
            network, loss="softmax_cross_entropy", optimizer="adamw", clip_norm=1.0, l1=1e-3, l2=1e-3
        )
        x, y = mode.put(rng.normal(size=(8, 3)), dtype), mode.put(rng.integers(2, size=8).astype(np.int32), None)
        loss = trainer.step(x, y)
        arrays = [
            loss,
            network.theta,
            network.stats,
            *trainer.run.slots.values(),
            network.predict(x),
            network.predict_proba(x),
        ]
        assert {kind(a) for a in arrays} == {dtype}

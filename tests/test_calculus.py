"""Derived products with Jacobians against written backward passes, differences and each other, plainly and planned."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import Mode
from records import networks

import xmlp
from xmlp import activations
from xmlp.compiler import tensor_graph
from xmlp.compiler.differential import jvp, laplacian, vjp
from xmlp.compiler.rows import Extent
from xmlp.compiler.tensor import PlanError
from xmlp.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual, Standardize

ROWS = 16
RNG = np.random.default_rng(5)
STACKS = {
    "plain": ([Dense(6, "tanh"), Dense(2)], 3),
    "one": ([Dense(1, "softplus"), Dense(1)], 1),
    "softmax": ([Dense(6, "gelu"), Dense(4, activation="softmax")], 7),
    "many outputs": ([Dense(6, "gelu"), Dense(40)], 20),
    "many inputs": ([Dense(6, "gelu"), Dense(18)], 40),
    "all layers": (
        [Standardize(), Dense(6, "silu"), LayerNorm(), Residual([Dense(6, "mish"), BatchNorm(), Dropout(0.5)]),
         Dense(5, "sigmoid")], 3,
    ),
}  # fmt: skip


def stack(name: str) -> tuple[xmlp.Network, Any]:
    layers, features = STACKS[name]
    network = xmlp.Network(layers, features, dtype="float64", seed=1)
    x = np.random.default_rng(2).normal(size=(9, features))
    if name == "all layers":
        network.adapt(x)
        network.stats = network.stats + np.random.default_rng(3).uniform(0.1, 0.2, size=network.stats.shape)
    x.flags.writeable = False
    return network, x


def differences(function: Any, x: Any, step: float = 1e-5) -> Any:
    """d function / dx_i of each row, a new last axis: central, of fourth order."""
    columns = []
    for i in range(x.shape[1]):
        e = np.zeros(x.shape[1])
        e[i] = step
        near, far = function(x + e) - function(x - e), function(x + 2 * e) - function(x - 2 * e)
        columns.append((8 * near - far) / (12 * step))
    return np.stack(columns, axis=-1)


# --- the parameters' gradient -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [ROWS, Extent(ROWS, 1)], ids=["these rows", "any rows"])
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_derived_and_written_gradients(name, rows):
    """In training mode; with products with the Jacobian and the Hessian, which no layer has written."""
    network, y, settings, _ = networks.NETWORKS[name]
    trainer = xmlp.Trainer(network("float64"), planned=False, **settings)
    batch, _ = trainer.preparation.checked((networks.X[:ROWS], y[:ROWS]), ("x", "y"))
    state, objective = trainer.run.state(), trainer.run.step.objective
    v, w = RNG.normal(size=(2, *state.theta.shape))
    arrays = {"theta": state.theta, "stats": state.stats, "x": batch.x, "y": batch.y, "v": v, "w": w}
    arrays |= {} if batch.weights is None else {"weights": batch.weights}

    def function(backend, theta, stats, x, y, v, w, weights=None):
        here = objective.on(backend)
        keys, chain = here.chain.keys(3, 4), here.chain
        outputs, _ = chain.pass_forward(theta, stats, x, training=True, keys=keys, raw=here.raw)
        total, *_ = here.parts(outputs, y, weights)
        (gradient,) = vjp([total], [1.0], [theta])
        written = here.evaluate(theta, stats, x, y, weights, training=True, keys=keys).gradients.flat
        (slope,), (hv,), (hw,) = (jvp([a], [theta], [t]) for a, t in ((total, v), (gradient, v), (gradient, w)))
        return {"derived": gradient, "written": written, "slope": slope, "hv": hv, "hw": hw}

    of_rows = ("x", "y", "weights")
    shapes = {n: ((rows, *a.shape[1:]) if n in of_rows else a.shape, str(a.dtype)) for n, a in arrays.items()}
    graph = tensor_graph.trace(function, shapes)
    found = graph.run(np, arrays, {})
    size = np.abs(found["written"]).max()
    assert np.abs(found["derived"] - found["written"]).max() <= 1e-14 * max(1.0, size)
    assert found["slope"] == pytest.approx(found["written"] @ v, rel=1e-12)
    assert found["hv"] @ w == pytest.approx(found["hw"] @ v, rel=1e-11, abs=1e-13)  # the Hessian is symmetric
    step = 1e-4
    near, far = (
        graph.run(np, {**arrays, "theta": state.theta + k * v}, {})["derived"]
        - graph.run(np, {**arrays, "theta": state.theta - k * v}, {})["derived"]
        for k in (step, 2 * step)
    )
    assert np.abs((8 * near - far) / (12 * step) - found["hv"]).max() <= 1e-6 * max(1.0, np.abs(found["hv"]).max())


# --- operations, one by one -------------------------------------------------------------------------------------------

OPERATIONS = {
    "add a row": lambda xp, a, b, c: a + b,
    "add a column": lambda xp, a, b, c: a * xp.sum(a, axis=1, keepdims=True),
    "divide": lambda xp, a, b, c: a / (2.0 + b * b),
    "number above": lambda xp, a, b, c: 3.0 / (4.0 + a * a),
    "powers": lambda xp, a, b, c: a**3 + (1.0 + b * b) ** 0.5,
    "where": lambda xp, a, b, c: xp.where(a > 0, xp.exp(a), b),
    "maximum": lambda xp, a, b, c: xp.maximum(a, b) - xp.minimum(a, 0.3),
    "product": lambda xp, a, b, c: a @ c @ xp.matrix_transpose(c),
    "transposes": lambda xp, a, b, c: xp.matrix_transpose(xp.matrix_transpose(a) * 2.0),
    "sum": lambda xp, a, b, c: xp.sum(a * a),
    "sums of rows": lambda xp, a, b, c: xp.sum(xp.tanh(a), axis=1),
    "sums of columns": lambda xp, a, b, c: xp.sum(a * b, axis=0),
    "sum of a sum": lambda xp, a, b, c: xp.sum(xp.sum(a, axis=0) * xp.sum(c)),
    "product with a sum": lambda xp, a, b, c: xp.sum(a, axis=0, keepdims=True) @ c,
    "constant cotangent": lambda xp, a, b, c: xp.sum(a @ c),
    "largest": lambda xp, a, b, c: xp.max(a * b, axis=1),
    "softmax": lambda xp, a, b, c: xp.exp(a - xp.max(a, axis=1, keepdims=True)),
    "slices": lambda xp, a, b, c: xp.concat([xp.reshape(c, (-1,))[2:5], xp.reshape(c, (-1,))[4:8]]),
    "elements": lambda xp, a, b, c: xp.abs(a) + xp.sqrt(1.0 + b * b) - xp.log1p(a * a) + xp.expm1(b) - xp.log(2.0 + b),
    "of another dtype": lambda xp, a, b, c: a * xp.astype(a > 0.2, xp.float64),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name):
    """Both products against differences, and <w, J v> = <J^T w, v>, plainly and planned."""
    arrays = {"a": RNG.normal(size=(4, 3)), "b": RNG.uniform(0.1, 1.0, size=(1, 3)), "c": RNG.normal(size=(3, 4))}
    tangents = {f"t{n}": RNG.normal(size=a.shape) for n, a in arrays.items()}

    def value(backend, a, b, c, **_):
        return OPERATIONS[name](backend.xp, a, b, c)

    shapes = {n: (a.shape, "float64") for n, a in (arrays | tangents).items()}
    shape = tensor_graph.trace(lambda backend, **k: {"y": value(backend, **k)}, shapes).run(np, arrays, {})["y"].shape

    def function(backend, a, b, c, ta, tb, tc, w):
        y = value(backend, a, b, c)
        (t,) = jvp([y], [a, b, c], [ta, tb, tc])
        da, db, dc = vjp([y], [w], [a, b, c])
        return {"y": y * 1.0, "t": t, "da": da, "db": db, "dc": dc}

    given = {**arrays, **tangents, "w": RNG.normal(size=shape)}
    graph = tensor_graph.trace(function, {**shapes, "w": (shape, "float64")})
    found = graph.run(np, given, {})
    step = 1e-5
    moved = [
        graph.run(np, {**given, **{n: a + s * step * given[f"t{n}"] for n, a in arrays.items()}}, {})["y"]
        for s in (1, -1)
    ]
    assert np.abs((moved[0] - moved[1]) / (2 * step) - found["t"]).max() <= 1e-7
    assert [found[f"d{n}"].shape for n in arrays] == [a.shape for a in arrays.values()]
    products = sum(np.sum(found[f"d{n}"] * tangents[f"t{n}"]) for n in arrays)
    assert np.sum(given["w"] * found["t"]) == pytest.approx(products, rel=1e-12, abs=1e-13)
    whole = {n: node for n, node in graph.outputs if any(m.op == "input" for m in tensor_graph.walk(node))}
    planned = tensor_graph.TensorGraph([*whole.items()])
    if name == "transposes":
        with pytest.raises(PlanError, match="read by products only"):
            planned.plan  # noqa: B018
        return
    program = xmlp.backend("numpy", dtype="float64").program(planned.plan, {
        **{n: given[n] for n in planned.inputs}, **{n: np.empty(node.shape) for n, node in whole.items()}
    }, None)  # fmt: skip
    program.run(np.zeros((1, len(planned.plan.scalars))), None, 0)
    for n in whole:
        assert np.abs(program.arrays[n] - found[n]).max() <= 1e-13 * max(1.0, np.abs(found[n]).max())


def test_what_does_not_depend_has_zeros():
    def function(backend, a, b):
        return {"v": vjp([a * 2.0], [1.0], [b])[0], "j": jvp([a * 2.0], [b], [1.0])[0]}

    found = tensor_graph.trace(function, {n: ((2, 3), "float64") for n in "ab"}).run(np, {}, {})
    assert found["v"].shape == found["j"].shape == (2, 3)
    assert not found["v"].any()
    assert not found["j"].any()


def test_taken_rows_have_no_gradient():
    def function(backend, a, rows):
        return {"v": vjp([backend.xp.take(a, rows, axis=0)], [1.0], [a])[0]}

    with pytest.raises(PlanError, match="take has no derivative"):
        tensor_graph.trace(function, {"a": ((5, 2), "float64"), "rows": ((3,), "int32")}, listed="rows")


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_second_derivatives_of_activations(name):
    """Near 0, in tails and at clamps: the Laplacian of one unit is f'', and what differences of f' are."""
    formula = activations.ACTIVATIONS[name]
    if not hasattr(formula, "derivative"):
        pytest.skip("not elementwise")
    x = np.asarray([-700.0, -40.0, -9.5, -3.2, -1.1, -0.3, 0.35, 1.2, 2.7, 9.5, 40.0, 700.0])[:, None]

    def function(backend, x):
        return {"y": laplacian([backend.apply(formula, x)], x, [1.0])[0]}

    found = tensor_graph.trace(function, {"x": (x.shape, "float64")}).run(np, {"x": x}, {})["y"]
    slope, step = formula.derivative, 1e-3
    near, far = (slope(x + k) - slope(x - k) for k in (step, 2 * step))
    assert np.abs((8 * near - far) / (12 * step) - found).max() <= 1e-9


# --- of a network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STACKS)
def test_jacobian_and_laplacian(name, mode: Mode):
    network, x = stack(name)
    wanted = differences(network.predict, x)
    second = np.einsum("ncii->nc", differences(network.jacobian, x))
    for dtype in mode.dtypes:
        here = network.to(mode.backend(dtype))
        near = 1e-8 if dtype == "float64" else 2e-5
        for rows in (9, 1, 4):
            some = mode.put(x[:rows], dtype)
            jacobian, sums = mode.get(here.jacobian(some)), mode.get(here.laplacian(some))
            assert jacobian.shape == (rows, network.out_features, network.in_features)
            assert np.abs(jacobian - wanted[:rows]).max() <= near
            assert np.abs(sums - second[:rows]).max() <= 20 * near * max(1.0, np.abs(second).max())


def test_they_are_planned_and_told_of_a_single_row():
    network, x = stack("all layers")
    one = network.jacobian(x[0])
    assert one.shape == (1, 5, 3)
    assert np.abs(one - network.jacobian(x)[:1]).max() <= 1e-15
    network.laplacian(x)
    assert [f.reason for f in network._input_derivatives.kept.values()] == [None, None]


def test_more_rows_than_a_block():
    network, _ = stack("plain")
    x = RNG.normal(size=(5000, 3))
    far = network.jacobian(x)
    assert np.abs(far[4990:] - network.jacobian(x[4990:])).max() <= 1e-15
    assert network.laplacian(x).shape == (5000, 2)


def test_threads():
    network, x = stack("all layers")
    want = network.jacobian(x), network.laplacian(x)
    fresh = network.to("numpy")
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda _: (fresh.jacobian(x), fresh.laplacian(x)), range(64))]
    assert all(np.array_equal(a, b) for pair in found for a, b in zip(pair, want, strict=True))


def test_parameters_that_change_are_seen():
    network, x = stack("plain")
    network.jacobian(x)
    network.theta = 2.0 * network.theta
    assert np.abs(network.jacobian(x) - differences(network.predict, x)).max() <= 1e-8


def test_piecewise_linear_networks_have_no_laplacian():
    relu = xmlp.mlp([3, 5, 1], activation="relu")
    for _ in range(2):
        with pytest.raises(ValueError, match="piecewise linear, as relu is"):
            relu.laplacian(np.ones((2, 3)))
    assert not xmlp.mlp([3, 1]).laplacian(np.ones((2, 3))).any()  # a line has none, and that says all


def test_wrong_inputs():
    network, x = stack("plain")
    with pytest.raises(ValueError, match="x has 2 features, the network takes 3"):
        network.jacobian(x[:, :2])
    with pytest.raises(ValueError, match="NaN"):
        network.laplacian(np.where(x > 1, np.nan, x))

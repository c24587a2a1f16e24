"""`Network.functions`: the loss and its derivatives as functions of theta, for SciPy."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import xmlp
from xmlp import losses
from xmlp.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual

pytest.importorskip("scipy")
RNG = np.random.default_rng(8)
ROWS = 30
X, W = RNG.normal(size=(ROWS, 4)), RNG.random(ROWS)
REALS, LABELS, EVENTS = RNG.normal(size=(ROWS, 3)), RNG.integers(0, 3, ROWS), RNG.integers(0, 2, (ROWS, 3)) * 1.0
LAYERS = [Dense(6, "tanh"), LayerNorm(), Residual([Dense(5, "gelu"), BatchNorm(), Dropout(0.3), Dense(6)]), Dense(3)]
CASES: dict[str, Any] = {
    "squared error": ("squared_error", REALS, {}),
    "half, sum": (losses.SquaredError(half=True, reduction="sum"), REALS, {"sample_weight": W}),
    "weighted, l2": ("squared_error", REALS, {"sample_weight": W, "l2": 1e-2}),
    "weights of outputs": ("squared_error", REALS, {"sample_weight": RNG.random((ROWS, 3))}),
    "huber, l1, l2": ("huber", REALS, {"l1": 1e-3, "l2": 1e-3}),
    "softmax": ("softmax_cross_entropy", LABELS, {"sample_weight": W, "l2": 1e-3}),
    "binary": ("binary_cross_entropy", EVENTS, {}),
}
BACKENDS = ["numpy", "array-api-strict:device1", "torch", "jax"]


def functions(case: str, backend: str = "numpy") -> tuple[xmlp.Network, Any, Any]:
    loss, y, settings = CASES[case]
    network = xmlp.Network(LAYERS, 4, dtype="float64", seed=1, backend=backend)
    return network, network.functions(X, y, loss, **settings), network.backend.to_host(network.theta).copy()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_derivatives(case, backend):
    """Against differences, against each other, and against NumPy's."""
    pytest.importorskip(backend.partition(":")[0].replace("-", "_"))
    network, f, theta = functions(case, backend)
    before = theta.copy()
    v, w = RNG.normal(size=(2, theta.size))
    value, gradient = f.value_and_grad(theta)
    step = 1e-5
    moved = [f.value_and_grad(theta + s * step * v) for s in (1, -1)]
    assert f.value(theta) == pytest.approx(value, rel=1e-14)
    assert gradient @ v == pytest.approx((moved[0][0] - moved[1][0]) / (2 * step), rel=1e-6, abs=1e-8)
    hv, gv = f.hvp(theta, v), f.gnvp(theta, v)
    assert np.abs((moved[0][1] - moved[1][1]) / (2 * step) - hv).max() <= 1e-6 * max(1.0, np.abs(hv).max())
    assert hv @ w == pytest.approx(f.hvp(theta, w) @ v, rel=1e-11)
    assert gv @ w == pytest.approx(f.gnvp(theta, w) @ v, rel=1e-11)
    assert gv @ v > 0
    if backend == "numpy":
        assert all(kind.reason is None for kind in f._kinds.values())
        f._kinds["hvp"].planned = False
        assert np.abs(f.hvp(theta, v) - hv).max() <= 1e-12 * np.abs(hv).max()
    _, of_numpy, _ = functions(case)
    assert np.abs(of_numpy.hvp(theta, v) - hv).max() <= 1e-12 * np.abs(hv).max()
    assert np.abs(of_numpy.gnvp(theta, v) - gv).max() <= 1e-12 * np.abs(gv).max()
    assert type(hv) is np.ndarray
    assert hv.flags.writeable
    assert (network.backend.to_host(network.theta) == before).all()


@pytest.mark.parametrize("case", CASES)
def test_products_and_matrices(case):
    _, f, theta = functions(case)
    v = RNG.normal(size=theta.size)
    hessian = f.hessian(theta)
    assert np.abs(hessian - hessian.T).max() <= 1e-13 * np.abs(hessian).max() + 1e-14
    assert np.abs(f.operator("hessian", theta) @ v - hessian @ v).max() <= 1e-12 * np.abs(hessian @ v).max()
    product = f.operator("gauss_newton", theta)
    assert (product @ v == f.gnvp(theta, v)).all()
    if "huber" in case or case in ("softmax", "binary"):
        with pytest.raises(TypeError, match=r"(not a|no) sum of squares"):
            f.residuals(theta)
        return
    residuals, jacobian = f.residuals(theta), f.jacobian(theta)
    value, gradient = f.value_and_grad(theta)
    assert 0.5 * residuals @ residuals == pytest.approx(value, rel=1e-13)
    assert np.abs(jacobian.T @ residuals - gradient).max() <= 1e-13 * np.abs(gradient).max()
    assert np.abs(jacobian.T @ (jacobian @ v) - f.gnvp(theta, v)).max() <= 1e-12 * np.abs(f.gnvp(theta, v)).max()


def test_against_jax():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        network, f, theta = functions("squared error")
        there = network.to("jax")

        def loss(theta):
            y, _ = there.pass_forward(theta, there.stats, jax.numpy.asarray(X))
            return ((y - REALS) ** 2).sum() / ROWS

        hessian = np.asarray(jax.hessian(loss)(jax.numpy.asarray(theta)))
    assert np.abs(f.hessian(theta) - hessian).max() <= 1e-12 * np.abs(hessian).max()


def test_optimizers_of_scipy():
    from scipy.optimize import least_squares, minimize
    from scipy.sparse.linalg import cg

    x = np.linspace(-1, 1, 60)[:, None]
    network = xmlp.mlp([1, 6, 1], activation="tanh", dtype="float64", seed=0)
    f = network.functions(x, np.sin(3 * x), "squared_error")
    start = network.theta.copy()
    found = least_squares(f.residuals, start, jac=f.jacobian, method="lm")
    assert found.cost == pytest.approx(f.value(found.x))
    assert found.cost < 1e-7
    newton = minimize(f.value_and_grad, start, jac=True, hessp=f.hvp, method="trust-ncg", options={"maxiter": 100})
    assert newton.fun < 1e-3
    damped = network.functions(x, np.sin(3 * x), "squared_error", l2=1e-2)
    _, gradient = damped.value_and_grad(start)
    step, info = cg(damped.operator("gauss_newton", start) + 0 * damped.operator("hessian", start), gradient, rtol=1e-6)
    assert info == 0
    assert damped.value(start - 0.1 * step) < damped.value(start)


def test_threads_and_copies():
    _, f, theta = functions("softmax")
    vectors = RNG.normal(size=(40, theta.size))
    alone = [f.hvp(theta, v) for v in vectors]
    with ThreadPoolExecutor(8) as pool:
        together = [*pool.map(lambda v: f.hvp(theta, v), vectors)]
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))
    first = f.hvp(theta, vectors[0])
    first[...] = 0.0
    assert (f.hvp(theta, vectors[0]) == alone[0]).all()
    for array in (theta, vectors):
        array.flags.writeable = False
    assert (f.hvp(theta, vectors[1]) == alone[1]).all()


def test_float32_and_what_is_given_as_lists():
    network = xmlp.mlp([2, 3, 1], seed=0)
    f = network.functions([[0.1, 0.2], [0.3, 0.4]], [[1.0], [2.0]], "squared_error")
    assert f.hvp(network.theta, [1.0] * 13).dtype == np.float32
    assert f.jacobian(network.theta).shape == (2, 13)


def test_what_is_wrong_is_said():
    network, f, theta = functions("squared error")
    for call, error, words in [
        (lambda: f.value(theta[:-1]), ValueError, r"theta has the shape \(\d+,\), got"),
        (lambda: f.hvp(theta, theta[:2]), ValueError, r"v has the shape \(\d+,\), got \(2,\)"),
        (lambda: f.operator("hesian", theta), ValueError, "Did you mean 'hessian'"),
        (lambda: network.functions(X, REALS[:-1], "huber"), ValueError, "rows"),
        (lambda: network.functions(X, REALS, "huber", l2=-1), ValueError, "l2"),
        (lambda: network.functions(X, REALS, "squared_error", l1=1e-3).residuals(theta), TypeError, "l1=0"),
    ]:
        with pytest.raises(error, match=words):
            call()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_it_stays_the_loss_of_what_was_given(backend):
    """Whatever becomes of the caller's arrays and of the network."""
    pytest.importorskip(backend)
    network = xmlp.Network(LAYERS, 4, dtype="float64", seed=1, backend=backend)
    x, y, w = X.copy(), REALS.copy(), W.copy()
    if backend == "torch":
        x, y, w = map(network.backend.from_host, (x, y, w))
    f, theta = network.functions(x, y, "squared_error", sample_weight=w), network.backend.to_host(network.theta).copy()
    before = f.value(theta), f.hvp(theta, theta)
    for array in (x, y, w):
        array[...] = 0.5
    network.fit(X, REALS, epochs=1)
    assert f.value(theta) == before[0]
    assert (f.hvp(theta, theta) == before[1]).all()

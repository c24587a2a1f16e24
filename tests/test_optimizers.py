"""Optimizers: three steps by hand, minima of two classic functions, what they refuse."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from reference import OPTIMIZER_DB
from tolerances import check, relative, report  # noqa: F401  (a fixture)

import xmlp
from xmlp import optimizers
from xmlp.optimizers import OPTIMIZERS, SGD, Adagrad, Adam, AdamW, RMSProp

GRADS = [0.5, -1.25, 2.0]


@pytest.mark.parametrize("name", OPTIMIZER_DB)
@pytest.mark.parametrize("scale", [1.0, 1e-3, -40.0])
def test_three_steps_by_hand(name: str, scale: float) -> None:
    record, theta = OPTIMIZER_DB[name], np.asarray([0.75])
    state, expected = record.optimizer.init(theta), 0.75
    for step in (1, 2, 3):
        grads = [g * scale for g in GRADS[:step]]
        theta, state = record.optimizer.update(theta, np.asarray(grads[-1:]), state, record.optimizer.lr, step)
        expected = record.step(expected, grads)
        check("update by hand", abs(theta[0] - expected) / abs(expected), f"{name}, step {step}")


def test_first_steps_in_numbers() -> None:
    """The first step of Adam is lr in size whatever the gradient; momentum 1/2 sums 1 + 1/2."""
    one, grad = np.asarray([1.0]), np.asarray([4.0])
    zero = Adam().init(one)
    check("update by hand", abs(Adam(eps=0.0).update(one, grad, zero, 0.25, 1)[0][0] - 0.75), "Adam")
    decayed = AdamW(eps=0.0, weight_decay=0.5).update(one, 1e-9 * grad, zero, 0.25, 1)[0][0]
    check("update by hand", abs(decayed - (0.875 - 0.25)), "AdamW")
    assert RMSProp(rho=0.75, eps=0.0).update(one, grad, {"v": np.zeros(1)}, 0.25, 1)[0][0] == 1 - 0.25 / 0.25**0.5
    assert Adagrad(eps=0.0).update(one, grad, {"v": np.asarray([9.0])}, 0.25, 1)[0][0] == 1 - 0.25 * 4 / 5
    theta, state = SGD(1.0, momentum=0.5).update(one, grad, {"v": np.asarray([2.0])}, 0.25, 1)
    assert (theta[0], state["v"][0]) == (1 - 0.25 * 5, 5.0)
    theta, state = SGD(1.0, momentum=0.5, nesterov=True).update(one, grad, {"v": np.asarray([2.0])}, 0.25, 1)
    assert (theta[0], state["v"][0]) == (1 - 0.25 * (4 + 0.5 * 5), 5.0)


@pytest.mark.parametrize("name", OPTIMIZER_DB)
def test_nothing_is_written_into_what_is_given(name: str) -> None:
    rule, theta, grad = OPTIMIZER_DB[name].optimizer, np.ones(3), np.full(3, 0.5)
    state = rule.init(theta)
    given = [theta, grad, *state.values()]
    for a in given:
        a.flags.writeable = False
    _, after = rule.update(theta, grad, state, 0.1, 1)
    assert all(np.all(after[k] != 0) for k in rule.slots)
    assert all(np.all(a == 0) for a in state.values())


@pytest.mark.parametrize("name", ["sgd, momentum", "sgd, nesterov", "rmsprop", "adam, other settings"])
def test_moments_of_a_gradient_that_vanishes_become_exactly_0(name: str) -> None:
    """And not subnormal numbers, which slow processors down."""
    rule = OPTIMIZER_DB[name].optimizer
    theta = np.ones(1, dtype=np.float32)
    _, state = rule.update(theta, theta, rule.init(theta), 0.1, 1)
    for step in range(2, 10_000):
        if all(v[0] == 0 for v in state.values()):
            break
        assert all(v[0] == 0 or abs(v[0]) > np.finfo(np.float32).tiny for v in state.values()), step
        _, state = rule.update(theta, 0 * theta, state, 0.1, step)
    assert all(v[0] == 0 for v in state.values())


def parabola(w: Any) -> Any:
    return (w - np.asarray([1.0, -2.0])) * np.asarray([2.0, 6.0])


def rosenbrock(w: Any) -> Any:
    """The gradient of (1 - a)^2 + 100 (b - a^2)^2, with the minimum at (1, 1)."""
    a, b = w
    return np.asarray([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)])


@pytest.mark.parametrize("target", ["parabola", "rosenbrock"])
@pytest.mark.parametrize("name", [name for name, record in OPTIMIZER_DB.items() if record.parabola])
def test_minimum_is_found(name: str, target: str) -> None:
    optimizer, steps, distance = getattr(OPTIMIZER_DB[name], target)
    gradient, minimum = {"parabola": (parabola, [1.0, -2.0]), "rosenbrock": (rosenbrock, [1.0, 1.0])}[target]
    theta = np.asarray([-1.0, 1.5])
    state = optimizer.init(theta)
    for step in range(steps):
        lr = xmlp.schedules.rate(optimizer.lr, step)
        theta, state = optimizer.update(theta, gradient(theta), state, lr, step + 1)
    assert np.max(np.abs(theta - minimum)) <= distance


def test_every_optimizer_is_to_find_the_minima() -> None:
    assert set(OPTIMIZERS) <= {name for name, record in OPTIMIZER_DB.items() if record.parabola}


def test_decay_pulls_to_zero_and_spares_what_does_not_decay() -> None:
    """AdamW decays W and not b; Adam decays nothing; the pull is lr weight_decay a step, whatever the gradient."""
    x, y = np.zeros((4, 2)), np.full((4, 1), 0.5)  # with b = 1/2 no parameter has a gradient
    for optimizer, factor in ((AdamW(0.1, weight_decay=0.5), 0.95**10), (Adam(0.1), 1.0)):
        network = xmlp.Network([xmlp.layers.Dense(1, bias_initializer=0.5)], 2, dtype="float64")
        w = network.parameters[0]["W"].copy()
        trainer = xmlp.Trainer(network, loss="squared_error", optimizer=optimizer)
        for _ in range(10):
            trainer.step(x, y)
        check("update by hand", relative(network.parameters[0]["W"], w * factor), type(optimizer).__name__)
        assert network.parameters[0]["b"][0] == 0.5


@pytest.mark.parametrize("name", OPTIMIZER_DB)
def test_flat_is_the_same_as_array_by_array(name: str, rng: np.random.Generator) -> None:
    rule, parts = OPTIMIZER_DB[name].optimizer, [rng.normal(size=n) for n in (5, 1, 3)]
    grads = [rng.normal(size=(3, p.size)) for p in parts]
    whole, states = np.concatenate(parts), [rule.init(p) for p in parts]
    state = rule.init(whole)
    for step in (1, 2, 3):
        whole, state = rule.update(whole, np.concatenate([g[step - 1] for g in grads]), state, 0.1, step)
        for k, g in enumerate(grads):
            parts[k], states[k] = rule.update(parts[k], g[step - 1], states[k], 0.1, step)
    assert np.array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0.0), r"SGD\(lr\) must be a finite number > 0, got 0\.0"),
        (lambda: SGD(-0.1), r"SGD\(lr\) must be a finite number > 0, got -0\.1"),
        (lambda: Adam(float("nan")), r"Adam\(lr\) must be a finite number > 0, got nan"),
        (lambda: Adam(float("inf")), r"Adam\(lr\) must be a finite number > 0, got inf"),
        (lambda: SGD("0.1"), r"SGD\(lr\) must be a finite number > 0, got '0\.1'"),
        (lambda: SGD(True), r"SGD\(lr\) must be a finite number > 0, got True"),
        (lambda: SGD(0.1, momentum=1.0), r"SGD\(momentum\) must be a number with 0 <= momentum < 1, got 1\.0"),
        (lambda: SGD(0.1, momentum=-0.5), r"SGD\(momentum\) must be"),
        (lambda: SGD(0.1, nesterov=True), r"SGD\(nesterov=True\) needs a momentum > 0"),
        (lambda: Adam(beta1=1.0), r"Adam\(beta1\) must be a number with 0 <= beta1 < 1, got 1\.0"),
        (lambda: Adam(beta2=1.5), r"Adam\(beta2\) must be"),
        (lambda: Adam(eps=-1e-8), r"Adam\(eps\) must be a finite number >= 0, got -1e-08"),
        (lambda: AdamW(weight_decay=-0.1), r"AdamW\(weight_decay\) must be a finite number >= 0, got -0\.1"),
        (lambda: AdamW(weight_decay=float("inf")), r"AdamW\(weight_decay\) must be"),
        (lambda: RMSProp(rho=1.0), r"RMSProp\(rho\) must be a number with 0 <= rho < 1, got 1\.0"),
        (lambda: Adagrad(eps=float("nan")), r"Adagrad\(eps\) must be"),
        (lambda: Adagrad(eps=True), r"Adagrad\(eps\) must be"),
        (lambda: optimizers.get("adm"), "unknown optimizer 'adm'. Did you mean 'adam'"),
        (lambda: optimizers.get(Adam(lambda step: -1.0)), r"the learning rate of step 0 is -1\.0"),
    ],
)
def test_settings_that_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_optimizer() -> None:
    with pytest.raises(TypeError, match=r"the class Adam, not an instance: write Adam\(...\)"):
        optimizers.get(Adam)
    with pytest.raises(TypeError, match="a name or an Optimizer, got 3"):
        optimizers.get(3)
    for name in OPTIMIZERS:
        assert isinstance(optimizers.get(name), OPTIMIZERS[name])


EXTREME = {
    **{name: kind(1e-3) for name, kind in OPTIMIZERS.items()},
    "sgd, momentum": SGD(1e-3, momentum=0.9),
    "sgd, nesterov": SGD(1e-3, momentum=0.9, nesterov=True),
}
GRADIENTS = [0.0, 1e-45, 1e-40, 1e-30, 1e-25, 1e-20, 1e-10, 1.0, 1e10, 1e18, 1e20]


def updated(optimizer: Any, gradient: float, dtype: str) -> float:
    """Theta after three steps from 0 with the same gradient."""
    theta = np.zeros(1, dtype)
    state = optimizer.init(theta)
    with np.errstate(all="ignore"):
        for step in (1, 2, 3):
            theta, state = optimizer.update(theta, np.full(1, gradient, dtype), state, 1e-3, step)
    return float(theta[0])


@pytest.mark.parametrize("eps", [0.0, 1e-8])
@pytest.mark.parametrize("name", EXTREME)
def test_gradients_of_any_size(name: str, eps: float) -> None:
    """Finite, and where the square of the gradient is a number of the dtype, as in exact arithmetic."""
    optimizer = EXTREME[name]
    if hasattr(optimizer, "eps"):
        optimizer = replace(optimizer, eps=eps)
    elif eps:
        pytest.skip("has no eps")
    squares = not name.startswith("sgd")
    for gradient in GRADIENTS:
        exact = updated(optimizer, gradient, "float64")
        assert math.isfinite(exact), gradient
        if gradient >= 1e-20:  # smaller moments may count as 0
            assert exact < 0
        single = updated(optimizer, gradient, "float32")
        assert math.isfinite(single), gradient
        if name == "adagrad" and gradient == 1e20:
            continue  # its square overflows
        if not squares or gradient == 0 or gradient >= 1e-20 or (eps and gradient > 1e-38):
            assert math.isclose(single, exact, rel_tol=5e-3, abs_tol=1e-24), gradient
        else:
            assert 1.000001 * exact <= single <= 0


def test_without_eps_a_tiny_gradient_is_a_whole_step() -> None:
    theta = np.ones(1, np.float32)
    optimizer = Adam(1e-3, eps=0.0)
    found, _ = optimizer.update(theta, np.full(1, 1e-20, np.float32), optimizer.init(theta), 1e-3, 1)
    assert float(found[0]) == pytest.approx(0.999, abs=2e-5)


@pytest.mark.parametrize("planned", [True, False])
def test_without_eps_units_without_a_gradient_stay(planned: bool) -> None:
    """0 / 0 is no step: half of the features are always 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)) * [1, 0, 1, 0]
    for optimizer in (Adam(0.01, eps=0.0), AdamW(0.01, eps=0.0), RMSProp(0.01, eps=0.0), Adagrad(0.01, eps=0.0)):
        network = xmlp.mlp([4, 8, 1])
        before = np.array(network.parameters[0]["W"])
        trainer = xmlp.Trainer(network, loss="squared_error", optimizer=optimizer, planned=planned)
        trainer.fit(x, x[:, :1], epochs=3)
        after = network.parameters[0]["W"]
        assert np.isfinite(network.theta).all()
        assert np.allclose(after[1::2], before[1::2], rtol=1e-3)
        assert not np.allclose(after[::2], before[::2], rtol=1e-3)


def test_moments_of_a_gradient_that_has_become_zero_are_flushed() -> None:
    optimizer, theta = Adam(1e-3), np.ones(1, np.float32)
    state = {"m": np.full(1, 1e-31, np.float32), "v": np.full(1, 1e-37, np.float32)}
    _, after = optimizer.update(theta, np.zeros(1, np.float32), state, 1e-3, 1000)
    assert after["m"][0] == after["v"][0] == 0

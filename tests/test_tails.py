"""Functions and derivatives where digits are lost easily: tails, kinks, edges of the range; to exact values."""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import xmlp
from xmlp import activations
from xmlp.compiler.planner import plan
from xmlp.compiler.tensor import Tracer, TracingBackend
from xmlp.graph import Formula, elementwise
from xmlp.runtime import replay

SELU = 1.0507009873554805, 1.6732632423543772


def exact_elu(x: Any) -> Any:
    return mpmath.mpf(1) if x > 0 else mpmath.exp(x)


def exact_selu(x: Any) -> Any:
    return mpmath.mpf(SELU[0]) * (1 if x > 0 else mpmath.mpf(SELU[1]) * mpmath.exp(x))


def planned(formula: Formula, x: Any) -> list[Any]:
    """The values by each driver that is here."""
    tracer, dtype = Tracer(), str(x.dtype)
    traced = formula.evaluate(TracingBackend(tracer, dtype).xp, tracer.input("x", (1, x.size), dtype))
    made, drivers = plan([("y", traced.node)]), [replay.Program]
    try:
        from xmlp.runtime import native

        drivers.append(native.Program)
    except ImportError:
        pass
    results = []
    for driver in drivers:
        arrays = {"x": x[None].copy(), "y": np.zeros((1, x.size), dtype)}
        driver(xmlp.backend("numpy", dtype=dtype).lower(made), arrays).once()
        results.append(arrays["y"][0])
    return results


def everywhere(formula: Formula, x: Any) -> list[Any]:
    """The values by array operations and by each driver."""
    with np.errstate(all="ignore"):
        return [formula(x), *planned(formula, x)]


def roundings(found: Any, x: Any, true: Callable[[Any], Any]) -> float:
    """The largest error in units of the relative rounding error."""
    with mpmath.workdps(50):
        exact = [true(mpmath.mpf(float(v))) for v in x]
        errors = [abs(mpmath.mpf(float(f)) - t) / max(abs(t), 1e-300) for f, t in zip(found, exact, strict=True)]
    return float(max(errors) / np.finfo(x.dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "true"), [("elu", exact_elu), ("selu", exact_selu)], ids=["elu", "selu"]
)  # fmt: skip
def test_slopes_of_exponential_units_keep_their_digits(name: str, true: Callable[[Any], Any], dtype: str) -> None:
    x = np.asarray([-80.0, -40.0, -20.0, -17.3, -10.0, -3.0, -1.0, -0.1, -1e-6, -0.0, 0.0, 1e-6, 3.0, 50.0], dtype)
    for found in everywhere(getattr(activations, name).derivative, x):
        assert roundings(found, x, true) < 2.5


def test_slopes_of_exponential_units_in_figures() -> None:
    x = np.asarray([-10.0, -20.0], np.float32)
    assert activations.elu.derivative(x).tolist() == pytest.approx([4.5399931e-05, 2.0611537e-09], rel=1e-6)
    own = elementwise(lambda xp, x: 3.0 * xp.expm1(x))
    assert own.derivative(x).tolist() == pytest.approx([1.3619979e-04, 6.183461e-09], rel=1e-6)
    pull = activations.elu.pullback
    given = {"x": x, "output": activations.elu(x), "dy": np.ones_like(x)}
    assert pull(*(given[name] for name in pull.arrays)).tolist() == pytest.approx(
        [4.5399931e-05, 2.0611537e-09], rel=1e-6
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_hard_sigmoid_near_its_kinks(dtype: str) -> None:
    steps = np.ldexp(1.0, -np.arange(1, 20))
    x = np.concatenate([-3 + steps, 3 - steps, [-3.0, 3.0, 0.0, -4.0, 4.0]]).astype(dtype)
    for found in everywhere(activations.hard_sigmoid, x):
        assert roundings(found, x, lambda v: min(max((v + 3) / 6, mpmath.mpf(0)), mpmath.mpf(1))) <= 1
        assert found[-5:].tolist() == [0.0, 1.0, 0.5, 0.0, 1.0]
    assert activations.hard_sigmoid.derivative(x[-5:]).tolist() == pytest.approx([0, 0, 1 / 6, 0, 0])


KINKS = {  # at exactly 0, and at both bounds where there are any
    "relu": ([0.0, -0.0], [0.0, 0.0]),
    "leaky_relu": ([0.0, -0.0], [0.01, 0.01]),
    "elu": ([0.0, -0.0], [1.0, 1.0]),
    "selu": ([0.0, -0.0], [SELU[0] * SELU[1]] * 2),
    "hard_tanh": ([-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]),
    "sigmoid": ([0.0, -0.0], [0.25, 0.25]),
    "tanh": ([0.0, -0.0], [1.0, 1.0]),
    "softplus": ([0.0, -0.0], [0.5, 0.5]),
    "gelu": ([0.0, -0.0], [0.5, 0.5]),
    "silu": ([0.0, -0.0], [0.5, 0.5]),
    "mish": ([0.0, -0.0], [0.6, 0.6]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KINKS)
def test_slopes_at_kinks(name: str, dtype: str) -> None:
    x, slopes = KINKS[name]
    for found in everywhere(activations.ACTIVATIONS[name].derivative, np.asarray(x, dtype)):
        np.testing.assert_allclose(found, slopes, rtol=4 * np.finfo(dtype).eps)


FUNCTIONS = {name: elementwise(function) for name, function in {
    "exp": lambda xp, x: xp.exp(x), "expm1": lambda xp, x: xp.expm1(x), "log": lambda xp, x: xp.log(x),
    "log1p": lambda xp, x: xp.log1p(x), "tanh": lambda xp, x: xp.tanh(x), "sqrt": lambda xp, x: xp.sqrt(x),
}.items()}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_at_the_edges_of_float32(name: str) -> None:
    """To the values in float64: what is infinite or nan is so in each driver, the rest is within 4 ulp."""
    edges = [88.72, 88.9, 89.07, 89.2, 89.42, -87.3, -88.0, -103.97, -104.0, -17.3, -1.0, 0.0, 1e-38, 1.0, 10.0, 3.4e38]
    near = [np.float32(e) * (1 + np.arange(-200, 201, dtype=np.float64) * 2.0**-23) for e in edges]
    wide = np.linspace(-110.0, 95.0, 20_001), [np.inf, -np.inf, np.nan, 0.0, -0.0]
    with np.errstate(all="ignore"):
        x = np.concatenate([*near, *wide]).astype(np.float32)
        true = getattr(np, name)(x.astype(np.float64))
        rounded = true.astype(np.float32)
    for found in everywhere(FUNCTIONS[name], x):
        np.testing.assert_array_equal(np.isnan(found), np.isnan(rounded))
        np.testing.assert_array_equal(np.isinf(found), np.isinf(rounded))
        finite = np.isfinite(rounded)
        errors = np.abs(found[finite] - true[finite]) / np.spacing(np.abs(rounded[finite])).astype(np.float64)
        assert errors.max() < 4

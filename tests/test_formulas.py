"""Formulas: their derivatives, their printed form, their simplification, what they refuse; then random ones."""

import inspect
import math
import operator
from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as xnp
import numpy as np
import pytest
from conftest import Mode
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import ACTIVATION_DB, LOSS_DB, Bounded, BoundedNamespace, derivative, random_bits
from tolerances import check, report, ulps  # noqa: F401  (a fixture)

from xmlp import TraceError, activations, elementwise, layers, losses
from xmlp.activations import ACTIVATIONS
from xmlp.graph import Formula

NAMES = [name for name, record in ACTIVATION_DB.items() if record.elementwise]
SMOOTH = [name for name in NAMES if not ACTIVATION_DB[name].kinks]
LOSS_FORMULAS = [name for name, record in LOSS_DB.items() if hasattr(record.loss, "formula")]
MAX, MAX32 = np.finfo(np.float64).max, float(np.finfo(np.float32).max)
SMALL = np.asarray([5e-324, 1e-300, 1e-40, 1e-16, 1e-8, 1e-3])
LARGE = np.asarray([88, 89, 709, 710, 1e4, MAX32, MAX, np.inf])
GRID = np.concatenate([np.linspace(-12, 12, 97), SMALL, -SMALL, [20.0, -20.0, 30.0, -30.0]])
EXTREMES = np.concatenate([GRID, LARGE, -LARGE])


def error(found: Any, true: Any) -> float:
    return float(np.max(np.abs(found - true) / np.maximum(1.0, np.abs(true))))


# --- derivatives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_derivative_of_an_activation(name: str) -> None:
    record, formula = ACTIVATION_DB[name], ACTIVATIONS[name]
    x, goal = np.setdiff1d(GRID, list(record.kinks)), "derivative of a formula, to complex step"
    check(goal, error(formula.derivative(x), derivative(record.f, x)), name)
    through_output = formula.pullback(x, formula(x), np.full_like(x, -2.0)) / -2.0
    check(goal, error(through_output, derivative(record.f, x)), f"{name}, pullback")


@elementwise
def power(xp, base, exponent):  # type: ignore[no-untyped-def]
    return base**exponent


def test_derivative_of_a_power_by_base_and_by_exponent() -> None:
    base, exponent = np.meshgrid(np.linspace(0.2, 3.0, 15), np.linspace(-2.5, 2.5, 11))
    goal = "derivative of a formula, to complex step"
    check(goal, error(power.derivative(base, exponent), derivative(lambda b: b**exponent, base)), "base")
    check(goal, error(power.partial("exponent")(base, exponent), derivative(lambda e: base**e, exponent)), "exponent")


@pytest.mark.parametrize("name", LOSS_FORMULAS)
def test_derivative_of_a_loss(name: str) -> None:
    record = LOSS_DB[name]
    p, y = np.meshgrid(np.linspace(0.05, 0.95, 19) if record.output else np.append(GRID, 0.0), [0.0, 0.3, 1.0])
    p, y = (p[p != y], y[p != y]) if name == "absolute_error" else (p, y)
    slope, goal = record.loss.formula.derivative(p, y), "derivative of a formula, to complex step"
    check(goal, error(slope, derivative(lambda z: record.terms(z, y), p)), name)
    if not record.output:
        slope = record.loss.formula.partial("target")(p, y)
        check(goal, error(slope, derivative(lambda t: record.terms(p, t), y)), f"{name}, target")


@pytest.mark.parametrize("name", SMOOTH)
def test_derivative_at_exactly_0(name: str) -> None:
    """The complex step shares the branch that is taken, central differences do not."""
    zero, h, goal = np.zeros(1), np.asarray([1e-5]), "derivative of a formula at 0, to central differences"
    for f in (ACTIVATIONS[name], ACTIVATIONS[name].derivative):
        check(goal, error(f.derivative(zero), (f(h) - f(-h)) / (2 * h)), f.name)


def test_derivative_of_the_logistic_loss_at_exactly_0() -> None:
    f, z, y, h = losses.cross_entropy.cross_entropy_at_logit, np.zeros(3), np.asarray([0.0, 0.5, 1.0]), 1e-5
    slope = f.derivative(z, y)
    assert np.array_equal(slope, 0.5 - y)
    check("derivative of a formula at 0, to central differences", error(slope, (f(z + h, y) - f(z - h, y)) / (2 * h)))


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivative(name: str) -> None:
    """The graph of f' runs on complex numbers: they compare by their real parts first."""
    f = ACTIVATIONS[name]
    x = np.linspace(-9, 9, 72)
    true = derivative(lambda z: f.derivative.evaluate(np, z) + 0j * z, x)
    check("second derivative of a formula, to complex step", error(f.derivative.derivative(x), true), name)


# --- what a graph looks like ------------------------------------------------------------------------------------------


def body(formula: Formula) -> str:
    return formula.source.partition(":\n")[2].replace("    ", "")


def test_derivatives_are_readable() -> None:
    assert body(activations.identity.derivative) == "return 1"
    assert body(activations.relu.derivative) == "return where(x > 0, 1, 0)"
    assert body(activations.leaky_relu.derivative) == "return where(x > 0, 1, alpha)"
    assert body(activations.tanh.derivative) == "return 1 - tanh(x) ** 2"
    assert body(activations.sigmoid.derivative).endswith("return t2 * (1 - t2)")
    assert body(losses.elementwise.squared_error.derivative) == "return 2 * factor * (prediction - target)"
    assert body(losses.SquaredError().formula.derivative) == "return 2 * factor * (prediction - target)"


def test_derivatives_that_are_other_formulas() -> None:
    """Equal graphs are the same object."""
    (slope,), (sigmoid,) = activations.softplus.derivative.graph.outputs, activations.sigmoid.graph.outputs
    assert slope is sigmoid

    @elementwise
    def sigmoid_minus_target(z, target):
        return activations.sigmoid(z) - target

    assert losses.cross_entropy.cross_entropy_at_logit.derivative.graph.outputs == sigmoid_minus_target.graph.outputs


def test_pullbacks_read_the_output_instead_of_computing_it_again() -> None:
    assert body(activations.sigmoid.pullback) == "return dy * output * (1 - output)"
    assert body(activations.tanh.pullback) == "return dy * (1 - output ** 2)"
    for formula in (activations.sigmoid, activations.tanh):
        assert formula.pullback.reads == {"output", "dy"}
    assert activations.relu.pullback.reads == {"x", "dy"}
    assert elementwise(lambda xp, x: xp.exp(x)).pullback.reads == {"output", "dy"}


def test_common_subexpressions_are_shared() -> None:
    @elementwise
    def twice(xp, x):
        return xp.exp(-x) / (1.0 + xp.exp(-x)), xp.exp(-x) + 0.0

    assert twice.source.count("exp") == 1
    for name in ("sigmoid", "silu", "softplus", "mish", "gelu"):
        assert ACTIVATIONS[name].derivative.source.count("exp(") == 1, name


# --- on every array library -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_formulas_keep_the_dtype(mode: Mode, name: str) -> None:
    f, x = ACTIVATIONS[name], np.linspace(-4.1, 4.1, 17).astype(np.float32)
    dy = np.full_like(x, 0.3)
    true = f(x.astype(np.float64))
    for dtype in mode.dtypes:
        z = mode.put(x, dtype)
        found = f(z), f.derivative(z), f.pullback(z, f(z), mode.put(dy, dtype))
        assert all(str(a.dtype).endswith(dtype) for a in found), [a.dtype for a in found]
        slope = f.derivative(x.astype(np.float64))
        for a, b in zip(found, (true, slope, slope * np.float64(dy)), strict=True):
            check(f"any mode, formula, {dtype}", error(mode.get(a), b), f"{mode}, {name}")


@pytest.mark.parametrize("name", LOSS_FORMULAS)
def test_loss_formulas_keep_the_dtype(mode: Mode, name: str) -> None:
    f = LOSS_DB[name].loss.formula
    p = np.linspace(0.06, 0.97, 16).astype(np.float32).reshape(4, 4)
    y = np.asarray([[0.0, 0.25, 0.75, 1.0]], dtype=np.float32)
    for dtype in mode.dtypes:
        z, t = mode.put(p, dtype), mode.put(y, dtype)
        for a, b in ((f(z, t), f(p.astype(float), y)), (f.derivative(z, t), f.derivative(p.astype(float), y))):
            assert str(a.dtype).endswith(dtype)
            check(f"any mode, formula, {dtype}", error(mode.get(a), b), f"{mode}, {name}")


@pytest.mark.parametrize("keys", [(0, 0), (1, -1), (-(2**31), 2**31 - 1), (123456789, -987654321)])
def test_random_bits_are_the_same_everywhere(mode: Mode, keys: tuple[int, int]) -> None:
    element = mode.put(np.arange(1000, dtype=np.int32), None)
    bits = layers.random_bits(element, first=keys[0], second=keys[1])
    assert str(bits.dtype).endswith("int32")
    assert np.array_equal(mode.get(bits), random_bits(1000, *keys))


# --- what a formula can be --------------------------------------------------------------------------------------------


def test_scalars_and_bind() -> None:
    @elementwise
    def scaled(xp, x, *, factor, power=2.0):
        """factor x^power."""
        return factor * x**power

    x = np.asarray([1.0, 2.0, 3.0])
    assert scaled.arrays == ("x",)
    assert scaled.__doc__ == "factor x^power."
    assert scaled(x, factor=2.0).tolist() == [2.0, 8.0, 18.0]
    assert scaled.bind(factor=2.0)(x).tolist() == [2.0, 8.0, 18.0]
    assert scaled.bind(factor=2.0)(x, factor=1.0, power=3.0).tolist() == [1.0, 8.0, 27.0]
    assert repr(scaled.bind(factor=2.0)) == "scaled(factor=2.0, power=2.0)"
    assert scaled.bind(factor=2.0) == scaled.bind(factor=2.0) != scaled.bind(factor=3.0)
    check("formula by hand", error(scaled.derivative(x, factor=0.5, power=3.0), 1.5 * x**2))
    assert activations.leaky_relu.bind(alpha=0.5).derivative(np.asarray([-1.0])).tolist() == [0.5]
    with pytest.raises(TypeError, match="needs the scalar 'factor'"):
        scaled(x)
    with pytest.raises(TypeError, match=r"no scalar \['scale'\]; it has \['factor', 'power'\]"):
        scaled(x, factor=1.0, scale=2.0)
    with pytest.raises(TypeError, match=r"takes 1 arrays \(x\), got 2"):
        scaled(x, x, factor=1.0)
    with pytest.raises(ValueError, match="no array argument 'factor'"):
        scaled.partial("factor")


def test_several_outputs_and_broadcasting() -> None:
    @elementwise
    def polar(xp, x, y):
        return xp.sqrt(x**2 + y**2), x - y, 1.0

    x, y = np.asarray([[3.0], [0.0]]), np.asarray([4.0, 1.0])
    radius, difference, one = polar(x, y)
    assert radius[:, 0].tolist() == [5.0, 4.0]
    assert difference.tolist() == [[-1.0, 2.0], [-4.0, -1.0]]
    assert one.shape == x.shape
    assert polar.partial("y")(x, y)[0].tolist() == [4 / 5, 1 / math.sqrt(10)]


def test_formulas_inside_formulas() -> None:
    @elementwise
    def swish(x, *, beta):
        return x * activations.sigmoid(beta * x)

    @elementwise
    def leaky(x):
        return activations.leaky_relu(x, alpha=0.25) + swish(x, beta=1.0)

    x = np.linspace(-3, 3, 13)
    s = 1 / (1 + np.exp(-x))
    check("formula by hand", error(leaky(x), np.where(x > 0, x, 0.25 * x) + x * s))
    check("formula by hand", error(leaky.derivative(x), np.where(x > 0, 1, 0.25) + s + x * s * (1 - s)))
    true = derivative(lambda z: z / (1 + np.exp(-2 * z)), x)
    check("derivative of a formula, to complex step", error(swish.derivative(x, beta=2.0), true))


def test_a_function_of_a_python_number_is_computed_in_double_precision() -> None:
    @elementwise
    def rooted(xp, x, *, s):
        return x * xp.sqrt(s)

    assert rooted(np.ones(1, dtype=np.float32), s=2.0).dtype == np.float32
    assert rooted(np.ones(1), s=2.0)[0] == math.sqrt(2.0)


def test_zero_has_a_sign() -> None:
    signed = elementwise(lambda xp, x: (xp.where(x > 0, x, -0.0), xp.where(x > 0, x, 0.0)))
    assert [np.signbit(zero).item() for zero in signed(-np.ones(1))] == [True, False]


# --- what a formula refuses -------------------------------------------------------------------------------------------

REFUSED: list[tuple[Callable[..., Any], str]] = [
    (lambda x: x if x > 0 else -x, "cannot branch on its data"),
    (lambda x: x > 0 and x < 1, "cannot branch on its data"),
    (lambda x: x.sum(), r"not array methods or attributes: \.sum"),
    (lambda x: x.T, r"not array methods or attributes: \.T"),
    (lambda xp, x: xp.sin(x), r"xp\.sin is not in the vocabulary of formulas\. Known: add, .*where"),
    (lambda xp, x: xp.exp(x, x), r"xp\.exp takes 1 arguments, got 2"),
    (lambda x: float(x), "cannot read a value"),
    (lambda x: math.exp(x), "cannot read a value"),
    (lambda x: [1.0, 2.0][x], "cannot read a value"),
    (lambda x: len(x) * x, "cannot index or iterate"),
    (lambda x: sum(x), "cannot index or iterate"),
    (lambda x: x[0], "cannot index or iterate"),
    (lambda x: x + "1", "Python numbers only, got str"),
    (lambda x: x + np.ones(3), "Python numbers only, got ndarray"),
    (lambda xp, x: xp.where(x, 1.0, 2.0), "the condition must be a comparison"),
    (lambda x: (x > 0) * 2.0, "multiply takes float or int32, got bool|does not combine"),
    (lambda x: x & 1, "bitwise_and"),
    (lambda xp, x: xp.astype(x, xp.bool), "astype in a formula"),
]


@pytest.mark.parametrize(("function", "message"), REFUSED, ids=[f"{k}" for k in range(len(REFUSED))])
def test_refused_with_the_line(function: Callable[..., Any], message: str) -> None:
    formula = elementwise(function)
    with pytest.raises(TraceError, match=f"(?s){message}.*") as caught:
        formula(np.ones(3))
    place = f'File "{__file__}", line {function.__code__.co_firstlineno}: '
    line = inspect.getsource(function).strip()
    assert f"{place}{line}" in str(caught.value)


def test_refused_mixing_of_integers_and_floats() -> None:
    @elementwise
    def mixed(x, n: int):
        return x * n

    with pytest.raises(TraceError, match=r"does not mix float and int32; use where or astype\n.*return x \* n"):
        mixed(np.ones(3), np.ones(3, dtype=np.int32))

    @elementwise
    def fraction(n: int):
        return n + 0.5

    with pytest.raises(TraceError, match=r"a Python float does not combine with an array of int32"):
        fraction(np.ones(3, dtype=np.int32))

    @elementwise
    def converted(xp, x, n: int):
        return x * xp.astype(n, x.dtype)

    assert converted(np.full(2, 1.5, dtype=np.float32), np.asarray([2, 3], dtype=np.int32)).tolist() == [3.0, 4.5]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda *x: x[0], "names each of its arguments"),
        (lambda x, **scalars: x, "names each of its arguments"),
        (lambda xp, *, a: a, "at least one array argument"),
        (lambda x, dy: x, "the name 'dy' is taken"),
        (lambda output: output, "the name 'output' is taken"),
    ],
)
def test_refused_signatures(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        elementwise(function)


def test_refused_results() -> None:
    with pytest.raises(TypeError, match="a formula returns arrays, got NoneType"):
        elementwise(lambda x: None)(np.ones(1))


# --- simplification ---------------------------------------------------------------------------------------------------


def as_written(formula: Formula, *arrays: Any) -> Any:
    """What the function that a formula was made of gives on NumPy arrays."""
    function = formula._definition.source
    scalars = {name: value for name, value in formula.scalars.items() if value is not None}
    return function(*([xnp] if "xp" in inspect.signature(function).parameters else []), *arrays, **scalars)


def complaints(f: Callable[..., Any], *args: Any) -> tuple[set[str], Any]:
    """What NumPy would warn of, apart from underflow; and the value."""
    kinds: set[str] = set()
    with np.errstate(all="call", under="ignore", call=lambda kind, _: kinds.add(kind)):
        value = f(*args)
    return kinds, value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_at_the_extremes(name: str, dtype: str) -> None:
    """No warning, no nan but from nan; the graph gives what the function gives."""
    f = ACTIVATIONS[name]
    with np.errstate(over="ignore", under="ignore"):
        x = EXTREMES.astype(dtype)
    x = x[x != np.finfo(dtype).max] if name == "selu" else x  # 1.05 max is inf
    kinds, value = complaints(f, x)
    assert not kinds
    goal = "formula at the extremes, simplified to as written, in ulp"
    check(goal, ulps(value, np.astype(as_written(f, x), dtype)), f"{name}, {dtype}")
    for g in (f.derivative, f.derivative.derivative):
        kinds, slope = complaints(g, x)
        assert not kinds, g.name
        assert np.isfinite(slope).all(), g.name
    kinds, slope = complaints(f.pullback, x, value, np.ones_like(x))
    assert not kinds
    check(f"any mode, formula, {dtype}", error(slope, f.derivative(x)), f"{name}, pullback")
    assert np.isnan(f(np.full(1, np.nan, dtype=dtype))).all()


@pytest.mark.parametrize("name", LOSS_FORMULAS)
def test_losses_at_the_extremes(name: str) -> None:
    """The graph warns of nothing that the function as written does not warn of."""
    f, output = LOSS_DB[name].loss.formula, LOSS_DB[name].output
    probabilities = np.asarray([0.0, 5e-324, 1e-300, 1e-16, 0.5, 1 - 1e-16, 1.0])
    p, y = np.meshgrid(probabilities if output else EXTREMES, [0.0, 0.3, 1.0, 1e4])
    allowed, written = complaints(as_written, f, p, y)
    kinds, value = complaints(f, p, y)
    assert kinds <= allowed
    check("formula at the extremes, simplified to as written, in ulp", ulps(value, written), name)
    kinds, slope = complaints(f.derivative, p, y)
    assert kinds <= allowed | ({"overflow"} if output else set())  # log'(5e-324) is inf
    assert not np.isnan(slope[np.isfinite(p)]).any()


def test_a_slope_of_the_branch_that_is_not_taken_does_not_leak() -> None:
    rooted, x = elementwise(lambda xp, x: xp.where(x > 0, xp.sqrt(x), -2.0 * x)), np.asarray([4.0, 0.0, -1.0])
    with np.errstate(all="ignore"):  # as in the value, the root of -1 is computed and dropped
        assert rooted.derivative(x).tolist() == [0.25, -2.0, -2.0]
        assert rooted.pullback(x, rooted(x), 3.0 * np.ones(3)).tolist() == [0.75, -6.0, -6.0]


# --- random formulas --------------------------------------------------------------------------------------------------

Tree = Any
CONSTANTS = st.sampled_from([-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0])
UNARY = ("negative", "abs", "exp", "expm1", "log", "log1p", "sqrt", "tanh", "square", "cube")
BINARY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
COMPARED = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def _larger(trees: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    either = trees | CONSTANTS
    two = st.sampled_from([*BINARY, "maximum", "minimum"])
    return (
        st.tuples(st.sampled_from(UNARY), trees)
        | st.tuples(two, trees, either)
        | st.tuples(two, CONSTANTS, trees)
        | st.tuples(st.just("where"), st.sampled_from([*COMPARED]), trees, either, trees, either)
        | st.tuples(st.just("where"), st.sampled_from([*COMPARED]), trees, either, CONSTANTS, trees)
    )


TREES = st.recursive(st.sampled_from(["x", "y"]), _larger, max_leaves=9)


def build(tree: Tree, xp: Any, **leaves: Any) -> Any:
    """A tree as a computation with the operators of whatever x and y are, and the functions of xp."""
    if isinstance(tree, float):
        return tree
    if isinstance(tree, str):
        return leaves[tree]
    name, *rest = tree
    if name == "where":
        a, b, p, q = (build(t, xp, **leaves) for t in rest[1:])
        return xp.where(COMPARED[rest[0]](a, b), p, q)
    args = [build(t, xp, **leaves) for t in rest]
    if name in BINARY:
        return BINARY[name](*args)
    if name in ("square", "cube"):
        return args[0] ** (2 if name == "square" else 3)
    return -args[0] if name == "negative" else getattr(xp, name)(*args)


POINTS = np.random.default_rng(5).uniform(-3, 3, size=(2, 40))


@settings(max_examples=3000, derandomize=True, database=None, deadline=None)
@given(TREES)
def test_random_formulas(tree: Tree) -> None:
    """Value: as the function as written, to a few roundings, without new warnings. Slope: that of the complex step."""
    x, y = POINTS
    formula = elementwise(lambda xp, x, y: build(tree, xp, x=x, y=y))
    allowed, written = complaints(lambda: build(tree, xnp, x=x, y=y))
    try:
        kinds, value = complaints(formula, x, y)
        slope = complaints(formula.partial("x"), x, y)[1]
    except (ArithmeticError, ValueError):  # numbers alone, as in x / 0, are Python's, which raises where arrays warn
        assert allowed
        return
    assert kinds <= allowed, formula.source
    with np.errstate(all="ignore"):
        bounded = build(tree, BoundedNamespace(), x=Bounded(x + 1e-30j), y=Bounded(y))
        true, sure = bounded.value.imag / 1e-30, np.isfinite(bounded.error) & (bounded.error < 1e6)
        error = abs(value - written) / (np.finfo(float).eps * bounded.error + 1e-300)
        check("random formula, simplified to as written, in roundings", np.max(error, where=sure, initial=0), tree)
        sure &= abs(true) < 1e6
        scale, h = np.maximum(1.0, abs(true) + bounded.error), 1e-5
        error = abs(slope - true) / scale
        check("derivative of a random formula, to complex step", np.max(error, where=sure, initial=0), tree)
        left, right = (formula.partial("x")(x + d, y) for d in (-h, h))
        numeric = (formula(x + h, y) - formula(x - h, y)) / (2 * h)
        curved = abs(left - 2 * slope + right)  # of the order of what the quotient truncates, and large at a kink
        error = (abs(slope - numeric) - curved) / scale
        goal = "derivative of a random formula, to central differences"
        check(goal, np.max(error, where=sure & np.isfinite(curved), initial=0), tree)

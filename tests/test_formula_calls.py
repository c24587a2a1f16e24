"""Formulas that call formulas, and functions of array libraries where those of the namespace are wanted."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xmlp
from xmlp.activations import elu, gelu, mish, relu, selu, sigmoid, silu, softplus, tanh
from xmlp.graph import TraceError, elementwise
from xmlp.graph.derivative import differentiate
from xmlp.graph.node import array

X = np.asarray([-3.0, -0.7, 0.0, 0.4, 2.5])


def slope(f: Callable[[Any], Any], x: Any) -> Any:
    """The derivative by central differences."""
    return (f(x + 1e-6) - f(x - 1e-6)) / 2e-6


@pytest.mark.parametrize("inner", [elu, gelu, mish, selu, sigmoid, silu, softplus, tanh], ids=lambda f: f.name)
@pytest.mark.parametrize(
    "outer",
    [
        lambda f: lambda xp, x: f(x) + x,
        lambda f: lambda xp, x: f(x),
        lambda f: lambda xp, x: f(x) * f(2.0 * x),
        lambda f: lambda xp, x: f(f(x)) - f(x),
        lambda f: lambda xp, x: xp.tanh(f(-x)) + relu(x),
    ],
)
def test_a_formula_of_formulas_has_a_derivative(outer: Any, inner: Any) -> None:
    """Also where its argument has the name that the inner formula's own has; and the inner one keeps its own."""
    before = inner.derivative.source
    formula, x = elementwise(outer(inner)), X[X != 0]
    np.testing.assert_allclose(formula.derivative(x), slope(formula, x), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(formula.derivative.derivative(x), slope(formula.derivative, x), rtol=1e-7, atol=1e-8)
    again = elementwise(lambda xp, x: inner(x) + formula(x))
    np.testing.assert_allclose(again.derivative(x), inner.derivative(x) + formula.derivative(x), rtol=1e-12)
    assert inner.derivative.source == before
    assert elementwise(inner._definition.source).derivative.source == before


def test_a_network_with_a_formula_of_formulas_trains() -> None:
    network = xmlp.mlp([2, 8, 1], elementwise(lambda xp, x: selu(x) + x), seed=1)
    x = np.random.default_rng(0).normal(size=(50, 2))
    loss = network.fit(x, x[:, 0] * x[:, 1], epochs=20)["loss"]
    assert loss[-1] < loss[0]


def test_a_derivative_finds_its_variable_by_name_and_dtype() -> None:
    formula = elementwise(lambda xp, x: x * x)
    output = formula.graph.outputs[0]
    assert repr(differentiate(output, array("x"), {}, {})) == repr(formula.derivative.graph.outputs[0])
    stranger = type(output)("array", (), "x", "float")  # an equal node that is another object
    assert repr(differentiate(output, stranger, {}, {})) == repr(formula.derivative.graph.outputs[0])
    assert repr(differentiate(output, array("y"), {}, {})) == "0"


def test_no_derivative_with_respect_to_integers() -> None:
    def shifted(xp: Any, n: int, x: Any) -> Any:
        return xp.where(n > 2, x, 2.0 * x)

    formula = elementwise(shifted)
    assert formula.partial("x")(np.asarray([1, 3], np.int32), np.ones(2)).tolist() == [2.0, 1.0]
    with pytest.raises(TypeError, match="n is of int32"):
        formula.derivative.source  # noqa: B018


# --- functions of array libraries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "instead"),
    [
        (lambda xp, x: np.tanh(x), "write xp.tanh"),
        (lambda xp, x: 1.0 + np.exp(-x), "write xp.exp"),
        (lambda xp, x: np.where(x > 0, x, 0.0), "write xp.where"),
        (lambda xp, x: np.power(x, x), "write xp.pow"),
        (lambda xp, x: np.absolute(x), "write xp.abs"),
        (lambda xp, x: np.maximum(0.0, x), "write xp.maximum"),
        (lambda xp, x: np.clip(x, 0, 1), "functions of xp: add"),
        (lambda xp, x: np.sinh(x), "functions of xp: add"),
        (lambda xp, x: np.asarray(x), "functions of xp: add"),
        (lambda xp, x: np.ones(3) * x, "np.multiply"),
        (lambda xp, x: math.tanh(x), "write xp.tanh"),
    ],
)
def test_functions_of_numpy_are_refused_in_our_words_with_the_line(function: Any, instead: str) -> None:
    with pytest.raises(TraceError) as caught:
        elementwise(function)(X)
    assert instead in str(caught.value)
    assert f'File "{__file__}", line ' in str(caught.value)


@pytest.mark.parametrize("name", ["tanh", "relu", "where"])
def test_functions_of_torch_are_refused_in_our_words(name: str) -> None:
    torch = pytest.importorskip("torch")
    arguments: Any = (lambda x: (x > 0, x, x)) if name == "where" else lambda x: (x,)
    with pytest.raises(TraceError, match=rf"(?s)torch\.{name}.*line "):
        elementwise(lambda xp, x: getattr(torch, name)(*arguments(x)))(X)


def test_functions_of_jax_are_refused_in_our_words() -> None:
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(TraceError, match=r"functions of xp") as caught:
        elementwise(lambda xp, x: jnp.tanh(x))(X)
    assert f'File "{__file__}", line ' in str(caught.value)


def test_an_error_of_the_author_stays_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        elementwise(lambda xp, x: x * (1 // 0))(X)
    with pytest.raises(NameError):
        elementwise(lambda xp, x: x * undefined)(X)  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize("function", [np.tanh, np.maximum])
def test_a_function_of_numpy_is_no_activation(function: Any) -> None:
    with pytest.raises(TypeError, match=rf"xp\.{function.__name__}\(x\)"):
        xmlp.mlp([2, 3, 1], function)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.int32])
def test_numbers_of_numpy_are_numbers(kind: Any) -> None:
    two, three = kind(2), kind(3)
    for function in (
        lambda xp, x: two * x, lambda xp, x: x * two, lambda xp, x: x / (1.0 / two),
        lambda xp, x: xp.where(two > x, two * x, x + x), lambda xp, x: xp.maximum(two * x, two * x),
    ):  # fmt: skip
        np.testing.assert_array_equal(elementwise(function)(X), 2.0 * X)
    np.testing.assert_array_equal(elementwise(lambda xp, x: x**two)(X), X * X)
    bound = elementwise(lambda xp, x, *, k=three: k * x)
    assert type(bound.scalars["k"]) in (int, float)
    assert repr(bound.bind(k=two)) in ("<lambda>(k=2)", "<lambda>(k=2.0)")
    with pytest.raises(ValueError, match="the scalar k of <lambda> must be a number, got 'a'"):
        bound.bind(k="a")

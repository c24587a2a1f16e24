"""Activations: their equations, derivatives, graphs and properties (documents 002 and 003)."""

import ast
import math
import operator
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from xmlp.activations import relu, sigmoid
from xmlp.graph import Formula
from xmlp.layers import Activation
from xmlp.verify import library, scalar
from xmlp.verify.core import Trial, check
from xmlp.verify.figures import curves, formulas
from xmlp.verify.scalar import CURVES, exact, quotient

KINKS = {"relu": [0.0], "leaky_relu": [0.0], "selu": [0.0], "hard_sigmoid": [-3.0, 3.0], "hard_tanh": [-1.0, 1.0]}
LINEAR = {"identity"}
NOT_MONOTONE = {"gelu", "silu", "mish"}
SATURATING = {"sigmoid", "tanh", "hard_sigmoid", "hard_tanh"}  # on both sides
POINTS = [-4.1 + 0.5 * k for k in range(17)]  # no kink among them


# --- reading a printed graph --------------------------------------------------------------------

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.USub: operator.neg, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(math, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh")},
    "abs": abs, "maximum": max, "minimum": min, "where": lambda c, p, q: p if c else q,
}  # fmt: skip


def read(source: str, **values: float) -> Any:
    """The value of a printed graph, a function in a few lines, for these arguments.

    >>> read(relu.source, x=-1.0), read(sigmoid.source, x=0.0)
    (0, 0.5)
    """
    names = dict(values)
    for line in source.splitlines()[1:]:
        name, _, expression = line.strip().partition(" = ")
        if not expression:
            return _value(ast.parse(name.removeprefix("return "), mode="eval").body, names)
        names[name] = _value(ast.parse(expression, mode="eval").body, names)
    raise ValueError(f"no value is returned in {source!r}")


def _value(node: ast.expr, names: dict[str, float]) -> Any:
    match node:
        case ast.Constant(value=number):
            return number
        case ast.Name(id=name):
            return names[name]
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATORS[type(op)](_value(operand, names))
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, names), _value(right, names))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _OPERATORS[type(op)](_value(left, names), _value(right, names))
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name](*(_value(a, names) for a in args))
    raise ValueError(f"cannot read {ast.unparse(node)!r}")


# --- checks -------------------------------------------------------------------------------------


def proved() -> dict[str, Formula]:
    """The activations that have a scalar form to be compared with; one that is added may do without."""
    return {name: formula for name, formula in formulas().items() if name in CURVES}


@check("002-25", title="activations: differentiable, linear, monotone, saturating?")
def properties(t: Trial) -> None:
    grid, step, suspects = [-30.0 + 0.25 * k for k in range(241)], 1e-6, [-3.0, -1.0, 0.0, 1.0, 3.0]
    n, m = len(grid), len(grid) + len(POINTS)
    at = t.put([*grid, *POINTS, *[x + side for x in suspects for side in (-step, 0.0, step)]])
    for name, formula in proved().items():
        f, slope = (t.host(t.backend.apply(g, at)) for g in (formula, formula.derivative))
        t.batch(slope[n:m], [quotient(CURVES[name].value, p) for p in POINTS])
        bends = max(abs(a - 2 * b + c) for a, b, c in zip(f[:n], f[1:n], f[2:n], strict=False)) > 1e-6
        t.require(bends == (name not in LINEAR), f"{name} is {'not ' if bends else ''}linear")
        falls = any(b < a - 1e-12 for a, b in pairwise(f[:n]))
        t.require(falls == (name in NOT_MONOTONE), f"{name} is {'not ' if falls else ''}monotone")
        level = max(abs(slope[0]), abs(slope[n - 1])) < 1e-9
        t.require(level == (name in SATURATING), f"{name} does {'' if level else 'not '}saturate on both sides")
        for k, x in zip(range(m + 1, len(f), 3), suspects, strict=True):
            low, high = sorted([(f[k] - f[k - 1]) / step, (f[k + 1] - f[k]) / step])
            t.require((high - low > 0.1) == (x in KINKS.get(name, [])), f"{name} at {x}: slopes from {low} to {high}")
            t.require(low - 1e-5 < slope[k] < high + 1e-5, f"{name}'({x}) = {slope[k]}, not from {low} to {high}")
    t.require(t.host(t.backend.apply(relu.derivative, t.put([0.0]))) == [0.0], "relu'(0) is not 0")


@check("002-O3", title="the printed equations of activations, read back and executed")
def printed(t: Trial) -> None:
    for name, formula in proved().items():
        given = {k: v for k, v in formula.scalars.items() if v is not None}
        want = [exact(CURVES[name].value, p) for p in POINTS], [quotient(CURVES[name].value, p) for p in POINTS]
        for printed_form, values in zip((formula, formula.derivative), want, strict=True):
            t.scalar([read(printed_form.source, x=p, **given) for p in POINTS], values)
            t.batch(t.backend.apply(printed_form, t.put(POINTS)), values)


@check("002-O4", title="graphs of every activation and its derivative")
def graphs(t: Trial) -> None:
    drawn = curves(t.backend, points=17)
    t.require(drawn.keys() == formulas().keys() and len(proved()) >= 13, f"drawn are {sorted(drawn)}")
    for name, (x, f, slope) in ((name, drawn[name]) for name in proved()):
        t.require((x[0], x[-1], len(x)) == (-4.0, 4.0, 17) and 0.0 in x, "the points do not reach from -4 to 4")
        t.batch(f, [exact(CURVES[name].value, p) for p in x])
        smooth = [k for k, p in enumerate(x) if p not in KINKS.get(name, [])]
        t.batch([slope[k] for k in smooth], [quotient(CURVES[name].value, x[k]) for k in smooth])


@check("003-05", title="ReLU: max(x, 0), its derivative 1 for x > 0 and 0 for x <= 0")
def rectifier(t: Trial) -> None:
    x = [-2.0, -1e-9, 0.0, 1e-9, 3.0]
    want = [[0.0, 0.0, 0.0, 1e-9, 3.0], [0.0, 0.0, 0.0, 1.0, 1.0]]
    t.scalar([[CURVES["relu"].value(v) for v in x], [scalar.slope("relu", [v], 0, 0) for v in x]], want)
    column = t.columns.column(x)
    jacobian = t.columns.by_weighted_inputs("relu", column)
    t.example([t.columns.vector(t.columns.activations("relu", column)), t.xp.sum(jacobian, axis=1)], want)
    t.batch([t.backend.apply(f, t.put(x)) for f in (relu, relu.derivative)], want)


@check("003-06", title="sigmoid: exp(-x) / (1 + exp(-x))^2 = s (1 - s)")
def two_forms(t: Trial) -> None:
    x = [-5.0, -1.0, 0.0, 0.5, 4.0]
    want = [quotient(scalar.sigmoid, v) for v in x]
    t.scalar([math.exp(-v) / (1 + math.exp(-v)) ** 2 for v in x], want)
    t.scalar([scalar.sigmoid(v) * (1 - scalar.sigmoid(v)) for v in x], want)
    e = t.xp.exp(-t.put(x))
    s = t.columns.activations("sigmoid", t.put(x))
    t.example([e / (1.0 + e) ** 2, s * (1.0 - s)], [want, want])
    t.batch(t.backend.apply(sigmoid.derivative, t.put(x)), want)


@check("003-07", title="linear activation: f(x) = x, f'(x) = 1, the default at the output")
def linear(t: Trial) -> None:
    x, ctx = [-2.0, 0.0, 3.0], library.context(t.backend)
    t.scalar(
        [[CURVES["identity"].value(v) for v in x], [scalar.slope("identity", [v], 0, 0) for v in x]], [x, [1.0] * 3]
    )
    t.example(t.columns.by_weighted_inputs("identity", t.columns.column(x)), t.columns.eye(3))
    layer = Activation(None)
    y, cache = layer.forward({}, t.put([x]), ctx)
    dx, _ = layer.backward({}, cache, t.put([[5.0, 6.0, 7.0]]), ctx)
    t.batch([y, dx], [[x], [[5.0, 6.0, 7.0]]])
    problem = scalar.Problem((3, 4, 2), ("tanh", "identity"), "squared")
    t.batch(t.network(problem).predict(problem.x), scalar.every(problem).z[-1])

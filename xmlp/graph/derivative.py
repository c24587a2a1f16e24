"""Symbolic derivatives of expression graphs.

`PARTIALS` is the table of calculus: for each operation the partial derivative with respect to each argument, written
in the operation's arguments and its own result `f`. An absent entry is a derivative of zero.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from xmlp.graph.node import FLOAT, Node, array, by_cases, const, make, substitute, walk
from xmlp.graph.trace import TRACE as xp
from xmlp.graph.trace import Calls, Traced, node_of

Partials = Iterator[tuple[Node, Callable[[], Node]]]
PARTIALS: dict[str, tuple[Callable[..., Any] | None, ...]] = {
    "add": (lambda a, b, f: 1.0, lambda a, b, f: 1.0),
    "subtract": (lambda a, b, f: 1.0, lambda a, b, f: -1.0),
    "multiply": (lambda a, b, f: b, lambda a, b, f: a),
    "divide": (lambda a, b, f: 1.0 / b, lambda a, b, f: -f / b),
    "pow": (lambda a, b, f: b * a ** (b - 1.0), lambda a, b, f: f * xp.log(a)),
    "negative": (lambda a, f: -1.0,),
    "abs": (lambda a, f: xp.where(a > 0, 1.0, xp.where(a < 0, -1.0, 0.0)),),
    "sqrt": (lambda a, f: 0.5 / f,),
    "exp": (lambda a, f: f,),
    "expm1": (lambda a, f: xp.exp(a),),  # f + 1 would lose all digits where f is near -1
    "log": (lambda a, f: 1.0 / a,),
    "log1p": (lambda a, f: 1.0 / (1.0 + a),),
    "tanh": (lambda a, f: 1.0 - f**2,),
    # at a tie both follow their second argument: the derivative of maximum(x, 0) at 0 is 0
    "maximum": (lambda a, b, f: xp.where(a > b, 1.0, 0.0), lambda a, b, f: xp.where(a > b, 0.0, 1.0)),
    "minimum": (lambda a, b, f: xp.where(a < b, 1.0, 0.0), lambda a, b, f: xp.where(a < b, 0.0, 1.0)),
    "where": (None, lambda c, p, q, f: xp.where(c, 1.0, 0.0), lambda c, p, q, f: xp.where(c, 0.0, 1.0)),
}


def differentiate(output: Node, variable: Node, calls: Calls, new: Calls) -> Node:
    """d output / d variable, simplified.

    Nodes in `calls` are values of other formulas and have those formulas' derivatives; what the result calls is written
    into `new`. `variable` is any node of the variable's name and dtype.
    """
    return by_cases(_forward(output, variable, partial(_partials, calls, new)) or const(0.0))


def _forward(output: Node, variable: Node, partials: Callable[[Node], Partials]) -> Node | None:
    """The chain rule from the inputs upwards; None stands for a derivative that is zero by structure."""
    named = [n for n in walk(output) if (n.op, n.value) == (variable.op, variable.value)]
    if strange := [n.dtype for n in named if n.dtype != variable.dtype]:
        raise TypeError(f"{variable.value} is of {strange[0]}: derivatives are with respect to arguments of {FLOAT}")
    known: dict[Node, Node | None] = dict.fromkeys([variable, *named], const(1.0))

    def visit(node: Node) -> Node | None:
        if node not in known:
            known[node] = _chain(partials(node), visit) if node.dtype == FLOAT else None
        return known[node]

    return visit(output)


def _chain(partials: Partials, derivative_of: Callable[[Node], Node | None]) -> Node | None:
    total: Node | None = None
    for arg, outer in partials:
        inner = derivative_of(arg)
        if inner is not None:
            term = make("multiply", outer(), inner)
            total = term if total is None else make("add", total, term)
    return total


def _partials(calls: Calls, new: Calls, node: Node) -> Partials:
    """The arguments on which `node` depends smoothly, and the partial derivative with respect to each."""
    if node in calls:  # the author called another formula here: use its own derivative
        formula, args = calls[node]
        for name, arg in zip(formula.arrays, args, strict=True):
            yield arg, partial(formula.partial_at, name, args, new)
        return
    symbols = [*map(Traced, node.args), Traced(node)]
    for arg, rule in zip(node.args, PARTIALS.get(node.op, ()), strict=False):
        if rule is not None:
            yield arg, partial(_apply, rule, symbols)


def _apply(rule: Callable[..., Any], symbols: list[Traced]) -> Node:
    return node_of(rule(*symbols))


def in_terms_of_output(output: Node, derivative: Node, variable: Node) -> Node:
    """`derivative`, rewritten as a polynomial of degree two in `output` where it is one.

    exp, tanh and the sigmoid satisfy f' = c0 + c1 f + c2 f^2; written so, a backward pass needs no second exponential.
    The coefficients come from three points, and the identity is accepted if it holds at all of `_POINTS` to within
    rounding.
    """
    others = [n for n in walk(output) if n.op in ("array", "scalar") and n is not variable]
    if others or output is variable or variable not in walk(through_output(output, derivative)):
        return derivative
    try:
        samples = [(_number_at(output, variable, x), _number_at(derivative, variable, x)) for x in _POINTS]
    except (ArithmeticError, ValueError):
        return derivative
    fit = _parabola(*samples[:3])
    if fit is None:
        return derivative
    c0, c1, c2 = fit
    if c0 and c1 and not c2:  # as of expm1: near its limit -c0 / c1 an output does not hold its derivative's digits
        return derivative
    if any(abs(c0 + c1 * f + c2 * f * f - d) > 1e-13 * max(1.0, abs(d)) for f, d in samples):
        return derivative
    f = Traced(output)
    return node_of(c1 * (f * (1.0 - f)) if c0 == 0 and c2 == -c1 else c0 + c1 * f + c2 * f**2)


_POINTS = (-1.0, 0.25, 1.5, *(-4.05 + 0.3 * k for k in range(28)))


def _number_at(root: Node, variable: Node, x: float) -> float:
    value = substitute(root, {variable: const(x)})  # constant folding does the arithmetic
    if value.op != "const":
        raise ArithmeticError
    return float(value.value)


def _parabola(*points: tuple[float, float]) -> tuple[float, float, float] | None:
    """Coefficients through three points by divided differences, rounded to twelve digits."""
    (x0, y0), (x1, y1), (x2, y2) = points
    if len({x0, x1, x2}) < 3:
        return None
    first, second = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    c2 = (second - first) / (x2 - x0)
    c1 = first - c2 * (x0 + x1)
    c0 = y0 - x0 * (first - c2 * x1)
    return round(c0, 12) + 0.0, round(c1, 12) + 0.0, round(c2, 12) + 0.0


OUTPUT = "output"


def through_output(output: Node, derivative: Node) -> Node:
    """`derivative` with the formula's own result read from the input named by `OUTPUT` instead of computed again."""
    return substitute(derivative, {output: array(OUTPUT)})

"""The scalar form: one unit, one weight, one number at a time, straight from the printed equations.

The loops run on floats and, unchanged, on decimals of 40 digits. There the difference quotient of document 002, eq. 50,
is right to more than 20 digits: it is the reference for every derivative, and nothing in it knows the chain rule.
Weights lie as the documents write them: one row of W per unit.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

Number = Any  # float or Decimal
Vector = list[Any]
Matrix = list[list[Any]]
DIGITS = 40


def exp(v: Number) -> Number:
    """e^v."""
    return v.exp() if isinstance(v, Decimal) else math.exp(v)


def log(v: Number) -> Number:
    """The natural logarithm."""
    return v.ln() if isinstance(v, Decimal) else math.log(v)


def root(v: Number) -> Number:
    """The square root."""
    return v.sqrt() if isinstance(v, Decimal) else math.sqrt(v)


def like(v: Number, constant: float) -> Number:
    """A constant in the arithmetic of `v`."""
    return type(v)(constant)


# --- activations and losses ---------------------------------------------------------------------


class Curve(NamedTuple):
    """An elementwise function; the slope stands where a document prints one."""

    value: Callable[[Number], Number]
    slope: Callable[[Number], Number] | None = None


def sigmoid(z: Number) -> Number:
    """1 / (1 + e^-z)."""
    return 1 / (1 + exp(-z))  # 002 eq. 5 and 51


def tanh(z: Number) -> Number:
    """(e^z - e^-z) / (e^z + e^-z)."""
    return (exp(z) - exp(-z)) / (exp(z) + exp(-z))


def _exponential(z: Number, scale: float, alpha: float) -> Number:
    return like(z, scale) * (z if z > 0 else like(z, alpha) * (exp(z) - 1))


def _gelu(z: Number) -> Number:
    return z / 2 * (1 + tanh(like(z, math.sqrt(2 / math.pi)) * (z + like(z, 0.044715) * z * z * z)))


CURVES = {
    "identity": Curve(lambda z: z, lambda z: 1),
    "relu": Curve(lambda z: max(z, 0), lambda z: 1 if z > 0 else 0),
    "sigmoid": Curve(sigmoid, lambda z: exp(-z) / (1 + exp(-z)) ** 2),  # 003, section 1.3
    "tanh": Curve(tanh, lambda z: 1 - tanh(z) ** 2),
    "softsign": Curve(lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),  # none of the library's own
    "leaky_relu": Curve(lambda z: z if z > 0 else like(z, 0.01) * z),
    "elu": Curve(lambda z: _exponential(z, 1.0, 1.0)),
    "selu": Curve(lambda z: _exponential(z, 1.0507009873554805, 1.6732632423543772)),
    "gelu": Curve(_gelu),
    "silu": Curve(lambda z: z * sigmoid(z)),
    "mish": Curve(lambda z: z * tanh(log(1 + exp(z)))),
    "softplus": Curve(lambda z: log(1 + exp(z))),
    "hard_sigmoid": Curve(lambda z: min(max((z + 3) / 6, 0), 1)),
    "hard_tanh": Curve(lambda z: min(max(z, -1), 1)),
}


class Term(NamedTuple):
    """The loss of one output, of (target, prediction), and its derivative by the prediction."""

    value: Callable[[Number, Number], Number]
    slope: Callable[[Number, Number], Number]


def weighted_log(weight: Number, p: Number) -> Number:
    """The term weight log(p), with 0 log 0 = 0 (002, the four cases after eq. 15)."""
    return 0 if weight == 0 else -math.inf if p == 0 else weight * log(p)


TERMS = {
    "squared": Term(lambda y, a: (y - a) ** 2, lambda y, a: -2 * (y - a)),  # 003, section 2.2.1
    "half": Term(lambda y, a: (y - a) ** 2 / 2, lambda y, a: -(y - a)),
    "binary": Term(
        lambda y, a: -(weighted_log(y, a) + weighted_log(1 - y, 1 - a)),  # 002 eq. 15
        lambda y, a: -(y / a - (1 - y) / (1 - a)),  # 002 eq. 32
    ),
    "categorical": Term(lambda y, a: -weighted_log(y, a), lambda y, a: -y / a),
    "quartic": Term(lambda y, a: (y - a) ** 4, lambda y, a: -4 * (y - a) ** 3),  # none of the library's own
}


# --- a problem ----------------------------------------------------------------------------------


class Stage(NamedTuple):
    """One layer: weights, a row for each unit; biases; the name of the activation."""

    W: Matrix
    b: Vector
    f: str


class Pass(NamedTuple):
    """What one example leaves behind, an entry for each layer; a[0] is x and da[0] the gradient by x."""

    z: list[Any]
    a: list[Any]
    loss: Any
    da: list[Any]
    dz: list[Any]
    dW: list[Any]
    db: list[Any]


@dataclass(frozen=True)
class Problem:
    """A small network with given weights and a few examples, the same for every form and backend.

    Parameters
    ----------
    sizes : tuple of int
    functions : tuple of str
        The activation of each layer: a name of `CURVES`, or "softmax".
    loss : str
        A name of `TERMS`.
    bias : bool
    examples, seed : int
    """

    sizes: tuple[int, ...]
    functions: tuple[str, ...]
    loss: str
    bias: bool = True
    examples: int = 4
    seed: int = 1

    @cached_property
    def stages(self) -> list[Stage]:
        """The layers, drawn from the seed."""
        draw = random.Random(self.seed)
        stages = []
        for inputs, units, f in zip(self.sizes, self.sizes[1:], self.functions, strict=False):
            W = [[draw.uniform(-1.0, 1.0) for _ in range(inputs)] for _ in range(units)]
            stages.append(Stage(W, [draw.uniform(-0.5, 0.5) if self.bias else 0.0 for _ in range(units)], f))
        return stages

    @cached_property
    def x(self) -> Matrix:
        """The examples, one a row."""
        draw = random.Random(self.seed + 1000)
        return [[draw.uniform(-2.0, 2.0) for _ in range(self.sizes[0])] for _ in range(self.examples)]

    @cached_property
    def y(self) -> Matrix:
        """The targets, of the kind that the loss takes."""
        draw, outputs = random.Random(self.seed + 2000), self.sizes[-1]
        if self.loss == "binary":
            return [[float(draw.random() < 0.5) for _ in range(outputs)] for _ in range(self.examples)]
        if self.loss == "categorical":
            labels = [draw.randrange(outputs) for _ in range(self.examples)]
            return [[float(k == label) for k in range(outputs)] for label in labels]
        return [[draw.uniform(-1.0, 1.0) for _ in range(outputs)] for _ in range(self.examples)]


# --- forward and backward, loop by loop ---------------------------------------------------------


def weighted_inputs(stage: Stage, a: Vector) -> Vector:
    """z_i = sum_k a_k w_ik + b_i (002 eq. 1 and 3)."""
    z = []
    for i in range(len(stage.W)):
        total = stage.b[i]
        for k in range(len(a)):
            total += a[k] * stage.W[i][k]
        z.append(total)
    return z


def activations(f: str, z: Vector) -> Vector:
    """a_i = f(z_i) (002 eq. 2 and 4); the softmax sees all z."""
    if f != "softmax":
        return [CURVES[f].value(v) for v in z]
    total = sum(exp(v) for v in z)
    return [exp(v) / total for v in z]


def slope(f: str, z: Vector, j: int, k: int) -> Number:
    """da_j / dz_k: off the diagonal 0 for an elementwise f (002, after eq. 28)."""
    if f == "softmax":
        a = activations(f, z)
        return a[j] * ((j == k) - a[k])
    derivative = CURVES[f].slope
    if derivative is None:
        raise ValueError(f"no slope is printed for {f}")
    return derivative(z[k]) if j == k else 0


def forward(stages: Sequence[Stage], x: Vector) -> tuple[list[Vector], list[Vector]]:
    """The weighted inputs and activations of all layers."""
    zs, a = [], [x]
    for stage in stages:
        zs.append(weighted_inputs(stage, a[-1]))
        a.append(activations(stage.f, zs[-1]))
    return zs, a


def loss_of(loss: str, y: Vector, a: Vector) -> Number:
    """The terms of one example, summed over its outputs (002 eq. 15)."""
    return sum(TERMS[loss].value(y[i], a[i]) for i in range(len(y)))


def backpropagate(stages: Sequence[Stage], loss: str, x: Vector, y: Vector) -> Pass:
    """Every derivative of the loss of one example by the component equations."""
    z, a = forward(stages, x)
    das, dzs, dWs = [[TERMS[loss].slope(y[i], a[-1][i]) for i in range(len(y))]], list[Vector](), list[Matrix]()
    for stage, v, before in zip(reversed(stages), reversed(z), reversed(a[:-1]), strict=True):
        da, units = das[0], range(len(v))
        dz = [sum(da[j] * slope(stage.f, v, j, k) for j in units) for k in units]  # 002 eq. 28
        dzs.insert(0, dz)
        dWs.insert(0, [[dz[i] * before[k] for k in range(len(before))] for i in units])  # 000: dE/dz_i a_j
        das.insert(0, [sum(stage.W[j][k] * dz[j] for j in units) for k in range(len(before))])  # 002 eq. 43
    return Pass(z, a, loss_of(loss, y, a[-1]), das, dzs, dWs, dzs)


# --- the reference ------------------------------------------------------------------------------


def lift(value: Any) -> Any:
    """Floats, in whatever lists and tuples, as the decimals that they are exactly."""
    if isinstance(value, Stage):
        return Stage(lift(value.W), lift(value.b), value.f)
    if isinstance(value, (list, tuple)):
        return [lift(v) for v in value]
    return Decimal(value)


def lower(value: Any) -> Any:
    """Decimals as the nearest floats."""
    return [lower(v) for v in value] if isinstance(value, (list, tuple)) else float(value)


def shaped(flat: Sequence[Any], pattern: Any) -> Any:
    """The numbers of `flat` in the nested lists of `pattern`."""
    numbers = iter(flat)

    def fill(part: Any) -> Any:
        return [fill(p) for p in part] if isinstance(part, (list, tuple)) else next(numbers)

    return fill(pattern)


def flat(value: Any) -> list[Any]:
    """The numbers of nested lists in one list."""
    return [n for v in value for n in flat(v)] if isinstance(value, (list, tuple)) else [value]


def jacobian(function: Callable[[Any], Sequence[Number]], point: Any) -> list[Any]:
    """(f_i(w + eps e_j) - f_i(w - eps e_j)) / (2 eps): a row for each value f_i, nested as `point` is.

    This is 002 eq. 50, central, in numerator layout. `function` must compute in the arithmetic that it is given.
    """
    eps, columns = Decimal("1e-15"), []
    with localcontext(prec=DIGITS):
        start = flat(lift(point))
        for j, w in enumerate(start):
            ends = [function(shaped([*start[:j], moved, *start[j + 1 :]], point)) for moved in (w + eps, w - eps)]
            columns.append([float((above - below) / (2 * eps)) for above, below in zip(*ends, strict=True)])
    return [shaped(row, point) for row in transposed(columns)]


def quotient(function: Callable[[Any], Number], point: Any) -> Any:
    """The Jacobian of one value: its derivatives by the numbers of `point`."""
    return jacobian(lambda v: [function(v)], point)[0]


def exact(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function` computed in decimals, rounded to floats at the end."""
    with localcontext(prec=DIGITS):
        return lower(function(*map(lift, arguments)))


def differences(stages: Sequence[Stage], loss: str, x: Vector, y: Vector) -> Pass:
    """The same as `backpropagate`, by difference quotients in decimals: no chain rule, no derivative of anything."""
    z, a = exact(lambda v: forward(lift(list(stages)), v), x)

    def end(rest: Sequence[Stage], v: Vector) -> Number:
        """The loss, from the values before the last few layers."""
        return loss_of(loss, lift(y), forward(lift(list(rest)), v)[1][-1])

    def of_layer(i: int) -> tuple[Any, Any, Any, Any]:
        (W, b, f), rest, before = stages[i], stages[i + 1 :], after(stages[:i], x)
        return (
            quotient(lambda v: end(stages[i:], v), a[i]),
            quotient(lambda v: end(rest, activations(f, v)), z[i]),
            quotient(lambda v: end([Stage(v, b, f), *rest], before), W),
            quotient(lambda v: end([Stage(W, v, f), *rest], before), b),
        )

    da, dz, dW, db = ([*parts] for parts in zip(*map(of_layer, range(len(stages))), strict=True))
    da.append(quotient(lambda v: loss_of(loss, lift(y), v), a[-1]))
    return Pass(z, a, exact(lambda v: end(stages, v), x), da, dz, dW, db)


def after(stages: Sequence[Stage], x: Vector) -> Vector:
    """The activations after these stages, in decimals."""
    with localcontext(prec=DIGITS):
        return forward(lift(list(stages)), lift(x))[1][-1]


@lru_cache(maxsize=256)
def one(problem: Problem, n: int = 0) -> Pass:
    """The reference for one example."""
    return differences(problem.stages, problem.loss, problem.x[n], problem.y[n])


def every(problem: Problem) -> Pass:
    """The reference for all examples: rows for the values, sums for what the examples share."""
    return stacked([one(problem, n) for n in range(problem.examples)])


def stacked(passes: Sequence[Pass]) -> Pass:
    """One pass of many: z, a, da, dz and the losses as rows, dW and db summed (003, section 3)."""

    def rows(name: str) -> list[Any]:
        return [list(row) for row in zip(*(getattr(p, name) for p in passes), strict=True)]

    sums = [[total(parts) for parts in rows(name)] for name in ("dW", "db")]
    return Pass(rows("z"), rows("a"), [p.loss for p in passes], rows("da"), rows("dz"), sums[0], sums[1])


def total(parts: Sequence[Any]) -> Any:
    """Nested lists of one shape, added up."""
    return [total(p) for p in zip(*parts, strict=True)] if isinstance(parts[0], (list, tuple)) else sum(parts)


def scaled(value: Any, factor: float) -> Any:
    """Nested lists times a number."""
    return [scaled(v, factor) for v in value] if isinstance(value, (list, tuple)) else value * factor


def transposed(matrix: Sequence[Sequence[Any]]) -> Matrix:
    """Rows as columns."""
    return [list(column) for column in zip(*matrix, strict=True)]


def descend(
    problem: Problem, backward: Callable[..., Pass], lr: float, batches: Sequence[Sequence[int]]
) -> list[Stage]:
    """Gradient descent on the mean loss of each batch of examples in turn, with `backward` for the gradients of one."""
    stages = problem.stages
    for batch in batches:
        grads = stacked([backward(stages, problem.loss, problem.x[n], problem.y[n]) for n in batch])
        factor = -lr / len(batch)
        stages = [
            Stage(total([s.W, scaled(dW, factor)]), total([s.b, scaled(db, factor)]) if problem.bias else s.b, s.f)
            for s, dW, db in zip(stages, grads.dW, grads.db, strict=True)
        ]
    return stages

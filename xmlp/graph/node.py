"""The expression graph: immutable nodes, shared by construction, simplified as they are made.

A node is one operation of the Array API standard applied to earlier nodes. Equal nodes are the same object, so common
subexpressions are shared without a pass that looks for them. `make` is the only way to build a node; it folds
constants and applies the rewritings listed there, each exact or within one rounding.

Array nodes carry a dtype: "bool", "int32" or "float", the last standing for the floating dtype of whatever arrays the
graph is run on. Constants are Python numbers and take the dtype of their neighbours, as the standard prescribes.
"""

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar
from weakref import WeakValueDictionary

from xmlp.host.once import Lock

FLOAT, INT, BOOL = "float", "int32", "bool"


@dataclass(frozen=True)
class Op:
    """One operation of the vocabulary: what it takes, what it gives, how Python's own numbers do it."""

    arity: int
    takes: tuple[str, ...]  # dtypes that its array arguments may have
    gives: str | None  # dtype of the result; None: that of the arguments
    python: Callable[..., Any]
    symbol: str = ""  # infix or prefix spelling, for printing


_NUMBER, _ANY, _BITS = (FLOAT, INT), (FLOAT, INT, BOOL), (INT, BOOL)

OPS: dict[str, Op] = {
    "add": Op(2, _NUMBER, None, operator.add, "+"),
    "subtract": Op(2, _NUMBER, None, operator.sub, "-"),
    "multiply": Op(2, _NUMBER, None, operator.mul, "*"),
    "divide": Op(2, (FLOAT,), FLOAT, operator.truediv, "/"),
    "pow": Op(2, _NUMBER, None, operator.pow, "**"),
    "negative": Op(1, _NUMBER, None, operator.neg, "-"),
    "abs": Op(1, _NUMBER, None, abs),
    "sqrt": Op(1, (FLOAT,), FLOAT, math.sqrt),
    "exp": Op(1, (FLOAT,), FLOAT, math.exp),
    "expm1": Op(1, (FLOAT,), FLOAT, math.expm1),
    "log": Op(1, (FLOAT,), FLOAT, math.log),
    "log1p": Op(1, (FLOAT,), FLOAT, math.log1p),
    "tanh": Op(1, (FLOAT,), FLOAT, math.tanh),
    "maximum": Op(2, _NUMBER, None, max),
    "minimum": Op(2, _NUMBER, None, min),
    "where": Op(3, _ANY, None, lambda c, p, q: p if c else q),
    "less": Op(2, _NUMBER, BOOL, operator.lt, "<"),
    "less_equal": Op(2, _NUMBER, BOOL, operator.le, "<="),
    "greater": Op(2, _NUMBER, BOOL, operator.gt, ">"),
    "greater_equal": Op(2, _NUMBER, BOOL, operator.ge, ">="),
    "equal": Op(2, _ANY, BOOL, operator.eq, "=="),
    "not_equal": Op(2, _ANY, BOOL, operator.ne, "!="),
    "isfinite": Op(1, (FLOAT,), BOOL, math.isfinite),
    "logical_and": Op(2, (BOOL,), BOOL, lambda a, b: a and b),
    "logical_or": Op(2, (BOOL,), BOOL, lambda a, b: a or b),
    "logical_not": Op(1, (BOOL,), BOOL, operator.not_),
    "bitwise_and": Op(2, _BITS, None, operator.and_, "&"),
    "bitwise_or": Op(2, _BITS, None, operator.or_, "|"),
    "bitwise_xor": Op(2, _BITS, None, operator.xor, "^"),
    "bitwise_invert": Op(1, _BITS, None, operator.invert, "~"),
    "bitwise_left_shift": Op(2, (INT,), INT, operator.lshift, "<<"),
    "bitwise_right_shift": Op(2, (INT,), INT, operator.rshift, ">>"),
    "astype_float": Op(1, _ANY, FLOAT, float),
    "astype_int32": Op(1, _ANY, INT, int),
}


class Node:
    """One value of an expression graph. Built by `make`, `const`, `array` and `scalar`; compared by identity."""

    __slots__ = ("__weakref__", "args", "dtype", "op", "value", "weak")

    op: str  # a name of OPS, or "const", "array" (an input), "scalar" (a parameter given as a Python number)
    args: "tuple[Node, ...]"
    value: Any  # the number of a constant, the name of an input
    dtype: str
    written: ClassVar[Callable[["Node"], str]]  # set by `xmlp.graph.text`
    weak: bool  # a Python number and not an array: its dtype bends to its neighbours'

    def __init__(self, op: str, args: "tuple[Node, ...]", value: Any, dtype: str):
        self.op, self.args, self.value, self.dtype = op, args, value, dtype
        self.weak = all(a.weak for a in args) if args else op != "array"

    def __repr__(self) -> str:
        return type(self).written(self)


_interned: WeakValueDictionary[tuple[Any, ...], Node] = WeakValueDictionary()
_interning = Lock()  # of threads that make one node, all must get the same


def _intern(op: str, args: tuple[Node, ...], value: Any, dtype: str) -> Node:
    label = value.hex() if isinstance(value, float) else value  # tells 0.0 from -0.0, and nan equals itself
    key = (op, *map(id, args), type(value), label, dtype)
    node = _interned.get(key)
    if node is None:
        with _interning:
            node = _interned.setdefault(key, Node(op, args, value, dtype))
    return node


def const(value: bool | int | float) -> Node:
    """A Python number."""
    dtype = BOOL if isinstance(value, bool) else INT if isinstance(value, int) else FLOAT
    return _intern("const", (), value, dtype)


def array(name: str, dtype: str = FLOAT) -> Node:
    """An array input of the graph."""
    return _intern("array", (), name, dtype)


def scalar(name: str, dtype: str = FLOAT) -> Node:
    """A parameter that the caller passes as a Python number."""
    return _intern("scalar", (), name, dtype)


class Linked(Protocol):
    """A node of any graph."""

    @property
    def args(self) -> tuple[Any, ...]:
        """The nodes that it is made of."""


Kind = TypeVar("Kind", bound=Linked)


def walk(*roots: Kind) -> Iterator[Kind]:
    """Every node below `roots`, arguments before what uses them, each once."""
    seen: set[int] = set()
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        node, entered = stack.pop()
        if id(node) in seen:
            continue
        if entered:
            seen.add(id(node))
            yield node
        else:
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args))


def substitute(root: Node, replacements: dict[Node, Node]) -> Node:
    """`root` with some of its nodes replaced; the outermost match wins."""
    return substitutions(replacements)(root)


def substitutions(replacements: dict[Node, Node]) -> Callable[[Node], Node]:
    """The function that replaces nodes in a root; what roots share is made once."""
    done = dict(replacements)

    def visit(node: Node) -> Node:
        if node not in done:
            args = tuple(visit(a) for a in node.args)
            done[node] = node if all(a is b for a, b in zip(args, node.args, strict=True)) else make(node.op, *args)
        return done[node]

    return visit


class DtypeError(TypeError):
    """An operation was applied to dtypes that the standard does not combine."""


def _common_dtype(name: str, operands: tuple[Node, ...]) -> str:
    """The dtype in which `operands` meet: the arrays' own, or the widest if all are Python numbers."""
    takes = OPS[name].takes
    strong = {a.dtype for a in operands if not a.weak}
    if len(strong) > 1:
        raise DtypeError(f"{name}: the standard does not mix {' and '.join(sorted(strong))}; use where or astype")
    if strong:
        dtype = strong.pop()
        for a in operands:
            if a.dtype != dtype and (a.dtype, dtype) != (INT, FLOAT):
                raise DtypeError(f"{name}: a Python {a.dtype} does not combine with an array of {dtype}")
    else:
        dtype = FLOAT if takes == (FLOAT,) else max((a.dtype for a in operands), key=(BOOL, INT, FLOAT).index)
    if dtype not in takes:
        raise DtypeError(f"{name} takes {' or '.join(takes)}, got {dtype}")
    return dtype


def make(name: str, *args: Node) -> Node:
    """The node of operation `name`, folded and simplified."""
    operands = args
    if name == "where":
        if args[0].dtype != BOOL:
            raise DtypeError(f"where: the condition must be a comparison, got {args[0].dtype}")
        operands = args[1:]
    dtype = _common_dtype(name, operands)
    if dtype == FLOAT and not name.startswith("astype"):
        operands = tuple(const(float(a.value)) if _number(a) else a for a in operands)
    args = args[: len(args) - len(operands)] + operands
    dtype = OPS[name].gives or dtype
    if all(a.op == "const" for a in args):
        folded = _fold(name, args, dtype)
        if folded is not None:
            return folded
    simpler = _SIMPLIFY[name](*args) if name in _SIMPLIFY else None
    return simpler if simpler is not None else _intern(name, args, None, dtype)


def _fold(name: str, args: tuple[Node, ...], dtype: str) -> Node | None:
    try:
        value = OPS[name].python(*(a.value for a in args))
    except (ArithmeticError, ValueError):
        return None  # let the arrays say inf or nan
    if isinstance(value, complex):
        return None
    return const({FLOAT: float, INT: int, BOOL: bool}[dtype](value))


# --- simplification ------------------------------------------------------------------------------------------------


def _is(node: Node, value: float) -> bool:
    return node.op == "const" and node.dtype != BOOL and node.value == value


def _number(node: Node) -> bool:
    return node.op == "const" and node.dtype != BOOL


def _add(a: Node, b: Node) -> Node | None:
    if _is(a, 0):
        return b
    if _is(b, 0):
        return a
    if b.op == "negative":
        return make("subtract", a, b.args[0])
    if a.op == "negative":
        return make("subtract", b, a.args[0])
    if b.op == "multiply" and _number(b.args[0]) and b.args[0].value < 0:
        return make("subtract", a, make("multiply", const(-b.args[0].value), b.args[1]))
    if _number(b) and not _number(a):
        return make("add", b, a)  # constants first, so that sums match
    return None


def _subtract(a: Node, b: Node) -> Node | None:
    if _is(b, 0):
        return a
    if _is(a, 0):
        return make("negative", b)
    if b.op == "negative":
        return make("add", a, b.args[0])
    if _is(a, 1) and b.op == "divide" and b.args[1] is make("add", a, b.args[0]):
        return make("divide", a, b.args[1])  # 1 - e / (1 + e) = 1 / (1 + e)
    if a.op == "subtract":  # (a - y) - b where a - b is simpler
        inner = _subtract(a.args[0], b)
        return inner and make("subtract", inner, a.args[1])
    return None


def _multiply(a: Node, b: Node) -> Node | None:
    if _is(a, 1):
        return b
    if _number(b) and not _number(a):
        return make("multiply", b, a)  # constants first
    if _is(a, -1):
        return make("negative", b)
    if a.op == "negative":
        return make("negative", make("multiply", a.args[0], b))
    if b.op == "negative":
        return make("negative", make("multiply", a, b.args[0]))
    if _number(a) and b.op == "multiply" and _number(b.args[0]):
        return make("multiply", const(a.value * b.args[0].value), b.args[1])
    if b.op == "multiply" and _number(b.args[0]):
        return make("multiply", b.args[0], make("multiply", a, b.args[1]))
    if _is(a, 0):
        return a  # a zero comes from the rules of calculus and means: not there
    if _selects(a):
        return make("where", a.args[0], *(make("multiply", branch, b) for branch in a.args[1:]))
    if _selects(b) and a.op != "scalar":
        return make("where", b.args[0], *(make("multiply", a, branch) for branch in b.args[1:]))
    if b.op == "divide" and _number(b.args[0]):
        return make("divide", make("multiply", b.args[0], a), b.args[1])
    if a.op == "divide" and _number(a.args[0]):
        return make("divide", make("multiply", a.args[0], b), a.args[1])
    return None


def _selects(node: Node) -> bool:
    """Whether `node` is an indicator. As a factor it selects: it must not multiply what may be infinite."""
    return node.op == "where" and (
        any(_is(branch, 0) for branch in node.args[1:]) or all(_is(b, 1) or _is(b, -1) for b in node.args[1:])
    )


def _divide(a: Node, b: Node) -> Node | None:
    if _is(b, 1):
        return a
    if a.op == "negative":
        return make("negative", make("divide", a.args[0], b))
    return None


def _negative(a: Node) -> Node | None:
    if a.op == "negative":
        return a.args[0]
    if a.op == "subtract":
        return make("subtract", a.args[1], a.args[0])
    if a.op == "multiply" and _number(a.args[0]):
        return make("multiply", const(-a.args[0].value), a.args[1])
    return None


def _pow(a: Node, b: Node) -> Node | None:
    return a if _is(b, 1) else None


def _where(c: Node, p: Node, q: Node) -> Node | None:
    if c.op == "const":
        return p if c.value else q
    kept, other = assume(p, c, True), assume(q, c, False)
    if kept is other:
        return kept
    if kept is not p or other is not q:
        return make("where", c, kept, other)
    if p.op == q.op and p.op in ("add", "subtract", "divide") and p.args[1] is q.args[1]:
        return make(p.op, make("where", c, p.args[0], q.args[0]), p.args[1])
    return None


_SIMPLIFY: dict[str, Callable[..., Node | None]] = {
    "add": _add, "subtract": _subtract, "multiply": _multiply, "divide": _divide,
    "negative": _negative, "pow": _pow, "where": _where,
}  # fmt: skip

_THROUGH = {"add", "subtract", "multiply", "negative", "where"}


def assume(node: Node, condition: Node, truth: bool) -> Node:
    """`node` where `condition` is known.

    What may guard the branch that is not taken against an overflow is left alone: arguments of functions, divisors,
    and a `where` that puts a constant other than 0 in the place of its argument.
    """
    if node.op == "where" and node.args[0] is condition:
        taken, left = node.args[1:] if truth else reversed(node.args[1:])
        if taken.op == "const" or left.op != "const" or _is(left, 0) or left.dtype == BOOL:
            return assume(taken, condition, truth)
        return node
    if node.op == "divide":
        numerator = assume(node.args[0], condition, truth)
        return node if numerator is node.args[0] else make("divide", numerator, node.args[1])
    if node.op not in _THROUGH:
        return node
    args = tuple(assume(a, condition, truth) for a in node.args)
    return node if all(a is b for a, b in zip(args, node.args, strict=True)) else make(node.op, *args)


def size(*roots: Node) -> int:
    """Number of operations below `roots`."""
    return sum(bool(node.args) for node in walk(*roots))


def by_cases(node: Node) -> Node:
    """`node` with its one condition pulled outwards, if that makes it smaller."""
    for condition in dict.fromkeys(n.args[0] for n in walk(node) if n.op == "where"):
        cases = make("where", condition, assume(node, condition, True), assume(node, condition, False))
        if size(cases) < size(node):
            return by_cases(cases)
    return node

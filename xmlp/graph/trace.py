"""Tracing: running an Array API function on symbols instead of arrays, so that what it computes becomes a graph."""

import linecache
import sys
from collections.abc import Callable
from contextvars import ContextVar
from numbers import Integral, Real
from traceback import walk_tb
from types import FrameType
from typing import Any, NoReturn

from xmlp.graph.node import BOOL, FLOAT, INT, OPS, DtypeError, Node, const, make
from xmlp.graph.symbol import Symbol

# of the function that is being traced: the nodes that are calls of other formulas, which know their own derivatives
Calls = dict[Node, tuple[Any, tuple[Node, ...]]]
CALLS: ContextVar[Calls] = ContextVar("calls")


class TraceError(TypeError):
    """A formula does something that cannot be traced. The message names the line."""


_LIBRARIES = ("numpy.", "scipy.", "torch.", "jax.", "jaxlib.", "cupy.", "array_api_compat.", "array_api_strict.")


def _within(frame: FrameType, packages: tuple[str, ...]) -> bool:
    return f"{frame.f_globals.get('__name__', '')}.".startswith(packages)


def _author_line() -> str:
    """The innermost line outside of array libraries and this package: the line of the formula being traced."""
    frame = sys._getframe(1)  # lint: allow private - of Python
    while frame.f_back and _within(frame, ("xmlp.", *_LIBRARIES)):
        frame = frame.f_back
    return _line(frame.f_code.co_filename, frame.f_lineno)


def _line(name: str, number: int) -> str:
    return f'File "{name}", line {number}: {linecache.getline(name, number).strip() or "<source not available>"}'


def refuse(problem: str) -> NoReturn:
    """Raise a TraceError that names the line of the formula."""
    raise TraceError(f"{problem}\n  {_author_line()}")


def _refuse_foreign(library: str, name: str) -> NoReturn:
    """A function of an array library was called where one of the namespace is wanted."""
    name = _ELSEWHERE.get(name, name)
    instead = f"write xp.{name}" if name in OPS else f"write it with functions of xp: {VOCABULARY}"
    refuse(f"a formula is traced for every array library, and {library} computes for one only: {instead}")


_ELSEWHERE = {
    "absolute": "abs", "power": "pow", "float_power": "pow", "true_divide": "divide", "sub": "subtract",
    "mul": "multiply", "div": "divide", "neg": "negative", "fmax": "maximum", "fmin": "minimum", "amax": "maximum",
    "amin": "minimum", "left_shift": "bitwise_left_shift", "right_shift": "bitwise_right_shift",
}  # fmt: skip
_OPERATORS = {
    "add", "subtract", "multiply", "divide", "power", "less", "less_equal", "greater", "greater_equal", "equal",
    "not_equal", "bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift",
}  # fmt: skip
VOCABULARY = ", ".join([*(name for name in OPS if not name.startswith("astype_")), "astype", "square"])


def explained(error: Exception) -> Exception:
    """What an array library raised of a symbol that it does not know, in our words; any other error as it is."""
    if isinstance(error, TraceError) or Traced.__name__ not in str(error):
        return error
    own = [(f.f_code.co_filename, n) for f, n in walk_tb(error.__traceback__) if not _within(f, ("xmlp.", *_LIBRARIES))]
    where = _line(*own[-1]) if own else ""
    return TraceError(f"a formula is traced for every array library: write it with functions of xp. {error}\n  {where}")


def build(name: str, *args: Any) -> "Traced":
    """The symbol of an operation on symbols and numbers."""
    nodes = [node_of(a) for a in args]
    try:
        return Traced(make(name, *nodes))
    except DtypeError as error:
        refuse(str(error))


def node_of(value: Any) -> Node:
    """The node of a symbol or of a Python number."""
    if isinstance(value, Traced):
        return value.node
    if isinstance(value, Real):  # NumPy's too
        return const(value if isinstance(value, bool) else int(value) if isinstance(value, Integral) else float(value))
    refuse(f"a formula combines its arguments with Python numbers only, got {type(value).__name__}")


class Traced(Symbol):
    """A symbol that stands for an array while a formula is traced: operators extend the graph."""

    __slots__ = ("node",)

    def __init__(self, node: Node):
        self.node = node

    def operate(self, op: str, *args: Any) -> "Traced":
        return build(op, *args)

    @property
    def dtype(self) -> str:
        """The kind of number: floating, whole or a truth value."""
        return self.node.dtype

    def __array_namespace__(self, api_version: str | None = None) -> "TraceNamespace":
        return TRACE

    def __bool__(self) -> NoReturn:
        refuse("a formula cannot branch on its data: write xp.where(condition, a, b) instead of if, and, or, not")

    def _not_a_number(self, *_: object) -> NoReturn:
        refuse("a formula cannot read a value out of its data; instead of math.tanh write xp.tanh")

    __float__ = __int__ = __index__ = __complex__ = _not_a_number

    def _not_a_sequence(self, *_: object) -> NoReturn:
        refuse("a formula is elementwise: it sees one element and cannot index or iterate")

    __len__ = __iter__ = __getitem__ = __setitem__ = _not_a_sequence

    def __array_ufunc__(self, function: Any, method: str, *args: Any, **_: Any) -> "Traced":
        name = function.__name__
        args = tuple(a[()] if not isinstance(a, Traced) and getattr(a, "shape", None) == () else a for a in args)
        if method == "__call__" and name in _OPERATORS and any(isinstance(a, Real) for a in args):
            return build(_ELSEWHERE.get(name, name), *args)
        _refuse_foreign(f"np.{name}", name)

    def __array_function__(self, function: Any, *_: Any) -> NoReturn:
        _refuse_foreign(f"np.{function.__name__}", function.__name__)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        _refuse_foreign("a function of NumPy", "")

    @classmethod
    def __torch_function__(cls, function: Any, *_: Any) -> NoReturn:
        _refuse_foreign(f"torch.{function.__name__}", function.__name__)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        refuse(f"formulas use functions of the standard, not array methods or attributes: .{name}")


class TraceNamespace:
    """The namespace `xp` that a formula is handed while it is traced: the elementwise part of the standard."""

    float32 = float64 = FLOAT
    int32 = INT
    bool = BOOL
    pi, e, inf, nan = 3.141592653589793, 2.718281828459045, float("inf"), float("nan")

    def astype(self, x: Traced, dtype: str, /) -> Traced:
        """A symbol in the dtype of another argument, or in int32."""
        if dtype not in (FLOAT, INT):
            refuse(f"astype in a formula converts to the dtype of another argument or to xp.int32, got {dtype!r}")
        return x if x.dtype == dtype else build(f"astype_{dtype}", x)

    def square(self, x: Traced, /) -> Traced:
        """x^2."""
        return build("pow", x, 2)

    def __getattr__(self, name: str) -> Callable[..., Traced]:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in OPS or name.startswith("astype_"):
            refuse(f"xp.{name} is not in the vocabulary of formulas. Known: {VOCABULARY}.")

        def operation(*args: Any) -> Traced:
            if len(args) != OPS[name].arity:
                refuse(f"xp.{name} takes {OPS[name].arity} arguments, got {len(args)}")
            return build(name, *args)

        return operation


TRACE = TraceNamespace()

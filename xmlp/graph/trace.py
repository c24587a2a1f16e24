"""Tracing: running an Array API function on symbols instead of arrays, so that what it computes becomes a graph."""

import linecache
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from xmlp.graph.node import BOOL, FLOAT, INT, OPS, DtypeError, Node, const, make
from xmlp.graph.symbol import Symbol


class TraceError(TypeError):
    """A formula does something that cannot be traced. The message names the line."""


def _author_line() -> str:
    """The innermost line outside this package's graph machinery: the line of the formula being traced."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("xmlp.graph."):
        frame = frame.f_back
    name, number = frame.f_code.co_filename, frame.f_lineno
    return f'File "{name}", line {number}: {linecache.getline(name, number).strip() or "<source not available>"}'


def refuse(problem: str) -> NoReturn:
    raise TraceError(f"{problem}\n  {_author_line()}")


def build(name: str, *args: Any) -> "Traced":
    nodes = [node_of(a) for a in args]
    try:
        return Traced(make(name, *nodes))
    except DtypeError as error:
        refuse(str(error))


def node_of(value: Any) -> Node:
    """The node of a symbol or of a Python number."""
    if isinstance(value, Traced):
        return value.node
    if isinstance(value, (bool, int, float)):
        return const(value)
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
        return self.node.dtype

    def __array_namespace__(self, api_version: str | None = None) -> "TraceNamespace":
        return TRACE

    def __bool__(self) -> NoReturn:
        refuse("a formula cannot branch on its data: write xp.where(condition, a, b) instead of if, and, or, not")

    def _not_a_number(self, *_: object) -> NoReturn:
        refuse("a formula cannot read a value out of its data")

    __float__ = __int__ = __index__ = __complex__ = _not_a_number

    def _not_a_sequence(self, *_: object) -> NoReturn:
        refuse("a formula is elementwise: it sees one element and cannot index or iterate")

    __len__ = __iter__ = __getitem__ = __setitem__ = _not_a_sequence

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
        if dtype not in (FLOAT, INT):
            refuse(f"astype in a formula converts to the dtype of another argument or to xp.int32, got {dtype!r}")
        return x if x.dtype == dtype else build(f"astype_{dtype}", x)

    def square(self, x: Traced, /) -> Traced:
        return build("pow", x, 2)

    def __getattr__(self, name: str) -> Callable[..., Traced]:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in OPS or name.startswith("astype_"):
            names = ", ".join(n for n in OPS if not n.startswith("astype_"))
            refuse(f"xp.{name} is not in the vocabulary of formulas. Known: {names}, astype, square.")

        def operation(*args: Any) -> Traced:
            if len(args) != OPS[name].arity:
                refuse(f"xp.{name} takes {OPS[name].arity} arguments, got {len(args)}")
            return build(name, *args)

        return operation


TRACE = TraceNamespace()

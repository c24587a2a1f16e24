"""Numbers that the host knows before a step: what is made of constants and of the scalars of the step alone."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from xmlp.graph.node import INT, OPS


class Weak(Protocol):
    """A node of either graph that is made of numbers alone."""

    op: str
    dtype: str

    @property
    def args(self) -> "tuple[Any, ...]":
        """What it is made of."""

    @property
    def value(self) -> Any:
        """The number of a constant, the name of a scalar."""


def of_numbers(op: str) -> Callable[..., Any]:
    """An operation on Python's numbers."""
    return OPS[op].python


def evaluate(node: Weak, scalars: Mapping[str, Any], function: Callable[[str], Callable[..., Any]] = of_numbers) -> Any:
    """The value of a node, in double precision; `function` gives the operations, on numbers or on a number a step.

    >>> from xmlp.compiler.tensor import Tracer
    >>> evaluate((Tracer().scalar("rate", "float") * 0.5).node, {"rate": 3.0})
    1.5
    """
    if node.op == "const":
        return node.value
    if node.op == "scalar":
        value = scalars[node.value]
        return function("astype_int32")(value) if node.dtype == INT else value
    return function(node.op)(*(evaluate(a, scalars, function) for a in node.args))

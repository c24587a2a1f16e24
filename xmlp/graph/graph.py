"""A graph with named inputs and its plain evaluation: one call of the array library per node, on any namespace."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from xmlp.graph.node import FLOAT, INT, OPS, Node, walk
from xmlp.graph.operations import OPERATORS
from xmlp.graph.text import listing
from xmlp.types import Array, Namespace

Step = tuple[Node, int, tuple[int, ...], tuple[int, ...]]  # node, its slot, its arguments' slots, slots to let go


class Graph:
    """Outputs as functions of array inputs and scalar parameters, both by name."""

    def __init__(self, name: str, arrays: Sequence[str], scalars: Sequence[str], outputs: Sequence[Node]):
        self.name = name
        self.arrays = tuple(arrays)
        self.scalars = tuple(scalars)
        self.outputs = tuple(outputs)
        self._bound: dict[Namespace, list[tuple[Any, ...]]] = {}

    def __str__(self) -> str:
        arguments = ", ".join((*self.arrays, *(["*", *self.scalars] if self.scalars else ())))
        return listing(f"{self.name}({arguments})", self.outputs)

    @cached_property
    def used(self) -> frozenset[str]:
        """Names of the inputs that the outputs depend on."""
        return frozenset(n.value for n in walk(*self.outputs) if n.op in ("array", "scalar"))

    @cached_property
    def _program(self) -> tuple[list[Any], list[Step], list[int]]:
        """Slots (inputs, the floating dtype, then one per node), steps, slots of the outputs."""
        inputs = [*self.arrays, *self.scalars]
        slot: dict[Node, int] = {}
        values: list[Any] = [None] * (len(inputs) + 1)
        nodes = list(walk(*self.outputs))
        for node in nodes:
            if node.op in ("array", "scalar"):
                slot[node] = inputs.index(node.value)
            else:
                slot[node] = len(values)
                values.append(node.value if node.op == "const" else None)
        last = {argument: node for node in nodes for argument in node.args}
        kept = {*self.outputs, *(n for n in nodes if not n.args)}
        steps = []
        for node in nodes:
            if node.args:
                arguments = tuple(slot[a] for a in node.args) + ((len(inputs),) if _wants_dtype(node) else ())
                dead = tuple(slot[a] for a in dict.fromkeys(node.args) if last[a] is node and a not in kept)
                steps.append((node, slot[node], arguments, dead))
        return values, steps, [slot[o] for o in self.outputs]

    def _bind(self, xp: Namespace) -> list[tuple[Any, ...]]:
        """The steps with the functions of one namespace."""
        if xp not in self._bound:
            self._bound[xp] = [(_function(node, xp), *rest) for node, *rest in self._program[1]]
        return self._bound[xp]

    @cached_property
    def _uses_dtype(self) -> bool:
        return any(_wants_dtype(node) for node in walk(*self.outputs)) or any(o.weak for o in self.outputs)

    def run(self, xp: Namespace, arrays: Sequence[Array], scalars: Mapping[str, Any]) -> tuple[Array, ...]:
        """The outputs for arrays of namespace `xp`, one operation at a time; arrays that are not used may be None."""
        template, _, outputs = self._program
        values = list(template)
        values[: len(arrays)] = arrays
        for i, name in enumerate(self.scalars, len(arrays)):
            values[i] = scalars[name]
        if self._uses_dtype:
            floating = (a.dtype for a in arrays if a is not None and xp.isdtype(a.dtype, "real floating"))
            values[len(arrays) + len(scalars)] = next(floating, None)
        for function, result, arguments, dead in self._bind(xp):
            values[result] = function(*[values[i] for i in arguments])
            for i in dead:
                values[i] = None
        results = [values[i] for i in outputs]
        for i, output in enumerate(self.outputs):
            if output.weak:  # a constant, as the derivative of x: it still has the shape of an array
                like = next(a for a in arrays if a is not None)
                dtype = values[len(arrays) + len(scalars)] if output.dtype == FLOAT else None
                results[i] = xp.full_like(like, results[i], dtype=dtype)
        return tuple(results)


def _wants_dtype(node: Node) -> bool:
    return node.op == "astype_float" or (
        node.op == "where" and _both_weak(node) and not node.weak and node.dtype == FLOAT
    )


def _both_weak(where: Node) -> bool:
    return where.args[1].weak and where.args[2].weak


def _function(node: Node, xp: Namespace) -> Callable[..., Array]:
    """How `xp` computes `node` from its arguments."""
    if node.weak:  # parameters only: Python's own arithmetic, in double precision
        return OPS[node.op].python
    if node.op == "astype_float":
        return lambda x, dtype: xp.astype(x, dtype)
    if node.op == "astype_int32":
        return lambda x: xp.astype(x, xp.int32)
    if node.op == "where" and _both_weak(node):  # the standard wants one of the branches to be an array
        if [a.value for a in node.args[1:]] == [1.0, 0.0]:
            return lambda c, p, q, dtype: xp.astype(c, dtype)
        if node.dtype == INT:
            return lambda c, p, q: xp.where(c, xp.full_like(c, p, dtype=xp.int32), q)
        return lambda c, p, q, dtype: xp.where(c, xp.full_like(c, p, dtype=dtype), q)
    if node.op == "pow" and node.args[1].op == "const" and node.args[1].value in (2, 3):
        return (lambda x, _: x * x) if node.args[1].value == 2 else (lambda x, _: x * x * x)
    return OPERATORS.get(node.op) or getattr(xp, node.op)

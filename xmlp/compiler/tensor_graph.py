"""The graph of a traced function of whole arrays, as a value: it can be printed, run on any namespace, and planned.

>>> graph = trace(lambda backend, x: {"y": backend.xp.tanh(x) * backend.scalar("a")}, {"x": ((2, 3), "float64")})
>>> print(graph.source)
x: float64 (2, 3)
v0 = tanh(x)
v1 = v0 * a
y = v1
>>> import numpy as np
>>> graph.run(np, {"x": np.zeros((2, 3))}, {"a": 2.0})["y"].shape
(2, 3)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from xmlp.compiler.planner import Plan, plan
from xmlp.compiler.rows import Extent, Validity
from xmlp.compiler.scalars import evaluate
from xmlp.compiler.tensor import Tensor, TensorNode, Tracer, TracingBackend
from xmlp.graph.node import OPS, walk
from xmlp.graph.operations import OPERATORS
from xmlp.graph.text import number
from xmlp.types import Array

Shape = tuple[int, ...]
_INPUTS = ("input", "list")


@dataclass(frozen=True)
class TensorGraph:
    """Named outputs as functions of named arrays and of numbers that the host knows.

    Attributes
    ----------
    outputs : sequence of (str, TensorNode)
    rows : int
        The number of rows that the graph was traced with.
    validity : Validity, optional
        For which other numbers of rows it holds; None: for none.
    reason_for_sizes : str, optional
        Why it is of one number of rows, where one of any number was wanted.
    """

    outputs: Sequence[tuple[str, TensorNode]]
    rows: int = 0
    validity: Validity | None = None
    reason_for_sizes: str | None = None

    @cached_property
    def nodes(self) -> tuple[TensorNode, ...]:
        """Every node, arguments before what uses them."""
        return tuple(walk(*(node for _, node in self.outputs)))

    @property
    def inputs(self) -> dict[str, TensorNode]:
        """The arrays that it reads, by name."""
        return {node.attr: node for node in self.nodes if node.op in _INPUTS}

    @property
    def scalars(self) -> list[str]:
        """The numbers that it reads."""
        return [node.attr for node in self.nodes if node.op == "scalar"]

    @cached_property
    def plan(self) -> Plan:
        """The calls on assigned buffers; see `xmlp.compiler.planner`."""
        return plan(self.outputs) if self.validity is None else plan(self.outputs, self.rows, self.validity)

    def run(
        self, xp: Any, arrays: Mapping[str, Array], scalars: Mapping[str, Any], device: Any = None
    ) -> dict[str, Array]:
        """The outputs, one operation of the library at a time: what a plan must compute.

        A graph for any number of rows takes arrays of the number that it was traced with.
        """
        known = {} if self.validity is None else {n: f(self.rows) for n, f in self.validity.sizes.items()}
        numbers = {**known, **scalars}
        values: dict[TensorNode, Any] = {}
        for node in self.nodes:
            values[node] = _value(node, [values[a] for a in node.args], xp, arrays, numbers, device)
        return {name: values[node] for name, node in self.outputs}

    @property
    def source(self) -> str:
        """The graph as text: its inputs, then a line for each operation."""
        names: dict[TensorNode, str] = {}
        lines: list[str] = []
        for node in self.nodes:
            if node.op in ("const", "scalar", *_INPUTS):
                names[node] = number(node.attr) if node.op == "const" else node.attr
                continue
            names[node] = f"v{len(lines)}"
            lines.append(f"{names[node]} = {_text(node, [names[a] for a in node.args])}")
        read = [f"{name}: {node.dtype} {node.shape}" for name, node in self.inputs.items()]
        return "\n".join([*read, *lines, *(f"{name} = {names[node]}" for name, node in self.outputs)])


def trace(
    function: Callable[..., Mapping[str, Tensor]], inputs: Mapping[str, tuple[Shape, str]], dtype: str = "float64",
    listed: str = "",
) -> TensorGraph:  # fmt: skip
    """The graph of `function(backend, **tensors)`, a pure function of a backend and arrays, to named arrays.

    Parameters
    ----------
    inputs : dict of name to (shape, dtype)
        An `Extent` among the lengths stands for any number of rows.
    dtype : {"float32", "float64"}
        The floating dtype of the backend.
    listed : str
        The input that is the list of the batch, if there is one: it says which rows are taken from others.

    Raises
    ------
    PlanError
        If the function uses an operation that no step has.
    """
    tracer = Tracer()
    symbols = {
        name: tracer.list(name, tuple(shape)) if name == listed else tracer.input(name, tuple(shape), kind)
        for name, (shape, kind) in inputs.items()
    }
    outputs = function(TracingBackend(tracer, dtype), **symbols)
    extents = [n for shape, _ in inputs.values() for n in shape if isinstance(n, Extent)]
    wanted = [(name, out.node) for name, out in outputs.items() if out.shape != (0,)]
    return TensorGraph(wanted, int(extents[0]), tracer.validity) if extents else TensorGraph(wanted)


def _value(
    node: TensorNode, args: list[Any], xp: Any, arrays: Mapping[str, Array], scalars: Mapping[str, Any], device: Any
) -> Any:
    """One node from the values of its arguments."""
    if node.weak:
        return evaluate(node, scalars)
    if node.op in _INPUTS:
        return arrays[node.attr]
    if node.op in _STRUCTURE:
        return _STRUCTURE[node.op](xp, node, *args)
    if node.op == "index":
        return xp.arange(int(node.shape[0]), dtype=xp.int32, device=device)
    if node.op == "full":
        return xp.full(tuple(map(int, node.shape)), node.attr, dtype=getattr(xp, node.dtype), device=device)
    if node.op == "where" and node.args[1].weak and node.args[2].weak:  # the standard wants an array
        args[1] = xp.full_like(args[0], args[1], dtype=getattr(xp, node.dtype))
    function = OPERATORS.get(node.op) or getattr(xp, node.op)
    if node.op == "pow" and node.args[1].op == "const" and node.args[1].value in (2, 3):
        return args[0] * args[0] if node.args[1].value == 2 else args[0] * args[0] * args[0]
    return function(*args)


def _reduced(name: str) -> Callable[..., Any]:
    def reduced(xp: Any, node: TensorNode, x: Array) -> Array:
        x = xp.reshape(x, (1, -1)) if x.ndim == 1 else x
        axis = {"all": None, "row": -1, "column": 0}[node.attr]
        return xp.reshape(getattr(xp, name)(x, axis=axis), tuple(map(int, node.shape)))

    return reduced


_STRUCTURE: dict[str, Callable[..., Any]] = {
    "matmul": lambda xp, node, a, b: a @ b,
    "slice": lambda xp, node, x: x[node.attr[0] : node.attr[1]],
    "concat": lambda xp, node, *arrays: xp.concat(arrays),
    "take": lambda xp, node, x, rows: xp.take(x, rows, axis=0),
    "reshape": lambda xp, node, x: xp.reshape(x, tuple(map(int, node.shape))),
    "transpose": lambda xp, node, x: xp.matrix_transpose(x),
    "astype": lambda xp, node, x: xp.astype(x, getattr(xp, node.dtype)),
    "sum": _reduced("sum"),
    "max": _reduced("max"),
}


def _text(node: TensorNode, args: list[str]) -> str:
    """One operation, as it would be written."""
    op, shape = OPS.get(node.op), ", ".join(map(str, node.shape))
    if node.op == "matmul":
        return " @ ".join(args)
    if node.op == "slice":
        return f"{args[0]}[{node.attr[0]}:{node.attr[1]}]"
    if op is not None and op.symbol:
        return f" {op.symbol} ".join(args) if op.arity == 2 else f"{op.symbol}{args[0]}"
    given = {"reshape": [f"({shape})"], "astype": [node.dtype], "full": [f"({shape})", str(node.attr)]}
    given |= {"index": [shape], "sum": [_AXES.get(node.attr, "")], "max": [_AXES.get(node.attr, "")]}
    return f"{node.op}({', '.join(filter(None, [*args, *given.get(node.op, [])]))})"


_AXES = {"row": "axis=1", "column": "axis=0"}

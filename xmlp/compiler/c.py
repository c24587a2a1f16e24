"""The operations of the vocabulary in C, and formulas as bodies of elementwise kernels.

The text is the common part of C and of CUDA's C++: an NVIDIA compiler makes a kernel of it, any C compiler a loop.
Numbers are written in the dtype of their neighbours, so that no float64 slips into float32 code; int32 arithmetic
wraps, through uint32, as signed overflow is undefined. What is made of parameters alone is left to the host, in double
precision, and handed in as a number.
"""

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xmlp.compiler.scalars import evaluate
from xmlp.graph.graph import Graph
from xmlp.graph.node import BOOL, FLOAT, INT, OPS, Node, walk

TYPES = {
    "float32": "float", "float64": "double", "int32": "int", "int64": "long long", "uint8": "unsigned char",
    "bool": "bool",
}  # fmt: skip
_LARGEST = {"float32": (2.0 - 2.0**-23) * 2.0**127, "float64": (2.0 - 2.0**-52) * 2.0**1023}
_WRAPPING = {"add": "+", "subtract": "-", "multiply": "*", "bitwise_left_shift": "<<"}
_LOGICAL = {
    "bitwise_and": "&&", "logical_and": "&&", "bitwise_or": "||", "logical_or": "||", "bitwise_xor": "!=",
}  # fmt: skip
_FUNCTIONS = {f: f for f in ("exp", "expm1", "log", "log1p", "tanh", "sqrt", "pow")} | {"abs": "fabs"}


def literal(value: float, dtype: str) -> str:
    """A number of `dtype` in C.

    >>> literal(0.1, "float32"), literal(2, "float64"), literal(float("-inf"), "float32"), literal(-(2**31), "int32")
    ('0.100000001f', '2.0', '(-1.0f / 0.0f)', '(-2147483647 - 1)')
    """
    if dtype == "bool":
        return "true" if value else "false"
    if dtype not in _LARGEST:
        return "(-2147483647 - 1)" if value == -(2**31) else f"({int(value)})" if value < 0 else str(int(value))
    suffix = "f" if dtype == "float32" else ""
    if abs(value) > _LARGEST[dtype]:
        return f"({'-' if value < 0 else ''}1.0{suffix} / 0.0{suffix})"
    if math.isnan(value):
        return f"(0.0{suffix} / 0.0{suffix})"
    text = f"{struct.unpack('f', struct.pack('f', value))[0]:.9g}" if suffix else f"{value:.17g}"
    text = text if {".", "e"} & set(text) else f"{text}.0"
    return f"({text}{suffix})" if text.startswith("-") else f"{text}{suffix}"


def operation(op: str, values: Sequence[str], dtype: str, constants: Sequence[object]) -> str:
    """An expression for one operation on values of `dtype`; a third argument of `where` apart, all are of one dtype.

    `constants` holds the numbers among the values, None for the others.
    """
    a, b = values[0], values[-1]
    floating = dtype in _LARGEST
    if op == "where":
        return f"{a} ? {values[1]} : {b}"
    if op in ("maximum", "minimum"):
        order = ">" if op == "maximum" else "<"
        return f"{a} {order} {b}{f' || {a} != {a}' if floating else ''} ? {a} : {b}"
    if op == "pow" and constants[1] in (2, 3):
        return " * ".join([a] * int(constants[1]))
    if op == "isfinite":
        return f"{_function('fabs', dtype)}({a}) <= {literal(_LARGEST[dtype], dtype)}"
    if op in _FUNCTIONS and floating:
        return f"{_function(_FUNCTIONS[op], dtype)}({', '.join(values)})"
    if op == "abs":
        return f"{a} < 0 ? {operation('negative', [a], dtype, [None])} : {a}"
    if op in _LOGICAL and dtype == "bool":
        return f"{a} {_LOGICAL[op]} {b}"
    if op == "logical_not" or (op == "bitwise_invert" and dtype == "bool"):
        return f"!{a}"
    if op == "negative" and not floating:
        return f"(int) (0u - (unsigned) {a})"
    if op in _WRAPPING and not floating:
        return f"(int) ((unsigned) {a} {_WRAPPING[op]} (unsigned) {b})"
    if OPS[op].symbol and OPS[op].symbol != "**":
        return f"{a} {OPS[op].symbol} {b}" if OPS[op].arity == 2 else f"{OPS[op].symbol}{a}"
    raise NotImplementedError(f"{op} of {dtype} has no code in C")


def _function(name: str, dtype: str) -> str:
    return f"{name}f" if dtype == "float32" else name


@dataclass(frozen=True)
class Elementwise:
    """A formula as an elementwise kernel: x0, x1, ... are its arrays, s0, s1, ... its numbers, y0, y1, ... the results.

    Attributes
    ----------
    name : str
        The same for equal code.
    inputs, outputs, numbers : tuple of str
        Dtypes.
    arrays : tuple of str
        The names of the formula's arrays that are read, as x0, x1, ...
    body : str
        C: statements that read x and s and then set y, so that a result may take the place of an input.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: tuple[str, ...]
    arrays: tuple[str, ...]
    body: str
    weak: tuple[Node, ...]

    def values(self, scalars: Mapping[str, float]) -> list[float]:
        """The numbers s0, s1, ... from the formula's scalars."""
        return [evaluate(node, scalars) for node in self.weak]


def elementwise_code(graph: Graph, dtype: str) -> Elementwise:
    """A graph as an elementwise kernel whose floats are of `dtype`."""
    concrete = {FLOAT: dtype, INT: "int32", BOOL: "bool"}
    inputs = sorted((n for n in walk(*graph.outputs) if n.op == "array"), key=lambda n: graph.arrays.index(n.value))
    names: dict[Node, str] = {n: f"x{i}" for i, n in enumerate(inputs)}
    weak: dict[tuple[Node, str], str] = {}
    lines: list[str] = []

    def value(node: Node, kind: str) -> str:
        if node.op == "const":
            return literal(node.value, kind)
        return weak.setdefault((node, kind), f"s{len(weak)}") if node.weak else names[node]

    for node in walk(*graph.outputs):
        if node.weak or node.op == "array":
            continue
        operands = node.args[1:] if node.op == "where" else node.args
        kind = concrete[next((a.dtype for a in operands if not a.weak), node.dtype)]
        values = [value(a, "bool" if node.op == "where" and a is node.args[0] else kind) for a in node.args]
        result = concrete[node.dtype]
        if node.op.startswith("astype"):
            text = f"({TYPES[result]}) {values[0]}"
        else:
            text = operation(node.op, values, kind, [a.value if a.op == "const" else None for a in node.args])
        names[node] = f"t{len(lines)}"
        lines.append(f"const {TYPES[result]} {names[node]} = {text};")
    outputs = [concrete[o.dtype] for o in graph.outputs]
    lines += [f"y{i} = {value(o, kind)};" for i, (o, kind) in enumerate(zip(graph.outputs, outputs, strict=True))]
    body, kinds = "\n".join(lines), [[concrete[n.dtype] for n in inputs], outputs, [kind for _, kind in weak]]
    name = f"xmlp_{hashlib.sha256(f'{kinds}{body}'.encode()).hexdigest()[:20]}"
    arrays, nodes = (n.value for n in inputs), (node for node, _ in weak)
    return Elementwise(name, tuple(kinds[0]), tuple(outputs), tuple(kinds[2]), tuple(arrays), body, tuple(nodes))

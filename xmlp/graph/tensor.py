"""Tracing a pure function of whole arrays: the elementwise vocabulary of formulas and a short list of operations more.

product (`@`), sum and max along an axis, take of rows, reshape, matrix_transpose, slice, concat, astype. What a training
step does with these becomes a graph of `TensorNode`s with shapes and dtypes, from which a planner makes a plan.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NoReturn

from xmlp.graph.node import OPS

Shape = tuple[int, ...]
FLOATS = ("float32", "float64")


class PlanError(TypeError):
    """A function cannot be traced or planned. It still runs the plain way."""


class TensorNode:
    """One array of a traced function; compared by identity, equal ones are the same object within a trace."""

    __slots__ = ("args", "attr", "dtype", "op", "shape")

    def __init__(self, op: str, args: "tuple[TensorNode, ...]", attr: Any, shape: Shape, dtype: str):
        self.op, self.args, self.attr, self.shape, self.dtype = op, args, attr, shape, dtype

    def __repr__(self) -> str:
        return f"{self.op}{list(self.shape)}"

    @property
    def weak(self) -> bool:
        """A number that the host knows before the step: it takes the dtype of its neighbours."""
        return self.op in ("const", "scalar") or (self.op in OPS and all(a.weak for a in self.args))

    @property
    def size(self) -> int:
        return prod(self.shape)


class Tracer:
    """Makes the nodes of one trace."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], TensorNode] = {}
        self.xp = TensorNamespace(self)

    def node(self, op: str, args: Sequence[TensorNode], attr: Any, shape: Shape, dtype: str) -> TensorNode:
        label = attr.hex() if isinstance(attr, float) else attr
        key = (op, *map(id, args), type(attr), label, shape, dtype)
        if key not in self._known:
            self._known[key] = TensorNode(op, tuple(args), attr, shape, dtype)
        return self._known[key]

    def input(self, name: str, shape: Shape, dtype: str) -> "Tensor":
        """An array argument of the function."""
        return Tensor(self, self.node("input", (), name, shape, dtype))

    def scalar(self, name: str, dtype: str) -> "Tensor":
        """A number that changes from call to call."""
        return Tensor(self, self.node("scalar", (), name, (), dtype))

    def lift(self, value: Any) -> TensorNode:
        if isinstance(value, Tensor):
            return value.node
        if isinstance(value, bool):
            return self.node("const", (), value, (), "bool")
        if isinstance(value, int):
            return self.node("const", (), value, (), "int32")
        if isinstance(value, float):
            return self.node("const", (), value, (), "float")
        raise PlanError(f"a traced step combines arrays with Python numbers only, got {type(value).__name__}")

    def elementwise(self, op: str, *values: Any) -> "Tensor":
        args = [self.lift(v) for v in values]
        operands = args[1:] if op == "where" else args
        strong = {a.dtype for a in operands if not a.weak}
        if len(strong) > 1:
            raise PlanError(f"{op} of {' and '.join(sorted(strong))}")
        ranks = ("bool", "int32", "float")
        dtype = strong.pop() if strong else max((a.dtype for a in operands), key=ranks.index)
        dtype = {"bool": "bool"}.get(OPS[op].gives or "", dtype)
        return Tensor(self, self.node(op, args, None, broadcast(*(a.shape for a in args)), dtype))


def broadcast(*shapes: Shape) -> Shape:
    """The shape in which `shapes` meet."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    result = []
    for sizes in zip(*padded, strict=True):
        wide = {n for n in sizes if n != 1}
        if len(wide) > 1:
            raise PlanError(f"shapes {shapes} do not broadcast")
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def _binary(op: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return (lambda a, b: a.tracer.elementwise(op, a, b)), (lambda a, b: a.tracer.elementwise(op, b, a))


class Tensor:
    """A symbol that stands for a whole array while a step is traced."""

    __slots__ = ("node", "tracer")

    def __init__(self, tracer: Tracer, node: TensorNode):
        self.tracer, self.node = tracer, node

    __add__, __radd__ = _binary("add")
    __sub__, __rsub__ = _binary("subtract")
    __mul__, __rmul__ = _binary("multiply")
    __truediv__, __rtruediv__ = _binary("divide")
    __pow__, __rpow__ = _binary("pow")
    __and__, __rand__ = _binary("bitwise_and")
    __or__, __ror__ = _binary("bitwise_or")
    __xor__, __rxor__ = _binary("bitwise_xor")
    __lshift__, __rlshift__ = _binary("bitwise_left_shift")
    __rshift__, __rrshift__ = _binary("bitwise_right_shift")
    __lt__, __gt__ = _binary("less")[0], _binary("greater")[0]
    __le__, __ge__ = _binary("less_equal")[0], _binary("greater_equal")[0]
    __eq__, __ne__ = _binary("equal")[0], _binary("not_equal")[0]

    def __neg__(self) -> "Tensor":
        return self.tracer.elementwise("negative", self)

    def __abs__(self) -> "Tensor":
        return self.tracer.elementwise("abs", self)

    def __invert__(self) -> "Tensor":
        return self.tracer.elementwise("bitwise_invert", self)

    @property
    def shape(self) -> Shape:
        return self.node.shape

    @property
    def ndim(self) -> int:
        return len(self.node.shape)

    @property
    def dtype(self) -> str:
        return self.node.dtype

    def __matmul__(self, other: "Tensor") -> "Tensor":
        a, b = self.node, other.node
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0] or a.dtype != b.dtype:
            raise PlanError(f"product of {a} and {b}")
        return Tensor(self.tracer, self.tracer.node("matmul", (a, b), None, (a.shape[0], b.shape[1]), a.dtype))

    def __getitem__(self, key: Any) -> "Tensor":
        if not isinstance(key, slice) or self.ndim != 1 or key.step not in (None, 1):
            raise PlanError("a traced step slices vectors only")
        start, stop, _ = key.indices(self.shape[0])
        node = self.tracer.node("slice", (self.node,), (start, stop), (stop - start,), self.dtype)
        return self if (start, stop) == (0, self.shape[0]) else Tensor(self.tracer, node)

    def _refuse(self, *_: object) -> NoReturn:
        raise PlanError("a traced step cannot read a value out of its data")

    __bool__ = __float__ = __int__ = __index__ = __iter__ = __len__ = _refuse


class TensorNamespace:
    """The namespace `xp` that a step is handed while it is traced."""

    float32, float64, int32, bool, uint8 = "float32", "float64", "int32", "bool", "uint8"
    pi, e, inf, nan = 3.141592653589793, 2.718281828459045, float("inf"), float("nan")

    def __init__(self, tracer: Tracer):
        self._tracer = tracer

    def __getattr__(self, name: str) -> Callable[..., Tensor]:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in OPS or name.startswith("astype_"):
            raise PlanError(f"xp.{name} is not among the operations of a step")
        return lambda *args: self._tracer.elementwise(name, *args)

    def isdtype(self, dtype: str, kind: str) -> "bool":
        return (dtype in FLOATS) if kind == "real floating" else dtype == kind

    def astype(self, x: Tensor, dtype: str, /) -> Tensor:
        if x.dtype == dtype:
            return x
        return Tensor(self._tracer, self._tracer.node("astype", (x.node,), None, x.shape, dtype))

    def full_like(self, x: Tensor, value: Any, *, dtype: str | None = None) -> Tensor:
        return Tensor(self._tracer, self._tracer.node("full", (), float(value), x.shape, dtype or x.dtype))

    def square(self, x: Tensor, /) -> Tensor:
        return x * x

    def reshape(self, x: Tensor, shape: Shape, /) -> Tensor:
        sizes = list(shape)
        if -1 in sizes:
            sizes[sizes.index(-1)] = x.node.size // max(prod(n for n in sizes if n != -1), 1)
        if prod(sizes) != x.node.size:
            raise PlanError(f"reshape of {x.node} to {shape}")
        if tuple(sizes) == x.shape:
            return x
        node = x.node.args[0] if x.node.op == "reshape" else x.node
        return Tensor(self._tracer, self._tracer.node("reshape", (node,), None, tuple(sizes), x.dtype))

    def expand_dims(self, x: Tensor, /, *, axis: int) -> Tensor:
        if x.ndim != 1 or axis not in (-1, 1):
            raise PlanError("expand_dims of other than a vector's last axis")
        return self.reshape(x, (*x.shape, 1))

    def matrix_transpose(self, x: Tensor, /) -> Tensor:
        rows, columns = x.shape
        return Tensor(self._tracer, self._tracer.node("transpose", (x.node,), None, (columns, rows), x.dtype))

    def take(self, x: Tensor, rows: Tensor, /, *, axis: int) -> Tensor:
        if axis != 0 or rows.ndim != 1:
            raise PlanError("take of other than rows")
        shape = (*rows.shape, *x.shape[1:])
        return Tensor(self._tracer, self._tracer.node("take", (x.node, rows.node), None, shape, x.dtype))

    def concat(self, arrays: Sequence[Tensor], /) -> Tensor:
        if len(arrays) == 1:
            return arrays[0]
        if any(a.ndim != 1 for a in arrays):
            raise PlanError("concat of other than vectors")
        nodes = [a.node for a in arrays]
        return Tensor(self._tracer, self._tracer.node("concat", nodes, None, (sum(n.size for n in nodes),), arrays[0].dtype))

    def sum(self, x: Tensor, /, *, axis: int | None = None, keepdims: "bool" = False) -> Tensor:
        return self._reduced("sum", x, axis, keepdims)

    def max(self, x: Tensor, /, *, axis: int | None = None, keepdims: "bool" = False) -> Tensor:
        return self._reduced("max", x, axis, keepdims)

    def _reduced(self, op: str, x: Tensor, axis: int | None, keepdims: "bool") -> Tensor:
        """A reduction over all elements, along rows (the last axis) or over the rows; kept as a matrix, then reshaped."""
        if x.ndim > 2 or not (x.dtype in FLOATS):
            raise PlanError(f"{op} of {x.node}")
        rows, columns = matrix(x.shape)
        axis = None if axis is None else axis % x.ndim - x.ndim
        kind = "all" if axis is None or x.ndim < 2 else "row" if axis == -1 else "column"
        kept = {"all": (1, 1), "row": (rows, 1), "column": (1, columns)}[kind]
        node = Tensor(self._tracer, self._tracer.node(op, (x.node,), kind, kept, x.dtype))
        if keepdims and x.ndim == 2:
            return node
        return self.reshape(node, {"all": (), "row": (rows,), "column": (columns,)}[kind])


def matrix(shape: Shape) -> tuple[int, int]:
    """A shape as rows and columns: a vector is one row."""
    if len(shape) > 2:
        raise PlanError(f"arrays of more than two axes are not planned, got {shape}")
    return ((1,) * (2 - len(shape)) + shape)[-2:]  # type: ignore[return-value]

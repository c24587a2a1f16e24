"""Tracing a pure function of whole arrays: the elementwise vocabulary of formulas and a few operations more.

product (`@`), sum and max along an axis, take of rows, reshape, matrix_transpose, slice, concat, astype. What a
training step does with these becomes a graph of `TensorNode`s with shapes and dtypes, of which a planner makes a plan.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NoReturn

from xmlp.compiler.rows import Extent, Size, Validity, factor, same
from xmlp.graph.formula import Formula
from xmlp.graph.node import OPS, walk
from xmlp.graph.symbol import Symbol

Shape = tuple[int, ...]
Flag = bool
FLOATS = ("float32", "float64")
ITEM = {"float32": 4, "float64": 8, "int32": 4, "int64": 8, "uint8": 1, "bool": 1}  # bytes of an element
VIEWS = ("reshape", "slice")
REDUCTIONS = ("sum", "max")


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
    def value(self) -> Any:
        """The number of a constant, the name of a scalar."""
        return self.attr

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)


class Tracer:
    """Makes the nodes of one trace, and notes for which numbers of rows it holds."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], TensorNode] = {}
        self._validity = Validity()
        self.calls: dict[TensorNode, tuple[Any, tuple[Any, ...]]] = {}  # values of formulas: the formula, its arguments

    @property
    def validity(self) -> Validity:
        """For which numbers of rows the trace holds, if it was made of inputs whose shapes have an `Extent`."""
        for node in self._known.values():
            if node.op not in ("input", "list", "matmul", "reshape", "slice", "transpose", "concat"):
                read = node.args[1:] if node.op == "take" else node.args  # the table may have any length
                for a in (node, *read):
                    self._validity.matrix(matrix(a.shape))
        return self._validity

    def lengths(self, shape: Shape) -> tuple[Any, ...]:
        """A shape as whoever reads it sees it."""
        return tuple(Size.of(self._validity, n) for n in shape)

    def node(self, op: str, args: Sequence[TensorNode], attr: Any, shape: Shape, dtype: str) -> TensorNode:
        """The node of that operation; there is one of each."""
        label = attr.hex() if isinstance(attr, float) else attr
        key = (op, *map(id, args), type(attr), label, shape, dtype)
        if key not in self._known:
            self._known[key] = TensorNode(op, tuple(args), attr, shape, dtype)
        return self._known[key]

    def input(self, name: str, shape: Shape, dtype: str) -> "Tensor":
        """An array argument of the function."""
        return Tensor(self, self.node("input", (), name, shape, dtype))

    def list(self, name: str, shape: Shape) -> "Tensor":
        """The list of the batch: the numbers of the rows that a step takes from its tables, given with each step."""
        return Tensor(self, self.node("list", (), name, shape, "int32"))

    def scalar(self, name: str, dtype: str) -> "Tensor":
        """A number that changes from call to call."""
        return Tensor(self, self.node("scalar", (), name, (), dtype))

    def lift(self, value: Any) -> TensorNode:
        """The node of a tensor or a number."""
        if isinstance(value, Tensor):
            return value.node
        if isinstance(value, Size):  # known before the step, like a scalar of the optimizer
            self._validity.sizes[value.text] = value.at
            return self.node("scalar", (), value.text, (), "int32" if isinstance(value.value, int) else "float")
        if isinstance(value, bool):
            return self.node("const", (), value, (), "bool")
        if isinstance(value, int):
            return self.node("const", (), value, (), "int32")
        if isinstance(value, float):
            return self.node("const", (), value, (), "float")
        raise PlanError(f"a traced step combines arrays with Python numbers only, got {type(value).__name__}")

    def part(self, node: TensorNode, start: int, stop: int) -> TensorNode:
        """A slice of a vector; of what is computed element by element, the same of slices: nothing need be stored."""
        if node.op not in OPS:
            return self.node("slice", (node,), (start, stop), (stop - start,), node.dtype)
        args = [self.part(a, start, stop) if a.shape == node.shape else a for a in node.args]
        return self.node(node.op, args, node.attr, (stop - start,), node.dtype)

    def elementwise(self, op: str, *values: Any) -> "Tensor":
        """An operation on broadcast operands; numbers take the dtype of the arrays beside them."""
        args = [self.lift(v) for v in values]
        operands = args[1:] if op == "where" else args
        strong = {a.dtype for a in operands if not a.weak}
        if len(strong) > 1:
            raise PlanError(f"{op} of {' and '.join(sorted(strong))}")
        ranks = ("bool", "int32", "float")
        dtype = strong.pop() if strong else max((a.dtype for a in operands), key=ranks.index)
        if dtype == "float" and op == "where":  # numbers beside a condition: of the dtype that it was computed in
            dtype = next((n.dtype for n in walk(args[0]) if n.dtype in FLOATS), dtype)
        dtype = {"bool": "bool"}.get(OPS[op].gives or "", dtype)
        return Tensor(self, self.node(op, args, None, broadcast(*(a.shape for a in args)), dtype))


def broadcast(*shapes: Shape) -> Shape:
    """The shape in which `shapes` meet."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    result = []
    for sizes in zip(*padded, strict=True):
        wide = [n for n in sizes if n != 1]
        if not all(same(n, wide[0]) for n in wide):
            raise PlanError(f"shapes {shapes} do not broadcast")
        result.append(wide[0] if wide else 1)
    return tuple(result)


class Tensor(Symbol):
    """A symbol that stands for a whole array while a step is traced."""

    __slots__ = ("node", "tracer")

    def __init__(self, tracer: Tracer, node: TensorNode):
        self.tracer, self.node = tracer, node

    def operate(self, op: str, *args: Any) -> "Tensor":
        return self.tracer.elementwise(op, *args)

    def derive(self, op: str, shape: Shape, attr: Any = None, dtype: str | None = None) -> "Tensor":
        """Another array made of this one."""
        return Tensor(self.tracer, self.tracer.node(op, (self.node,), attr, shape, dtype or self.dtype))

    @property
    def shape(self) -> Shape:
        """The lengths of the axes; a number of rows is a symbol."""
        return self.tracer.lengths(self.node.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.node.shape)

    @property
    def dtype(self) -> str:
        """The name of the dtype."""
        return self.node.dtype

    def __matmul__(self, other: "Tensor") -> "Tensor":
        a, b = self.node, other.node
        if len(a.shape) != 2 or len(b.shape) != 2 or not same(a.shape[1], b.shape[0]) or a.dtype != b.dtype:
            raise PlanError(f"product of {a} and {b}")
        return Tensor(self.tracer, self.tracer.node("matmul", (a, b), None, (a.shape[0], b.shape[1]), a.dtype))

    def __getitem__(self, key: Any) -> "Tensor":
        if not isinstance(key, slice) or self.ndim != 1 or key.step not in (None, 1):
            raise PlanError("a traced step slices vectors only")
        (size,) = self.node.shape
        if isinstance(size, Extent) and (key.start, key.stop) != (None, None):
            raise PlanError("a slice of as many elements as there are rows is planned for each number")
        start, stop, _ = key.indices(size)
        return self if (start, stop) == (0, size) else Tensor(self.tracer, self.tracer.part(self.node, start, stop))

    def _refuse(self, *_: object) -> NoReturn:
        raise PlanError("a traced step cannot read a value out of its data")

    __bool__ = __float__ = __int__ = __index__ = __iter__ = __len__ = _refuse


class TensorNamespace:
    """The namespace `xp` that a step is handed while it is traced."""

    float32, float64, int32, bool, uint8 = "float32", "float64", "int32", "bool", "uint8"
    pi, e, inf, nan = 3.141592653589793, 2.718281828459045, float("inf"), float("nan")

    def __getattr__(self, name: str) -> Callable[..., Tensor]:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in OPS or name.startswith("astype_"):
            raise PlanError(f"xp.{name} is not among the operations of a step")

        def operation(*args: Any) -> Tensor:
            tracer = next((a.tracer for a in args if isinstance(a, Tensor)), None)
            if tracer is None:
                raise PlanError(f"xp.{name} of numbers only")
            result: Tensor = tracer.elementwise(name, *args)
            return result

        return operation

    def isdtype(self, dtype: str, kind: str) -> Flag:
        """Whether a dtype is of that kind."""
        return (dtype in FLOATS) if kind == "real floating" else dtype == kind

    def astype(self, x: Tensor, dtype: str, /) -> Tensor:
        """The same elements in another dtype."""
        return x if x.dtype == dtype else x.derive("astype", x.node.shape, dtype=dtype)

    def full_like(self, x: Tensor, value: Any, *, dtype: str | None = None) -> Tensor:
        """One number in the shape of x."""
        return Tensor(x.tracer, x.tracer.node("full", (), float(value), x.node.shape, dtype or x.dtype))

    def zeros_like(self, x: Tensor) -> Tensor:
        """Zeros in the shape of x."""
        return self.full_like(x, 0.0)

    def square(self, x: Tensor, /) -> Tensor:
        """x x."""
        return x.tracer.elementwise("multiply", x, x)

    def reshape(self, x: Tensor, shape: Shape, /) -> Tensor:
        """The same elements in another shape; -1 stands for the length that fits."""
        sizes, size = [_extent(n) for n in shape], x.node.size
        if -1 in sizes:
            sizes[sizes.index(-1)] = size // max(prod(n for n in sizes if n != -1), 1)
        if prod(sizes) != size or factor(prod(sizes)) != factor(size):
            raise PlanError(f"reshape of {x.node} to {shape}")
        return x if tuple(sizes) == x.node.shape else x.derive("reshape", tuple(sizes))

    def expand_dims(self, x: Tensor, /, *, axis: int) -> Tensor:
        """A vector as a column or as a row."""
        if x.ndim != 1 or axis not in (-2, -1, 0, 1):
            raise PlanError("expand_dims of other than a vector")
        return self.reshape(x, (*x.node.shape, 1) if axis in (-1, 1) else (1, *x.node.shape))

    def matrix_transpose(self, x: Tensor, /) -> Tensor:
        """Rows as columns."""
        rows, columns = x.node.shape
        if x.node.op == "transpose":
            return Tensor(x.tracer, x.node.args[0])
        return x.derive("transpose", (columns, rows))

    def take(self, x: Tensor, rows: Tensor, /, *, axis: int) -> Tensor:
        """The rows of x with these numbers."""
        if axis != 0 or rows.ndim != 1:
            raise PlanError("take of other than rows")
        node = x.tracer.node("take", (x.node, rows.node), None, (*rows.node.shape, *x.node.shape[1:]), x.dtype)
        return Tensor(x.tracer, node)

    def concat(self, arrays: Sequence[Tensor], /) -> Tensor:
        """Vectors, one after another."""
        if any(a.ndim != 1 for a in arrays):
            raise PlanError("concat of other than vectors")
        nodes = [a.node for a in arrays]
        if len(nodes) > 1 and any(factor(n.size) for n in nodes):
            raise PlanError("a concatenation whose length depends on the number of rows is planned for each number")
        node = arrays[0].tracer.node("concat", nodes, None, (sum(n.size for n in nodes),), arrays[0].dtype)
        return arrays[0] if len(arrays) == 1 else Tensor(arrays[0].tracer, node)

    def sum(self, x: Tensor, /, *, axis: int | tuple[int, ...] | None = None, keepdims: Flag = False) -> Tensor:
        """Sums of all elements, of rows or of columns."""
        return self._reduced("sum", x, axis, keepdims)

    def max(self, x: Tensor, /, *, axis: int | None = None, keepdims: Flag = False) -> Tensor:
        """The largest of all elements, of rows or of columns."""
        return self._reduced("max", x, axis, keepdims)

    def _reduced(self, op: str, x: Tensor, axis: int | tuple[int, ...] | None, keepdims: Flag) -> Tensor:
        """A reduction over everything, along the rows (the last axis) or over the rows; a matrix, then reshaped."""
        rows, columns = matrix(x.node.shape)
        axes = range(x.ndim) if axis is None else [a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))]
        kind = "all" if len(axes) == x.ndim or x.ndim < 2 else "row" if axes == [1] else "column"
        if x.dtype not in FLOATS or (op == "max" and kind != "row"):
            raise PlanError(f"{op} of {x.node} ({kind})")
        if op == "sum" and x.node.op == "transpose":  # the same sums, of the array itself
            axis = {"all": None, "row": 0, "column": 1}[kind]
            total = self.sum(Tensor(x.tracer, x.node.args[0]), axis=axis)
            shape = {"all": (1, 1), "row": (rows, 1), "column": (1, columns)}[kind] if keepdims else total.node.shape
            return self.reshape(total, shape)
        node = x.derive(op, {"all": (1, 1), "row": (rows, 1), "column": (1, columns)}[kind], kind)
        if keepdims and x.ndim == 2:
            return node
        return self.reshape(node, {"all": (), "row": (rows,), "column": (columns,)}[kind])


XP = TensorNamespace()


def trace_formula(formula: Any, *arrays: Tensor, **scalars: Any) -> Any:
    """A formula, traced node by node. That its value is one is noted, for derivatives."""
    value = formula.evaluate(XP, *arrays, **scalars)
    if isinstance(formula, Formula) and isinstance(value, Tensor) and value.node.op in OPS:
        known = all(isinstance(a, Tensor) and a.node is not value.node for a in arrays)
        if known and all(type(s) in (bool, int, float) for s in scalars.values()):
            value.tracer.calls.setdefault(value.node, (formula.bind(**scalars) if scalars else formula, arrays))
    return value


def _extent(n: "int | Size") -> int:
    """A length that whoever is traced has given."""
    return n.extent() if isinstance(n, Size) else n


class TracingBackend:
    """Stands in for a backend while a step is traced."""

    xp = XP

    def __init__(self, tracer: Tracer, dtype: str):
        self.tracer = tracer
        self.float_dtype = self.dtype = dtype

    def scalar(self, name: str, dtype: str = "float") -> Tensor:
        """A number that the host knows before each call."""
        return self.tracer.scalar(name, dtype)

    def apply(self, formula: Any, *arrays: Tensor, **scalars: Any) -> Any:
        """A formula, traced node by node."""
        return trace_formula(formula, *arrays, **scalars)

    def index(self, n: int) -> Tensor:
        """The numbers 0 to n - 1."""
        return Tensor(self.tracer, self.tracer.node("index", (), None, (_extent(n),), "int32"))


def matrix(shape: Shape) -> tuple[int, int]:
    """A shape as rows and columns: a vector is one row."""
    if len(shape) > 2:
        raise PlanError(f"arrays of more than two axes are not planned, got {shape}")
    return ((1,) * (2 - len(shape)) + shape)[-2:]  # type: ignore[return-value]


def base(node: TensorNode) -> tuple[TensorNode, int]:
    """The node whose memory `node` is a view of, and the offset in elements."""
    offset = 0
    while node.op in VIEWS:
        offset += node.attr[0] if node.op == "slice" else 0
        node = node.args[0]
    return node, offset


def arguments(node: TensorNode) -> list[TensorNode]:
    """The computed nodes that a node reads, through views."""
    return [base(a)[0] for a in node.args]


def untransposed(node: TensorNode) -> tuple[TensorNode, bool]:
    """The factor of a product as it lies in memory, and whether that is transposed."""
    return (node.args[0], True) if node.op == "transpose" else (node, False)


def is_elementwise(node: TensorNode) -> bool:
    """Whether a node is computed element by element, in a fused pass."""
    return node.op in OPS or node.op in ("astype", "full", "take")

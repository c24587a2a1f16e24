"""Plans replayed by NumPy alone: for each call of the plan a few array operations whose results have their place.

Everything that can be is decided when the arrays are bound: a step is then a list of calls without arguments. Kernels
run in blocks that fit into the cache, with temporary arrays that all kernels share.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import array_api_compat.numpy as xp
import numpy as np

from xmlp.compiler.calls import Call, Copy, Kernel, Operand, Place, Product
from xmlp.compiler.planner import Plan
from xmlp.compiler.scalars import evaluate
from xmlp.compiler.tensor import REDUCTIONS, TensorNode, base, matrix
from xmlp.host import memory
from xmlp.types import HostArray

Operation = Callable[[], object]
BLOCK = 32768  # elements
_AXIS = {"row": 1, "column": 0, "all": None}


class Program:
    """A plan bound to arrays: `run` repeats it for a number of steps, `once` runs it once."""

    def __init__(self, plan: Plan, arrays: Mapping[str, HostArray]):
        self.plan = plan
        self.arrays = dict(arrays)
        self.arrays["work"] = memory.aligned(plan.work_bytes)
        self.arrays["held"] = memory.aligned(plan.held_bytes)
        self.room = _Room()
        self._listed = np.zeros(0, dtype=np.intp)  # the rows of the present step
        self._numbers: dict[tuple[TensorNode, str], HostArray] = {}
        self._elements = np.zeros(0, dtype=np.int32)
        self._operations = [self._bound(call) for call in plan.calls]
        self._buffers = [{place.buffer for place in call.places} for call in plan.calls]
        self._stale: set[str] = set()  # inputs that were bound since

    def bind(self, name: str, array: HostArray) -> None:
        """Put another array of the same shape and dtype in the place of the input `name`."""
        self.arrays[name] = array
        self._stale.add(name)

    def release(self, name: str) -> None:
        """Let go of the input `name`: another is bound before the next step."""
        del self.arrays[name]
        self._stale.add(name)
        for i, buffers in enumerate(self._buffers):
            if name in buffers:
                self._operations[i] = []

    def resize(self, rows: int) -> None:
        """A program of array operations serves the rows that it was made for."""

    def once(self) -> None:
        """One step of a plan that has neither scalars nor a list of rows."""
        self.run(np.zeros((1, 0)), None, 0)

    def run(self, scalars: HostArray, rows: HostArray | None, batch: int) -> None:
        """One step for each row of `scalars` (steps, scalars); `rows` (steps * batch,) int32 lists the rows to take."""
        self._bind_again()
        calls = [call for operations in self._operations for call in operations]
        with np.errstate(all="ignore"):
            known = dict(zip(self.plan.scalars, scalars.T, strict=True))
            columns = [(cell, evaluate(node, known, _of_columns)) for (node, _), cell in self._numbers.items()]
            for step in range(len(scalars)):
                for cell, values in columns:
                    cell[...] = values if np.ndim(values) == 0 else values[step]
                if rows is not None and batch:
                    self._listed[...] = rows[step * batch : (step + 1) * batch]
                for call in calls:
                    call()

    def _bind_again(self) -> None:
        for i, call in enumerate(self.plan.calls if self._stale else ()):
            if not self._buffers[i].isdisjoint(self._stale):
                self._operations[i] = self._bound(call)
        self._stale.clear()

    def _bound(self, call: Call) -> list[Operation]:
        """The array operations of a call, with the present arrays in them."""
        return _BOUND[type(call)](self, call)

    def _kernel(self, call: Kernel) -> list[Operation]:
        return list(_Pass(call, self).calls())

    def _product(self, call: Product) -> list[Operation]:
        a, b, out = (self.view(p, call.dtype, shape) for p, shape in zip(call.places, call.shapes, strict=True))
        return [partial(np.matmul, a.T if call.transpose_a else a, b.T if call.transpose_b else b, out)]

    def _copy(self, call: Copy) -> list[Operation]:
        target, source = (self.view(place, "uint8", (1, call.size)) for place in (call.target, call.source))
        return [partial(np.copyto, target, source)]

    def view(self, place: Place, dtype: str, shape: tuple[int, int]) -> HostArray:
        """The part of a buffer that a place means, as a matrix."""
        return memory.view(self.arrays[place.buffer], place.offset, dtype, shape)

    def listed(self, count: int) -> HostArray:
        """The numbers of the rows that a step takes."""
        if self._listed.size < count:
            self._listed = np.zeros(count, dtype=np.intp)
        return self._listed

    # --- numbers that the host knows before the step ----------------------------------------------------------------

    def number(self, node: TensorNode, dtype: str) -> HostArray:
        """A 0-d array that holds a constant, or what a step makes of its scalars."""
        if node.op in ("const", "full"):
            with np.errstate(over="ignore"):
                return np.asarray(node.attr).astype(dtype)
        return self._numbers.setdefault((node, dtype), np.empty((), dtype=dtype))

    def numbers(self, first: int, count: int) -> HostArray:
        """`count` integers from `first` on."""
        if self._elements.size < first + count:
            self._elements = np.arange(first + count, dtype=np.int32)
        return self._elements[first : first + count]


def _of_columns(op: str) -> Callable[..., Any]:
    """An operation on numbers that every step has one of."""
    return (lambda column: column.astype(np.int64)) if op == "astype_int32" else getattr(xp, op)


_BOUND: dict[type[Call], Callable[[Program, Any], list[Operation]]] = {
    Kernel: Program._kernel,
    Product: Program._product,
    Copy: Program._copy,
}


class _Room:
    """Memory for temporary arrays; what was handed back is handed out again, the latest first."""

    def __init__(self) -> None:
        self._free: list[HostArray] = []

    def take(self, size: int) -> HostArray:
        for i in reversed(range(len(self._free))):
            if size <= self._free[i].size <= 2 * size:
                return self._free.pop(i)
        return memory.aligned(size)

    def give(self, raw: HostArray) -> None:
        self._free.append(raw)


class _Pass:
    """A kernel as array operations, block after block."""

    def __init__(self, kernel: Kernel, program: Program):
        self.kernel, self.program = kernel, program
        self.inside = set(kernel.nodes)
        self.memory = {o: program.view(o.place, o.node.dtype, self._shape(o)) for o in kernel.operands}
        self.order: dict[TensorNode, None] = {}  # the nodes to compute, in this order
        self.uses: Counter[TensorNode] = Counter()
        for node in kernel.nodes:
            self._visit(node)
        self.stores = {n: self.memory[o] for n, o in kernel.stores.items()}
        self.late = self._late()

    def _visit(self, node: TensorNode) -> None:
        if node in self.order:
            return
        for a in node.args if node.op != "take" else ():
            if (source := self.computed(a)) is not None:
                self._visit(source)
                self.uses[source] += 1
        self.order[node] = None

    def computed(self, a: TensorNode) -> TensorNode | None:
        """The node of this pass whose value `a` is, None if it is a number or lies in memory."""
        source, _ = base(a)
        if source.weak or source.op in ("full", "index") or self.loaded(a) is not None:
            return None
        assert matrix(source.shape) == matrix(a.shape), "a pass has arrays of one shape"
        return source

    def loaded(self, a: TensorNode) -> HostArray | None:
        """The memory that `a` is read from."""
        operand = self.kernel.loads.get(a)
        return None if operand is None or base(a)[0] in self.inside else self.memory[operand]

    def _shape(self, operand: Operand) -> tuple[int, int]:
        if operand.access.listed is not None:  # of a table of any length
            return matrix(self.program.arrays[operand.place.buffer].shape)
        return operand.access.shape(self.kernel.rows, self.kernel.columns)

    def _late(self) -> set[TensorNode]:
        """What must not be stored at once: it lies where a later operation reads the old values."""
        late: set[TensorNode] = set()
        later: list[HostArray] = []
        for node in reversed(self.order):
            if node in self.stores and any(np.may_share_memory(self.stores[node], array) for array in later):
                late.add(node)
            later += [array for a in node.args if (array := self.loaded(a)) is not None]
        return late

    def calls(self) -> Iterator[Operation]:
        rows, columns = self.kernel.rows, self.kernel.columns
        whole = self.kernel.reductions("row") or any(o.access.listed == 0 for o in self.kernel.loads.values())
        height = max(1, BLOCK // max(columns, 1))
        width = BLOCK if rows == 1 and not whole else max(columns, 1)
        for r in range(0, max(rows, 1), height):
            for c in range(0, max(columns, 1), width):
                yield from _Block(self, slice(r, r + height), slice(c, c + width)).calls


class _Temporary(NamedTuple):
    array: HostArray
    raw: HostArray


class _Block:
    """The array operations of a pass for some of its rows and columns."""

    def __init__(self, whole: _Pass, rows: slice, columns: slice):
        self.whole, self.rows, self.columns = whole, rows, columns
        self.room = whole.program.room
        self.calls: list[Operation] = []
        self.first = rows.start == columns.start == 0
        self.values: dict[TensorNode, HostArray] = {}
        self.temporary: dict[TensorNode, _Temporary] = {}
        self.left = self.whole.uses.copy()
        for node in whole.order:
            self._compute(node)
        for node in whole.late:
            self._do(np.copyto, self._part(whole.stores[node]), self.values[node])
            self._release(node)

    def _do(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.calls.append(partial(function, *arguments))

    def _part(self, array: HostArray) -> HostArray:
        """What this block sees of an array that is a matrix, or broadcast to one."""
        kernel = self.whole.kernel
        rows = self.rows if array.shape[0] == kernel.rows else slice(None)
        return array[rows, self.columns if array.shape[1] == kernel.columns else slice(None)]

    def _value(self, a: TensorNode, dtype: str) -> HostArray:
        source, offset = base(a)
        if source.weak or source.op == "full":
            return self.whole.program.number(source, source.dtype if source.op == "full" else dtype)
        if source.op == "index":
            return self._part(self.whole.program.numbers(offset, a.size).reshape(matrix(a.shape)))
        loaded = self.whole.loaded(a)
        return self.values[source] if loaded is None else self._part(loaded)

    # --- where results go -------------------------------------------------------------------------------------------

    def _out(self, node: TensorNode, shape: tuple[int, ...]) -> HostArray:
        if node in self.whole.stores and node not in self.whole.late:
            self.values[node] = self._part(self.whole.stores[node])
        else:
            self.temporary[node] = room = self._temporary(shape, node.dtype)
            self.values[node] = room.array
        return self.values[node]

    def _temporary(self, shape: tuple[int, ...], dtype: str) -> _Temporary:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        raw = self.room.take(size)
        return _Temporary(raw[:size].view(dtype).reshape(shape), raw)

    def _done(self, node: TensorNode) -> None:
        """`node` has read its arguments: what nobody else reads makes room."""
        for a in node.args if node.op != "take" else ():
            if (source := self.whole.computed(a)) is not None:
                self.left[source] -= 1
                if not self.left[source] and source not in self.whole.late:
                    self._release(source)

    def _release(self, node: TensorNode) -> None:
        if node in self.temporary:
            self.room.give(self.temporary.pop(node).raw)

    # --- operations -------------------------------------------------------------------------------------------------

    def _compute(self, node: TensorNode) -> None:
        if node.op == "take":
            self._take(node)
            return
        operands = node.args[1:] if node.op == "where" else node.args
        given = node.args[0].dtype if node.op == "astype" else node.dtype
        strong = next((a.dtype for a in operands if not a.weak), given)
        values = [self._value(a, strong) for a in operands]
        if node.op in REDUCTIONS:
            self._reduce(node, values[0])
        elif node.op == "where":
            self._where(node, self._value(node.args[0], "bool"), *values)
            return
        elif node.op == "astype":
            self._do(np.copyto, self._out(node, values[0].shape), values[0], "unsafe")
        elif node.op == "pow" and node.args[1].op == "const" and node.args[1].attr in (2, 3):
            out = self._out(node, values[0].shape)
            self._do(np.multiply, values[0], values[0], out)
            if node.args[1].attr == 3:
                self._do(np.multiply, out, values[0], out)
        else:
            self._done(node)  # the result may take the place of an argument
            out = self._out(node, np.broadcast_shapes(*(v.shape for v in values)))
            self.calls.append(partial(getattr(xp, node.op), *values, out=out))
            return
        self._done(node)

    def _take(self, node: TensorNode) -> None:
        operand = self.whole.kernel.loads[node]
        source, listed = self.whole.memory[operand], self.whole.program.listed(node.args[1].size)
        if operand.access.listed == 0:
            listed = listed[self.rows]
            out = self._out(node, (listed.size, source.shape[1]))
        else:
            source, listed = source[0], listed[self.columns]
            out = self._out(node, (1, listed.size))[0]
        self._do(source.take, listed, 0, out, "clip")

    def _reduce(self, node: TensorNode, x: HostArray) -> None:
        kernel = self.whole.kernel
        size = tuple(len(range(n)[s]) for n, s in ((kernel.rows, self.rows), (kernel.columns, self.columns)))
        x = np.broadcast_to(x, size)
        reduce, axis = (np.add if node.op == "sum" else np.maximum).reduce, _AXIS[node.attr]
        out = self._out(node, (size[0], 1))
        if node.attr == "row" or self.first or (node.attr == "column" and kernel.rows == 1):
            self._do(reduce, x, axis, None, out, True)
        else:
            part = self._temporary(out.shape, node.dtype)
            self._do(reduce, x, axis, None, part.array, True)
            self._do(np.add, out, part.array, out)
            self.room.give(part.raw)

    def _where(self, node: TensorNode, condition: HostArray, a: HostArray, b: HostArray) -> None:
        if _is_zero(node.args[1]):
            inverse = self._temporary(condition.shape, "bool")
            self._do(np.logical_not, condition, inverse.array)
            self._keep(node, b, inverse.array)
            self.room.give(inverse.raw)
        elif _is_zero(node.args[2]):
            self._keep(node, a, condition)
        else:
            self._choose(node, condition, a, b)

    def _keep(self, node: TensorNode, x: HostArray, condition: HostArray) -> None:
        """`x` where the condition holds, else 0: its bits times 1 or 0, much faster than a choice."""
        self._done(node)  # the result may take the place of an argument
        out = self._out(node, np.broadcast_shapes(condition.shape, x.shape))
        bits = f"int{8 * out.itemsize}"
        self._do(np.multiply, x.view(bits), condition, out.view(bits))

    def _choose(self, node: TensorNode, condition: HostArray, a: HostArray, b: HostArray) -> None:
        out = self._out(node, np.broadcast_shapes(condition.shape, a.shape, b.shape))
        if _same(out, a):  # the old values stay where the condition holds
            inverse = self._temporary(condition.shape, "bool")
            self._do(np.logical_not, condition, inverse.array)
            self.room.give(inverse.raw)
            condition, a = inverse.array, b
        elif not _same(out, b):
            self._do(np.copyto, out, b)
        if condition.shape == out.shape and a.shape in ((), out.shape):
            self._do(np.putmask, out, condition, a)  # a third of the time of copyto
        else:
            self._do(np.copyto, out, a, "same_kind", condition)
        self._done(node)


def _is_zero(node: TensorNode) -> bool:
    return node.op == "const" and node.attr == 0 and np.copysign(1.0, node.attr) > 0


def _same(a: HostArray, b: HostArray) -> bool:
    same: bool = a.shape == b.shape and a.__array_interface__["data"] == b.__array_interface__["data"]
    return same

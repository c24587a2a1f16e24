"""Machine-independent code for the kernels of a plan: LLVM's assembly language, as text.

A kernel is two nested loops over rows and columns whose sizes are arguments, so that one kernel serves every shape of
the same structure. What a pass along a row needs of an earlier pass is read from memory. LLVM makes vector code of the
inner loop, exp, log, tanh and their kin being written in operations that have vector forms (`llvm_math.py`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from xmlp.compiler.calls import Kernel, Operand
from xmlp.compiler.llvm_code import TYPES, Code, literal
from xmlp.compiler.llvm_math import FUNCTIONS
from xmlp.compiler.tensor import FLOATS, ITEM, REDUCTIONS, PlanError, TensorNode, base, matrix

MEMORY = {**TYPES, "bool": "i8"}


@dataclass(frozen=True)
class Emitted:
    """The code of one kernel, whose table of arguments holds rows, columns, elements from a row to the next, the
    places of the kernel, and numbers of scalars.

    `numbered` says whether it numbers its elements, and so must see all of them.
    """

    name: str
    text: str
    scalars: tuple[str, ...]
    numbered: bool


_emitted: WeakKeyDictionary[Kernel, Emitted] = WeakKeyDictionary()


def emit(kernel: Kernel) -> Emitted:
    """The code of a kernel; kernels of one structure have the same name and text."""
    code = _emitted.get(kernel)
    if code is None:
        code = _emitted[kernel] = _Emitter(kernel).emit()
    return code


_ARITHMETIC = {
    "add": ("fadd contract", "add"), "subtract": ("fsub contract", "sub"), "multiply": ("fmul contract", "mul"),
    "divide": ("fdiv", ""), "bitwise_and": ("", "and"), "bitwise_or": ("", "or"), "bitwise_xor": ("", "xor"),
    "bitwise_left_shift": ("", "shl"), "bitwise_right_shift": ("", "ashr"), "logical_and": ("", "and"),
    "logical_or": ("", "or"),
}  # fmt: skip
_COMPARISONS = {
    "less": ("olt", "slt"), "less_equal": ("ole", "sle"), "greater": ("ogt", "sgt"), "greater_equal": ("oge", "sge"),
    "equal": ("oeq", "eq"), "not_equal": ("une", "ne"),
}  # fmt: skip
_AHEAD = 4  # rows


class _Emitter:
    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.nodes, self.places = set(kernel.nodes), kernel.places
        self.written = kernel.stores | kernel.scratch
        self.phase = kernel.phases()
        self.code = Code()
        self.scalars: list[str] = []
        self.row: dict[TensorNode, str] = {}  # values made once a row
        self.element: dict[TensorNode, str] = {}  # values made in the present pass over the columns
        self.r = self.c = ""
        self._present = 0  # the phase
        self._numbered = False

    def emit(self) -> Emitted:
        kernel, code = self.kernel, self.code
        reductions = [n for n in kernel.nodes if n.op in REDUCTIONS]
        for node in reductions:
            if node.attr != "column":
                code.cell(self._cell(node), TYPES[node.dtype])
            if node.attr == "all":
                code.do(f"store {TYPES[node.dtype]} {literal(0.0, node.dtype)}, ptr {self._cell(node)}")
        self._clear([n for n in reductions if n.attr == "column"])
        code.loop("rows", "%rows", self._a_row)
        for node in reductions:
            if node.attr == "all":
                total = code.new(f"load {TYPES[node.dtype]}, ptr {self._cell(node)}")
                self._write(kernel.stores[node], "0", total)
        pointers = [f"ptr noalias %p{i}" for i in range(len(self.places))]
        numbers = [f"double %s{i}" for i in range(len(self.scalars))]
        parameters = ", ".join(["i64 %rows", "i64 %columns", "i64 %width", "ptr noalias %list", *pointers, *numbers])
        name = "k" + hashlib.sha256(f"{parameters}{code.text}".encode()).hexdigest()[:20]
        inner = f"define internal void @{name}.body({parameters}) #0 {{\n{code.text}\n  ret void\n}}\n"
        return Emitted(name, inner + self._wrapper(name), tuple(self.scalars), self._numbered)

    def _wrapper(self, name: str) -> str:
        """The same kernel as a function of a table of arguments, the scalars of the step and the list of rows."""
        code, arguments = Code(), []
        for i, kind in enumerate(["i64", "i64", "i64", *["ptr"] * len(self.places), *["i64"] * len(self.scalars)]):
            at = code.new(f"getelementptr i64, ptr %table, i64 {i}")
            arguments.append((kind, code.new(f"load {kind}, ptr {at}")))
        for i in range(len(arguments) - len(self.scalars), len(arguments)):
            at = code.new(f"getelementptr double, ptr %scalars, i64 {arguments[i][1]}")
            arguments[i] = ("double", code.new(f"load double, ptr {at}"))
        arguments.insert(3, ("ptr", "%list"))
        passed = ", ".join(f"{kind} {value}" for kind, value in arguments)
        code.do(f"call void @{name}.body({passed})")
        return f"define void @{name}(ptr %table, ptr %scalars, ptr %list) {{\n{code.text}\n  ret void\n}}\n"

    # --- loops ------------------------------------------------------------------------------------------------------

    def _clear(self, columns: Sequence[TensorNode]) -> None:
        """Sums over the rows begin at zero, in the place where they are wanted."""

        def clear(c: str) -> None:
            for node in columns:
                self._write(self.kernel.stores[node], c, literal(0.0, node.dtype))

        if columns:
            self.code.loop("clear", "%columns", clear)

    def _fetch_ahead(self, r: str) -> None:
        """Ask for the rows that are taken some rows later: they lie anywhere in the data set."""
        for i, operand in enumerate(o for o in self.kernel.loads.values() if o.access.listed == 0):
            ahead = self.code.new(f"add i64 {r}, {_AHEAD}")
            inside = self.code.new(f"icmp slt i64 {ahead}, %rows")
            row = self._listed(self.code.new(f"select i1 {inside}, i64 {ahead}, i64 {r}"))
            start, kind = self.code.new(f"mul i64 {row}, %width"), MEMORY[operand.node.dtype]
            per_line = 64 // ITEM[operand.node.dtype]

            def line(c: str, start: str = start, kind: str = kind, at: Operand = operand, step: int = per_line) -> None:
                place = self.code.new(f"add i64 {start}, {self.code.new(f'mul i64 {c}, {step}')}")
                address = self.code.new(f"getelementptr {kind}, ptr {self._pointer(at)}, i64 {place}")
                self.code.do(f"call void @llvm.prefetch.p0(ptr {address}, i32 0, i32 2, i32 1)")

            self.code.loop(f"fetch{i}", self.code.new(f"udiv i64 %columns, {per_line}"), line)

    def _a_row(self, r: str) -> None:
        self.r, self.row = r, {}
        self._fetch_ahead(r)
        for p in range(max(self.phase.values(), default=0) + 1):
            self._present = p
            here = [n for n in self.kernel.nodes if self.phase[n] == p]
            for node in here:
                if node.op in REDUCTIONS and node.attr == "row":
                    start = literal(0.0 if node.op == "sum" else float("-inf"), node.dtype)
                    self.code.do(f"store {TYPES[node.dtype]} {start}, ptr {self._cell(node)}")
                elif self.kernel.level(node) < 2 and node.op not in REDUCTIONS:
                    self.c, self.element = "0", {}
                    self.row[node] = self._computed(node)
                    if node in self.kernel.stores:
                        self._write(self.kernel.stores[node], r, self.row[node])
            inner = [n for n in here if n.op in REDUCTIONS or self.kernel.level(n) == 2]
            if inner:
                self.code.loop(f"columns{p}", "%columns", lambda c, nodes=inner: self._elements(c, nodes))  # type: ignore[misc]
            for node in here:
                if node.op in REDUCTIONS and node.attr == "row":
                    self.row[node] = self.code.new(f"load {TYPES[node.dtype]}, ptr {self._cell(node)}")
                    if node in self.kernel.stores:
                        self._write(self.kernel.stores[node], r, self.row[node])

    def _elements(self, c: str, nodes: Sequence[TensorNode]) -> None:
        self.c, self.element = c, {}
        for node in nodes:
            if node.op in REDUCTIONS:
                self._accumulate(node)
            else:
                value = self.value(node, node.dtype)
                if node in self.written:
                    self._write(self.written[node], self._index(self.written[node]), value)

    def _accumulate(self, node: TensorNode) -> None:
        value, kind = self.value(node.args[0], node.dtype), TYPES[node.dtype]
        if node.attr == "column":
            operand = self.kernel.stores[node]
            total = self.code.new(f"fadd contract {kind} {self._read(operand, self.c)}, {value}")
            self._write(operand, self.c, total)
            return
        old = self.code.new(f"load {kind}, ptr {self._cell(node)}")
        if node.op == "sum":
            new = self.code.new(f"fadd reassoc contract {kind} {old}, {value}")
        else:
            new = self._select(self.code.new(f"fcmp nsz ugt {kind} {value}, {old}"), value, old, kind)
        self.code.do(f"store {kind} {new}, ptr {self._cell(node)}")

    # --- values -----------------------------------------------------------------------------------------------------

    def value(self, node: TensorNode, dtype: str) -> str:
        """The value of `node` at the present element, as a number of `dtype`."""
        source, offset = base(node)
        if source.weak:
            return self._number(source, dtype)
        if node in self.kernel.loads and source not in self.nodes:
            return self._loaded(self.kernel.loads[node])
        if source.op == "full":
            return literal(source.attr, source.dtype)
        if source.op == "index":
            return self._element_number(node, offset)
        if source in self.row:
            return self.row[source]
        if source in self.element:
            return self.element[source]
        earlier = source in self.written and self.phase[source] < self._present
        self.element[source] = self._loaded(self.written[source]) if earlier else self._computed(source)
        return self.element[source]

    def _computed(self, node: TensorNode) -> str:
        if node.op == "take":
            return self._loaded(self.kernel.loads[node])
        if node.op == "astype":
            return self._converted(self.value(node.args[0], node.args[0].dtype), node.args[0].dtype, node.dtype)
        operands = node.args[1:] if node.op == "where" else node.args
        strong = next((a.dtype for a in operands if not a.weak), node.dtype)
        values = [self.value(a, strong) for a in operands]
        if node.op == "where":
            return self._select(self.value(node.args[0], "bool"), values[0], values[1], TYPES[strong])
        return operation(self.code, node.op, values, strong, [a.attr if a.op == "const" else None for a in operands])

    def _select(self, condition: str, a: str, b: str, kind: str) -> str:
        return self.code.new(f"select i1 {condition}, {kind} {a}, {kind} {b}")

    def _number(self, node: TensorNode, dtype: str) -> str:
        """A number that the host knows: a literal, or made of the step's scalars in double precision."""
        if node.op == "const":
            return literal(node.attr, dtype)
        value = self._double(node)
        if dtype == "float64":
            return value
        return self.code.new(
            f"fptrunc double {value} to float" if dtype == "float32" else f"fptosi double {value} to i32"
        )

    def _double(self, node: TensorNode) -> str:
        if node.op == "const":
            return literal(float(node.attr), "float64")
        if node.op == "scalar":
            if node.attr not in self.scalars:
                self.scalars.append(node.attr)
            return f"%s{self.scalars.index(node.attr)}"
        return operation(self.code, node.op, [self._double(a) for a in node.args], "float64", [None] * len(node.args))

    def _converted(self, value: str, old: str, new: str) -> str:
        if old == new:
            return value
        a, b = TYPES[old], TYPES[new]
        if old in FLOATS and new in FLOATS:
            return self.code.new(f"{'fptrunc' if new == 'float32' else 'fpext'} {a} {value} to {b}")
        if new in FLOATS:
            return self.code.new(f"{'uitofp' if old in ('uint8', 'bool') else 'sitofp'} {a} {value} to {b}")
        if old in FLOATS:
            return self.code.new(f"fptosi {a} {value} to {b}")
        wider = (
            TYPES[new][1:] > TYPES[old][1:] if len(TYPES[new]) == len(TYPES[old]) else len(TYPES[new]) > len(TYPES[old])
        )
        return self.code.new(
            f"{('zext' if old in ('uint8', 'bool') else 'sext') if wider else 'trunc'} {a} {value} to {b}"
        )

    # --- memory -----------------------------------------------------------------------------------------------------

    def _cell(self, node: TensorNode) -> str:
        return f"%sum{self.kernel.nodes.index(node)}"

    def _pointer(self, operand: Operand) -> str:
        return f"%p{self.places.index(operand.place)}"

    def _index(self, operand: Operand) -> str:
        access = operand.access
        r, c = (self._listed(i) if access.listed == axis else i for axis, i in enumerate((self.r, self.c)))
        if access.rows and access.columns:
            return self.code.new(f"add i64 {self.code.new(f'mul i64 {r}, %width')}, {c}")
        return r if access.rows else c if access.columns else "0"

    def _listed(self, position: str) -> str:
        """The number of a row of the data set, from the list of the batch."""
        at = self.code.new(f"getelementptr inbounds i32, ptr %list, i64 {position}")
        return self.code.new(f"sext i32 {self.code.new(f'load i32, ptr {at}')} to i64")

    def _loaded(self, operand: Operand) -> str:
        return self._read(operand, self._index(operand))

    def _read(self, operand: Operand, index: str) -> str:
        kind = MEMORY[operand.node.dtype]
        at = self.code.new(f"getelementptr inbounds {kind}, ptr {self._pointer(operand)}, i64 {index}")
        value = self.code.new(f"load {kind}, ptr {at}")
        return self.code.new(f"trunc i8 {value} to i1") if operand.node.dtype == "bool" else value

    def _write(self, operand: Operand, index: str, value: str) -> None:
        kind = MEMORY[operand.node.dtype]
        if operand.node.dtype == "bool":
            value = self.code.new(f"zext i1 {value} to i8")
        at = self.code.new(f"getelementptr inbounds {kind}, ptr {self._pointer(operand)}, i64 {index}")
        self.code.do(f"store {kind} {value}, ptr {at}")

    def _element_number(self, node: TensorNode, offset: int) -> str:
        """The position of the present element in an array of the shape of `node`, as int32."""
        self._numbered = True
        shape, space = matrix(node.shape), (self.kernel.rows, self.kernel.columns)
        if shape == space:
            place = self.code.new(f"add i64 {self.code.new(f'mul i64 {self.r}, %width')}, {self.c}")
        elif shape[0] == 1 and shape[1] == space[1]:
            place = self.c
        elif shape == (space[0], 1):
            place = self.r
        else:
            raise PlanError(f"element numbers of shape {shape} in a pass over {space}")
        return self.code.new(f"trunc i64 {self.code.new(f'add i64 {place}, {offset}')} to i32")


def operation(code: Code, op: str, values: Sequence[str], dtype: str, constants: Sequence[float | None]) -> str:
    """The line or lines that compute one operation of the vocabulary."""
    kind, is_float = TYPES[dtype], dtype in FLOATS
    if op in _ARITHMETIC:
        instruction = _ARITHMETIC[op][0 if is_float else 1]
        return code.new(f"{instruction} {kind} {values[0]}, {values[1]}")
    if op in _COMPARISONS:
        compare = f"fcmp {_COMPARISONS[op][0]}" if is_float else f"icmp {_COMPARISONS[op][1]}"
        return code.new(f"{compare} {kind} {values[0]}, {values[1]}")
    if op == "negative":
        return code.new(f"fneg {kind} {values[0]}" if is_float else f"sub {kind} 0, {values[0]}")
    if op in ("logical_not", "bitwise_invert"):
        return code.new(f"xor {kind} {values[0]}, {'true' if dtype == 'bool' else -1}")
    if op == "abs" and is_float:
        return code.new(f"call {kind} @llvm.fabs.{_SUFFIX[dtype]}({kind} {values[0]})")
    if op == "sqrt":
        return code.new(f"call {kind} @llvm.sqrt.{_SUFFIX[dtype]}({kind} {values[0]})")
    if op == "isfinite":
        size = code.new(f"call {kind} @llvm.fabs.{_SUFFIX[dtype]}({kind} {values[0]})")
        return code.new(f"fcmp olt {kind} {size}, {literal(float('inf'), dtype)}")
    if op in ("maximum", "minimum") and is_float:
        return _extreme(code, op, values, dtype, constants)
    if op == "pow" and constants[1] in (2, 3):
        square = code.new(f"fmul contract {kind} {values[0]}, {values[0]}")
        return square if constants[1] == 2 else code.new(f"fmul contract {kind} {square}, {values[0]}")
    if op == "pow" and is_float:
        return code.new(f"call {kind} @llvm.pow.{_SUFFIX[dtype]}({kind} {values[0]}, {kind} {values[1]})")
    if (op, dtype) in FUNCTIONS:
        return code.new(f"call {kind} @{FUNCTIONS[op, dtype]}({kind} {values[0]})")
    raise PlanError(f"{op} of {dtype} has no code")


_SUFFIX = {"float32": "f32", "float64": "f64"}


def _extreme(code: Code, op: str, values: Sequence[str], dtype: str, constants: Sequence[float | None]) -> str:
    """maximum or minimum, nan if either is; against a constant one comparison does."""
    kind = TYPES[dtype]
    for i in (0, 1):
        if constants[1 - i] is not None and constants[1 - i] == constants[1 - i]:
            order = "ugt" if op == "maximum" else "ult"
            chosen = code.new(f"fcmp {order} {kind} {values[i]}, {values[1 - i]}")
            return code.new(f"select i1 {chosen}, {kind} {values[i]}, {kind} {values[1 - i]}")
    return code.new(f"call {kind} @llvm.{op}.{_SUFFIX[dtype]}({kind} {values[0]}, {kind} {values[1]})")

"""Machine-independent code for the kernels of a plan: LLVM's assembly language, as text.

A kernel is two nested loops over rows and columns whose sizes are arguments, so that one kernel serves every shape of
the same structure. What a pass along a row needs of an earlier pass is read from memory. LLVM makes vector code of the
inner loop; exp, log, tanh and their kin are written here for float32 in operations that have vector forms, and taken
from the mathematics library for float64.
"""

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from xmlp.compiler.planner import ITEM, REDUCTIONS, Kernel, Operand, Place, base, level, phases
from xmlp.compiler.tensor import FLOATS, PlanError, TensorNode, matrix

TYPES = {"float32": "float", "float64": "double", "int32": "i32", "int64": "i64", "uint8": "i8", "bool": "i1"}
MEMORY = {**TYPES, "bool": "i8"}


def literal(value: float, dtype: str) -> str:
    """A number in the notation of the language, rounded to `dtype`."""
    if dtype == "bool":
        return "true" if value else "false"
    if dtype not in FLOATS:
        return str(int(value))
    if dtype == "float32":
        try:
            value = struct.unpack("f", struct.pack("f", value))[0]
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    return "0x" + struct.pack(">d", value).hex().upper()


class Code:
    """Lines of one function, in the order of execution."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.cells: list[str] = []  # room on the stack, set aside before the first line
        self._count = 0

    @property
    def text(self) -> str:
        return "\n".join([*self.cells, *self.lines])

    def new(self, text: str) -> str:
        """A line that defines a value; returns its name."""
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def cell(self, name: str, kind: str) -> None:
        self.cells.append(f"  {name} = alloca {kind}")

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def loop(self, name: str, count: str, body: Callable[[str], None]) -> None:
        """`for i in range(count)`, the count being a value or a number."""
        counter = f"%{name}.at"
        self.cell(counter, "i64")
        self.do(f"store i64 0, ptr {counter}")
        self.do(f"br label %{name}.test")
        self.label(f"{name}.test")
        i = self.new(f"load i64, ptr {counter}")
        self.do(f"br i1 {self.new(f'icmp slt i64 {i}, {count}')}, label %{name}.body, label %{name}.end")
        self.label(f"{name}.body")
        body(i)
        self.do(f"store i64 {self.new(f'add nsw i64 {i}, 1')}, ptr {counter}")
        self.do(f"br label %{name}.test")
        self.label(f"{name}.end")


@dataclass(frozen=True)
class Emitted:
    """The code of one kernel, and what its table of arguments holds: rows, columns, elements from a row to the next,
    places, numbers of scalars.

    `numbered` says whether it numbers its elements, and so must see all of them.
    """

    name: str
    text: str
    places: tuple[Place, ...]
    scalars: tuple[str, ...]
    numbered: bool


_emitted: WeakKeyDictionary[Kernel, Emitted] = WeakKeyDictionary()


def emit(kernel: Kernel) -> Emitted:
    """The code of a kernel; kernels of one structure have the same name and text."""
    found = _emitted.get(kernel)
    if found is None:
        found = _emitted[kernel] = _Emitter(kernel).emit()
    return found


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
_FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh")


class _Emitter:
    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.nodes = set(kernel.nodes)
        self.phase = phases(kernel)
        self.code = Code()
        self.places: list[Place] = []
        self.scalars: list[str] = []
        self.row: dict[TensorNode, str] = {}  # values made once a row
        self.element: dict[TensorNode, str] = {}  # values made in the present pass over the columns
        self.r = self.c = ""
        self._present = 0  # the phase
        self._numbered = False

    def emit(self) -> Emitted:
        kernel, code = self.kernel, self.code
        reductions = [n for n in kernel.nodes if n.op in REDUCTIONS]
        for operand in kernel.operands:
            self._pointer(operand)
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
        return Emitted(name, inner + self._wrapper(name), tuple(self.places), tuple(self.scalars), self._numbered)

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
        for i, operand in enumerate(o for o in self.kernel.loads.values() if o.pattern == "taken"):
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
                elif level(node, self.kernel) < 2 and node.op not in REDUCTIONS:
                    self.c, self.element = "0", {}
                    self.row[node] = self._computed(node)
                    if node in self.kernel.stores:
                        self._write(self.kernel.stores[node], r, self.row[node])
            inner = [n for n in here if n.op in REDUCTIONS or level(n, self.kernel) == 2]
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
                if node in self.kernel.stores:
                    operand = self.kernel.stores[node]
                    self._write(operand, c if operand.pattern == "scratch" else self._index(operand), value)

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
        found, offset = base(node)
        if found.weak:
            return self._number(found, dtype)
        if node in self.kernel.loads and found not in self.nodes:
            return self._loaded(self.kernel.loads[node])
        if found.op == "full":
            return literal(found.attr, found.dtype)
        if found.op == "index":
            return self._element_number(node, offset)
        if found in self.row:
            return self.row[found]
        if found in self.element:
            return self.element[found]
        if found in self.nodes and self.phase[found] < self._present and found in self.kernel.stores:
            operand = self.kernel.stores[found]
            self.element[found] = self._read(operand, self.c if operand.pattern == "scratch" else self._index(operand))
            return self.element[found]
        self.element[found] = self._computed(found)
        return self.element[found]

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
        if operand.place not in self.places:
            self.places.append(operand.place)
        return f"%p{self.places.index(operand.place)}"

    def _index(self, operand: Operand) -> str:
        if operand.pattern in ("full", "taken"):
            row = self._listed(self.r) if operand.pattern == "taken" else self.r
            return self.code.new(f"add i64 {self.code.new(f'mul i64 {row}, %width')}, {self.c}")
        if operand.pattern == "taken row":
            return self._listed(self.c)
        return {"row": self.c, "column": self.r, "one": "0", "scratch": self.c}[operand.pattern]

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
    if op in _FUNCTIONS:
        return code.new(f"call {kind} @{_LIBRARY[op, dtype]}({kind} {values[0]})")
    raise PlanError(f"{op} of {dtype} has no code")


_SUFFIX = {"float32": "f32", "float64": "f64"}
_LIBRARY = {(f, "float32"): f"x.{f}" for f in _FUNCTIONS} | {(f, "float64"): f for f in _FUNCTIONS}
_LIBRARY |= {("exp", "float64"): "llvm.exp.f64", ("log", "float64"): "llvm.log.f64"}


def _extreme(code: Code, op: str, values: Sequence[str], dtype: str, constants: Sequence[float | None]) -> str:
    """maximum or minimum, nan if either is; against a constant one comparison does."""
    kind = TYPES[dtype]
    for i in (0, 1):
        if constants[1 - i] is not None and constants[1 - i] == constants[1 - i]:
            order = "ugt" if op == "maximum" else "ult"
            chosen = code.new(f"fcmp {order} {kind} {values[i]}, {values[1 - i]}")
            return code.new(f"select i1 {chosen}, {kind} {values[i]}, {kind} {values[1 - i]}")
    return code.new(f"call {kind} @llvm.{op}.{_SUFFIX[dtype]}({kind} {values[0]}, {kind} {values[1]})")


# --- functions for float32 in operations that have vector forms -----------------------------------------------------


def _single(value: float) -> str:
    return literal(value, "float32")


def _f32(code: Code, op: str, *values: str | float) -> str:
    written = [literal(v, "float32") if isinstance(v, (int, float)) else v for v in values]
    return code.new(f"f{op} contract float {written[0]}, {written[1]}")


def _polynomial(code: Code, x: str, coefficients: Sequence[float]) -> str:
    """Horner's scheme, the highest coefficient first."""
    value: str | float = coefficients[0]
    for c in coefficients[1:]:
        value = _f32(code, "add", _f32(code, "mul", value, x), c)
    return str(value)


def _within(code: Code, x: str, low: float, high: float) -> str:
    """x kept between two numbers; nan stays nan."""
    for order, bound in (("ogt", high), ("olt", low)):
        beyond = code.new(f"fcmp {order} float {x}, {_single(bound)}")
        x = code.new(f"select i1 {beyond}, float {_single(bound)}, float {x}")
    return x


_LN2 = (0.693359375, -2.12194440e-4)  # in two parts, the first short enough for exact multiples
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip


def _reduced_exp(code: Code, x: str) -> tuple[str, str]:
    """n and exp(r) - 1 with x = n ln 2 + r, |r| <= ln 2 / 2 (minimax coefficients of the Cephes library)."""
    shifter = 12582912.0  # 1.5 2^23: adding it rounds to an integer, which then lies in the low bits
    scaled = code.new(f"fmul float {x}, {_single(1.4426950408889634)}")
    shifted = code.new(f"fadd float {scaled}, {_single(shifter)}")
    bits = code.new(f"bitcast float {shifted} to i32")
    n = code.new(f"sub i32 {bits}, {struct.unpack('i', struct.pack('f', shifter))[0]}")
    whole = code.new(f"fsub float {shifted}, {_single(shifter)}")
    r = _f32(code, "sub", _f32(code, "sub", x, _f32(code, "mul", whole, _LN2[0])), _f32(code, "mul", whole, _LN2[1]))
    tail = _f32(code, "mul", _polynomial(code, r, _EXP), _f32(code, "mul", r, r))
    return n, _f32(code, "add", tail, r)


def _power_of_two(code: Code, n: str) -> str:
    """2^n for -127 <= n <= 128, 2^-127 being 0."""
    biased = code.new(f"add i32 {n}, 127")
    return code.new(f"bitcast i32 {code.new(f'shl i32 {biased}, 23')} to float")


def _exp(code: Code, x: str) -> str:
    """exp(x) = 2^n exp(r), the power in two factors so that neither overflows."""
    n, e = _reduced_exp(code, _within(code, x, -104.0, 89.0))
    half = code.new(f"ashr i32 {n}, 1")
    rest = code.new(f"sub i32 {n}, {half}")
    scaled = _f32(code, "mul", _f32(code, "add", e, 1.0), _power_of_two(code, half))
    return code.new(f"fmul float {scaled}, {_power_of_two(code, rest)}")


def _expm1(code: Code, x: str) -> str:
    """exp(x) - 1 = 2 (2^(n-1) (exp(r) - 1) + (2^(n-1) - 1/2))."""
    n, e = _reduced_exp(code, _within(code, x, -87.0, 88.9))
    power = _power_of_two(code, code.new(f"sub i32 {n}, 1"))
    half = _f32(code, "add", _f32(code, "mul", power, e), _f32(code, "sub", power, 0.5))
    return code.new(f"fadd float {half}, {half}")


def _tanh(code: Code, x: str) -> str:
    """tanh(x) = -sign(x) e / (2 + e) with e = exp(-2 |x|) - 1."""
    size = _within(code, code.new(f"call float @llvm.fabs.f32(float {x})"), 0.0, 10.0)
    e = _expm1(code, _f32(code, "mul", size, -2.0))
    t = code.new(f"fdiv float {e}, {_f32(code, 'add', e, 2.0)}")
    return code.new(f"call float @llvm.copysign.f32(float {t}, float {x})")


def _log(code: Code, x: str) -> str:
    """log(x) = e ln 2 + log(m) with x = 2^e m, sqrt(1/2) <= m < sqrt(2) (minimax coefficients of Cephes)."""
    tiny = code.new(f"fcmp olt float {x}, {_single(2.0**-126)}")
    scaled = code.new(f"select i1 {tiny}, float {_f32(code, 'mul', x, 2.0**23)}, float {x}")
    bits = code.new(f"bitcast float {scaled} to i32")
    exponent = code.new(f"ashr i32 {code.new(f'sub i32 {bits}, {0x3F3504F3}')}, 23")
    whole = code.new(f"shl i32 {exponent}, 23")
    mantissa = code.new(f"bitcast i32 {code.new(f'sub i32 {bits}, {whole}')} to float")
    less = code.new(f"select i1 {tiny}, i32 23, i32 0")
    e = code.new(f"sitofp i32 {code.new(f'sub i32 {exponent}, {less}')} to float")
    f = _f32(code, "sub", mantissa, 1.0)
    square = _f32(code, "mul", f, f)
    y = _f32(code, "mul", _f32(code, "mul", _polynomial(code, f, _LOG), f), square)
    y = _f32(code, "sub", _f32(code, "add", y, _f32(code, "mul", e, _LN2[1])), _f32(code, "mul", square, 0.5))
    value = _f32(code, "add", _f32(code, "add", f, y), _f32(code, "mul", e, _LN2[0]))
    for test, limit, result in (("oeq", 0.0, float("-inf")), ("ult", 0.0, float("nan"))):
        hit = code.new(f"fcmp {test} float {x}, {_single(limit)}")
        value = code.new(f"select i1 {hit}, float {_single(result)}, float {value}")
    infinite = code.new(f"fcmp oeq float {x}, {_single(float('inf'))}")
    return code.new(f"select i1 {infinite}, float {x}, float {value}")


def _log1p(code: Code, x: str) -> str:
    """log(1 + x) = log(u) + (x - (u - 1)) / u with u = 1 + x as rounded."""
    u = code.new(f"fadd float {x}, {_single(1.0)}")
    logarithm = _log(code, u)
    back = code.new(f"fsub float {u}, {_single(1.0)}")
    lost = code.new(f"fsub float {x}, {back}")
    value = _f32(code, "add", logarithm, code.new(f"fdiv float {lost}, {u}"))
    inside = code.new(f"fcmp ogt float {u}, {_single(0.0)}")  # not so for x <= -1 and nan
    value = code.new(f"select i1 {inside}, float {value}, float {logarithm}")
    infinite = code.new(f"fcmp oeq float {x}, {_single(float('inf'))}")
    return code.new(f"select i1 {infinite}, float {x}, float {value}")


def prelude() -> str:
    """What every module of kernels begins with."""
    lines = []
    for suffix, kind in (("f32", "float"), ("f64", "double")):
        lines += [f"declare {kind} @llvm.{name}.{suffix}({kind})" for name in ("fabs", "sqrt", "exp", "log")]
        lines += [
            f"declare {kind} @llvm.{n}.{suffix}({kind}, {kind})" for n in ("pow", "maximum", "minimum", "copysign")
        ]
    lines += [f"declare double @{name}(double) #1" for name in ("expm1", "log1p", "tanh")]
    lines.append("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    for name, body in (("exp", _exp), ("expm1", _expm1), ("tanh", _tanh), ("log", _log), ("log1p", _log1p)):
        code = Code()
        result = body(code, "%x")
        lines.append(f"define internal float @x.{name}(float %x) #2 {{\n{code.text}\n  ret float {result}\n}}")
    lines.append("attributes #0 = { noinline nounwind }")
    lines.append("attributes #1 = { nounwind willreturn memory(none) }")
    lines.append("attributes #2 = { alwaysinline nounwind willreturn memory(none) }")
    return "\n".join(lines) + "\n"

"""One launch of a plan on CUDA: its text, and what it is called with.

The text keeps to a form that runs on a CPU as well: what threads do on their own follows EACH_THREAD, where they wait
for each other stands SYNC, and loops around these are the same for all threads. `PRELUDE` says what the words are on a
device; with a loop over the threads of a block for EACH_THREAD, the same text is C.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xmlp.compiler.c import TYPES, literal, operation
from xmlp.compiler.calls import FULL, Call, Kernel, Operand, Place
from xmlp.compiler.tensor import ITEM, REDUCTIONS, PlanError, TensorNode, base, matrix

PRELUDE = "#define EACH_THREAD\n#define SYNC __syncthreads();\n#define SHARED __shared__\n"
_SHARED_BYTES = 48 * 1024


@dataclass(eq=False)
class Launch(Call):
    """One launch of a `__global__` function, called with rows, columns, the list of the batch, places and numbers."""

    kernel: Kernel
    name: str
    source: str
    blocks: int
    threads: tuple[int, int]
    places: tuple[Place, ...] = ()
    numbers: tuple[tuple[TensorNode, str], ...] = ()  # made by the host of the scalars of the step, and their dtypes
    what: str = ""

    @property
    def rows(self) -> int:
        """Those of the kernel."""
        return self.kernel.rows

    @property
    def columns(self) -> int:
        """Those of the kernel."""
        return self.kernel.columns

    @property
    def flops(self) -> int:
        return self.kernel.flops

    @property
    def bytes(self) -> int:
        return self.kernel.bytes

    @property
    def title(self) -> str:
        return f"launch {self.rows} x {self.columns}"

    @property
    def text(self) -> str:
        return f"{self.what or self.kernel.text}; {self.blocks} x {self.threads[0] * self.threads[1]} threads"


class Emitter:
    """Writes one `__global__` function."""

    def __init__(self, kernel: Kernel, blocks: int, threads: tuple[int, int]):
        self.kernel, self.blocks, self.threads = kernel, blocks, threads
        self.nodes = set(kernel.nodes)
        self.phase = kernel.phases()
        self.places: dict[Place, str] = {}  # with their C types
        self.written: set[Place] = set()
        self.numbers: list[tuple[TensorNode, str]] = []
        self.shared: dict[str, tuple[str, int]] = {}
        self.lines: list[str] = []
        self.indent = 1
        self.known: dict[TensorNode, str] = {}  # values of the present element
        self.present = 0
        self._count = 0

    # --- text ---------------------------------------------------------------------------------------------------------

    def _do(self, line: str) -> None:
        if line.startswith("}"):
            self.indent -= 1
        self.lines.append("    " * self.indent + line)
        if line.endswith("{"):
            self.indent += 1

    def _new(self, dtype: str, text: str) -> str:
        self._count += 1
        self._do(f"const {TYPES[dtype]} v{self._count} = {text};")
        return f"v{self._count}"

    def _room(self, name: str, dtype: str, count: int) -> str:
        """An array that the threads of a block share."""
        self.shared[name] = (dtype, count)
        return name

    def launch(self) -> Launch:
        """What was written."""
        if sum(ITEM[dtype] * count for dtype, count in self.shared.values()) > _SHARED_BYTES:
            raise PlanError(f"too many sums in one pass: {self.kernel.text}")
        parameters = ["const int rows", "const int columns", "const int *__restrict__ list"]
        for i, (place, kind) in enumerate(self.places.items()):
            parameters.append(f"{kind} *p{i}" if place in self.written else f"const {kind} *__restrict__ p{i}")
        parameters += [f"const {TYPES[dtype]} s{i}" for i, (_, dtype) in enumerate(self.numbers)]
        room = [f"    SHARED {TYPES[dtype]} {name}[{n}];" for name, (dtype, n) in self.shared.items()]
        body = "\n".join([f"({', '.join(parameters)})\n{{", *room, *self.lines, "}"])
        head = f"__global__ void __launch_bounds__({self.threads[0] * self.threads[1]})"
        name = f"xmlp_{hashlib.sha256(f'{head}{body}'.encode()).hexdigest()[:20]}"
        source = f'extern "C" {head} {name}{body}\n'
        call = self.kernel, name, source, self.blocks, self.threads, tuple(self.places), tuple(self.numbers)
        return Launch(self.kernel.stage, *call)

    # --- passes -------------------------------------------------------------------------------------------------------

    def main(self, shape: str, over: Sequence[TensorNode], total: dict[TensorNode, Place]) -> None:
        """Everything but the sums over rows that wait for sums along them."""
        count = self.threads[0] * self.threads[1]
        cells = {n: self._room(f"all{i}", n.dtype, count) for i, n in enumerate(total)}
        if total and shape != "elements":
            self._do("EACH_THREAD {")
            self._thread()
            for node, cell in cells.items():
                self._do(f"{cell}[t] = {literal(0.0, node.dtype)};")
            self._do("}")
        if shape == "elements":
            self._elements(cells)
        elif shape == "rows":
            self._rows(cells)
        else:
            self._columns(over, cells)
        if total and shape != "elements":
            self._do("SYNC")
        for node, cell in cells.items():
            self._tree(cell, "t", count, node)
            self._do("EACH_THREAD {")
            self._thread()
            place = self._pointer(total[node], node.dtype, write=True)
            self._do(f"if (t == 0) {place}[{'blockIdx.x' if self.blocks > 1 else '0'}] = {cell}[0];")
            self._do("}")

    def _thread(self) -> None:
        """The number of the thread in its block."""
        self._do("const int t = threadIdx.y * blockDim.x + threadIdx.x;")

    def _elements(self, cells: dict[TensorNode, str]) -> None:
        """Threads stride over all elements."""
        self._do("EACH_THREAD {")
        self._begin()
        for node, cell in cells.items():
            self._do(f"{TYPES[node.dtype]} sum_{cell} = {literal(0.0, node.dtype)};")
        self._do("const unsigned count = (unsigned) rows * columns;")
        self._do("for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {")
        if self.kernel.rows > 1 and self._patterned():
            self._do("const unsigned r = i / columns, c = i % columns;")
        elif self._patterned():
            self._do("const unsigned r = 0, c = i;")
        self._body(0, {n: f"sum_{cell}" for n, cell in cells.items()})
        self._do("}")
        for cell in cells.values():
            self._do(f"{cell}[threadIdx.x] = sum_{cell};")
        self._do("}")
        if cells:
            self._do("SYNC")

    def _patterned(self) -> bool:
        """Whether the row and column of an element matter."""
        return any(o.access != FULL for o in self.kernel.operands if o.node.op not in REDUCTIONS) or any(
            base(a)[0].op == "index" for n in self.kernel.nodes for a in n.args
        )

    def _rows(self, cells: dict[TensorNode, str]) -> None:
        """A block takes rows, its threads stride over the columns, once for each phase."""
        wide, tall = self.threads
        last = max(self.phase.values())
        if last and {o.place for o in self.kernel.loads.values()} & {o.place for o in self.kernel.stores.values()}:
            raise PlanError("a pass in several phases that replaces what it reads")
        self._do("for (int first = blockIdx.x * blockDim.y; first < rows; first += gridDim.x * blockDim.y) {")
        results: dict[TensorNode, str] = {}
        for phase in range(last + 1):
            along = [n for n in self.kernel.reductions("row") if self.phase[n] == phase]
            parts = {n: self._room(f"part{len(results) + i}", n.dtype, wide * tall) for i, n in enumerate(along)}
            self._along_rows(phase, parts, results, cells)
            for node, part in parts.items():
                self._tree(part, "threadIdx.x", wide, node)
                results[node] = self._room(f"row{len(results)}", node.dtype, tall)
                self._do("EACH_THREAD {")
                self._do(f"if (threadIdx.x == 0) {results[node]}[threadIdx.y] = {part}[threadIdx.y * blockDim.x];")
                self._do("}")
                self._do("SYNC")
        self._stored_results(results)
        self._do("}")

    def _along_rows(
        self, phase: int, parts: dict[TensorNode, str], results: dict[TensorNode, str], cells: dict[TensorNode, str]
    ) -> None:
        """One phase: each thread goes along its row, and adds up its share of the sums and maxima."""
        self._do("EACH_THREAD {")
        self._thread()
        self._begin()
        self._do("const int r = first + threadIdx.y;")
        for node, part in parts.items():
            start = 0.0 if node.op == "sum" else float("-inf")
            self._do(f"{TYPES[node.dtype]} sum_{part} = {literal(start, node.dtype)};")
        self._do("if (r < rows) {")
        for node, result in results.items():
            self.known[node] = self._new(node.dtype, f"{result}[threadIdx.y]")
        self._row_values(phase)
        self._do("for (int c = threadIdx.x; c < columns; c += blockDim.x) {")
        self._do("const unsigned i = (unsigned) r * columns + c;")
        row_values = dict(self.known)
        self._body(phase, {n: f"sum_{part}" for n, part in parts.items()}, cells)
        self.known = row_values
        self._do("}")
        self._do("}")
        for part in parts.values():
            self._do(f"{part}[t] = sum_{part};")
        self._do("}")
        self._do("SYNC")

    def _row_values(self, phase: int) -> None:
        """Values made once a row."""
        for node in self.kernel.nodes:
            if self.phase[node] == phase and self.kernel.level(node) < 2 and node.op not in REDUCTIONS:
                value = self._value(node, node.dtype)
                if node in self.kernel.stores:
                    self._do("if (threadIdx.x == 0) {")
                    self._write(self.kernel.stores[node], value)
                    self._do("}")

    def _stored_results(self, results: dict[TensorNode, str]) -> None:
        """Sums and maxima along the rows that memory must hold."""
        stored = {n: result for n, result in results.items() if n in self.kernel.stores}
        if not stored:
            return
        self._do("EACH_THREAD {")
        self._do("const int r = first + threadIdx.y;")
        self._do("if (threadIdx.x == 0 && r < rows) {")
        for node, result in stored.items():
            self._write(self.kernel.stores[node], f"{result}[threadIdx.y]", "r")
        self._do("}")
        self._do("}")

    def _columns(self, over: Sequence[TensorNode], cells: dict[TensorNode, str]) -> None:
        """A block takes columns, its threads stride over the rows."""
        self._over_rows(over, lambda sums: self._body(0, sums, cells))

    def sums_over_rows(self, over: Sequence[TensorNode]) -> None:
        """The sums over the rows of values that memory holds."""

        def body(sums: dict[TensorNode, str]) -> None:
            for node, cell in sums.items():
                self._accumulate(cell, node, self._kept(node.args[0]))

        if self.lines:
            self._do("SYNC")
        self._over_rows(over, body)

    def _over_rows(self, over: Sequence[TensorNode], body: Callable[[dict[TensorNode, str]], None]) -> None:
        wide, tall = self.threads
        parts = {n: self._room(f"column{i}", n.dtype, wide * tall) for i, n in enumerate(over)}
        self._do("for (int first = blockIdx.x * blockDim.x; first < columns; first += gridDim.x * blockDim.x) {")
        self._do("EACH_THREAD {")
        self._thread()
        self._begin()
        for node, part in parts.items():
            self._do(f"{TYPES[node.dtype]} sum_{part} = {literal(0.0, node.dtype)};")
        self._do("const int c = first + threadIdx.x;")
        self._do("if (c < columns) {")
        self._do("for (int r = threadIdx.y; r < rows; r += blockDim.y) {")
        self._do("const unsigned i = (unsigned) r * columns + c;")
        body({n: f"sum_{part}" for n, part in parts.items()})
        self._do("}")
        self._do("}")
        for part in parts.values():
            self._do(f"{part}[t] = sum_{part};")
        self._do("}")
        self._do("SYNC")
        for node, part in parts.items():
            self._tree(part, "threadIdx.y", tall, node)
        self._do("EACH_THREAD {")
        self._do("const int c = first + threadIdx.x;")
        self._do("if (threadIdx.y == 0 && c < columns) {")
        for node, part in parts.items():
            self._write(self.kernel.stores[node], f"{part}[threadIdx.x]", "c")
        self._do("}")
        self._do("}")
        self._do("SYNC")
        self._do("}")

    def _tree(self, part: str, along: str, count: int, node: TensorNode) -> None:
        """Halve again and again what the threads hold; the order is the same in every run."""
        if count == 1:
            return
        self._do(f"for (int n = {count // 2}; n > 0; n /= 2) {{")
        self._do("EACH_THREAD {")
        self._thread()
        other = f"{part}[t + n{' * blockDim.x' if along == 'threadIdx.y' else ''}]"
        self._do(f"if ({along} < n) {self._combined(f'{part}[t]', node, other)}")
        self._do("}")
        self._do("SYNC")
        self._do("}")

    @staticmethod
    def _combined(cell: str, node: TensorNode, value: str) -> str:
        if node.op == "sum":
            return f"{cell} += {value};"
        return f"if ({value} > {cell} || {value} != {value}) {cell} = {value};"  # nan stays nan

    # --- one element --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """A new stretch of code, in which nothing is known yet."""
        self.known = {}

    def _body(self, phase: int, sums: dict[TensorNode, str], cells: dict[TensorNode, str] | None = None) -> None:
        """The elementwise nodes of a phase, what they store and add."""
        self.present = phase
        stores: list[tuple[Operand, str]] = []
        for node in self.kernel.nodes:
            if self.phase[node] != phase or node in self.known:
                continue
            if node in sums:
                self._accumulate(sums[node], node, self._value(node.args[0], node.dtype))
            elif cells and node in cells:
                self._accumulate(f"{cells[node]}[t]", node, self._value(node.args[0], node.dtype))
            elif node.op not in REDUCTIONS and (node in self.kernel.stores):
                stores.append((self.kernel.stores[node], self._value(node, node.dtype)))
        for operand, value in stores:  # after all reads: a result may take the place of an input
            self._write(operand, value)

    def _accumulate(self, cell: str, node: TensorNode, value: str) -> None:
        self._do(self._combined(cell, node, value))

    def _value(self, node: TensorNode, dtype: str) -> str:
        """The value of `node` at the present element, as a number of `dtype`."""
        source, offset = base(node)
        if source.weak:
            return self._number(source, dtype)
        if source.op == "full":
            return literal(source.attr, source.dtype)
        if source.op == "index":
            return self._element_number(node, offset)
        label = node if node in self.kernel.loads and source not in self.nodes else source
        if label not in self.known:
            self.known[label] = self._computed(label)
        return self.known[label]

    def _computed(self, node: TensorNode) -> str:
        if node in self.kernel.loads:
            return self._read(self.kernel.loads[node])
        if self.phase.get(node, self.present) < self.present and node in self.kernel.stores:
            return self._read(self.kernel.stores[node])
        if node.op == "astype":
            old, new = node.args[0].dtype, node.dtype
            value = self._value(node.args[0], old)
            return value if old == new else self._new(new, f"({TYPES[new]}) {value}")
        operands = node.args[1:] if node.op == "where" else node.args
        kind = next((a.dtype for a in operands if not a.weak), node.dtype)
        values = [self._value(a, "bool" if node.op == "where" and i == 0 else kind) for i, a in enumerate(node.args)]
        constants = [a.attr if a.op == "const" else None for a in node.args]
        try:
            return self._new(node.dtype, operation(node.op, values, kind, constants))
        except NotImplementedError as error:
            raise PlanError(str(error)) from error

    def _kept(self, node: TensorNode) -> str:
        """A value that an earlier pass has left in memory, or one that was never computed."""
        source, _ = base(node)
        if source in self.kernel.stores:
            return self._read(self.kernel.stores[source])
        self.present = max(self.phase.values()) + 1
        self.known = {}
        return self._value(node, node.dtype)

    def _number(self, node: TensorNode, dtype: str) -> str:
        """A number that the host knows: a literal, or an argument."""
        if node.op == "const":
            return literal(node.attr, dtype)
        if (node, dtype) not in self.numbers:
            self.numbers.append((node, dtype))
        return f"s{self.numbers.index((node, dtype))}"

    def _element_number(self, node: TensorNode, offset: int) -> str:
        """The position of the present element in an array of the shape of `node`."""
        shape, space = matrix(node.shape), (self.kernel.rows, self.kernel.columns)
        position = {(space[0], 1): "r", (1, space[1]): "c", space: "i"}.get(shape)
        if position is None:
            raise PlanError(f"element numbers of shape {shape} in a pass over {space}")
        return f"((int) {position} + {offset})"

    # --- memory -------------------------------------------------------------------------------------------------------

    def _pointer(self, place: Place, dtype: str, write: bool = False) -> str:
        self.places.setdefault(place, TYPES[dtype])
        if write:
            self.written.add(place)
        return f"p{list(self.places).index(place)}"

    def _index(self, operand: Operand) -> str:
        access = operand.access
        r, c = (f"list[{i}]" if access.listed == axis else i for axis, i in enumerate("rc"))
        if access.rows and access.columns:
            return "i" if access == FULL else f"(size_t) {r} * columns + {c}"
        return r if access.rows else c if access.columns else "0"

    def _read(self, operand: Operand) -> str:
        dtype = operand.node.dtype
        return self._new(dtype, f"{self._pointer(operand.place, dtype)}[{self._index(operand)}]")

    def _write(self, operand: Operand, value: str, index: str | None = None) -> None:
        pointer = self._pointer(operand.place, operand.node.dtype, write=True)
        self._do(f"{pointer}[{index or self._index(operand)}] = {value};")

"""Planning: from the graph of a traced step to a flat list of calls on assigned buffers.

The graph is cut at the products. What lies between is gathered into kernels: all elementwise nodes over the same rows
and columns that can run in one pass, with the sums and maxima along rows, over rows and over everything that they feed.
Each call has a stage, one more than that of what it reads from memory; calls run in the order of their stages. Every
array that memory must hold gets a buffer, results that are slices of a larger vector the slice itself, and a new state
the place of the old one where nobody reads that any more.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from xmlp.compiler.rows import Block, Layout, Validity, at, factor
from xmlp.compiler.tensor import PlanError, TensorNode, matrix
from xmlp.graph.node import OPS, walk

ITEM = {"float32": 4, "float64": 8, "int32": 4, "int64": 8, "uint8": 1, "bool": 1}
VIEWS = ("reshape", "slice")
REDUCTIONS = ("sum", "max")


class Place(NamedTuple):
    """Where an array lies: `buffer` is the name of an input, "work" (shared) or "held"; `offset` counts bytes."""

    buffer: str
    offset: int


class Operand(NamedTuple):
    """An array in memory as one kernel sees it.

    `pattern` says how the element (r, c) is found: "full" r C + c, "row" c, "column" r, "one" 0, "scratch" c; with the
    list of the batch, "taken" list[r] C + c, "taken row" list[c].
    """

    node: TensorNode
    place: Place
    pattern: str


@dataclass(eq=False)
class Kernel:
    """One pass over `rows` x `columns`: elementwise nodes, the operands they load, what is stored and reduced."""

    rows: int
    columns: int
    stage: int
    nodes: list[TensorNode] = field(default_factory=list)
    loads: dict[TensorNode, Operand] = field(default_factory=dict)
    stores: dict[TensorNode, Operand] = field(default_factory=dict)

    def sized(self, rows: int) -> "Kernel":
        """The call for so many rows, in a plan for any number."""
        return replace(self, rows=at(self.rows, rows), columns=at(self.columns, rows))

    @property
    def operands(self) -> list[Operand]:
        """What is read and what is written."""
        return [*self.loads.values(), *self.stores.values()]

    @property
    def flops(self) -> int:
        """One for each operation and element."""
        per_element = sum(n.op in OPS or n.op in REDUCTIONS for n in self.nodes)
        return per_element * int(self.rows) * int(self.columns)

    @property
    def bytes(self) -> int:
        """Those that are read and written."""
        return sum(_touched(o, self) for o in self.operands)

    @property
    def title(self) -> str:
        """What it is, for the table of a plan."""
        return f"fused pass {self.rows} x {self.columns}"

    @property
    def text(self) -> str:
        """What it does: its operations, the simplest unnamed."""
        names = [n.op for n in self.nodes if n.op in OPS and n.op not in ("add", "multiply", "subtract", "negative")]
        shown = list(dict.fromkeys([*names, *(f"{n.op}[{n.attr}]" for n in self.nodes if n.op in REDUCTIONS)]))
        return f"{len(self.nodes)} operations" + (f": {', '.join(shown[:6])}" if shown else "")


def _touched(operand: Operand, kernel: Kernel) -> int:
    size = int(kernel.rows) * int(kernel.columns)
    count = {"full": size, "taken": size, "row": kernel.columns}
    count |= {"column": kernel.rows, "taken row": kernel.columns, "one": 1, "scratch": 0}
    return count[operand.pattern] * ITEM[operand.node.dtype]


@dataclass
class Product:
    """out (m, n) = a (m, k) @ b (k, n); a flag says that an operand lies transposed in memory."""

    m: int
    n: int
    k: int
    dtype: str
    stage: int
    a: Place
    b: Place
    out: Place
    transpose_a: bool
    transpose_b: bool

    def sized(self, rows: int) -> "Product":
        """The call for so many rows, in a plan for any number."""
        return replace(self, m=at(self.m, rows), n=at(self.n, rows), k=at(self.k, rows))

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * int(self.m) * int(self.n) * int(self.k)

    @property
    def bytes(self) -> int:
        """Those of both factors and the result."""
        m, n, k = int(self.m), int(self.n), int(self.k)
        return ITEM[self.dtype] * (m * k + k * n + m * n)

    @property
    def title(self) -> str:
        """What it is, for the table of a plan."""
        return f"product {self.m} x {self.k} x {self.n}"

    @property
    def text(self) -> str:
        """What it does: the shapes of the factors."""
        a = f"({self.k}, {self.m})^T" if self.transpose_a else f"({self.m}, {self.k})"
        b = f"({self.n}, {self.k})^T" if self.transpose_b else f"({self.k}, {self.n})"
        return f"{a} @ {b}"


@dataclass
class Copy:
    """`size` bytes from one place to another: a new state that could not be made in the place of the old one."""

    source: Place
    target: Place
    size: int
    stage: float
    flops = 0
    title = "copy"

    def sized(self, rows: int) -> "Copy":
        """The call for so many rows, in a plan for any number."""
        return replace(self, size=at(self.size, rows))

    @property
    def bytes(self) -> int:
        """Those that are read and written."""
        return 2 * self.size

    @property
    def text(self) -> str:
        """What it does: from which buffer to which."""
        return f"{self.source.buffer} -> {self.target.buffer}"


@dataclass
class Plan:
    """The calls of a step in order, and how large a work buffer they share.

    Where `rows` is given, the plan was made for so many, and `validity` says which other numbers it serves as well:
    sizes that depend on it are of type `Extent`, and `layout` tells where the work buffer's parts lie.
    """

    calls: list[Any]  # of Kernel, Product, Copy, or what a backend makes of them
    work_bytes: int
    held_bytes: int
    scalars: tuple[str, ...]
    rows: int | None = None
    layout: Layout = field(default_factory=Layout)
    validity: Validity | None = None
    _sizes: dict[int, dict[str, float]] = field(default_factory=dict, repr=False, compare=False)  # the latest
    together: int = 0  # up to how many rows one program serves all numbers, see `Backend.rows_together`

    def serves(self, rows: int) -> bool:
        """Whether this is the plan for so many rows as well, and not only for those that it was made for."""
        return self._general and self.validity is not None and self.validity.holds(rows)

    @cached_property
    def _general(self) -> bool:
        return self.rows is not None and self.validity is not None and self.validity.holds(self.rows)

    def sizes(self, rows: int) -> dict[str, float]:
        """The values of those scalars that follow from the number of rows."""
        found = self._sizes.get(rows)
        if found is None:
            known = {} if self.validity is None else self.validity.sizes
            found = {name: value(rows) for name, value in known.items() if name in self.scalars}
            if len(self._sizes) >= 64:
                self._sizes.clear()
            self._sizes[rows] = found
        return found

    @property
    def launches(self) -> int:
        """Number of calls."""
        return len(self.calls)

    @property
    def flops(self) -> int:
        """Those of all calls."""
        return sum(c.flops for c in self.calls)

    @property
    def bytes(self) -> int:
        """Those that all calls read and write."""
        return sum(c.bytes for c in self.calls)

    def __str__(self) -> str:
        cost = [
            max(c.flops / 32.0, c.bytes / 8.0) for c in self.calls
        ]  # a core does some 4 FLOPs in the time of a byte
        rows = [
            (c.title, f"{c.flops:,}", f"{c.bytes:,}", f"{100 * t / max(sum(cost), 1):.0f} %", c.text)
            for c, t in zip(self.calls, cost, strict=True)
        ]
        rows.append(
            (f"{self.launches} calls", f"{self.flops:,}", f"{self.bytes:,}", "100 %", f"work {self.work_bytes:,} B")
        )
        widths = [max(len(r[i]) for r in [*rows, _HEADER]) for i in range(4)]
        line = "{:<{}}  {:>{}}  {:>{}}  {:>{}}  {}"
        table = [
            line.format(*(v for pair in zip(r, widths, strict=False) for v in pair), r[4]) for r in [_HEADER, *rows]
        ]
        return "\n".join(t.rstrip() for t in table)


_HEADER = ("call", "FLOPs", "bytes", "share", "what")


def base(node: TensorNode) -> tuple[TensorNode, int]:
    """The node whose memory `node` is a view of, and the offset in elements."""
    offset = 0
    while node.op in VIEWS:
        offset += node.attr[0] if node.op == "slice" else 0
        node = node.args[0]
    return node, offset


def is_elementwise(node: TensorNode) -> bool:
    """Whether a node is computed element by element, in a fused pass."""
    return node.op in OPS or node.op in ("astype", "full", "take")


def plan(outputs: Sequence[tuple[str, TensorNode]], rows: int | None = None, validity: Validity | None = None) -> Plan:
    """Plan the computation of `outputs`, each given with the name of the input whose place it takes.

    In a trace for any number of rows, `rows` is the one that stands for all, and `validity` that of the tracer.
    """
    planner = _Planner(outputs)
    made = planner.plan()
    if rows is None:
        return made
    return replace(made, rows=rows, layout=Layout(tuple(planner.blocks.values()), rows), validity=validity)


class _Planner:
    def __init__(self, outputs: Sequence[tuple[str, TensorNode]]):
        self.outputs = outputs
        self.order = list(walk(*(node for _, node in outputs)))
        self.free = self._free_nodes()
        self.space: dict[TensorNode, tuple[int, int]] = {}
        self.stage: dict[TensorNode, int] = {}
        self.readers: dict[TensorNode, set[int]] = defaultdict(set)  # base node -> stages that read it from memory
        self.kernels: dict[tuple[tuple[int, int], int], Kernel] = {}
        self.stored: dict[TensorNode, None] = {}  # bases that memory must hold, in order
        self.place: dict[TensorNode, Place] = {}
        self.copies: list[tuple[Copy, TensorNode]] = []
        self.blocks: dict[int, Block] = {}  # of the work buffer, by their offsets
        self.held = 0

    # --- which call each node belongs to ----------------------------------------------------------------------------

    def _free_nodes(self) -> set[TensorNode]:
        """Nodes that read no array: numbers of the step and what is made of element numbers. Computed where needed."""
        free: set[TensorNode] = set()
        for node in self.order:
            leaf = node.op in ("const", "scalar", "full", "index")
            inner = (node.op in VIEWS or is_elementwise(node)) and all(base(a)[0] in free for a in node.args)
            if leaf or (node.args and inner and node.op != "take"):
                free.add(node)
        return free

    def seen(self, node: TensorNode) -> TensorNode | None:
        """The computed node that `node` is the whole of, as the same matrix; None if it is a part or another shape."""
        found, offset = base(node)
        if offset or found.size != node.size:
            return None
        return found if matrix(found.shape) == matrix(node.shape) else None

    def _schedule(self) -> None:
        for node in self.order:
            if node in self.free or node.op in (*VIEWS, "transpose", "input", "concat"):
                if node.op == "transpose" and base(node.args[0])[0].op == "transpose":
                    raise PlanError("a transpose of a transpose")
                continue
            if node.op == "matmul":
                factors = [self._untransposed(a)[0] for a in node.args]
                if any(base(f)[0] in self.free for f in factors):
                    raise PlanError("a product of what reads no array")
                self.stage[node] = max(map(self._ready, factors))
            elif node.op == "take":
                if any(base(a)[0].op != "input" for a in node.args):
                    raise PlanError("rows are taken from inputs only")
                self.space[node], self.stage[node] = matrix(node.shape), 0
            elif is_elementwise(node) or node.op in REDUCTIONS:
                self._place_in_kernel(node)
            else:
                raise PlanError(f"{node.op} is not planned")

    def _sink(self) -> None:
        """Move what depends on inputs alone into the pass that uses it, so that it need not be stored."""
        users: dict[TensorNode, list[tuple[TensorNode, TensorNode]]] = defaultdict(list)
        late: set[TensorNode] = set()
        for node in self.order:
            for a in node.args:
                users[base(a)[0]].append((node, a))
            if node in self.space and is_elementwise(node):
                found = [base(a)[0] for a in node.args]
                if all(f in self.free or f in late or f.op == "input" for f in found):
                    late.add(node)
        outputs = {base(node)[0] for _, node in self.outputs}
        for node in reversed(self.order):
            if node not in late or node in outputs:
                continue
            uses = [(u, a) for u, a in users[node] if u.op not in VIEWS]
            if uses and all(
                u in self.space and self.space[u] == self.space[node] and self.seen(a) is node for u, a in uses
            ):
                self.stage[node] = min(self.stage[u] for u, _ in uses)

    def _place_in_kernel(self, node: TensorNode) -> None:
        own = matrix(node.args[0].shape if node.op in REDUCTIONS else node.shape)
        space = own
        if own[1] == 1 and own[0] > 1 and node.op not in REDUCTIONS:  # a number per row: beside the row it belongs to
            mates = [mate for a in node.args if (mate := self._kernel_mate(a)) is not None]
            wider = {self.space[mate] for mate in mates if self.space[mate][0] == own[0]} - {own}
            space = wider.pop() if len(wider) == 1 else own
        stage = 0
        for a in node.args:
            mate = self._kernel_mate(a)
            fused = mate is not None and self.space[mate] == space
            stage = max(stage, self.stage[mate] if fused and mate is not None else self._ready(a))
        self.space[node], self.stage[node] = space, stage

    def _kernel_mate(self, node: TensorNode) -> TensorNode | None:
        """The node computed in a kernel that can hand its value on within that kernel."""
        found = self.seen(node)
        if found is None or found not in self.space or (found.op in REDUCTIONS and found.attr != "row"):
            return None
        return found

    def _ready(self, node: TensorNode) -> int:
        """The first stage that can read `node` from memory."""
        found, _ = base(node)
        if found.op == "concat":
            return max(self._ready(a) for a in found.args)
        if found in self.free:
            return 0
        return self.stage[found] + 1 if found in self.stage else 0

    @staticmethod
    def _untransposed(node: TensorNode) -> tuple[TensorNode, bool]:
        return (node.args[0], True) if node.op == "transpose" else (node, False)

    # --- what memory holds ------------------------------------------------------------------------------------------

    def _need(self, node: TensorNode, stage: int) -> None:
        """Note that a call of `stage` reads `node` from memory."""
        found, _ = base(node)
        for piece in found.args if found.op == "concat" else ():
            self._need(piece, stage)
        self.readers[found].add(stage)
        if found.op != "input":
            self.stored[found] = None

    def _gather(self) -> None:
        """Fill the kernels, and find which nodes must be stored."""
        for node in self.order:
            if node in self.space:
                key = (self.space[node], self.stage[node])
                kernel = self.kernels.setdefault(key, Kernel(*key[0], key[1]))
                kernel.nodes.append(node)
                if node.op in REDUCTIONS and node.attr != "row":
                    self.stored[node] = None
                for a in node.args:
                    mate = self._kernel_mate(a)
                    if base(a)[0] not in self.free and (mate is None or mate not in kernel.nodes):
                        self._need(a, kernel.stage)
            elif node.op == "matmul":
                self.stored[node] = None
                for a in node.args:
                    self._need(self._untransposed(a)[0], self.stage[node])
        for _, node in self.outputs:
            self._need(node, self._last + 1)

    @property
    def _last(self) -> int:
        return max(self.stage.values(), default=0)

    # --- where ------------------------------------------------------------------------------------------------------

    def _assign(self) -> int:
        """A place for every stored node; returns the size of the work buffer."""
        for name, node in self.outputs:
            self._assign_output(name, node)
        for node in list(self.stored):
            if node.op == "concat" and node not in self.place:
                self._assign_pieces(node)
        free_list: list[tuple[int, int]] = []  # (size, offset)
        expiring: dict[int, list[tuple[int, int]]] = defaultdict(list)
        top, now = 0, -1
        for node in sorted((n for n in self.stored if n not in self.place), key=lambda n: self._made(n)):
            made = self._made(node)
            for stage in range(now, made):
                free_list += expiring.pop(stage, [])
            now = max(now, made)
            nbytes = max(node.size, 1) * ITEM.get(node.dtype, 8)
            size = -(-nbytes // 64) * 64
            fitting = [entry for entry in free_list if size <= entry[0] <= 2 * size]
            if fitting:
                entry = min(fitting)
                free_list.remove(entry)
            else:
                entry, top = (size, top), top + size
            self.place[node] = Place("work", entry[1])
            self._widen(entry[1], nbytes)
            expiring[max(self._last_read(node), made)].append(entry)
        return top

    def _widen(self, offset: int, nbytes: int) -> None:
        """Have the block of the work buffer that begins at `offset` hold so many bytes, whatever the number of rows."""
        fixed, per_row = self.blocks.get(offset, Block(0, 0))
        own = factor(nbytes)
        self.blocks[offset] = Block(fixed, max(per_row, own)) if own else Block(max(fixed, nbytes), per_row)

    def _made(self, node: TensorNode) -> int:
        if node.op == "concat":
            return min(self._made(base(a)[0]) for a in node.args)
        return self.stage.get(node, 0)

    def _last_read(self, node: TensorNode) -> int:
        return max(self.readers[node], default=self._made(node))

    def _assign_output(self, name: str, node: TensorNode) -> None:
        found, offset = base(node)
        if found.op == "input" and found.attr == name and offset == 0:
            return
        nbytes = node.size * ITEM[node.dtype]
        if (
            found in self.free
            or found.op == "input"
            or offset
            or found in self.place
            or not self._may_replace(name, found)
        ):
            if found in self.free:
                raise PlanError(f"the new {name} depends on no array")
            if found.op == "concat" and found not in self.place:
                self._assign_pieces(found)
            self.copies.append((Copy(Place(name, 0), Place(name, 0), nbytes, self._last + 1), node))
            return
        self.place[found] = Place(name, 0)
        if found.op == "concat":
            self._bind_pieces(found, Place(name, 0))

    def _may_replace(self, name: str, new: TensorNode) -> bool:
        """Whether `new` may be written where the input `name` lies: nobody reads the old values afterwards."""
        pieces = [base(a)[0] for a in new.args] if new.op == "concat" else [new]
        writers = [self.stage[p] for p in pieces if p in self.stage]
        if not writers or any(p.op == "matmul" for p in pieces):
            writers = writers or [self._last + 1]
        for node, stages in self.readers.items():
            if node.op != "input" or node.attr != name:
                continue
            if any(stage > min(writers) for stage in stages if stage <= self._last):
                return False
            if min(writers) in stages and not self._aligned(name, new, min(writers)):
                return False
        return True

    def _aligned(self, name: str, new: TensorNode, stage: int) -> bool:
        """Whether all reads of `name` at `stage` are by the kernel that writes the same elements."""
        spans = {}
        if new.op == "concat":
            start = 0
            for piece in new.args:
                spans[base(piece)[0]] = (start, piece.size)
                start += piece.size
        else:
            spans[new] = (0, new.size)
        for kernel in self.kernels.values():
            if kernel.stage != stage:
                continue
            written = [spans[n] for n in kernel.nodes if n in spans]
            for node in kernel.nodes:
                for a in node.args:
                    found, offset = base(a)
                    if found.op == "input" and found.attr == name and (offset, a.size) not in written:
                        return False
        for node in self.order:
            if node.op == "matmul" and self.stage[node] == stage:
                for a in node.args:
                    found, _ = base(self._untransposed(a)[0])
                    if found.op == "input" and found.attr == name:
                        return False
        return True

    def _assign_pieces(self, node: TensorNode) -> None:
        """A concatenation: its pieces are computed where it lies."""
        size = -(-node.size * ITEM[node.dtype] // 64) * 64
        self.place[node] = Place("held", self.held)
        self.held += size
        self._bind_pieces(node, self.place[node])

    def _bind_pieces(self, node: TensorNode, at: Place) -> None:
        offset = at.offset
        for piece in node.args:
            found, start = base(piece)
            nbytes = piece.size * ITEM[piece.dtype]
            bindable = found in self.stage and start == 0 and found.size == piece.size and found not in self.place
            if bindable:
                self.place[found] = Place(at.buffer, offset)
                self.stored[found] = None
            else:
                stage = self._ready(piece)
                target = Place(at.buffer, offset)
                self.copies.append((Copy(target, target, nbytes, stage - 0.5), piece))  # before its readers
                self.readers[found].add(stage)
                if found.op != "input":
                    self.stored[found] = None
            offset += nbytes

    # --- the list ---------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        self._schedule()
        self._sink()
        self._gather()
        top = self._assign()
        calls: list[Kernel | Product | Copy] = list(self.kernels.values())
        for kernel in self.kernels.values():
            self._operands(kernel)
            top = self._scratch(kernel, top)
        calls += [self._product(node) for node in self.order if node.op == "matmul"]
        for copy, node in self.copies:
            copy.source = self._at(node)
            calls.append(copy)
        calls = sorted(calls, key=lambda c: (c.stage, isinstance(c, Copy)))
        names = tuple(dict.fromkeys(n.attr for n in self.order if n.op == "scalar"))
        return Plan(calls, top, self.held, names)

    def _at(self, node: TensorNode) -> Place:
        found, offset = base(node)
        where = Place(found.attr, 0) if found.op == "input" else self.place[found]
        return Place(where.buffer, where.offset + offset * ITEM[node.dtype])

    def _product(self, node: TensorNode) -> Product:
        (a, flip_a), (b, flip_b) = map(self._untransposed, node.args)
        m, n = matrix(node.shape)
        k = node.args[0].shape[1]
        return Product(
            m, n, k, node.dtype, self.stage[node], self._at(a), self._at(b), self.place[node], flip_a, flip_b
        )

    def _operands(self, kernel: Kernel) -> None:
        inside = set(kernel.nodes)
        shape = (kernel.rows, kernel.columns)
        for node in kernel.nodes:
            if node.op == "take":
                source, _ = base(node.args[0])
                if node.args[1].op != "input" or node.args[1].attr != "rows":
                    raise PlanError("rows are taken by the list of the batch only")
                pattern = "taken" if len(source.shape) == 2 else "taken row"
                kernel.loads[node] = Operand(source, self._at(node.args[0]), pattern)
            else:
                for a in node.args:
                    if base(a)[0] in self.free or (self._kernel_mate(a) in inside):
                        continue
                    if a not in kernel.loads:
                        kernel.loads[a] = Operand(a, self._at(a), pattern_of(matrix(a.shape), shape))
            if node in self.place:
                kernel.stores[node] = Operand(node, self.place[node], pattern_of(matrix(node.shape), shape))

    def _scratch(self, kernel: Kernel, top: int) -> int:
        """Room for values that a row's later pass reads again."""
        phase = phases(kernel)
        for node in kernel.nodes:
            later = any(node in arguments(n) and phase[n] > phase[node] for n in kernel.nodes)
            if later and node not in kernel.stores and level(node, kernel) == 2 and node.op not in REDUCTIONS:
                kernel.stores[node] = Operand(node, Place("work", top), "scratch")
                self._widen(top, kernel.columns * ITEM[node.dtype])
                top += -(-kernel.columns * ITEM[node.dtype] // 64) * 64
        return top


def pattern_of(shape: tuple[int, int], space: tuple[int, int]) -> str:
    """How an array of `shape` is seen from `space`."""
    if shape == space:
        return "full"
    patterns = {(1, space[1]): "row", (space[0], 1): "column", (1, 1): "one"}
    if shape not in patterns:
        raise PlanError(f"an array {shape} does not broadcast to {space}")
    return patterns[shape]


def arguments(node: TensorNode) -> list[TensorNode]:
    """The computed nodes that a node reads, through views."""
    return [base(a)[0] for a in node.args]


def level(node: TensorNode, kernel: Kernel) -> int:
    """Where in the loops a node is computed: 2 for each element, 1 once a row, 0 once."""
    shape = matrix(node.shape)
    if shape == (kernel.rows, kernel.columns):
        return 2
    return 1 if shape[0] == kernel.rows and kernel.rows > 1 else 2 if shape[1] == kernel.columns > 1 else 0


def phases(kernel: Kernel) -> Mapping[TensorNode, int]:
    """The pass over a row in which each node is computed: after those whose sums or maxima along the row it needs."""
    found: dict[TensorNode, int] = {}
    for node in kernel.nodes:
        needed = [found[a] + (a.op in REDUCTIONS) for a in arguments(node) if a in found]
        found[node] = max(needed, default=0)
    return found

"""Planning: from the graph of a traced step to a flat list of calls on assigned buffers.

`grouping` says which call computes each node, `buffers` where what memory must hold lies. Here the calls get their
operands and their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from xmlp.compiler.buffers import Buffers
from xmlp.compiler.calls import FULL, ROW, TAKEN, TAKEN_ROW, Access, Call, Kernel, Operand, Product
from xmlp.compiler.grouping import Groups
from xmlp.compiler.rows import Layout, Validity
from xmlp.compiler.tensor import ITEM, REDUCTIONS, PlanError, TensorNode, arguments, base, matrix, untransposed


@dataclass
class Plan:
    """The calls of a step in order, and how large a work buffer they share.

    Where `rows` is given, the plan was made for so many, and `validity` says which other numbers it serves as well:
    sizes that depend on it are of type `Extent`, and `layout` tells where the work buffer's parts lie.
    """

    calls: Sequence[Call]
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
        sizes = self._sizes.get(rows)
        if sizes is None:
            known = {} if self.validity is None else self.validity.sizes
            sizes = {name: value(rows) for name, value in known.items() if name in self.scalars}
            if len(self._sizes) >= 64:
                self._sizes.clear()
            self._sizes[rows] = sizes
        return sizes

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
        # a core does some 4 FLOPs in the time of a byte
        cost = [max(c.flops / 32.0, c.bytes / 8.0) for c in self.calls]
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


def plan(outputs: Sequence[tuple[str, TensorNode]], rows: int | None = None, validity: Validity | None = None) -> Plan:
    """Plan the computation of `outputs`, each given with the name of the input whose place it takes.

    In a trace for any number of rows, `rows` is the one that stands for all, and `validity` that of the tracer.
    """
    groups = Groups(outputs)
    buffers = Buffers(groups)
    for kernel in groups.kernels:
        _add_operands(kernel, groups, buffers)
        _add_scratch(kernel, buffers)
    products = [_product(node, groups.stage[node], buffers) for node in groups.order if node.op == "matmul"]
    calls = sorted([*groups.kernels, *products, *buffers.copies()], key=lambda call: call.stage)
    scalars = tuple(dict.fromkeys(n.attr for n in groups.order if n.op == "scalar"))
    layout = Layout(tuple(buffers.blocks.values()), rows or 0)
    return Plan(calls, buffers.work, buffers.held, scalars, rows, layout, validity)


def _add_operands(kernel: Kernel, groups: Groups, buffers: Buffers) -> None:
    """What a kernel loads, and what it stores."""
    inside = set(kernel.nodes)
    for node in kernel.nodes:
        if node.op == "take":
            source, _ = base(node.args[0])
            access = TAKEN if len(source.shape) == 2 else TAKEN_ROW
            kernel.loads[node] = Operand(source, buffers.at(node.args[0]), access)
        else:
            for a in node.args:
                if base(a)[0] not in groups.numbers and groups.mate(a) not in inside and a not in kernel.loads:
                    kernel.loads[a] = Operand(a, buffers.at(a), _access(a, kernel))
        if node in buffers.places:
            kernel.stores[node] = Operand(node, buffers.places[node], _access(node, kernel))


def _access(node: TensorNode, kernel: Kernel) -> Access:
    """How the pass of a kernel sees an array."""
    shape, space = matrix(node.shape), (kernel.rows, kernel.columns)
    if shape == space:
        return FULL
    if not all(own in (1, size) for own, size in zip(shape, space, strict=True)):
        raise PlanError(f"an array {shape} does not broadcast to {space}")
    return Access(int(shape[0] != 1), int(shape[1] != 1))


def _add_scratch(kernel: Kernel, buffers: Buffers) -> None:
    """Room for values that a row's later pass reads again."""
    phase = kernel.phases()
    for node in kernel.nodes:
        later = any(node in arguments(n) and phase[n] > phase[node] for n in kernel.nodes)
        if later and node not in kernel.stores and kernel.level(node) == 2 and node.op not in REDUCTIONS:
            kernel.scratch[node] = Operand(node, buffers.add(kernel.columns * ITEM[node.dtype]), ROW)


def _product(node: TensorNode, stage: int, buffers: Buffers) -> Product:
    (a, flip_a), (b, flip_b) = map(untransposed, node.args)
    (m, n), k = matrix(node.shape), node.args[0].shape[1]
    return Product(stage, m, n, k, node.dtype, buffers.at(a), buffers.at(b), buffers.places[node], flip_a, flip_b)

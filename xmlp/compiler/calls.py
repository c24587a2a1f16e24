"""What a plan consists of: calls on places in memory, which a driver carries out one after another.

A driver has a table of what it does for each kind of call. Whatever else asks about calls asks for what all of them
have: places, costs, a title and a text.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

from xmlp.compiler.rows import Extent, at
from xmlp.compiler.tensor import ITEM, REDUCTIONS, TensorNode, arguments, matrix
from xmlp.graph.node import OPS


class Place(NamedTuple):
    """Where an array lies: `buffer` is the name of an input, "work" or "held"; `offset` counts bytes."""

    buffer: str
    offset: int


class Access(NamedTuple):
    """How a pass over rows and columns finds its elements in a matrix whose rows lie one after another.

    Attributes
    ----------
    rows, columns : int
        1 where the matrix has a row, or column, for each of the pass; 0 where one serves them all.
    listed : int or None
        The axis along which the list of the batch says which, 0 for rows and 1 for columns; None: neither.
    """

    rows: int
    columns: int
    listed: int | None = None

    def shape(self, rows: int, columns: int) -> tuple[int, int]:
        """How much of the matrix a pass over so many rows and columns sees."""
        return rows if self.rows else 1, columns if self.columns else 1

    def strides(self, columns: int) -> tuple[int, int]:
        """How many elements further the next row lies, and the next column."""
        return self.rows * (columns if self.columns else 1), self.columns


FULL, ROW, ONE = Access(1, 1), Access(0, 1), Access(0, 0)
TAKEN, TAKEN_ROW = Access(1, 1, listed=0), Access(0, 1, listed=1)


class Operand(NamedTuple):
    """An array in memory as one kernel sees it."""

    node: TensorNode
    place: Place
    access: Access


@dataclass(eq=False)
class Call(ABC):
    """What a plan calls for; calls run in the order of their stages."""

    stage: float

    def sized(self, rows: int) -> Self:
        """The call for so many rows, in a plan for any number."""
        return replace(self, **{name: at(n, rows) for name, n in vars(self).items() if isinstance(n, Extent)})

    def moved(self, place: Callable[[Place], Place], node: Callable[[TensorNode], TensorNode]) -> Self:
        """The call on other places, of other nodes."""
        places: dict[str, Any] = {name: place(p) for name, p in vars(self).items() if isinstance(p, Place)}
        return replace(self, **places)

    @cached_property
    def places(self) -> Sequence[Place]:
        """Where what it reads and writes lies."""
        return [p for p in vars(self).values() if isinstance(p, Place)]

    @property
    @abstractmethod
    def flops(self) -> int:
        """Operations on numbers."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Those that are read and written."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, for the table of a plan."""

    @property
    @abstractmethod
    def text(self) -> str:
        """What it does."""


@dataclass(eq=False)
class Kernel(Call):
    """One pass over `rows` x `columns`: elementwise nodes, the operands they load, what is stored and reduced.

    `scratch` is room for one row of what a later phase of the pass reads again.
    """

    rows: int
    columns: int
    nodes: list[TensorNode] = field(default_factory=list)
    loads: dict[TensorNode, Operand] = field(default_factory=dict)
    stores: dict[TensorNode, Operand] = field(default_factory=dict)
    scratch: dict[TensorNode, Operand] = field(default_factory=dict)

    def moved(self, place: Callable[[Place], Place], node: Callable[[TensorNode], TensorNode]) -> Self:
        def moved(operands: dict[TensorNode, Operand]) -> dict[TensorNode, Operand]:
            return {node(n): Operand(node(o.node), place(o.place), o.access) for n, o in operands.items()}

        nodes = [node(n) for n in self.nodes]  # in the order of the calls: what they read was made before
        loads, stores, scratch = map(moved, (self.loads, self.stores, self.scratch))
        return replace(self, nodes=nodes, loads=loads, stores=stores, scratch=scratch)

    @property
    def operands(self) -> list[Operand]:
        """What is read and what is written, without scratch."""
        return [*self.loads.values(), *self.stores.values()]

    @cached_property
    def places(self) -> list[Place]:
        return list(dict.fromkeys(o.place for o in (*self.operands, *self.scratch.values())))

    @property
    def flops(self) -> int:
        per_element = sum(n.op in OPS or n.op in REDUCTIONS for n in self.nodes)
        return per_element * int(self.rows) * int(self.columns)

    @property
    def bytes(self) -> int:
        space = int(self.rows), int(self.columns)
        return sum(
            rows * columns * ITEM[o.node.dtype] for o in self.operands for rows, columns in [o.access.shape(*space)]
        )

    @property
    def title(self) -> str:
        return f"fused pass {self.rows} x {self.columns}"

    @property
    def text(self) -> str:
        names = [n.op for n in self.nodes if n.op in OPS and n.op not in ("add", "multiply", "subtract", "negative")]
        shown = list(dict.fromkeys([*names, *(f"{n.op}[{n.attr}]" for n in self.nodes if n.op in REDUCTIONS)]))
        return f"{len(self.nodes)} operations" + (f": {', '.join(shown[:6])}" if shown else "")

    def reductions(self, kind: str) -> list[TensorNode]:
        """The sums and maxima along each "row", over each "column", or over "all"."""
        return [n for n in self.nodes if n.op in REDUCTIONS and n.attr == kind]

    def level(self, node: TensorNode) -> int:
        """Where in the loops a node is computed: 2 for each element, 1 once a row, 0 once."""
        rows, columns = matrix(node.shape)
        if (rows, columns) == (self.rows, self.columns):
            return 2
        return 1 if rows == self.rows > 1 else 2 if columns == self.columns > 1 else 0

    def phases(self) -> dict[TensorNode, int]:
        """The pass over a row in which each node is computed: after sums and maxima along the row that it needs."""
        phases: dict[TensorNode, int] = {}
        for node in self.nodes:
            needed = [phases[a] + (a.op in REDUCTIONS) for a in arguments(node) if a in phases]
            phases[node] = max(needed, default=0)
        return phases


@dataclass(eq=False)
class Product(Call):
    """out (m, n) = a (m, k) @ b (k, n); a flag says that an operand lies transposed in memory."""

    m: int
    n: int
    k: int
    dtype: str
    a: Place
    b: Place
    out: Place
    transpose_a: bool
    transpose_b: bool

    @property
    def shapes(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Those of both factors, as they lie in memory, and of the result."""
        m, n, k = self.m, self.n, self.k
        return (k, m) if self.transpose_a else (m, k), (n, k) if self.transpose_b else (k, n), (m, n)

    @property
    def flops(self) -> int:
        return 2 * int(self.m) * int(self.n) * int(self.k)

    @property
    def bytes(self) -> int:
        return ITEM[self.dtype] * sum(int(rows) * int(columns) for rows, columns in self.shapes)

    @property
    def title(self) -> str:
        return f"product {self.m} x {self.k} x {self.n}"

    @property
    def text(self) -> str:
        a, b, _ = self.shapes
        return f"{a}{'^T' * self.transpose_a} @ {b}{'^T' * self.transpose_b}"


@dataclass(eq=False)
class Copy(Call):
    """`size` bytes from one place to another: a new state that could not be made in the place of the old one."""

    source: Place
    target: Place
    size: int
    flops = 0
    title = "copy"

    @property
    def bytes(self) -> int:
        return 2 * self.size

    @property
    def text(self) -> str:
        return f"{self.source.buffer} -> {self.target.buffer}"

"""Which call each node of a traced graph belongs to, at which stage, and what of it memory must hold.

The graph is cut at the products. What lies between is gathered into kernels: all elementwise nodes over the same rows
and columns that can run in one pass, with the sums and maxima along rows, over rows and over everything that they feed.
Each call has a stage, one more than that of what it reads from memory.
"""

from collections import defaultdict
from collections.abc import Sequence

from xmlp.compiler.calls import Kernel
from xmlp.compiler.tensor import (
    REDUCTIONS,
    VIEWS,
    PlanError,
    TensorNode,
    arguments,
    base,
    is_elementwise,
    matrix,
    untransposed,
)
from xmlp.graph.node import walk


class Groups:
    """The nodes of a graph by the calls that compute them.

    Attributes
    ----------
    order : list of TensorNode
        All nodes, arguments before what uses them.
    numbers : set of TensorNode
        What reads no array: numbers of the step and what is made of element numbers. Computed where needed.
    stage : dict
        Of each node that is computed.
    kernels : list of Kernel
        With their nodes, but without operands.
    stored : dict
        The bases that memory must hold, in order.
    readers : dict
        The stages that read a base from memory.
    last : int
    """

    def __init__(self, outputs: Sequence[tuple[str, TensorNode]]):
        self.outputs = outputs
        self.order = list(walk(*(node for _, node in outputs)))
        self.numbers = self._numbers()
        self.stage: dict[TensorNode, int] = {}
        self.stored: dict[TensorNode, None] = {}
        self.readers: dict[TensorNode, set[int]] = defaultdict(set)
        self._space: dict[TensorNode, tuple[int, int]] = {}
        self._schedule()
        self._sink()
        self.last = max(self.stage.values(), default=0)
        self.kernels = self._gather()

    def mate(self, node: TensorNode) -> TensorNode | None:
        """The node computed in a kernel that can hand its value on within that kernel."""
        whole = self._whole(node)
        if whole is None or whole not in self._space or (whole.op in REDUCTIONS and whole.attr != "row"):
            return None
        return whole

    def ready(self, node: TensorNode) -> int:
        """The first stage that can read `node` from memory."""
        source, _ = base(node)
        if source.op == "concat":
            return max(self.ready(a) for a in source.args)
        return self.stage[source] + 1 if source in self.stage else 0

    def _numbers(self) -> set[TensorNode]:
        numbers: set[TensorNode] = set()
        for node in self.order:
            leaf = node.op in ("const", "scalar", "full", "index")
            inner = (node.op in VIEWS or is_elementwise(node)) and all(a in numbers for a in arguments(node))
            if leaf or (node.args and inner and node.op != "take"):
                numbers.add(node)
        return numbers

    def _whole(self, node: TensorNode) -> TensorNode | None:
        """The computed node that `node` is the whole of, as the same matrix; None if it is a part or another shape."""
        source, offset = base(node)
        if offset or source.size != node.size:
            return None
        return source if matrix(source.shape) == matrix(node.shape) else None

    # --- stages -----------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        read = [*(node for _, node in self.outputs), *(a for n in self.order if n.op != "matmul" for a in n.args)]
        if any(node.op == "transpose" for node in read):
            raise PlanError("a transposed array is read by products only")
        for node in self.order:
            if node in self.numbers or node.op in (*VIEWS, "transpose", "input", "list", "concat"):
                continue
            if node.op == "matmul":
                factors = [untransposed(a)[0] for a in node.args]
                if any(base(f)[0] in self.numbers for f in factors):
                    raise PlanError("a product of what reads no array")
                self.stage[node] = max(map(self.ready, factors))
            elif node.op == "take":
                if base(node.args[0])[0].op != "input" or node.args[1].op != "list":
                    raise PlanError("rows are taken from inputs only, and by the list of the batch")
                self._space[node], self.stage[node] = matrix(node.shape), 0
            elif is_elementwise(node) or node.op in REDUCTIONS:
                self._place_in_kernel(node)
            else:
                raise PlanError(f"{node.op} is not planned")

    def _place_in_kernel(self, node: TensorNode) -> None:
        own = matrix(node.args[0].shape if node.op in REDUCTIONS else node.shape)
        space = own
        if own[1] == 1 and own[0] > 1 and node.op not in REDUCTIONS:  # a number per row: beside the row it belongs to
            mates = [mate for a in node.args if (mate := self.mate(a)) is not None]
            wider = {self._space[mate] for mate in mates if self._space[mate][0] == own[0]} - {own}
            space = wider.pop() if len(wider) == 1 else own
        stage = 0
        for a in node.args:
            mate = self.mate(a)
            fused = mate is not None and self._space[mate] == space
            stage = max(stage, self.stage[mate] if fused and mate is not None else self.ready(a))
        self._space[node], self.stage[node] = space, stage

    def _sink(self) -> None:
        """Move what depends on inputs alone into the pass that uses it, so that it need not be stored."""
        users: dict[TensorNode, list[tuple[TensorNode, TensorNode]]] = defaultdict(list)
        late: set[TensorNode] = set()
        for node in self.order:
            for a in node.args:
                users[base(a)[0]].append((node, a))
            early = all(a in self.numbers or a in late or a.op in ("input", "list") for a in arguments(node))
            if early and node in self._space and is_elementwise(node):
                late.add(node)
        outputs = {base(node)[0] for _, node in self.outputs}
        for node in reversed(self.order):
            if node not in late or node in outputs:
                continue
            uses = [(u, a) for u, a in users[node] if u.op not in VIEWS]
            if uses and all(
                u in self._space and self._space[u] == self._space[node] and self._whole(a) is node for u, a in uses
            ):
                self.stage[node] = min(self.stage[u] for u, _ in uses)

    # --- kernels, and what memory holds -----------------------------------------------------------------------------

    def _gather(self) -> list[Kernel]:
        """The kernels with their nodes; notes which nodes must be stored."""
        kernels: dict[tuple[tuple[int, int], int], Kernel] = {}
        for node in self.order:
            if node in self._space:
                space, stage = self._space[node], self.stage[node]
                kernel = kernels.setdefault((space, stage), Kernel(stage, *space))
                kernel.nodes.append(node)
                if node.op in REDUCTIONS and node.attr != "row":
                    self.stored[node] = None
                for a in node.args[:1] if node.op == "take" else node.args:
                    mate = self.mate(a)
                    if base(a)[0] not in self.numbers and (mate is None or mate not in kernel.nodes):
                        self._need(a, stage)
            elif node.op == "matmul":
                self.stored[node] = None
                for a in node.args:
                    self._need(untransposed(a)[0], self.stage[node])
        for _, node in self.outputs:
            self._need(node, self.last + 1)
        return list(kernels.values())

    def _need(self, node: TensorNode, stage: int) -> None:
        """Note that a call of `stage` reads `node` from memory."""
        source, _ = base(node)
        if source.op == "list":
            raise PlanError("the list of the batch says which rows are taken, and nothing else")
        for piece in source.args if source.op == "concat" else ():
            self._need(piece, stage)
        self.readers[source].add(stage)
        if source.op != "input":
            self.stored[source] = None

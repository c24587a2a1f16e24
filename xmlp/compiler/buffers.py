"""Where the arrays of a plan lie in memory.

Every array that memory must hold gets a place in the work buffer, which is used again once nobody reads it any more.
Results that are slices of a larger vector are computed where that lies, and a new state in the place of the old one
where nobody reads the old one afterwards.
"""

from collections import defaultdict

from xmlp.compiler.calls import Copy, Place
from xmlp.compiler.grouping import Groups
from xmlp.compiler.rows import Block, factor, lines
from xmlp.compiler.tensor import ITEM, PlanError, TensorNode, base, untransposed


class Buffers:
    """Places for all that memory must hold.

    Attributes
    ----------
    work, held : int
        The bytes of the work buffer, and of that for vectors whose pieces are computed where they lie.
    blocks : dict of int to Block
        The parts of the work buffer by their offsets.
    """

    def __init__(self, groups: Groups):
        self._groups = groups
        self.work = self.held = 0
        self.blocks: dict[int, Block] = {}
        self.places: dict[TensorNode, Place] = {}
        self._copies: list[tuple[float, TensorNode, Place]] = []
        for name, node in groups.outputs:
            self._assign_output(name, node)
        for node in list(groups.stored):
            if node.op == "concat" and node not in self.places:
                self._assign_pieces(node)
        self._assign()

    def at(self, node: TensorNode) -> Place:
        """Where the memory that `node` is or is a view of begins."""
        source, offset = base(node)
        whole = Place(source.attr, 0) if source.op == "input" else self.places[source]
        return Place(whole.buffer, whole.offset + offset * ITEM[node.dtype])

    def add(self, nbytes: int) -> Place:
        """A new block of the work buffer."""
        place = Place("work", self.work)
        self.work += lines(nbytes)
        self._widen(place.offset, nbytes)
        return place

    def copies(self) -> list[Copy]:
        """What must be copied because it could not be computed where it is wanted."""
        return [Copy(stage, self.at(n), target, n.size * ITEM[n.dtype]) for stage, n, target in self._copies]

    # --- the work buffer --------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        unused: list[tuple[int, int]] = []  # (size, offset)
        expiring: dict[int, list[tuple[int, int]]] = defaultdict(list)
        now = -1
        for node in sorted((n for n in self._groups.stored if n not in self.places), key=self._first):
            first = self._first(node)
            for stage in range(now, first):
                unused += expiring.pop(stage, [])
            now = max(now, first)
            nbytes = max(node.size, 1) * ITEM.get(node.dtype, 8)
            size = lines(nbytes)
            fitting = [entry for entry in unused if size <= entry[0] <= 2 * size]
            if fitting:
                entry = min(fitting)
                unused.remove(entry)
                self._widen(entry[1], nbytes)
            else:
                entry = size, self.add(nbytes).offset
            self.places[node] = Place("work", entry[1])
            expiring[max(self._groups.readers[node], default=first)].append(entry)

    def _widen(self, offset: int, nbytes: int) -> None:
        """Have the block of the work buffer that begins at `offset` hold so many bytes, whatever the number of rows."""
        fixed, per_row = self.blocks.get(offset, Block(0, 0))
        own = factor(nbytes)
        self.blocks[offset] = Block(fixed, max(per_row, own)) if own else Block(max(fixed, nbytes), per_row)

    def _first(self, node: TensorNode) -> int:
        """The first stage that writes a node."""
        if node.op == "concat":
            return min(self._first(base(a)[0]) for a in node.args)
        return self._groups.stage.get(node, 0)

    # --- outputs ----------------------------------------------------------------------------------------------------

    def _assign_output(self, name: str, node: TensorNode) -> None:
        source, offset = base(node)
        if source.op == "input" and source.attr == name and offset == 0:
            return
        if source in self._groups.numbers:
            raise PlanError(f"the new {name} depends on no array")
        if source.op == "input" or offset or source in self.places or not self._may_replace(name, source):
            if source.op == "concat" and source not in self.places:
                self._assign_pieces(source)
            self._copies.append((self._groups.last + 1, node, Place(name, 0)))
            return
        self.places[source] = Place(name, 0)
        if source.op == "concat":
            self._bind_pieces(source, Place(name, 0))

    def _may_replace(self, name: str, new: TensorNode) -> bool:
        """Whether `new` may be written where the input `name` lies: nobody reads the old values afterwards."""
        last = self._groups.last
        pieces = [base(a)[0] for a in new.args] if new.op == "concat" else [new]
        first = min((self._groups.stage[p] for p in pieces if p in self._groups.stage), default=last + 1)
        for node, stages in self._groups.readers.items():
            if node.op != "input" or node.attr != name:
                continue
            if any(first < stage <= last for stage in stages):
                return False
            if first in stages and not self._aligned(name, new, first):
                return False
        return True

    def _aligned(self, name: str, new: TensorNode, stage: int) -> bool:
        """Whether all reads of `name` at `stage` are by the kernel that writes the same elements."""
        spans, start = {}, 0
        for piece in new.args if new.op == "concat" else [new]:
            spans[base(piece)[0]] = (start, piece.size)
            start += piece.size
        for kernel in self._groups.kernels:
            if kernel.stage != stage:
                continue
            written = [spans[n] for n in kernel.nodes if n in spans]
            for a in (a for node in kernel.nodes for a in node.args):
                source, offset = base(a)
                if source.op == "input" and source.attr == name and (offset, a.size) not in written:
                    return False
        products = (n for n in self._groups.order if n.op == "matmul" and self._groups.stage[n] == stage)
        factors = [base(untransposed(a)[0])[0] for node in products for a in node.args]
        return not any(factor.op == "input" and factor.attr == name for factor in factors)

    # --- concatenations ---------------------------------------------------------------------------------------------

    def _assign_pieces(self, node: TensorNode) -> None:
        """A concatenation: its pieces are computed where it lies."""
        self.places[node] = Place("held", self.held)
        self.held += lines(node.size * ITEM[node.dtype])
        self._bind_pieces(node, self.places[node])

    def _bind_pieces(self, node: TensorNode, place: Place) -> None:
        groups, offset = self._groups, place.offset
        for piece in node.args:
            source, start = base(piece)
            here = Place(place.buffer, offset)
            if source in groups.stage and start == 0 and source.size == piece.size and source not in self.places:
                self.places[source] = here
                groups.stored[source] = None
            else:
                stage = groups.ready(piece)
                self._copies.append((stage - 0.5, piece, here))  # before its readers
                groups.readers[source].add(stage)
                if source.op != "input":
                    groups.stored[source] = None
            offset += piece.size * ITEM[piece.dtype]

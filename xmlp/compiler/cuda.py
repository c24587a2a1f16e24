"""The kernels of a plan as CUDA: complete `__global__` functions, as few launches as possible.

A kernel of a plan is one pass over rows and columns. It becomes a launch of one of three shapes:

* elements: nothing is summed, or only over everything; threads stride over the elements;
* rows: sums or maxima along the rows; a block takes some rows, the threads of a row stride over its columns;
* columns: sums over the rows; a block takes some columns, the threads of a column stride over its rows.

A pass that sums both ways, and a sum over everything, need all blocks to have ended in between: a small pass is one
block and stays one launch, a large one becomes two or three. Sums are trees over the threads of a block in a fixed
order, then over the blocks: no atomics, so that equal inputs give equal bits.
"""

from dataclasses import replace

from xmlp.compiler.calls import FULL, ONE, Call, Kernel, Operand, Place
from xmlp.compiler.cuda_code import Emitter, Launch
from xmlp.compiler.planner import Plan
from xmlp.compiler.rows import lines
from xmlp.compiler.tensor import ITEM, PlanError, TensorNode, base

THREADS = 256  # in a block of many, at most: small enough that a kernel's registers suffice
ONE_BLOCK = 16384  # elements that one block may go through by itself
_BLOCKS = 256  # that share a sum over everything


def lower(plan: Plan) -> Plan:
    """The plan with launches in the place of its kernels; the launches are those for the rows that it was made for.

    Raises
    ------
    PlanError
        If an operation has no code here.
    """
    calls: list[Call] = []
    room = _Room(plan.work_bytes)
    for call in plan.calls if plan.rows is None else [call.sized(plan.rows) for call in plan.calls]:
        calls += _launches(call, room) if isinstance(call, Kernel) else [call]
    return replace(plan, calls=calls, work_bytes=room.top, rows=None)


class _Room:
    """Grows the work buffer."""

    def __init__(self, top: int):
        self.top = top

    def place(self, count: int, dtype: str) -> Place:
        place = Place("work", self.top)
        self.top += lines(count * ITEM[dtype])
        return place


def _launches(kernel: Kernel, room: _Room) -> list[Launch]:
    """The launches of one kernel: all that it does in one block, or a pass a launch."""
    if kernel.rows * kernel.columns >= 2**31:
        raise PlanError(f"a pass over {kernel.rows} x {kernel.columns} elements")
    # values of one row that a later pass of the processor reads again: here each thread computes them anew
    kernel = replace(kernel, stores=dict(kernel.stores), scratch={})
    along, over, total = map(kernel.reductions, ("row", "column", "all"))
    twice = bool(along and over)
    if twice:
        for node in over:
            _keep(node, kernel, room)
    alone = kernel.rows * kernel.columns <= ONE_BLOCK
    shape = "rows" if along else "columns" if over else "elements"
    blocks, threads = _grid(kernel, shape, bool(total))
    if alone and (total or twice):
        blocks, threads = 1, _one_block(kernel, shape)
    partial = {n: room.place(blocks, n.dtype) for n in total} if blocks > 1 else {}
    first = Emitter(kernel, blocks, threads)
    first.main(shape, [] if twice else over, {n: partial.get(n, kernel.stores[n].place) for n in total})
    if twice and blocks == 1:
        first.sums_over_rows(over)
    launches = [first.launch()]
    if twice and blocks > 1:
        terms = {n.args[0]: kernel.stores.get(base(n.args[0])[0]) or kernel.loads.get(n.args[0]) for n in over}
        loads = {node: operand for node, operand in terms.items() if operand is not None}
        sums = replace(kernel, nodes=over, loads=loads, stores={n: kernel.stores[n] for n in over})
        second = Emitter(kernel, *_grid(kernel, "columns", False))
        second.sums_over_rows(over)
        launches.append(replace(second.launch(), kernel=sums))
    for node, place in partial.items():
        launches.append(_finish(kernel, node, place, blocks))
    return launches


def _keep(node: TensorNode, kernel: Kernel, room: _Room) -> None:
    """Have memory hold what a later pass sums over the rows."""
    term, _ = base(node.args[0])
    if term in kernel.nodes and term not in kernel.stores and kernel.level(term) == 2:
        kernel.stores[term] = Operand(term, room.place(kernel.rows * kernel.columns, term.dtype), FULL)


def _finish(kernel: Kernel, node: TensorNode, partial: Place, blocks: int) -> Launch:
    """The sum of the blocks' shares, by one block."""
    share = TensorNode("input", (), "share", (blocks,), node.dtype)
    total = TensorNode("sum", (share,), "all", (1, 1), node.dtype)
    target = Operand(total, kernel.stores[node].place, ONE)
    small = Kernel(kernel.stage, 1, blocks, [total], {share: Operand(share, partial, FULL)}, {total: target})
    emitter = Emitter(small, 1, (THREADS, 1))
    emitter.main("elements", [], {total: target.place})
    return replace(emitter.launch(), what="sum of the blocks' shares")


def _power(n: int, limit: int) -> int:
    """The least power of two >= n, at most `limit`."""
    return min(limit, 1 << max(n - 1, 0).bit_length())


def _grid(kernel: Kernel, shape: str, total: bool) -> tuple[int, tuple[int, int]]:
    """Blocks, and the threads of one by columns and rows; powers of two."""
    rows, columns = kernel.rows, kernel.columns
    if shape == "rows":
        wide = _power(columns, THREADS)
        tall = _power(rows, THREADS // wide)
        return min(-(-rows // tall), _BLOCKS if total else 2**31 - 1), (wide, tall)
    if shape == "columns":
        wide = _power(columns, 32)
        return min(-(-columns // wide), _BLOCKS if total else 2**31 - 1), (wide, _power(rows, 2 * THREADS // wide))
    blocks = -(-rows * columns // THREADS)
    return min(blocks, _BLOCKS if total else 2**31 - 1), (THREADS, 1)


def _one_block(kernel: Kernel, shape: str) -> tuple[int, int]:
    """The threads of a block that works alone."""
    limit = 2 * THREADS
    if shape == "elements":
        return _power(kernel.rows * kernel.columns, limit), 1
    wide = _power(kernel.columns, 32)
    return wide, _power(kernel.rows, limit // wide)

"""Own threads for the calls of a plan: each call that is worth it is cut into shares that run at the same time.

The threads that a BLAS has for itself serve products alone. Here they stand still, and a team of as many threads takes
shares of products and fused passes alike. Which share of a call a thread gets is left to chance; what it computes is
not, so the results are the same bits every time.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from xmlp.compiler.llvm import Emitted, emit
from xmlp.compiler.planner import ITEM, REDUCTIONS, Kernel, Product
from xmlp.host.once import Lock
from xmlp.types import HostArray

MOST = 8  # threads; where a BLAS has more, its own way of sharing products is left alone
_FLOPS, _BYTES = 1_000_000, 1 << 18  # of a product and a pass that is worth sharing
_WORDS = 16  # of the block of memory through which the threads of a team meet, see `CODE`


class Share(NamedTuple):
    """A part of a call: its size, and how far its operands and the list of rows begin behind those of the whole."""

    rows: int
    columns: int
    shifts: tuple[int, ...]  # bytes, one for each place of the call
    list_shift: int = 0  # rows


def worth_sharing(call: Any) -> bool:
    """Whether a call is large enough to be cut."""
    if isinstance(call, Product):
        return call.flops >= _FLOPS
    return isinstance(call, Kernel) and call.bytes >= _BYTES


def shares(call: Any, lanes: int, code: Emitted | None = None) -> list[Share]:
    """The parts of a call, as equal as may be; one if the call is too small or cannot be cut.

    The code of a kernel is that of `emit`, unless it is given: it does not depend on the kernel's rows and columns.
    """
    if isinstance(call, Product):
        cut = lanes > 1 and worth_sharing(call)
        return _of_product(call, lanes) if cut else [Share(call.m, call.n, (0, 0, 0))]
    if not isinstance(call, Kernel):
        return []
    code = code or emit(call)
    if lanes > 1 and worth_sharing(call):
        return _of_kernel(call, lanes, code)
    return [Share(call.rows, call.columns, (0,) * len(code.places))]


def _cuts(size: int, lanes: int, step: int) -> list[tuple[int, int]]:
    """(begin, length) of as many pieces of a range, which begin at multiples of `step`."""
    piece = -(-size // lanes)
    piece = -(-piece // step) * step
    return [(begin, min(piece, size - begin)) for begin in range(0, size, piece)]


def _of_product(call: Product, lanes: int) -> list[Share]:
    """Rows of the result, or columns where it has more: what both threads read is the smaller operand."""
    item = ITEM[call.dtype]
    if call.m >= call.n:
        of_a = item * (1 if call.transpose_a else call.k)
        return [Share(rows, call.n, (b * of_a, 0, b * item * call.n)) for b, rows in _cuts(call.m, lanes, 16)]
    of_b = item * (call.k if call.transpose_b else 1)
    return [Share(call.m, columns, (0, b * of_b, b * item)) for b, columns in _cuts(call.n, lanes, 16)]


def _of_kernel(kernel: Kernel, lanes: int, code: Emitted) -> list[Share]:
    """Rows, or columns where there are more, as of the product before; whole where the parts would meet in a sum."""
    whole = [Share(kernel.rows, kernel.columns, (0,) * len(code.places))]
    sums = {node.attr for node in kernel.nodes if node.op in REDUCTIONS}
    patterns = {operand.pattern for operand in kernel.operands}
    by_row = "row" in sums or ("column" not in sums and (kernel.rows >= kernel.columns or "taken" in patterns))
    if "all" in sums or sums == {"row", "column"} or code.numbered or {"taken", "taken row"} <= patterns:
        return whole
    strides = {
        "full": kernel.columns if by_row else 1, "row": int(not by_row), "column": int(by_row), "one": 0,
        "taken": 0 if by_row else 1, "taken row": None if by_row else 0, "scratch": None if by_row else 1,
    }  # fmt: skip
    steps: dict[Any, set[int | None]] = {place: set() for place in code.places}
    for operand in kernel.operands:
        stride = strides[operand.pattern]
        steps[operand.place].add(None if stride is None else stride * ITEM[operand.node.dtype])
    if any(len(step) != 1 or None in step for step in steps.values()):
        return whole
    bytes_each = [step.pop() or 0 for step in steps.values()]
    listed = by_row or "taken row" in patterns
    return [
        Share(
            n if by_row else kernel.rows, kernel.columns if by_row else n,
            tuple(begin * b for b in bytes_each), begin if listed else 0,
        )
        for begin, n in _cuts(kernel.rows if by_row else kernel.columns, lanes, 1 if by_row else 64)
    ]  # fmt: skip


# A call is an entry of four words: function, table, shift of the list, number of further entries that may run at the
# same time. The block of a team: 0 whether steps are being made; 8 the number of the call being shared, times 256, plus
# the next share to take; 9 shares done; 10 shares given out; 11 entries, 12 their number, 13 scalars, 14 list of rows.
# While 11 to 14 change, the share to take is 255, of which there never are that many: whoever took the last look at the
# call before finds the word changed, and takes nothing.
CODE = """
define internal void @share(ptr %entry, ptr %scalars, ptr %list) {
  %function = load ptr, ptr %entry
  %table.at = getelementptr i64, ptr %entry, i64 1
  %table = load ptr, ptr %table.at
  %shift.at = getelementptr i64, ptr %entry, i64 2
  %shift = load i64, ptr %shift.at
  %rows = getelementptr i32, ptr %list, i64 %shift
  call void %function(ptr %table, ptr %scalars, ptr %rows)
  ret void
}

define internal i1 @help(ptr %team) {
  %next.at = getelementptr i64, ptr %team, i64 8
  %next = load atomic i64, ptr %next.at acquire, align 8
  %number = and i64 %next, 255
  %count.at = getelementptr i64, ptr %team, i64 12
  %count = load atomic i64, ptr %count.at monotonic, align 8
  %left = icmp ult i64 %number, %count
  br i1 %left, label %take, label %nothing
take:
  %entries.at = getelementptr i64, ptr %team, i64 11
  %entries = load atomic ptr, ptr %entries.at monotonic, align 8
  %scalars.at = getelementptr i64, ptr %team, i64 13
  %scalars = load atomic ptr, ptr %scalars.at monotonic, align 8
  %list.at = getelementptr i64, ptr %team, i64 14
  %list = load atomic ptr, ptr %list.at monotonic, align 8
  %following = add i64 %next, 1
  %pair = cmpxchg ptr %next.at, i64 %next, i64 %following acq_rel monotonic
  %mine = extractvalue { i64, i1 } %pair, 1
  br i1 %mine, label %run, label %end
run:
  %offset = mul i64 %number, 4
  %entry = getelementptr i64, ptr %entries, i64 %offset
  call void @share(ptr %entry, ptr %scalars, ptr %list)
  %done.at = getelementptr i64, ptr %team, i64 9
  %before = atomicrmw add ptr %done.at, i64 1 release
  br label %end
end:
  ret i1 true
nothing:
  ret i1 false
}

define void @work(ptr %team) {
  br label %loop
loop:
  %helped = call i1 @help(ptr %team)
  br i1 %helped, label %loop, label %idle
idle:
  %active = load atomic i64, ptr %team acquire, align 8
  %over = icmp eq i64 %active, 0
  br i1 %over, label %end, label %wait
wait:
  PAUSE
  br label %loop
end:
  ret void
}

define internal void @together(ptr %team, ptr %entry, i64 %count, ptr %scalars, ptr %list) {
  %next.at = getelementptr i64, ptr %team, i64 8
  %next.before = load atomic i64, ptr %next.at monotonic, align 8
  %call.before = lshr i64 %next.before, 8
  %call = add i64 %call.before, 1
  %next = shl i64 %call, 8
  %closed = or i64 %next, 255
  store atomic i64 %closed, ptr %next.at release, align 8
  fence seq_cst
  %further = getelementptr i64, ptr %entry, i64 4
  %entries.at = getelementptr i64, ptr %team, i64 11
  store atomic ptr %further, ptr %entries.at monotonic, align 8
  %scalars.at = getelementptr i64, ptr %team, i64 13
  store atomic ptr %scalars, ptr %scalars.at monotonic, align 8
  %list.at = getelementptr i64, ptr %team, i64 14
  store atomic ptr %list, ptr %list.at monotonic, align 8
  %count.at = getelementptr i64, ptr %team, i64 12
  store atomic i64 %count, ptr %count.at monotonic, align 8
  %given.at = getelementptr i64, ptr %team, i64 10
  %given.before = load i64, ptr %given.at
  %given = add i64 %given.before, %count
  store i64 %given, ptr %given.at
  store atomic i64 %next, ptr %next.at release, align 8
  call void @share(ptr %entry, ptr %scalars, ptr %list)
  br label %loop
loop:
  %helped = call i1 @help(ptr %team)
  br i1 %helped, label %loop, label %test
test:
  %done.at = getelementptr i64, ptr %team, i64 9
  %done = load atomic i64, ptr %done.at acquire, align 8
  %all = icmp eq i64 %done, %given
  br i1 %all, label %end, label %wait
wait:
  PAUSE
  br label %test
end:
  ret void
}

define void @replay(ptr %entries, i64 %n_calls, ptr %scalars, i64 %n_scalars, ptr %list, i64 %batch, i64 %n_steps,
                    ptr %team) {
  br label %steps
steps:
  %step = phi i64 [ 0, %0 ], [ %step.next, %step.end ]
  %more.steps = icmp slt i64 %step, %n_steps
  br i1 %more.steps, label %step.begin, label %end
step.begin:
  %scalars.offset = mul i64 %step, %n_scalars
  %scalars.here = getelementptr double, ptr %scalars, i64 %scalars.offset
  %list.offset = mul i64 %step, %batch
  %list.here = getelementptr i32, ptr %list, i64 %list.offset
  br label %calls
calls:
  %number = phi i64 [ 0, %step.begin ], [ %number.next, %call.end ]
  %entry = phi ptr [ %entries, %step.begin ], [ %entry.next, %call.end ]
  %more.calls = icmp slt i64 %number, %n_calls
  br i1 %more.calls, label %call, label %step.end
call:
  %further.at = getelementptr i64, ptr %entry, i64 3
  %further = load i64, ptr %further.at
  %alone = icmp eq i64 %further, 0
  br i1 %alone, label %call.alone, label %call.together
call.alone:
  call void @share(ptr %entry, ptr %scalars.here, ptr %list.here)
  br label %call.end
call.together:
  call void @together(ptr %team, ptr %entry, i64 %further, ptr %scalars.here, ptr %list.here)
  br label %call.end
call.end:
  %entries.here = add i64 %further, 1
  %words = mul i64 %entries.here, 4
  %entry.next = getelementptr i64, ptr %entry, i64 %words
  %number.next = add i64 %number, 1
  br label %calls
step.end:
  %step.next = add i64 %step, 1
  br label %steps
end:
  ret void
}
"""


_PAUSES = {  # how a thread that waits tells the processor so: declaration, arguments
    "x86_64": ("void @llvm.x86.sse2.pause()", "void @llvm.x86.sse2.pause()"),
    "aarch64": ("void @llvm.aarch64.hint(i32)", "void @llvm.aarch64.hint(i32 1)"),
    "arm64": ("void @llvm.aarch64.hint(i32)", "void @llvm.aarch64.hint(i32 1)"),
}


def code(machine: str) -> str:
    """The functions `replay` and `work` for a kind of processor, as in "x86_64-unknown-linux-gnu"."""
    pause = _PAUSES.get(machine.partition("-")[0])
    if pause is None:
        return CODE.replace("PAUSE", "fence acquire")
    return f"declare {pause[0]}\n{CODE.replace('PAUSE', f'call {pause[1]}')}"


class Threads:
    """The threads of a BLAS, through two functions of it."""

    def __init__(self, get: Callable[[], int], set: Callable[[int], None]):
        self._get, self._set = get, set
        self._lock, self._users, self._pins, self._before = threading.Lock(), 0, 0, 1
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        """In a child nobody makes steps, whatever the parent was doing; what was pinned stays so."""
        if self._users and not self._pins:
            self._set(self._before)
        self._lock, self._users = threading.Lock(), self._pins

    @property
    def number(self) -> int:
        """How many it uses for itself when no plan is being run; 1 while that is pinned."""
        with self._lock:
            return 1 if self._pins else self._before if self._users else self._get()

    @contextmanager
    def single(self, pinned: bool = False) -> Iterator[None]:
        """A context in which products run in the thread that calls them; where it is `pinned`, shares of calls too."""
        with self._lock:
            if not self._users:
                self._before = self._get()
                self._set(1)
            self._users, self._pins = self._users + 1, self._pins + pinned
        try:
            yield
        finally:
            with self._lock:
                self._users, self._pins = self._users - 1, self._pins - pinned
                if not self._users:
                    self._set(self._before)


class Team:
    """Threads beside the calling one, which sleep unless steps are being made.

    They meet in a block of memory that lives as long as they do, as does the `code` of `work`: one that comes late
    still looks into them.
    """

    def __init__(self, helpers: int, work: int, code: object):
        self.helpers, self._code = helpers, code
        self._work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(work)
        self._block = block()
        self._busy, self._go = threading.Lock(), threading.Semaphore(0)
        for _ in range(helpers):
            threading.Thread(target=self._serve, name="xmlp", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._go.acquire()
            self._work(self._block.ctypes.data)

    @contextmanager
    def called(self) -> Iterator[HostArray]:
        """The block through which the helpers take shares; while they are with another caller, one without helpers."""
        if not self._busy.acquire(blocking=False):
            yield block()
            return
        try:
            self._block[0] = 1
            self._go.release(self.helpers)
            yield self._block
        finally:
            self._block[0] = 0
            self._busy.release()


def block() -> HostArray:
    """Memory through which the threads of a team meet, on cache lines of its own."""
    raw = np.zeros(_WORDS + 16, dtype=np.int64)
    start = -raw.ctypes.data % 64 // 8
    return raw[start : start + _WORDS]


_teams: dict[int, Team] = {}
_making = Lock()


def team(lanes: int, work: int, code: object) -> Team:
    """The team of a number of threads, which do `work`, a function in `code`; made once in a process."""
    with _making:
        if lanes not in _teams:
            _teams[lanes] = Team(lanes - 1, work, code)
        return _teams[lanes]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_teams.clear)  # threads do not live on in a child

"""Own threads for the calls of a plan: each call that is worth it is cut into shares that run at the same time.

The threads that a BLAS has for itself serve products alone. Here they stand still, and a team of as many threads takes
shares of products and fused passes alike. Which share of a call a thread gets is left to chance; what it computes is
not, so the results are the same bits every time.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from xmlp.compiler.calls import Call, Kernel, Place, Product
from xmlp.compiler.tensor import ITEM
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


_WORTH: dict[type[Call], Callable[[Call], bool]] = {
    Product: lambda call: call.flops >= _FLOPS,
    Kernel: lambda call: call.bytes >= _BYTES,
}


def worth_sharing(call: Call) -> bool:
    """Whether a call is large enough to be cut."""
    worth = _WORTH.get(type(call))
    return worth is not None and worth(call)


def product_shares(call: Product, lanes: int) -> list[Share]:
    """Rows of the result, or columns where it has more: what both threads read is the smaller operand."""
    if lanes == 1 or not worth_sharing(call):
        return [Share(call.m, call.n, (0, 0, 0))]
    axis = int(call.m < call.n)
    strides = (1 if call.transpose_a else call.k, 0), (0, call.k if call.transpose_b else 1), (call.n, 1)
    return _cut((call.m, call.n), axis, [ITEM[call.dtype] * stride[axis] for stride in strides], lanes, 16)


def kernel_shares(kernel: Kernel, lanes: int, numbered: bool) -> list[Share]:
    """Rows, or columns where there are more, as of the product before; whole where the parts would meet, as in a sum.

    A kernel is `numbered` that numbers its elements, and so must see all of them.
    """
    size, places = (kernel.rows, kernel.columns), kernel.places
    whole = [Share(*size, (0,) * len(places))]
    if lanes == 1 or numbered or not worth_sharing(kernel):
        return whole
    written = [*kernel.stores.values(), *kernel.scratch.values()]
    operands = [*kernel.loads.values(), *written]
    listed = {o.access.listed for o in operands} - {None}
    tall = kernel.rows >= kernel.columns or 0 in listed
    axis = 0 if kernel.reductions("row") or (tall and not kernel.reductions("column")) else 1
    steps: dict[Place, set[int]] = {place: set() for place in places}  # bytes to the next row or column
    for node, place, access in operands:
        steps[place].add(0 if access.listed == axis else ITEM[node.dtype] * access.strides(kernel.columns)[axis])
    if len(listed) > 1 or not all(o.access[axis] for o in written) or any(len(step) > 1 for step in steps.values()):
        return whole
    return _cut(size, axis, [step.pop() for step in steps.values()], lanes, 64 if axis else 1, axis in listed)


def _cut(
    size: tuple[int, int], axis: int, steps: Sequence[int], lanes: int, unit: int, listed: bool = False
) -> list[Share]:
    """As many shares of rows or columns, as equal as may be, which begin at multiples of `unit`."""
    piece = -(-size[axis] // lanes)
    piece = -(-piece // unit) * unit
    shares = []
    for begin in range(0, size[axis], piece):
        count = min(piece, size[axis] - begin)
        rows, columns = (size[0], count) if axis else (count, size[1])
        shares.append(Share(rows, columns, tuple(begin * step for step in steps), begin if listed else 0))
    return shares


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

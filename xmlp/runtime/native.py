"""Plans run by machine code: kernels compiled by LLVM, products by the BLAS that NumPy has loaded.

Needs llvmlite (the extra `fast`). Where the BLAS cannot be reached by address, products go through `numpy.matmul`.
"""

import ctypes
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from xmlp.compiler.calls import Call, Copy, Kernel, Place, Product
from xmlp.compiler.llvm import emit
from xmlp.compiler.llvm_code import Code
from xmlp.compiler.llvm_math import prelude
from xmlp.compiler.planner import Plan
from xmlp.compiler.rows import factor
from xmlp.host import memory
from xmlp.host.once import Lock, once
from xmlp.runtime import cache, team
from xmlp.types import HostArray

_RUN = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p, ctypes.c_int64] * 3, ctypes.c_int64, ctypes.c_void_p)


# --- compilation ------------------------------------------------------------------------------------------------------


_MOST_CODE = 1 << 20  # bytes, after which another compiler begins: with all that belongs to it some 30 times as many


class Compiler:
    """Machine code for this processor; a kernel is compiled once, and kept in a file for later processes.

    The code lives as long as its compiler does: programs hold theirs.
    """

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        target = llvm.Target.from_default_triple()
        self._machine = target.create_target_machine(cpu=cpu, features=features, opt=3)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), self._machine)
        self._known: dict[str, int] = {}
        self.code_bytes = 0
        self._lock = Lock()
        self._identity = f"{llvmlite.__version__} {llvm.llvm_version_info} {cpu} {features}"

    def addresses(self, functions: Mapping[str, str]) -> dict[str, int]:
        """Where the code of each named function lies."""
        with self._lock:
            return self._addresses(functions)

    def _addresses(self, functions: Mapping[str, str]) -> dict[str, int]:
        new = {name: functions[name] for name in sorted(functions) if name not in self._known}
        if new:
            kernels = "\n".join(new.values())
            text = prelude(kernels) + kernels
            key = hashlib.sha256(f"{self._identity}\n{text}".encode()).hexdigest()
            code = cache.load(key)
            if code is None:
                code = self._compiled(text)
                cache.store(key, code)
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            self._engine.finalize_object()
            self.code_bytes += len(code)
            for name in new:
                self._known[name] = self._engine.get_function_address(name)
        return {name: self._known[name] for name in functions}

    def _compiled(self, text: str) -> bytes:
        module = llvm.parse_assembly(text)
        module.triple = llvm.get_process_triple()
        module.data_layout = str(self._machine.target_data)
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = True
        builder = llvm.create_pass_builder(self._machine, options)
        builder.getModulePassManager().run(module, builder)
        return bytes(self._machine.emit_object(module))


_making = Lock()
_compilers: list[Compiler] = []


def compiler() -> Compiler:
    """The compiler of new programs. One that has made a lot of code is left to its programs and goes with the last."""
    with _making:
        if not _compilers or _compilers[0].code_bytes > _MOST_CODE:
            _compilers[:] = [Compiler()]
        return _compilers[0]


@once
def _product_code(kind: str, integer: str) -> tuple[str, str]:
    """A call of cblas_?gemm (row-major, alpha 1, beta 0) as a function of a table of arguments."""
    name, code = f"gemm_{kind}_{integer}", Code()
    values = _table_values(code, ["ptr", "i32", "i32", *[integer] * 3, *["ptr"] * 3, *[integer] * 3])
    call, ta, tb, m, n, k, a, b, out, lda, ldb, ldc = values
    one, zero = "0x3FF0000000000000", "0x0000000000000000"
    code.do(
        f"call void {call}(i32 101, i32 {ta}, i32 {tb}, {integer} {m}, {integer} {n}, {integer} {k}, {kind} {one}, "
        f"ptr {a}, {integer} {lda}, ptr {b}, {integer} {ldb}, {kind} {zero}, ptr {out}, {integer} {ldc})"
    )
    return name, f"define void @{name}(ptr %table, ptr %scalars, ptr %list) {{\n{code.text}\n  ret void\n}}\n"


def _table_values(code: Code, fields: Sequence[str]) -> list[str]:
    """The entries of a table of arguments."""
    values = []
    for i, field in enumerate(fields):
        at = code.new(f"getelementptr i64, ptr %table, i64 {i}")
        values.append(code.new(f"load {field}, ptr {at}"))
    return values


def _copy_code() -> tuple[str, str]:
    """A copy of bytes as a function of a table: source, target, size."""
    code = Code()
    values = _table_values(code, ["ptr", "ptr", "i64"])
    code.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {values[1]}, ptr {values[0]}, i64 {values[2]}, i1 false)")
    declared = "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)\n"
    return "copy", f"{declared}define void @copy(ptr %table, ptr %scalars, ptr %list) {{\n{code.text}\n  ret void\n}}\n"


# --- products ---------------------------------------------------------------------------------------------------------


@once
def _replay_code() -> str:
    return team.code(llvm.get_process_triple())


class Blas(NamedTuple):
    """The library that NumPy has loaded: where its products lie, its integer type, its threads if it tells of them."""

    products: dict[str, int]
    integer: str
    threads: team.Threads | None


@once
def blas() -> Blas | None:
    """None if its products cannot be reached by address."""
    from threadpoolctl import threadpool_info

    for library in threadpool_info():
        if library.get("user_api") != "blas":
            continue
        try:
            loaded = ctypes.CDLL(library["filepath"])
        except OSError:
            continue
        for pattern, integer in (("scipy_cblas_{}gemm64_", "i64"), ("cblas_{}gemm64_", "i64"), ("cblas_{}gemm", "i32")):
            names = {dtype: pattern.format(letter) for dtype, letter in (("float32", "s"), ("float64", "d"))}
            if all(hasattr(loaded, name) for name in names.values()):
                products = {t: ctypes.cast(getattr(loaded, n), ctypes.c_void_p).value or 0 for t, n in names.items()}
                return Blas(products, integer, _threads(loaded))
    return None


def _threads(library: ctypes.CDLL) -> team.Threads | None:
    for pattern in ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads"):
        if hasattr(library, pattern.format("set")) and hasattr(library, pattern.format("get")):
            return team.Threads(getattr(library, pattern.format("get")), getattr(library, pattern.format("set")))
    return None


# --- calls ------------------------------------------------------------------------------------------------------------


class _Function(NamedTuple):
    """A call in machine code: the table of arguments of a share holds a head, the places of the call, and a tail."""

    name: str
    text: str
    shares: Sequence[team.Share]
    head: Callable[[team.Share], list[int]]
    tail: Sequence[int]


def _kernel(planned: Kernel, call: Kernel, lanes: int, scalars: Sequence[str]) -> _Function:
    code = emit(planned)
    shares = team.kernel_shares(call, lanes, code.numbered)
    numbers = [scalars.index(name) for name in code.scalars]
    return _Function(code.name, code.text, shares, lambda share: [share.rows, share.columns, call.columns], numbers)


def _product(planned: Product, call: Product, lanes: int, scalars: Sequence[str]) -> "_Function | Product":
    library = blas()
    if library is None:
        return call
    function, flags = library.products[call.dtype], [112 if t else 111 for t in (call.transpose_a, call.transpose_b)]
    return _Function(
        *_product_code("float" if call.dtype == "float32" else "double", library.integer),
        team.product_shares(call, lanes),
        lambda share: [function, *flags, share.rows, share.columns, call.k],
        [columns for _, columns in call.shapes],
    )


def _copy(planned: Copy, call: Copy, lanes: int, scalars: Sequence[str]) -> _Function:
    return _Function(*_copy_code(), [team.Share(1, call.size, (0, 0))], lambda share: [], [call.size])


# what does a call, given as it is planned and for the present rows; a product that NumPy does is left as it is
_FUNCTIONS: dict[type[Call], Callable[..., _Function | Product]] = {Kernel: _kernel, Product: _product, Copy: _copy}


# --- running ----------------------------------------------------------------------------------------------------------


_TOGETHER = 1 << 20  # bytes of a work buffer, up to which one program serves several numbers of rows


def rows_together(plan: Plan, shared: bool) -> int:
    """Up to how many rows no call is worth sharing, where that matters, and the work buffer is small."""
    least, beyond = 0, 1 << 20
    while least + 1 < beyond:
        rows = (least + beyond) // 2
        small = plan.layout.starts(rows)[-1] <= _TOGETHER
        if small and not (shared and any(team.worth_sharing(call.sized(rows)) for call in plan.calls)):
            least = rows
        else:
            beyond = rows
    return least


class Program:
    """A plan bound to arrays: `run` repeats it, its calls shared among threads, `once` runs it in one.

    Parameters
    ----------
    rows : int, optional
        How many rows it takes, where the plan serves any number. Up to `plan.together` it may be resized: what its
        tables of arguments hold is a multiple of the number of rows plus a constant, of which both are kept.
    """

    def __init__(self, plan: Plan, arrays: Mapping[str, HostArray], rows: int | None = None):
        self.plan = plan
        self.arrays = dict(arrays)  # kept alive: the tables hold their addresses
        self.arrays["held"] = memory.aligned(plan.held_bytes)
        self._compiler = compiler()  # its code is what `replay` and the tables point to
        self._lanes = 0
        self._once: Any = None  # the arguments of one step, where it is one call
        self.rows = rows
        self._resizable = rows is not None and rows <= plan.together
        self._calls = plan.calls if rows is None or self._resizable else [call.sized(rows) for call in plan.calls]
        self._reserve(rows)

    def _reserve(self, rows: int | None) -> None:
        """Have a work buffer for as many rows."""
        self._room, self._blocks = rows, None if rows is None else self.plan.layout.starts(rows)
        self.arrays["work"] = memory.aligned(self.plan.work_bytes if self._blocks is None else self._blocks[-1])
        self._lanes = 0  # what is written down holds addresses in the old one

    def resize(self, rows: int) -> None:
        """Take so many rows from now on, at most `plan.together`."""
        if rows == self.rows:
            return
        if not self._resizable or self._room is None:
            raise ValueError(f"a program for {self.rows} rows is not resized to {rows}")
        self.rows = rows
        if rows > self._room:
            self._reserve(self.plan.together)  # at once: memory that is not touched costs nothing
        elif self._lanes:
            for name, distance in self._moved.items():
                self._constants[self._uses[name]] += distance
            self._moved.clear()
            np.multiply(self._slopes, rows, out=self._words)
            self._words += self._constants

    def _prepare(self, lanes: int) -> None:
        """Write the calls down for a number of threads."""
        self._bases = {name: address(array) for name, array in self.arrays.items()}
        calls = zip(self.plan.calls, self._calls, strict=True)
        functions = [_FUNCTIONS[type(call)](planned, call, lanes, self.plan.scalars) for planned, call in calls]
        texts = {function.name: function.text for function in functions if isinstance(function, _Function)}
        addresses = self._compiler.addresses({"replay": _replay_code(), "work": "", **texts})  # two functions, one text
        self._replay, self._work, self._lanes = _RUN(addresses["replay"]), addresses["work"], lanes
        self._write(functions)
        self._team = team.team(lanes, self._work, self._compiler) if any(len(t) > 1 for t in self._tables) else None
        self._segments = list(self._grouped(functions, addresses))
        self._starts: dict[str, int] = {}

    def _write(self, functions: "Sequence[_Function | Product]") -> None:
        """The tables of all calls, one after another; where the program is resizable, as a function of the rows."""
        words: list[int] = []
        self._tables: list[list[int]] = []  # where in the words those of each call begin
        self._uses: dict[str, list[int]] = {name: [] for name in self.arrays}  # where they hold addresses within it
        for call, function in zip(self.plan.calls, functions, strict=True):
            starts: list[int] = []
            self._tables.append(starts)
            if isinstance(function, Product):
                continue
            for share in function.shares:
                starts.append(len(words))
                words += function.head(share)
                for place, shift in zip(call.places, share.shifts, strict=True):
                    self._uses[place.buffer].append(len(words))
                    words.append(self._bases[place.buffer] + self._offset(place) + shift)
                words += function.tail
        self._words = np.asarray(words, dtype=np.int64)
        self._moved: dict[str, int] = {}  # how far inputs have moved since the constants were written down
        if self._resizable and self.rows is not None and self.plan.rows is not None:
            self._slopes = np.asarray([factor(word) for word in words], dtype=np.int64)
            self._constants = self._words - self._slopes * self.plan.rows
            self._words = self._constants + self._slopes * self.rows

    def bind(self, name: str, array: HostArray) -> None:
        """Put another array of the same dtype, and columns, in the place of the input `name`."""
        if self._lanes:  # else nothing is written down yet
            old, new = self._starts.get(name) or address(self.arrays[name]), address(array)
            for i in self._uses[name]:
                self._words[i] += new - old
            if self._resizable:
                self._moved[name] = self._moved.get(name, 0) + new - old
            self._starts[name] = new
        self.arrays[name] = array

    def release(self, name: str) -> None:
        """Let go of the input `name`: another is bound before the next step."""
        if self._lanes:
            self._starts.setdefault(name, address(self.arrays[name]))
        del self.arrays[name]

    def _grouped(
        self, functions: "Sequence[_Function | Product]", addresses: Mapping[str, int]
    ) -> Iterator[tuple[HostArray, int] | Callable[[], None]]:
        """Runs of calls in machine code and their number, with the products between them that NumPy does."""
        run: list[int] = []
        count, first = 0, address(self._words)
        for function, starts in zip(functions, self._tables, strict=True):
            if isinstance(function, _Function):
                for i, (start, share) in enumerate(zip(starts, function.shares, strict=True)):
                    further = 0 if i else len(starts) - 1
                    run += [addresses[function.name], first + 8 * start, share.list_shift, further]
                count += 1
                continue
            if run:
                yield np.asarray(run, dtype=np.int64), count
            yield partial(self._multiply, function)
            run, count = [], 0
        if run:
            yield np.asarray(run, dtype=np.int64), count

    def _offset(self, place: Place) -> int:
        if place.buffer != "work" or self._blocks is None:
            return place.offset
        return self.plan.layout.moved(place.offset, self._blocks)

    def _multiply(self, call: Product) -> None:
        """A product through NumPy, of the arrays that are bound now."""
        if self._resizable and self.rows is not None:
            call = call.sized(self.rows)
        parts = zip(call.places, call.shapes, strict=True)
        a, b, out = (memory.view(self.arrays[p.buffer], self._offset(p), call.dtype, shape) for p, shape in parts)
        np.matmul(a.T if call.transpose_a else a, b.T if call.transpose_b else b, out=out)

    def once(self) -> None:
        """One step of a plan that has neither scalars nor a list of rows, in this thread and those of the BLAS."""
        if self._lanes != 1:
            self._prepare(1)
            if len(self._segments) == 1 and isinstance(only := self._segments[0], tuple):
                self._once = address(only[0]), only[1], 0, 0, 0, 0, 1, None
        if self._once is not None:
            self._replay(*self._once)
        else:
            self._repeat(np.zeros((1, 0)), None, 0, None)

    def run(self, scalars: HostArray, rows: HostArray | None, batch: int) -> None:
        """One step for each row of `scalars` (steps, scalars); `rows` (steps * batch,) int32 lists the rows to take."""
        library = blas()
        threads = library and library.threads
        # no number of rows up to `together` makes a call worth sharing
        lanes = 1 if threads is None or self._resizable else threads.number
        lanes = lanes if lanes <= team.MOST else 1
        if self._lanes != lanes:
            self._prepare(lanes)
        if self._team is None or threads is None:
            self._repeat(scalars, rows, batch, None)
            return
        with threads.single(), self._team.called() as block:
            self._repeat(scalars, rows, batch, address(block))

    def _repeat(self, scalars: HostArray, rows: HostArray | None, batch: int, block: int | None) -> None:
        (steps, width), at = scalars.shape, address(scalars)
        listed = 0 if rows is None else address(rows)
        if len(self._segments) == 1 and isinstance(segment := self._segments[0], tuple):
            self._replay(address(segment[0]), segment[1], at, width, listed, batch, steps, block)
            return
        for step in range(steps):
            for segment in self._segments:
                if isinstance(segment, tuple):
                    place = (at + 8 * width * step, width, listed + 4 * batch * step)
                    self._replay(address(segment[0]), segment[1], *place, batch, 1, block)
                else:
                    segment()


def address(array: HostArray) -> int:
    """Where an array begins in memory."""
    start: int = array.__array_interface__["data"][0]
    return start

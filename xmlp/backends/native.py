"""Plans run by machine code: kernels compiled by LLVM, products by the BLAS that NumPy has loaded.

Needs llvmlite (the extra `fast`). Where the BLAS cannot be reached by address, products go through `numpy.matmul`.
"""

import ctypes
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from xmlp.backends import cache
from xmlp.graph.llvm import Code, emit, prelude
from xmlp.graph.plan import Copy, Kernel, Place, Plan, Product

HostArray = np.ndarray[Any, Any]
_RUN = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p, ctypes.c_int64] * 3, ctypes.c_int64)


# --- compilation ------------------------------------------------------------------------------------------------------


class Compiler:
    """Machine code for this processor; a kernel is compiled once in a process, and kept for later ones."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        target = llvm.Target.from_default_triple()
        self._machine = target.create_target_machine(cpu=cpu, features=features, opt=3)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), self._machine)
        self._known: dict[str, int] = {}
        self._lock = threading.Lock()
        self._identity = f"{llvmlite.__version__} {llvm.llvm_version_info} {cpu} {features}"

    def addresses(self, functions: Mapping[str, str]) -> dict[str, int]:
        """Where the code of each named function lies."""
        with self._lock:
            return self._addresses(functions)

    def _addresses(self, functions: Mapping[str, str]) -> dict[str, int]:
        new = {name: functions[name] for name in sorted(functions) if name not in self._known}
        if new:
            text = prelude() + "\n".join(new.values())
            key = hashlib.sha256(f"{self._identity}\n{text}".encode()).hexdigest()
            code = cache.load(key)
            if code is None:
                code = self._compiled(text)
                cache.store(key, code)
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            self._engine.finalize_object()
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


@lru_cache(maxsize=1)
def compiler() -> Compiler:
    return Compiler()


def _product_code(kind: str, integer: str) -> tuple[str, str]:
    """A call of cblas_?gemm (row-major, alpha 1, beta 0) as a function of a table of arguments."""
    name, code = f"gemm_{kind}_{integer}", Code()
    values = _table_values(code, ["ptr", "i32", "i32", *[integer] * 3, "ptr", integer, "ptr", integer, "ptr"])
    call, ta, tb, m, n, k, a, lda, b, ldb, out = values
    one, zero = "0x3FF0000000000000", "0x0000000000000000"
    code.do(
        f"call void {call}(i32 101, i32 {ta}, i32 {tb}, {integer} {m}, {integer} {n}, {integer} {k}, {kind} {one}, "
        f"ptr {a}, {integer} {lda}, ptr {b}, {integer} {ldb}, {kind} {zero}, ptr {out}, {integer} {n})"
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
    """A copy of bytes as a function of a table: target, source, size."""
    code = Code()
    values = _table_values(code, ["ptr", "ptr", "i64"])
    code.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {values[0]}, ptr {values[1]}, i64 {values[2]}, i1 false)")
    declared = "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)\n"
    return "copy", f"{declared}define void @copy(ptr %table, ptr %scalars, ptr %list) {{\n{code.text}\n  ret void\n}}\n"


def _replay_code() -> str:
    """All calls of a plan, for a number of steps: the scalars and the list of rows move on with each."""
    code = Code()

    def step(s: str) -> None:
        scalars = code.new(f"getelementptr double, ptr %scalars, i64 {code.new(f'mul i64 {s}, %n_scalars')}")
        rows = code.new(f"getelementptr i32, ptr %list, i64 {code.new(f'mul i64 {s}, %batch')}")

        def call(i: str) -> None:
            at = code.new(f"getelementptr ptr, ptr %calls, i64 {code.new(f'mul i64 {i}, 2')}")
            function = code.new(f"load ptr, ptr {at}")
            table = code.new(f"load ptr, ptr {code.new(f'getelementptr ptr, ptr {at}, i64 1')}")
            code.do(f"call void {function}(ptr {table}, ptr {scalars}, ptr {rows})")

        code.loop("calls", "%n_calls", call)

    code.loop("steps", "%n_steps", step)
    parameters = "ptr %calls, i64 %n_calls, ptr %scalars, i64 %n_scalars, ptr %list, i64 %batch, i64 %n_steps"
    return f"define void @replay({parameters}) {{\n{code.text}\n  ret void\n}}\n"


# --- products ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def blas() -> tuple[dict[str, int], str] | None:
    """Addresses of cblas_sgemm and cblas_dgemm in the library that NumPy has loaded, and its integer type."""
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
                found = {t: ctypes.cast(getattr(loaded, n), ctypes.c_void_p).value or 0 for t, n in names.items()}
                return found, integer
    return None


# --- running ----------------------------------------------------------------------------------------------------------


class Program:
    """A plan bound to arrays: `run` repeats it for a number of steps."""

    def __init__(self, plan: Plan, arrays: Mapping[str, HostArray]):
        self.plan = plan
        self.arrays = dict(arrays)  # kept alive: the tables hold their addresses
        self.arrays["work"] = _aligned(plan.work_bytes)
        self.arrays["held"] = _aligned(plan.held_bytes)
        functions = {"replay": _replay_code()}
        found = [self._call(call, functions) for call in plan.calls]
        addresses = compiler().addresses(functions)
        self._replay = _RUN(addresses["replay"])
        self._tables = [np.asarray(table, dtype=np.int64) for _, table in found]
        entries = [(addresses[name], address(table)) if name else None for (name, _), table in
                   zip(found, self._tables, strict=True)]  # fmt: skip
        self._segments = list(self._grouped(entries))
        self._found: dict[str, list[tuple[HostArray, int]]] = {}
        self._starts: dict[str, int] = {}
        whole = len(self._segments) == 1 and isinstance(self._segments[0], np.ndarray)
        self._whole = (address(self._segments[0]), self._segments[0].size // 2) if whole else None  # type: ignore[arg-type, union-attr]

    def bind(self, name: str, array: HostArray) -> None:
        """Put another array of the same shape and dtype in the place of the input `name`."""
        old, new = self._starts.get(name) or address(self.arrays[name]), address(array)
        for table, position in self._uses(name):
            table[position] += new - old
        self.arrays[name], self._starts[name] = array, new

    def _uses(self, name: str) -> list[tuple[HostArray, int]]:
        """Where the tables hold addresses within the input `name`."""
        if name not in self._found:
            self._found[name] = [
                (table, i)
                for table, call in zip(self._tables, self.plan.calls, strict=True)
                for i, place in self._places(call)
                if place.buffer == name and len(table)
            ]
        return self._found[name]

    @staticmethod
    def _places(call: Kernel | Product | Copy) -> list[tuple[int, Place]]:
        """The positions in a call's table that hold addresses."""
        if isinstance(call, Kernel):
            return list(enumerate(emit(call).places, 2))
        if isinstance(call, Copy):
            return [(0, call.target), (1, call.source)]
        return [(6, call.a), (8, call.b), (10, call.out)]

    def _call(self, call: Kernel | Product | Copy, functions: dict[str, str]) -> tuple[str, list[int]]:
        """The name of the function that does a call, "" if NumPy does it, and the function's table of arguments."""
        if isinstance(call, Kernel):
            code = emit(call)
            functions[code.name] = code.text
            numbers = [self.plan.scalars.index(s) for s in code.scalars]
            return code.name, [call.rows, call.columns, *map(self._address, code.places), *numbers]
        if isinstance(call, Copy):
            name, text = _copy_code()
            functions[name] = text
            return name, [self._address(call.target), self._address(call.source), call.size]
        library = blas()
        if library is None:
            return "", []
        name, text = _product_code("float" if call.dtype == "float32" else "double", library[1])
        functions[name] = text
        lda, ldb = (call.m if call.transpose_a else call.k), (call.k if call.transpose_b else call.n)
        flags = [112 if flag else 111 for flag in (call.transpose_a, call.transpose_b)]
        places = [self._address(call.a), lda, self._address(call.b), ldb, self._address(call.out)]
        return name, [library[0][call.dtype], *flags, call.m, call.n, call.k, *places]

    def _grouped(self, entries: Sequence[tuple[int, int] | None]) -> Iterator[HostArray | Callable[[], None]]:
        """Runs of calls in machine code, with the products between them that NumPy does."""
        run: list[int] = []
        for entry, call in zip(entries, self.plan.calls, strict=True):
            if entry is not None:
                run += entry
                continue
            if run:
                yield np.asarray(run, dtype=np.int64)
            assert isinstance(call, Product)
            yield partial(self._product, call)
            run = []
        if run:
            yield np.asarray(run, dtype=np.int64)

    def _address(self, place: Place) -> int:
        return address(self.arrays[place.buffer]) + place.offset

    def _product(self, call: Product) -> None:
        """A product through NumPy, of the arrays that are bound now."""
        a = self._view(call.a, call.dtype, (call.k, call.m) if call.transpose_a else (call.m, call.k))
        b = self._view(call.b, call.dtype, (call.n, call.k) if call.transpose_b else (call.k, call.n))
        out = self._view(call.out, call.dtype, (call.m, call.n))
        np.matmul(a.T if call.transpose_a else a, b.T if call.transpose_b else b, out=out)

    def _view(self, place: Place, dtype: str, shape: tuple[int, int]) -> HostArray:
        raw = self.arrays[place.buffer].reshape(-1).view(np.uint8)
        count = shape[0] * shape[1] * np.dtype(dtype).itemsize
        return raw[place.offset : place.offset + count].view(dtype).reshape(shape)

    def once(self) -> None:
        """One step of a plan that has neither scalars nor a list of rows."""
        if self._whole is not None:
            self._replay(*self._whole, 0, 0, 0, 0, 1)
        else:
            self.run(np.zeros((1, 0)), None, 0)

    def run(self, scalars: HostArray, rows: HostArray | None, batch: int) -> None:
        """One step for each row of `scalars` (steps, scalars); `rows` (steps * batch,) int32 lists the rows to take."""
        steps, width = scalars.shape
        at, listed = address(scalars), 0 if rows is None else address(rows)
        if self._whole is not None:
            self._replay(*self._whole, at, width, listed, batch, steps)
            return
        for step in range(steps):
            for segment in self._segments:
                if isinstance(segment, np.ndarray):
                    place = (at + 8 * width * step, width, listed + 4 * batch * step)
                    self._replay(address(segment), segment.size // 2, *place, batch, 1)
                else:
                    segment()


def address(array: HostArray) -> int:
    """Where an array begins in memory."""
    start: int = array.__array_interface__["data"][0]
    return start


def _aligned(size: int) -> HostArray:
    """Bytes that begin on a cache line."""
    raw = np.zeros(size + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]

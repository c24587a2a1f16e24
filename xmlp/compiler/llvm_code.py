"""LLVM's assembly language as text: types, numbers, and the lines of a function."""

import struct
from collections.abc import Callable

from xmlp.compiler.tensor import FLOATS

TYPES = {"float32": "float", "float64": "double", "int32": "i32", "int64": "i64", "uint8": "i8", "bool": "i1"}


def literal(value: float, dtype: str) -> str:
    """A number in the notation of the language, rounded to `dtype`."""
    if dtype == "bool":
        return "true" if value else "false"
    if dtype not in FLOATS:
        return str(int(value))
    if dtype == "float32":
        try:
            value = struct.unpack("f", struct.pack("f", value))[0]
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    return "0x" + struct.pack(">d", value).hex().upper()


class Code:
    """Lines of one function, in the order of execution."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.cells: list[str] = []  # room on the stack, set aside before the first line
        self._count = 0

    @property
    def text(self) -> str:
        """The body of the function."""
        return "\n".join([*self.cells, *self.lines])

    def new(self, text: str) -> str:
        """A line that defines a value; returns its name."""
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """A line that defines nothing."""
        self.lines.append(f"  {text}")

    def cell(self, name: str, kind: str) -> None:
        """Room for one value, of which `name` is the address."""
        self.cells.append(f"  {name} = alloca {kind}")

    def label(self, name: str) -> None:
        """A place to branch to."""
        self.lines.append(f"{name}:")

    def loop(self, name: str, count: str, body: Callable[[str], None]) -> None:
        """`for i in range(count)`, the count being a value or a number."""
        counter = f"%{name}.at"
        self.cell(counter, "i64")
        self.do(f"store i64 0, ptr {counter}")
        self.do(f"br label %{name}.test")
        self.label(f"{name}.test")
        i = self.new(f"load i64, ptr {counter}")
        self.do(f"br i1 {self.new(f'icmp slt i64 {i}, {count}')}, label %{name}.body, label %{name}.end")
        self.label(f"{name}.body")
        body(i)
        self.do(f"store i64 {self.new(f'add nsw i64 {i}, 1')}, ptr {counter}")
        self.do(f"br label %{name}.test")
        self.label(f"{name}.end")

"""Plans and programs that are kept for the next time, by what they were made for; of each kind so many and no more."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from xmlp.compiler.planner import Plan
from xmlp.host.once import Lock
from xmlp.types import Array, HostArray

MOST_BYTES = 1 << 26  # that programs hold together; the two latest stay whatever they hold
MOST = 16
MOST_PLANS = 64

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The latest values by key, `most` of them; any number of threads may use it."""

    def __init__(self, most: int):
        self._most, self._lock = most, Lock()
        self._kept: dict[Key, Value] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, key: Key) -> Value:
        return self._kept[key]

    def find(self, key: Key) -> Value | None:
        """What is kept for the key, or None; its age does not change."""
        return self._kept.get(key)

    def items(self) -> list[tuple[Key, Value]]:
        """All of them, the latest first."""
        with self._lock:
            return list(reversed(self._kept.items()))

    def values(self) -> list[Value]:
        """What is kept, the oldest first."""
        return [value for _, value in self.items()]

    def add(self, key: Key, value: Value) -> Value:
        """Keep a value, unless there is one under this key; returns the one that is kept."""
        with self._lock:
            value = self._kept.setdefault(key, value)
            while len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]
        return value

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._kept.clear()


class Serving(Protocol):
    """What plans are kept for: a backend."""

    def serves_any_rows(self) -> bool:
        """Whether a plan is run for other numbers of rows than its own."""

    def rows_together(self, plan: Plan, shared: bool) -> int:
        """Up to how many rows one program is resized."""


class Program(Protocol):
    """A plan bound to arrays."""

    plan: Plan
    arrays: dict[str, Array]

    def bind(self, name: str, array: Array) -> None:
        """Put another array of the same shape and dtype in the place of the input `name`."""

    def release(self, name: str) -> None:
        """Let go of the input `name`: another is bound before the next step."""

    def run(self, scalars: HostArray, rows: Array, batch: int) -> None:
        """One step for each row of `scalars` (steps, scalars); `rows` (steps * batch,) int32 lists the rows to take."""

    def once(self) -> None:
        """One step of a plan that has neither scalars nor a list of rows."""

    def resize(self, rows: int) -> None:
        """Take so many rows from now on, at most `plan.together`."""


def table(plan: Plan, rows: int, numbers: Mapping[str, Any], steps: int = 1) -> HostArray:
    """What the host knows before each step (steps, scalars), in the order of the plan.

    `numbers` has by name one for all steps, or one for each; those that follow from the number of rows the plan has.
    """
    known, values = {**numbers, **plan.sizes(rows)}, np.empty((steps, len(plan.scalars)))
    for i, name in enumerate(plan.scalars):
        values[:, i] = known[name]
    return values


class Plans:
    """The plans of one function for batches of many shapes: as few as may be where a plan serves any number of rows.

    Parameters
    ----------
    backend : Serving
    shared : bool
        Whether the steps of programs may be shared among threads.
    """

    def __init__(self, backend: Serving, shared: bool):
        self._backend, self._shared = backend, shared
        self._any_rows = backend.serves_any_rows()
        self._exact: Recent[Any, tuple[Plan | None]] = Recent(MOST_PLANS)  # by shapes
        self._special: Recent[Any, tuple[Plan | None]] = Recent(MOST_PLANS)  # by the rows of the batch and kind
        self._general: Recent[tuple[int, Any], Plan] = Recent(MOST_PLANS)  # by the rows of the first and kind

    def values(self) -> list[Plan | None]:
        """The different plans that are kept, with None where there could be none."""
        kept = [*self._general.values(), *(plan for (plan,) in (*self._special.values(), *self._exact.values()))]
        return list({id(plan): plan for plan in kept}.values())

    def find(self, rows: int, arrays: tuple[Any, ...], make: Callable[..., Plan | None], *others: Any) -> Plan | None:
        """The plan for arrays of so many rows, `make(arrays, *others)` where there is none yet.

        It is None if there can be none, as arrays are that are not there.
        """
        shapes = tuple([None if a is None else (a.shape, a.dtype.char) for a in arrays])
        entry = self._exact.find(shapes)
        if entry is None:
            new = partial(make, arrays, *others)
            entry = self._exact.add(shapes, (self._of_any_rows(rows, shapes, new) if self._any_rows else new(),))
        return entry[0]

    def _of_any_rows(self, rows: int, shapes: tuple[Any, ...], make: Callable[[], Plan | None]) -> Plan | None:
        """A plan that was made for another number of rows, of the batch or of the data, or a new one."""
        kind = tuple(None if entry is None else (entry[0][1:], entry[1]) for entry in shapes)
        for its_kind, known in self._general.items():
            if its_kind[1] == kind and known.serves(rows):
                return known
        entry = self._special.find((rows, kind))
        if entry is not None:
            return entry[0]
        plan = make()
        if plan is None or not plan.serves(rows):
            return self._special.add((rows, kind), (plan,))[0]
        plan.together = self._backend.rows_together(plan, self._shared)
        return self._general.add((rows, kind), plan)


class Programs:
    """Programs by key. Where they are too many, or hold too much memory together, the oldest go.

    A program may be None: what cannot be planned is not tried again.
    """

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[Any, int]] = {}
        self._bytes = 0

    def __contains__(self, key: Any) -> bool:
        return key in self._kept

    def __getitem__(self, key: Any) -> Any:
        return self._kept[key][0]

    def __len__(self) -> int:
        return len(self._kept)

    def values(self) -> Iterator[Any]:
        """The programs, the oldest first."""
        return (program for program, _ in self._kept.values())

    def add(self, key: Any, program: Any) -> None:
        """Keep a program; the oldest go where there are too many or they hold too much."""
        size = 0 if program is None else sum(program.arrays[name].nbytes for name in ("work", "held"))
        self._kept[key] = program, size
        self._bytes += size
        while len(self._kept) > 2 and (self._bytes > MOST_BYTES or len(self._kept) > MOST):
            self._bytes -= self._kept.pop(next(iter(self._kept)))[1]

    def clear(self) -> None:
        """Let go of everything."""
        self._kept.clear()
        self._bytes = 0

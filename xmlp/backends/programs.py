"""Programs that are kept for the next time, by what they were made for."""

from collections.abc import Iterator
from typing import Any

MOST_BYTES = 1 << 26  # that programs hold together; the two latest stay whatever they hold
MOST = 16


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
        size = 0 if program is None else program.plan.work_bytes + program.plan.held_bytes
        self._kept[key] = program, size
        self._bytes += size
        while len(self._kept) > 2 and (self._bytes > MOST_BYTES or len(self._kept) > MOST):
            self._bytes -= self._kept.pop(next(iter(self._kept)))[1]

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0

"""Rows of host data on the device, each batch copied while the one before is computed with.

Two slots take turns. A slot is a pinned buffer on the host and one on the device; both are overwritten again and again,
and two events say when that is safe: `copied`, after the copy from one to the other, and `used`, after the last work on
the device that reads it. Every access to a buffer is ordered after the one before:

    the host fills the pinned buffer       after copied, for which the host waits
    the copy reads it, writes the other    after used, for which the copying stream waits
    the step reads that                    after copied, for which the computing stream waits
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from xmlp.host.arrays import spans
from xmlp.types import Array, HostArray

Host = Sequence[HostArray | None]


class Event(Protocol):
    """A point in a stream."""

    def record(self, stream: Any) -> None:
        """Mark the place that a stream has reached."""

    def synchronize(self) -> None:
        """Wait on the host until all before the recorded point is done; at once if nothing was recorded."""


class Slot(Protocol):
    """Room for one batch, pinned and on the device."""

    copied: Event
    used: Event

    def fill(self, arrays: Host, rows: HostArray) -> None:
        """Gather rows into the pinned buffer."""

    def upload(self, stream: Any) -> None:
        """Have `stream` copy the pinned buffer to the device."""

    @property
    def arrays(self) -> tuple[Array | None, ...]:
        """The batch on the device."""


class Lanes(Protocol):
    """Two streams of one device; `wait_event` of a stream orders what follows after an event."""

    copying: Any
    computing: Any

    def slot(self, arrays: Host, size: int) -> Slot:
        """Memory on the device for one batch of these arrays."""


def ahead(
    arrays: Host, order: HostArray, size: int, lanes: Lanes, least: int = 1
) -> Iterator[tuple[Array | None, ...]]:
    """Batches of rows in the given order. A batch is valid until the next is asked for."""
    slots = [lanes.slot(arrays, size + least - 1) for _ in range(2)]
    for slot in slots:
        slot.used.record(lanes.computing)  # whoever had this memory before
    batches = [order[start:stop] for start, stop in spans(len(order), size, least)]
    try:
        for number in range(len(batches) + 1):
            if number < len(batches):
                _send(slots[number % 2], arrays, batches[number], lanes)
            if number > 0:
                slot = slots[(number - 1) % 2]
                lanes.computing.wait_event(slot.copied)
                yield slot.arrays
                slot.used.record(lanes.computing)
    finally:
        for slot in slots:  # before the buffers are anybody else's
            slot.copied.synchronize()


def _send(slot: Slot, arrays: Host, rows: HostArray, lanes: Lanes) -> None:
    slot.copied.synchronize()
    slot.fill(arrays, rows)
    lanes.copying.wait_event(slot.used)
    slot.upload(lanes.copying)
    slot.copied.record(lanes.copying)

"""Snapshots of each worker's metrics, in memory that gunicorn's processes share.

gunicorn's master imports this module, and its workers inherit the memory. A file could be deleted, or its disk be full.
"""

import mmap
import struct
import zlib
from collections.abc import Iterable

WORKERS = 128  # at the same time; during a reload the old ones count too
SIZE = 128 * 1024  # bytes of a snapshot with its header; the system provides memory only for what is written
HEADER = struct.Struct("=QII")  # the snapshot's number, its length and its checksum
MEMORY = mmap.mmap(-1, WORKERS * (1 + 2 * SIZE))  # for each worker whether it lives, then two snapshots of each


class NotKept(Exception):
    """There is no memory for the snapshot of a worker."""


class Slot:
    """One worker's part of the memory. Its last two snapshots are kept, as a worker can be killed while it writes."""

    def __init__(self, number: int) -> None:
        self._number = number

    @property
    def is_live(self) -> bool:
        """Tell whether the worker that wrote the snapshot still runs."""
        return bool(MEMORY[self._number])

    def release(self) -> None:
        """Note that the worker has ended. Its snapshot stays, and the next worker continues it."""
        MEMORY[self._number] = 0

    def write(self, snapshot: bytes) -> None:
        """Replace the older snapshot. Raises NotKept if the new one is too long."""
        if len(snapshot) > SIZE - HEADER.size:
            raise NotKept("The metrics do not fit into a worker's memory")
        number = self._newest()[0] + 1
        start = self._start(number)
        content = start + HEADER.size
        MEMORY[content : content + len(snapshot)] = snapshot
        MEMORY[start:content] = HEADER.pack(number, len(snapshot), zlib.crc32(snapshot))
        MEMORY[self._number] = 1

    def read(self) -> bytes:
        """Return the newest snapshot, empty if there is none."""
        return self._newest()[1]

    def _newest(self) -> tuple[int, bytes]:
        """Return the newest snapshot and its number; the first one has number 1."""
        while True:
            found = [self._snapshot(0), self._snapshot(1)]
            if complete := [snapshot for snapshot in found if snapshot]:  # else the worker replaces them right now
                return max(complete)

    def _snapshot(self, number: int) -> tuple[int, bytes] | None:
        """Return one of the snapshots and its number, or None if it is incomplete."""
        start = self._start(number)
        content = start + HEADER.size
        found, length, checksum = HEADER.unpack(MEMORY[start:content])
        snapshot = MEMORY[content : content + length]
        return (found, snapshot) if zlib.crc32(snapshot) == checksum else None

    def _start(self, number: int) -> int:
        return WORKERS + (2 * self._number + number % 2) * SIZE


SLOTS = [Slot(number) for number in range(WORKERS)]


def free_slot(taken: Iterable[Slot | None]) -> Slot | None:
    """Return the first slot that no worker has. Without reuse, slots would run out and counts be lost."""
    used = set(taken)
    return next((slot for slot in SLOTS if slot not in used), None)

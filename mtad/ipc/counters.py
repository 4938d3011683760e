"""Numbers that a worker counts and the supervisor reads, in memory that both share.

Counting costs a worker one store, reading costs no message, and what a worker counted survives
its death. One writer, one reader: no lock.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

from mtad.ipc import memory

SLOTS = 131_072
"""How many listeners there can be at once; untouched pages take no memory."""

_FIELDS = 4
_SIZE = SLOTS * _FIELDS * 8
_ACTIVE, _SESSIONS, _MESSAGES, _OCTETS = range(_FIELDS)


class Counts(NamedTuple):
    """Sessions open now, sessions ever, messages accepted, and their octets."""

    active: int = 0
    sessions: int = 0
    messages: int = 0
    octets: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sums, field by field."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


def create() -> int:
    """Return a descriptor of new shared memory, all zero."""
    return memory.create("mtad-counters", _SIZE)


class Counters:
    """The rows of one worker, one for each listener's slot."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, _SIZE)
        self._cells = memoryview(self._map).cast("Q")

    def session_opened(self, slot: int) -> None:
        """Count a session that begins on the listener of ``slot``."""
        self._cells[slot * _FIELDS + _ACTIVE] += 1
        self._cells[slot * _FIELDS + _SESSIONS] += 1

    def session_closed(self, slot: int) -> None:
        """Count a session that ends."""
        self._cells[slot * _FIELDS + _ACTIVE] -= 1

    def message_accepted(self, slot: int, octets: int) -> None:
        """Count a message that was answered 250."""
        self._cells[slot * _FIELDS + _MESSAGES] += 1
        self._cells[slot * _FIELDS + _OCTETS] += octets

    def read(self, slot: int) -> Counts:
        """Return what the row says now."""
        start = slot * _FIELDS
        return Counts(*self._cells[start : start + _FIELDS])

    def close(self) -> None:
        """Unmap the memory."""
        self._cells.release()
        self._map.close()

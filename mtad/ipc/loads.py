"""How many sessions each worker has now, in memory that all workers share.

A worker that has more than another leaves new connections to the other for a moment. Every worker
can write every number: what is read here is a hint, and may delay a connection, nothing else.
"""

from __future__ import annotations

import mmap
import os

from mtad.ipc import memory

CELLS = 512
"""The first says how many of the others are in use; they are 0, or 1 and a worker's sessions."""

_SIZE = CELLS * 8


class Loads:
    """The cells, as the supervisor gives them to workers and takes them back."""

    def __init__(self) -> None:
        self.descriptor = memory.create("mtad-loads", _SIZE)
        self._map, self._cells = _mapped(self.descriptor)
        self._taken: set[int] = set()

    def take(self) -> int:
        """Return a cell for a new worker; 0, which is none, if there are no more."""
        cell = next((cell for cell in range(1, CELLS) if cell not in self._taken), 0)
        if cell:
            self._taken.add(cell)
            self._cells[0] = max(self._taken)
        return cell

    def free(self, cell: int) -> None:
        """Take back the cell of a worker that is gone."""
        self._taken.discard(cell)
        self._cells[cell] = 0
        self._cells[0] = max(self._taken, default=0)

    def close(self) -> None:
        """Unmap and close the memory."""
        self._cells.release()
        self._map.close()
        os.close(self.descriptor)


class Load:
    """A worker's own number, and how it compares with the others'."""

    def __init__(self, descriptor: int, cell: int) -> None:
        self._map, self._cells = _mapped(descriptor)
        self._cell = cell
        self._sessions = 0

    def change(self, sessions: int) -> None:
        """Count so many sessions more; the first time, even of 0, the others know of it."""
        self._sessions += sessions
        if self._cell:
            self._cells[self._cell] = self._sessions + 1

    def is_ahead(self) -> bool:
        """Whether another worker has fewer: by more than one, and more than an eighth."""
        cells = self._cells
        used = cells[0]
        if used < 2:
            return False
        serving = filter(None, cells[1 : used + 1].tolist())
        fewest = min(serving, default=self._sessions + 1) - 1
        return self._sessions > fewest + 1 + fewest // 8

    def close(self) -> None:
        """Unmap the memory."""
        self._cells.release()
        self._map.close()


def _mapped(descriptor: int) -> tuple[mmap.mmap, memoryview[int]]:
    mapped = mmap.mmap(descriptor, _SIZE)
    return mapped, memoryview(mapped).cast("Q")

"""How far those who wait for mail have looked: what they have not seen is not pruned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mtad.archive.conditions import MAX_ID


@dataclass(slots=True, eq=False)
class Watch:
    """One who waits, and has ``seen`` everything up to that id."""

    seen: int


class Watches:
    """All who wait now."""

    def __init__(self) -> None:
        self._open: list[Watch] = []

    @contextmanager
    def begun(self, seen: int) -> Iterator[Watch]:
        """Have everything above the id ``seen`` kept, as long as the watch has not seen more."""
        watch = Watch(seen)
        self._open.append(watch)
        try:
            yield watch
        finally:
            self._open.remove(watch)

    def __len__(self) -> int:
        return len(self._open)

    def seen(self) -> int:
        """Return the id up to which all of them have looked; any thread may ask."""
        return min((watch.seen for watch in tuple(self._open)), default=MAX_ID)

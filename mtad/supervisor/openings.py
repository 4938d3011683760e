"""Which workers have which opening of a listener, from its bind to the end of its last session."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mtad.supervisor.listener import Listener, opening_of


@dataclass(slots=True)
class _Held:
    """``holders`` are the workers that may have sessions of it, ``takers`` those that take more."""

    listener: Listener
    holders: set[int] = field(default_factory=set)
    takers: set[int] = field(default_factory=set)

    def is_current(self, opening: int) -> bool:
        current = self.listener.opening
        return current is not None and current.id == opening


class Openings:
    """All openings of which some worker may have sessions, or get some, by number."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}
        self._serial = itertools.count(1)

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._held))

    def begin(self, listener: Listener) -> None:
        """Give a listener an opening, which nobody has yet."""
        listener.opening = opening_of(next(self._serial), listener)
        self._held[listener.opening.id] = _Held(listener)

    def end(self, listener: Listener) -> int | None:
        """End the opening that a listener has, for whoever comes; return its number."""
        if listener.opening is None:
            return None
        opening, listener.opening = listener.opening.id, None
        listener.refused_by.clear()
        listener.ending.add(opening)
        return opening

    def give(self, opening: int, workers: Iterable[int]) -> None:
        """Note that ``workers`` get it."""
        self._held[opening].holders.update(workers)
        self._held[opening].takers.update(workers)

    def holders(self, openings: Iterable[int]) -> set[int]:
        """Return the workers that may have sessions of any of these."""
        return {worker for opening in openings for worker in self._held[opening].holders}

    def listener(self, opening: int, worker: int | None = None) -> Listener | None:
        """Return whose it is; None if it has ended, or if ``worker`` never had it."""
        held = self._held.get(opening)
        if held is None or (worker is not None and worker not in held.holders):
            return None
        return held.listener

    def taken(self, opening: int, worker: int) -> Listener | None:
        """Return whose it is, if ``worker`` may take connections on it; else None."""
        held = self._held.get(opening)
        return held.listener if held is not None and worker in held.takers else None

    def is_current(self, opening: int) -> bool:
        """Whether the listener is open, by this opening."""
        held = self._held.get(opening)
        return held is not None and held.is_current(opening)

    def refuse(self, opening: int, worker: int) -> bool:
        """Note that ``worker`` takes no more; return whether none does, though it is open."""
        held = self._held[opening]
        held.takers.discard(worker)
        return not held.takers and held.is_current(opening)

    def let_go(self, opening: int, workers: Iterable[int]) -> Listener | None:
        """Note that ``workers`` have no sessions left; return whose it was if it has ended by that.

        It has when no worker has any, and it is open to nobody.
        """
        held = self._held.get(opening)
        if held is None:
            return None
        held.holders.difference_update(workers)
        held.takers.difference_update(workers)
        listener = held.listener
        if held.holders or opening not in listener.ending:
            return None
        del self._held[opening]
        listener.ending.discard(opening)
        listener.retired.discard(opening)
        return listener

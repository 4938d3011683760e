"""Who may begin a session: limits that hold for all workers together are counted here.

A worker can take tickets and keep them, and so use up a listener's sessions, as it could by keeping
connections. It cannot give back, or count as, another worker's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TypeVar

from mtad.model.profile import Limits

K = TypeVar("K")

MAX_TICKETS = 65_536
"""How many one worker can have, whatever it says."""


class Admissions:
    """The tickets that the workers have, one for each session of a listener that has limits.

    ``limits`` returns the name and the limits of the listener that an opening is of, or None for
    an opening that there is not. A listener's sessions count by its name: those of an opening
    that is being closed too. Peers are opaque texts.
    """

    def __init__(self, limits: Callable[[int], tuple[str, Limits] | None]) -> None:
        self._limits = limits
        self._tickets: defaultdict[int, dict[int, tuple[str, str]]] = defaultdict(dict)
        self._sessions: Counter[str] = Counter()
        self._of_peer: Counter[tuple[str, str]] = Counter()

    def admit(self, worker: int, ticket: int, opening: int, peer: str) -> str:
        """Let a session begin, and return ""; or return the limit that is in the way."""
        found, tickets = self._limits(opening), self._tickets[worker]
        if found is None or ticket in tickets or len(tickets) >= MAX_TICKETS:
            return "sessions"
        name, limits = found
        if 0 < limits.sessions <= self._sessions[name]:
            return "sessions"
        if 0 < limits.sessions_per_peer <= self._of_peer[name, peer]:
            return "sessions_per_peer"
        tickets[ticket] = (name, peer)
        self._sessions[name] += 1
        self._of_peer[name, peer] += 1
        return ""

    def leave(self, worker: int, ticket: int) -> None:
        """Take a ticket back; one that the worker does not have is nothing."""
        if held := self._tickets[worker].pop(ticket, None):
            _less(self._sessions, held[0])
            _less(self._of_peer, held)

    def forget(self, worker: int) -> None:
        """Take all tickets of a worker back: it is gone, and its sessions with it."""
        for ticket in list(self._tickets[worker]):
            self.leave(worker, ticket)
        del self._tickets[worker]


def _less(counts: Counter[K], key: K) -> None:
    """Count one less, and remember nothing of what there is none of."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]

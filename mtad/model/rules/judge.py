"""Whom a session asks what only the supervisor can say: what counts across all workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

Answer = Callable[[str, float], None]


class Asked(NamedTuple):
    """A rule that may fire: its name, its key (matching.key), and the size of the message or 0."""

    rule: str
    key: bytes
    octets: int


class Judge(Protocol):
    """The judge of the sessions of one listener."""

    def weigh(self, hits: Sequence[Asked], answer: Answer) -> None:
        """Ask which of ``hits`` fires, the first of them, in the order of the rules.

        ``answer`` is called once, later, with the name of the rule ("" for none) and what was
        drawn, a number in [0, 1); also when the session has ended meanwhile.
        """

    def fired(self, rule: str) -> None:
        """Tell that a rule has fired about which nobody had to be asked."""

    def tell(self) -> None:
        """Pass on now what has fired: the client is about to see it, and may ask for the counts."""

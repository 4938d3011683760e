"""A scenario: what a listener does at which time, and what is expected of senders meanwhile."""

from __future__ import annotations

import msgspec

from mtad.model.deliveries.expected import Expected
from mtad.model.rules.values import Rule


class Step(msgspec.Struct, frozen=True):
    """What is done ``at`` so many seconds after the beginning, in the order of the fields.

    ``rules`` take the place of those that the scenario has; None: they stay. Listeners are then
    opened and closed.
    """

    at: float
    rules: tuple[Rule, ...] | None = None
    open: tuple[str, ...] = ()
    close: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What it does, for people."""
        names = ", ".join(rule.name for rule in self.rules or ())
        parts = [f"rules: {names or 'none'}"] if self.rules is not None else []
        parts += [f"open {name}" for name in self.open]
        return "; ".join([*parts, *(f"close {name}" for name in self.close)])


class Scenario(msgspec.Struct, frozen=True):
    """A scenario, as its file says.

    ``listener`` is the one whose senders are looked at; "": all. It lasts ``end`` seconds, or
    until all that is expected has arrived, each sender knows so, and nothing has happened for
    ``settle`` seconds.
    """

    name: str
    steps: tuple[Step, ...]
    end: float
    settle: float
    expect: Expected
    listener: str = ""

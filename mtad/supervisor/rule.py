"""One fault rule as it is now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from msgspec.structs import replace

from mtad.model.rules.values import Rule


class Standing(StrEnum):
    """Whether a rule is asked, or why not."""

    ON = "on"
    DISABLED = "disabled"
    SPENT = "spent"
    EXPIRED = "expired"


@dataclass(slots=True, eq=False)
class Kept:
    """A rule as it is now, which may be changed and disabled; ``written`` is what its file says.

    ``made`` is when, in seconds since the epoch, it was made or reset, ``by`` who made it.
    """

    rule: Rule
    by: str
    made: float
    written: Rule | None = None
    expired: bool = False
    timer: asyncio.TimerHandle | None = None
    seen: int = 0
    idle_since: float = 0.0

    @property
    def asked(self) -> Rule:
        """The rule as the ledger and workers have it."""
        return replace(self.rule, enabled=False) if self.expired else self.rule


def says_the_same(one: Rule, other: Rule) -> bool:
    """Whether two rules differ in nothing but whether they are enabled."""
    return replace(as_written(one), enabled=True) == replace(as_written(other), enabled=True)


def as_written(rule: Rule) -> Rule:
    """Return a rule without a seed that it did not say."""
    return replace(rule, when=replace(rule.when, seed=0)) if rule.when.drawn else rule

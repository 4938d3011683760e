"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad it is. UNKNOWN: the check could not look."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, why it matters, and remedies: commands to type or lines to write."""

    level: Level
    found: str
    why: str = ""
    remedies: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "level": self.level.value,
            "found": self.found,
            "why": self.why,
            "remedies": list(self.remedies),
        }


def ok(found: str) -> Finding:
    """Return a finding that needs no remedy."""
    return Finding(Level.OK, found)


def warning(found: str, why: str, *remedies: str) -> Finding:
    """Return a finding that a start survives."""
    return Finding(Level.WARNING, found, why, remedies)


def problem(found: str, why: str, *remedies: str) -> Finding:
    """Return a finding that makes a start fail, or keeps a listener closed."""
    return Finding(Level.PROBLEM, found, why, remedies)


class CannotLookError(Exception):
    """A check cannot look; ``remedy`` is what would let it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

"""What a configuration file says, as plain data, with the line of every key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtad.errors import Problem
from mtad.log import printable

MAX_PROBLEMS = 100

REDACTED = "********"
"""What is shown of a password."""

KeyPath = tuple[str | int, ...]


@dataclass
class Document:
    """What a file says.

    ``lines`` has the line of every key, counted from 1; ``flawed`` the keys that are not in
    ``data``, or not as they were written, because of a problem that has been reported.
    """

    file: Path
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    flawed: set[KeyPath] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def report(self, line: int, path: KeyPath, reason: str, help: str = "") -> None:  # noqa: A002
        """Add a problem at ``line`` (0: the file as a whole)."""
        self.problems.append(Problem(self.file, line, key_text(path), reason, help))

    def keys(self, stanza: str) -> list[str]:
        """Return the keys of the mapping ``stanza``, sound or not."""
        return [str(path[1]) for path in self.lines if path[:1] == (stanza,) and len(path) == 2]

    def in_order(self) -> list[Problem]:
        """Return the problems by line, the first hundred."""
        problems = sorted(self.problems, key=lambda problem: problem.line)
        if len(problems) < MAX_PROBLEMS:
            return problems
        more = Problem(self.file, 0, "", f"only the first {MAX_PROBLEMS} problems are shown")
        return [*problems[:MAX_PROBLEMS], more]

    def line(self, path: KeyPath) -> int:
        """Return the line of the key ``path``, or of the nearest key above it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)


def key_text(path: KeyPath) -> str:
    """Return ``a.b[0]`` for ``("a", "b", 0)``, safe to print."""
    if path[:1] == ("profiles",) and path[2:3] == ("auth",):
        # "{alice:secret}", where a space is missing, is a key without a value.
        path = (*path[:3], *(p if isinstance(p, int) else p.partition(":")[0] for p in path[3:]))
    parts = (f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def may_hold_secrets(path: KeyPath) -> bool:
    """Whether the value at ``path`` has passwords, or stands where a mapping with them should."""
    return path[:1] == ("profiles",) and path[2:] in (("auth",), ("auth", "users"))

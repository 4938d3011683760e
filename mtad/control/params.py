"""What a parameter of a command is: how it is written, and which values it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from mtad.model import ids

MAX_SECONDS = 31 * 86_400
"""A month: a longer wait is a slip of the pen, and timers have their limits."""

MAX_COUNT = 2**31 - 1

LATEST = "latest"
"""Instead of an id: the newest there is."""


@dataclass(frozen=True, slots=True)
class Type:
    """What a value is. ``parse`` reads it from a word (ValueError), ``accepts`` tests it."""

    metavar: str
    what: str
    parse: Callable[[str], Any]
    accepts: Callable[[Any], bool]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_id(value: object) -> bool:
    if value == LATEST:
        return True
    try:
        ids.decode(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


TYPES: dict[str, Type] = {
    "text": Type("TEXT", "text without a NUL", str, _is_text),
    "path": Type("FILE", "the path of a file", str, _is_text),
    "count": Type(
        "NUMBER",
        f"a whole number from 1 to {MAX_COUNT}",
        int,
        lambda value: type(value) is int and 1 <= value <= MAX_COUNT,
    ),
    "seconds": Type(
        "SECONDS",
        f"a number of seconds from 0 to {MAX_SECONDS}",
        float,
        lambda value: _is_number(value) and 0 <= value <= MAX_SECONDS,
    ),
    "size": Type(
        "OCTETS",
        f"a whole number from 0 to {MAX_COUNT}",
        int,
        lambda value: type(value) is int and 0 <= value <= MAX_COUNT,
    ),
    "id": Type("ID", f"an id, 13 letters and digits, or {LATEST}", str, _is_id),
    "switch": Type("", "true or false", str, lambda value: isinstance(value, bool)),
}


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a command.

    An ``argument`` goes by position, an ``option`` is ``--name VALUE``, a ``flag`` is ``--name``
    (``--no-name`` as well when its default is True); a ``_`` in its name is written ``-``.
    ``implied`` is the value of an option that is given without one. ``repeated`` makes the value
    a list.
    """

    name: str
    help: str
    kind: Literal["argument", "option", "flag"] = "option"
    type: Literal["text", "path", "count", "seconds", "size", "id", "switch"] = "text"
    choices: tuple[str, ...] = ()
    metavar: str = ""
    required: bool = False
    repeated: bool = False
    default: Any = None
    implied: Any = None

    @property
    def placeholder(self) -> str:
        """How the value is called in a usage line."""
        return self.metavar or "|".join(self.choices) or TYPES[self.type].metavar

    @property
    def spelled(self) -> str:
        """The option or flag as it is written: ``--for-run``."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def usage(self) -> str:
        """The parameter in a usage line: ``[--drain SECONDS]``."""
        if self.kind == "argument":
            text = f"{self.placeholder}…" if self.repeated else self.placeholder
        elif self.kind == "flag":
            text = f"--no-{self.name}" if self.default else self.spelled
        elif self.implied is not None:
            text = f"{self.spelled} [{self.placeholder}]"
        else:
            text = f"{self.spelled} {self.placeholder}"
        return text if self.required else f"[{text}]"


def argument(name: str, help: str, **more: Any) -> Param:  # noqa: A002 (the field's word)
    """Return a parameter that goes by position."""
    return Param(name, help, "argument", **more)


def option(name: str, help: str, **more: Any) -> Param:  # noqa: A002
    """Return a parameter that goes as ``--name VALUE``."""
    return Param(name, help, "option", **more)


def flag(name: str, help: str, default: bool = False) -> Param:  # noqa: A002
    """Return a parameter that goes as ``--name``."""
    return Param(name, help, "flag", "switch", default=default)


def brief(value: object) -> str:
    """Return ``value`` for an error message, cut when it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"

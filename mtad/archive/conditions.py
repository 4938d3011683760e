"""The conditions that a query is made of."""

from __future__ import annotations

from dataclasses import dataclass

MAX_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text with stars in it, which stand for any text: what is between these.

    ``("a",)`` is ``a`` alone; ``("a", "")`` is ``a*``.
    """

    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole, stars and all."""
        return "*".join(self.pieces)

    @property
    def plain(self) -> bool:
        """Whether there is no star in it."""
        return len(self.pieces) == 1

    @property
    def anything(self) -> bool:
        """Whether it is stars alone."""
        return not self.plain and not any(self.pieces)


@dataclass(frozen=True, slots=True)
class Words:
    """Words of the ``subject``, the ``text``, or ("") anywhere that people read."""

    column: str
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Address:
    """An address of the message (``from``, ``to``, ``cc``) or the envelope (``sender``, ``rcpt``).

    Without an @: its domain, its local part, or words of the name that goes with it.
    """

    field: str
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Value:
    """What a message has one or few of, such as its ``listener``."""

    field: str
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Header:
    """A header field ``name``, in lower case, whose value has ``pattern`` in it."""

    name: str
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Has:
    """Whether there is a ``what`` at all; one of HAS."""

    what: str


@dataclass(frozen=True, slots=True)
class Size:
    """Octets of the content, from ``low`` to ``high``; None is no bound."""

    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class Id:
    """One message."""

    number: int


@dataclass(frozen=True, slots=True)
class Time:
    """Whether a message was kept ``after`` or before an instant, or another message.

    ``ago`` counts it in nanoseconds before now; otherwise ``number`` is in nanoseconds since the
    epoch, or an id, ``exclusive`` of that message itself.
    """

    after: bool
    number: int
    ago: bool = False
    exclusive: bool = False


Leaf = Words | Address | Value | Header | Has | Size | Id | Time

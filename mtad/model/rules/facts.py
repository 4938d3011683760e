"""What is known of a session when a rule is asked: what ``where`` and ``per`` look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Facts:
    """None is what is not known yet; "" is what is known to be nothing (the null sender).

    ``peer`` is an IP address, or "unix"; ``recipients`` are those that a condition may match: that
    of RCPT alone, later all of the message. ``size`` is in octets. ``header`` has the values of the
    fields of a message by their names in lower case, once its content is complete. ``runs`` are
    the tags that what is known so far would give a message. ``profile`` is the name of the
    listener's.
    """

    listener: str
    peer: str
    helo: str | None = None
    tls: bool = False
    user: str | None = None
    sender: str | None = None
    recipients: Sequence[str] = ()
    size: int | None = None
    header: Mapping[str, Sequence[str]] = field(default_factory=dict)
    runs: frozenset[str] = frozenset()
    profile: str = ""

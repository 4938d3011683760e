"""How often a message has been sent on already: nothing that goes in circles goes on for ever.

Nothing is added to a message, so that the count is in the name of EHLO: ``mtad-relay-2.HOST`` says
that it is the second mtad which sends the message on. A session's name is kept with what it brings.
What is no mtad puts a Received field on top (RFC 5321 section 4.4): these are counted, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mtad.archive.mime import Field

MOST_RELAYS = 5
"""So many times a message is sent on by any mtad."""

MOST_RECEIVED = 50
"""With so many Received fields a message goes in circles; as Postfix's hopcount_limit."""

_NAME = re.compile(r"mtad-relay-([0-9]{1,6})\.", re.IGNORECASE)
_NO_NAME = re.compile(r"[^A-Za-z0-9.-]+")


def relays(helo: str) -> int:
    """Return how often what a client of the name ``helo`` brings has been sent on by an mtad."""
    match = _NAME.match(helo)
    return int(match[1]) if match else 0


def name_of(helo: str, host: str) -> str:
    """Return the name for EHLO with which to send on what came from ``helo``, from ``host``."""
    return f"mtad-relay-{relays(helo) + 1}.{host_name(host)}"


def host_name(host: str) -> str:
    """Return ``host`` as a name may stand in EHLO and in a report."""
    labels = (label[:63].strip("-") for label in _NO_NAME.sub("-", host)[:200].split("."))
    return ".".join(filter(None, labels)) or "localhost"


def fault(helo: str, fields: Iterable[Field]) -> str:
    """Return why a message is not to be sent on; "": it may be."""
    times = relays(helo)
    if times >= MOST_RELAYS:
        return f"it goes in circles: mtad has sent it on {times} times already"
    received = sum(name.lower() == b"received" for name, _ in fields)
    if received >= MOST_RECEIVED:
        return f"it goes in circles: it has {received} Received fields"
    return ""

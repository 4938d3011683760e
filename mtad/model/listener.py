"""A listener's life: its states, what may happen to it, and what follows.

::

    stopped ──start──► starting ──served──► running ──stop──► draining ──drained──► stopped
                          │                  │                   │
                          │                  └──refused──►┐      └──start──► starting
                          │                               ▼
                          └──bind_failed, refused──────► failed
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from mtad.model.endpoint import Endpoint, UnixEndpoint
from mtad.model.profile import Profile, Switch


class State(StrEnum):
    """Where a listener is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    FAILED = "failed"


class Happening(StrEnum):
    """What can happen to a listener."""

    START = "start"
    BIND_FAILED = "bind_failed"
    SERVED = "served"
    """A worker takes connections on what was bound."""
    REFUSED = "refused"
    """No worker can serve what was bound."""
    STOP = "stop"
    DRAINED = "drained"


class Protocol(StrEnum):
    """What is spoken on a listener: SMTP (RFC 5321), LMTP (RFC 2033), SMTP in TLS (RFC 8314)."""

    SMTP = "smtp"
    LMTP = "lmtp"
    SMTPS = "smtps"


TRANSITIONS: dict[tuple[State, Happening], State] = {
    (State.STOPPED, Happening.START): State.STARTING,
    (State.FAILED, Happening.START): State.STARTING,
    (State.DRAINING, Happening.START): State.STARTING,
    (State.STARTING, Happening.SERVED): State.RUNNING,
    (State.STARTING, Happening.BIND_FAILED): State.FAILED,
    (State.STARTING, Happening.REFUSED): State.FAILED,
    (State.STARTING, Happening.STOP): State.DRAINING,
    (State.RUNNING, Happening.REFUSED): State.FAILED,
    (State.RUNNING, Happening.STOP): State.DRAINING,
    # Sessions of an earlier opening may be there still.
    (State.FAILED, Happening.STOP): State.DRAINING,
    (State.DRAINING, Happening.DRAINED): State.STOPPED,
    # Start, stop and restart are idempotent; the last sessions of an earlier opening may end at
    # any time, and change nothing for a listener that is open again.
    (State.STARTING, Happening.START): State.STARTING,
    (State.RUNNING, Happening.START): State.RUNNING,
    (State.RUNNING, Happening.SERVED): State.RUNNING,
    (State.STOPPED, Happening.STOP): State.STOPPED,
    (State.DRAINING, Happening.STOP): State.DRAINING,
    (State.STARTING, Happening.DRAINED): State.STARTING,
    (State.RUNNING, Happening.DRAINED): State.RUNNING,
    (State.FAILED, Happening.DRAINED): State.FAILED,
    (State.STOPPED, Happening.DRAINED): State.STOPPED,
}


def after(state: State, happening: Happening) -> State:
    """Return the state that follows; KeyError for what cannot happen in ``state``."""
    return TRANSITIONS[state, happening]


class Origin(StrEnum):
    """Where a listener came from: the configuration, or ``listener add``."""

    FILE = "file"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """What a listener is to be. ``(name, endpoint)`` is its identity across reloads.

    ``group`` is the name in the configuration; a range makes several listeners of one group.
    ``backlog`` is in connections (listen(2)).
    """

    name: str
    group: str
    endpoint: Endpoint
    protocol: Protocol = Protocol.SMTP
    profile_name: str = "default"
    profile: Profile = field(default_factory=Profile)
    backlog: int = 500
    enabled: bool = True
    origin: Origin = Origin.FILE


def misfit(protocol: Protocol, profile_name: str, profile: Profile) -> str:
    """Return why a listener of ``protocol`` cannot have the profile; "" if it can."""
    if protocol is Protocol.SMTPS and not profile.tls.key_pairs:
        return f"smtps is SMTP in TLS, and the profile {profile_name!r} has tls: off"
    starttls = profile.extensions.get("STARTTLS", Switch.ON)
    if protocol is not Protocol.SMTPS and profile.tls.required and starttls is Switch.OFF:
        return f"the profile {profile_name!r} has tls.required, and STARTTLS off"
    return ""


def member_name(group: str, endpoint: Endpoint, members: int) -> str:
    """Return the name of a listener of ``group``: its own, or with the address in a range."""
    if members == 1 or isinstance(endpoint, UnixEndpoint):
        return group
    return f"{group}/{endpoint.host}"

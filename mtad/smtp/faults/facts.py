"""What a session knows, as rules ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from mtad.model.rules.facts import Facts
from mtad.model.runs import run_of
from mtad.smtp.client import Client
from mtad.smtp.session import Session

_NOBODY: frozenset[str] = frozenset()
NO_FIELDS: Mapping[str, Sequence[str]] = {}
"""The header of a message that has not come."""


def facts_of(
    session: Session, *, helo: str | None = None, user: str | None = None, sender: str | None = None
) -> Facts:
    """Return what is known; what is given is known by the command that is about to be answered."""
    client, envelope = _client(session), session.envelope
    if client is not None:
        helo = helo or client.host_name
        if user is None and client.authenticated:
            user = session.user
    recipients: Sequence[str] = ()
    size = None
    if envelope is not None:
        if sender is None:
            sender = envelope.mail_from
        recipients, size = envelope.rcpt_tos, envelope.parameters.size
    peer = _peer(session.client_address)
    is_secure = session.connection.tls is not None
    name = session.service.name
    return Facts(name, peer, helo, is_secure, user, sender, recipients, size, NO_FIELDS)


def run_of_facts(rules: Sequence[str], facts: Facts) -> frozenset[str]:
    """Return the tag that a profile's rules would give a message of which so much is known."""
    tag = run_of(
        rules,
        listener=facts.listener,
        user=facts.user or "",
        recipients=facts.recipients,
        field=lambda name: next(iter(facts.header.get(name.lower(), ())), ""),
    )
    return frozenset({tag}) if tag else _NOBODY


@lru_cache(maxsize=256)
def _peer(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) else "unix"


def _client(session: Session) -> Client | None:
    """Return who the session is with: nobody before it has begun."""
    return session.session

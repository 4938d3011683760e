"""Rules and sessions for these tests."""

from __future__ import annotations

from typing import Any

from mtad.model.rules.facts import Facts
from mtad.model.rules.values import AnyGate, At, Do, Moment, Rule, Said, When, Where

RCPT = At(Moment.RCPT)
NO = Do(reply=Said(450, "4.2.0", "Try again later"))


def facts(**known: Any) -> Facts:
    """A session at RCPT; ``known`` is what is different."""
    usual: dict[str, Any] = {
        "listener": "mx",
        "peer": "192.0.2.7",
        "helo": "client.example.net",
        "sender": "bob@example.net",
        "recipients": ["alice@example.com"],
    }
    return Facts(**(usual | known))


def rule(name: str = "r", **said: Any) -> Rule:
    """A rule that answers RCPT with 450; ``said`` are fields of Rule."""
    usual: dict[str, Any] = {"name": name, "at": (RCPT,), "do": NO}
    return Rule(**(usual | said))


def where(name: str = "r", **wanted: Any) -> Rule:
    """The same, where ``wanted`` is the case."""
    return rule(name, where=Where(**wanted))


def counted(gate: AnyGate | None, name: str = "r", **when: Any) -> Rule:
    """The same, counted."""
    return rule(name, when=When(gate=gate, **when))

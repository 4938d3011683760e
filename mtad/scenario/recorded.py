"""A recorded session as the text of a scenario that answers in the same way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import ceil

from mtad.config.rules.text import in_line
from mtad.model.deliveries.attempts import Session
from mtad.model.deliveries.dialogue import exchanges
from mtad.model.deliveries.replay import replay

_REFUSED = "refused"
# How a session may end so that it cannot be played again.
_NOT_PLAYED = {
    "timeout": "the client was silent for too long, and was sent away",
    "listener stopped": "the listener was stopped",
    "cut": "the listener was stopped, and the session cut",
    "internal error": "a fault of mtad's own",
    "TLS failed": "the TLS handshake failed",
    "PROXY header refused": "there was no PROXY header, or a wrong one",
}
_LEAST_SECONDS = 60


def scenario_text(session: Session, listener: str, messages: int) -> str:
    """Return a scenario for ``listener``, in YAML; the session brought so many ``messages``."""
    return "".join(f"{line}\n" for line in _lines(session, listener, messages))


def _lines(session: Session, listener: str, messages: int) -> Iterator[str]:
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(session.began))
    yield f"# Answers as session {session.id} was answered, which began {began}."
    if reason := _NOT_PLAYED.get(session.ended):
        yield f"# How it ended is not played again: {reason}."
    if listener:
        yield f"listener: {listener}"
    rules = replay(exchanges(session.entries), was_refused=session.ended == _REFUSED)
    yield "steps:"
    yield "  - at: 0"
    yield "    rules:" if rules else "    rules: {}"
    yield from (f"      {rule.name}: {in_line(rule)}" for rule in rules)
    last = max((entry.at for entry in session.entries), default=0.0)
    yield f"end: {max(_LEAST_SECONDS, ceil(2 * last))}"
    if messages:
        yield f"expect: {{messages: {messages}}}"

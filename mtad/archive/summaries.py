"""What every answer about a message has of it: its summary, and the test run it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from mtad.archive.headers import Extract
from mtad.model import ids, runs
from mtad.model.envelope import Captured
from mtad.store.reader import Kept


def summary(kept: Kept, extract: Extract, outgoing: Sequence[str]) -> dict[str, Any]:
    """Return what a list has of a message; ``outgoing`` are the states of what is sent of it."""
    envelope = kept.envelope
    return {
        "id": ids.encode(kept.id),
        "received": envelope.received_ns / 1e9,
        "listener": envelope.listener,
        "worker": envelope.worker,
        "peer": envelope.peer,
        "helo": envelope.helo,
        "protocol": envelope.protocol,
        "tls": f"{envelope.tls_version} {envelope.tls_cipher}".strip() or None,
        "user": envelope.user,
        "sender": envelope.sender,
        "recipients": list(envelope.recipients),
        "size": kept.size,
        "sha256": kept.sha256.hex(),
        "lint": list(envelope.notes),
        "run": run_of(envelope, extract.header) or None,
        "session": ids.encode(kept.session),
        "subject": extract.subject,
        "from": [mailbox.address for mailbox in extract.from_],
        "to": [mailbox.address for mailbox in extract.to],
        "date": extract.date,
        "message_id": extract.message_id,
        "attachments": extract.attachments,
        "outgoing": list(outgoing),
    }


def run_of(envelope: Captured, header: str) -> str:
    """Return the tag that the first of the envelope's rules gives, "" for none.

    ``header`` has a line for each field, decoded.
    """
    return runs.run_of(
        envelope.runs,
        listener=envelope.listener,
        user=envelope.user,
        recipients=envelope.recipients,
        field=partial(_field, header),
    )


def _field(header: str, name: str) -> str:
    wanted = f"{name.lower()}:"
    for line in header.split("\n"):
        if line[: len(wanted)].lower() == wanted:
            return line[len(wanted) :].strip()
    return ""

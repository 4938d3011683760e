"""What is to be sent of kept mail, because a rule has said so: a row for each recipient.

Workers insert rows with their messages; the archive sends, and notes what came of it::

    held ──release──► waiting ──begin──► … ──note──► delivered, failed, unwanted
                         ▲                    └────► waiting, due later
                         └──release── failed

All functions are for a connection to ``mail.db``; those that write for one within a transaction of
mtad.store.database. They raise sqlite3.Error as it comes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter

from mtad.model.envelope import Captured

SENDER = -1
"""The ``recipient`` of a bounce."""

# Numbers of changes beyond this are nobody's.
_MOST_CHANGES = 2**62
# A reply, or what else is said, has at most so many characters.
_SAID = 1_000


class State(StrEnum):
    """What becomes of a message for one recipient."""

    HELD = "held"  # until somebody releases it
    WAITING = "waiting"  # for its first try, or the next
    DELIVERED = "delivered"  # the hop has answered 250
    FAILED = "failed"  # for good, unless somebody releases it
    UNWANTED = "unwanted"  # a bounce that nobody is to get


FINAL = frozenset({State.DELIVERED, State.FAILED, State.UNWANTED})


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row: ``recipient`` is a place in the envelope, or SENDER; ``due`` as in the schema."""

    message: int
    recipient: int
    hop: str
    state: str
    tries: int
    due: int
    said: str

    @property
    def job(self) -> Job:
        """What it is sent with."""
        return Job(self.message, self.hop, self.recipient == SENDER)


@dataclass(frozen=True, slots=True)
class Job:
    """What one transaction of SMTP sends: a message to a hop, or its bounce."""

    message: int
    hop: str
    is_bounce: bool


_COLUMNS = "message, recipient, hop, state, tries, due, said"
_INSERT = "INSERT INTO delivery VALUES (?, ?, ?, ?, 0, ?, '', 0)"
_HOPS = """
WITH RECURSIVE waiting (hop) AS (
    SELECT min(hop) FROM delivery WHERE state = 'waiting'
    UNION ALL
    SELECT (SELECT min(hop) FROM delivery WHERE state = 'waiting' AND hop > waiting.hop)
    FROM waiting WHERE hop IS NOT NULL
)
SELECT hop FROM waiting WHERE hop IS NOT NULL LIMIT ?
"""
_WAITING = f"SELECT {_COLUMNS} FROM delivery WHERE state = 'waiting' AND hop = :hop"  # noqa: S608
# What is due later than any try can be was put off by a clock that has been set back.
_DUE = f"""
SELECT * FROM ({_WAITING} AND due <= :now ORDER BY due, message LIMIT :limit)
UNION ALL
SELECT * FROM ({_WAITING} AND due > :latest LIMIT :limit)
"""  # noqa: S608
_OF_JOB = (
    "message = :message AND hop = :hop AND (recipient = -1) = :is_bounce AND state = 'waiting'"
)
_BEGIN = f"UPDATE delivery SET tries = tries + 1 WHERE {_OF_JOB} RETURNING {_COLUMNS}"  # noqa: S608
_NOTE = (
    "UPDATE delivery SET state = :state, due = :due, said = :said,"
    " changed = iif(state = :state, changed, :changed)"
    " WHERE message = :message AND recipient = :recipient AND state = 'waiting'"
)
_RELEASE = (
    "UPDATE delivery SET state = 'waiting', hop = iif(:hop = '', hop, :hop), tries = 0,"
    " due = :now, said = '', changed = :changed"
    " WHERE message = :message AND state IN ('held', 'failed')"
)
_CHANGE = (
    "INSERT INTO state VALUES ('changes', 1)"
    " ON CONFLICT DO UPDATE SET value = iif(value BETWEEN 0 AND :most, value + 1, 1)"
    " RETURNING value"
)
_SINCE = f"FROM delivery WHERE changed > 0 AND changed > :after AND changed <= {_MOST_CHANGES}"
_LAST = f"SELECT changed {_SINCE} ORDER BY changed LIMIT 1 OFFSET :limit"
_NEWEST = f"SELECT ifnull(max(changed), :after) {_SINCE}"
# A change is taken whole, however many rows it has.
_CHANGED = f"SELECT DISTINCT message {_SINCE} AND changed <= :last"


def intended(message: Captured) -> Sequence[tuple[int, str, State]]:
    """Return what a rule wants to be sent: recipient, hop, state; nothing for most messages."""
    mail = message.mail
    if mail is None:
        return ()
    state = State.HELD if mail.hold else State.WAITING
    rows: list[tuple[int, str, State]] = []
    if mail.bounce is not None:
        rows.append((SENDER, mail.bounce.hop, state))
    if mail.forward or (mail.hold and mail.bounce is None):
        rows += ((place, mail.forward, state) for place in range(len(message.recipients)))
    return rows


def insert(mail: sqlite3.Connection, number: int, rows: Iterable[tuple[int, str, State]]) -> None:
    """Keep what is ``intended`` with the message ``number``, in its transaction."""
    mail.executemany(_INSERT, ((number, place, hop, state, number) for place, hop, state in rows))


def of_message(mail: sqlite3.Connection, number: int) -> list[Delivery]:
    """Return what is known of a message, in the order of its recipients."""
    rows = mail.execute(f"SELECT {_COLUMNS} FROM delivery WHERE message = ?", (number,))  # noqa: S608
    return [Delivery(*row) for row in rows]


def states(mail: sqlite3.Connection, number: int) -> list[str]:
    """Return the states of a message's recipients, each once."""
    return sorted({delivery.state for delivery in of_message(mail, number)})


def hops(mail: sqlite3.Connection, limit: int) -> list[str]:
    """Return the hops that something waits for; one after the other is found by the index."""
    return [hop for (hop,) in mail.execute(_HOPS, (limit,))]


def due(mail: sqlite3.Connection, hop: str, now: int, latest: int, limit: int) -> list[Delivery]:
    """Return what is due ``now`` for ``hop``, the longest first, about ``limit`` at most.

    No try is put off until later than ``latest``.
    """
    values = {"hop": hop, "now": now, "latest": latest, "limit": limit}
    return [Delivery(*row) for row in mail.execute(_DUE, values)]


def waits_for(mail: sqlite3.Connection, hop: str) -> bool:
    """Return whether anything waits for ``hop``."""
    return mail.execute(f"{_WAITING} LIMIT 1", {"hop": hop}).fetchone() is not None


def begin(mail: sqlite3.Connection, job: Job) -> list[Delivery]:
    """Count a try; return whom it is for, with that try."""
    rows = mail.execute(
        _BEGIN, {"message": job.message, "hop": job.hop, "is_bounce": job.is_bounce}
    )
    return sorted((Delivery(*row) for row in rows), key=attrgetter("recipient"))


def note(mail: sqlite3.Connection, outcomes: Iterable[Delivery]) -> None:
    """Note what has come of tries; what is no longer there, or no longer waits, is left out."""
    changed = _change(mail)
    mail.executemany(
        _NOTE,
        (
            {
                "state": one.state,
                "due": one.due,
                "said": one.said[:_SAID],
                "changed": changed,
                "message": one.message,
                "recipient": one.recipient,
            }
            for one in outcomes
        ),
    )


def release(mail: sqlite3.Connection, number: int, hop: str, now: int) -> bool:
    """Have a message sent to whom it is held, or has failed; return whether there are any.

    ``hop`` is where to; "": where the rule says.
    """
    values = {"message": number, "hop": hop, "now": now, "changed": _change(mail)}
    return mail.execute(_RELEASE, values).rowcount > 0


def forget(mail: sqlite3.Connection, number: int) -> int:
    """Delete what there is of a message; return how many recipients it was still to be sent to."""
    deleted = mail.execute("DELETE FROM delivery WHERE message = ? RETURNING state", (number,))
    return sum(state not in FINAL for (state,) in deleted.fetchall())


def changes(
    mail: sqlite3.Connection, after: int, limit: int
) -> tuple[int, dict[int, list[str]], bool]:
    """Return what has changed since the change ``after``, from about ``limit`` rows.

    That is the number of the last change, the states of messages, and whether there is more.
    """
    found = mail.execute(_LAST, {"after": after, "limit": limit}).fetchone()
    (last,) = found or mail.execute(_NEWEST, {"after": after}).fetchone()
    numbers = mail.execute(_CHANGED, {"after": after, "last": last}).fetchall()
    return last, {number: states(mail, number) for (number,) in numbers}, found is not None


def _change(mail: sqlite3.Connection) -> int:
    (number,) = mail.execute(_CHANGE, {"most": _MOST_CHANGES}).fetchall()[0]
    return int(number)

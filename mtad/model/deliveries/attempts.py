"""Attempts to deliver: what became of each recipient of each transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from mtad.model.deliveries.dialogue import Entry, Exchange, Reply, exchanges
from mtad.model.deliveries.transactions import Transaction, transactions_of


class Session(msgspec.Struct, frozen=True):
    """A session as `session show` has it; ``began`` is in seconds since the epoch.

    ``ended`` is how; "" while it goes on. ``entries`` may be none: transcripts can be off.
    """

    id: str
    began: float
    peer: str = ""
    ended: str = ""
    entries: tuple[Entry, ...] = ()


class Kept(msgspec.Struct, frozen=True):
    """A message that is kept, as `message list` has it; ``session`` brought it."""

    id: str
    received: float
    session: str
    sender: str
    recipients: tuple[str, ...]
    size: int
    sha256: str
    message_id: str | None = None
    run: str | None = None

    @property
    def identity(self) -> str:
        """What tells it from other messages."""
        return self.message_id or f"sha256:{self.sha256}"


class Outcome(StrEnum):
    """What the client was told in the end."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"  # 4xx
    REFUSED = "refused"  # 5xx
    BROKEN = "broken"  # nothing, or what is no reply
    GIVEN_UP = "given up"  # nothing that hindered it


@dataclass(slots=True)
class Attempt:
    """One transaction, as one of its recipients sees it; ``at`` is that of MAIL, since the epoch.

    ``recipient`` is None where the client came to none. ``size`` is what MAIL's SIZE= says, "" for
    nothing. ``stage`` (``mail``, ``rcpt``, ``data``, ``content``) is where it was decided, by the
    ``reply``, "" for none; ``ended`` is how the session ended then. ``kept`` is the id of the
    message that was kept for this recipient; ``identity`` that of the transaction's message where
    it is known: where it was kept for anybody.
    """

    at: float
    session: str
    peer: str
    sender: str
    recipient: str | None
    size: str = ""
    stage: str = "content"
    reply: str = ""
    outcome: Outcome = Outcome.ACCEPTED
    ended: str = ""
    kept: str = ""
    identity: str = ""

    def __str__(self) -> str:
        why = self.reply or self.ended
        kept = f", kept as {self.kept}" if self.kept else ""
        return f"{self.outcome} at {self.stage}: {why}{kept}"


class Stray(msgspec.Struct, frozen=True):
    """A session in which no transaction was begun; ``reply`` is the last one."""

    at: float
    session: str
    peer: str
    reply: str
    ended: str


def attempts_of(
    sessions: Iterable[Session], kept: Iterable[Kept]
) -> tuple[list[Attempt], list[Stray]]:
    """Return all attempts, the first first, and the sessions in which there was none."""
    attempts: list[Attempt] = []
    strays: list[Stray] = []
    of_session: dict[str, list[Kept]] = {}
    for message in kept:
        of_session.setdefault(message.session, []).append(message)
    for session in sessions:
        messages = of_session.pop(session.id, [])
        if not session.entries:
            attempts += _unheard(messages)
            continue
        said = exchanges(session.entries)
        transactions = list(transactions_of(said))
        of = _matched(transactions, messages, session.began)
        for number, one in enumerate(transactions):
            attempts += _attempts(session, one, of.get(number))
        if not transactions:
            strays.append(_stray(session, said))
    attempts += [one for messages in of_session.values() for one in _unheard(messages)]
    attempts.sort(key=lambda attempt: attempt.at)
    strays.sort(key=lambda stray: stray.at)
    return attempts, strays


def _stray(session: Session, said: Sequence[Exchange]) -> Stray:
    replies = [reply for exchange in said for reply in exchange.replies]
    last = replies[-1].text if replies else ""
    return Stray(session.began, session.id, session.peer, last, session.ended)


def _unheard(messages: Iterable[Kept]) -> Iterator[Attempt]:
    """Yield what is known of sessions without a transcript: that they brought messages."""
    for one in messages:
        for recipient in one.recipients:
            yield Attempt(
                one.received,
                one.session,
                "",
                one.sender,
                recipient,
                kept=one.id,
                identity=one.identity,
            )


def _matched(
    transactions: Sequence[Transaction], messages: Iterable[Kept], began: float
) -> dict[int, Kept]:
    """Return which message came of which transaction: by its envelope, else by its time."""
    left = {number for number, one in enumerate(transactions) if one.content is not None}
    found: dict[int, Kept] = {}
    for message in messages:

        def distance(number: int, message: Kept = message) -> tuple[bool, float]:
            one = transactions[number]
            recipients = set(message.recipients)
            is_other = one.sender != message.sender or not recipients <= set(one.recipients)
            at = began + (one.content or one.mail).at
            return is_other, abs(at - message.received)

        if left:
            nearest = min(left, key=distance)
            found[nearest] = message
            left.remove(nearest)
    return found


# What became of them


def _attempts(session: Session, one: Transaction, kept: Kept | None) -> Iterator[Attempt]:
    """Yield the attempt for each recipient, or for none."""
    answers = _answers(one)
    for recipient in one.recipients or (None,):
        stage, reply = _decision(one, recipient, answers.get(recipient))
        yield Attempt(
            at=session.began + one.mail.at,
            session=session.id,
            peer=session.peer,
            sender=one.sender,
            recipient=recipient,
            size=one.size,
            stage=stage,
            reply=reply.text if reply else "",
            outcome=_outcome(one, stage, reply),
            ended="" if reply else session.ended,
            kept=kept.id if kept and recipient in kept.recipients else "",
            identity=kept.identity if kept else "",
        )


def _answers(one: Transaction) -> dict[str | None, Reply | None]:
    """Return the reply to the message for each recipient that was accepted."""
    replies = one.content.replies if one.content is not None and one.is_over else []
    accepted = [
        address
        for address, exchange in one.recipients.items()
        if exchange.reply is not None and exchange.reply.is_positive()
    ]
    if len(replies) > 1:  # LMTP
        return dict(zip(accepted, replies, strict=False))
    return dict.fromkeys(accepted, replies[0] if replies else None)


def _decision(
    one: Transaction, recipient: str | None, answer: Reply | None
) -> tuple[str, Reply | None]:
    """Return where it was decided, and by which reply."""
    steps = [("mail", one.mail), ("rcpt", one.recipients.get(recipient or "")), ("data", one.data)]
    stage, reply = "mail", one.mail.reply
    for stage, exchange in steps:
        if exchange is None and stage == "data" and one.content is not None:
            continue  # BDAT
        if exchange is None:
            return _before(stage), one.unasked or (reply if one.is_given_up else None)
        reply = exchange.reply
        if reply is None or not reply.is_positive():
            return stage, reply or one.unasked
    if one.content is None:
        return "data", one.unasked
    return "content", answer or one.unasked


def _before(stage: str) -> str:
    return {"rcpt": "mail", "data": "rcpt"}[stage]


def _outcome(one: Transaction, stage: str, reply: Reply | None) -> Outcome:
    code = reply.code if reply else None
    if code is None:
        return Outcome.BROKEN
    if code >= 500:
        return Outcome.REFUSED
    if code >= 400:
        return Outcome.DEFERRED
    return Outcome.ACCEPTED if stage == "content" else Outcome.GIVEN_UP

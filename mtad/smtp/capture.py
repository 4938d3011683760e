"""What becomes of a message that is accepted: it is kept, or counted and thrown away."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mtad.errors import StoreError
from mtad.log import event
from mtad.model.envelope import Body, Captured, Store
from mtad.smtp.reply import Reply, encode

_log = logging.getLogger("mtad.smtp")

_NO_ROOM = Reply(452, "4.3.1", "Message not kept: insufficient system storage")
_NOT_NOW = Reply(451, "4.3.0", "Message not kept: the store does not work")
_DISCARDED = encode(Reply(250, "2.0.0", "Ok: discarded"))
_QUEUED = encode(Reply(250, "2.0.0", "Ok: queued"))


def not_kept(error: StoreError) -> Reply:
    """Return the reply to a message that cannot be kept: its sender may try again."""
    return _NO_ROOM if error.full else _NOT_NOW


class Capture:
    """Hands each message to the store, and answers 250 when it is kept; None: forgets it.

    ``on_accepted(octets)`` is called for each message before its 250 is sent.
    """

    def __init__(self, store: Store | None, on_accepted: Callable[[int], None]) -> None:
        self._store = store
        self._on_accepted = on_accepted

    def body(self) -> Body:
        """Return the place for a message that is about to arrive."""
        return _Nowhere() if self._store is None else self._store.body()

    @property
    def forgets(self) -> bool:
        """Whether messages are only counted."""
        return self._store is None

    def forget(self, body: Body) -> bytes:
        """Count what ``body`` has; return the reply."""
        self._on_accepted(body.size)
        return _DISCARDED

    def keep(self, message: Captured, body: Body, answer: Callable[[bytes], None]) -> None:
        """Keep what ``body`` has, even if its sender does not wait; give ``answer`` the reply."""
        size = body.size

        def answered(outcome: str | StoreError) -> None:
            answer(self._reply(message, size, outcome))

        if self._store is None:
            answer(self.forget(body))
        else:
            self._store.keep(message, body, answered)

    def _reply(self, message: Captured, size: int, outcome: str | StoreError) -> bytes:
        if isinstance(outcome, StoreError):
            event(
                _log,
                logging.ERROR,
                "message.refused",
                listener=message.listener,
                peer=message.peer,
                sender=message.sender,
                reason=str(outcome),
            )
            return encode(not_kept(outcome))
        self._on_accepted(size)
        if _log.isEnabledFor(logging.DEBUG):
            _log_accepted(message, size, outcome)
        return b"250 2.0.0 Ok: kept as %b\r\n" % outcome.encode() if outcome else _QUEUED


def _log_accepted(message: Captured, size: int, name: str) -> None:
    event(
        _log,
        logging.DEBUG,
        "message.accepted",
        id=name,
        listener=message.listener,
        peer=message.peer,
        sender=message.sender,
        recipients=message.recipients,
        size=size,
    )


class _Nowhere:
    """Content that is counted and gone."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0

    def write(self, octets: bytes | memoryview) -> None:
        self.size += len(octets)

    def discard(self) -> None:
        pass

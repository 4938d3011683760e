"""Messages that come over the control socket, in pieces, and are kept as those of senders are.

At most ``UPLOADS`` are under way; one that does not go on for ``IDLE_SECONDS`` is given up, one
that grows beyond ``OCTETS`` is refused.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from mtad.archive.decoding import text_of, unfolded
from mtad.archive.headers import mailboxes
from mtad.archive.mime import HEADER_OCTETS, read_fields
from mtad.control.wire import Code
from mtad.errors import CommandError, StoreError
from mtad.model.envelope import Body, Captured
from mtad.model.profile import Profile
from mtad.store.writer import Writer

UPLOADS = 16
IDLE_SECONDS = 60.0
OCTETS = 2**30
ENVELOPE_CHARACTERS = 2**20

LISTENER = "import"
"""The listener of a message of which nothing is known but its content."""

_RECIPIENT_OCTETS = 1_000


@dataclass(slots=True)
class _Upload:
    """What has come of a message: its content, the beginning of it, and its envelope as JSON."""

    body: Body
    head: bytearray = field(default_factory=bytearray)
    envelope: str = ""
    expiry: asyncio.TimerHandle | None = None

    def add(self, octets: bytes, envelope: str) -> None:
        if self.body.size + len(octets) > OCTETS:
            raise CommandError(f"a message of more than {OCTETS} octets")
        if len(self.envelope) + len(envelope) > ENVELOPE_CHARACTERS:
            raise CommandError(f"an envelope of more than {ENVELOPE_CHARACTERS} characters")
        if len(self.head) < HEADER_OCTETS:
            self.head += octets
        self.envelope += envelope
        self.body.write(octets)


class Uploads:
    """Those under way, by the names that clients give them.

    ``directory`` is the store's; ``on_state`` and ``news`` are as a Writer has them.
    """

    def __init__(self, directory: Path, on_state: Callable[[str], None], news: int) -> None:
        self._directory = directory
        self._on_state = on_state
        self._news = news
        self._loop = asyncio.get_running_loop()
        self._uploads: dict[str, _Upload] = {}

    @cached_property
    def _writer(self) -> Writer:
        """Most archives import nothing."""
        return Writer(self._directory, "fsync", self._on_state, self._news)

    def add(self, name: str, octets: bytes, envelope: str) -> None:
        """Add a piece of a message, and of its envelope, to what has come under ``name``.

        Raises:
            CommandError, StoreError: it cannot be; the upload is given up.
        """
        upload = self._uploads.get(name)
        if upload is None:
            if len(self._uploads) >= UPLOADS:
                raise CommandError(
                    f"{UPLOADS} messages are being imported already",
                    code=Code.BUSY,
                    help="try again later",
                )
            upload = self._uploads[name] = _Upload(self._writer.body())
        if upload.expiry is not None:
            upload.expiry.cancel()
        upload.expiry = self._loop.call_later(IDLE_SECONDS, self.discard, name)
        try:
            upload.add(octets, envelope)
        except BaseException:
            self.discard(name)
            raise

    def discard(self, name: str) -> None:
        """Give up what has come under ``name``."""
        upload = self._take(name)
        upload.body.discard()

    async def keep(self, name: str, source: str) -> str:
        """Keep what has come under ``name``, from ``source``; return its id once it is on disk.

        Raises:
            CommandError: its envelope is none.
            StoreError: it cannot be kept.
        """
        upload = self._take(name)
        try:
            captured = _envelope(upload, source)
        except CommandError:
            upload.body.discard()
            raise
        answer: asyncio.Future[str] = self._loop.create_future()

        def answered(told: str | StoreError) -> None:
            if answer.done():  # nobody waits any more; it is kept all the same
                return
            if isinstance(told, StoreError):
                answer.set_exception(told)
            else:
                answer.set_result(told)

        self._writer.keep(captured, upload.body, answered)
        return await answer

    def _take(self, name: str) -> _Upload:
        upload = self._uploads.pop(name)
        if upload.expiry is not None:
            upload.expiry.cancel()
        return upload


def _envelope(upload: _Upload, source: str) -> Captured:
    """Return what is told of a message, and for the rest what its header says."""
    known = asdict(_from_header(bytes(upload.head), source))
    try:
        told: dict[str, Any] = json.loads(upload.envelope or "{}")
        if "recipients" in told:
            told = {"recipient_options": [()] * len(told["recipients"]), **told}
        # The session it came in is not here; nor is it sent on because it once was elsewhere.
        captured = msgspec.convert({**known, **told, "session": 0, "mail": None}, Captured)
    except (ValueError, TypeError, RecursionError) as error:
        raise _wrong(f"is none: {error}") from None
    if odd := told.keys() - known.keys():
        raise _wrong(f"has no {min(odd)!r}")
    if len(captured.recipients) != len(captured.recipient_options):
        raise _wrong("has not one of recipient_options for each of recipients")
    if not 0 <= captured.received_ns < 2**63 or not 0 <= captured.worker < 2**31:
        raise _wrong("has a number that is out of range")
    return captured


def _wrong(reason: str) -> CommandError:
    return CommandError(
        f"the envelope {reason}"[:500],
        code=Code.INVALID_PARAMS,
        help="it is a JSON object of members that `message raw` tells of any message",
    )


def _from_header(head: bytes, source: str) -> Captured:
    """Return an envelope as delivery agents note it in the header, or else by its addresses."""
    fields, _, _ = read_fields(head, 0, HEADER_OCTETS)
    values: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        values.setdefault(name.lower(), []).append(value)

    def noted(name: bytes) -> list[str]:
        found = (unfolded(value)[:_RECIPIENT_OCTETS] for value in values.get(name, ()))
        return [text_of(path).strip("<>") for path in found]

    def named(*names: bytes) -> list[str]:
        found = (value for name in names for value in values.get(name, ()))
        return [mailbox.address for value in found for mailbox in mailboxes(value)]

    senders = noted(b"return-path") or named(b"sender") or named(b"from")
    to = noted(b"delivered-to") or noted(b"x-original-to") or named(b"to", b"cc", b"bcc")
    recipients = tuple(dict.fromkeys(filter(None, to)))
    return Captured(
        received_ns=time.time_ns(),
        listener=LISTENER,
        worker=0,
        peer=source,
        helo="",
        protocol="",
        tls_version="",
        tls_cipher="",
        sni="",
        user="",
        sender=(senders or [""])[0],
        sender_options=(),
        recipients=recipients,
        recipient_options=tuple(() for _ in recipients),
        terminator="",
        notes=(),
        runs=Profile().runs,
        session=0,
    )

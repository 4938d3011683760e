"""Sessions that are written down; those of a listener that keeps nothing are not, and cost nothing.

Whatever a client says to AUTH is a secret, or may be one: it is not written down at all, nor what
follows an AUTH that was refused and is no command, for it may be what AUTH would have asked for.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from typing import Any

from mtad.model.envelope import SessionSummary
from mtad.smtp.client import Client, peer_name
from mtad.smtp.dialogue import RestOfLine
from mtad.smtp.frame import MessageReader
from mtad.smtp.lines import Run
from mtad.smtp.proxy import Address
from mtad.smtp.record import Record, Recording
from mtad.smtp.service import Service
from mtad.smtp.session import COMMANDS, Session
from mtad.smtp.stage import ENDS, Stage

_SECRET = b"***"
_AUTH = re.compile(rb"[^A-Z]*AUTH", re.IGNORECASE)
_MECHANISM = re.compile(
    rb"PLAIN|LOGIN|(?:CRAM|DIGEST)-MD5|XOAUTH2|OAUTHBEARER|EXTERNAL|ANONYMOUS|NTLM|GSSAPI"
    rb"|SCRAM-SHA-[-A-Z0-9]{1,12}",
    re.IGNORECASE,
)
_LINE_END = re.compile(rb"\r?\n\Z")
_VERBS = frozenset(verb.encode() for verb in COMMANDS)
# What begins the lines that are no AUTH, and whether such a command has to be the last of a group
# (RFC 2920 section 3.1; what STARTTLS and XCLIENT change says so). Behind BDAT are octets.
_IS_LAST = {
    verb[:4].encode(): verb not in ("MAIL", "RCPT", "RSET", "BDAT", "HELP")
    for verb in COMMANDS
    if verb != "AUTH"
}

# super() costs more than what is written down (until Python 3.12).
_data_received = Session.data_received
_receive = Session.receive
_take_line = Session._take_line  # noqa: SLF001
_read = Session.read
_flush = Session.flush
_answer_message = Session._answer_message  # noqa: SLF001

_POSITIVE = ord("2")
_REFUSED = 400


class Recorded(Session):
    """A session with a record."""

    def __init__(
        self, service: Service, on_end: Callable[[Any], None], *, recording: Recording
    ) -> None:
        super().__init__(service, on_end)
        self.record = Record(recording)

    @property
    def key(self) -> int:
        """The key of the record."""
        return self.record.key

    # Input

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self.record.heard(len(data))
        _data_received(self, data)

    def receive(self, buffer: bytearray, length: int) -> None:
        """Take octets of a message."""
        self.record.heard(length)
        _receive(self, buffer, length)

    def _take_line(self, octets: bytes) -> None:
        record = self.record
        is_last = _IS_LAST.get(octets[:4].upper())
        is_open = is_last is not None and not record.follows_auth  # AUTH's own lines do
        line = octets if is_open else self._without_secrets(octets)
        record.append((record.heard_at, "C", line))
        if (is_last or not is_open) and self._at < len(self._input):
            self._note_pipelining()
        _take_line(self, octets)

    def read(
        self,
        reader: MessageReader,
        sink: Callable[[bytes | memoryview], None],
        ended: Callable[[Any], Run],
    ) -> None:
        """Count the octets that follow, up to the end that ``reader`` finds."""
        self.record.begin_count(len(self._input) - self._at)
        self.record.then = ended
        _read(self, reader, sink, self._counted)

    def _counted(self, reader: MessageReader) -> Run:
        self.record.end_count(reader.unread, message=not isinstance(reader, RestOfLine))
        if reader.unread and not self._may_pipeline:
            self._note_pipelining()
        run: Run = self.record.then and self.record.then(reader)
        return run

    @property
    def _may_pipeline(self) -> bool:
        """Whether the client can know of PIPELINING."""
        return self.record.recording.announces_pipelining and self.session.extended_smtp

    def _note_pipelining(self) -> None:
        """Note that something follows, in one piece, what has to be waited for."""
        if "pipelining" not in self.notes:
            self.notes += ("pipelining",)
            self.stage(Stage.PIPELINED)

    def _without_secrets(self, line: bytes) -> bytes:
        """Return a line as it may be shown."""
        end = _LINE_END.search(line)
        hidden = _SECRET + (end[0] if end else b"")
        words = line.split()
        if self._asked is not None:
            return line if words == [b"*"] else hidden  # which cancels
        if _AUTH.match(line):
            self.record.follows_auth = True
            return self._auth_without_secrets(line, words, hidden)
        if words and words[0].upper() in _VERBS:
            self.record.follows_auth = False
        return hidden if self.record.follows_auth else line

    def _auth_without_secrets(self, line: bytes, words: list[bytes], hidden: bytes) -> bytes:
        if words[0].upper() != b"AUTH":
            return hidden
        known = {name.encode() for name in self.service.handler_mechanisms}
        is_known = [_MECHANISM.fullmatch(word) or word.upper() in known for word in words[1:2]]
        shown = words[: 2 if any(is_known) else 1]
        return line if shown == words else b" ".join([*shown, hidden])

    # Output

    def flush(self) -> None:
        """Send the replies of this turn."""
        if self._replies:
            self._write_down_replies()
            self.record.noted = 0
        _flush(self)

    def _write_down_replies(self) -> None:
        record = self.record
        commands = record.sent(self._replies[record.noted :] if record.noted else self._replies)
        record.noted = len(self._replies)
        if commands > 1 and not self._may_pipeline:
            self._note_pipelining()

    def _greet(self) -> None:
        super()._greet()
        self.record.greeted()

    def goodbye(self, octets: bytes, stage: Stage = Stage.REFUSED) -> None:
        """Say the last reply, which is to no command."""
        self.record.others += not self._ended
        super().goodbye(octets, stage)

    # Stages

    def stage(self, stage: Stage, detail: str = "") -> None:
        """Write down what happens, behind what was said before."""
        if len(self._replies) > self.record.noted:
            self._write_down_replies()
        if stage in ENDS and self.record.ended_by is None:
            self.record.ended_by = stage
        describe = _DETAILS.get(stage)
        detail = detail if describe is None else describe(self)
        self.record.happened(f"{stage}: {detail}" if detail else stage)

    def spoke(self, octets: int) -> None:
        """Count what is said besides replies."""
        self.record.octets_out += octets

    def end_transaction(self) -> None:
        """Give a transaction up."""
        self.record.gave_up |= self.in_transaction
        super().end_transaction()

    def _answer_message(self, reply: bytes) -> None:
        if not self._ended:
            self.record.answered(accepted=reply[0] == _POSITIVE)
        _answer_message(self, reply)

    def connection_lost(self, error: Exception | None) -> None:
        """Give the record to the store."""
        if self.body is not None:
            self.record.end_count(0, message=not isinstance(self.body, RestOfLine))
            self.body = None
        if ignored := self.drop_input():
            self.stage(Stage.IGNORED, str(ignored))
        if self.record.ended_by is None:
            self.stage(Stage.CLOSED if error is None else Stage.RESET)
        self.end_transaction()
        self.record.recording.store.session(self._summary())
        super().connection_lost(error)

    def _summary(self) -> SessionSummary:
        record = self.record
        record.count()
        client: Client | None = self.session
        replies = {int(code): count for code, count in record.replies.items()}
        failed = (
            record.ended_by is not Stage.QUIT
            or max(replies, default=0) >= _REFUSED
            or record.gave_up
        )
        tls_version, tls_cipher, sni = self.tls_facts
        return SessionSummary(
            key=record.key,
            listener=self.service.name,
            worker=self.service.worker,
            peer=self.client,
            helo="" if client is None else client.host_name or "",
            protocol="" if client is None else self._protocol(),
            tls_version=tls_version,
            tls_cipher=tls_cipher,
            sni=sni,
            user=self.user,
            began_ns=record.began_ns,
            ended_ns=time.time_ns(),
            messages=record.messages,
            octets_in=record.octets_in,
            octets_out=record.octets_out,
            replies=replies,
            phases={name: counts for name, counts in record.phases.items() if counts},
            ended=record.ended_by or "",
            failed=failed,
            transcript=record.end(failed=failed),
        )


def _connected(session: Recorded) -> str:
    sock: socket.socket = session.connection.get_extra_info("socket")
    return f"{peer_name(session.connection.peer)} to {peer_name(sock.getsockname())}"


def _proxied(session: Recorded) -> str:
    header = session.connection.header
    if header is None or header.source is None:
        return "of nobody else"
    return f"{_shown(header.source)} to {_shown(header.destination)}"


def _shown(address: Address | None) -> str:
    return peer_name(address) if isinstance(address, tuple) else f"unix:{address}"


def _secured(session: Recorded) -> str:
    version, cipher, sni = session.tls_facts
    certificate = session.connection.get_extra_info("peercert") or {}
    names = [f"{name}={value}" for pairs in certificate.get("subject", ()) for name, value in pairs]
    facts = [version, cipher]
    if sni:
        facts.append(f"SNI {sni}")
    if names:
        facts.append(f"client {', '.join(names)}")
    return ", ".join(facts)


_DETAILS = {Stage.CONNECTED: _connected, Stage.PROXIED: _proxied, Stage.SECURED: _secured}

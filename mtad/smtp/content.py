"""The content of mail: DATA and BDAT (RFC 5321 section 4.1.1.4, RFC 3030), kept and answered."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable

from mtad.log import event
from mtad.model.envelope import Captured
from mtad.smtp.body import ChunkLint, DataReader, Flaw
from mtad.smtp.envelope import ChunkReader, Transaction
from mtad.smtp.frame import log
from mtad.smtp.lines import Run
from mtad.smtp.reply import Refusal, Reply, encode
from mtad.smtp.transaction import Transactions

_GO_AHEAD = encode(Reply(354, "", "End data with <CR><LF>.<CR><LF>"))
_OK = encode(Reply(250, "2.0.0", "Ok"))

_FLAWED = {
    Flaw.BARE_CR: Reply(550, "5.6.0", "Message refused: it has a bare CR"),
    Flaw.BARE_LF: Reply(550, "5.6.0", "Message refused: it has a bare LF"),
    Flaw.NUL: Reply(550, "5.6.0", "Message refused: it has a NUL"),
    Flaw.TOO_LONG_LINE: Reply(500, "5.6.0", "Message refused: a line is too long"),
}

_BDAT = re.compile(r"([0-9]{1,18})( LAST)?", re.IGNORECASE)


class Contents(Transactions):
    """The commands that carry the content, and what becomes of it."""

    def data(self, argument: str) -> Run:
        """Ask for the message (RFC 5321 section 4.1.1.4)."""
        self._check_admitted()
        envelope = self.envelope
        if argument:
            raise Refusal(501, "5.5.4", "Syntax: DATA")
        if envelope is None or not envelope.rcpt_tos:
            raise Refusal(503, "5.5.1", "Need RCPT command")
        if envelope.by_chunks:
            raise Refusal(503, "5.5.1", "The message has begun with BDAT")
        if envelope.parameters.body == "BINARYMIME":
            raise Refusal(503, "5.5.1", "BODY=BINARYMIME needs BDAT")
        return self.do_data(envelope)

    def do_data(self, envelope: Transaction) -> Run:
        """Take a message that may be sent."""
        self._begin_body(envelope)
        profile = self.service.profile
        reader = DataReader(
            profile.newlines, profile.terminator, profile.limits.line_length, notes=profile.keep
        )
        self.read(reader, envelope.add, self._data_ended)
        self.reply(_GO_AHEAD)
        return None

    def bdat(self, argument: str) -> Run:
        """Take a chunk of the message (RFC 3030 section 2); its octets follow, whatever happens."""
        parts = _BDAT.fullmatch(argument)
        if parts is None:
            # Where the next command begins, nobody knows.
            self.goodbye(encode(Reply(501, "5.5.4", "Syntax: BDAT octets [LAST]")))
            return None
        envelope = self.envelope
        chunk = ChunkReader(int(parts[1]), is_last=parts[2] is not None)
        try:
            self._check_admitted()
            if envelope is None or not envelope.rcpt_tos:
                raise Refusal(503, "5.5.1", "Need RCPT command")
        except Refusal as refusal:
            return self.refuse_chunk(chunk, refusal.reply)
        return self.do_bdat(envelope, chunk)

    def do_bdat(self, envelope: Transaction, chunk: ChunkReader) -> Run:
        """Take a chunk that may be sent."""
        if envelope.body is None:
            self._begin_body(envelope)
            envelope.by_chunks = True
            if self.service.profile.keep and envelope.parameters.body != "BINARYMIME":
                envelope.lint = ChunkLint()
        return self._take_chunk(
            chunk, envelope.add if envelope.lint is None else envelope.add_chunk
        )

    def refuse_chunk(self, chunk: ChunkReader, reply: Reply) -> Run:
        """Take away the octets of a chunk that belongs to no message, then say why."""
        chunk.refusal = reply
        return self._take_chunk(chunk, _forget)

    def _take_chunk(self, chunk: ChunkReader, sink: Callable[[bytes | memoryview], None]) -> Run:
        if chunk.ended:
            return self._chunk_ended(chunk)
        self.read(chunk, sink, self._chunk_ended)
        return None

    def _begin_body(self, envelope: Transaction) -> None:
        envelope.size_limit = self.service.limits.message_size
        envelope.body = self.service.capture.body()
        if "DATA" in self.service.hooks:
            envelope.chunks = []

    def _chunk_ended(self, chunk: ChunkReader) -> Run:
        refusal = chunk.refusal or self._transaction.refusal
        if chunk.refusal is None and chunk.is_last:
            lint = self._transaction.lint
            if lint is not None:
                lint.end()
                self._transaction.note(lint.flaws)
            return self._message_ended()
        # The other chunks of a message that is refused are refused in the same way.
        self.reply(_OK if refusal is None else encode(refusal))
        return None

    def _data_ended(self, reader: DataReader) -> Run:
        envelope = self._transaction
        if reader.flaws or reader.ended_by:
            envelope.note(reader.flaws)
            envelope.terminator = reader.ended_by or envelope.terminator
            if reader.refused:  # whatever else is wrong with it: that may depend on the chunks
                envelope.refuse(_FLAWED[reader.refused])
        return self._message_ended()

    def _message_ended(self) -> Run:
        """Have the message judged and kept, and answer."""
        envelope, capture = self._transaction, self.service.capture
        if envelope.refusal is not None:
            event(
                log,
                logging.INFO if envelope.fault is None else logging.ERROR,
                "message.refused",
                listener=self.service.name,
                peer=self.client,
                sender=envelope.mail_from,
                reason=str(envelope.fault or envelope.refusal.text),
            )
            self._answer_message(encode(envelope.refusal))
        elif envelope.chunks is None and capture.forgets and envelope.body is not None:
            self._answer_message(capture.forget(envelope.body))
        elif envelope.chunks is None and envelope.body is not None:
            # From here on it is the store's, even if the client goes.
            body, envelope.body = envelope.body, None
            try:
                capture.keep(self._captured(envelope), body, self._kept)
            except Exception as error:
                self._answer_message(self._fault(error))
            else:
                self.wait_for_answer()
        else:
            return self._judge(envelope)
        return None

    def _kept(self, reply: bytes) -> None:
        """Answer, unless nobody is there any more."""
        if not self._ended:
            self._answer_message(reply)
        self.answered()

    async def _judge(self, envelope: Transaction) -> None:
        """Ask the handler, if there is one, and keep what is accepted."""
        try:
            reply = await self._judgement(envelope)
        except Exception as error:
            reply = await self.excuse(error)
        self._answer_message(reply)

    def _answer_message(self, reply: bytes) -> None:
        """Answer a message; LMTP has one reply for each recipient (RFC 2033 section 4.2)."""
        replies = (len(self._transaction.rcpt_tos) if self.service.is_lmtp else 0) or 1
        self._transactions += 1
        Transactions.end_transaction(self)  # and nobody's who wants to know what is given up
        self.reply(reply * replies)  # at once: it is one error at most
        if self._ending is not None:
            self.flush()  # the end may be due, whatever is pipelined behind this

    async def _judgement(self, envelope: Transaction) -> bytes:
        """Return the reply to a message: what the handler says, or that it is kept."""
        said = _OK
        if envelope.chunks is not None:
            envelope.content = envelope.original_content = b"".join(envelope.chunks)
            said = await self.hook("DATA", _OK)
        if envelope.body is None or not said.startswith(b"2"):
            return said
        body, envelope.body = envelope.body, None  # as in _message_ended
        kept: asyncio.Future[bytes] = self.service.loop.create_future()

        def answer(reply: bytes) -> None:
            if not kept.cancelled():
                kept.set_result(reply)

        self.service.capture.keep(self._captured(envelope), body, answer)
        reply = await kept
        is_ours = envelope.chunks is None or not reply.startswith(b"2")
        return reply if is_ours else said

    def _captured(self, envelope: Transaction) -> Captured:
        tls_version, tls_cipher, sni = self.tls_facts
        return Captured(
            received_ns=time.time_ns(),
            listener=self.service.name,
            worker=self.service.worker,
            peer=self.client,
            helo=self.session.host_name or "",
            protocol=self._protocol(),
            tls_version=tls_version,
            tls_cipher=tls_cipher,
            sni=sni,
            user=self.user,
            sender=envelope.mail_from or "",
            sender_options=envelope.parameters.given,
            recipients=tuple(envelope.rcpt_tos),
            recipient_options=tuple([one.given for one in envelope.recipient_parameters]),
            terminator="BDAT" if envelope.by_chunks else envelope.terminator,
            notes=self.notes + envelope.notes,
            runs=self.service.profile.runs,
            session=self.key,
        )

    def _protocol(self) -> str:
        """Return the transmission type (RFC 3848)."""
        if not self.session.extended_smtp:
            return "SMTP"
        name = "LMTP" if self.service.is_lmtp else "ESMTP"
        return name + "S" * self.is_secure + "A" * bool(self.session.authenticated)


def _forget(_: bytes | memoryview) -> None:
    """Take the octets of a chunk that belongs to no message."""

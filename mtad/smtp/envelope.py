"""A transaction: the envelope that aiosmtpd's handlers know, and the content as it arrives."""

from __future__ import annotations

from aiosmtpd.smtp import Envelope

from mtad.errors import StoreError
from mtad.model.envelope import Body
from mtad.smtp.body import ChunkLint, Flaw
from mtad.smtp.capture import not_kept
from mtad.smtp.parameters import NO_MAIL_PARAMETERS, RcptParameters
from mtad.smtp.reply import Reply

_EIGHT_BIT_BODIES = frozenset({"8BITMIME", "BINARYMIME"})
TOO_BIG = Reply(552, "5.3.4", "Message size exceeds the maximum")


class Transaction(Envelope):
    """An envelope, its content as far as it has come, and why it is refused if it is."""

    # What nearly every transaction leaves as it is, and nobody looks at.
    content: bytes | None = None
    original_content: bytes | None = None
    fault: StoreError | None = None  # why there is no room
    notes: tuple[str, ...] = ()
    terminator = "CRLF.CRLF"
    lint: ChunkLint | None = None

    def __init__(self) -> None:
        # Not the base class's, which sets all of them.
        self.mail_from: str | None = None
        self.mail_options: list[str] = []
        self.rcpt_tos: list[str] = []
        self.rcpt_options: list[str] = []
        self.recipient_parameters: list[RcptParameters] = []
        self.smtp_utf8 = False
        self.parameters = NO_MAIL_PARAMETERS
        self.body: Body | None = None
        self.chunks: list[bytes] | None = None  # the content once more, for a handler's hook
        self.by_chunks = False
        self.refusal: Reply | None = None
        self.size_limit = 0  # octets

    def add(self, octets: bytes | memoryview) -> None:
        """Add to the content, unless the message is refused."""
        body = self.body
        if self.refusal is not None or body is None:
            return
        if self.size_limit and body.size + len(octets) > self.size_limit:
            self.refuse(TOO_BIG)
            return
        try:
            body.write(octets)
        except StoreError as error:
            self.fault = error
            self.refuse(not_kept(error))
            return
        if self.chunks is not None:
            self.chunks.append(bytes(octets))

    def add_chunk(self, octets: bytes | memoryview) -> None:
        """Add to the content what belongs to a chunk, and look at it."""
        if self.lint is not None and self.refusal is None:
            self.lint.see(octets)
        self.add(octets)

    def note(self, flaws: frozenset[Flaw]) -> None:
        """Note what the content has that it should not have, as it was declared."""
        if self.smtp_utf8 or self.parameters.body in _EIGHT_BIT_BODIES:
            flaws -= {Flaw.EIGHT_BIT}
        self.notes += tuple(sorted(flaws))

    def refuse(self, reply: Reply) -> None:
        """Take the rest of the message for nothing: it is answered at its end."""
        self.refusal = reply
        if self.chunks is not None:
            self.chunks.clear()
        self.discard()

    def discard(self) -> None:
        """Give the content up."""
        if self.body is not None:
            self.body.discard()


class ChunkReader:
    """Takes the octets of one BDAT command, whatever they are (RFC 3030 section 2)."""

    def __init__(self, octets: int, *, is_last: bool) -> None:
        self.is_last = is_last
        self.ended = not octets
        self.unread = 0
        self.refusal: Reply | None = None  # of a chunk that belongs to no message
        self._due = octets

    def feed(self, buffer: bytes | bytearray, start: int, end: int) -> memoryview:
        """Take what belongs to the chunk of ``buffer[start:end]``."""
        length = min(self._due, end - start)
        self._due -= length
        self.ended = not self._due
        self.unread = end - start - length
        return memoryview(buffer)[start : start + length]

"""A message and what was said about it: what a session hands to the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from msgspec import Meta

from mtad.errors import StoreError
from mtad.model.rules.values import Mail

# What is read back may be written by somebody else: numbers beyond these are refused then.
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A key, an index, or an instant; SQLite's integers have 64 bits."""

Count = Annotated[int, Meta(ge=0, le=2**48)]
"""Of octets or anything else; sums of many have 64 bits, too."""

Bucket = Annotated[int, Meta(ge=0, le=1_000)]
"""See mtad.model.histogram; there are fewer."""


# Not frozen: to make one would take more than twice as long, for each message.
@dataclass(slots=True)
class Captured:
    """What is known of a message besides its content (RFC 5321 section 2.3.1: the envelope).

    ``received_ns`` is in nanoseconds since the epoch; ``peer`` is an address and port, or the
    path of a unix socket; ``protocol`` is one of RFC 3848 (``ESMTPSA``); ``tls_version`` and
    ``tls_cipher``, ``sni``, and ``user``, who logged in, are "" for none; ``sender`` is "" for the
    null reverse-path; the options are ESMTP parameters as sent; ``terminator`` is what ended the
    content: ``CRLF.CRLF``, a name of mtad.model.profile.TERMINATORS, or ``BDAT``; ``notes`` say
    what a strict server would have minded; ``runs`` are the profile's rules for the tag of a test
    run; ``session`` is the key of its session (mtad.model.ids); ``mail`` is what a rule has said is
    to become of it, if one has.
    """

    received_ns: Number
    listener: str
    worker: Number
    peer: str
    helo: str
    protocol: str
    tls_version: str
    tls_cipher: str
    sni: str
    user: str
    sender: str
    sender_options: tuple[str, ...]
    recipients: tuple[str, ...]
    recipient_options: tuple[tuple[str, ...], ...]
    terminator: str
    notes: tuple[str, ...]
    runs: tuple[str, ...]
    session: Number
    mail: Mail | None = None


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """What is known of a session at its end, besides its transcript.

    ``key`` names it (mtad.model.ids); instants are in nanoseconds since the epoch; octets are
    those on the wire, inside TLS. ``messages`` were accepted; ``replies`` counts them by code.
    ``phases`` has a histogram (mtad.model.histogram) of the microseconds from the connection to
    the ``banner``, from each ``command`` to its reply, and from the end of a message to the reply
    to its ``data``. ``ended`` says how; ``failed``: something was refused, or given up half way;
    ``transcript`` is ``all``, ``cut`` (its end is missing) or ``none``.
    """

    key: Number
    listener: str
    worker: Number
    peer: str
    helo: str
    protocol: str
    tls_version: str
    tls_cipher: str
    sni: str
    user: str
    began_ns: Number
    ended_ns: Number
    messages: Count
    octets_in: Count
    octets_out: Count
    replies: dict[int, Count]
    phases: dict[str, dict[Bucket, Count]]
    ended: str
    failed: bool
    transcript: str


class Body(Protocol):
    """The content of one message, as it arrives and until it is kept or given up.

    Content is what came between 354 and the final dot, dot-unstuffed and otherwise untouched, or
    what came in the chunks of BDAT. ``size`` is in octets.
    """

    size: int

    def write(self, octets: bytes | memoryview) -> None:
        """Add to the content. Raises StoreError when there is no room."""
        ...

    def discard(self) -> None:
        """Give the content up, unless it has been given to the store; any number of times."""
        ...


class Store(Protocol):
    """Where captured messages go."""

    def body(self) -> Body:
        """Return the place for a message that is about to arrive."""
        ...

    def keep(
        self, message: Captured, body: Body, answered: Callable[[str | StoreError], None]
    ) -> None:
        """Keep what ``body`` has, which is the store's from now on, as that of ``message``.

        ``answered`` is called once, later, on the loop: with the id of what is kept, "" where the
        answer does not wait for one, or why it is not kept.
        """
        ...

    def session(self, summary: SessionSummary) -> None:
        """Keep what is known of a session that has ended; soon, and nobody is told."""
        ...

    def transcript(self, key: int, part: int, entries: list[Any]) -> None:
        """Keep a part, counted from 0, of the transcript of session ``key``; as ``session``."""
        ...

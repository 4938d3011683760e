"""How a listener behaves towards its senders, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Switch(StrEnum):
    """What is done with an extension: announced, served without a word, or refused."""

    ON = "on"
    HIDDEN = "hidden"
    OFF = "off"


EXTENSIONS = (
    "PIPELINING",
    "SIZE",
    "8BITMIME",
    "SMTPUTF8",
    "CHUNKING",
    "BINARYMIME",
    "ENHANCEDSTATUSCODES",
    "DSN",
    "STARTTLS",
    "AUTH",
    "REQUIRETLS",
    "LIMITS",
    "XCLIENT",
    "VRFY",
    "HELP",
)
"""The names that a profile may switch, in the order in which EHLO announces them."""

MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2")
"""The mechanisms of AUTH, in the order in which they are announced."""


class Newlines(StrEnum):
    """What is done with a message that has a bare CR, a bare LF or a NUL."""

    STRICT = "strict"
    LENIENT = "lenient"
    EMULATE = "emulate"


TERMINATORS = {
    "lf-dot-lf": b"\n.\n",
    "lf-dot-crlf": b"\n.\r\n",
    "crlf-dot-lf": b"\r\n.\n",
    "cr-dot-cr": b"\r.\r",
    "cr-dot-crlf": b"\r.\r\n",
    "crlf-dot-cr": b"\r\n.\r",
}
"""The ends of DATA, besides CRLF.CRLF, that weak servers know (SMTP smuggling, CVE-2023-51764)."""


class Early(StrEnum):
    """What is done with a client that talks before the greeting."""

    NOTE = "note"
    REFUSE = "refuse"


class Transcripts(StrEnum):
    """Which sessions are written down, command by command."""

    ALL = "all"
    FAILED = "failed"
    NONE = "none"


RUN_RULES = ("plus-address", "user", "listener")
"""What may give a message the tag of its test run, besides ``header NAME``: the part behind a +
of a recipient's address, who has logged in, the name of the listener."""


class ClientCertificates(StrEnum):
    """Whether a client has to show a certificate in the TLS handshake."""

    NONE = "none"
    ASK = "ask"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate chain and its private key, as PEM files."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of a listener. The first key pair is for clients whose SNI names no other.

    No key pair: STARTTLS is not offered. ``minimum_version`` is ``1.0`` to ``1.3``; ``client_ca``
    is a PEM file ("" for none).
    """

    key_pairs: tuple[KeyPair, ...] = ()
    minimum_version: str = "1.2"
    client_certificates: ClientCertificates = ClientCertificates.NONE
    client_ca: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH (RFC 4954). ``users`` maps names to passwords (tokens, for XOAUTH2); None: anyone.

    ``attempts`` is how many may fail before the session is ended.
    """

    users: dict[str, str] | None = field(default=None, repr=False)
    mechanisms: tuple[str, ...] = MECHANISMS
    before_tls: bool = False
    required: bool = False
    attempts: int = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a session ends or a command is refused; 0 is no limit.

    Octets: ``message_size`` (RFC 1870), ``line_length`` (of a line of a message, its CRLF
    included), ``command_length`` (CRLF included). Counts: ``recipients`` in a transaction,
    ``transactions`` and ``errors`` in a session, ``sessions`` of the listener and of one peer.
    """

    message_size: int = 33_554_432
    line_length: int = 0
    command_length: int = 4096
    recipients: int = 1000
    transactions: int = 0
    errors: int = 50
    sessions: int = 0
    sessions_per_peer: int = 0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a silent client is waited for, in seconds (RFC 5321 section 4.5.3.2).

    ``command`` for the next command, ``data`` for more of a message, ``handshake`` for a whole
    PROXY header and a whole TLS handshake.
    """

    command: float = 300.0
    data: float = 180.0
    handshake: float = 30.0


@dataclass(frozen=True, slots=True)
class Profile:
    """The behaviour of a listener.

    ``hostname`` names the server in its banner and replies ("" for the machine's own name);
    ``extensions`` holds what is not ``on``; ``terminator`` is a name of TERMINATORS, for
    ``Newlines.EMULATE``; ``greeting_delay`` is in seconds; ``proxy_from`` and ``xclient_from``
    are IP networks, of the clients that have to send a PROXY header and may use XCLIENT;
    ``handler`` is ``package.module:Class``, an aiosmtpd handler, or ""; ``keep`` is False when
    messages are thrown away after their 250, and no transcripts are kept either. ``runs`` are the
    rules for the tag of a test run, in the order in which they are tried: ``header NAME``, or one
    of RUN_RULES.
    """

    hostname: str = ""
    extensions: dict[str, Switch] = field(default_factory=dict)
    tls: Tls = field(default_factory=Tls)
    auth: Auth = field(default_factory=Auth)
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    newlines: Newlines = Newlines.STRICT
    terminator: str = ""
    greeting_delay: float = 0.0
    early_talkers: Early = Early.NOTE
    proxy_from: tuple[str, ...] = ()
    xclient_from: tuple[str, ...] = ()
    handler: str = ""
    keep: bool = True
    transcripts: Transcripts = Transcripts.ALL
    runs: tuple[str, ...] = ("header X-Mtad-Run", "plus-address")

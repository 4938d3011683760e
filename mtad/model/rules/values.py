"""What a rule says: where it applies, at which moment, when, what it does, and for how long.

::

    at      the moment of the session            values.At
    where   what has to be true of it            values.Where     matching.py: a pure predicate
    when    which of the hits that makes         values.When      gates.py: state in, state out
    do      what happens then                    values.Do
    for     how often, how long                  Rule.hits, Rule.seconds

The first rule of a set that fires decides; the others are not asked.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Moment(StrEnum):
    """Where in a session a rule may act: before what the word names is answered or done."""

    CONNECT = "connect"  # accepted; nothing has been read or sent
    TLS = "tls"  # a TLS handshake is about to begin
    BANNER = "banner"
    HELO = "helo"
    EHLO = "ehlo"  # EHLO, LHLO
    STARTTLS = "starttls"
    AUTH = "auth"
    XCLIENT = "xclient"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BDAT = "bdat"
    BODY = "body"  # behind 354, in the content: at its beginning, at an octet or after a line
    MESSAGE = "message"  # the content is complete; it is neither kept nor answered
    KEPT = "kept"  # it is kept; the sender does not know
    ANSWERED = "answered"  # the sender may have read the 250
    RSET = "rset"
    NOOP = "noop"
    VRFY = "vrfy"
    EXPN = "expn"
    HELP = "help"
    ETRN = "etrn"
    QUIT = "quit"


COMMANDS = {
    "HELO": Moment.HELO,
    "EHLO": Moment.EHLO,
    "LHLO": Moment.EHLO,
    "STARTTLS": Moment.STARTTLS,
    "AUTH": Moment.AUTH,
    "XCLIENT": Moment.XCLIENT,
    "MAIL": Moment.MAIL,
    "RCPT": Moment.RCPT,
    "DATA": Moment.DATA,
    "BDAT": Moment.BDAT,
    "RSET": Moment.RSET,
    "NOOP": Moment.NOOP,
    "VRFY": Moment.VRFY,
    "EXPN": Moment.EXPN,
    "HELP": Moment.HELP,
    "ETRN": Moment.ETRN,
    "QUIT": Moment.QUIT,
}
"""The moment of each command; ``at: command`` stands for all of them."""


class Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a rule; it travels between processes as it is."""


class At(Value, frozen=True):
    """A moment; of BODY: once ``octets`` of the content have come, or after ``lines`` of it."""

    moment: Moment
    octets: int = 0
    lines: int = 0


class Between(Value, frozen=True):
    """A size in octets, both ends included; ``most`` None: no end."""

    least: int = 0
    most: int | None = None


Patterns = tuple[str, ...]
"""One of them has to match: a glob of the whole text, or ``/a regular expression/`` found in it;
neither looks at case."""

FACTS = (
    "listener",
    "peer",
    "helo",
    "user",
    "sender",
    "sender_domain",
    "recipient",
    "recipient_domain",
)
"""What can tell one sender's attempt from another's: the words for ``When.per``."""


class Where(Value, frozen=True):
    """What has to be true; what is empty or None always is.

    ``peer`` has IP networks, and ``unix``. A condition on what is not known yet (the sender, at the
    banner) is false. ``recipient`` is that of RCPT, and later any of the message; ``size`` that
    of MAIL's SIZE=, and in the end that of the content; ``header`` maps names of fields, in lower
    case, to patterns of one of their values. ``run`` is the tag of a test run.
    """

    listener: Patterns = ()
    peer: tuple[str, ...] = ()
    helo: Patterns = ()
    tls: bool | None = None
    user: Patterns = ()
    sender: Patterns = ()
    recipient: Patterns = ()
    size: Between | None = None
    header: dict[str, Patterns] = {}
    run: str = ""


class Gate(Value, frozen=True, tag_field="is", tag=str.lower):
    """Which of the hits of a key fire; counted for all workers together."""


class Nth(Gate, frozen=True):
    """The ``number``-th alone, counted from 1."""

    number: int


class Every(Gate, frozen=True):
    """Each ``number``-th."""

    number: int


class First(Gate, frozen=True):
    """The first ``number``."""

    number: int


class After(Gate, frozen=True):
    """All but the first ``number``."""

    number: int


class Chance(Gate, frozen=True):
    """Each with ``probability``: the same attempt has the same answer, in whatever order."""

    probability: float


class Greylist(Gate, frozen=True):
    """Until ``delay`` seconds after the first.

    And again if none comes within ``window`` seconds of it; who has passed once passes for
    ``remember`` seconds after each.
    """

    delay: float = 60.0
    window: float = 14_400.0
    remember: float = 3_024_000.0


class Rate(Gate, frozen=True):
    """What is more than ``limit`` in ``seconds``: a token bucket, full at the beginning.

    It holds ``burst``, or ``limit`` where that is 0. With ``growth`` the limit of the nth period is
    ``limit * growth ** (n - 1)``, counted from the first hit, and what a period leaves is not
    carried over: a warm-up.
    """

    limit: float
    seconds: float = 60.0
    burst: float = 0.0
    growth: float = 1.0


class Quota(Gate, frozen=True):
    """What would make the accepted octets of a key more than ``octets``."""

    octets: int


AnyGate = Nth | Every | First | After | Chance | Greylist | Rate | Quota


class Window(Value, frozen=True):
    """Seconds of a day, UTC; an ``end`` before ``begin`` is of the next day."""

    begin: int
    end: int


class Cycle(Value, frozen=True):
    """``on`` seconds in which the rule acts, then ``off`` in which not, again and again."""

    on: float
    off: float


class When(Value, frozen=True):
    """At which times, and at which of the hits.

    ``per`` (of FACTS) says what has a count of its own: its values are the key. What is drawn comes
    from ``seed``, the rule's name, the key, and the number of the hit. ``drawn``: the seed itself
    is; a rule that is read again has another, and is the same rule.
    """

    gate: AnyGate | None = None
    per: tuple[str, ...] = ()
    seed: int = 0
    daily: tuple[Window, ...] = ()
    cycle: Cycle | None = None
    drawn: bool = False


class Said(Value, frozen=True):
    """A reply; ``status`` is an enhanced status code or ""; newlines are between lines."""

    code: int
    status: str = ""
    text: str = ""


class Tarpit(Value, frozen=True):
    """A delay that grows with the session's errors: ``base * growth ** errors``, at ``most``."""

    base: float = 1.0
    growth: float = 2.0
    most: float = 60.0


class Close(StrEnum):
    """How a connection ends: FIN, RST, or only our half of it, while we go on reading."""

    FIN = "fin"
    RST = "rst"
    HALF = "half"


class Shutter(Value, frozen=True):
    """A fault of the whole listener, for ``seconds``.

    It is closed, and opened again; or ``deaf``: it listens, and accepts nobody.
    """

    seconds: float
    deaf: bool = False


class Flawed(StrEnum):
    """What is wrong with a certificate; the test CA of ``tls: auto`` has signed all but two."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    WRONG_NAME = "wrong-name"
    WEAK_KEY = "weak-key"
    SELF_SIGNED = "self-signed"
    UNKNOWN_CA = "unknown-ca"


class TlsFault(Value, frozen=True):
    """Another TLS than the profile's: what is "" or None is the profile's.

    ``alert`` is the number of an alert (RFC 8446 section 6) that answers the ClientHello.
    """

    certificate: Flawed | None = None
    minimum_version: str = ""
    maximum_version: str = ""
    client_certificates: str = ""
    alert: int | None = None


class Bounce(Value, frozen=True):
    """A delivery status notification (RFC 3464) to the sender, through ``hop``."""

    hop: str
    status: str = "5.0.0"
    text: str = "Delivery failed"


class Mail(Value, frozen=True):
    """What becomes of a message that is answered 250.

    ``discard`` it; else it is kept, and relayed to the ``forward`` hop (``host:port``), unless it
    is on ``hold``; or bounced.
    """

    discard: bool = False
    hold: bool = False
    forward: str = ""
    bounce: Bounce | None = None


class Do(Value, frozen=True):
    """What happens, in this order: wait, answer, close.

    The command is carried out unless the answer says that it is not (a reply of 4xx or 5xx, or
    ``raw`` octets that do not begin with 2 or 3, ``mute``, a close without an answer).

    ``delay`` and ``jitter`` (up to so much more, drawn) are seconds. ``raw`` is sent as it is,
    ``repeat`` times. ``mute``: no reply to this command; ``silent``: to none from now on, though
    all is read; ``deaf``: nothing is read any more (the client's window closes). ``send_rate`` and
    ``read_rate`` are octets a second, from now on. ``hide`` takes keywords out of EHLO's reply.
    Of ``one_of``, one is drawn by weight, and is done instead.
    """

    reply: Said | None = None
    raw: bytes | None = None
    repeat: int = 1
    mute: bool = False
    delay: float = 0.0
    jitter: float = 0.0
    tarpit: Tarpit | None = None
    send_rate: float = 0.0
    read_rate: float = 0.0
    silent: bool = False
    deaf: bool = False
    close: Close | None = None
    listener: Shutter | None = None
    hide: tuple[str, ...] = ()
    tls: TlsFault | None = None
    mail: Mail | None = None
    one_of: tuple[Choice, ...] = ()


class Choice(Value, frozen=True):
    """One of several things to do; its chance is its share of all weights."""

    weight: float
    do: Do


class Source(StrEnum):
    """Where a rule is written."""

    ADDED = "added"  # by a command
    FILE = "file"  # in the stanza `rules`
    PROFILE = "profile"


class Rule(Value, frozen=True):
    """A rule. Its ``name`` is unique in the daemon; that of a profile is ``PROFILE/NAME``.

    It fires ``hits`` times at most, and ends ``seconds`` after it was made; 0: no limit.
    """

    name: str
    at: tuple[At, ...]
    do: Do
    where: Where = Where()
    when: When = When()
    hits: int = 0
    seconds: float = 0.0
    enabled: bool = True
    source: Source = Source.FILE

    @property
    def profile(self) -> str:
        """The profile whose listeners alone have this rule; "": all listeners."""
        return self.name.partition("/")[0] if self.source is Source.PROFILE else ""

    @property
    def is_counted(self) -> bool:
        """Whether only the supervisor can say if it fires, or what is drawn."""
        return self.when.gate is not None or self.hits > 0 or _needs_supervisor(self.do)


def _needs_supervisor(do: Do) -> bool:
    return bool(do.listener or do.one_of or do.jitter)


_ALL = frozenset(Moment)
_COMMANDS = frozenset(COMMANDS.values())
_ANSWERS = _COMMANDS | {Moment.BANNER, Moment.MESSAGE, Moment.KEPT}

MEANT_FOR = {
    "reply": _ANSWERS | {Moment.BODY},
    "raw": _ALL,
    "repeat": _ALL,
    "mute": _ANSWERS,
    "delay": _ALL,
    "jitter": _ALL,
    "tarpit": _ALL,
    "send_rate": _ALL,
    "read_rate": _ALL,
    "silent": _ALL,
    "deaf": _ALL,
    "close": _ALL,
    "listener": _ALL,
    "hide": frozenset({Moment.EHLO}),
    "tls": frozenset({Moment.TLS}),
    "mail": frozenset({Moment.MESSAGE}),
    "one_of": _ALL,
}
"""At which moments each field of Do has a meaning."""

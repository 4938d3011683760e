"""Dialogues of every kind, in any chunks, against a small model of a session.

Each rule says a command to the model, which tells the codes to expect, and puts its octets on the
pile of what is pipelined; ``send`` sends the pile, cut anywhere, reads one reply for each command,
and compares the session with the model.
"""

from __future__ import annotations

import asyncio
import hmac
import tempfile
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from harness import replies
from harness.body_model import expected
from harness.complaints import complaints
from harness.serving import Client, Serving, serving
from harness.tls_peers import client_context, key_pair
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from mtad.model.listener import Protocol
from mtad.model.profile import Auth, KeyPair, Limits, Newlines, Profile, Switch, Tls
from mtad.smtp.body import Flaw
from mtad.smtp.stage import Stage

_ERRORS = {500, 501, 502, 503, 504, 535, 538, 555}
_PATIENCE = 10.0
_SHARE = 16_384  # octets that one recv(2) takes of commands
_TIM = b64encode(b"\0tim\0tanstaaf")
_WRONG = b64encode(b"\0tim\0wrong")
_SECRETS = [_TIM, _WRONG, b64encode(b"tanstaaf"), b64encode(b"wrong")]
_IGNORED = f"{Stage.IGNORED}: ".encode()
_OFF = Switch.OFF
_FEW = Limits(
    message_size=60, line_length=20, command_length=100, recipients=2, transactions=2, errors=6
)


@cache
def _pair() -> KeyPair:
    return key_pair(Path(tempfile.mkdtemp(prefix="mtad-")), "mx.example")


class Setup(NamedTuple):
    """A listener: its protocol, and its profile's options; ``tls``: it has a certificate."""

    options: dict[str, Any]
    protocol: Protocol = Protocol.SMTP
    tls: bool = False
    tls_required: bool = False


_KNOWN = Auth({"tim": "tanstaaf"}, before_tls=True, attempts=3)
SETUPS = [
    Setup({"auth": _KNOWN}),
    Setup({"auth": Auth(before_tls=True)}),
    Setup({"auth": Auth({"tim": "tanstaaf"}, required=True)}, tls=True),
    Setup({}, tls=True, tls_required=True),
    Setup({"auth": Auth({"tim": "tanstaaf"}, attempts=1)}, tls=True),
    Setup({"limits": _FEW, "auth": _KNOWN}),
    Setup({"limits": _FEW, "newlines": Newlines.LENIENT}, Protocol.LMTP),
    Setup({"newlines": Newlines.EMULATE, "terminator": "lf-dot-lf"}),
    Setup({"newlines": Newlines.EMULATE, "terminator": "cr-dot-crlf"}, Protocol.LMTP, tls=True),
    Setup({"limits": Limits(message_size=20, line_length=12), "newlines": Newlines.LENIENT}),
    Setup({"extensions": {"CHUNKING": _OFF, "SMTPUTF8": _OFF, "ENHANCEDSTATUSCODES": _OFF}}),
    Setup({"extensions": {"SIZE": _OFF, "8BITMIME": _OFF, "DSN": _OFF, "VRFY": _OFF}}),
    Setup({"extensions": {"PIPELINING": Switch.HIDDEN, "AUTH": _OFF, "HELP": _OFF}}),
    Setup({"xclient_from": ("127.0.0.0/8",), "auth": _KNOWN}),
    Setup({"proxy_from": ("127.0.0.0/8",), "xclient_from": ("192.0.2.0/24",)}, tls=True),
    Setup({"handler": "harness.handlers:Waits", "auth": _KNOWN}),
    Setup({"handler": "harness.handlers:Waits"}, Protocol.LMTP, tls=True),
    Setup({"handler": "harness.handlers:Indifferent", "limits": _FEW}),
]


@dataclass
class Argument:
    """The argument of MAIL or RCPT: what is meant, or the code of its refusal."""

    text: str
    mailbox: str = ""
    code: int = 0


PATHS = [
    Argument("<a@b.example>", "a@b.example"),
    Argument(" <a@b.example> ", "a@b.example"),
    Argument("<no@b.example>", "no@b.example"),
    Argument('<"a b>"@b.example>', '"a b>"@b.example'),
    Argument("<@r.example,@s.example:a@[192.0.2.1]>", "a@[192.0.2.1]"),
    Argument("<ü@b.example>", "ü@b.example"),
    Argument("a@b.example", code=501),
    Argument("<a@b.example>x", code=501),
    Argument("", code=501),
    Argument("<a@>", code=553),
    Argument("<@b.example>", code=553),
    Argument("<a\x01@b.example>", code=500),
]
# The extension that brings a parameter, or "", and the code of what is malformed.
MAIL_PARAMETERS = {
    "": ("", 0),
    "SIZE=10": ("SIZE", 0),
    "SIZE=61": ("SIZE", 0),
    "SIZE=x": ("SIZE", 501),
    "BODY=8BITMIME": ("8BITMIME", 0),
    "BODY=BINARYMIME": ("BINARYMIME", 0),
    "SMTPUTF8": ("SMTPUTF8", 0),
    "RET=FULL": ("DSN", 0),
    "ENVID=+": ("DSN", 501),
    "FOO=bar": ("FOO", 0),
    "=": ("", 501),
}
RCPT_PARAMETERS = {
    "": ("", 0),
    "NOTIFY=NEVER": ("DSN", 0),
    "NOTIFY=NEVER,DELAY": ("DSN", 501),
    "ORCPT=rfc822;a@b": ("DSN", 0),
    "SIZE=10": ("FOO", 0),
}
paths = st.sampled_from(PATHS[:3]) | st.sampled_from(PATHS)
bodies = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r\n", b".", b"a", b"\xff", b"x" * 18, b"\r", b"\n", b"\0", b"\n.\n"]
    ),
    max_size=12,
)
chunks = st.binary(max_size=5) | st.sampled_from([b"NOOP\r\n", b"x" * 20, b"x" * 60, b"x"])
_NEEDS = {"BINARYMIME": "CHUNKING", "SMTPUTF8": "8BITMIME"}


@dataclass
class Model:
    """What a session should be."""

    setup: Setup
    profile: Profile
    kept: list[tuple[str, tuple[str, ...], bytes]] = field(default_factory=list)
    hello: str = ""
    extended: bool = False
    secure: bool = False
    user: str = ""
    sender: str | None = None
    utf8: bool = False
    binary: bool = False
    recipients: list[str] = field(default_factory=list)
    chunks: bytes | None = None
    too_big: bool = False
    transactions: int = 0
    begun: int = 0
    accepted: int = 0
    errors: int = 0
    failures: int = 0
    ended: bool = False

    @property
    def is_lmtp(self) -> bool:
        return self.setup.protocol is Protocol.LMTP

    @property
    def waits(self) -> bool:
        return self.profile.handler.endswith("Waits")

    def serves(self, extension: str) -> bool:
        """Whether an extension is there; "" is always."""
        needed = _NEEDS.get(extension, "")
        return (
            extension != "FOO"
            and (not needed or self.serves(needed))
            and self.profile.extensions.get(extension) is not _OFF
        )

    def answer(self, *codes: int) -> list[int]:
        """Return the codes that really come: none after the end, 421 after too many errors."""
        really = []
        for code in codes:
            if self.ended:
                break
            really.append(code)
            if code in _ERRORS:
                self.errors += 1
                if self.errors == self.profile.limits.errors:
                    really.append(421)
                    self.ended = True
        return really

    def answer_message(self, codes: list[int]) -> list[int]:
        """Return the same for a message: however many replies it has, it is one error at most."""
        return [] if self.ended else codes[1:] + self.answer(codes[0])

    def guard(self) -> int:
        """Return the code of what waits for TLS, or 0."""
        return 530 if self.profile.tls.required and not self.secure else 0

    def admitted(self) -> int:
        """Return the code of what is refused to strangers, or 0."""
        if not self.hello:
            return 503
        return 530 if self.profile.auth.required and not self.user else 0

    def greet(self, verb: str, name: str) -> int:
        if not name or name.startswith("-"):
            return 501
        if verb == "HELO" and self.guard():
            return 530
        if (verb == "LHLO") != self.is_lmtp:
            return 500
        self.reset()
        self.hello, self.extended = name, verb != "HELO"
        return 250

    def reset(self) -> None:
        self.sender, self.recipients, self.chunks = None, [], None
        self.utf8 = self.binary = self.too_big = False

    def begin_anew(self) -> None:
        self.reset()
        self.hello, self.extended, self.user = "", False, ""

    def parameter(self, table: dict[str, tuple[str, int]], text: str) -> int:
        extension, code = table[text]
        if extension and not (self.extended and self.serves(extension)):
            return 555
        return code

    def mail(self, path: Argument, parameter: str) -> int:
        limits = self.profile.limits
        refused = path.code or self.guard() or self.admitted()
        if refused:
            return refused
        if self.sender is not None:
            return 503
        if limits.transactions and self.transactions >= limits.transactions:
            return 452
        if code := self.parameter(MAIL_PARAMETERS, parameter):
            return code
        if parameter == "SIZE=61" and limits.message_size < 61:
            return 552
        if not path.mailbox.isascii() and parameter != "SMTPUTF8":
            return 553
        self.sender = path.mailbox
        self.begun += 1
        self.utf8, self.binary = parameter == "SMTPUTF8", parameter == "BODY=BINARYMIME"
        return 250

    def rcpt(self, path: Argument, parameter: str) -> int:
        refused = path.code or self.guard() or self.admitted()
        if refused:
            return refused
        if self.sender is None or self.chunks is not None:
            return 503
        if code := self.parameter(RCPT_PARAMETERS, parameter):
            return code
        if not path.mailbox.isascii() and not self.utf8:
            return 553
        if len(self.recipients) >= self.profile.limits.recipients:
            return 452
        if self.waits and path.mailbox.startswith("no"):
            return 550
        self.recipients.append(path.mailbox)
        return 250

    def data(self, argument: str) -> int:
        refused = self.guard() or self.admitted()
        if refused:
            return refused
        if argument:
            return 501
        if not self.recipients or self.chunks is not None or self.binary:
            return 503
        return 354

    def message(self, content: bytes | None, code: int) -> list[int]:
        """End the transaction with a message; ``code`` is not 0 when it is refused."""
        replies = len(self.recipients) if self.is_lmtp else 1
        if not code:
            assert content is not None
            self.kept.append((self.sender or "", tuple(self.recipients), content))
            self.accepted += 1
        self.transactions += 1
        self.reset()
        return [code or 250] * replies

    def chunk(self, octets: bytes, *, last: bool) -> list[int]:
        refused = self.admitted() or (0 if self.recipients else 503)
        if refused:
            return [refused]
        content = (self.chunks or b"") + octets
        self.chunks = content
        self.too_big |= len(content) > self.profile.limits.message_size
        code = 552 if self.too_big else 0
        return self.message(content, code) if last else [code or 250]

    def may_authenticate(self) -> int:
        if self.guard():
            return 530
        if not (self.hello and self.extended) or self.user or self.sender is not None:
            return 503
        return 0 if self.secure or self.profile.auth.before_tls else 538

    def authenticate(self, code: int) -> list[int]:
        """Answer the end of an exchange."""
        if code == 235:
            self.user = "tim"
            return self.answer(235)
        codes = self.answer(code)
        self.failures += 1
        if self.failures == self.profile.auth.attempts and not self.ended:
            codes.append(421)
            self.ended = True
        return codes


class Piled(NamedTuple):
    """A command with what belongs to it, and the codes that have to come."""

    octets: bytes
    codes: list[int]


def command(extension: str = "", **arguments: Any) -> Callable[[Any], Any]:
    """Make a rule of what can be said before the end, where there is ``extension``."""

    def decorate(method: Any) -> Any:
        def is_open(machine: Dialogues) -> bool:
            return not machine.model.ended and machine.model.serves(extension)

        only: Any = precondition(is_open)  # the decorators of hypothesis have no types for this
        made: Any = rule(**arguments)
        return only(made(method))

    return decorate


class Dialogues(RuleBasedStateMachine):
    """A client that says anything."""

    loop: asyncio.AbstractEventLoop
    served: Serving
    client: Client
    model: Model

    @initialize(
        setup=st.sampled_from(SETUPS),
        new_loop=st.sampled_from([asyncio.new_event_loop, uvloop.new_event_loop]),
    )
    def connect(self, setup: Setup, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        options = {"hostname": "mx.example", **setup.options}
        if setup.tls:
            options["tls"] = Tls((_pair(),), required=setup.tls_required)
        self.loop = new_loop()
        self.connections = 0
        self.pile: list[Piled] = []
        self.sent = 0  # octets of the pile
        self.stack = AsyncExitStack()
        self.closing = ExitStack()
        self.complaints = self.closing.enter_context(complaints())
        self.served = self.run(self.stack.enter_async_context(serving(
            protocol=setup.protocol, **options
        )))  # fmt: skip
        self.model = Model(setup, Profile(**options))
        self.call()

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(what, _PATIENCE))

    def call(self) -> None:
        """Connect; the greeting is the first reply."""
        self.client = self.run(self.served.client())
        self.model = Model(self.model.setup, self.model.profile, self.model.kept)
        self.heard = b""
        header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n" * bool(self.model.profile.proxy_from)
        self.pile, self.sent = [Piled(header, [220])], 0

    def say(self, line: str, *codes: int) -> None:
        self.pile.append(Piled(line.encode() + b"\r\n", self.model.answer(*codes)))

    # What is said

    @command(
        verb=st.sampled_from(["EHLO", "HELO", "LHLO", "EhLo"]),
        name=st.sampled_from(["client.example", "[192.0.2.1]", "", "-bad"]),
    )
    def greet(self, verb: str, name: str) -> None:
        self.say(f"{verb} {name}", self.model.greet(verb.upper(), name))

    @command()
    def greet_well(self) -> None:
        """As most clients do."""
        verb = "LHLO" if self.model.is_lmtp else "EHLO"
        self.say(f"{verb} client.example", self.model.greet(verb, "client.example"))

    @command(path=paths, parameter=st.just("") | st.sampled_from(sorted(MAIL_PARAMETERS)))
    def mail(self, path: Argument, parameter: str) -> None:
        code = self.model.mail(path, parameter)
        self.say(f"MAIL FROM:{path.text} {parameter}", code)

    @command()
    def mail_from_nobody(self) -> None:
        self.say("MAIL FROM:<>", self.model.mail(Argument("<>", ""), ""))

    @command(path=paths, parameter=st.just("") | st.sampled_from(sorted(RCPT_PARAMETERS)))
    def rcpt(self, path: Argument, parameter: str) -> None:
        self.say(f"RCPT TO:{path.text} {parameter}", self.model.rcpt(path, parameter))

    @command()
    def be_admitted(self) -> None:
        """Do what a client has to do first."""
        if self.model.setup.tls and not self.model.secure:
            self.starttls()
        self.greet_well()
        if self.model.profile.auth.required:
            self.plain(b" " + _TIM, b"")

    @command(count=st.integers(1, 3))
    def envelope(self, count: int) -> None:
        """Say everything that a message needs."""
        self.be_admitted()
        self.mail(PATHS[0], "")
        for _ in range(count):
            self.rcpt(PATHS[0], "")

    @command(count=st.integers(1, 3), tokens=bodies)
    def message(self, count: int, tokens: list[bytes]) -> None:
        self.envelope(count)
        self.data("", tokens)

    @command(
        "CHUNKING",
        count=st.integers(1, 3),
        octets=st.lists(chunks, min_size=1, max_size=3),
        is_whole=st.booleans(),
    )
    def message_in_chunks(self, count: int, octets: list[bytes], is_whole: bool) -> None:
        self.envelope(count)
        for chunk in octets[:-1]:
            self.chunk(chunk, last=False)
        self.chunk(octets[-1], last=is_whole)

    @command(argument=st.sampled_from(["", "", "", "now"]), tokens=bodies)
    def data(self, argument: str, tokens: list[bytes]) -> None:
        code = self.model.data(argument)
        self.say(f"DATA {argument}", code)
        if code != 354 or self.model.ended:
            return
        profile = self.model.profile
        policy = (profile.newlines, profile.terminator, profile.limits.line_length)
        stream = b"".join(tokens) + b"\r\n.\r\n"
        stream = stream[: len(stream) - len(expected(stream, *policy).rest)]
        read = expected(stream, *policy)
        assert read.ended_by is not None
        refused = 0
        if read.content is None:
            is_strict = profile.newlines is Newlines.STRICT and read.flaws != {Flaw.TOO_LONG_LINE}
            refused = 550 if is_strict else 500
        elif len(read.content) > profile.limits.message_size:
            refused = 552
        codes = self.model.answer_message(self.model.message(read.content, refused))
        self.pile.append(Piled(stream, codes))

    @command(
        "CHUNKING",
        octets=st.binary(max_size=5) | st.sampled_from([b"NOOP\r\n", b"x" * 61]),
        last=st.booleans(),
    )
    def chunk(self, octets: bytes, *, last: bool) -> None:
        codes = self.model.answer_message(self.model.chunk(octets, last=last))
        line = b"BDAT %d%b\r\n" % (len(octets), b" LAST" * last)
        self.pile.append(Piled(line + octets, codes))

    @command()
    def no_chunk(self) -> None:
        self.say("BDAT x", *([501] if self.model.serves("CHUNKING") else [502]))
        self.model.ended |= self.model.serves("CHUNKING")

    @command(argument=st.sampled_from(["", " ", " now"]))
    def rset(self, argument: str) -> None:
        code = 501 if argument.strip() else self.model.guard() or 250
        if code == 250:
            self.model.reset()
        self.say(f"RSET{argument}", code)

    @command(count=st.sampled_from([1, 2, 70]))
    def noop(self, count: int) -> None:
        for _ in range(count):
            self.say("NOOP x", 250)

    @command()
    def vrfy(self) -> None:
        code = self.model.guard()
        if not code and self.model.profile.auth.required and not self.model.user:
            code = 530
        self.say("VRFY x", (code or 252) if self.model.serves("VRFY") else 502)

    @command()
    def help(self) -> None:
        self.say("HELP", (self.model.guard() or 214) if self.model.serves("HELP") else 502)

    @command(verb=st.sampled_from(["EXPN x", "ETRN x"]))
    def refused(self, verb: str) -> None:
        self.say(verb, self.model.guard() or 502)

    @command(
        line=st.sampled_from(["", " NOOP", "FOO", "NOOP\0", "NOOP a\rb", "NOOP \x85", "\u2028"]),
    )
    def nonsense(self, line: str) -> None:
        self.say(line, 502 if line == "FOO" else 500)

    @command(octets=st.sampled_from([b"NOOP \xff\r\n", b"NOOP " + b"x" * 5000 + b"\r\n"]))
    def no_line(self, octets: bytes) -> None:
        self.pile.append(Piled(octets, self.model.answer(500)))

    @command(octets=st.sampled_from([b"NOOP\n", b"RSET x\n"]))
    def bare_lf(self, octets: bytes) -> None:
        is_strict = self.model.profile.newlines is Newlines.STRICT
        code = 250 if octets.startswith(b"NOOP") else self.model.guard() or 501
        self.pile.append(Piled(octets, self.model.answer(500 if is_strict else code)))

    @command()
    def quit(self) -> None:
        self.say("QUIT now", 501)
        self.say("QUIT", 221)
        self.model.ended = True

    @precondition(lambda self: self.model.ended)
    @rule()
    def talk_on(self) -> None:
        """After the end nothing is answered."""
        self.say("NOOP")

    # Who the client is

    @command(
        "AUTH",
        words=st.sampled_from(["", "FOO", "FOO x", "CRAM-MD5 dGlt", "PLAIN !", "PLAIN dGlt"]),
    )
    def no_auth(self, words: str) -> None:
        code = self.model.may_authenticate()
        if code or not words:
            self.say(f"AUTH {words}", code or 501)
        else:
            codes = self.model.authenticate(504 if words.startswith("FOO") else 501)
            self.pile.append(Piled(f"AUTH {words}\r\n".encode(), codes))

    @command(
        "AUTH",
        first=st.sampled_from([b"", b" " + _TIM, b" " + _WRONG]),
        line=st.sampled_from([_TIM, _WRONG, b"*", b"", b"RSET", b"QUIT\xff", b"x" * 13_000]),
    )
    def plain(self, first: bytes, line: bytes) -> None:
        said = first.strip() or line
        self.exchange(b"auth plain" + first, [] if first else [line], _verdict(said, self.model))

    @command("AUTH", password=st.sampled_from([b"tanstaaf", b"wrong"]), cancelled=st.booleans())
    def login(self, password: bytes, cancelled: bool) -> None:
        lines = [b64encode(b"tim"), b"*" if cancelled else b64encode(password)]
        is_right = password == b"tanstaaf" or self.model.profile.auth.users is None
        self.exchange(b"AUTH LOGIN", lines, 501 if cancelled else 235 if is_right else 535)

    def exchange(self, line: bytes, lines: list[bytes], verdict: int) -> None:
        code = self.model.may_authenticate()
        if code or self.model.ended:
            self.pile.append(Piled(line + b"\r\n", self.model.answer(code)))
            return
        codes = [334] * len(lines) + self.model.authenticate(verdict)
        self.pile.append(Piled(b"\r\n".join([line, *lines, b""]), codes))

    @command("AUTH", password=st.sampled_from([b"tanstaaf", b"wrong"]))
    def cram(self, password: bytes) -> None:
        """What a challenge asks for cannot be pipelined."""
        self.send([], 0)
        if self.model.may_authenticate():
            return
        self.client.say("AUTH CRAM-MD5")
        challenge = b64decode(self.run(self.reply()).split()[1])
        digest = hmac.new(password, challenge, "md5").hexdigest().encode()
        is_right = password == b"tanstaaf" or self.model.profile.auth.users is None
        codes = self.model.authenticate(235 if is_right else 535)
        self.pile.append(Piled(b64encode(b"tim " + digest) + b"\r\n", codes))

    @command()
    def starttls(self) -> None:
        model = self.model
        self.say("STARTTLS now", 501 if model.setup.tls else 502)
        if not model.setup.tls or model.secure or model.ended:
            self.say("STARTTLS", 503 if model.setup.tls else 502)
            return
        self.say("STARTTLS", 220)
        model.begin_anew()
        model.secure = True
        self.send([], 0, settled=False)
        starting = self.client.writer.start_tls(client_context(), server_hostname="mx.example")
        self.run(starting)

    @command(
        argument=st.sampled_from(["ADDR=192.0.2.7", "LOGIN=tim", "HELO=x PROTO=ESMTP", "", "X=y"])
    )
    def xclient(self, argument: str) -> None:
        model = self.model
        code = 501 if argument in ("", "X=y") else model.guard()
        if not code and not model.profile.xclient_from:
            code = 550
        if not code and model.sender is not None:
            code = 503
        if not code:
            code = 220
            model.begin_anew()
            model.user = "tim" if "LOGIN" in argument else ""
            if "HELO" in argument:
                model.hello, model.extended = "x", True
        self.say(f"XCLIENT {argument}", code)

    # What is heard

    @rule(
        cuts=st.lists(st.integers(0, 400), max_size=8) | st.just([-1]),
        kept_back=st.integers(0, 30) | st.just(0),
    )
    def send(self, cuts: list[int], kept_back: int, *, settled: bool = True) -> None:
        """Send the pile but for its last octets, and read what it is answered; [-1]: by octets."""
        octets = b"".join(one.octets for one in self.pile)
        end = max(len(octets) - (0 if self.model.ended else kept_back), self.sent)
        if cuts == [-1] and end - self.sent < 1000:
            edges = [*range(self.sent, end + 1)]
        else:
            edges = sorted(
                {self.sent, end, *(min(self.sent + cut, end) for cut in cuts if cut > 0)}
            )
        # What is said behind a QUIT is said at once, or its reset would overtake the replies.
        last = len(octets) - sum(len(one.octets) for one in self.pile if not one.codes)
        if self.model.ended:
            edges = [edge for edge in edges if edge < last - 1] + [end]
        self.run(self.carry([octets[start:stop] for start, stop in pairwise(edges)]))
        self.sent = end
        while self.pile and len(self.pile[0].octets) <= self.sent:
            whole = self.pile.pop(0)
            self.sent -= len(whole.octets)
            for code in whole.codes:
                reply = self.run(self.reply())
                assert reply.startswith(b"%d" % code), (whole, reply)
        if self.model.ended:
            assert self.run(self.client.rest()) == b""
            self.check_kept()
            self.check_record()
            self.call()
        elif not self.pile and settled:
            self.check_session()

    async def carry(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self.client.writer.write(chunk)
            for _ in range(2):
                await asyncio.sleep(0)
            for session in self.served.acceptor._sessions:
                # What has come while a command waited, and once more before reading was paused.
                assert len(session._input) <= session.service.longest_line + 2 * _SHARE
                assert session.connection.get_write_buffer_size() <= 131_072
        await self.client.writer.drain()

    async def reply(self) -> bytes:
        octets, line = b"", b"   -"
        while line[3:4] == b"-":
            line = await self.client.reader.readline()
            assert line, f"the connection has ended after {octets!r}"
            octets += line
        enhanced = self.model.serves("ENHANCEDSTATUSCODES")
        assert replies.split(octets, enhanced=enhanced) == [octets]
        self.heard += octets
        return octets

    def check_session(self) -> None:
        (session,) = [one for one in self.served.acceptor._sessions if not one._ended]
        envelope, model = session.envelope, self.model
        assert (session.session.host_name or "") == model.hello
        assert session.session.extended_smtp == model.extended
        assert session.is_secure == model.secure
        assert session.user == model.user
        assert bool(session.session.authenticated) == bool(model.user)
        assert (envelope.mail_from if envelope else None) == model.sender
        assert (envelope.rcpt_tos if envelope else []) == model.recipients
        assert (envelope is not None and envelope.body is not None) == (model.chunks is not None)
        assert session._errors == model.errors
        assert session._input == b""
        assert (session.body, session._task, session._asked) == (None, None, None)
        self.check_kept()

    def check_kept(self) -> None:
        store = self.served.store
        kept = [
            (one.sender, one.recipients, content)
            for one, content in zip(store.messages, store.contents, strict=True)
        ]
        assert kept == self.model.kept
        assert self.served.counts.messages == len(kept)
        assert not self.complaints

    def check_record(self) -> None:
        """The transcript has every octet, in order, but for secrets."""
        store = self.served.store
        self.connections += 1
        self.run(self.served.until(lambda: len(store.summaries) == self.connections))
        summary = store.summaries[-1]
        entries = [
            entry for key, _, part in store.transcripts if key == summary.key for entry in part
        ]
        said = [what for _, who, what in entries if who == "S"]
        assert b"".join(said) == self.heard
        assert summary.octets_out == len(self.heard)
        enhanced = self.model.serves("ENHANCEDSTATUSCODES")
        codes = Counter(int(one[:3]) for one in replies.split(self.heard, enhanced=enhanced))
        assert summary.replies == codes
        counted = (one for phase in summary.phases.values() for one in phase.values())
        assert sum(counted) <= sum(codes.values())
        is_done = self.model.begun == self.model.accepted == summary.messages
        assert summary.failed == (summary.ended != "quit" or max(codes) >= 400 or not is_done)
        came = [what for _, who, what in entries if who == "C"]
        assert not any(secret in one for secret in _SECRETS for one in came if type(one) is bytes)
        if not any(one.endswith(b"***\r\n") for one in came if type(one) is bytes):
            ignored = [int(text[len(_IGNORED) :]) for _, who, text in entries
                       if who == "-" and text.startswith(_IGNORED)]  # fmt: skip
            octets = [one["octets"] if isinstance(one, dict) else len(one) for one in came]
            assert summary.octets_in == sum(octets) + sum(ignored)

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        try:
            if not self.model.ended:
                self.quit()
            self.send([], 0)
            self.client.writer.close()
            self.run(self.stack.aclose())
            assert not self.complaints
        finally:
            self.closing.close()
            self.loop.close()


def _verdict(line: bytes, model: Model) -> int:
    if line == _TIM or (line == _WRONG and model.profile.auth.users is None):
        return 235
    return 535 if line == _WRONG else 500 if len(line) > 12_288 else 501


TestDialogues = Dialogues.TestCase
TestDialogues.settings = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

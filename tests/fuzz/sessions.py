"""A whole session by raw octets: however they are cut, the same replies and the same mail."""

from __future__ import annotations

import asyncio
import re
import socket
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import uvloop
from harness import replies
from harness.complaints import complaints
from harness.ruled import COUNTED, rule
from harness.serving import Serving
from harness.tls_peers import key_pair

from mtad.ipc.messages import Weigh
from mtad.model.endpoint import UnixEndpoint
from mtad.model.listener import Protocol
from mtad.model.profile import Auth, Limits, Newlines, Profile, Switch, Tls
from mtad.model.rules.values import At, Close, Moment, Said

_PATIENCE = 10.0
_READY = b"220 2.0.0 Ready to start TLS\r\n"
_CHALLENGE = re.compile(rb"^334 \S{20,}", re.MULTILINE)  # of CRAM-MD5: another each time


class Yields:
    """A handler that lets others go on in the hooks that are most used."""

    async def handle_MAIL(  # noqa: N802 (aiosmtpd's name)
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        await asyncio.sleep(0)
        envelope.mail_from = address
        return "250 Yielded"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        await asyncio.sleep(0)
        return f"250 {len(envelope.content)} octets"

    async def handle_NOOP(self, *_: Any) -> str:  # noqa: N802
        await asyncio.sleep(0)
        return "250 Yielded"


_ANYBODY = {"auth": Auth(before_tls=True)}
_TIM = {"auth": Auth({"tim": "tanstaaf"}, before_tls=True)}
_TRUSTED = {"xclient_from": ("unix",)}
_FEW = Limits(
    message_size=64, line_length=20, command_length=64, recipients=2, transactions=2, errors=4
)
_PROFILES: tuple[tuple[Protocol, dict[str, Any]], ...] = (
    (Protocol.SMTP, _ANYBODY),
    (Protocol.SMTP, {**_TIM, **_TRUSTED, "limits": _FEW}),
    (Protocol.LMTP, {**_ANYBODY, "newlines": Newlines.LENIENT}),
    (Protocol.LMTP, {"limits": _FEW, "newlines": Newlines.EMULATE, "terminator": "crlf-dot-cr"}),
    (Protocol.SMTP, {**_TIM, "newlines": Newlines.EMULATE, "terminator": "lf-dot-lf"}),
    (Protocol.SMTP, {**_TRUSTED, "proxy_from": ("unix",)}),
    (Protocol.SMTP, {"handler": "fuzz.sessions:Yields", **_ANYBODY}),
    (Protocol.SMTP, {"extensions": {"CHUNKING": Switch.OFF, "ENHANCEDSTATUSCODES": Switch.OFF}}),
    (Protocol.SMTP, {"auth": Auth({"tim": "tanstaaf"}, required=True, before_tls=True)}),
    (Protocol.SMTP, {"tls": True}),
)


_ALWAYS = (
    rule(Moment.EHLO, "ehlo", hide=("PIPELINING", "SIZE")),
    rule(Moment.NOOP, "noop", mute=True),
    rule(Moment.HELP, "help", raw=b"214 2.0.0 a\r\n214 2.0.0 b\r\n"),
    rule(Moment.EXPN, "expn", reply=Said(250, "2.1.5", "x")),
    rule(At(Moment.BODY, octets=12), "byte", reply=Said(552, "5.2.2", "x")),
)
_COUNTED = (
    *(
        rule(at, at.value, when=COUNTED, reply=Said(450, "4.2.0", "x"))
        for at in (Moment.BANNER, Moment.MAIL, Moment.RCPT, Moment.DATA, Moment.BDAT, Moment.RSET)
    ),
    rule(At(Moment.BODY, lines=1), "line", when=COUNTED, reply=Said(250, "2.0.0", "x")),
    rule(Moment.MESSAGE, "message", when=COUNTED, reply=Said(451, "4.3.0", "x")),
    rule(Moment.KEPT, "kept", when=COUNTED, reply=Said(452, "4.3.1", "x")),
    rule(Moment.ANSWERED, "answered", when=COUNTED, raw=b"250 2.0.0 x\r\n"),
    rule(Moment.QUIT, "quit", when=COUNTED, mute=True),
)
_ENDING = (
    rule(Moment.VRFY, "vrfy", close=Close.FIN),
    rule(Moment.AUTH, "auth", when=COUNTED, reply=Said(421, "4.7.0", "x"), close=Close.FIN),
    rule(At(Moment.BODY, octets=9), "byte", close=Close.FIN),
    rule(Moment.BODY, "body", when=COUNTED, silent=True),
    rule(Moment.RCPT, "rcpt", when=COUNTED, close=Close.HALF),
    rule(Moment.MESSAGE, "message", reply=Said(250, "2.0.0", "x"), close=Close.FIN),
)
_WITH_RULES: tuple[tuple[Protocol, dict[str, Any]], ...] = tuple(
    (protocol, {**_ANYBODY, "rules": rules})
    for protocol in (Protocol.SMTP, Protocol.LMTP)
    for rules in (_ALWAYS, _COUNTED, _ALWAYS + _COUNTED, _ENDING)
)


def _every_other(served: Serving) -> Callable[[Weigh], str]:
    """Return what has a rule fire at the second question of a session, the fourth, and so on.

    What has fired without a question does not count: how much that is depends on the chunks.
    """

    def verdict(question: Weigh) -> str:
        asked = sum(isinstance(one, Weigh) for one in served.told)
        return "" if asked % 2 else question.hits[0].rule

    return verdict


class _Bench:
    """Listeners of every profile, for as long as the process runs."""

    def __init__(self, profiles: tuple[tuple[Protocol, dict[str, Any]], ...]) -> None:
        self.profiles = profiles
        self.loop = uvloop.new_event_loop()
        self._folder = tempfile.TemporaryDirectory(prefix="mtad-fuzz-")
        self._served: dict[int, Serving] = {}

    async def compare(self, number: int, ways: Iterable[list[bytes]]) -> None:
        """Send the same octets in several ways."""
        _, options = self.profiles[number]
        with complaints() as heard:
            seen = [await self._converse(self._listener(number), chunks) for chunks in ways]
        assert not heard, heard
        enhanced = "ENHANCEDSTATUSCODES" not in options.get("extensions", ())
        for octets, _ in seen:
            replies.split(octets, enhanced=enhanced)
        # How much comes before the handshake, and is thrown away then, depends on the chunks.
        if not any(octets.endswith(_READY) for octets, _ in seen):
            assert all(one == seen[0] for one in seen), seen

    def _listener(self, number: int) -> Serving:
        if number not in self._served:
            protocol, options = self.profiles[number]
            options = {"hostname": "mx.example", **options}
            rules = options.pop("rules", ())
            if "tls" in options:
                pair = key_pair(Path(self._folder.name), "mx.example")
                options["tls"] = Tls((pair,), required=True)
            endpoint = UnixEndpoint(f"{self._folder.name}/{number}")
            self._served[number] = served = Serving(endpoint, protocol, Profile(**options))
            served.rules.replace(rules)
            served.verdict = _every_other(served)
        return self._served[number]

    async def _converse(self, served: Serving, chunks: list[bytes]) -> tuple[bytes, list[bytes]]:
        """Say all of it, and return what was answered, and kept."""
        served.store.contents.clear()
        served.store.messages.clear()
        served.told.clear()
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(served.listening.getsockname())
            octets = b""
            async with asyncio.timeout(_PATIENCE):
                try:
                    for chunk in chunks:
                        await self.loop.sock_sendall(client, chunk)
                        await asyncio.sleep(0)
                    client.shutdown(socket.SHUT_WR)
                except ConnectionError:
                    pass  # it has ended before
                try:
                    while piece := await self.loop.sock_recv(client, 1 << 18):
                        octets += piece
                except ConnectionResetError:
                    pass  # there was more to read for the server
        await served.until(lambda: not served.counts.active)
        before, ready, _ = octets.partition(_READY)  # what follows is TLS's
        return _CHALLENGE.sub(b"334 ", before + ready), [*served.store.contents]


@cache
def _bench(*, with_rules: bool) -> _Bench:
    return _Bench(_WITH_RULES if with_rules else _PROFILES)


def converse_with_rules(octets: bytes) -> None:
    """Be a client of a listener that has rules."""
    converse(octets, with_rules=True)


def converse(octets: bytes, *, with_rules: bool = False) -> None:
    """Be a client of one of the profiles: all at once, cut anywhere, octet by octet."""
    if len(octets) < 3:
        return
    profile, cuts, said = octets[0], octets[1] % 8, octets[2:]
    edges = [cut * len(said) // 256 for cut in sorted(said[:cuts])]
    ways = [
        [said],
        [said[start:end] for start, end in pairwise([0, *edges, len(said)])],
        [said[at : at + 1] for at in range(len(said))],
    ]
    bench = _bench(with_rules=with_rules)
    bench.loop.run_until_complete(bench.compare(profile % len(bench.profiles), ways))

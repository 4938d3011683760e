"""What is fuzzed: functions that take any octets, and assert what has to be true of them.

A target draws what it needs from the octets itself (a policy from the first, say), so that an input
means the same to atheris, to hypothesis and to the replay of the corpus.
"""

from __future__ import annotations

import re
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple
from unittest import mock

from harness import replies
from harness.body_model import POLICIES, expected, read

from fuzz.sessions import converse, converse_with_rules
from mtad.smtp import grammar, parameters, proxy, sasl, xclient
from mtad.smtp.faults.header import Head, fields
from mtad.smtp.faults.tls_records import is_whole
from mtad.smtp.reply import CHALLENGE_LIMIT, Refusal, Reply, from_hook


class Target(NamedTuple):
    """``run`` takes an input of at most ``size`` octets; ``words`` are likely parts of inputs."""

    run: Callable[[bytes], None]
    words: tuple[bytes, ...]
    size: int


_NOWHERE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NO_QUICK_WAY = re.compile("(?!)")
_EVERYTHING = frozenset(
    {"SIZE", "8BITMIME", "BINARYMIME", "SMTPUTF8", "DSN", "AUTH", "REQUIRETLS", "XCLIENT"}
)
_USERS = sasl.Users({"tim": "tanstaaf"})
_HOSTILE_SIZE = 50_000


def _answer(parse: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a parser returns, or the reply that it refuses with."""
    try:
        return parse(*arguments)
    except Refusal as refusal:
        reply = refusal.reply
    assert 500 <= reply.code <= 555
    assert reply.status.startswith("5.")
    return reply


def fuzz_grammar(octets: bytes) -> None:
    """Paths, names and xtext: refused, or taken with nothing in them that may be nowhere."""
    text = octets.decode("utf-8", "surrogateescape")
    for parse in (grammar.reverse_path, grammar.forward_path):
        found = _answer(parse, text)
        with mock.patch.object(grammar, "_PLAIN_PATH", _NO_QUICK_WAY):
            assert _answer(parse, text) == found, "the quick way and the long way differ"
        if not isinstance(found, Reply):
            mailbox, rest = found
            assert f"{mailbox}>" in text
            assert text.rstrip(" ").endswith(rest)
            assert not _NOWHERE.search(mailbox)
            assert parse(f"<{mailbox}>{' ' * bool(rest)}{rest}") == found, "not its own mailbox"
            assert len(mailbox.encode()) <= grammar.LOCAL_PART_LIMIT + 1 + grammar.DOMAIN_LIMIT
    name = _answer(grammar.helo_domain, text)
    assert isinstance(name, Reply) or (name in text and not _NOWHERE.search(name))
    for utf8 in (False, True):
        with suppress(ValueError):
            decoded = grammar.xtext(text, utf8=utf8)
            assert len(decoded.encode()) <= len(octets)
            assert utf8 or text.isascii()


def fuzz_grammar_time(octets: bytes) -> None:
    """Whatever is repeated, time is linear: what is quadratic takes seconds for so much."""
    before, _, rest = octets.decode("utf-8", "surrogateescape").partition("~")
    unit, _, after = rest.partition("~")
    text = before + unit * (_HOSTILE_SIZE // max(len(unit), 1)) + after
    for parse in (grammar.reverse_path, grammar.forward_path, grammar.helo_domain, grammar.xtext):
        began = time.thread_time()
        with suppress(Refusal, ValueError):
            parse(text)
        assert time.thread_time() - began < 0.5, f"{parse.__name__} took too long"
    for take in (parameters.mail_parameters, parameters.rcpt_parameters):
        began = time.thread_time()
        with suppress(Refusal):
            take(text, _EVERYTHING)
        assert time.thread_time() - began < 0.5, f"{take.__name__} took too long"


def fuzz_parameters(octets: bytes) -> None:
    """MAIL's and RCPT's parameters: refused, or within their limits."""
    text = octets.decode("utf-8", "surrogateescape")
    for parse in (parameters.mail_parameters, parameters.rcpt_parameters):
        found = _answer(parse, text, _EVERYTHING)
        if isinstance(found, Reply):
            continue
        assert list(found.given) == [word for word in text.split(" ") if word]
        assert not _NOWHERE.search("".join(found.given))
        bare = _answer(parse, text, frozenset())
        assert not found.given or isinstance(bare, Reply), "a parameter that is not offered"
        assert parse(" ".join(found.given), _EVERYTHING) == found
        if isinstance(found, parameters.MailParameters):
            assert found.size is None or 0 <= found.size < 10**20
            assert found.body in ("7BIT", "8BITMIME", "BINARYMIME")
            assert len(found.envid) <= parameters.ENVID_LIMIT
            assert not _NOWHERE.search((found.auth or "") + found.envid)
        else:
            assert found.notify == ("NEVER",) or "NEVER" not in found.notify
            assert len(found.orcpt) <= parameters.ORCPT_LIMIT
            assert not _NOWHERE.search(found.orcpt)


def fuzz_body(octets: bytes) -> None:
    """The reader of DATA, in any chunks, under any policy, says what the obvious one says."""
    if len(octets) < 4:
        return
    policy, limit, cuts = octets[0], octets[1], octets[2] % 16
    stream = octets[3 + cuts :]
    places = sorted(cut % (len(stream) + 1) for cut in octets[3 : 3 + cuts])
    newlines, terminator = POLICIES[policy % len(POLICIES)]
    limit = limit % 16 and limit
    model = expected(stream, newlines, terminator, limit)
    if model.ended_by is None:  # the model is one of whole messages
        stream += b"\r\n.\r\n"
        model = expected(stream, newlines, terminator, limit)
    for edges in ([0, *places, len(stream)], range(len(stream) + 1)):
        chunks = [stream[start:end] for start, end in pairwise(edges)]
        assert read(chunks, newlines, terminator, limit) == model


def fuzz_proxy(octets: bytes) -> None:
    """A PROXY header: the same answer, however much of what follows has come with it."""
    whole = _header(octets)
    end = len(octets)
    if whole is not None and not isinstance(whole, str):
        header, end = whole
        assert header.raw == octets[:end]
        assert end <= 4096
        assert (header.source is None) == (header.destination is None)
        proxy.proxy_data(header)
    for size in range(min(len(octets), 300)):
        part = _header(octets[:size])
        if size >= end:
            assert part == whole
        elif isinstance(part, str):
            assert isinstance(whole, str), "refused before it was complete"
        else:
            assert part is None


def _header(octets: bytes) -> tuple[proxy.Header, int] | str | None:
    try:
        return proxy.parse(octets)
    except proxy.ProxyError as error:
        return str(error)


def fuzz_client_hello(octets: bytes) -> None:
    """A ClientHello that is whole stays so, and nothing else than a handshake is waited for."""
    whole = [is_whole(octets[:end]) for end in range(len(octets) + 1)]
    assert whole == sorted(whole)
    assert whole[-1] or not octets or octets[0] == 0x16


def fuzz_xclient(octets: bytes) -> None:
    """XCLIENT: refused, or without anything that may be nowhere."""
    found = _answer(xclient.parse, octets.decode("utf-8", "surrogateescape"))
    if isinstance(found, Reply):
        return
    values = [getattr(found, name.lower()) for name in xclient.ATTRIBUTES]
    assert any(value is not None for value in values)
    for value in values:
        assert not (isinstance(value, str) and _NOWHERE.search(value))
        assert not isinstance(value, int) or 0 <= value <= 0xFFFF


def fuzz_sasl(octets: bytes) -> None:
    """AUTH, from any argument to any answers: nobody is Tim who has not said his password."""
    mechanism, *lines = octets.decode("latin-1").split("\n")
    names = list(sasl.MECHANISMS)
    exchange = sasl.Exchange(names[len(mechanism) % len(names)], _USERS, "mx.example")
    for line in lines:
        found = _answer(sasl.decode, line)
        assert isinstance(found, Reply) or len(found) * 4 <= len(line) * 3
    initial = mechanism or None
    step = _answer(exchange.begin, initial)
    said = [initial or ""]
    while isinstance(step, Reply) and step.code == 334 and lines:
        assert len(step.text) <= CHALLENGE_LIMIT
        b64decode(step.text, validate=True)
        said.append(lines.pop(0))
        step = _answer(exchange.respond, said[-1])
    if isinstance(step, str):
        assert step == "tim"
        assert any(b"tanstaaf" in sasl.decode(line) for line in said if line not in ("", "="))


def fuzz_hook_reply(octets: bytes) -> None:
    """What a handler gives for a reply: ValueError, or a reply as it has to be."""
    flags, answer = octets[:1], octets[1:]
    enhanced = bool(flags and flags[0] & 1)
    text = answer if flags and flags[0] & 2 else answer.decode("utf-8", "surrogateescape")
    with suppress(ValueError):
        encoded = from_hook(text, enhanced=enhanced)
        assert len(encoded.splitlines()) >= 1
        for line in encoded.splitlines(keepends=True):
            assert line.endswith(b"\r\n")
            assert line[:3] == answer[:3]
            assert len(line) <= (CHALLENGE_LIMIT if line.startswith(b"334") else replies.LIMIT)
            assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", line[:-2])
        if enhanced and answer[:1] != b"3" and answer[:3] != b"220":
            replies.split(encoded, enhanced=True)


def fuzz_header(octets: bytes) -> None:
    """The fields of a message for rules: in whatever pieces it comes, and none with a line end."""
    whole = fields(octets)
    for size in (1, 7):
        head = Head()
        for at in range(0, len(octets), size):
            head.add(octets[at : at + size])
        assert head.fields == whole
    for name, values in whole.items():
        assert name == name.lower()
        assert all("\n" not in value and value == value.strip(" \t") for value in values)
    if whole:
        assert octets.count(b":") >= sum(map(len, whole.values()))


_PATHS = (
    b"<", b">", b"@", b":", b",", b"[", b"]", b'"', b"\\", b"<>", b"a@b", b"<a@b>", b'"a b"',
    b"[IPv6:", b"::1", b"[192.0.2.1]", b"postmaster", b"<@a,@b:c@d>", b"x" * 63, b"x." * 60,
    b"\xc3\xbc", b"\xe2\x80\xa8", b"\xc2\x85", b"+2B", b"+C3+BC", b"_", b"-", b" ", b"\xff",
)  # fmt: skip
_PARAMETERS = (
    b"SIZE=", b"BODY=", b"8BITMIME", b"BINARYMIME", b"7BIT", b"SMTPUTF8", b"RET=", b"FULL",
    b"HDRS", b"ENVID=", b"AUTH=", b"<>", b"REQUIRETLS", b"NOTIFY=", b"NEVER", b"SUCCESS,", b"DELAY",
    b"FAILURE", b"ORCPT=", b"rfc822;", b"utf-8;", b"\\x{FC}", b"\\x{10FFFF}", b"+3D", b" ", b"=",
    b"a@b", b"\xc3\xbc@b", b"123", b"x" * 100,
)  # fmt: skip
_COMMANDS = (
    b"EHLO c\r\n", b"LHLO c\r\n", b"HELO c\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n",
    b"MAIL FROM:<a@b> BODY=BINARYMIME\r\n", b"MAIL FROM:<\xc3\xbc@b> SMTPUTF8\r\n", b"DATA\r\n",
    b"MAIL FROM:<a@b> SIZE=64\r\n", b"RCPT TO:<c@d> NOTIFY=NEVER\r\n", b"\r\n.\r\n", b".\r\n",
    b"BDAT 3\r\nabc", b"BDAT 4 LAST\r\nxyz\n", b"BDAT 0 LAST\r\n", b"BDAT 99\r\n", b"RSET\r\n",
    b"NOOP\r\n", b"VRFY x\r\n", b"HELP\r\n", b"EXPN x\r\n", b"ETRN x\r\n", b"QUIT\r\n", b"*\r\n",
    b"AUTH PLAIN AHRpbQB0YW5zdGFhZg==\r\n", b"AUTH LOGIN\r\n", b"dGlt\r\n", b"dGFuc3RhYWY=\r\n",
    b"AUTH CRAM-MD5\r\n", b"XCLIENT ADDR=192.0.2.1 LOGIN=tim HELO=c\r\n", b"STARTTLS\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n", b"PROXY UNKNOWN\r\n", b"\n", b"\r", b"\0", b"..",
    b"x" * 70, b"\r\n",
)  # fmt: skip

TARGETS = {
    "grammar": Target(fuzz_grammar, _PATHS, 400),
    "grammar_time": Target(fuzz_grammar_time, (*_PATHS, *_PARAMETERS, b"~"), 60),
    "parameters": Target(fuzz_parameters, _PARAMETERS, 600),
    "body": Target(
        fuzz_body, (b"\r", b"\n", b".", b"\0", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"..", b"a"), 200
    ),
    "proxy": Target(
        fuzz_proxy,
        (
            b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", b"192.0.2.1 ", b"2001:db8::1 ",
            b"1 25\r\n", b"\r\n", b"\r\n\r\n\0\r\nQUIT\n", b"\x21\x11\0\x0c", b"\x21\x21\0\x24",
            b"\x20\0\0\0", b"\x21\x31\0\xd8", b"\x04\0\x01x",
        ),
        400,
    ),
    "client_hello": Target(
        fuzz_client_hello,
        (
            b"\x16\3\1\0\5\1\0\0\1x", b"\x16\3\1\0\4\1\0\0\2", b"\x16\3\1\0\1", b"\x16\3\1\0\0",
            b"\1\0\0\0", b"\2\0\0\0", b"\x15\3\1\0\2\2\x28", b"EHLO c\r\n",
        ),
        120,
    ),
    "xclient": Target(
        fuzz_xclient,
        (
            *(f"{name}=".encode() for name in xclient.ATTRIBUTES),
            b"[UNAVAILABLE]", b"[TEMPUNAVAIL]", b"192.0.2.1", b"IPV6:2001:db8::1", b"ESMTP",
            b"65535", b"+20", b"+C3+BC", b"+0A", b"mx.example", b" ",
        ),
        400,
    ),
    "sasl": Target(
        fuzz_sasl,
        (
            b64encode(b"\0tim\0tanstaaf"), b64encode(b"tim"), b64encode(b"tanstaaf"),
            b64encode(b"user=tim\1auth=Bearer tanstaaf\1\1"), b"=", b"*", b"\n",
            b64encode(b"tim " + b"0" * 32), b64encode(b"tim\0tim\0tanstaaf"),
        ),
        300,
    ),
    "hook_reply": Target(
        fuzz_hook_reply,
        (b"250 ", b"250-", b"451", b"550 5.1.1 ", b"\r\n", b"2.0.0", b"5.0.0 ", b"334 ", b"x" * 99),
        1500,
    ),
    "session": Target(converse, _COMMANDS, 700),
    "faults": Target(converse_with_rules, _COMMANDS, 700),
    "header": Target(
        fuzz_header,
        (b"A: b", b"X-Test:", b":", b" ", b"\t", b"\r\n", b"\n", b"\r", b"\0", b"\xff", b"From "),
        400,
    ),
}  # fmt: skip

"""One transaction with a next hop, whatever that answers: what comes of it for each recipient."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace

import pytest
import trustme
import uvloop
from harness.hop import CLOSE, EVERYTHING, Hop, hop

from mtad.archive.outgoing import courier
from mtad.archive.outgoing.courier import Outcome, deliver
from mtad.archive.outgoing.letters import Letter
from mtad.model.hop import parse_hop
from mtad.store.deliveries import State

DELIVERED, WAITING, FAILED = State.DELIVERED, State.WAITING, State.FAILED
CONTENT = b"Subject: x\r\n\r\n.dot\r\n\x00\xff 8 bit\r\n"
A, B = ("a@example.com", ()), ("b@example.com", ())


def letter(
    *pieces: bytes,
    recipients: Sequence[tuple[str, Sequence[str]]] = (A, B),
    sender: str = "s@example.org",
    options: Iterable[str] = (),
) -> Letter:
    contents = pieces or (CONTENT,)

    async def read() -> AsyncIterator[bytes]:
        for piece in contents:
            yield piece

    size = sum(map(len, contents))
    return Letter("mtad-relay-1.here", sender, tuple(options), recipients, size, read)


async def sent(to: Hop, what: Letter) -> list[Outcome]:
    async with asyncio.timeout(20):
        return await deliver(parse_hop(to.name), what)


def states(outcomes: Iterable[Outcome]) -> list[State]:
    return [outcome.state for outcome in outcomes]


async def test_all_of_it_as_it_came() -> None:
    given = ("SIZE=1", "BODY=8BITMIME", "RET=FULL", "ENVID=x", "AUTH=<>")
    who = (("a@example.com", ("NOTIFY=NEVER",)), ("ä@example.com", ("ORCPT=utf-8;ä@b",)))
    with hop() as server:
        outcomes = await sent(server, letter(recipients=who, options=(*given, "SMTPUTF8")))
    assert outcomes == [Outcome(DELIVERED, "250 Taken")] * 2
    (taken,) = server.taken
    assert taken.helo == "mtad-relay-1.here"
    size = len(CONTENT)
    assert taken.mail == (
        f"FROM:<s@example.org> SIZE={size} BODY=8BITMIME RET=FULL ENVID=x SMTPUTF8"
    )
    assert taken.rcpts == [
        "TO:<a@example.com> NOTIFY=NEVER",
        "TO:<ä@example.com> ORCPT=utf-8;ä@b",
    ]
    assert (taken.by, taken.content) == ("BDAT", CONTENT)
    assert server.lines[-1] == "QUIT"


async def test_a_hop_that_offers_nothing() -> None:
    def script(command: str) -> str | None:
        return "500 What?" if command.startswith("EHLO") else None

    with hop(script, ()) as server:
        assert states(await sent(server, letter(sender="", options=["BODY=8BITMIME"]))) == [
            DELIVERED,
            DELIVERED,
        ]
    (taken,) = server.taken
    assert (taken.mail, taken.by, taken.content) == ("FROM:<>", "DATA", CONTENT)
    assert taken.rcpts == ["TO:<a@example.com>", "TO:<b@example.com>"]


@pytest.mark.parametrize("offers", [EVERYTHING, ()])
@pytest.mark.parametrize("content", [b"", b".\r\n..\r\n.", b"no end", b"x" * 300_000])
async def test_content_in_pieces(content: bytes, offers: tuple[str, ...]) -> None:
    pieces = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    with hop(offers=offers) as server:
        outcomes = await sent(server, letter(*pieces or [b""]))
    assert states(outcomes) == [DELIVERED, DELIVERED]
    (taken,) = server.taken
    end = b"" if offers or content.endswith(b"\r\n") or not content else b"\r\n"
    assert taken.content == content + end


REPLIES = [
    ("greeting", "554 No", [FAILED, FAILED], "554 No"),
    ("greeting", "421 Later", [WAITING, WAITING], "421 Later"),
    ("greeting", "250 Taken", [WAITING, WAITING], "250 Taken"),
    ("EHLO", "251 Hello", [WAITING, WAITING], "251 Hello"),
    ("EHLO", "421 Later", [WAITING, WAITING], "421 Later"),
    ("EHLO", "450 Later", [WAITING, WAITING], "450 Later"),
    ("MAIL", "550-No\n550 never", [FAILED, FAILED], "550 No / never"),
    ("MAIL", "451 Later", [WAITING, WAITING], "451 Later"),
    ("MAIL", "354 What?", [WAITING, WAITING], "354 What?"),
    ("RCPT", "550 5.1.1 No", [FAILED, FAILED], "550 5.1.1 No"),
    ("RCPT TO:<a", "450 Greylisted", [WAITING, DELIVERED], "450 Greylisted"),
    ("RCPT TO:<a", "550 No", [FAILED, DELIVERED], "550 No"),
    ("RCPT TO:<a", "251 Will forward", [DELIVERED, DELIVERED], "250 Taken"),
    ("RCPT TO:<b", "452 Too many", [DELIVERED, WAITING], "250 Taken"),
    ("RCPT TO:<b", "421 Later", [WAITING, WAITING], "Server not connected"),
    ("RCPT TO:<b", CLOSE, [WAITING, WAITING], "Unexpected EOF received"),
    ("DATA", "451 Later", [WAITING, WAITING], "451 Later"),
    ("DATA", "554 No", [FAILED, FAILED], "554 No"),
    ("DATA", "250 What?", [WAITING, WAITING], "it answers DATA with 250 What?"),
    (".", "451 Later", [WAITING, WAITING], "451 Later"),
    (".", "554 No", [FAILED, FAILED], "554 No"),
    (".", "354 More?", [WAITING, WAITING], "354 More?"),
    (".", "nonsense", [WAITING, WAITING], "Malformed SMTP response line: nonsense"),
    (".", CLOSE, [WAITING, WAITING], "Unexpected EOF received"),
    ("QUIT", CLOSE, [DELIVERED, DELIVERED], "250 Taken"),
    ("QUIT", "550 Stay", [DELIVERED, DELIVERED], "250 Taken"),
]


@pytest.mark.parametrize(("command", "reply", "expected", "said"), REPLIES)
async def test_replies(command: str, reply: str, expected: list[State], said: str) -> None:
    def script(line: str) -> str | None:
        return reply if line.startswith(command) else None

    with hop(script, ("SIZE",)) as server:
        outcomes = await sent(server, letter())
    assert states(outcomes) == expected
    assert outcomes[0].said.startswith(said)
    is_taken = DELIVERED in expected
    assert len(server.taken) == is_taken
    if not is_taken:
        assert server.taken == []


async def test_who_is_refused_stays_so_when_the_rest_is_cut_off() -> None:
    def script(line: str) -> str | None:
        return {"RCPT TO:<a": "550 No", "RCPT TO:<b": CLOSE}.get(line[:10])

    with hop(script) as server:
        outcomes = await sent(server, letter())
    assert [one.state for one in outcomes] == [FAILED, WAITING]


async def test_nobody_listens() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # else somebody else may take the port
        host, port = nobody.getsockname()
        (outcome, _) = await deliver(parse_hop(f"{host}:{port}"), letter())
    assert outcome == Outcome(WAITING, "Connection refused")


async def test_a_name_that_is_none() -> None:
    (outcome, _) = await deliver(parse_hop("no-such-host.invalid:25"), letter())
    assert outcome.state is WAITING
    assert outcome.said


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"a\n.\r\nMAIL FROM:<x>\r\n", "a hop that offers CHUNKING"), (b"a\r\nb\n", "")],
)
async def test_content_that_data_cannot_carry(content: bytes, reason: str) -> None:
    with hop(offers=("SIZE",)) as server:
        outcomes = await sent(server, letter(content))
    assert states(outcomes) == [FAILED if reason else DELIVERED] * 2
    assert reason in outcomes[0].said
    assert len(server.taken) == (not reason)
    with hop() as server:
        assert states(await sent(server, letter(content))) == [DELIVERED, DELIVERED]
    assert server.taken[0].content == content


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (letter(options=["REQUIRETLS"]), [FAILED, FAILED]),
        (letter(sender="ä@x"), [FAILED, FAILED]),
        (letter(recipients=(("ä@x", ()), B)), [FAILED, DELIVERED]),
        (letter(recipients=(("a\x01@x", ()), B)), [FAILED, FAILED]),
    ],
)
async def test_what_the_hop_cannot_be_told(what: Letter, expected: list[State]) -> None:
    with hop(offers=("SIZE",)) as server:
        assert states(await sent(server, what)) == expected


async def test_content_that_has_changed_meanwhile() -> None:
    """It has fewer octets than were announced, or cannot be read: the hop gets none of it."""
    short = replace(letter(), size=len(CONTENT) + 1)

    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError(5, "Input/output error")

    for what in (short, replace(letter(), pieces=failing)):
        for offers in (EVERYTHING, ()):
            with hop(offers=offers) as server:
                outcomes = await sent(server, what)
            assert states(outcomes) == [WAITING, WAITING]
            assert server.taken == []


async def test_a_hop_that_has_had_enough() -> None:
    """It answers before the end of what it is sent, and is believed."""

    def script(line: str) -> str | None:
        if line != "content":
            return None
        time.sleep(0.05)  # the reply to DATA has been read by then
        return "552 Too much"

    async def slowly() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.2)
        for _ in range(200):
            yield b"x" * 70 + b"\r\n"
            await asyncio.sleep(0.01)

    what = replace(letter(), size=200 * 72, pieces=slowly)
    with hop(script, ()) as server:
        outcomes = await sent(server, what)
    assert states(outcomes) == [FAILED, FAILED]
    assert outcomes[0].said == "552 Too much"
    assert server.taken == []


def sent_by_the_archive(to: Hop, what: Letter) -> list[Outcome]:
    """The same on the loop that the archive has."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(sent(to, what))


def test_a_message_of_no_octets() -> None:
    with hop() as server:
        assert sent_by_the_archive(server, letter(b"")) == [Outcome(DELIVERED, "250 Taken")] * 2


def test_a_hop_that_goes_in_the_midst_of_it() -> None:

    async def slowly() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.2)
        yield b"x\r\n"

    with hop(lambda line: CLOSE if line == "content" else None, ()) as server:
        outcomes = sent_by_the_archive(server, replace(letter(), size=3, pieces=slowly))
    assert states(outcomes) == [WAITING, WAITING]
    assert outcomes[0].said == "Connection lost"


async def test_a_hop_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "_COMMAND_SECONDS", 0.2)
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(line: str) -> str | None:
        if line.startswith("MAIL"):
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
        return None

    with hop(script) as server:
        outcomes = await sent(server, letter())
        release.set()
    assert states(outcomes) == [WAITING, WAITING]
    assert "Timed out" in outcomes[0].said


def _context(*names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(*names).configure_cert(context)
    return context


async def test_tls_whoever_the_certificate_is_of() -> None:
    with hop(tls=_context("another.example")) as server:
        outcomes = await sent(server, letter(options=["REQUIRETLS"]))
    assert states(outcomes) == [DELIVERED, DELIVERED]
    (taken,) = server.taken
    assert taken.tls
    assert taken.mail.endswith(" REQUIRETLS")
    assert server.connections == 1


async def test_without_tls_where_the_handshake_fails() -> None:
    context = _context("hop.example")
    context.verify_mode = ssl.CERT_REQUIRED
    with hop(tls=context) as server:
        outcomes = await sent(server, letter())
    assert states(outcomes) == [DELIVERED, DELIVERED]
    assert not server.taken[0].tls


@pytest.mark.parametrize("fault", ["454 Not now", CLOSE])
async def test_without_tls_where_it_is_refused(fault: str) -> None:
    def script(line: str) -> str | None:
        return fault if line == "STARTTLS" else None

    with hop(script, tls=_context("hop.example")) as server:
        outcomes = await sent(server, letter())
    assert states(outcomes) == [DELIVERED, DELIVERED]
    assert server.connections == 2
    assert not server.taken[0].tls

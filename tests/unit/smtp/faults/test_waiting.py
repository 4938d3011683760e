"""Sessions that wait, or are silent, and how they end."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from harness.recorded import ended, transcript
from harness.ruled import COUNTED, asked, rule, ruled, weighed
from harness.serving import Client, Serving
from harness.tls_peers import client_context, key_pair

from mtad.model.endpoint import UnixEndpoint
from mtad.model.profile import Timeouts, Tls
from mtad.model.rules.values import Close, Moment, Said, Tarpit

_LONG = 30.0
_SHORT = Timeouts(command=0.2, data=0.2, handshake=0.2)
_QUIET = {"silent": True}
_DEAF = {"deaf": True}
_LATE = {"delay": _LONG}


async def asks(client: Client, line: str) -> None:
    client.say(line)
    await client.writer.drain()


def is_served(served: Serving, client: Client) -> bool:
    """Whether the client's session has not ended; whoever else may have come to the port."""
    here = client.writer.get_extra_info("sockname")
    return any(session.connection.peer == here for session in served.acceptor._sessions)


def resets(client: Client) -> None:
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


async def nothing_comes(client: Client, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await client.reader.read(1)


async def at_noop(served: Serving) -> Client:
    """Return a client whose NOOP was taken."""
    client = await served.greeted()
    client.say("NOOP")
    await fired(served)
    return client


async def fired(served: Serving) -> None:
    await served.until(lambda: bool(served.told))


# A delay


async def test_nothing_is_taken_while_a_rule_waits() -> None:
    async with ruled(rule(Moment.NOOP, delay=0.1)) as served:
        client = await served.greeted()
        began = time.monotonic()
        client.say("NOOP", "VRFY x", "NOOP", "HELP")
        assert await client.reply() == "250 2.0.0 Ok"
        assert time.monotonic() - began >= 0.1
        assert (await client.reply()).startswith("252")
        assert await client.reply() == "250 2.0.0 Ok"
        assert 0.2 <= time.monotonic() - began < 2
        assert (await client.reply()).startswith("214")


async def test_a_delay_is_not_one_of_the_clients_timeouts() -> None:
    async with ruled(rule(Moment.NOOP, delay=0.5), timeouts=_SHORT) as served:
        client = await served.greeted()
        assert await client.ask("NOOP") == "250 2.0.0 Ok"


@pytest.mark.parametrize("behind", [b"", b"NOOP\r\nNOOP\r\n", b"x" * 30_000])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_gives_up_ends_a_delay(behind: bytes, reset: bool) -> None:
    async with ruled(rule(Moment.NOOP, delay=_LONG), timeouts=_SHORT) as served:
        client = await at_noop(served)
        client.writer.write(behind)
        await asyncio.sleep(0.01)
        if reset:
            resets(client)
        else:
            client.writer.close()
        await served.until(lambda: not is_served(served, client))


async def test_a_delay_before_anything_is_read_ends_with_its_client() -> None:
    async with ruled(rule(Moment.CONNECT, delay=_LONG), timeouts=_SHORT) as served:
        client = await served.client()
        await fired(served)
        client.writer.close()
        await served.until(lambda: not is_served(served, client))


@pytest.mark.parametrize("at", [Moment.CONNECT, Moment.BANNER, Moment.TLS, Moment.NOOP])
async def test_a_drain_waits_for_a_delay_and_then_says_goodbye(
    at: Moment, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pair = key_pair(tmp_path_factory.mktemp("tls"), "mx.example")
    async with ruled(rule(at, delay=0.2), tls=Tls((pair,))) as served:
        client = await served.client()
        if at in (Moment.TLS, Moment.NOOP):
            assert (await client.reply()).startswith("220")
            assert (await client.ask("EHLO c")).startswith("250")
        if at is Moment.NOOP:
            client.say("NOOP")
        if at is Moment.TLS:
            assert (await client.ask("STARTTLS")).startswith("220")
            asyncio.get_running_loop().call_later(0.1, served.stop, 5.0)
            await client.writer.start_tls(client_context(), server_hostname="mx.example")
        else:
            await fired(served)
            served.stop(5.0)
        octets = await client.rest()
        assert octets.endswith(b"421 4.3.2 This listener is being stopped\r\n")
        assert octets.startswith(b"250") == (at is Moment.NOOP)


@pytest.mark.parametrize("do", [_LATE, _QUIET, _DEAF, {"close": Close.HALF}])
@pytest.mark.parametrize("at", [Moment.CONNECT, Moment.BANNER, Moment.NOOP])
async def test_a_cut_ends_all_at_once(at: Moment, do: dict[str, Any]) -> None:
    async with ruled(rule(at, **do)) as served:
        client = await (at_noop(served) if at is Moment.NOOP else served.client())
        await fired(served)
        served.stop(0.0)
        assert not is_served(served, client)
        if "close" not in do:
            with pytest.raises(ConnectionResetError):
                await client.rest()


async def test_a_drain_waits_no_longer_than_its_grace() -> None:
    async with ruled(rule(Moment.NOOP, delay=_LONG)) as served:
        client = await at_noop(served)
        served.stop(0.1)
        with pytest.raises(ConnectionResetError):
            await client.rest()
        await served.until(lambda: bool(served.drained))


async def test_a_tarpit_grows_with_refusals() -> None:
    tarpit = rule(Moment.NOOP, tarpit=Tarpit(base=0.02, growth=2, most=0.1))
    async with ruled(tarpit, rule(Moment.RCPT, reply=Said(550))) as served:
        client = await served.greeted()
        await client.ask("MAIL FROM:<>")
        waited = []
        for _ in range(5):
            began = time.monotonic()
            await client.ask("NOOP")
            waited.append(time.monotonic() - began)
            await client.ask("RCPT TO:<a@b>")
        for seconds, least in zip(waited, (0.02, 0.04, 0.08, 0.1, 0.1), strict=True):
            assert least <= seconds < least + 10


async def test_a_tarpit_has_a_bottom() -> None:
    tarpit = rule(Moment.NOOP, tarpit=Tarpit(base=1e300, growth=1e300, most=0.01))
    async with ruled(tarpit) as served:
        client = await served.greeted()
        await client.ask("NONSENSE")
        await client.ask("NONSENSE")
        assert (await client.ask("NOOP")).startswith("250")


# The supervisor's answer


async def test_nothing_is_taken_before_the_answer() -> None:
    counted = rule(Moment.NOOP, when=COUNTED, reply=Said(250, "", "counted"))
    async with ruled(counted) as served:
        client = await served.greeted()
        client.say("NOOP", "VRFY x")
        await served.until(lambda: bool(asked(served)))
        await nothing_comes(client, 0.05)
        question = await weighed(served, "rule")
        assert [(hit.rule, hit.key, hit.octets) for hit in question.hits] == [("rule", b"", 0)]
        assert await client.reply() == "250 counted"
        assert (await client.reply()).startswith("252")
        client.say("NOOP")
        await weighed(served, "", number=2)
        assert await client.reply() == "250 2.0.0 Ok"


async def test_who_has_sent_all_reads_all_answers() -> None:
    counted = rule(Moment.NOOP, when=COUNTED, reply=Said(250, "", "counted"))
    async with ruled(counted) as served:
        client = await served.greeted()
        client.say("NOOP", "QUIT")
        client.writer.write_eof()
        await asyncio.sleep(0.02)
        await weighed(served, "rule")
        assert await client.rest() == b"250 counted\r\n221 2.0.0 Bye\r\n"


async def test_an_answer_for_who_has_gone() -> None:
    async with ruled(rule(Moment.NOOP, when=COUNTED, reply=Said(250))) as served:
        client = await served.greeted()
        client.say("NOOP")
        await served.until(lambda: bool(asked(served)))
        resets(client)
        await served.until(lambda: not is_served(served, client))
        await weighed(served, "rule")


# Silence


@pytest.mark.parametrize("do", [_QUIET, _DEAF, {"close": Close.HALF}])
@pytest.mark.parametrize("at", [Moment.CONNECT, Moment.BANNER, Moment.NOOP])
async def test_who_is_silent_stays_as_long_as_the_client(at: Moment, do: dict[str, Any]) -> None:
    async with ruled(rule(at, **do), timeouts=_SHORT) as served:
        client = await (at_noop(served) if at is Moment.NOOP else served.client())
        await fired(served)
        if "close" in do:
            assert await client.reader.read() == b""
            await asyncio.sleep(0.5)
        else:
            await nothing_comes(client, 0.5)
        assert is_served(served, client)
        client.writer.write(b"NOOP\r\nQUIT\r\n")
        await asyncio.sleep(0.05)
        assert is_served(served, client)
        client.writer.close()
        await served.until(lambda: not is_served(served, client))


@pytest.mark.parametrize("do", [_QUIET, _DEAF, {"close": Close.HALF}])
async def test_a_drain_ends_who_is_silent_without_a_word(do: dict[str, Any]) -> None:
    async with ruled(rule(Moment.MAIL, **do)) as served:
        client = await served.greeted()
        client.say("MAIL FROM:<a@b>")
        await fired(served)
        served.stop(5.0)
        await served.until(lambda: bool(served.drained))
        assert await client.rest() == b""
        assert (await ended(served)).ended == "listener stopped"


def timers(port: int) -> list[str]:
    """Return what the kernel waits with on connections of a port: 02 is keepalive (proc(5))."""
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()]
    return [row[5][:2] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]


async def test_a_client_that_vanishes_is_noticed_by_the_kernel() -> None:
    """Where a rule is silent there is no timeout, but keepalive."""
    async with ruled(rule(Moment.NOOP, silent=True)) as served:
        client = await at_noop(served)
        _, port = client.writer.get_extra_info("peername")
        assert timers(port) == ["02"]
        client.writer.close()


async def test_a_drain_ends_who_is_deaf_to_much() -> None:
    async with ruled(rule(Moment.NOOP, deaf=True)) as served:
        client = await at_noop(served)
        client.writer.write(b"x" * 1_000_000)
        await asyncio.sleep(0.01)
        served.stop(5.0)
        await served.until(lambda: bool(served.drained))


async def test_a_deaf_listener_of_a_unix_socket_ends_with_its_client(tmp_path: Any) -> None:
    options = {"endpoint": UnixEndpoint(str(tmp_path / "s")), "timeouts": _SHORT}
    async with ruled(rule(Moment.NOOP, deaf=True), **options) as served:
        client = await at_noop(served)
        client.say("NOOP")
        client.writer.close()
        await served.until(lambda: not is_served(served, client))


@pytest.mark.parametrize("at", [Moment.MAIL, Moment.DATA, Moment.BODY, Moment.MESSAGE])
async def test_who_is_silent_reads_and_forgets_all(at: Moment) -> None:
    async with ruled(rule(at, silent=True)) as served:
        client = await served.greeted()
        client.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "Subject: x", "", ".")
        await fired(served)
        client.writer.write(b"x" * 3_000_000)
        async with asyncio.timeout(10):
            await client.writer.drain()
        client.writer.write_eof()
        await served.until(lambda: not is_served(served, client))
        assert not served.store.messages


async def test_the_transcript_tells_what_a_rule_did_and_what_was_not_looked_at() -> None:
    async with ruled(rule(Moment.MAIL, "quiet", delay=0.01, silent=True)) as served:
        client = await served.greeted("HELO c")
        client.say("MAIL FROM:<a@b>")
        await fired(served)
        await asyncio.sleep(0.05)
        client.say("NOOP")
        client.writer.write_eof()
        lines = await transcript(served)
        assert lines[-4:] == [
            "C MAIL FROM:<a@b>",
            "- rule: quiet, mail: after 0.01 s, silent",
            "- octets that are not looked at: 6",
            "- client closed",
        ]


@pytest.mark.parametrize(("close", "how"), [(Close.FIN, "fin"), (Close.RST, "rst")])
async def test_the_transcript_tells_how_a_rule_broke_off(close: Close, how: str) -> None:
    async with ruled(rule(Moment.MAIL, "off", reply=Said(421, "", "no"), close=close)) as served:
        client = await served.greeted("HELO c")
        client.say("MAIL FROM:<a@b>")
        lines = await transcript(served)
        assert lines[-4:] == [
            "C MAIL FROM:<a@b>",
            f"- rule: off, mail: 421 no, then {how}",
            "S 421 no",
            f"- broken off by a rule: {how}",
        ]
        summary = await ended(served)
        assert summary.ended == "broken off by a rule"
        assert summary.failed


async def until_reset(sock: socket.socket) -> tuple[bytes, bool]:
    """Return what comes up to the end, and whether that was a reset."""
    octets = b""
    try:
        while piece := await asyncio.get_running_loop().sock_recv(sock, 1000):
            octets += piece
    except ConnectionResetError:
        return octets, True
    return octets, False


async def test_a_reset_waits_for_what_is_on_its_way() -> None:
    loop = asyncio.get_running_loop()
    async with ruled(rule(Moment.HELP, raw=b"214 x\r\n", repeat=9000, close=Close.RST)) as served:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, served.listening.getsockname())
            await loop.sock_sendall(sock, b"HELP\r\n")
            await fired(served)
            await asyncio.sleep(0.05)
            octets, is_reset = await until_reset(sock)
        assert octets.endswith(b"\r\n" + b"214 x\r\n" * 9000)
        assert is_reset

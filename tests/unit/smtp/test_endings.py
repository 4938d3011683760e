"""How sessions end, in whatever phase: drained, cut, timed out, or left by the client."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from harness.serving import Client, Serving, serving
from harness.tls_peers import client_context, key_pair

from mtad.model.listener import Protocol
from mtad.model.profile import Auth, KeyPair, Limits, Timeouts, Tls

DRAIN = b"421 4.3.2 This listener is being stopped\r\n"
PROXIED: dict[str, Any] = {"proxy_from": ("127.0.0.0/8",)}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return key_pair(tmp_path_factory.mktemp("tls"), "mx.example")


async def nothing(client: Client) -> None:
    """Say nothing."""


async def half_a_command(client: Client) -> None:
    await client.reply()
    client.writer.write(b"EHLO cli")


async def in_transaction(client: Client) -> None:
    await client.reply()
    await client.ask("EHLO c")
    await client.begin()


async def in_data(client: Client) -> None:
    await in_transaction(client)
    await client.ask("DATA")
    client.writer.write(b"x")


async def in_chunk(client: Client) -> None:
    await in_transaction(client)
    client.writer.write(b"BDAT 2 LAST\r\nx")


async def in_auth(client: Client) -> None:
    await client.reply()
    await client.ask("EHLO c")
    await client.ask("AUTH PLAIN")


async def in_header(client: Client) -> None:
    client.writer.write(b"PROXY TCP4 192.0.2.1 ")


async def in_handshake(client: Client) -> None:
    client.writer.write(HELLO[:50])


async def in_starttls(client: Client) -> None:
    await client.reply()
    assert (await client.ask("STARTTLS")).startswith("220")
    client.writer.write(HELLO[:50])


def _client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    peer = client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="mx.example")
    with pytest.raises(ssl.SSLWantReadError):
        peer.do_handshake()
    return outgoing.read()


HELLO = _client_hello()


@dataclass
class Phase:
    """How a client gets there, how it goes on, and what it is told in the end of a drain."""

    reach: Callable[[Client], Awaitable[None]]
    goes_on: bytes = b""
    told: bytes = DRAIN
    profile: dict[str, Any] = field(default_factory=dict)
    protocol: Protocol = Protocol.SMTP
    needs_tls: bool = False


PHASES = {
    "greeting held back": Phase(nothing, b"", b"ESMTP mtad\r\n" + DRAIN, {"greeting_delay": 0.1}),
    "half a command": Phase(half_a_command),
    "in a transaction": Phase(in_transaction, b"RSET\r\n", b"250 2.0.0 Ok\r\n" + DRAIN),
    "in DATA": Phase(in_data, b"\r\n.\r\nNOOP\r\n", b"kept as id1\r\n" + DRAIN),
    "in BDAT": Phase(in_chunk, b"yNOOP\r\n", b"kept as id1\r\n" + DRAIN),
    "in AUTH": Phase(in_auth, b"*\r\n", b"cancelled\r\n" + DRAIN, {"auth": Auth(before_tls=True)}),
    "in the PROXY header": Phase(
        in_header, b"192.0.2.2 1 25\r\n", b"ESMTP mtad\r\n" + DRAIN, PROXIED
    ),
    "in the handshake": Phase(in_handshake, protocol=Protocol.SMTPS, needs_tls=True),
    "in the handshake of STARTTLS": Phase(in_starttls, needs_tls=True),
}
each_phase = pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)


@asynccontextmanager
async def reached(
    phase: Phase, pair: KeyPair, **profile: Any
) -> AsyncIterator[tuple[Serving, Client]]:
    """Serve, and bring a client to the phase."""
    if phase.needs_tls:
        profile["tls"] = Tls((pair,))
    async with serving(protocol=phase.protocol, **phase.profile, **profile) as served:
        client = await served.client()
        await served.until(lambda: served.counts.active == 1)
        await phase.reach(client)
        await asyncio.sleep(0.01)
        yield served, client


@each_phase
async def test_a_cut_in_every_phase(phase: Phase, pair: KeyPair) -> None:
    async with reached(phase, pair) as (served, client):
        served.stop(0.0)
        assert served.drained == [7]
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert served.store.contents == []


@each_phase
async def test_a_client_that_vanishes_in_every_phase(
    phase: Phase, pair: KeyPair, caplog: pytest.LogCaptureFixture
) -> None:
    async with reached(phase, pair) as (served, client):
        client.reset()
        await served.until(lambda: served.counts.active == 0)
        assert served.store.contents == []
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []


@each_phase
async def test_a_client_that_closes_its_half_in_every_phase(phase: Phase, pair: KeyPair) -> None:
    """Half of anything is neither done nor answered."""
    async with reached(phase, pair) as (served, client):
        client.writer.write_eof()
        assert not (await client.rest()).startswith(b"5")
        await served.until(lambda: served.counts.active == 0)
        assert served.store.contents == []


@each_phase
async def test_a_drain_in_every_phase(phase: Phase, pair: KeyPair) -> None:
    if phase.needs_tls:
        return  # below
    async with reached(phase, pair) as (served, client):
        served.stop(60.0)
        client.writer.write(phase.goes_on)
        assert (await client.rest()).endswith(phase.told)
        await served.until(lambda: served.drained == [7])


@pytest.mark.parametrize("protocol", [Protocol.SMTP, Protocol.SMTPS])
async def test_a_drain_lets_a_handshake_finish(protocol: Protocol, pair: KeyPair) -> None:
    """The goodbye has to be understood."""
    async with serving(protocol=protocol, tls=Tls((pair,))) as served:
        client = await served.client()
        if protocol is Protocol.SMTP:
            await client.reply()
            await client.ask("STARTTLS")
        await served.until(lambda: served.counts.active == 1)
        served.stop(60.0)
        await client.writer.start_tls(client_context(), server_hostname="mx.example")
        said = await client.rest()
        assert said.endswith(DRAIN)
        assert said.startswith(b"220 ") == (protocol is Protocol.SMTPS)
        await served.until(lambda: served.drained == [7])


@each_phase
async def test_the_grace_of_a_drain_ends_every_phase(phase: Phase, pair: KeyPair) -> None:
    async with reached(phase, pair) as (served, client):
        served.stop(0.03)
        await served.until(lambda: served.drained == [7])
        client.writer.close()


@each_phase
async def test_silence_in_every_phase(phase: Phase, pair: KeyPair) -> None:
    """421 where the client can understand it; a reset where it has not even said who it is."""
    timeouts = Timeouts(command=0.6, data=0.6, handshake=0.6)
    async with reached(phase, pair, timeouts=timeouts) as (served, client):
        if phase.reach in (in_header, in_handshake, in_starttls):
            with pytest.raises(ConnectionResetError):
                await client.rest()
        else:
            assert (await client.rest()).endswith(b"421 4.4.2 Timeout, closing the connection\r\n")
        await served.until(lambda: served.counts.active == 0)
        assert served.store.contents == []


async def test_a_handshake_octet_by_octet_has_the_time_of_one(pair: KeyPair) -> None:
    """What is slow is no progress before the session has begun."""
    timeouts = Timeouts(handshake=0.3)
    async with serving(protocol=Protocol.SMTPS, tls=Tls((pair,)), timeouts=timeouts) as served:
        client = await served.client()
        for octet in HELLO:
            if client.writer.is_closing():
                break
            client.writer.write(bytes((octet,)))
            await asyncio.sleep(0.01)
        else:
            pytest.fail("it had all the time in the world")
        await served.until(lambda: served.counts.active == 0)


async def test_a_command_octet_by_octet_has_the_time_of_one() -> None:
    """An octet now and then is progress, as RFC 5321 section 4.5.3.2 has it for data alone."""
    async with serving(timeouts=Timeouts(command=60)) as served:
        client = await served.greeted()
        (session,) = served.acceptor._sessions
        now = asyncio.get_running_loop().time()
        session.check(now)
        for octet in b"NOOP" * 10:
            client.writer.write(bytes((octet,)))
            await served.until(lambda: session.connection.heard)
            now += 50
            session.check(now)
        client.writer.write(b"\r\n")
        assert (await client.reply()).startswith("502")


async def test_a_message_is_kept_though_its_client_has_gone() -> None:
    """The store is at work: what it has may be kept, and must not be half kept."""
    async with serving() as served:
        client = await served.greeted()
        await client.begin()
        await client.ask("DATA")
        served.store.works.clear()
        client.say("x", ".")
        await asyncio.sleep(0.05)
        client.reset()
        await served.until(lambda: served.counts.active == 0)
        served.store.works.set()
        await served.until(lambda: served.counts.messages == 1)
        assert served.store.contents == [b"x\r\n"]


async def test_a_drain_waits_for_the_store() -> None:
    async with serving() as served:
        client = await served.greeted()
        await client.begin()
        await client.ask("DATA")
        served.store.works.clear()
        client.say("x", ".", "NOOP")
        await asyncio.sleep(0.02)
        served.stop(60.0)
        await asyncio.sleep(0.02)
        assert served.drained == []
        served.store.works.set()
        assert await client.rest() == b"250 2.0.0 Ok: kept as id1\r\n" + DRAIN


async def test_one_that_stays_after_the_goodbye_is_left() -> None:
    """It does not close, as a pool of connections that nobody needs."""
    async with serving() as served:
        client = await served.greeted()
        served.stop(60.0)
        assert (await client.reply()).startswith("421")
        await served.until(lambda: served.drained == [7])
        client.reset()


async def test_one_that_talks_on_after_the_goodbye_hears_it() -> None:
    """A close with input unread would be a reset, which takes the last reply with it (tcp(7))."""
    async with serving(limits=Limits(errors=1)) as served:
        client = await served.greeted()
        client.say("FOO", *["NOOP"] * 20_000)
        said = (await client.rest()).splitlines()
        assert [line[:3] for line in said] == [b"502", b"421"]


async def test_one_that_talks_on_for_ever_is_reset() -> None:
    async with serving(limits=Limits(errors=1)) as served:
        client = await served.greeted()
        client.say("FOO")
        client.writer.write(b"x" * 8_000_000)
        with pytest.raises(ConnectionError):
            await client.writer.drain()
        await served.until(lambda: served.counts.active == 0)


async def test_a_half_that_closes_under_tls_gets_its_replies(pair: KeyPair) -> None:
    """Some clients close the socket's half without close_notify, and read on."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing, server_hostname="mx.example")
    async with serving(protocol=Protocol.SMTPS, tls=Tls((pair,))) as served:
        client = await served.client()
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.writer.write(outgoing.read())
                incoming.write(await client.reader.read(65_536))
        tls.write(b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nNOO")
        client.writer.write(outgoing.read())
        client.writer.write_eof()
        incoming.write(await client.rest())
        said = b"".join(iter(lambda: tls.read(16_384), b""))
        assert said.splitlines()[-2:] == [
            b"354 End data with <CR><LF>.<CR><LF>", b"250 2.0.0 Ok: kept as id1",
        ]  # fmt: skip


async def deaf(served: Serving, *, talks: bytes) -> Client:
    """Return a client that has not read so much that some of it waits in the server."""
    client = await served.client()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a Transport
    (session,) = served.acceptor._sessions
    while not session.connection.get_write_buffer_size():
        client.writer.write(talks)
        await client.writer.drain()
        await asyncio.sleep(0.001)
    return client


async def test_what_a_deaf_client_is_owed_has_a_limit() -> None:
    """However little of it waits when the client's window fills."""
    async with serving() as served:
        client = await deaf(served, talks=b"HELP\r\n" * 20)
        (session,) = served.acceptor._sessions
        for _ in range(2_000):
            client.writer.write(b"HELP\r\n" * 20)
            await asyncio.sleep(0)
        await served.until(lambda: not session.connection.is_reading())
        assert session.connection.get_write_buffer_size() < 150_000
        client.writer.transport.abort()


async def test_a_drain_finds_a_deaf_client_in_the_handshake(pair: KeyPair) -> None:
    """The goodbye waits for the handshake, not for what the client reads before it."""
    async with serving(tls=Tls((pair,))) as served:
        client = await deaf(served, talks=b"HELP\r\n" * 20)
        (session,) = served.acceptor._sessions
        client.say("STARTTLS")
        await served.until(lambda: session.connection.is_shaking_hands)
        served.stop(60.0)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
        while not (await client.reply()).startswith("220 2.0.0"):
            pass
        await client.writer.start_tls(client_context(), server_hostname="mx.example")
        assert await client.rest() == DRAIN
        await served.until(lambda: served.drained == [7])


async def test_who_talks_on_and_does_not_read_its_goodbye_is_reset() -> None:
    async with serving() as served:
        client = await deaf(served, talks=b"HELP\r\n" * 20)
        client.say("QUIT")
        client.writer.write(b"x" * 8_000_000)
        with pytest.raises(ConnectionError):
            await client.writer.drain()
        await served.until(lambda: served.counts.active == 0)


async def test_last_words_do_not_hide_that_a_client_has_vanished() -> None:
    """They are read where the loop tells of the reset, which it does once."""
    async with serving(timeouts=Timeouts(handshake=0.5)) as served:
        with socket.create_connection(served.listening.getsockname()) as peer:
            peer.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(peer, 100)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.send(b"EH")
        await served.until(lambda: served.counts.active == 0)

"""Slowly out, slowly in, and more than is ever held."""

from __future__ import annotations

import asyncio
import time

import pytest
from harness.ruled import rule, ruled
from harness.serving import Client, Serving
from harness.tls_peers import client_context, key_pair

from mtad.model.profile import Timeouts, Tls
from mtad.model.rules.values import Close, Moment, Said
from mtad.smtp.faults.paced import PacedConnection

_SHORT = Timeouts(command=0.3, data=0.3, handshake=0.3)
_MUCH = 16 * 2**20
_PIECE = b"250-x\r\n" + b"y" * 1017


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls((key_pair(tmp_path_factory.mktemp("tls"), "mx.example"),))


async def secured(served: Serving) -> Client:
    """Return a client that has TLS, and has said hello."""
    client = await served.greeted()
    assert (await client.ask("STARTTLS")).startswith("220")
    await client.writer.start_tls(client_context(), server_hostname="mx.example")
    assert (await client.ask("EHLO c")).startswith("250")
    return client


async def timed(client: Client, count: int) -> list[float]:
    """Return when each of so many octets came."""
    times = []
    for _ in range(count):
        await client.reader.readexactly(1)
        times.append(time.monotonic())
    return times


@pytest.mark.parametrize("is_secure", [False, True])
async def test_octet_by_octet(is_secure: bool, tls: Tls) -> None:
    slow = rule(Moment.NOOP, send_rate=50, reply=Said(250, "", "12345"))
    async with ruled(slow, tls=tls) as served:
        client = await (secured(served) if is_secure else served.greeted())
        began = time.monotonic()
        client.say("NOOP")
        times = await timed(client, 11)  # 250 12345\r\n
        assert times[-1] - began >= 10 / 50
        assert times[-1] - times[0] > 0.05  # they do not come together
        began = time.monotonic()
        client.say("VRFY x")  # from now on
        assert (await client.reply()).startswith("252")
        assert time.monotonic() - began >= 0.5


async def test_a_fraction_of_an_octet_a_second() -> None:
    slow = rule(Moment.NOOP, send_rate=0.5)
    async with ruled(slow, timeouts=_SHORT) as served:
        client = await served.greeted()
        client.say("NOOP")
        first, second = await timed(client, 2)
        assert 1.9 <= second - first < 4


async def test_a_goodbye_is_slow_too_and_then_the_end() -> None:
    slow = rule(Moment.QUIT, send_rate=100)
    async with ruled(slow) as served:
        client = await served.greeted()
        began = time.monotonic()
        assert await client.ask("QUIT") == "221 2.0.0 Bye"
        assert await client.rest() == b""
        assert time.monotonic() - began >= 14 / 100


@pytest.mark.parametrize("close", [Close.FIN, Close.RST])
async def test_what_is_sent_slowly_is_sent_before_the_end(close: Close) -> None:
    slow = rule(Moment.NOOP, send_rate=200, reply=Said(421, "", "bye"), close=close)
    async with ruled(slow) as served:
        client = await served.greeted()
        client.say("NOOP")
        assert await client.reply() == "421 bye"
        if close is Close.FIN:
            assert await client.rest() == b""
        else:
            with pytest.raises(ConnectionResetError):
                await client.rest()


async def test_a_cut_does_not_wait_for_what_is_slow() -> None:
    async with ruled(rule(Moment.NOOP, send_rate=1)) as served:
        client = await served.greeted()
        client.say("NOOP", "QUIT")
        assert await client.reader.readexactly(1) == b"2"
        served.stop(0.0)
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_who_is_sent_slowly_is_answered_only_so_far_ahead() -> None:
    async with ruled(rule(Moment.NOOP, send_rate=1000)) as served:
        client = await served.greeted()
        client.say("NOOP", *["HELP"] * 100_000)
        await asyncio.sleep(0.5)
        connection = next(iter(served.acceptor._sessions)).connection
        assert isinstance(connection, PacedConnection)
        assert connection._held < 200_000


@pytest.mark.parametrize("is_secure", [False, True])
async def test_a_message_is_read_slowly(is_secure: bool, tls: Tls) -> None:
    content = b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 40
    slow = rule(Moment.DATA, read_rate=2000)
    async with ruled(slow, timeouts=_SHORT, tls=tls) as served:
        client = await (secured(served) if is_secure else served.greeted())
        await client.begin()
        began = time.monotonic()
        assert (await client.send(content)).startswith("250")
        assert time.monotonic() - began >= len(content) / 2000 - 0.05
        assert served.store.contents == [content]


async def test_who_is_read_slowly_is_held_back() -> None:
    async with ruled(rule(Moment.NOOP, read_rate=1000)) as served:
        client = await served.greeted()
        assert await client.ask("NOOP") == "250 2.0.0 Ok"
        client.writer.write(b"x" * 20_000_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.writer.drain()
        served.stop(0.0)


async def test_a_slow_reader_is_no_silent_client() -> None:
    async with ruled(rule(Moment.NOOP, read_rate=4), timeouts=_SHORT) as served:
        client = await served.greeted()
        client.say("NOOP", "QUIT")
        assert await client.reply() == "250 2.0.0 Ok"
        assert await client.reply() == "221 2.0.0 Bye"
        assert await client.rest() == b""


# More than is held


@pytest.mark.parametrize("is_secure", [False, True])
async def test_sixteen_megabytes_for_who_reads_them(is_secure: bool, tls: Tls) -> None:
    long = rule(Moment.HELP, raw=_PIECE, repeat=_MUCH // len(_PIECE))
    async with ruled(long, tls=tls) as served:
        client = await (secured(served) if is_secure else served.greeted())
        client.say("HELP", "NOOP")
        received = 0
        async with asyncio.timeout(60):
            while received < _MUCH:
                piece = await client.reader.readexactly(len(_PIECE))
                assert piece == _PIECE
                received += len(piece)
        assert await client.reply() == "250 2.0.0 Ok"


async def test_who_does_not_read_costs_little_and_is_left_in_the_end() -> None:
    long = rule(Moment.HELP, raw=_PIECE, repeat=_MUCH // len(_PIECE), close=Close.FIN)
    async with ruled(long, timeouts=_SHORT) as served:
        client = await served.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.say("HELP")
        await served.until(lambda: bool(served.told))
        await asyncio.sleep(0.1)
        connection = next(iter(served.acceptor._sessions)).connection
        assert connection.get_write_buffer_size() < 150_000
        await served.until(lambda: not served.acceptor._sessions)
        assert served.store.summaries[0].ended == "timeout"


async def test_who_does_not_read_is_left_also_where_a_rate_would_take_its_time() -> None:
    much = rule(Moment.NOOP, send_rate=1e9, raw=_PIECE, repeat=_MUCH // len(_PIECE))
    async with ruled(much, timeouts=_SHORT) as served:
        client = await served.greeted()
        client.say("NOOP")
        await served.until(lambda: served.counts.active == 0)
        client.writer.transport.abort()


async def test_what_is_said_at_length_is_counted() -> None:
    long = rule(Moment.HELP, raw=b"x" * 1000, repeat=100)
    async with ruled(long) as served:
        client = await served.client()
        client.say("HELP", "QUIT")
        octets = await client.rest()
        assert b"x" * 100_000 in octets
        await served.until(lambda: bool(served.store.summaries))
        assert served.store.summaries[0].octets_out == len(octets)

"""Sessions over real sockets, on both loops: what a peer sees, and what is kept."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import pytest
from harness.serving import serving

from mtad.model.endpoint import TcpEndpoint, UnixEndpoint
from mtad.model.listener import Protocol
from mtad.model.profile import Auth, Limits, Newlines, Timeouts

DRAIN = "421 4.3.2 This listener is being stopped"


async def test_banner_and_names() -> None:
    async with serving(hostname="mx.example") as served:
        client = await served.client()
        assert await client.reply() == "220 mx.example ESMTP mtad"
        hello = (await client.ask("EHLO c")).splitlines()
        assert hello[0] == "250-mx.example"
        assert "250-SIZE 33554432" in hello
        assert not any("AUTH" in line for line in hello)
    async with serving() as served:
        client = await served.client()
        assert await client.reply() == f"220 {socket.gethostname()} ESMTP mtad"


async def test_a_message_is_kept_as_it_came() -> None:
    content = b"Subject: x\r\n\r\n..one dot\r\nbare\nlf and\rcr \0 \xff\r\n"
    async with serving(newlines=Newlines.LENIENT) as served:
        client = await served.greeted()
        await client.begin("a@example", "b@example")
        assert await client.send(content) == "250 2.0.0 Ok: kept as id1"
        (message,) = served.store.messages
        assert served.store.contents == [content.replace(b"..one", b".one")]
        assert message.notes == ("8bit", "bare-cr", "bare-lf", "nul")
        assert (message.sender, message.recipients) == (
            "s@client.example",
            ("a@example", "b@example"),
        )
        assert (message.listener, message.worker, message.helo) == ("mx", 1, "client.example")
        host, port = client.writer.get_extra_info("sockname")
        assert message.peer == f"{host}:{port}"
        assert served.counts == (1, 1, 1, len(content) - 1)


@pytest.mark.parametrize("host", ["::1", "*"])
async def test_how_a_peer_is_named(host: str) -> None:
    """An IPv4 peer of a socket for both families by its IPv4 address."""
    async with serving(TcpEndpoint(host, 0)) as served:
        port = served.listening.getsockname()[1]
        peer = "127.0.0.1" if host == "*" else "::1"
        reader, writer = await asyncio.open_connection(peer, port)
        writer.write(b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nQUIT\r\n")
        await reader.read(-1)
        name = writer.get_extra_info("sockname")
        writer.close()
        shown = f"[{name[0]}]" if host == "::1" else name[0]
        assert served.store.messages[0].peer == f"{shown}:{name[1]}"


async def test_the_null_sender_is_empty() -> None:
    async with serving() as served:
        client = await served.greeted()
        await client.begin(sender="")
        await client.send(b"x\r\n")
        assert served.store.messages[0].sender == ""


async def test_a_long_line_is_kept() -> None:
    """Beyond the 998 octets of RFC 5322, and beyond the buffers of the loop."""
    line = b"x" * 500_000 + b"\r\n"
    async with serving() as served:
        client = await served.greeted()
        await client.begin()
        assert (await client.send(line + b"end\r\n")).startswith("250")
        assert served.store.contents[0] == line + b"end\r\n"


async def test_the_size_limit_holds() -> None:
    async with serving(limits=Limits(message_size=1_000)) as served:
        client = await served.greeted()
        assert (await client.ask("MAIL FROM:<a@b> SIZE=1001")).startswith("552")
        await client.begin()
        assert (await client.send(b"x" * 998 + b"\r\nx\r\n")).startswith("552")
        await client.begin()
        assert (await client.send(b"x" * 990 + b"\r\n")).startswith("250")
        assert len(served.store.messages) == served.counts.messages == 1


@pytest.mark.parametrize("before", ["NOOP", "AUTH LOGIN"])
async def test_a_line_without_end_ends_the_session(before: str) -> None:
    """None of it is kept; nor is there a reply to something that will never be a command."""
    async with serving(auth=Auth(before_tls=True)) as served:
        client = await served.greeted()
        await client.ask(before)
        client.writer.write(b"x" * 1_040_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.reader.read(1)
        client.writer.write(b"x" * 20_000)
        assert await client.rest() == b"421 4.7.0 This line has no end, closing the connection\r\n"
        await served.until(lambda: served.counts.active == 0)


@pytest.mark.parametrize("length", [4_097, 12_288, 12_290, 500_000])
async def test_a_line_that_is_too_long_is_one_error(length: int) -> None:
    async with serving() as served:
        client = await served.greeted()
        client.say(b"NOOP " + b"x" * (length - 7), "NOOP")
        assert await client.reply() == "500 5.5.2 Line too long"
        assert await client.reply() == "250 2.0.0 Ok"


async def test_recipients_have_a_limit() -> None:
    """The mail goes to those that were taken (RFC 5321 section 4.5.3.1.10)."""
    async with serving(limits=Limits(recipients=3)) as served:
        client = await served.greeted()
        await client.begin("1@b", "2@b", "3@b")
        assert (await client.ask("RCPT TO:<4@b>")).startswith("452 4.5.3")
        assert (await client.send(b"x\r\n")).startswith("250")
        assert served.store.messages[0].recipients == ("1@b", "2@b", "3@b")


async def test_pipelining_leaves_the_others_their_turn() -> None:
    """The loop goes round after 64 commands, however many have arrived at once."""
    turns, commands = 0, 6_400

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serving() as served:
        client = await served.greeted()
        counting = asyncio.create_task(count_turns())
        client.say(*["NOOP"] * commands, "QUIT")
        assert (await client.rest()).count(b"250 ") == commands
        counting.cancel()
        assert turns >= commands / 64


async def test_pipelined_input_is_answered_in_order() -> None:
    async with serving() as served:
        client = await served.client()
        client.say(
            "EHLO c", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "one", ".",
            "MAIL FROM:<e@f>", "RCPT TO:<g@h>", "BOGUS", "DATA", "two", ".", "NOOP", "QUIT",
        )  # fmt: skip
        codes = [(await client.reply())[:3] for _ in range(13)]
        assert " ".join(codes) == "220 250 250 250 354 250 250 250 502 354 250 250 221"
        assert await client.rest() == b""
        assert served.store.contents == [b"one\r\n", b"two\r\n"]


async def test_a_peer_that_closes_its_half_first_gets_its_replies() -> None:
    """As `nc -N` does; half a command, or half a message, is neither done nor answered."""
    dialogue = "EHLO c", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "one", "."
    for end, last, kept in (("QUIT", b"221", 1), ("NOOP", b"250", 1), ("RCPT TO:<c@d>", b"503", 1)):
        async with serving() as served:
            client = await served.client()
            client.say(*dialogue, end)
            client.writer.write_eof()
            assert (await client.rest()).splitlines()[-1].startswith(last)
            assert len(served.store.messages) == served.counts.messages == kept
    async with serving() as served:
        client = await served.client()
        client.say(*dialogue[:-1])
        client.writer.write(b".")
        client.writer.write_eof()
        assert (await client.rest()).splitlines()[-1].startswith(b"354")
        assert served.store.messages == []


async def test_nothing_is_done_after_the_goodbye() -> None:
    """What was pipelined behind the last transaction is not kept: its sender will try again."""
    async with serving() as served:
        client = await served.greeted()
        await client.begin()
        assert (await client.ask("DATA")).startswith("354")
        served.stop(60.0)
        client.say("one", ".", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "two", ".")
        assert (await client.rest()).splitlines()[1:] == [DRAIN.encode()]
        await served.until(lambda: served.drained == [7])
        assert served.store.contents == [b"one\r\n"]


async def test_input_octet_by_octet() -> None:
    async with serving() as served:
        client = await served.client()
        for octet in b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n..x\r\n.\r\nQUIT\r\n":
            client.writer.write(bytes([octet]))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.rest()).splitlines()[-1].startswith(b"221")
        assert served.store.contents == [b".x\r\n"]


async def test_a_drain_between_transactions_says_goodbye_at_once() -> None:
    async with serving() as served:
        idle, greeted = await served.client(), await served.greeted()
        await idle.reply()
        served.stop(60.0)
        assert await idle.rest() == await greeted.rest() == DRAIN.encode() + b"\r\n"
        await served.until(lambda: served.drained == [7])


async def test_a_drain_lets_a_transaction_finish() -> None:
    async with serving() as served:
        client = await served.greeted()
        assert (await client.ask("MAIL FROM:<>")).startswith("250")
        served.stop(60.0)
        assert (await client.ask("RCPT TO:<r@example>")).startswith("250")
        assert (await client.send(b"x\r\n")).startswith("250 2.0.0")
        assert await client.rest() == DRAIN.encode() + b"\r\n"
        assert len(served.store.messages) == 1


@pytest.mark.parametrize("end", ["RSET", "EHLO c"])
async def test_a_transaction_that_is_given_up_is_the_end(end: str) -> None:
    async with serving() as served:
        client = await served.greeted()
        await client.begin()
        served.stop(60.0)
        assert (await client.ask("NOOP")).startswith("250")
        assert (await client.ask(end)).splitlines()[-1].startswith("250 ")
        assert await client.rest() == DRAIN.encode() + b"\r\n"


async def test_a_drain_has_an_end() -> None:
    async with serving() as served:
        client = await served.greeted()
        await client.begin()
        served.stop(0.05)
        with pytest.raises(ConnectionResetError):
            await client.rest()
        await served.until(lambda: served.drained == [7])


async def test_a_cut_is_a_reset() -> None:
    """ECONNRESET: nothing that a peer could take for a reply, or for a goodbye."""
    async with serving() as served:
        clients = [await served.greeted() for _ in range(3)]
        await clients[0].begin()
        assert (await clients[0].ask("DATA")).startswith("354")
        served.stop(0.0)
        for client in clients:
            with pytest.raises(ConnectionResetError):
                await client.rest()


async def test_a_cut_after_a_drain_is_a_cut() -> None:
    async with serving() as served:
        client = await served.greeted()
        await client.begin()
        served.stop(60.0)
        served.acceptor.close(0.0)
        with pytest.raises(ConnectionResetError):
            await client.rest()


@pytest.mark.parametrize("grace", [0.0, 60.0])
async def test_a_session_that_has_only_just_been_accepted_ends_too(grace: float) -> None:
    """Close comes between accept(2) and what the client says, or does not."""
    async with serving() as served:
        with socket.create_connection(served.listening.getsockname()) as peer:
            served.acceptor._readable()
            assert served.counts.active == 1
            served.stop(grace)
            peer.setblocking(False)
            said = b""
            try:
                while octets := await asyncio.get_running_loop().sock_recv(peer, 1000):
                    said += octets
            except ConnectionResetError:
                assert not grace
            else:
                assert said.endswith(DRAIN.encode() + b"\r\n")
            peer.close()
            await served.until(lambda: served.drained == [7])


async def test_a_cut_of_a_unix_socket(tmp_path: Path) -> None:
    """There is no RST: the end comes without a word."""
    async with serving(UnixEndpoint(str(tmp_path / "mx.sock"))) as served:
        client = await served.greeted()
        await client.begin()
        await client.send(b"x\r\n")
        assert served.store.messages[0].peer == "unix"
        served.stop(0.0)
        assert await client.rest() == b""


async def test_silence_is_answered_421() -> None:
    async with serving(timeouts=Timeouts(command=0.1)) as served:
        client = await served.greeted()
        assert await client.rest() == b"421 4.4.2 Timeout, closing the connection\r\n"
        await served.until(lambda: served.counts.active == 0)


async def test_who_makes_progress_has_time() -> None:
    async with serving(timeouts=Timeouts(data=60)) as served:
        client = await served.greeted()
        await client.begin()
        assert (await client.ask("DATA")).startswith("354")
        (session,) = served.acceptor._sessions
        now = asyncio.get_running_loop().time()
        session.check(now)
        for _ in range(8):
            client.say("line")
            await served.until(lambda: session.connection.heard)
            now += 50
            session.check(now)
        assert (await client.ask(".")).startswith("250")


async def test_one_that_does_not_read_is_ended() -> None:
    """It fills every buffer with replies that it leaves there, so that 421 cannot be sent."""
    async with serving(timeouts=Timeouts(command=0.3)) as served:
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.setblocking(False)
            await asyncio.get_running_loop().sock_connect(peer, served.listening.getsockname())
            sent = -1
            while sent:
                await asyncio.sleep(0.01)
                sent = 0
                try:
                    while True:
                        sent += peer.send(b"HELP\r\n" * 10_000)
                except BlockingIOError:
                    pass
                except ConnectionError:
                    break
            assert served.counts.sessions == 1
            await served.until(lambda: served.counts.active == 0)


async def test_an_exception_is_for_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        client = await served.greeted()
        await client.begin()
        served.store.failure = ValueError("secret text")
        reply = await client.send(b"x\r\n")
        assert reply.startswith("451 4.3.0 Internal error, reference ")
        assert "secret" not in reply
        (record,) = [one for one in caplog.records if one.message == "session.error"]
        assert record.__dict__["fields"]["reference"] == reply.split()[-1]
        assert "ValueError: secret text" in caplog.text
        assert (await client.ask("NOOP")).startswith("250")


async def test_no_room_in_the_store_is_temporary(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        client = await served.greeted()
        await client.begin()
        served.store.refuse()
        assert (await client.send(b"x\r\n")).startswith("452 4.3.1 ")
        assert served.counts.messages == 0
        assert "message.refused" in caplog.messages


@pytest.mark.parametrize("octets", [b"\xff\xfe", "ü".encode(), b"a\0b"])
async def test_octets_that_are_quoted_come_back_as_they_were(octets: bytes) -> None:
    """VRFY quotes what it cannot read; no octet of it is an internal error."""
    async with serving() as served:
        client = await served.greeted()
        client.say(b"VRFY <" + octets)
        async with asyncio.timeout(10):
            reply = await client.reader.readline()
        assert reply[:2] in (b"25", b"50")


async def test_a_peer_that_resets_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        for commands in ([], ["NOOP"] * 1_000, ["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "x"]):
            client = await served.greeted()
            client.say(*commands)
            await asyncio.sleep(0)
            client.reset()
        await served.until(lambda: served.counts.active == 0)
        assert served.counts.sessions == 3
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_lmtp_answers_each_recipient() -> None:
    async with serving(protocol=Protocol.LMTP) as served:
        client = await served.greeted("LHLO client.example")
        await client.begin("a@example", "b@example", "c@example")
        assert (await client.send(b"x\r\n")).startswith("250")
        assert (await client.reply()).startswith("250")
        assert (await client.reply()).startswith("250")
        assert (await client.ask("NOOP")).startswith("250")
        await client.begin("a@example")
        assert (await client.send(b"y\r\n")).startswith("250")
        assert (await client.ask("QUIT")).startswith("221")
        assert await client.rest() == b""
        assert [len(message.recipients) for message in served.store.messages] == [3, 1]


async def test_lmtp_refuses_each_recipient() -> None:
    async with serving(protocol=Protocol.LMTP) as served:
        client = await served.greeted("LHLO client.example")
        await client.begin("a@example", "b@example")
        served.store.refuse()
        assert [(await client.send(b"x\r\n"))[:3], (await client.reply())[:3]] == ["452", "452"]
        await client.begin("a@example", "b@example")
        served.store.failure = KeyError("secret")
        assert [(await client.send(b"x\r\n"))[:3], (await client.reply())[:3]] == ["451", "451"]
        assert (await client.ask("NOOP")).startswith("250")


async def test_an_lmtp_message_is_one_error_whatever_its_recipients() -> None:
    limits = Limits(errors=2, line_length=100)
    async with serving(protocol=Protocol.LMTP, limits=limits) as served:
        client = await served.greeted("LHLO client.example")
        await client.begin(*(f"r{number}@example" for number in range(5)))
        assert (await client.send(b"x" * 200 + b"\r\n")).startswith("500 5.6.0")
        for _ in range(4):
            assert (await client.reply()).startswith("500 5.6.0")
        assert (await client.ask("NOOP")).startswith("250")


@pytest.mark.parametrize("greeting", ["HELO c", "EHLO c"])
async def test_lmtp_refuses_the_greetings_of_smtp(greeting: str) -> None:
    async with serving(protocol=Protocol.LMTP) as served:
        client = await served.client()
        await client.reply()
        assert (await client.ask(greeting)).startswith("500 ")
        assert (await client.ask("MAIL FROM:<a@b>")).startswith("503 ")
        assert (await client.ask("LHLO c")).startswith("250")


async def test_smtp_knows_no_lhlo() -> None:
    async with serving() as served:
        client = await served.client()
        await client.reply()
        assert (await client.ask("LHLO c")).startswith("500 ")


async def test_lmtp_drains_after_the_last_recipients_reply() -> None:
    async with serving(protocol=Protocol.LMTP) as served:
        client = await served.greeted("LHLO c")
        await client.begin("a@example", "b@example")
        served.stop(60.0)
        await client.send(b"x\r\n")
        assert (await client.rest()).splitlines()[1:] == [DRAIN.encode()]

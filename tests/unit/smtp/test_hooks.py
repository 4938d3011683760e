"""Handlers that wait, fail and vanish: the session answers in order, whatever they do."""

from __future__ import annotations

import asyncio

import pytest
from harness.handlers import Holds
from harness.serving import Client, serving

from mtad.model.profile import Auth, Timeouts

DRAIN = b"421 4.3.2 This listener is being stopped\r\n"


async def test_hooks_that_wait_and_pipelined_input_behind_them() -> None:
    dialogue = (
        b"EHLO c\r\nMAIL FROM:<a@b> SIZE=5\r\nRCPT TO:<no@d>\r\nRCPT TO:<c@d>\r\nNOOP one\r\n"
        b"DATA\r\nx\r\n.\r\nNOOP two\r\nMAIL FROM:<e@f>\r\nRCPT TO:<g@h>\r\nBDAT 3\r\nNOO"
        b"BDAT 3 LAST\r\nP\r\nQUIT\r\n"
    )
    async with serving(handler="harness.handlers:Waits") as served:
        client = await served.client()
        client.writer.write(dialogue)
        whole = [line for line in (await client.rest()).decode().splitlines() if line[3] == " "]
        codes = " ".join(line[:3] for line in whole)
        assert codes == "220 250 250 550 250 250 354 250 250 250 250 250 250 221"
        assert whole[2:5] == ["250 2.1.0 Waited", "550 5.1.1 Nobody", "250 2.0.0 Somebody"]
        assert (whole[5], whole[7], whole[8]) == (
            "250 2.0.0 one", "250 2.0.0 3 octets", "250 2.0.0 two",
        )  # fmt: skip
        assert served.store.contents == [b"x\r\n", b"NOOP\r\n"]
        assert [one.recipients for one in served.store.messages] == [("c@d",), ("g@h",)]


async def test_the_same_octet_by_octet() -> None:
    async with serving(handler="harness.handlers:Waits") as served:
        client = await served.client()
        for octet in b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n":
            client.writer.write(bytes([octet]))
            await asyncio.sleep(0.0003)
        assert (await client.rest()).splitlines()[-1].startswith(b"221")
        assert served.store.contents == [b"x\r\n"]


async def test_missing_is_as_no_hook() -> None:
    async with serving(handler="harness.handlers:Indifferent") as served:
        client = await served.greeted("HELO c")
        await client.begin("r@example", "s@example")
        assert (await client.send(b"x\r\n")).startswith("250 2.0.0 Ok")
        (message,) = served.store.messages
        assert (message.helo, message.sender) == ("c", "s@client.example")
        assert message.recipients == ("r@example", "s@example")
        assert message.recipient_options == ((), ())


@pytest.mark.parametrize("command", ["MAIL FROM:<a@b>", "VRFY x", "NOOP"])
async def test_a_hook_that_fails(command: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(handler="harness.handlers:Fails") as served:
        client = await served.greeted()
        reply = await client.ask(command)
        assert reply.startswith("451 4.3.0 Internal error, reference ")
        (record,) = [one for one in caplog.records if one.message == "session.error"]
        assert record.__dict__["fields"]["reference"] == reply.split()[-1]
        assert (await client.ask("RSET")).startswith("250")


async def test_a_handler_may_word_its_failures_itself() -> None:
    async with serving(handler="harness.handlers:Excuses") as served:
        client = await served.greeted()
        client.say("MAIL FROM:<a@b>", "RSET")
        assert await client.reply() == "471 4.7.1 ValueError"
        assert (await client.reply()).startswith("250")


async def test_a_handler_that_fails_at_that_too(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(handler="harness.handlers:FailsAgain") as served:
        client = await served.greeted()
        reply = await client.ask("MAIL FROM:<a@b>")
        assert reply.startswith("451 4.3.0 Internal error, reference ")
        assert "secret" not in reply
        assert "KeyError" in caplog.text


async def test_who_cannot_be_welcomed_is_sent_away(caplog: pytest.LogCaptureFixture) -> None:
    """A greeting is 220, 421 or 554 (RFC 5321 section 4.3.2)."""
    async with serving(handler="harness.handlers:Fails", proxy_from=("127.0.0.0/8",)) as served:
        client = await served.client()
        client.say("PROXY TCP4 192.0.2.1 192.0.2.2 1 25", "EHLO c")
        assert (await client.rest()).startswith(b"421 4.3.0 Internal error, reference ")
        assert "session.error" in caplog.messages


@pytest.fixture
def holding() -> None:
    Holds.begun = Holds.cancelled = 0
    Holds.release = asyncio.Event()


async def held(client: Client) -> None:
    """Have a message held by the handler, with more behind it."""
    await client.begin()
    client.say("DATA", "x", ".", "NOOP", "MAIL FROM:<a@b>")
    assert (await client.reply()).startswith("354")


@pytest.mark.usefixtures("holding")
async def test_a_client_that_vanishes_while_a_hook_is_at_work() -> None:
    async with serving(handler="harness.handlers:Holds") as served:
        client = await served.greeted()
        await held(client)
        await served.until(lambda: Holds.begun == 1)
        client.reset()
        await served.until(lambda: Holds.cancelled == 1)
        await served.until(lambda: served.counts.active == 0)
        assert served.store.contents == []


@pytest.mark.usefixtures("holding")
async def test_a_client_that_closes_its_half_while_a_hook_is_at_work() -> None:
    async with serving(handler="harness.handlers:Holds") as served:
        client = await served.greeted()
        await held(client)
        client.writer.write_eof()
        await served.until(lambda: Holds.begun == 1)
        Holds.release.set()
        codes = [line[:3] for line in (await client.rest()).splitlines()]
        assert codes == [b"250", b"250", b"250"]
        assert served.store.contents == [b"x\r\n"]


@pytest.mark.usefixtures("holding")
async def test_a_client_that_closes_its_half_hears_the_goodbye() -> None:
    async with serving(handler="harness.handlers:Holds") as served:
        client = await served.greeted()
        await client.begin()
        client.say("DATA", ".", "BDAT x")
        client.writer.write_eof()
        await served.until(lambda: Holds.begun == 1)
        Holds.release.set()
        codes = [line[:3] for line in (await client.rest()).splitlines()]
        assert codes == [b"354", b"250", b"501"]


async def test_a_client_that_closes_its_half_behind_its_last_answer() -> None:
    """The answer has come, and is taken, though AUTH has yet to ask for it."""
    async with serving(handler="harness.handlers:Indifferent", auth=Auth(before_tls=True)) as mx:
        client = await mx.client()
        client.say("EHLO c", "AUTH LOGIN dGlt", "dGFuc3RhYWY=")
        client.writer.write_eof()
        assert (await client.rest()).endswith(b"\r\n235 2.7.0 Authentication successful\r\n")


@pytest.mark.usefixtures("holding")
async def test_it_is_not_the_client_that_is_silent_while_a_hook_is_at_work() -> None:
    async with serving(handler="harness.handlers:Holds", timeouts=Timeouts(command=0.2)) as served:
        client = await served.greeted()
        await held(client)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.reader.read(1)
        Holds.release.set()
        assert await client.reply() == "250 2.0.0 Released"
        assert (await client.rest()).splitlines()[-1].startswith(b"421 4.4.2")


@pytest.mark.usefixtures("holding")
async def test_a_drain_waits_for_a_hook_and_does_no_more() -> None:
    async with serving(handler="harness.handlers:Holds") as served:
        client = await served.greeted()
        await held(client)
        await served.until(lambda: Holds.begun == 1)
        served.stop(60.0)
        Holds.release.set()
        assert await client.reply() == "250 2.0.0 Released"
        assert await client.rest() == DRAIN
        await served.until(lambda: served.drained == [7])


@pytest.mark.usefixtures("holding")
async def test_a_cut_does_not_wait_for_a_hook() -> None:
    async with serving(handler="harness.handlers:Holds") as served:
        client = await served.greeted()
        await held(client)
        await served.until(lambda: Holds.begun == 1)
        served.stop(0.0)
        with pytest.raises(ConnectionResetError):
            await client.rest()
        await served.until(lambda: Holds.cancelled == 1)

"""What is written down of a session: every octet in its order, and how it ended."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.recorded import ended, transcript
from harness.serving import Client, serving
from harness.tls_peers import CA, client_context, key_pair

from mtad.model.endpoint import UnixEndpoint
from mtad.model.histogram import percentile
from mtad.model.listener import Protocol
from mtad.model.profile import (
    EXTENSIONS,
    ClientCertificates,
    Early,
    KeyPair,
    Limits,
    Profile,
    Switch,
    Timeouts,
    Tls,
    Transcripts,
)

_QUIET: dict[str, Any] = {
    "hostname": "mx.example",
    "extensions": dict.fromkeys(EXTENSIONS, Switch.HIDDEN),
}
_CONNECTED = r"- connected: 127\.0\.0\.1:\d+ to 127\.0\.0\.2:\d+"


def matches(lines: list[str], *patterns: str) -> bool:
    """Whether the lines are these; ``~`` begins a regular expression."""
    assert re.fullmatch(_CONNECTED, lines[0]), lines
    assert len(lines) == len(patterns) + 1, lines
    return all(
        re.fullmatch(one[1:], line) if one.startswith("~") else one == line
        for line, one in zip(lines[1:], patterns, strict=True)
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return key_pair(tmp_path_factory.mktemp("tls"), "mx.example")


async def test_an_ordinary_session() -> None:
    async with serving(**_QUIET) as served:
        client = await served.greeted()
        await client.begin()
        await client.send(b"Subject: x\r\n\r\n..\r\n")
        assert await client.ask("QUIT") == "221 Bye"
        assert await client.rest() == b""
        lines = await transcript(served)
        ours = "{}:{}".format(*served.listening.getsockname())
        assert lines == [
            f"- connected: {served.store.summaries[0].peer} to {ours}",
            "S 220 mx.example ESMTP mtad",
            "C EHLO client.example",
            "S 250 mx.example",
            "C MAIL FROM:<s@client.example>",
            "S 250 Sender ok",
            "C RCPT TO:<r@example>",
            "S 250 Recipient ok",
            "C DATA",
            "S 354 End data with <CR><LF>.<CR><LF>",
            "C 21 octets of a message",
            "S 250 Ok: kept as id1",
            "C QUIT",
            "S 221 Bye",
            "- quit",
        ]
        summary = await ended(served)
        (message,) = served.store.messages
        assert message.session == summary.key
        assert (summary.listener, summary.worker, summary.peer) == ("mx", 1, message.peer)
        assert (summary.helo, summary.protocol) == ("client.example", "ESMTP")
        assert (summary.messages, summary.ended) == (1, "quit")
        assert (summary.failed, summary.transcript) == (False, "all")
        assert summary.replies == {220: 1, 250: 4, 354: 1, 221: 1}
        assert 0 <= summary.ended_ns - summary.began_ns < 10_000_000_000
        counts = {name: sum(phase.values()) for name, phase in summary.phases.items()}
        assert counts == {"banner": 1, "command": 5, "data": 1}


async def test_the_phases_have_the_time_that_was_taken() -> None:
    """Of the store, of the greeting; between commands it is the client who waits."""
    async with serving(**_QUIET, greeting_delay=0.02) as served:
        served.store.works.clear()
        client = await served.greeted()
        await client.begin()
        await asyncio.sleep(0.3)
        asyncio.get_running_loop().call_later(0.1, served.store.works.set)
        await client.send(b"x\r\n")
        await client.ask("QUIT")
        phases = (await ended(served)).phases
        assert (percentile(phases["banner"], 50) or 0) > 15_000
        assert (percentile(phases["data"], 50) or 0) > 30_000
        assert (percentile(phases["command"], 50) or 0) < 30_000


async def test_replies_that_leave_together_follow_the_commands() -> None:
    async with serving(**{**_QUIET, "extensions": {}}) as served:
        client = await served.greeted()
        client.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA")
        for code in ("250", "250", "354"):
            assert (await client.reply()).startswith(code)
        client.say("x", ".", "NOOP", "QUIT")
        assert (await client.rest()).count(b"\r\n") == 3
        lines = (await transcript(served))[4:]
        assert lines == [
            "C MAIL FROM:<a@b>",
            "C RCPT TO:<c@d>",
            "C DATA",
            "S 250 2.1.0 Sender ok",
            "S 250 2.1.5 Recipient ok",
            "S 354 End data with <CR><LF>.<CR><LF>",
            "C 6 octets of a message",
            "C NOOP",
            "S 250 2.0.0 Ok: kept as id1",
            "- pipelined out of turn",
            "C QUIT",
            "S 250 2.0.0 Ok",
            "S 221 2.0.0 Bye",
            "- quit",
        ]


async def test_chunks() -> None:
    async with serving(**_QUIET) as served:
        client = await served.greeted()
        await client.begin()
        for chunk in (
            b"BDAT 3\r\na\r\n",
            b"BDAT 0\r\n",
            b"BDAT 3 LAST\r\nb\r\n",
            b"BDAT 2\r\n\r\n",
        ):
            client.writer.write(chunk)
            await client.reply()
        await client.ask("QUIT")
        assert (await transcript(served))[8:-3] == [
            "C BDAT 3",
            "C 3 octets of a message",
            "S 250 Ok",
            "C BDAT 0",
            "S 250 Ok",
            "C BDAT 3 LAST",
            "C 3 octets of a message",
            "S 250 Ok: kept as id1",
            "C BDAT 2",
            "C 2 octets of a message",
            "S 503 Need RCPT command",
        ]


async def test_lmtp_has_a_reply_for_each_recipient() -> None:
    async with serving(protocol=Protocol.LMTP, **_QUIET) as served:
        client = await served.greeted("LHLO client.example")
        await client.begin("a@example", "b@example")
        await client.send(b"x\r\n")
        await client.reply()
        await client.ask("QUIT")
        assert (await transcript(served))[-5:-3] == ["S 250 Ok: kept as id1"] * 2
        summary = await ended(served)
        assert (summary.messages, summary.replies[250], summary.failed) == (1, 6, False)
        assert sum(summary.phases["data"].values()) == 1
        assert summary.protocol == "LMTP"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_starttls_and_a_client_certificate(
    pair: KeyPair, version: str, tmp_path: Path
) -> None:
    authority = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(str(authority))
    tls = Tls((pair,), client_certificates=ClientCertificates.ASK, client_ca=str(authority))
    context = client_context(version)
    CA.issue_cert("sender.example", common_name="sender").configure_cert(context)
    async with serving(tls=tls, hostname="mx.example") as served:
        client = await served.greeted()
        client.writer.write(b"STARTTLS\r\nNOOP in clear\r\n")
        assert await client.reply() == "220 2.0.0 Ready to start TLS"
        await client.writer.start_tls(context, server_hostname="mx.example")
        await client.ask("EHLO again.example")
        await client.ask("QUIT")
        lines = (await transcript(served))[4:]
        assert lines[:4] == [
            "C STARTTLS",
            "- pipelined out of turn",
            "S 220 2.0.0 Ready to start TLS",
            "- octets that are not looked at: 15",
        ]
        secured = rf"- TLS established: TLSv{version}, \S+, SNI mx\.example, client .*=sender"
        assert re.fullmatch(secured, lines[4])
        assert lines[5] == "C EHLO again.example"
        summary = await ended(served)
        assert (summary.tls_version, summary.sni) == (f"TLSv{version}", "mx.example")
        assert summary.tls_cipher in lines[4]
        assert (summary.helo, summary.protocol) == ("again.example", "ESMTPS")


async def test_a_handshake_that_fails(pair: KeyPair) -> None:
    async with serving(protocol=Protocol.SMTPS, tls=Tls((pair,))) as served:
        client = await served.client()
        client.say("EHLO in clear")
        await client.rest()
        lines = await transcript(served)
        assert matches(lines, "- TLS failed: wrong version number")
        summary = await ended(served)
        assert (summary.ended, summary.failed, summary.octets_in) == ("TLS failed", True, 0)
        assert (summary.helo, summary.protocol, summary.replies) == ("", "", {})


async def test_a_proxy_header() -> None:
    async with serving(proxy_from=("127.0.0.0/8",), **_QUIET) as served:
        client = await served.client()
        client.say("PROXY TCP4 192.0.2.1 192.0.2.2 1 25", "QUIT")
        await client.rest()
        lines = await transcript(served)
        header = "- PROXY header: 192.0.2.1:1 to 192.0.2.2:25"
        banner = "S 220 mx.example ESMTP mtad"
        assert matches(lines, header, banner, "C QUIT", "S 221 Bye", "- quit")
        assert (await ended(served)).peer == "192.0.2.1:1"
        client = await served.client()
        client.say("EHLO x")
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert matches(await transcript(served, 2), "~- PROXY header refused: no PROXY header.*")


async def test_xclient() -> None:
    async with serving(xclient_from=("127.0.0.0/8",), **_QUIET) as served:
        client = await served.greeted()
        await client.ask("XCLIENT ADDR=192.0.2.7 PORT=7")
        await client.ask("QUIT")
        lines = await transcript(served)
        assert lines[4:6] == ["C XCLIENT ADDR=192.0.2.7 PORT=7", "- XCLIENT: 192.0.2.7:7"]


async def test_a_line_that_is_too_long_is_counted() -> None:
    async with serving(**_QUIET) as served:
        client = await served.greeted()
        assert await client.ask(b"NOOP " + b"x" * 20_000) == "500 Line too long"
        assert await client.ask(b"NOOP " + b"x" * 5000) == "500 Line too long"
        await client.ask("QUIT")
        lines = (await transcript(served))[4:8]
        assert lines == [
            "C 20007 octets",
            "S 500 Line too long",
            "C NOOP " + "x" * 5000,
            "S 500 Line too long",
        ]


async def test_early_talk_and_its_refusal() -> None:
    async with serving(greeting_delay=0.05, early_talkers=Early.REFUSE, **_QUIET) as served:
        peer = socket.create_connection(served.listening.getsockname())
        peer.sendall(b"QUIT\r\n")  # before the server has had its turn
        client = Client(*await asyncio.open_connection(sock=peer))
        await client.rest()
        lines = await transcript(served)
        assert lines[1:] == [
            "- talked before the greeting",
            "- refused",
            "S 554 You talked before the greeting",
            "- octets that are not looked at: 6",
        ]
        assert (await ended(served)).ended == "refused"


async def test_a_handler_that_answers_by_halves() -> None:
    """Every octet is there, and a reply in two pieces is one reply."""
    async with serving(handler="harness.handlers:Halves", **_QUIET) as served:
        client = await served.greeted()
        assert await client.ask("NOOP") == "250-one\n250 two"
        await client.ask("QUIT")
        said = "\n".join(await transcript(served)).replace("\nS ", "\n")
        # Together or one after the other, as Python begins tasks.
        assert said.endswith("C NOOP\n250-one\n250 two\nC QUIT\n221 Bye\n- quit")
        summary = await ended(served)
        assert summary.replies == {220: 1, 250: 2, 221: 1}
        assert sum(summary.phases["command"].values()) == 3


# How a session ends


async def _quit(client: Client) -> None:
    assert (await client.ask("QUIT")).startswith("221")


async def _close(client: Client) -> None:
    client.writer.close()


async def _reset(client: Client) -> None:
    client.reset()


async def _wait(client: Client) -> None:
    assert (await client.reply()).startswith("421")
    await client.rest()


async def _err(client: Client) -> None:
    client.say("FOO", "FOO")
    await client.rest()


@pytest.mark.parametrize(
    ("end", "options", "expected"),
    [
        (_quit, {}, "quit"),
        (_close, {}, "client closed"),
        (_reset, {}, "reset"),
        (_wait, {"timeouts": Timeouts(command=0.2)}, "timeout"),
        (_err, {"limits": Limits(errors=2)}, "refused"),
    ],
)
@pytest.mark.parametrize("policy", list(Transcripts))
async def test_how_it_ends(
    end: Callable[[Client], Any], options: dict[str, Any], expected: str, policy: Transcripts
) -> None:
    """``failed`` keeps what ends in any other way than by QUIT, ``none`` nothing."""
    async with serving(**_QUIET, **options, transcripts=policy) as served:
        client = await served.greeted()
        await end(client)
        summary = await ended(served)
        failed = expected != "quit"
        assert (summary.ended, summary.failed) == (expected, failed)
        kept = policy is Transcripts.ALL or (policy is Transcripts.FAILED and failed)
        assert summary.transcript == ("all" if kept else "none")
        lines = await transcript(served)
        assert bool(lines) == kept
        assert not kept or f"- {expected}" in lines[-3:]
        assert summary.replies[220] == 1


@pytest.mark.parametrize(
    ("lines", "failed"),
    [
        ([], False),
        (["VRFY x", "NOOP"], False),
        (["FOO"], True),
        (["MAIL FROM:<a@b>"], True),
        (["MAIL FROM:<a@b>", "RSET"], True),
        (["MAIL FROM:<a@b>", "EHLO y"], True),
        (["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "BDAT 0 LAST"], False),
        (["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "BDAT 0 LAST", "MAIL FROM:<a@b>"], True),
        (["MAIL FROM:<a@b>", "RCPT TO:c@d", "RCPT TO:<c@d>", "BDAT 0 LAST"], True),
    ],
)
async def test_what_a_failure_is(lines: list[str], failed: bool) -> None:
    async with serving() as served:
        client = await served.greeted()
        for line in lines:
            await client.ask(line)
        await client.ask("QUIT")
        assert (await ended(served)).failed == failed


async def test_a_message_that_never_ends_is_counted() -> None:
    async with serving(**_QUIET) as served:
        client = await served.greeted()
        await client.begin()
        await client.ask("DATA")
        client.writer.write(b"half a\r\nmessage")
        client.writer.close()
        lines = await transcript(served)
        assert lines[-2:] == ["C 15 octets of a message", "- client closed"]
        assert (await ended(served)).octets_in == 21 + 30 + 21 + 6 + 15


async def test_a_drain_and_a_cut() -> None:
    async with serving(**_QUIET) as served:
        drained, cut = await served.greeted(), await served.greeted()
        await cut.begin()
        served.stop(0.2)
        assert (await drained.reply()).startswith("421")
        await drained.rest()
        with pytest.raises(ConnectionResetError):
            await cut.rest()
        await served.until(lambda: len(served.store.summaries) == 2)
        assert [one.ended for one in served.store.summaries] == ["listener stopped", "cut"]


async def test_a_listener_that_keeps_nothing_writes_nothing_down() -> None:
    async with serving(keep=False) as served:
        client = await served.greeted()
        await client.begin()
        await client.send(b"x\r\n")
        await client.ask("QUIT")
        await served.until(lambda: not served.counts.active)
        assert (served.store.summaries, served.store.transcripts) == ([], [])


async def test_a_unix_socket(tmp_path: Path) -> None:
    endpoint = UnixEndpoint(str(tmp_path / "s"))
    async with serving(endpoint, **_QUIET) as served:
        client = await served.greeted()
        await client.ask("QUIT")
        assert (await transcript(served))[0] == "- connected: unix to unix"
        assert (await ended(served)).peer == "unix"


# Long sessions


@pytest.mark.parametrize("policy", [Transcripts.ALL, Transcripts.FAILED])
async def test_parts_are_given_as_they_fill_and_the_end_is_cut(policy: Transcripts) -> None:
    async with serving(transcripts=policy, limits=Limits(errors=0), **_QUIET) as served:
        client = await served.greeted()
        parts = served.store.transcripts
        rounds = 60
        for _ in range(rounds):
            for _ in range(20):
                client.say(b"NOOP " + b"x" * 4000)
            for _ in range(20):
                await client.reply()
        assert bool(parts) == (policy is Transcripts.ALL)
        await client.ask("FOO")
        await client.ask("QUIT")
        summary = await ended(served)
        assert (summary.transcript, summary.failed) == ("cut", True)
        assert summary.replies == {220: 1, 250: 1 + 20 * rounds, 502: 1, 221: 1}
        lines = await transcript(served)
        assert lines[-1] == "- the rest is cut"
        assert 4_194_304 < sum(map(len, lines)) < 4_300_000
        sizes = [sum(len(what) for _, _, what in entries) for _, _, entries in parts]
        assert max(sizes) < 65_536


async def test_keys_grow_and_are_those_of_the_messages() -> None:
    async with serving() as served:
        for _ in range(3):
            client = await served.greeted()
            await client.begin()
            await client.send(b"x\r\n")
            await client.ask("QUIT")
            await client.rest()
        await served.until(lambda: len(served.store.summaries) == 3)
        keys = [one.key for one in served.store.summaries]
        assert keys == sorted(set(keys))
        assert [one.session for one in served.store.messages] == keys
        assert {key % 1024 for key in keys} == {1}


def test_the_default_is_to_write_all_down() -> None:
    assert Profile().transcripts is Transcripts.ALL

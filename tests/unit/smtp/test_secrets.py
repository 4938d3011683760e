"""What a client says to AUTH is nowhere: not in mail.db, nor in the log."""

from __future__ import annotations

import hmac
import logging
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from harness.recorded import transcript
from harness.serving import Client, Serving, serving
from harness.storing import storing

from mtad.model.profile import Auth, Switch

SECRET = b"correct-horse-battery"
_PLAIN = b64encode(b"\0tim\0" + SECRET)
_TOKEN = b64encode(b"user=tim\1auth=Bearer " + SECRET + b"\1\1")
_OPEN: dict[str, Any] = {"auth": Auth({"tim": SECRET.decode()}, before_tls=True)}


def forms(*secrets: bytes) -> set[bytes]:
    """Return what would give ``secrets`` away: they themselves, and their base64 in any place."""
    found = {secret for one in secrets for secret in (one, b64encode(one).rstrip(b"="))}
    for one in secrets:
        found |= {b64encode(b"x" * shift + one)[4:-4] for shift in range(3)}
    return found


async def kept(served: Serving, directory: Path, caplog: pytest.LogCaptureFixture) -> bytes:
    """Return all octets that the store has of the sessions so far, and of the log."""
    await served.until(lambda: not served.counts.active)
    store = served.store
    assert store.summaries
    async with storing(directory) as kept_by:
        for summary in store.summaries:
            kept_by.writer.session(summary)
        for key, part, entries in store.transcripts:
            kept_by.writer.transcript(key, part, entries)
    files = _files(directory)
    log = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    return b"".join(files) + "\n".join(log).encode()


def _files(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.glob("mail.db*")]


async def plain(client: Client) -> None:
    assert (await client.ask(b"AUTH PLAIN " + _PLAIN)).startswith("235")


async def plain_in_two(client: Client) -> None:
    assert (await client.ask("auth plain")).startswith("334")
    assert (await client.ask(_PLAIN)).startswith("235")


async def login(client: Client) -> None:
    assert (await client.ask("AUTH LOGIN")).startswith("334")
    assert (await client.ask(b64encode(b"tim"))).startswith("334")
    assert (await client.ask(b64encode(SECRET))).startswith("235")


async def login_with_initial_response(client: Client) -> None:
    assert (await client.ask(b"AUTH LOGIN " + b64encode(b"tim"))).startswith("334")
    assert (await client.ask(b64encode(SECRET))).startswith("235")


async def xoauth2(client: Client) -> None:
    assert (await client.ask(b"AUTH XOAUTH2 " + _TOKEN)).startswith("235")


async def wrong(client: Client) -> None:
    mistaken = b64encode(b"\0tom\0" + SECRET)
    assert (await client.ask(b"AUTH PLAIN " + mistaken)).startswith("535")
    assert (await client.ask(b"AUTH PLAIN " + SECRET)).startswith("501")
    await client.ask(b"AUTH XOAUTH2 " + b64encode(b"user=tom\1auth=Bearer " + SECRET + b"\1\1"))
    await client.ask(SECRET)


async def in_one_piece(client: Client) -> None:
    client.say("AUTH LOGIN", b64encode(b"tim"), b64encode(SECRET))
    for code in ("334", "334", "235"):
        assert (await client.reply()).startswith(code)


async def too_early(client: Client) -> None:
    """The client goes on though AUTH is refused: in a transaction, and of no known mechanism."""
    await client.ask("MAIL FROM:<a@b>")
    client.say("AUTH LOGIN", b64encode(b"tim"), b64encode(SECRET), "RSET")
    client.say(b"AUTH DIGEST-MD5 " + b64encode(SECRET), SECRET, b"\t" + SECRET, "RSET")
    client.say(b"AUTH " + b64encode(SECRET), b64encode(SECRET), "NOOP")
    for _ in range(11):
        await client.reply()


async def in_odd_ways(client: Client) -> None:
    client.say(
        b" AUTH PLAIN " + _PLAIN,
        b"AUTH\tPLAIN\t" + _PLAIN,
        b"\0AUTH PLAIN " + _PLAIN,
        b"AUTH\0PLAIN " + _PLAIN,
        b"AUTHPLAIN " + _PLAIN,
        b"AUTH PLAIN " + _PLAIN + b"\xff",
        b"AUTH PLAIN " + _PLAIN * 500,
        b"NOOP",
    )
    for _ in range(8):
        await client.reply()


Way = Callable[[Client], Awaitable[None]]
WAYS: list[Way] = [
    plain,
    plain_in_two,
    login,
    login_with_initial_response,
    xoauth2,
    wrong,
    in_one_piece,
    too_early,
    in_odd_ways,
]


@pytest.mark.parametrize("way", WAYS)
async def test_no_secret_is_kept(
    way: Way, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(**_OPEN) as served:
        client = await served.greeted()
        await way(client)
        await client.ask("NOOP")
        await client.ask("QUIT")
        octets = await kept(served, tmp_path, caplog)
        assert b"client.example" in octets
        assert not [form for form in forms(SECRET, _PLAIN, _TOKEN) if form in octets]
        assert any("***" in line for line in await transcript(served))


async def test_no_digest_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(**_OPEN) as served:
        client = await served.greeted()
        challenge = b64decode((await client.ask("AUTH CRAM-MD5")).split()[1])
        digest = hmac.new(SECRET, challenge, "md5").hexdigest().encode()
        assert (await client.ask(b64encode(b"tim " + digest))).startswith("235")
        await client.ask("QUIT")
        octets = await kept(served, tmp_path, caplog)
        assert not [form for form in forms(digest, b"tim " + digest) if form in octets]


async def test_what_no_auth_has_said_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The negative control: the same, said to NOOP; and an AUTH that is no command here."""
    caplog.set_level(logging.DEBUG)
    async with serving(**_OPEN) as served:
        client = await served.greeted()
        await client.ask(b"NOOP " + _PLAIN)
        await client.ask(b"FOO " + SECRET)
        await client.ask("QUIT")
        octets = await kept(served, tmp_path, caplog)
        assert _PLAIN in octets
        assert SECRET in octets
    async with serving(extensions={"AUTH": Switch.OFF}) as served:
        client = await served.greeted()
        await client.ask(b"AUTH PLAIN " + _PLAIN)
        await client.ask("QUIT")
        assert "C AUTH PLAIN ***" in await transcript(served)


async def test_what_is_shown_instead() -> None:
    async with serving(auth=Auth(before_tls=True, attempts=9)) as served:
        client = await served.greeted()
        for line in ("AUTH", "AUTH LOGIN", "*", "AUTH PLAIN =", "AUTH NTLM TlRM", "AUTH c2VjcmV0"):
            await client.ask(line)
        await client.ask("NOOP")
        await client.ask("FOO")
        await client.ask("QUIT")
        lines = [line for line in await transcript(served) if line[0] == "C"][1:]
        assert lines == [
            "C AUTH",
            "C AUTH LOGIN",
            "C *",
            "C AUTH PLAIN ***",
            "C AUTH NTLM ***",
            "C AUTH ***",
            "C NOOP",
            "C FOO",
            "C QUIT",
        ]


async def test_a_mechanism_of_a_handler() -> None:
    async with serving(handler="harness.handlers:Identifies", **_OPEN) as served:
        client = await served.greeted()
        await client.ask(b"AUTH NAMED " + SECRET)
        await client.ask("QUIT")
        assert "C AUTH NAMED ***" in await transcript(served)

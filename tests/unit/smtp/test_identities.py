"""Who has logged in: what handlers find in the session, and what is kept with the message."""

from __future__ import annotations

import pytest
from harness.serving import serving

from mtad.model.profile import Auth

HANDLER = "harness.handlers:Identifies"
OPEN = Auth(before_tls=True, required=True)


@pytest.mark.parametrize(
    ("mechanism", "told", "kept"),
    [
        ("NAMED", "True b'ann' b'ann'", "ann"),
        ("NAMELESS", "True None None", ""),
        ("BARE", "True None None", ""),
        ("OLD", "True None b'carl'", "carl"),
        ("ODD", "True None True", ""),
        ("PLAIN AGRvcmEAc2VjcmV0", "True b'dora' b'dora'", "dora"),
    ],
)
async def test_an_identity(mechanism: str, told: str, kept: str) -> None:
    async with serving(handler=HANDLER, auth=OPEN) as served:
        client = await served.greeted()
        assert (await client.ask(f"AUTH {mechanism}")).startswith("235")
        assert await client.ask("VRFY x") == f"250 2.0.0 {told}"
        await client.begin()
        assert (await client.send(b"x\r\n")).startswith("250")
        (message,) = served.store.messages
        assert message.user == kept


async def test_nobody_else_asks_a_handler_who_is_here() -> None:
    async with serving(handler=HANDLER, auth=OPEN) as served:
        client = await served.greeted()
        assert await client.ask("VRFY x") == "530 5.7.0 Authentication required"
    async with serving(handler=HANDLER) as served:
        client = await served.greeted()
        assert await client.ask("VRFY x") == "250 2.0.0 None None None"


async def test_a_hook_may_answer_for_every_mechanism() -> None:
    async with serving(handler=HANDLER, auth=OPEN) as served:
        client = await served.greeted()
        assert await client.ask("AUTH HOOKED") == "435 4.7.0 Hooked"
        assert (await client.ask("MAIL FROM:<a@b>")).startswith("530")

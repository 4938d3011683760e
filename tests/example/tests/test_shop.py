"""What the shop sends."""

from __future__ import annotations

import smtplib

import pytest
from shop import Shop

from mtad.testing import AsyncMtad, Mtad, MtadTimeoutError, UnexpectedMailError


def test_a_code_confirms_the_address(shop: Shop, mtad: Mtad) -> None:
    shop.sign_up("ann@example.com")
    message = mtad.wait_for("to:ann@example.com subject:welcome")
    assert shop.confirm("ann@example.com", message.code(r"code is (\d{6})"))
    assert not shop.confirm("ann@example.com", "")


def test_the_link_has_the_same_code(shop: Shop, mtad: Mtad) -> None:
    shop.sign_up("ann@example.com")
    message = mtad.wait_for()
    link = message.link(1)
    assert link == "https://shop.example.org/confirm?code=" + message.code(r"\d{6}")
    assert message.links == (link,)


def test_what_a_message_is(shop: Shop, mtad: Mtad) -> None:
    shop.sign_up("ann@example.com")
    message = mtad.wait_for()
    assert message.sender == "shop@example.org"
    assert message.recipients == message.to == ("ann@example.com",)
    assert message.from_ == ("shop@example.org",)
    assert message.attachments == 1
    assert message.listener == "mx"
    assert message.header("subject") == "Welcome: confirm your address"
    assert message.text.startswith("Your code is ")
    assert [part.name for part in message.parts if part.name] == ["terms.txt"]
    terms = next(part for part in message.parts if part.name)
    assert message.part(terms.number) == b"No refunds.\r\n"
    assert len(message.raw()) == message.size
    assert b"Subject: Welcome" in message.raw()
    assert "rcpt TO:<ann@example.com>" in message.transcript()


@pytest.mark.parametrize("number", range(6))
def test_each_sees_its_own_mail(shop: Shop, mtad: Mtad, number: int) -> None:
    """Though all of them write to the same address."""
    assert mtad.messages() == []
    for _ in range(number + 1):
        shop.sign_up("ann@example.com")
    assert len(mtad.wait_for_all("to:ann@example.com", count=number + 1)) == number + 1
    assert mtad.count() == len(mtad.messages()) == number + 1


def test_a_cursor_parts_before_from_after(shop: Shop, mtad: Mtad) -> None:
    shop.sign_up("ann@example.com")
    cursor = mtad.cursor()
    shop.sign_up("bob@example.com")
    (only,) = mtad.wait_for_all(after=cursor)
    assert only.to == ("bob@example.com",)
    assert [message.to[0] for message in mtad.messages()] == ["ann@example.com", "bob@example.com"]


def test_nobody_else_gets_mail(shop: Shop, mtad: Mtad) -> None:
    mtad.expect_none(0.05)
    shop.sign_up("ann@example.com")
    mtad.expect_none(0.05, "rcpt:bob@example.com")
    with pytest.raises(UnexpectedMailError, match=r"to <ann@example\.com>"):
        mtad.expect_none(30)


def test_a_wait_in_vain_says_what_came_instead(shop: Shop, mtad: Mtad) -> None:
    shop.sign_up("ann@example.com")
    with pytest.raises(MtadTimeoutError, match=r"'to:bob'\nwhat came:\n.*to <ann@") as caught:
        mtad.wait_for("to:bob", timeout=0.2)
    assert len(caught.value.messages) == 1


def test_deleted_mail_is_gone(shop: Shop, mtad: Mtad) -> None:
    for address in ("ann@example.com", "bob@example.com", "eve@example.com"):
        shop.sign_up(address)
    first, *_ = mtad.wait_for_all(count=3)
    assert mtad.delete(first) == 1
    assert mtad.count() == 2
    assert mtad.delete() == 2
    assert mtad.messages() == []


def test_the_shop_notices_that_the_server_is_down(shop: Shop, mtad: Mtad) -> None:
    mtad.listener("mx").stop()
    try:
        with pytest.raises(ConnectionRefusedError):
            shop.sign_up("ann@example.com")
    finally:
        mtad.listener("mx").start()
    shop.sign_up("ann@example.com")
    mtad.wait_for()


@pytest.mark.parametrize("time", ["first", "second"])
def test_rules_go_with_the_test(shop: Shop, mtad: Mtad, time: str) -> None:
    """Though nobody removes them."""
    assert mtad.rules() == []
    mtad.call("rule.add", name="full", text="at: rcpt, do: {reply: 452 4.2.2 Full}")
    mtad.rule({"at": "mail", "do": {"reply": "250 fine"}}).__enter__()
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        shop.sign_up("ann@example.com")
    assert [(rule.at, rule.fired) for rule in mtad.rules()] == [("rcpt", 1), ("mail", 1)]


def test_a_client_of_smtplib(mtad: Mtad) -> None:
    with mtad.smtp() as client:
        assert isinstance(client, smtplib.SMTP)
        client.sendmail("me@example.org", ["ann@example.com"], b"Subject: hi\r\n\r\n\xff\r\n")
    message = mtad.wait_for("subject:hi")
    assert message.raw() == b"Subject: hi\r\n\r\n\xff\r\n"


async def test_in_a_coroutine(shop: Shop, amtad: AsyncMtad) -> None:
    shop.sign_up("ann@example.com")
    message = await amtad.wait_for("to:ann@example.com")
    assert shop.confirm("ann@example.com", await message.code(r"\d{6}"))
    assert (await message.details()).header("To") == "ann@example.com"
    assert await amtad.count() == len(await amtad.messages()) == 1
    host, port = await amtad.listener("mx").endpoint()
    assert (host, port) == ("127.0.0.1", (await amtad.listener().endpoint())[1])
    with pytest.raises(MtadTimeoutError):
        await amtad.wait_for("to:bob", timeout=0)
    async with amtad.rule("at: rcpt, do: {reply: 452 4.2.2 Full}") as rule:
        assert await amtad.explain("rcpt") == rule.name
        assert [one.name for one in await amtad.rules()] == [rule.name]
        assert await rule.fired() == 0
    assert await amtad.rules() == []

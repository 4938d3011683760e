"""A bounce, read by Python's email as a mail program would: RFC 3464, field by field."""

from __future__ import annotations

import email
import re
from dataclasses import replace
from email import policy
from email.message import EmailMessage, Message
from email.utils import parsedate_to_datetime
from typing import Any, cast

import pytest
from harness.store_rows import CAPTURED
from hypothesis import given
from hypothesis import strategies as st

from mtad.archive.outgoing import report
from mtad.archive.outgoing.report import MOST_RETURNED, returns_all, unwanted
from mtad.model import ids
from mtad.model.rules.values import Bounce
from mtad.store.reader import Kept

NUMBER = 1_796_000_000_000_000_000
ARRIVED = 1_795_999_999_000_000_000
BOUNCE = Bounce("192.0.2.1:25", "5.1.1", "No such user here")
HEADER = b"From: a@x\r\nSubject: gr\xc3\xbcn\r\n\r\n"
TWO = ("one@example.com", "two@example.com")


def kept(size: int = 100, **envelope: Any) -> Kept:
    recipients = envelope.setdefault("recipients", TWO)
    envelope.setdefault("recipient_options", ((),) * len(recipients))
    captured = replace(CAPTURED, **{"received_ns": ARRIVED, "sender": "shop@x.example", **envelope})
    return Kept(NUMBER, 1, size, b"", captured, b"", None)


def read(
    known: Kept, bounce: Bounce = BOUNCE, returned: bytes = HEADER
) -> tuple[EmailMessage, list[Message], bytes]:
    """Return the notification, its groups of fields, and the octets of what is returned."""
    octets = report.report(known, bounce, returned, "mx.example")
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", octets)
    message = email.message_from_bytes(octets, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message.defects == []
    text, status, _ = cast("list[EmailMessage]", message.get_payload())
    assert text.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    boundary = message.get_boundary() or ""
    last = octets.split(f"\r\n--{boundary}".encode())[3]
    _, _, original = last.partition(b"\r\n\r\n")
    assert octets.endswith(b"\r\n--" + boundary.encode() + b"--\r\n")
    return message, cast("list[Message]", status.get_payload()), original


def test_field_by_field() -> None:
    known = kept(
        sender_options=("RET=HDRS", "ENVID=QQ314159+2B"),
        recipient_options=(("ORCPT=rfc822;One+40example.com", "NOTIFY=FAILURE,DELAY"), ()),
    )
    message, (about, first, second), original = read(known)
    assert message["To"] == "shop@x.example"
    assert message["From"].addresses[0].addr_spec == "MAILER-DAEMON@mx.example"
    assert message["Subject"] == "Undelivered Mail Returned to Sender"
    assert message["Message-ID"] == f"<{ids.encode(NUMBER)}.bounce@mx.example>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["MIME-Version"] == "1.0"
    assert parsedate_to_datetime(message["Date"]).timestamp() == NUMBER // 10**9
    assert about.items() == [
        ("Original-Envelope-Id", "QQ314159+"),
        ("Reporting-MTA", "dns; mx.example"),
        ("Arrival-Date", about["Arrival-Date"]),
    ]
    assert parsedate_to_datetime(about["Arrival-Date"]).timestamp() == ARRIVED // 10**9
    rest = [
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 No such user here"),
    ]
    assert first.items() == [
        ("Original-Recipient", "rfc822; One@example.com"),
        ("Final-Recipient", "rfc822; one@example.com"),
        *rest,
    ]
    assert second.items() == [("Final-Recipient", "rfc822; two@example.com"), *rest]
    text, _, returned = cast("list[EmailMessage]", message.get_payload())
    assert "<one@example.com>: 5.1.1 No such user here" in text.get_content()
    assert "<two@example.com>: 5.1.1 No such user here" in text.get_content()
    assert returned.get_content_type() == "text/rfc822-headers"
    assert original == HEADER


def test_each_try_sends_the_same() -> None:
    assert report.report(kept(), BOUNCE, HEADER, "mx") == report.report(
        kept(), BOUNCE, HEADER, "mx"
    )


@pytest.mark.parametrize(
    ("options", "size", "whole"),
    [
        ((), 100, False),
        (("RET=HDRS",), 100, False),
        (("RET=FULL",), 100, True),
        (("RET=FULL",), MOST_RETURNED, True),
        (("RET=FULL",), MOST_RETURNED + 1, False),
        (("RET=NONSENSE",), 100, False),
    ],
)
def test_what_is_returned(options: tuple[str, ...], size: int, whole: bool) -> None:
    known = kept(size, sender_options=options)
    assert returns_all(known) is whole
    content = b"Subject: x\r\n\r\n.\r\n\xff\xfe8 bit\r\nthe end"
    message, _, original = read(known, returned=content)
    *_, returned = cast("list[EmailMessage]", message.get_payload())
    assert returned.get_content_type() == ("message/rfc822" if whole else "text/rfc822-headers")
    assert original == content


@pytest.mark.parametrize(
    ("sender", "options", "reason"),
    [
        ("", ((), ()), "null sender"),
        ("a@x", (("NOTIFY=NEVER",), ("NOTIFY=SUCCESS,DELAY",)), "NOTIFY"),
        ("a@x", (("NOTIFY=NEVER",), ()), ""),
        ("a@x", (("NOTIFY=never",), ("notify=failure",)), ""),
        ("a@x", (("NOTIFY=NONSENSE",), ("NOTIFY=NEVER",)), ""),
    ],
)
def test_who_is_told(sender: str, options: tuple[tuple[str, ...], ...], reason: str) -> None:
    found = unwanted(kept(sender=sender, recipient_options=options).envelope)
    assert reason in found
    assert bool(found) is bool(reason)


def test_of_whom_the_sender_does_not_want_to_know() -> None:
    known = kept(recipient_options=(("NOTIFY=NEVER",), ()))
    message, (_, only), _ = read(known)
    assert only["Final-Recipient"] == "rfc822; two@example.com"
    assert b"one@example.com" not in message.as_bytes()


def test_addresses_that_are_not_ascii() -> None:
    known = kept(
        sender="jürgen@x.example",
        recipients=("用户+x=y@example.com",),
        recipient_options=(("ORCPT=utf-8;用户@example.com",),),
    )
    message, (_, only), _ = read(known, Bounce(BOUNCE.hop, BOUNCE.status, "Gibt es nicht: ä"))
    assert message["To"] == "jürgen@x.example"
    assert only["Final-Recipient"] == r"utf-8; \x{7528}\x{6237}\x{2B}x\x{3D}y@example.com"
    assert only["Original-Recipient"] == r"utf-8; \x{7528}\x{6237}@example.com"
    assert only["Diagnostic-Code"] == "smtp; 550 5.1.1 Gibt es nicht: ?"
    text, *_ = cast("list[EmailMessage]", message.get_payload())
    assert "用户+x=y@example.com>: 5.1.1 Gibt es nicht: ä" in text.get_content()


def test_line_ends_and_nuls_of_a_stranger() -> None:
    _, _, original = read(kept(), returned=b"A: b\nB: c\rC:\0 d\r\n\r\n")
    assert original == b"A: b\r\nB: c\r\nC: d\r\n\r\n"


def test_a_stranger_who_knows_our_boundary() -> None:
    boundary = b"=_mtad-" + ids.encode(NUMBER).encode()
    content = b"A: b\r\n\r\n--" + boundary + b"--\r\n--" + boundary + b"_--\r\n"
    _, groups, original = read(kept(sender_options=("RET=FULL",)), returned=content)
    assert original == content
    assert len(groups) == 3


HOSTILE = st.text(
    alphabet=st.sampled_from('a@\r\n\0\x1b\u2028\udcff:;<>\\"é \t'), min_size=1, max_size=40
)


@given(HOSTILE, HOSTILE, HOSTILE, st.binary(max_size=60))
def test_nothing_of_a_stranger_makes_a_field(
    sender: str, recipient: str, text: str, returned: bytes
) -> None:
    known = kept(
        sender=sender,
        recipients=(recipient,),
        recipient_options=((f"ORCPT=rfc822;{recipient}",),),
        sender_options=(f"ENVID={text}",),
    )
    message, (_, only), _ = read(known, Bounce(BOUNCE.hop, BOUNCE.status, text), returned)
    assert len(message.keys()) == 9
    assert set(only.keys()) <= {
        "Original-Recipient",
        "Final-Recipient",
        "Action",
        "Status",
        "Diagnostic-Code",
    }

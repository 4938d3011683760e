"""What the index takes from a message: the usual, the odd, and what is made to do harm."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.archive.headers import (
    HEADER_CHARACTERS,
    MAILBOXES,
    OCTETS,
    TEXT_CHARACTERS,
    Extract,
    Mailbox,
    extract,
    mailboxes,
)

USUAL = b"""\
Received: from a by b;\r
\tMon, 4 May 2026 12:00:00 +0200\r
From: "Alice Example" <alice@a.example>\r
To: =?utf-8?q?B=C3=B6b?= <bob@b.example>,\r
 carol@c.example\r
Cc: "Doe, Jane" <jane@d.example>\r
Subject: =?utf-8?b?UmVjaG51bmc=?= =?utf-8?q?_f=C3=BCr?= you\r
Date: Mon, 4 May 2026 12:00:00 +0200\r
Message-ID: <1@a.example>\r
\r
Hello!\r
"""


def test_the_usual() -> None:
    assert extract(USUAL, len(USUAL)) == Extract(
        subject="Rechnung für you",
        message_id="1@a.example",
        date=1_777_888_800.0,
        from_=(Mailbox("Alice Example", "alice@a.example"),),
        to=(Mailbox("Böb", "bob@b.example"), Mailbox("", "carol@c.example")),
        cc=(Mailbox("Doe, Jane", "jane@d.example"),),
        attachments=0,
        header=(
            "Received: from a by b;\tMon, 4 May 2026 12:00:00 +0200\n"
            'From: "Alice Example" <alice@a.example>\n'
            "To: Böb <bob@b.example>, carol@c.example\n"
            'Cc: "Doe, Jane" <jane@d.example>\n'
            "Subject: Rechnung für you\n"
            "Date: Mon, 4 May 2026 12:00:00 +0200\n"
            "Message-ID: <1@a.example>\n"
        ),
        text="Hello!\r\n",
        problem="",
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"", []),
        (b"a@b", [("", "a@b")]),
        (b" A B <a@b> ", [("A B", "a@b")]),
        (b"<a@b>,<c@d>", [("", "a@b"), ("", "c@d")]),
        (b"team: a@b, C <c@d>;", [("", "a@b"), ("C", "c@d")]),
        (b"a@b (Anna)", [("Anna", "a@b")]),
        (b'"x\\"y" <a@b>', [('x"y', "a@b")]),
        (b"root", [("", "root")]),
        (b"=?iso-8859-1?q?J=F6rg?= <j@b>", [("Jörg", "j@b")]),
        ("Jörg <jörg@b.example>".encode(), [("Jörg", "jörg@b.example")]),
    ],
)
def test_addresses(value: bytes, found: list[tuple[str, str]]) -> None:
    assert [(one.name, one.address) for one in mailboxes(value)] == found


@pytest.mark.parametrize(
    "value",
    [
        b"yesterday",
        b"Mon, 99 May 99999 99:99:99",
        b"1 Jan 1 00:00 -9999999999999999999",
        b"\xff",
        b"",
    ],
)
def test_a_date_that_is_none(value: bytes) -> None:
    message = b"Date: " + value + b"\r\nSubject: x\r\n\r\n"
    found = extract(message, len(message))
    assert (found.date, found.subject) == (None, "x")


PARTS = b"""\
Content-Type: multipart/mixed; boundary=b\r
\r
--b\r
Content-Type: multipart/alternative; boundary=c\r
\r
--c\r
Content-Type: text/plain\r
Content-Transfer-Encoding: base64\r
\r
cGxhaW4=\r
--c\r
Content-Type: text/html\r
\r
<b>page</b>\r
--c--\r
--b\r
Content-Type: text/plain; name=notes.txt\r
\r
of a file\r
--b\r
Content-Type: image/png\r
Content-Disposition: attachment\r
\r
x\r
--b--\r
"""


def test_parts() -> None:
    found = extract(PARTS, len(PARTS))
    assert (found.attachments, found.text) == (2, "plain")


def test_html_alone_is_read() -> None:
    message = b"Content-Type: text/html\r\n\r\n<style>p{}</style><p>A &amp; B</p>"
    assert extract(message, len(message)).text == "A & B"


def test_what_is_left_out_is_said() -> None:
    long = b"X: " + b"x" * 2 * HEADER_CHARACTERS + b"\r\n\r\n" + b"y" * 2 * TEXT_CHARACTERS
    found = extract(long, len(long) + 1)
    assert len(found.header) == HEADER_CHARACTERS
    assert len(found.text) == TEXT_CHARACTERS
    assert found.problem == (
        f"only its first {OCTETS} octets are indexed; "
        f"only the first {HEADER_CHARACTERS} characters of its header are indexed"
    )


def _nested(count: int) -> bytes:
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (one, one)
        for one in range(count)
    )


HOSTILE = {
    "10,000 parts inside one another": _nested(10_000),
    "a header of 30 MiB": b"Subject: " + b"x" * 30 * 2**20,
    "a million fields": b"X: y\r\n" * 1_000_000,
    "a million addresses": b"To: " + b"a@b.example," * 1_000_000 + b"\r\n\r\n",
    "a million lines of one field": b"To: a" + b"\r\n x" * 1_000_000,
    "100,000 parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    + b"--b\r\n\r\n" * 100_000,
    "encoded words that do not end": b"Subject: " + b"=?a?q?x " * 50_000,
    "encoded words": b"Subject: " + b"=?utf-8?q?x?= " * 50_000,
    "tags that do not end": b"Content-Type: text/html\r\n\r\n" + b"<a b='" * 200_000,
    "styles that do not end": b"Content-Type: text/html\r\n\r\n" + b"<style>" * 150_000,
    **{
        f"addresses of {sign!r}": b"\r\n".join(
            name + b": " + sign * (60_000 // len(sign)) for name in (b"From", b"To", b"Cc")
        )
        for sign in (b"(", b"<", b'"', b"\\", b"@", b"[", b";", b",", b"a:", b"a.", b"<@a:", b"(a)")
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_harm_costs_nothing_but_its_own_index(name: str) -> None:
    message = HOSTILE[name]
    began = time.thread_time()
    found = extract(message[:OCTETS], len(message))
    assert time.thread_time() - began < 1.0
    assert max(len(found.from_), len(found.to), len(found.cc)) <= MAILBOXES
    assert len(found.header) <= HEADER_CHARACTERS


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_anything_is_read(header: bytes, value: bytes) -> None:
    for message in (
        header,
        b"From: " + value + b"\r\nDate: " + value + b"\r\nSubject: " + value + b"\r\n\r\n" + header,
        b"Content-Type: multipart/mixed; boundary=" + value + b"\r\n\r\n--" + value + header,
    ):
        found = extract(message, len(message))
        assert not found.problem.startswith("unreadable")
        for text in (found.subject, found.header, found.text, found.message_id):
            assert "\0" not in text
            text.encode()

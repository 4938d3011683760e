"""Paths, EHLO's argument and xtext: what is taken, what each mistake is told, how long it takes.

What is plain is told apart by a pattern of its own: the same texts go the long way as well.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtad.smtp import grammar
from mtad.smtp.grammar import forward_path, helo_domain, mailbox_fault, reverse_path, xtext
from mtad.smtp.reply import Refusal, Reply

ATEXT = "abcXYZ019!#$%&'*+-/=?^_`{|}~"
LOCAL_64 = "l" * 64
LABEL_63 = "d" * 63
DOMAIN_255 = ".".join([LABEL_63] * 3 + ["d" * 63])

MAILBOXES = [
    "a@b",
    "user@example.net",
    "first.last@mail.example.co.uk",
    "a!#$%&'*+-/=?^_`{|}~z@example.org",
    "-@b",
    "1@2",
    "a@b-c.d--e",
    "a@xn--bcher-kva.example",
    "a@under_score.example",
    "a@_",
    '""@b',
    '"quoted local"@example.org',
    r'"a\"b\\c"@example.org',
    '"at@sign>gt<lt"@example.org',
    '"a..b."@example.org',
    r'"\ \a"@b',
    "a@[127.0.0.1]",
    "a@[255.255.255.255]",
    "a@[0.0.0.0]",
    "a@[192.000.02.1]",
    "a@[IPv6:::1]",
    "a@[ipv6:2001:DB8::1]",
    "a@[IPv6:1:2:3:4:5:6:7:8]",
    "a@[IPv6:::ffff:192.0.2.1]",
    "a@[x400:anything;goes~!]",
    "a@[a-b:c]",
    '"a b"@[127.0.0.1]',
    "jösé@exämple.org",
    "用户@例え.テスト",
    '"用 户"@example.org',
    "😀@example.org",
    "a@उदाहरण.परीक्षा",
    "a@l\u00b7l.example",
    "a@\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example",
    f"{LOCAL_64}@{DOMAIN_255}",
    "ö" * 32 + "@b",
    f'"{"q" * 62}"@b',
    f"a@[x:{'y' * 251}]",
]

NO_MAILBOX = "No mailbox"
NO_LOCAL_PART = "No local part"
NO_DOMAIN = "No domain"
NO_LITERAL = "No address literal"
NOT_MAILBOXES = [
    ("a", NO_MAILBOX),
    ("@b", NO_LOCAL_PART),
    ("example.net", NO_MAILBOX),
    (".a@b", NO_LOCAL_PART),
    ("a.@b", NO_LOCAL_PART),
    ("a..b@c", NO_LOCAL_PART),
    ("user name@b", NO_LOCAL_PART),
    (" a@b", NO_LOCAL_PART),
    ("a(b)@c", NO_LOCAL_PART),
    ("a,b@c", NO_LOCAL_PART),
    ("a:b@c", NO_LOCAL_PART),
    ("a;b@c", NO_LOCAL_PART),
    ("[a]@b", NO_LOCAL_PART),
    (r"a\b@c", NO_LOCAL_PART),
    ('a"b"@c', NO_LOCAL_PART),
    ('"a"b@c', NO_LOCAL_PART),
    ('"a".b@c', NO_LOCAL_PART),
    ('"a""b"@c', NO_LOCAL_PART),
    ('"a"@b"', NO_DOMAIN),
    ('"\\ö"@b', NO_LOCAL_PART),
    ("a@", NO_DOMAIN),
    ("a@b@c", NO_DOMAIN),
    ("a@b.", NO_DOMAIN),
    ("a@.b", NO_DOMAIN),
    ("a@b..c", NO_DOMAIN),
    ("a@-b", NO_DOMAIN),
    ("a@b-", NO_DOMAIN),
    ("a@b-.c", NO_DOMAIN),
    ("a@b.-c", NO_DOMAIN),
    ("a@b c", NO_DOMAIN),
    ("a@b ", NO_DOMAIN),
    ("a@b/c", NO_DOMAIN),
    ("a@b:25", NO_DOMAIN),
    ("a@(b)", NO_DOMAIN),
    ("a@b\u00a0c", NO_DOMAIN),
    ("a@b\u3002c", NO_DOMAIN),
    ("a@b\u202ec", NO_DOMAIN),
    ("a@\U0001f600", NO_DOMAIN),
    ("a@[]", NO_LITERAL),
    ("a@[127.0.0.1", NO_LITERAL),
    ("a@127.0.0.1]", NO_DOMAIN),
    ("a@[127.0.0.1].b", NO_LITERAL),
    ("a@[127.0.0.256]", NO_LITERAL),
    ("a@[127.0.0]", NO_LITERAL),
    ("a@[127.0.0.0.1]", NO_LITERAL),
    ("a@[0127.0.0.1]", NO_LITERAL),
    ("a@[\u0661.0.0.1]", NO_LITERAL),
    ("a@[::1]", NO_LITERAL),
    ("a@[IPv6:]", NO_LITERAL),
    ("a@[IPv6:::1::]", NO_LITERAL),
    ("a@[IPv6:1:2:3:4:5:6:7]", NO_LITERAL),
    ("a@[IPv6:12345::]", NO_LITERAL),
    ("a@[IPv6:fe80::1%eth0]", NO_LITERAL),
    ("a@[IPv6:::1/64]", NO_LITERAL),
    ("a@[x-:y]", NO_LITERAL),
    ("a@[x:]", NO_LITERAL),
    ("a@[x:a b]", NO_LITERAL),
    ("a@[x:a[b]", NO_LITERAL),
    (r"a@[x:a\b]", NO_LITERAL),
    ("a@[x:ö]", NO_LITERAL),
    (f"{LOCAL_64}l@b", "The local part is longer than 64 octets"),
    ("ö" * 33 + "@b", "The local part is longer than 64 octets"),
    (f'"{"q" * 63}"@b', "The local part is longer than 64 octets"),
    (f"a@{DOMAIN_255}.d", "The domain is longer than 255 octets"),
    (f"a@{'ö' * 60}.{'ö' * 60}.{'ö' * 8}", "The domain is longer than 255 octets"),
    (f"a@[x:{'y' * 252}]", "The domain is longer than 255 octets"),
    (f"a@{LABEL_63}d", NO_DOMAIN),
    (f"a@b.{LABEL_63}d.c", NO_DOMAIN),
]

# A NUL, a tab, line ends, DEL, C1 controls, separators, and what surrogateescape makes of no UTF-8.
NOWHERE = "\0\t\n\r\x1f\x7f\x80\x85\x9f\u2028\u2029\udc80\udcff\ud800"


def refusal(parse: Callable[[str], object], text: str) -> Reply:
    with pytest.raises(Refusal) as caught:
        parse(text)
    return caught.value.reply


def long_way(parse: Callable[[str], tuple[str, str]], text: str) -> tuple[str, str]:
    """Parse with no path taken for a plain one."""
    with mock.patch.object(grammar, "_PLAIN_PATH", re.compile("(?!)")):
        return parse(text)


@pytest.mark.parametrize("mailbox", MAILBOXES)
def test_mailbox(mailbox: str) -> None:
    assert mailbox_fault(mailbox) == ""
    for parse in (reverse_path, forward_path):
        for rest in ("", "SIZE=1 BODY=8BITMIME", "<c@d>", "\t"):
            expected = (mailbox, rest)
            for text in (f"<{mailbox}> {rest}", f"  <{mailbox}>   {rest}  "):
                assert parse(text) == long_way(parse, text) == expected
        assert parse(f"<{mailbox}>") == (mailbox, "")


@pytest.mark.parametrize(("text", "says"), NOT_MAILBOXES)
def test_no_mailbox(text: str, says: str) -> None:
    assert mailbox_fault(text).startswith(says)


@pytest.mark.parametrize(
    ("text", "says"),
    [pair for pair in NOT_MAILBOXES if pair[0].count('"') % 2 == 0 and pair[0][0] != "@"],
)
def test_no_mailbox_in_a_path(text: str, says: str) -> None:
    for parse, status in ((reverse_path, "5.1.7"), (forward_path, "5.1.3")):
        reply = refusal(parse, f"<{text}>")
        assert reply[:2] == (553, status)
        assert reply.text.startswith(says)


@pytest.mark.parametrize("character", NOWHERE)
@pytest.mark.parametrize("place", ["{}a@b", "a{}@b", "a@{}b", "a@b{}", '"{}"@b', "a@[x:{}]"])
def test_controls_are_nowhere(character: str, place: str) -> None:
    assert mailbox_fault(place.format(character))
    assert mailbox_fault(place.format("\\" + character))
    assert refusal(reverse_path, f"<{place.format(character)}>").code == 553


@pytest.mark.parametrize("route", ["@a", "@a,@b", "@a.example,@b_c.example,@d", "@exämple"])
def test_source_routes_are_left_out(route: str) -> None:
    assert reverse_path(f"<{route}:user@c.example> X=1") == ("user@c.example", "X=1")
    assert forward_path(f'<{route}:"a:b,@c"@d>') == ('"a:b,@c"@d', "")


@pytest.mark.parametrize(
    "inside",
    [
        "@a",
        "@a:",
        "@:a@b",
        "@a,:a@b",
        "@a,b:a@b",
        "@a,xb:a@b",
        "@a, @b:a@b",
        "@a,,@b:a@b",
        "@@a:a@b",
        "@-a:a@b",
        "@[127.0.0.1]:a@b",
        "@a:@b:a@b",
        "@a:Postmaster",
        "@\udc80:a@b",
        "@\u202e:a@b",
    ],
)
def test_no_source_route(inside: str) -> None:
    assert refusal(reverse_path, f"<{inside}>")[:2] == (553, "5.1.7")
    assert refusal(forward_path, f"<{inside}>")[:2] == (553, "5.1.3")


def test_null_path() -> None:
    assert reverse_path("<>") == ("", "")
    assert reverse_path(" <>  RET=HDRS ") == ("", "RET=HDRS")
    assert refusal(forward_path, "<>")[:2] == (553, "5.1.3")


@pytest.mark.parametrize("name", ["Postmaster", "postmaster", "POSTMASTER"])
def test_postmaster(name: str) -> None:
    assert forward_path(f"<{name}> NOTIFY=NEVER") == (name, "NOTIFY=NEVER")
    assert refusal(reverse_path, f"<{name}>")[:2] == (553, "5.1.7")
    assert refusal(forward_path, f"<{name}@>")[:2] == (553, "5.1.3")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Angle brackets"),
        (" ", "Angle brackets"),
        ("a@b", "Angle brackets"),
        ("a@b>", "Angle brackets"),
        ("<a@b", "Angle brackets"),
        ("<", "Angle brackets"),
        ("\t<a@b>", "Angle brackets"),
        ("x<a@b>", "Angle brackets"),
        ('<"a@b>', "quotes in pairs"),
        (r'<"a\"@b>', "quotes in pairs"),
        ("<a@b>garbage", "Nothing but a space"),
        ("<a@b><c@d>", "Nothing but a space"),
        ("<a@b>\tSIZE=1", "Nothing but a space"),
        ("<a@b>\n", "Nothing but a space"),
        ("<a@b>\u00a0", "Nothing but a space"),
        ("<>x", "Nothing but a space"),
        ('<"a>b"@c>d>', "Nothing but a space"),
    ],
)
def test_no_path(text: str, says: str) -> None:
    for parse, example_of in ((reverse_path, "MAIL FROM:<"), (forward_path, "RCPT TO:<")):
        reply = refusal(parse, text)
        assert reply[:2] == (501, "5.5.4")
        assert says in reply.text
        assert says != "Angle brackets" or example_of in reply.text


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "mail.example.net",
        "mail.example.net.",
        "WIN_HOST-7",
        "127.0.0.1",
        "bücher.example",
        "[127.0.0.1]",
        "[IPv6:::1]",
        "[x:y]",
        DOMAIN_255,
    ],
)
def test_helo(name: str) -> None:
    assert helo_domain(name) == name
    assert helo_domain(f"  {name}  ") == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "a b",
        "a\tb",
        "foo\0bar",
        "a\n",
        "\x85",
        "a\u2028",
        "\udcff",
        ".",
        "a..",
        "<a>",
        "a@b",
        "::1",
        "[::1]",
        "[127.0.0.1].",
        f"{DOMAIN_255}.d",
        "x" * 12_000,
    ],
)
def test_no_helo(text: str) -> None:
    reply = refusal(helo_domain, text)
    assert reply[:2] == (501, "5.5.4")
    assert len(reply.text) < 120


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("", ""),
        ("plain", "plain"),
        ("!*,-<>~", "!*,-<>~"),
        ("a+2Bb+3Dc+20d", "a+b=c d"),
        ("+00+7F", "\0\x7f"),
        ("j+C3+B6", "jö"),
        ("+2B41", "+41"),
    ],
)
def test_xtext(text: str, decoded: str) -> None:
    assert xtext(text) == decoded


@pytest.mark.parametrize(
    "text",
    ["a b", "a=b", "+", "+2", "+2b", "+GG", "++41", "a\n", "\x7f", "+FF", "+C3", "+ED+A0+80"],
)
def test_no_xtext(text: str) -> None:
    for utf8 in (False, True):
        with pytest.raises(ValueError, match=r"xtext|utf-8"):
            xtext(text, utf8=utf8)


def test_xtext_that_is_not_ascii() -> None:
    assert xtext("jö+2B", utf8=True) == "jö+"
    for text, utf8 in (("jö", False), ("\udc80", True), ("\x85", True), ("\u2028", True)):
        with pytest.raises(ValueError, match=r"xtext|utf-8"):
            xtext(text, utf8=utf8)


HOSTILE = {
    "atoms": "<{}@b>".format("a." * 100_000),
    "one atom": "<" + "a" * 200_000,
    "labels": "<a@{}>".format("a-" * 100_000),
    "dots": "<a@{}>".format("." * 200_000),
    "quotes": "<" + '"' * 200_001,
    "pairs of quotes": "<" + '"a"' * 70_000 + "@b",
    "quoted pairs": '<"' + "\\" * 200_001,
    "quoted quotes": '<"' + r"\"" * 100_000 + "@b>",
    "route": "<" + "@a," * 70_000 + "@a:a@b>",
    "no route": "<" + "@" * 200_000 + ">",
    "colons": "<@a" + ":" * 200_000 + "a@b>",
    "literal": "<a@[IPv6:{}]>".format(":" * 200_000),
    "tag": "<a@[{}]>".format("a-" * 100_000),
    "open": "<" * 200_000,
    "closed": ">" * 200_000,
    "spaces": " " * 200_000 + "x",
    "spaces and one more": "<a@b>" + " " * 200_000 + "\n",
    "wide": "<{}@b>".format("ö." * 100_000),
    "xtext": "+2B" * 70_000 + "+",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_is_linear(name: str) -> None:
    """What is quadratic takes minutes for so much; a command has a few thousand octets."""
    began = time.process_time()
    for parse in (reverse_path, forward_path, helo_domain, mailbox_fault, xtext):
        with suppress(Refusal, ValueError):
            parse(HOSTILE[name])
    assert time.process_time() - began < 2


def joined(characters: str, separator: str, limit: int) -> st.SearchStrategy[str]:
    words = st.text(characters, min_size=1, max_size=8)
    return (
        st.lists(words, min_size=1, max_size=6)
        .map(separator.join)
        .filter(lambda text: len(text.encode()) <= limit)
    )


dot_strings = joined(ATEXT + "ö用", ".", 64)
quoted_strings = st.lists(
    st.text("aZ09 !#()<>[],:;@.ö", max_size=3) | st.sampled_from([r"\"", r"\\", r"\ ", r"\a"]),
    max_size=8,
).map(lambda parts: f'"{"".join(parts)}"')
labels = joined("abzAZ09_ö", "-", 60)
domains = st.lists(labels, min_size=1, max_size=4).map(".".join)
literals = (
    st.ip_addresses(v=4).map(lambda address: f"[{address}]")
    | st.ip_addresses(v=6).map(lambda address: f"[IPv6:{address}]")
    | st.builds("[{}:{}]".format, joined("abz09", "-", 60), st.text("!AZ^az~", min_size=1))
)
mailboxes = st.builds("{}@{}".format, dot_strings | quoted_strings, domains | literals)


@given(mailboxes, st.lists(domains, max_size=3))
def test_what_the_rfc_builds_is_taken(mailbox: str, route: list[str]) -> None:
    prefix = ",".join(f"@{domain}" for domain in route) + ":" if route else ""
    assert reverse_path(f"<{prefix}{mailbox}>") == (mailbox, "")
    assert forward_path(f"<{prefix}{mailbox}> A=b") == (mailbox, "A=b")


def outcome(parse: Callable[[str], tuple[str, str]], text: str) -> tuple[str, str] | Reply:
    try:
        return parse(text)
    except Refusal as refused:
        return refused.reply


nearly_plain = st.builds(
    "{}<{}@{}>{}".format,
    st.sampled_from(["", " "]),
    st.text('ab.-!"@> \n', max_size=8) | st.sampled_from(["a", "l" * 62, LOCAL_64, LOCAL_64 + "l"]),
    st.text("ab.-_[]1:@>\n", max_size=8) | st.sampled_from(["b", LABEL_63, LABEL_63 + "d"]),
    st.sampled_from(["", " ", "  A ", "\n", "x", " \n", "\0"]),
)


@given(nearly_plain | st.text(max_size=30) | st.from_regex(r"<[a-c.@\-]{0,70}>.{0,3}"))
@example("<a@b.>")
@example("<a.@b>")
@example("<a@b->")
def test_the_quick_way_and_the_long_way_agree(text: str) -> None:
    for parse in (reverse_path, forward_path):
        with mock.patch.object(grammar, "_PLAIN_PATH", re.compile("(?!)")):
            expected = outcome(parse, text)
        assert outcome(parse, text) == expected


@given(st.text(st.characters() | st.sampled_from('<>@:,."\\[]' + NOWHERE), max_size=40))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    """What is taken was there, can be encoded, and has no line end in any reading."""
    for parse in (reverse_path, forward_path):
        with suppress(Refusal):
            mailbox, rest = parse(text)
            assert f"{mailbox}>" in text
            assert text.rstrip(" ").endswith(rest)
            mailbox.encode()
            assert len(mailbox.splitlines()) <= 1
            assert not set(mailbox) & set(NOWHERE)


@given(st.text(st.characters(codec="utf-8")))
def test_xtext_comes_back(text: str) -> None:
    encoded = "".join(
        chr(octet) if 33 <= octet <= 126 and octet not in b"+=" else f"+{octet:02X}"
        for octet in text.encode()
    )
    assert xtext(encoded) == text

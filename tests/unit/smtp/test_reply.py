"""Replies as octets: what is on the wire, whatever a text or a hook holds."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtad.smtp.reply import Refusal, Reply, encode, from_hook, without_status


@pytest.mark.parametrize(
    ("reply", "octets"),
    [
        (Reply(250, "2.0.0", "Ok"), b"250 2.0.0 Ok\r\n"),
        (Reply(220, "", "mx.example ESMTP"), b"220 mx.example ESMTP\r\n"),
        (Reply(250, "2.1.0", "a\nb"), b"250-2.1.0 a\r\n250 2.1.0 b\r\n"),
        (Reply(250, "", "mx\nSIZE 1\nHELP"), b"250-mx\r\n250-SIZE 1\r\n250 HELP\r\n"),
        (Reply(550, "5.1.1", "a\r\n\rb"), b"550-5.1.1 a\r\n550-5.1.1 \r\n550 5.1.1 b\r\n"),
        (Reply(250, "", ""), b"250 \r\n"),
        (Reply(501, "5.5.4", "\0a\x1b\x7f\x9f\tb"), b"501 5.5.4 ?a???\tb\r\n"),
        (Reply(501, "5.5.4", "é\u20ac"), b"501 5.5.4 \xc3\xa9\xe2\x82\xac\r\n"),
        (Reply(501, "5.5.4", "\udcff\ud800\udc7f\udd00"), b"501 5.5.4 \xff???\r\n"),
    ],
)
def test_encode(reply: Reply, octets: bytes) -> None:
    assert encode(reply) == octets


def test_long_lines_are_wrapped_at_spaces() -> None:
    words = [f"word{number}" for number in range(300)]
    lines = encode(Reply(451, "4.3.0", " ".join(words))).split(b"\r\n")
    assert lines.pop() == b""
    assert all(500 < len(line) + 2 <= 512 for line in lines[:-1])
    assert {line[:10] for line in lines[:-1]} == {b"451-4.3.0 "}
    assert lines[-1].startswith(b"451 4.3.0 ")
    assert b" ".join(line[10:] for line in lines).decode().split(" ") == words


def test_the_longest_line_that_needs_no_wrapping() -> None:
    room = 512 - len("250 2.0.0 \r\n")
    assert encode(Reply(250, "2.0.0", "x" * room)).count(b"\r\n") == 1
    assert encode(Reply(250, "2.0.0", "x" * (room + 1))).count(b"\r\n") == 2
    assert encode(Reply(250, "2.0.0", "x" * room + " y")).count(b"\r\n") == 2
    assert (
        encode(Reply(250, "2.0.0", "a " + "x" * (room - 2) + " " + "y" * room)).count(b"\r\n") == 2
    )
    assert encode(Reply(250, "2.0.0", " " + "x" * (2 * room - 1))).count(b"\r\n") == 2


@pytest.mark.parametrize("character", ["x", "é", "\u20ac", "\U0001f4e8"])
@pytest.mark.parametrize("shift", range(4))
def test_a_character_is_not_cut_in_two(character: str, shift: int) -> None:
    text = "a" * shift + character * 600
    lines = encode(Reply(250, "2.0.0", text)).split(b"\r\n")[:-1]
    assert max(map(len, lines)) <= 510
    assert "".join(line[10:].decode() for line in lines) == text


def test_a_challenge_is_never_wrapped() -> None:
    assert encode(Reply(334, "", "A" * 12_000)) == b"334 " + b"A" * 12_000 + b"\r\n"


@given(st.text(), st.sampled_from(["", "5.5.4"]))
@example("x" * 2000 + "\r\n" + "\udc80" * 2000, "5.5.4")
def test_any_text_is_one_reply(text: str, status: str) -> None:
    octets = encode(Reply(554, status, text))
    prefix = f"{status} ".encode() if status else b""
    *others, last, nothing = octets.split(b"\r\n")
    assert nothing == b""
    assert last.startswith(b"554 " + prefix)
    assert all(line.startswith(b"554-" + prefix) for line in others)
    assert not re.search(rb"[\0-\x08\x0a-\x1f\x7f]", b"".join([*others, last]))
    assert max(map(len, [*others, last])) <= 510
    assert without_status(octets) == octets.replace(b"554-" + prefix, b"554-").replace(
        b"554 " + prefix, b"554 "
    )


def test_a_refusal_carries_its_reply() -> None:
    with pytest.raises(Refusal, match="No such parameter") as raised:
        raise Refusal(555, "5.5.4", "No such parameter")
    assert raised.value.reply == (555, "5.5.4", "No such parameter")


@pytest.mark.parametrize(
    ("octets", "bare"),
    [
        (b"250 2.0.0 Ok\r\n", b"250 Ok\r\n"),
        (b"250-2.1.0 a\r\n250 2.1.0 b\r\n", b"250-a\r\n250 b\r\n"),
        (b"550 5.7.123 \r\n", b"550 \r\n"),
        (b"550 5.7.1\r\n", b"550 \r\n"),
        (b"250 Ok 2.0.0 \r\n", b"250 Ok 2.0.0 \r\n"),
        (b"250 5.0.0 stars\r\n", b"250 5.0.0 stars\r\n"),
        (b"250-10.0.0.1 greets\r\n250 SIZE\r\n", b"250-10.0.0.1 greets\r\n250 SIZE\r\n"),
        (b"334 \r\n", b"334 \r\n"),
    ],
)
def test_without_status(octets: bytes, bare: bytes) -> None:
    assert without_status(octets) == bare


@pytest.mark.parametrize(
    ("text", "plain", "enhanced"),
    [
        ("250 OK", b"250 OK\r\n", b"250 2.0.0 OK\r\n"),
        ("250 OK\r\n", b"250 OK\r\n", b"250 2.0.0 OK\r\n"),
        ("250", b"250 \r\n", b"250 2.0.0 \r\n"),
        (b"250 caf\xc3\xa9 \xff", b"250 caf\xc3\xa9 \xff\r\n", b"250 2.0.0 caf\xc3\xa9 \xff\r\n"),
        ("451 4.3.2 Later", b"451 4.3.2 Later\r\n", b"451 4.3.2 Later\r\n"),
        ("550 5.1.1", b"550 5.1.1\r\n", b"550 5.1.1 \r\n"),
        ("550 5.1.1 Not 5.1.2 x", b"550 5.1.1 Not 5.1.2 x\r\n", b"550 5.1.1 Not 5.1.2 x\r\n"),
        ("550 2.1.1 Odd", b"550 2.1.1 Odd\r\n", b"550 5.0.0 Odd\r\n"),
        ("550 5.01.1 Odd", b"550 5.01.1 Odd\r\n", b"550 5.0.0 5.01.1 Odd\r\n"),
        ("550 5.1.1.1 Odd", b"550 5.1.1.1 Odd\r\n", b"550 5.0.0 5.1.1.1 Odd\r\n"),
        (
            "451 4.3.0 x\r\n451 4.3.0 y",
            b"451-4.3.0 x\r\n451 4.3.0 y\r\n",
            b"451-4.3.0 x\r\n451 4.3.0 y\r\n",
        ),
        (
            "550-first\r\n550 second",
            b"550-first\r\n550 second\r\n",
            b"550-5.0.0 first\r\n550 5.0.0 second\r\n",
        ),
        ("250-a\n250 2.1.5 b", b"250-a\r\n250 2.1.5 b\r\n", b"250-2.1.5 a\r\n250 2.1.5 b\r\n"),
        ("220 mx", b"220 mx\r\n", b"220 mx\r\n"),
        ("334 VXNlcg==", b"334 VXNlcg==\r\n", b"334 VXNlcg==\r\n"),
        ("354 Go", b"354 Go\r\n", b"354 Go\r\n"),
    ],
)
def test_hooks(text: str | bytes, plain: bytes, enhanced: bytes) -> None:
    assert from_hook(text, enhanced=False) == plain
    assert from_hook(text, enhanced=True) == enhanced


@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r"])
def test_a_hook_cannot_smuggle_a_second_reply(line_end: str) -> None:
    text = f"550 No{line_end}250 2.0.0 Yes"
    assert from_hook(text, enhanced=False) == b"550-No\r\n550 250 2.0.0 Yes\r\n"
    assert from_hook(text, enhanced=True) == b"550-5.0.0 No\r\n550 5.0.0 250 2.0.0 Yes\r\n"
    assert from_hook(text.encode(), enhanced=True) == from_hook(text, enhanced=True)


@pytest.mark.parametrize(
    "answer",
    [None, 250, "", "OK", "25", "2500 x", "150 x", "650 x", " 250 x", "250OK", "250\tOK",
     "\u0662\u0665\u0660 x", b"", b"\xff", ["250 OK"]],
)  # fmt: skip
def test_what_is_no_reply(answer: object) -> None:
    with pytest.raises(ValueError, match="not a reply"):
        from_hook(answer, enhanced=True)


@given(st.text(alphabet=st.sampled_from("25 -.0\r\n\0aé\udcff")), st.booleans())
def test_any_text_of_a_hook_is_one_reply_with_its_code(text: str, enhanced: bool) -> None:
    *lines, nothing = from_hook("554 " + text, enhanced=enhanced).split(b"\r\n")
    assert nothing == b""
    assert all(line.startswith(b"554-") for line in lines[:-1])
    assert lines[-1].startswith(b"554 ")
    assert not re.search(rb"[\0-\x08\x0a-\x1f\x7f]", b"".join(lines))
    if enhanced:
        assert all(re.match(rb"554[ -]5\.\d+\.\d+ ", line) for line in lines)

"""The reader of DATA against a slow and obvious one: whole, octet by octet, cut anywhere."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from harness.body_model import END, POLICIES, Outcome, expected, read
from hypothesis import given, settings
from hypothesis import strategies as st

from mtad.model.profile import TERMINATORS, Newlines
from mtad.smtp.body import DataReader, Flaw

STRICT, LENIENT, EMULATE = Newlines.STRICT, Newlines.LENIENT, Newlines.EMULATE


def agree(stream: bytes, newlines: Newlines, terminator: str = "", limit: int = 0) -> Outcome:
    """Read ``stream`` whole, octet by octet and cut in two anywhere: always as the model does."""
    model = expected(stream, newlines, terminator, limit)
    assert model.ended_by is not None, "a stream for this function has an end"
    policy = (newlines, terminator, limit)
    assert read([stream], *policy) == model
    assert read([stream[at : at + 1] for at in range(len(stream))], *policy) == model
    for at in range(len(stream) + 1):
        assert read([stream[:at], stream[at:]], *policy) == model, f"cut at {at}"
    return model


MESSAGES = {
    "empty": (b".\r\n", b""),
    "an empty line": (b"\r\n.\r\n", b"\r\n"),
    "one line": (b"a\r\n.\r\n", b"a\r\n"),
    "the first line has a dot": (b"..a\r\n.\r\n", b".a\r\n"),
    "the first line is a dot": (b"..\r\n.\r\n", b".\r\n"),
    "a dot that was not doubled": (b".a\r\n.b\r\n.\r\n", b"a\r\nb\r\n"),
    "dots alone": (b"....\r\n..\r\n...\r\n.\r\n", b"...\r\n.\r\n..\r\n"),
    "dots within and at the end of lines": (b"a.b.\r\n.\r\n", b"a.b.\r\n"),
    "eight bits": (b"\xff\x85\xc2\x85\r\n.\r\n", b"\xff\x85\xc2\x85\r\n"),
    "line ends of Unicode": (b"\x0b\x0c\x1c\x1d\x1e\r\n.\r\n", b"\x0b\x0c\x1c\x1d\x1e\r\n"),
}


@pytest.mark.parametrize(("newlines", "terminator"), POLICIES)
@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("rest", [b"", b"QUIT\r\n", b".\r\n", b"\n", b"a\r\n.\r\n"])
def test_messages(name: str, newlines: Newlines, terminator: str, rest: bytes) -> None:
    stream, content = MESSAGES[name]
    assert agree(stream + rest, newlines, terminator) == ("", content, set(), rest)


@pytest.mark.parametrize(
    ("octets", "flaw"),
    [
        (b"a\nb", Flaw.BARE_LF),
        (b"\n", Flaw.BARE_LF),
        (b"\n\r\n", Flaw.BARE_LF),
        (b"\r\n\n", Flaw.BARE_LF),
        (b"a\rb", Flaw.BARE_CR),
        (b"\r", Flaw.BARE_CR),
        (b"\r\r\n", Flaw.BARE_CR),
        (b"\0", Flaw.NUL),
        (b".\0", Flaw.NUL),
    ],
)
def test_flaws(octets: bytes, flaw: Flaw) -> None:
    for before, after in [(b"", END), (b"a\r\n", END), (b"a\r\n..", b"\r\nb" + END)]:
        stream = before + octets + after
        assert agree(stream, STRICT) == ("", None, {flaw}, b"")
        lenient = agree(stream, LENIENT)
        assert lenient.flaws == {flaw}
        assert lenient.content is not None
        assert octets.lstrip(b".") in lenient.content


@pytest.mark.parametrize("name", TERMINATORS)
@pytest.mark.parametrize(("newlines", "terminator"), POLICIES)
def test_smuggling(name: str, newlines: Newlines, terminator: str) -> None:
    smuggled = b"MAIL FROM:<x@example>\r\n"
    seen = agree(
        b"a" + TERMINATORS[name] + smuggled + b"b" + END + b"QUIT\r\n", newlines, terminator
    )
    if newlines is STRICT:
        assert (seen.ended_by, seen.content, seen.rest) == ("", None, b"QUIT\r\n")
        assert seen.flaws & {Flaw.BARE_CR, Flaw.BARE_LF}
    elif newlines is LENIENT:
        assert (seen.ended_by, seen.rest) == ("", b"QUIT\r\n")
        assert seen.content is not None
        assert smuggled in seen.content
    elif name == terminator:  # the control: the weak server that is emulated does fall for it
        before = b"a" + TERMINATORS[name].partition(b".")[0]
        assert (seen.ended_by, seen.content) == (name, before)
        assert seen.rest == smuggled + b"b" + END + b"QUIT\r\n"


def test_an_end_that_may_become_the_real_one_waits_for_it() -> None:
    reader = DataReader(EMULATE, "crlf-dot-cr")
    assert bytes(reader.feed(b"a\r\n.\r")) == b"a"
    assert not reader.ended
    assert bytes(reader.feed(b"\nQ")) == b"\r\n"
    assert (reader.ended, reader.ended_by, reader.unread) == (True, "", 1)


@pytest.mark.parametrize("limit", [3, 4, 10, 1000])
@pytest.mark.parametrize("newlines", [STRICT, LENIENT])
def test_line_limit(limit: int, newlines: Newlines) -> None:
    fits = b"x" * (limit - 2)
    dotted = b".." + b"x" * (limit - 3)  # the first dot does not count
    lines = [b"", fits, b"", dotted, fits]
    assert read([b"\r\n".join(lines) + END], newlines, "", limit).flaws == set()
    for place in range(len(lines)):
        for longer in (fits + b"y", b"." + dotted, fits * 5 + b"yyy"):
            changed = [*lines]
            changed[place] = longer
            stream = b"\r\n".join(changed) + END
            for size in (1, 2, 3, limit - 1, limit, limit + 1, len(stream)):
                chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
                seen = read(chunks, newlines, "", limit)
                assert seen == ("", None, {Flaw.TOO_LONG_LINE}, b"")


def test_nothing_but_four_octets_is_held_back() -> None:
    reader = DataReader(LENIENT)
    given_out = 0
    for taken, octet in enumerate(b"a\r\n.\rb\r\n.c\r\r\n\r\n\r\n.\r\r", start=1):
        given_out += len(reader.feed(bytes([octet])))
        dots_dropped = 3
        assert taken - 4 - dots_dropped <= given_out <= taken
    assert bytes(reader.feed(b"")) == b""


def test_what_is_refused_is_not_handed_out_but_ends() -> None:
    reader = DataReader(STRICT)
    assert bytes(reader.feed(b"good\r\n")) == b"good"
    assert bytes(reader.feed(b"a\nb")) == b""
    assert reader.refused
    assert bytes(reader.feed(b"good again\r\n")) == b""
    assert not reader.ended
    assert bytes(reader.feed(b".\r\n")) == b""
    assert reader.ended


def test_clean_content_is_not_copied() -> None:
    for octets in (b"a\r\nb.c", b"a.\r\n.\r\n"):
        buffer = bytearray(octets)
        content = DataReader(STRICT).feed(buffer)
        assert isinstance(content, memoryview)
        assert content.obj is buffer


TOKENS = [b"\r", b"\n", b".", b"\0", b"a", b"aaaaa", b"\r\n", b"\r\n.", b"\r\n..", b"\r\n.\r\n"]
STREAMS = st.lists(st.sampled_from(TOKENS), max_size=30).map(b"".join)


@settings(max_examples=1500, deadline=None)
@given(
    stream=STREAMS,
    policy=st.sampled_from(POLICIES),
    limit=st.integers(0, 9),
    cuts=st.lists(st.integers(0, 80), max_size=8),
)
def test_any_stream_in_any_chunks(
    stream: bytes, policy: tuple[Newlines, str], limit: int, cuts: list[int]
) -> None:
    stream += END
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(places)]
    assert read(chunks, *policy, limit) == expected(stream, *policy, limit)


@settings(max_examples=500, deadline=None)
@given(stream=STREAMS, policy=st.sampled_from(POLICIES), limit=st.integers(0, 9))
def test_any_stream_octet_by_octet(stream: bytes, policy: tuple[Newlines, str], limit: int) -> None:
    stream += END
    chunks = [bytes([octet]) for octet in stream]
    assert read(chunks, *policy, limit) == expected(stream, *policy, limit)


@pytest.mark.parametrize("chunk", [100, 65_536, 4_194_304])
@pytest.mark.parametrize(("newlines", "terminator"), POLICIES)
@pytest.mark.parametrize(
    "unit", [b"\r\n..", b"\r\n.\r", b"\n.", b"\r.", b"\n", b"\r", b"\r\n", b".", b"\0", b"a\r\n.a"]
)
def test_hostile_octets_take_linear_time(
    unit: bytes, newlines: Newlines, terminator: str, chunk: int
) -> None:
    if terminator and TERMINATORS[terminator] in unit * 2:
        unit += b"a"
    buffer = bytearray((unit * 4_194_304)[:1_048_576])
    reader = DataReader(newlines, terminator, 1000)
    begun = time.process_time()
    for at in range(0, len(buffer), chunk):
        reader.feed(buffer, at, min(at + chunk, len(buffer)))
    assert time.process_time() - begun < 0.5, (
        "some ms are usual; a square of the size takes minutes"
    )

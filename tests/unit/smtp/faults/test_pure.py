"""The pure parts: what is said instead, the header, the places in a content."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtad.model.profile import Newlines
from mtad.model.rules.values import At, Close, Do, Moment, Said
from mtad.smtp.body import DataReader
from mtad.smtp.faults.answers import Raw, is_positive, when_done, without
from mtad.smtp.faults.header import OCTETS, Head, fields
from mtad.smtp.faults.positions import Positions, WatchedReader

_NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).filter(
    lambda name: ":" not in name
)
_HOSTILE = st.lists(
    st.sampled_from([b"a: b", b":", b" ", b"\t", b"\r\n", b"\n", b"\r", b"\0", b"\xff", b"From "])
    | st.binary(max_size=8)
).map(b"".join)  # fmt: skip


# Answers


@given(st.binary(min_size=1, max_size=40_000), st.integers(1, 50))
@example(b"x", 1_000_000)
def test_raw_octets_are_made_in_pieces(octets: bytes, repeat: int) -> None:
    raw = Raw(octets, repeat)
    pieces = list(raw.pieces())
    assert b"".join(pieces) == octets * repeat
    assert raw.size == len(octets) * repeat
    assert all(0 < len(piece) <= 16_384 for piece in pieces)


@pytest.mark.parametrize(
    ("keywords", "shown"),
    [
        ((), b"250-mx\r\n250-SIZE 5\r\n250 AUTH PLAIN\r\n"),
        (("SIZE",), b"250-mx\r\n250 AUTH PLAIN\r\n"),
        (("auth",), b"250-mx\r\n250 SIZE 5\r\n"),
        (("AUTH", "SIZE", "MX"), b"250 mx\r\n"),
    ],
)
def test_keywords_are_hidden(keywords: tuple[str, ...], shown: bytes) -> None:
    assert without(b"250-mx\r\n250-SIZE 5\r\n250 AUTH PLAIN\r\n", keywords) == shown


@pytest.mark.parametrize(
    ("do", "positive"),
    [
        (Do(), True),
        (Do(delay=1), True),
        (Do(reply=Said(250)), True),
        (Do(reply=Said(354)), True),
        (Do(reply=Said(450)), False),
        (Do(reply=Said(554), close=Close.RST), False),
        (Do(reply=Said(250), close=Close.RST), True),
        (Do(raw=b"250"), True),
        (Do(raw=b"hello"), False),
        (Do(raw=b""), False),
        (Do(mute=True), False),
        (Do(silent=True), False),
        (Do(close=Close.FIN), False),
    ],
)
def test_what_lets_happen_what_was_asked(do: Do, positive: bool) -> None:
    assert is_positive(do) == positive


def test_what_could_not_be_done_is_not_said_to_be() -> None:
    say = when_done(Do(reply=Said(250, "2.0.0", "fine")))
    assert say(b"250 2.0.0 Ok\r\n") == (b"250 2.0.0 fine\r\n",)
    assert say(b"452 4.3.1 full\r\n") == (b"452 4.3.1 full\r\n",)


# The header


def test_a_header() -> None:
    octets = (
        b"Received: one\r\nX-Test: a\r\n\tfolded\r\n  value \r\nx-TEST:second\r\nNo colon ends it"
    )
    assert fields(octets + b"\r\nX-Late: no\r\n") == {
        "received": ["one"],
        "x-test": ["a\tfolded  value", "second"],
    }


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", {}),
        (b"\r\nA: b\r\n", {}),
        (b" A: b\r\n", {}),
        (b"A: b\n\nB: c", {"a": ["b"]}),
        (b"A: b", {"a": ["b"]}),
        (b"A :b\r\n", {"a": ["b"]}),
        (b"From me Mon\r\nA: b\r\n", {"a": ["b"]}),
        (b"A: b\r\nFrom me Mon\r\nC: d\r\n", {"a": ["b"]}),
        (b"A: \xc3\xbc\r\n", {"a": ["\u00fc"]}),
        (b"A: \xfc\r\n", {"a": ["\udcfc"]}),
        (b"A:\r\n b\r\n", {"a": ["b"]}),
    ],
)
def test_headers(octets: bytes, expected: dict[str, list[str]]) -> None:
    assert fields(octets) == expected


@given(st.lists(st.tuples(_NAMES, st.text(st.characters(min_codepoint=33, max_codepoint=126)))))
def test_every_field_is_found(pairs: list[tuple[str, str]]) -> None:
    octets = "".join(f"{name}: {value}\r\n" for name, value in pairs).encode()
    found = fields(octets + b"\r\nBody: x\r\n")
    for name in {name.lower() for name, _ in pairs}:
        assert found[name] == [value for other, value in pairs if other.lower() == name]
    assert set(found) == {name.lower() for name, _ in pairs}


@given(_HOSTILE, st.data())
def test_any_octets_in_any_pieces(octets: bytes, data: st.DataObject) -> None:
    head = Head()
    rest = octets
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        head.add(memoryview(rest)[:size])
        rest = rest[size:]
    found = head.fields
    assert found == fields(octets)
    for name, values in found.items():
        assert name == name.lower()
        assert values
        assert not any("\n" in value for value in values)


def test_only_the_beginning_is_looked_at() -> None:
    head = Head()
    for _ in range(10):
        head.add(b"A: " + b"x" * 20_000 + b"\r\n")
    assert sum(len(value) for value in head.fields["a"]) <= OCTETS


# Places in a content


_PLACES = st.lists(
    st.builds(lambda n: At(Moment.BODY, octets=n), st.integers(1, 60))
    | st.builds(lambda n: At(Moment.BODY, lines=n), st.integers(1, 6)),
    unique=True,
    max_size=5,
)


@given(
    _PLACES,
    st.lists(st.sampled_from([b"a", b"..", b"\r\n", b"\n", b"xyz"]), max_size=25).map(b"".join),
    st.lists(st.integers(1, 20), min_size=1),
)
def test_every_place_is_reached_in_any_pieces(
    places: list[At], content: bytes, sizes: list[int]
) -> None:
    octets = content.replace(b"\r\n.\r\n", b"\r\n") + b"\r\n.\r\nQUIT\r\n"
    end = octets.index(b"\r\n.\r\n") + 5
    reader = WatchedReader(DataReader(Newlines.LENIENT), Positions(places))
    reached: list[tuple[At, int]] = []
    taken, at, stop = b"", 0, 0
    while not reader.ended:
        size = sizes[at % len(sizes)]
        stop = min(at + size, len(octets))
        taken += bytes(reader.feed(octets, at, stop))
        if reader.reached is not None:
            reached.append((reader.reached, stop - reader.left))
        at = stop - reader.left
    assert octets[stop - reader.unread : stop] == octets[end:stop]
    whole = DataReader(Newlines.LENIENT)
    assert taken == bytes(whole.feed(octets))
    expected = {place: _place(place, octets) for place in places}
    assert dict(reached) == {
        place: where for place, where in expected.items() if where is not None and where < end
    }
    assert [where for _, where in reached] == sorted(where for _, where in reached)


def _place(at: At, octets: bytes) -> int | None:
    if at.octets:
        return at.octets
    lines = octets.split(b"\n")
    if len(lines) <= at.lines:
        return None
    return len(b"\n".join(lines[: at.lines])) + 1

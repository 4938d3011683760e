"""Content on its way into DATA: nothing is changed, and nothing can end it early."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.archive.outgoing.stuffing import AsItIs, Stuffing, UncarriableError


def stuffed(*pieces: bytes) -> bytes:
    stuffing = Stuffing()
    return b"".join(map(stuffing.feed, pieces)) + stuffing.end()


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..\r\n", b"...\r\n.\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n.b.\r\n.c\r\n", b"a\r\n..b.\r\n..c\r\n.\r\n"),
        (b"a.\r\n", b"a.\r\n.\r\n"),
        (b"a\r\n.\n", b"a\r\n..\n\r\n.\r\n"),  # the dot is doubled: it ends nothing
        (b"bare\nlines\n.dot\n", b"bare\nlines\n.dot\n\r\n.\r\n"),
    ],
)
def test_what_is_sent(content: bytes, sent: bytes) -> None:
    assert stuffed(content) == sent
    assert stuffed(*(content[at : at + 1] for at in range(len(content)))) == sent


@pytest.mark.parametrize(
    "content",
    [
        b"a\n.\nb\r\n",
        b"a\n.\r\nb\r\n",
        b"a\r.\rb\r\n",
        b"a\r.\r\nb\r\n",
        b"a\r.\nb\r\n",
        b"a\n.\rb",
        b"a\n.",  # with the line end that it is given
    ],
)
def test_what_somebody_else_would_see_the_end_in(content: bytes) -> None:
    with pytest.raises(UncarriableError):
        stuffed(content)
    with pytest.raises(UncarriableError):
        stuffed(*(content[at : at + 1] for at in range(len(content))))


@given(st.lists(st.text(alphabet="\r\n.x", max_size=6).map(str.encode), max_size=6))
def test_it_comes_back_however_it_is_cut(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    try:
        sent = stuffed(*pieces)
    except UncarriableError:
        with pytest.raises(UncarriableError):
            stuffed(content)
        return
    assert sent == stuffed(content)
    assert sent.endswith(b"\r\n.\r\n") or sent == b".\r\n"
    # As a server reads it, by CRLF alone: it ends where it ends, and there is what was fed.
    lines = (b"\r\n" + sent).split(b"\r\n")[1:]
    assert lines.index(b".") == len(lines) - 2
    read = b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2])
    assert read in (content, content + b"\r\n")
    # Nor do those who take another line end see it sooner.
    for odd in (b"\n.\n", b"\r.\r", b"\n.\r"):
        assert odd not in sent.replace(b"\r\n", b"#")


def test_bdat_takes_it_as_it_is() -> None:
    carrier = AsItIs()
    assert (carrier.feed(b"a\n.\n"), carrier.end()) == (b"a\n.\n", b"")

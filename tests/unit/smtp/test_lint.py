"""What is noted of a message that is taken."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from harness.serving import Serving, serving
from hypothesis import given
from hypothesis import strategies as st

from mtad.model.profile import Newlines, Switch
from mtad.smtp.body import ChunkLint, DataReader, Flaw

END = b"\r\n.\r\n"
contents = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b"\0", b"\xff", b"a", b"x" * 499, b"x" * 998]),
    max_size=8,
).map(b"".join)


def flaws_of(content: bytes) -> set[str]:
    """Look at a content the obvious way."""
    bare = content.replace(b"\r\n", b"")
    found = {
        "bare-cr": b"\r" in bare,
        "bare-lf": b"\n" in bare,
        "nul": b"\0" in content,
        "long-line": any(len(line) > 998 for line in content.split(b"\r\n")),
        "8bit": not content.isascii(),
        "no-final-crlf": content != b"" and not content.endswith(b"\r\n"),
    }
    return {flaw for flaw, is_there in found.items() if is_there}


def cut(octets: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(octets), *(cut % (len(octets) + 1) for cut in cuts)})
    return [octets[start:stop] for start, stop in pairwise(edges)]


@given(contents, st.lists(st.integers(0, 5000), max_size=6))
def test_chunks_cut_anywhere(content: bytes, cuts: list[int]) -> None:
    lint = ChunkLint()
    for piece in cut(content, cuts):
        lint.see(memoryview(piece))
    lint.end()
    assert lint.flaws == flaws_of(content)


@given(contents, st.lists(st.integers(0, 5000), max_size=6), st.booleans())
def test_data_cut_anywhere(content: bytes, cuts: list[int], is_noted: bool) -> None:
    """Whether it is looked for or not, a message is taken."""
    reader = DataReader(Newlines.LENIENT, notes=is_noted)
    taken = b""
    for piece in cut(content + END, cuts):
        taken += bytes(reader.feed(piece))
    assert taken == content + b"\r\n"
    noted = {"long-line", "8bit"} if is_noted else set()
    assert reader.flaws == flaws_of(taken) & ({"bare-cr", "bare-lf", "nul"} | noted)


def test_a_limit_of_ones_own_is_another_flaw() -> None:
    reader = DataReader(Newlines.LENIENT, line_limit=2000, notes=True)
    reader.feed(b"x" * 999 + END)
    assert reader.flaws == {Flaw.LONG_LINE}
    assert reader.refused is None
    reader = DataReader(Newlines.LENIENT, line_limit=2000, notes=True)
    reader.feed(b"x" * 1999 + END)
    assert reader.flaws == {Flaw.LONG_LINE, Flaw.TOO_LONG_LINE}
    assert reader.refused is Flaw.TOO_LONG_LINE


async def notes(served: Serving, *chunks: bytes) -> tuple[str, ...]:
    """Send chunks, and return the notes of the message they make."""
    client = await served.greeted()
    for chunk in chunks:
        client.writer.write(chunk)
        await client.writer.drain()
        assert (await client.reply())[:3] in ("250", "354")
        if chunk.startswith(b"EHLO"):
            continue
    served_notes = served.store.messages[-1].notes
    await client.ask("QUIT")
    return served_notes


MAIL, RCPT = b"MAIL FROM:<s@client.example>", b"RCPT TO:<r@example>\r\n"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [(b"", ("8bit",)), (b" BODY=7BIT", ("8bit",)), (b" BODY=8BITMIME", ()), (b" SMTPUTF8", ())],
)
@pytest.mark.parametrize("by_chunks", [False, True])
async def test_8bit_that_is_not_declared(
    parameters: bytes, expected: tuple[str, ...], by_chunks: bool
) -> None:
    async with serving() as served:
        content = b"Subject: \xc3\xbc\r\n"
        sent = (
            [b"BDAT %d LAST\r\n%b" % (len(content), content)]
            if by_chunks
            else [b"DATA\r\n", content + b".\r\n"]
        )
        assert await notes(served, MAIL + parameters + b"\r\n", RCPT, *sent) == expected


async def test_chunks_without_a_final_crlf() -> None:
    async with serving() as served:
        sent = [MAIL + b"\r\n", RCPT, b"BDAT 3\r\na\r\n", b"BDAT 2 LAST\r\nb\n"]
        assert await notes(served, *sent) == ("bare-lf", "no-final-crlf")
        assert await notes(served, MAIL + b"\r\n", RCPT, b"BDAT 0 LAST\r\n") == ()
        binary = MAIL + b" BODY=BINARYMIME\r\n"
        assert await notes(served, binary, RCPT, b"BDAT 3 LAST\r\n\n\0\xff") == ()


@pytest.mark.parametrize(
    ("options", "greeting", "chunks", "expected"),
    [
        ({}, b"EHLO c\r\n", [MAIL + b"\r\n" + RCPT + b"DATA\r\n", b".\r\nNOOP\r\n"], False),
        ({}, b"EHLO c\r\n", [MAIL + b"\r\n" + RCPT, b"DATA\r\n.\r\n"], True),
        ({}, b"EHLO c\r\n", [b"NOOP\r\n" + MAIL + b"\r\n" + RCPT, b"DATA\r\n", b".\r\n"], True),
        ({}, b"EHLO c\r\n" + MAIL + b"\r\n", [RCPT, b"DATA\r\n", b".\r\n"], True),
        ({}, b"HELO c\r\n", [MAIL + b"\r\n" + RCPT, b"DATA\r\n", b".\r\n"], True),
        ({}, b"HELO c\r\n", [MAIL + b"\r\n", RCPT, b"DATA\r\n", b".\r\n"], False),
        (
            {"extensions": {"PIPELINING": Switch.HIDDEN}},
            b"EHLO c\r\n",
            [MAIL + b"\r\n" + RCPT, b"DATA\r\n", b".\r\n"],
            True,
        ),
        ({}, b"EHLO c\r\n", [MAIL + b"\r\n" + RCPT + b"BDAT 0\r\nBDAT 0 LAST\r\n"], False),
    ],
)
async def test_pipelining_out_of_turn(
    options: dict[str, Any], greeting: bytes, chunks: list[bytes], expected: bool
) -> None:
    """RFC 2920 section 3.1: some commands are the last of a group, whoever says EHLO."""
    async with serving(**options) as served:
        client = await served.client()
        awaited = 1
        for chunk in [greeting, *chunks]:
            while awaited:
                await client.reply()
                awaited -= 1
            client.writer.write(chunk)
            awaited = 1 if chunk.startswith(b".") else chunk.count(b"\r\n")
        await served.until(lambda: bool(served.store.messages))
        assert served.store.messages[0].notes == ("pipelining",) * expected

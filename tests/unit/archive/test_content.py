"""Messages as people read them: right ones, broken ones, and those made to do harm."""

from __future__ import annotations

import base64
import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.archive import content, hypertext, mime
from mtad.archive.decoding import text_of, words_of
from mtad.archive.mime import structure_of


def lines(*text: str) -> bytes:
    return "\r\n".join((*text, "")).encode()


def parts_of(octets: bytes) -> list[tuple[str, bytes]]:
    return [
        (part.type, b"".join(content.content(octets, part))) for part in structure_of(octets).parts
    ]


def read(octets: bytes) -> content.Reading:
    return content.read(octets, structure_of(octets))


# Structure


def test_what_the_library_writes_is_read_as_it_was_meant() -> None:
    message = EmailMessage()
    message["Subject"] = "Grüße aus Köln"
    message.set_content("plain\n")
    message.add_alternative("<p>html</p>\n", subtype="html")
    message.add_attachment(bytes(range(256)), maintype="image", subtype="png", filename="Ä.png")
    octets = message.as_bytes().replace(b"\n", b"\r\n")
    structure = structure_of(octets)
    told = [(part.number, part.type, part.disposition, part.name) for part in structure.parts]
    assert told == [
        (1, "text/plain", "", ""),
        (2, "text/html", "", ""),
        (3, "image/png", "attachment", "Ä.png"),
    ]
    assert [part.is_attachment for part in structure.parts] == [False, False, True]
    assert b"".join(content.content(octets, structure.parts[2])) == bytes(range(256))
    assert content.size(octets, structure.parts[2]) == 256
    assert ("Subject", "Grüße aus Köln") in content.header(structure.fields)
    assert not structure.cut


MIXED = "Content-Type: multipart/mixed; boundary=b"


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", [("text/plain", b"")]),
        (b"\r\n", [("text/plain", b"")]),
        (b"no header at all\r\n", [("text/plain", b"no header at all\r\n")]),
        (b"Subject: only a header\r\n", [("text/plain", b"")]),
        (b"Subject: lf\n\nbody\n", [("text/plain", b"body\n")]),
        (b"A: b\r\nnot a field\r\n\r\nbody", [("text/plain", b"not a field\r\n\r\nbody")]),
        (b"From a@b Thu\r\nA: b\r\n\r\nbody", [("text/plain", b"body")]),
        (lines(MIXED, "", "no delimiter"), [("multipart/mixed", b"no delimiter\r\n")]),
        (lines(MIXED, "", "--b", "", "one", "--b--"), [("text/plain", b"one")]),
        (lines(MIXED, "", "--b", "", "one"), [("text/plain", b"one\r\n")]),
        (lines(MIXED, "", "--b", "--b", "", "", "--b"), [("text/plain", b"")] * 3),
        (lines(MIXED, "--b", "", "one", "--b--"), [("text/plain", b"one")]),
        (
            lines(MIXED, "", "--b \t", "", "--bb", "--b"),
            [("text/plain", b"--bb"), ("text/plain", b"")],
        ),
        (lines(MIXED, "", "--b", "", "1", "--b--", "behind", "--b"), [("text/plain", b"1")]),
        (lines("Content-Type: nonsense", "", "x"), [("text/plain", b"x\r\n")]),
        (lines("Content-Type: multipart/mixed", "", "x"), [("multipart/mixed", b"x\r\n")]),
        (
            lines("Content-Type: multipart/mixed; boundary=", "", "x"),
            [("multipart/mixed", b"x\r\n")],
        ),
        (
            lines("Content-Type: multipart/digest; boundary=b", "", "--b", "", "x: y"),
            [("message/rfc822", b"x: y\r\n")],
        ),
        (
            lines("Content-Type: multipart/mixed; boundary*0=a; boundary*1=b", "", "--ab", "", "x"),
            [("text/plain", b"x\r\n")],
        ),
    ],
)
def test_parts(octets: bytes, expected: list[tuple[str, bytes]]) -> None:
    assert parts_of(octets) == expected


def test_an_outer_delimiter_ends_what_is_inside() -> None:
    octets = lines(
        "Content-Type: multipart/mixed; boundary=out", "", "--out",
        "Content-Type: multipart/alternative; boundary=in", "", "--in", "", "inner",
        "--out", "Content-Type: text/html", "", "outer", "--in", "", "still outer", "--out--",
    )  # fmt: skip
    assert parts_of(octets) == [
        ("text/plain", b"inner"),
        ("text/html", b"outer\r\n--in\r\n\r\nstill outer"),
    ]


def test_a_multipart_without_parts_is_one() -> None:
    octets = lines(
        "Content-Type: multipart/mixed; boundary=out", "", "--out",
        "Content-Type: multipart/alternative; boundary=in", "", "nothing",
        "--out", "", "x", "--out--",
    )  # fmt: skip
    assert parts_of(octets) == [("multipart/alternative", b"nothing"), ("text/plain", b"x")]


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ('attachment; filename="a b.txt"', "a b.txt"),
        (r'attachment; filename="a\"b;c.txt"', 'a"b;c.txt'),
        ("attachment; filename=a.txt; filename=b.txt", "a.txt"),
        ("attachment; filename*=utf-8'de'%C3%A4.txt; filename=a.txt", "ä.txt"),
        ("attachment; filename*0*=utf-8''%C3; filename*1*=%A4; filename*2=.txt", "ä.txt"),
        ("attachment; filename*1=b; filename*0=a", "ab"),
        ("attachment; filename*=nonsense'%GG", "nonsense'%GG"),
        ('attachment; filename="=?utf-8?q?=C3=A4?=.txt"', "ä.txt"),
        ('attachment; filename="open', '"open'),
        ("attachment; filename=ä.txt", "ä.txt"),
        ("attachment; =x; ;; filename = y", "y"),
        ("attachment", ""),
    ],
)
def test_file_names(field: str, name: str) -> None:
    (part,) = structure_of(lines(f"Content-Disposition: {field}", "", "x")).parts
    assert (part.disposition, part.name) == ("attachment", name)


@pytest.mark.parametrize(
    ("encoding", "encoded", "plain"),
    [
        ("base64", b"QUJD", b"ABC"),
        ("BASE64 ", b"QU\r\nJ D", b"ABC"),
        ("base64", b"QUI=", b"AB"),
        ("base64", b"QUI", b"AB"),
        ("base64", b"QUJDR", b"ABC"),
        ("base64", b"QUI=\r\nfooter of a list", b"AB"),
        ("base64", b"****", b""),
        ("quoted-printable", b"a=3Db=\r\nc=ZZ =", b"a=bc=ZZ "),
        ("x-unknown", b"as it is", b"as it is"),
        ("8bit", bytes(range(256)), bytes(range(256))),
    ],
)
def test_transfer_encodings(encoding: str, encoded: bytes, plain: bytes) -> None:
    octets = f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + encoded
    assert parts_of(octets) == [("text/plain", plain)]


def test_encodings_over_many_blocks() -> None:
    body = bytes(range(256)) * 4_096
    for encoding, encoded in (
        ("base64", base64.encodebytes(body)),
        ("base64", base64.b64encode(body)),
        ("quoted-printable", b"".join(b"=%02X" % octet for octet in body)),
        ("quoted-printable", b"=0A=\r\n" * 500_000),
    ):
        octets = f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + encoded
        expected = b"\n" * 500_000 if encoded.startswith(b"=0A=\r") else body
        assert parts_of(octets) == [("text/plain", expected)]


# Headers and charsets


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b" =?utf-8?q?Gr=C3=BC=C3=9Fe_an?= alle\r\n", "Grüße an alle"),
        (b"=?UTF-8?B?w6Q=?= =?utf-8?b?w7Y=?=", "äö"),
        (b"=?utf-8?b?w6?= =?utf-8?b?Q=?=", "\ufffd"),
        (b"=?utf-8?q?=C3?=\r\n =?utf-8?q?=A4?=", "ä"),
        (b"=?iso-8859-1*de?q?=E4?=", "ä"),
        (b"=?no-such-charset?q?=E4?=", "ä"),
        (b"=?punycode?q?maana-pta?=", "maana-pta"),
        (b"=?utf-7?q?+2AA-?=", "\ufffd"),
        (b"=?utf-8?b?!!!?= =?utf-8?x?y?=", " =?utf-8?x?y?="),
        (b"=?utf-8?q?open", "=?utf-8?q?open"),
        ("roh: ä".encode(), "roh: ä"),
        (b"roh: \xe4", "roh: ä"),
        (b"folded\r\n  twice\r\n\there", "folded  twice\there"),
        (b"a\0b", "a\0b"),
    ],
)
def test_encoded_words(value: bytes, text: str) -> None:
    assert words_of(value) == text


@pytest.mark.parametrize(
    "charset", ["idna", "unicode_escape", "rot13", "zlib", "undefined", "x" * 99, "\0", "..", "ä"]
)
def test_a_charset_that_is_none_does_no_harm(charset: str) -> None:
    assert text_of(b"\\x41", charset) == "\\x41"


# Text and links


def test_the_text_and_the_links() -> None:
    octets = lines(
        "Content-Type: multipart/alternative; boundary=b", "", "--b", "",
        "Confirm (https://example.com/a?b=1&c=(d)). Or <https://example.com/x>,",
        'myapp://open/42! "https://example.com/a?b=1&c=(d)" mailto:nobody@example.com',
        "--b", "Content-Type: text/html; charset=iso-8859-1", "",
        '<p>Hi <A class=x HREF="https://example.com/html?a=1&amp;b=2">here</a></p>',
        "<a href='#top'>top</a> <a href=https://example.com/bare>x</a> <a title='href=\"https://no.example\"'>",
        "--b--",
    )  # fmt: skip
    reading = read(octets)
    assert reading.text.startswith("Confirm (")
    assert reading.links == [
        "https://example.com/a?b=1&c=(d)",
        "https://example.com/x",
        "myapp://open/42",
        "https://example.com/html?a=1&b=2",
        "https://example.com/bare",
    ]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<h1>A</h1><p>b&nbsp;c\n d<br>e<table><tr><td>1<td>2</table>", "A\nb\xa0c d\ne\n1 2"),
        ("a<script>var x = '<p>';</SCRIPT >b<style>p</style><!-- <p> -->c", "abc"),
        ("1 < 2 &lt; 3 &#65; &#xD800; &broken", "1 < 2 < 3 A \ufffd &broken"),
        ("a<!-- open", "a"),
        ("a<script>open", "a"),
        ('a<b c="open>', "a"),
        (f"&#{'9' * 5000};", f"&#{'9' * 5000};"),
        ("<!doctype html><?php x ?>a", "a"),
    ],
)
def test_html_as_text(markup: str, text: str) -> None:
    assert hypertext.read(markup)[0] == text


def test_attachments_are_not_read() -> None:
    octets = lines(
        MIXED, "", "--b", "Content-Disposition: attachment", "", "https://no.example", "--b--"
    )
    assert read(octets) == content.Reading("", [])


# Harm


def bombs() -> Iterator[tuple[str, bytes]]:
    yield (
        "nested",
        b"".join(
            b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n)
            for n in range(10_000)
        ),
    )
    yield "siblings", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 300_000
    yield "dashes", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--\n" * 500_000
    yield "fields", b"a: b\r\n" * 200_000 + b"\r\nbody"
    yield "folded", b"a: b\r\n" + b" \r\n" * 500_000 + b"\r\nbody"
    yield "long", b"a: " + b"x" * (30 * 1024 * 1024)
    yield "words", b"Subject: " + b"=?utf-8?q?=41?= " * 15_000 + b"\r\n\r\n"
    yield "begun words", b"Subject: " + b"=?utf-8?q?" * 25_000 + b"\r\n\r\n"
    yield "parameters", b"Content-Type: text/plain" + b'; a="\\' * 40_000 + b"\r\n\r\n"
    yield "spaces", b"Content-Type: text/plain;" + b" " * 250_000 + b"\r\n\r\n"
    yield "NUL", b"\0" * 1_000_000
    html = b"Content-Type: text/html\r\n\r\n"
    for part in (
        b"<!--",
        b"<a ",
        b'<a href="',
        b"<script>",
        b"<",
        b"&",
        b"&#",
        b"</",
        b"<![",
        b"<?",
        b"< a",
        b"a<b c='x' ",
        b" \n",
        b"<a href  ",
        b"x://y)",
    ):
        yield part.decode(), html + part * (mime.HEADER_OCTETS // len(part) + 1)
    yield "links", b"\r\n" + b"https://" + b")" * 300_000
    yield "schemes", b"\r\n" + b"a" * 300_000 + b" a:" * 100_000


@pytest.mark.timeout(10)  # one that is not linear takes minutes
@pytest.mark.parametrize("bomb", [pytest.param(octets, id=name) for name, octets in bombs()])
def test_bombs_do_not_go_off(bomb: bytes) -> None:
    structure = structure_of(bomb)
    assert len(structure.parts) <= mime.PARTS
    assert len(structure.fields) <= mime.FIELDS
    reading = content.read(bomb, structure)
    assert len(reading.text) <= content.TEXT_OCTETS
    for part in structure.parts:
        content.size(bomb, part)
    content.header(structure.fields)


class Counted:
    """Octets that count what is read of them."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.read = 0

    def __len__(self) -> int:
        return len(self._octets)

    def __getitem__(self, where: slice, /) -> bytes:
        part = self._octets[where]
        self.read += len(part)
        return part

    def find(self, what: bytes, start: int = 0, end: int = 2**62, /) -> int:
        found = self._octets.find(what, start, end)
        self.read += (found if found >= 0 else min(end, len(self))) - start
        return found


@pytest.mark.parametrize("bomb", [pytest.param(octets, id=name) for name, octets in bombs()])
def test_no_octet_is_read_often(bomb: bytes) -> None:
    counted = Counted(bomb)
    content.read(counted, structure_of(counted))
    assert counted.read <= 10 * len(bomb) + mime.HEADER_OCTETS


def test_what_a_limit_leaves_out_is_told() -> None:
    cut = {name: structure_of(octets).cut for name, octets in bombs()}
    assert {name for name, was in cut.items() if was} == {
        "nested", "siblings", "dashes", "fields", "folded", "long",
    }  # fmt: skip


def test_behind_a_header_that_is_too_long_there_is_the_body() -> None:
    octets = b"A: " + b"x" * mime.HEADER_OCTETS + b"\r\n\r\nbody\r\n"
    assert parts_of(octets) == [("text/plain", b"body\r\n")]


@contextmanager
def mapped(octets: bytes) -> Iterator[mmap.mmap]:
    with tempfile.TemporaryFile() as file:
        file.write(octets)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            yield memory


def check(octets: bytes) -> None:
    """Everything there is to ask of a message; its parts are in it, in order."""
    structure = structure_of(octets)
    reading = content.read(octets, structure)
    shown = [
        reading.text,
        *reading.links,
        *(text for pair in content.header(structure.fields) for text in pair),
    ]
    for part in structure.parts:
        assert 0 <= part.start <= part.end <= len(octets)
        decoded = b"".join(content.content(octets, part))
        assert content.size(octets, part) == len(decoded)
        for length in (1, 7, 10_000):
            reader = content.PartReader(octets, part)
            reader.skip(octets, 3)
            pieces = iter(lambda reader=reader, length=length: reader.read(octets, length), b"")  # type: ignore[misc]  # what mypy makes of a lambda's defaults
            assert b"".join(pieces) == decoded[3:]
        shown += (part.type, part.charset, part.disposition, part.name)
    for text in shown:
        text.encode()
    assert [part.number for part in structure.parts] == [*range(1, len(structure.parts) + 1)]
    assert structure.parts


@given(st.binary(max_size=2_000))
def test_random_octets(octets: bytes) -> None:
    check(octets)


WORDS = st.sampled_from(
    [
        b"Content-Type: ", b"multipart/mixed", b"; boundary=", b"b", b'"', b"\\", b"\r\n",
        b"\n", b"\r", b"--b", b"--", b"text/html", b"; charset=", b"utf-7", b"utf-16", b"hz",
        b"; filename*0*=", b"''", b"%C3", b"=?utf-8?b?", b"?=", b"=E4",
        b"Content-Transfer-Encoding: ", b"base64", b"quoted-printable", b" ", b"\t", b"\0",
        b"\xff", b"Content-Disposition: attachment", b":", b"<a href=", b"https://x.example/",
        b"<!--", b"-->", b"</", b">", b"&#", b";", b"From ", b"=",
    ]
)  # fmt: skip


@given(st.lists(WORDS, max_size=60).map(b"".join))
def test_soups(octets: bytes) -> None:
    check(octets)
    if octets:
        with mapped(octets) as memory:
            assert structure_of(memory) == structure_of(octets)

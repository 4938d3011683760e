"""Replies of an SMTP server (RFC 5321 section 4.2) and their enhanced status codes (RFC 2034)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

LINE_LIMIT = 512
"""Octets of a reply line, its CRLF included (RFC 5321 section 4.5.3.1.5)."""

CHALLENGE_LIMIT = 12_288
"""The same for a challenge of AUTH, which cannot be wrapped (RFC 4954 section 4)."""

_LINE_END = re.compile(r"\r\n?|\n")
# C0 without HT (RFC 5321 section 4.2, textstring), DEL, C1; and surrogates that stand for no octet.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udc7f\udd00-\udfff]")
# Without leading zeros (RFC 3463 section 2).
_STATUS = re.compile(r"([245](?:\.(?:0|[1-9][0-9]{0,2})){2})(?: |$)")
_CODE = re.compile(r"[2-5][0-9]{2}(?![^ \-\r\n])")
_LINE_WITH_STATUS = re.compile(
    rb"^(([245])..[ -])\2\.[0-9]{1,3}\.[0-9]{1,3}(?: |(?=\r))", re.MULTILINE
)


class Reply(NamedTuple):
    """A reply to a command.

    ``status`` is its enhanced status code (RFC 3463), such as "5.5.4", or "" for a reply that
    has none (220, EHLO's 250, 334, 354). ``text`` has a newline between its lines.
    """

    code: int
    status: str
    text: str


class Refusal(Exception):  # noqa: N818 (an answer, not a fault)
    """A command is refused; ``reply`` is what the client is told."""

    def __init__(self, code: int, status: str, text: str) -> None:
        super().__init__(code, status, text)
        self.reply = Reply(code, status, text)


@lru_cache(maxsize=256)
def encode(reply: Reply) -> bytes:
    """Return the octets of ``reply``, CRLF included, with code and status on every line.

    Lines that would be too long are wrapped; a control character becomes "?"; what is not ASCII
    goes as UTF-8, and octets that "surrogateescape" has brought in as they were.
    """
    prefix = f"{reply.status} ".encode() if reply.status else b""
    limit = CHALLENGE_LIMIT if reply.code == 334 else LINE_LIMIT
    room = limit - len(b"250 ") - len(prefix) - len(b"\r\n")
    *others, last = (
        prefix + piece
        for line in _LINE_END.split(reply.text)
        for piece in _wrap(_CONTROL.sub("?", line).encode("utf-8", "surrogateescape"), room)
    )
    return b"".join(
        [*(b"%d-%b\r\n" % (reply.code, line) for line in others), b"%d %b\r\n" % (reply.code, last)]
    )


def without_status(octets: bytes) -> bytes:
    """Return an encoded reply without the enhanced status code of its lines."""
    return _LINE_WITH_STATUS.sub(rb"\1", octets)


def from_hook(text: object, *, enhanced: bool) -> bytes:
    r"""Return the octets of a reply that a hook of an aiosmtpd handler has given as text.

    Text is str or bytes, such as "250 OK" or "451 4.3.0 Later\r\n451 Sorry". Whatever its lines
    begin with, all go with the code of the first. With ``enhanced``, a reply other than 220 and
    3xx gets an enhanced status code of its class where it has none that fits.

    Raises ValueError for what is no reply.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    if not isinstance(text, str) or not (begin := _CODE.match(text)):
        raise ValueError(f"a hook's answer is not a reply: {text!r:.100}")
    code, status = begin[0], ""
    lines = [
        line[4:] if line[:3] == code and line[3:4] in ("", " ", "-") else line
        for line in _LINE_END.split(text.rstrip("\r\n"))
    ]
    if enhanced and code[0] != "3" and code != "220":
        own = [found[1] for line in lines if (found := _STATUS.match(line))]
        status = next((one for one in own if one[0] == code[0]), f"{code[0]}.0.0")
        lines = [_STATUS.sub("", line, count=1) if _STATUS.match(line) else line for line in lines]
    return encode(Reply(int(code), status, "\n".join(lines)))


def _wrap(octets: bytes, room: int) -> Iterator[bytes]:
    """Yield lines of at most ``room`` octets: cut at a space, or else between two characters."""
    start = 0
    while len(octets) - start > room:
        end = octets.rfind(b" ", start + 1, start + room + 1)
        if end < 0:
            end = next(
                (
                    at
                    for at in range(start + room, start + room - 4, -1)
                    if octets[at] & 0xC0 != 0x80
                ),
                start + room,
            )
        yield octets[start:end]
        start = end + (octets[end] == 0x20)
    yield octets[start:]

"""The form of replies: what every octet that a server sends has to keep to."""

from __future__ import annotations

import re

LIMIT = 512
"""Octets of a line with its CRLF (RFC 5321 section 4.5.3.1.5)."""

# RFC 5321 section 4.2, textstring.
_LINE = re.compile(rb"([2-5][0-9]{2})([ -])([\t -~\x80-\xff]*)\r\n")
_STATUS = re.compile(rb"([245])\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})(?: |$)")
# Replies without a status (RFC 2034 section 4): a greeting, 3xx, and EHLO's, a domain at first.
_BARE = re.compile(rb"220 [A-Za-z0-9.-]+ (ESMTP|LMTP) mtad\r\n|3..|250[ -][A-Za-z0-9.-]+\r\n")


def split(octets: bytes, *, enhanced: bool) -> list[bytes]:
    """Return the replies of a stream, each whole; every line is as it has to be.

    ``enhanced``: every reply has a status of its class that may have one, and no other; without,
    there is none at all.
    """
    replies = []
    reply = b""
    for line in octets.splitlines(keepends=True):
        parts = _LINE.fullmatch(line)
        assert parts, f"not a line of a reply: {line!r}"
        assert len(line) <= LIMIT, f"a line of {len(line)} octets: {line!r}"
        assert parts[1] == (reply or line)[:3], f"two codes in one reply: {reply + line!r}"
        reply += line
        if parts[2] == b" ":
            _check_status(reply, enhanced=enhanced)
            replies.append(reply)
            reply = b""
    assert not reply, f"the end of a reply is missing: {reply!r}"
    return replies


def _check_status(reply: bytes, *, enhanced: bool) -> None:
    has_status = enhanced and not _BARE.match(reply)
    for line in reply.splitlines():
        status = _STATUS.match(line[4:])
        assert bool(status) == has_status, f"status missing, or too many: {reply!r}"
        assert status is None or status[1] == line[:1], f"status of another class: {reply!r}"

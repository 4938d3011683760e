"""The content of DATA, from content that came by DATA or BDAT (RFC 5321 section 4.5.2).

What is kept is sent as it is. But DATA carries lines, and its end is one: a message that does not
end with CRLF gets it; and one that some servers would see the end of in its midst, because they
take other line ends, is not sent at all. BDAT carries anything.
"""

from __future__ import annotations

import re

# A dot alone between line ends of which the first is none for us; that of a stuffed one is.
_ODD_END = re.compile(rb"(?:(?<!\r)\n|\r)\.[\r\n]")
# So far back a pattern may begin.
_BEHIND = 3


class UncarriableError(Exception):
    """DATA cannot carry the content: somebody else would see another message begin in it."""


class AsItIs:
    """Takes content in pieces, and returns what is sent of it: all of it, by BDAT."""

    def feed(self, octets: bytes) -> bytes:
        """Return what is sent for ``octets``."""
        return octets

    def end(self) -> bytes:
        """Return the end of it."""
        return b""


class Stuffing(AsItIs):
    """The same, for DATA."""

    def __init__(self) -> None:
        self._before = b"\r\n"

    def feed(self, octets: bytes) -> bytes:
        """Return what is sent for ``octets``. Raises UncarriableError."""
        joined = self._before + octets
        if _ODD_END.search(joined, 1):  # what begins before has been looked at
            raise UncarriableError
        start = len(self._before)
        # Of a line end and its dot no more than the line end was sent before.
        stuffed = joined.replace(b"\r\n.", b"\r\n..")
        added = self._before.count(b"\r\n.")
        self._before = joined[-_BEHIND:]
        return stuffed[start + added :]

    def end(self) -> bytes:
        """Return the end of it. Raises UncarriableError."""
        rest = b"" if self._before.endswith(b"\r\n") else self.feed(b"\r\n")
        return rest + b".\r\n"

"""The header fields of a message, for the rules that look at them: pure, of any octets.

The email package is for the archive: here a message is met before it is kept.
"""

from __future__ import annotations

import re

OCTETS = 65_536
"""So much of a message is looked at."""

_FIELD = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:")
_BLANK = b" \t"


class Head:
    """The beginning of a content, as it arrives, up to the end of its header."""

    __slots__ = ("_octets",)

    def __init__(self) -> None:
        self._octets = bytearray()

    def add(self, octets: bytes | memoryview) -> None:
        """Take what comes next."""
        room = OCTETS - len(self._octets)
        if room > 0:
            self._octets += octets[:room]

    @property
    def fields(self) -> dict[str, list[str]]:
        """The values of the fields, by their names in lower case."""
        return fields(bytes(self._octets))


def fields(octets: bytes) -> dict[str, list[str]]:
    """Return the values of the fields, unfolded, by their names in lower case.

    The header ends with an empty line, or before one that is no field (RFC 5322 section 2.2).
    Octets that are not UTF-8 are kept as surrogates.
    """
    found: list[tuple[bytes, list[bytes]]] = []
    for line in octets[:OCTETS].split(b"\n"):
        line = line.removesuffix(b"\r")
        if line[:1] in (b" ", b"\t") and found:
            found[-1][1].append(line)
        elif field := _FIELD.match(line):
            found.append((field[1], [line[field.end() :]]))
        elif found or not line.startswith(b"From "):  # which an mbox begins with
            break
    named: dict[str, list[str]] = {}
    for name, lines in found:
        value = b"".join(lines).strip(_BLANK).decode("utf-8", "surrogateescape")
        named.setdefault(name.decode().lower(), []).append(value)
    return named

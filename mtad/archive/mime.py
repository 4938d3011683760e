"""The structure of a message: its header fields, and where its parts begin and end. Never raises.

MIME (RFC 2045, 2046) as it comes, right or wrong, in one pass over the octets, which are not
copied. A message inside a message is a part, and is not looked into. What bounds it all:

- ``HEADER_OCTETS`` of the header of a message, ``PART_HEADER_OCTETS`` of that of a part, are read,
  and ``FIELDS`` fields of each;
- ``PARTS`` are told; what is inside ``DEPTH`` multiparts is told as one;
- ``DELIMITERS`` lines that begin with ``--`` are looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from mtad.archive.decoding import Octets, parameter_text, parameters

HEADER_OCTETS = 262_144
PART_HEADER_OCTETS = 16_384
FIELDS = 1_000
PARTS = 1_000
DEPTH = 20
DELIMITERS = 200_000

# As much of a field is read for its parameters; a boundary has at most 70 (RFC 2046 section 5.1.1).
_STRUCTURED_OCTETS = 4_096
_BOUNDARY_OCTETS = 200
_FILE_NAME_CHARACTERS = 255

_NAME = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:")
_TYPE = re.compile(r"[!-.0-~]{1,127}/[!-.0-~]{1,127}")
_EMPTY_LINES = (b"\r\n", b"\n")

Field = tuple[bytes, bytes]
"""The name of a header field, and its value as it stands there, with its line ends."""


class Part(NamedTuple):
    """A part that has none itself; its content is from ``start`` to ``end``, encoded.

    ``type`` is in lower case (``text/plain``), as are ``charset``, ``disposition`` and
    ``encoding`` (RFC 2045 section 6), which like the ``name`` of a file are "" for none.
    """

    number: int
    type: str
    charset: str
    disposition: str
    name: str
    encoding: str
    start: int
    end: int

    @property
    def is_attachment(self) -> bool:
        """Whether it is there to be kept rather than to be read."""
        return self.disposition == "attachment" or bool(self.name and self.disposition != "inline")


@dataclass(slots=True)
class Structure:
    """The header fields and the parts, numbered from 1; of which a limit has left some out."""

    fields: list[Field] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    fields_cut: bool = False
    parts_cut: bool = False

    @property
    def cut(self) -> bool:
        """Whether anything is left out."""
        return self.fields_cut or self.parts_cut


def structure_of(octets: Octets) -> Structure:
    """Return the structure of a message."""
    return _Reader(octets).read()


def read_fields(octets: Octets, start: int, limit: int) -> tuple[list[Field], int, bool]:
    """Return the header fields from ``start`` on, where they end, and whether some are left out.

    They end behind an empty line, or before one that is no field, as where there is no header.
    """
    found: list[tuple[bytes, int, int]] = []  # names, and where values begin and end
    at, end = start, min(len(octets), start + limit)
    body = -1
    while at < end and body < 0 and len(found) <= FIELDS:
        stop = octets.find(b"\n", at, end) + 1 or end
        line = octets[at:stop]
        if line[:1] in (b" ", b"\t") and found:
            found[-1] = (*found[-1][:2], stop)
        elif (name := _NAME.match(line)) and line[:2] != b"--":  # which may be a delimiter
            found.append((name[1], at + name.end(), stop))
        elif at > 0 or not line.startswith(b"From "):  # which an mbox begins with
            body = stop if line in _EMPTY_LINES else at
        at = stop
    fields = [(name, octets[begins:ends]) for name, begins, ends in found[:FIELDS]]
    if body < 0 and at == len(octets) and len(found) <= FIELDS:
        return fields, at, False
    return (fields, _behind_empty_line(octets, at), True) if body < 0 else (fields, body, False)


def _behind_empty_line(octets: Octets, at: int) -> int:
    """Return where the line behind the next empty one begins; ``at`` is behind a line."""
    found = ((octets.find(b"\n" + line, at - 1), len(line)) for line in _EMPTY_LINES)
    ends = [place + 1 + length for place, length in found if place >= 0]
    return min(ends, default=len(octets))


@dataclass(frozen=True, slots=True)
class _Multipart:
    """A multipart that we are in, and taken as one part; ``before``: so many parts came before."""

    boundary: bytes
    default: str  # the type of a part that tells none
    whole: Part
    before: int


class _Reader:
    """Goes over the octets once, from delimiter to delimiter."""

    def __init__(self, octets: Octets) -> None:
        self._octets = octets
        self._found = Structure()
        self._multiparts: list[_Multipart] = []  # the outermost first
        self._levels: dict[bytes, int] = {}  # where a boundary's is among them
        self._part: Part | None = None  # the one we are in

    def read(self) -> Structure:
        found = self._found
        found.fields, at, found.fields_cut = read_fields(self._octets, 0, HEADER_OCTETS)
        self._begin(found.fields, at, "text/plain")
        looked = 0
        while self._multiparts and (line := self._octets.find(b"\n--", max(0, at - 1))) >= 0:
            looked += 1
            if looked > DELIMITERS or len(found.parts) >= PARTS:
                found.parts_cut = True
                break
            at = self._look_at(line)
        self._leave(0, len(self._octets))
        del found.parts[PARTS:]
        return found

    def _look_at(self, before: int) -> int:
        """Take the line behind the LF at ``before`` for what it is; return where to go on."""
        begins = before + 3
        limit = min(len(self._octets), begins + _BOUNDARY_OCTETS + 4)
        ends = self._octets.find(b"\n", begins, limit) + 1 or limit
        line = self._octets[begins:ends].rstrip(b" \t\r\n")
        level, closing = self._levels.get(line), False
        if level is None and line.endswith(b"--"):
            level, closing = self._levels.get(line[:-2]), True
        if level is None:
            return begins
        # The line end before a delimiter belongs to it (RFC 2046 section 5.1.1).
        content_ends = before - (self._octets[before - 1 : before] == b"\r")
        if closing:
            self._leave(level, content_ends)
            return ends
        self._leave(level + 1, content_ends)
        fields, body, cut = read_fields(self._octets, ends, PART_HEADER_OCTETS)
        self._found.parts_cut |= cut
        self._begin(fields, body, self._multiparts[level].default)
        return body

    def _begin(self, fields: list[Field], body: int, default: str) -> None:
        """Go into the part, or multipart, whose content begins at ``body``."""
        part, boundary = _described(fields, body, default)
        inside = bool(boundary) and part.type.startswith("multipart/")
        if not inside or len(self._multiparts) == DEPTH:
            self._found.parts_cut |= inside
            self._part = part
            return
        inner = "message/rfc822" if part.type == "multipart/digest" else "text/plain"
        self._multiparts.append(_Multipart(boundary, inner, part, len(self._found.parts)))
        self._note_levels()

    def _leave(self, level: int, end: int) -> None:
        """End, at ``end``, the part we are in and the multiparts from ``level`` on."""
        if self._part is not None:
            self._add(self._part, end)
            self._part = None
        while len(self._multiparts) > level:
            multipart = self._multiparts.pop()
            if multipart.before == len(self._found.parts):  # none was found in it
                self._add(multipart.whole, end)
        self._note_levels()

    def _add(self, part: Part, end: int) -> None:
        parts = self._found.parts
        parts.append(part._replace(number=len(parts) + 1, end=max(part.start, end)))

    def _note_levels(self) -> None:
        self._levels = {one.boundary: level for level, one in enumerate(self._multiparts)}


def _described(fields: list[Field], body: int, default: str) -> tuple[Part, bytes]:
    """Return a part as its header has it (the first of two fields counts), and its boundary."""
    mime: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:8].lower() == b"content-":
            mime.setdefault(name.lower(), value[:_STRUCTURED_OCTETS])
    part, boundary = _part_of(
        mime.get(b"content-type", default.encode()),
        mime.get(b"content-disposition", b""),
        mime.get(b"content-transfer-encoding", b""),
    )
    return part._replace(start=body, end=body), boundary


# Most messages say one of the same few things.
@lru_cache(maxsize=128)
def _part_of(content_type: bytes, disposition: bytes, encoding: bytes) -> tuple[Part, bytes]:
    """Return a part, whose place is still to come, and its boundary."""
    kind, of_type = parameters(content_type)
    how, of_disposition = parameters(disposition)
    charset = parameter_text(of_type.get("charset", ("", b""))).lower()
    file_name = parameter_text(of_disposition.get("filename") or of_type.get("name") or ("", b""))
    part = Part(
        0,
        kind if _TYPE.fullmatch(kind) else "text/plain",  # RFC 2045 section 5.2
        charset[:64],
        how[:64],
        file_name[:_FILE_NAME_CHARACTERS],
        parameters(encoding)[0][:64],
        0,
        0,
    )
    return part, of_type.get("boundary", ("", b""))[1][:_BOUNDARY_OCTETS].rstrip()

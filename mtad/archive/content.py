"""A message as people read it: its header decoded, its text, its links. Never raises.

Read are the first plain text and the first HTML that are no attachments: of each ``TEXT_OCTETS``,
decoded. No link has more than ``LINK_CHARACTERS``. For the structure see mtad.archive.mime.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mtad.archive import hypertext
from mtad.archive.decoding import Octets, decoder_of, text_of, words_of
from mtad.archive.mime import Field, Part, Structure

TEXT_OCTETS = 262_144
LINK_CHARACTERS = 2_048

_BLOCK_OCTETS = 262_144

# A scheme (RFC 3986 section 3.1) and an authority, with what people put behind it.
_LINK = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,31}://[^\s<>\"\x00-\x1f\x7f]++")
_CLOSING = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Reading:
    """``text`` is the plain text, or else that of the HTML; ``links`` are of both, each once.

    ``cut``: of one of the two there is more than was read.
    """

    text: str
    links: list[str]
    cut: bool = False


def read(octets: Octets, structure: Structure) -> Reading:
    """Return what there is to read in a message."""
    plain, plain_cut = _first_text(octets, structure, "text/plain")
    page, page_cut = _first_text(octets, structure, "text/html")
    shown, targets = hypertext.read(page or "")
    links = _links(plain or "") + [link for link in targets if _LINK.fullmatch(link)]
    links += _links(shown)
    return Reading(
        shown if plain is None else plain,
        list(dict.fromkeys(link for link in links if len(link) <= LINK_CHARACTERS)),
        plain_cut or page_cut,
    )


def header(fields: list[Field]) -> list[tuple[str, str]]:
    """Return the names and the values of fields, decoded."""
    return [(name.decode("latin-1"), words_of(value)) for name, value in fields]


def content(octets: Octets, part: Part) -> Iterator[bytes]:
    """Yield the content of a part, decoded, in pieces."""
    decoder = decoder_of(part.encoding)
    for at in range(part.start, part.end, _BLOCK_OCTETS):
        yield decoder.feed(octets[at : min(at + _BLOCK_OCTETS, part.end)])
    yield decoder.end()


def size(octets: Octets, part: Part) -> int:
    """Return the octets of the content of a part, decoded."""
    return sum(map(len, content(octets, part)))


class PartReader:
    """The content of a part, decoded, read on and on; between two reads nothing is open.

    ``offset`` is how far it is read, ``size`` that of the whole.
    """

    def __init__(self, octets: Octets, part: Part) -> None:
        self.size = size(octets, part)
        self.offset = 0
        self._part = part
        self._decoder = decoder_of(part.encoding)
        self._at = part.start
        self._ready = b""
        self._ended = False

    def read(self, octets: Octets, length: int) -> bytes:
        """Return what follows, up to ``length`` octets; ``octets`` are those it was made with."""
        found = bytearray()
        while len(found) < length and self.offset < self.size:
            if not self._ready and not self._decode(octets):
                break  # the file has become shorter
            taken = self._ready[: length - len(found)]
            self._ready = self._ready[len(taken) :]
            self.offset += len(taken)
            found += taken
        return bytes(found)

    def skip(self, octets: Octets, length: int) -> None:
        """Leave out what follows, up to ``length`` octets."""
        while length > 0 and (left_out := len(self.read(octets, min(length, _BLOCK_OCTETS)))):
            length -= left_out

    def _decode(self, octets: Octets) -> bool:
        """Have something ready; return False at the end."""
        while not self._ready and not self._ended:
            end = min(self._at + _BLOCK_OCTETS, self._part.end)
            self._ended = self._at == end
            encoded = octets[self._at : end]
            self._ready = self._decoder.end() if self._ended else self._decoder.feed(encoded)
            self._at = end
        return bool(self._ready)


def _first_text(octets: Octets, structure: Structure, kind: str) -> tuple[str | None, bool]:
    """Return the first text of a ``kind``, if there is one, and whether it is cut."""
    for part in structure.parts:
        if part.type == kind and not part.is_attachment:
            read = bytearray()
            for piece in content(octets, part):
                read += piece
                if len(read) > TEXT_OCTETS:
                    break
            text = text_of(bytes(read[:TEXT_OCTETS]), part.charset).replace("\r\n", "\n")
            return text, len(read) > TEXT_OCTETS
    return None, False


def _links(text: str) -> list[str]:
    return [_without_punctuation(link) for link in _LINK.findall(text)]


def _without_punctuation(link: str) -> str:
    """Return ``link`` without the end of the sentence, or the bracket, that it stands in."""
    if len(link) > 2 * LINK_CHARACTERS:
        return link  # none anyway
    while link:
        last = link[-1]
        alone = last in _CLOSING and link.count(last) > link.count(_CLOSING[last])
        if not alone and last not in ".,;:!?'*`":
            break
        link = link[:-1]
    return link

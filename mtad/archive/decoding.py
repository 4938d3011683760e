"""Octets of a message into text: charsets, transfer encodings, encoded words. Nothing here raises.

Whatever is broken is read as far as it goes. Time is linear in what is given; memory, for content,
is that of a block.
"""

from __future__ import annotations

import binascii
import encodings
import encodings.aliases
import pkgutil
import re
from typing import Protocol


class Octets(Protocol):
    """Bytes, or a file in memory (mmap)."""

    def __len__(self) -> int: ...
    def __getitem__(self, where: slice, /) -> bytes: ...
    def find(self, what: bytes, start: int = ..., end: int = ..., /) -> int:
        """Return where ``what`` is from ``start`` on, whole before ``end``; -1 for nowhere."""
        ...


# Charsets


# Codecs of Python's own, that are none of a message; some take quadratic time.
_NO_CHARSETS = {
    "aliases", "base64_codec", "bz2_codec", "charmap", "hex_codec", "idna", "mbcs", "oem",
    "punycode", "quopri_codec", "raw_unicode_escape", "rot_13", "undefined", "unicode_escape",
    "utf_8_sig", "uu_codec", "zlib_codec",
}  # fmt: skip
_ALIASES = encodings.aliases.aliases
# A closed list: Python remembers every name that it is asked for, for ever.
_CHARSETS = {module.name for module in pkgutil.iter_modules(encodings.__path__)} - _NO_CHARSETS
_ASCII = frozenset({"", "us-ascii", "utf-8"})
_SURROGATES = re.compile("[\ud800-\udfff]")


def text_of(octets: bytes, charset: str = "") -> str:
    """Return ``octets`` as text; a charset that is unknown, or "", is UTF-8 or else windows-1252.

    What the charset does not have becomes U+FFFD.
    """
    if octets.isascii() and charset in _ASCII:  # nearly all there is
        return octets.decode("ascii")
    name = encodings.normalize_encoding(charset[:64].lower()) if charset.isascii() else ""
    name = _ALIASES.get(name, name)
    if name in _CHARSETS:
        try:
            text = octets.decode(name, "replace")
        except ValueError:  # of a codec that cannot replace
            text = octets.decode("latin-1")
    else:
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError:
            text = octets.decode("cp1252", "replace")
    return _SURROGATES.sub("\ufffd", text)  # UTF-7 makes them; nobody can write them


# Transfer encodings (RFC 2045 section 6)

_NOT_BASE64 = bytes(set(range(256)) - set(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
))  # fmt: skip


class Decoder:
    """Takes encoded content in pieces, and returns what is decoded; this one: as it is."""

    def feed(self, octets: bytes) -> bytes:
        """Return what is decoded now."""
        return octets

    def end(self) -> bytes:
        """Return the rest."""
        return b""


class _Base64(Decoder):
    """Other octets do not count; padding ends it, whatever a list manager has put behind."""

    def __init__(self) -> None:
        self._rest = b""
        self._ended = False

    def feed(self, octets: bytes) -> bytes:
        if self._ended:
            return b""
        digits, padding, _ = octets.translate(None, _NOT_BASE64).partition(b"=")
        self._ended = bool(padding)
        digits = self._rest + digits
        whole = len(digits) // 4 * 4
        if self._ended:
            self._rest = b""
            return _unpadded(digits)
        self._rest = digits[whole:]
        return binascii.a2b_base64(digits[:whole])

    def end(self) -> bytes:
        return _unpadded(self._rest)


def _unpadded(digits: bytes) -> bytes:
    if len(digits) % 4 == 1:  # a digit alone says nothing
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


class _QuotedPrintable(Decoder):
    def __init__(self) -> None:
        self._rest = b""

    def feed(self, octets: bytes) -> bytes:
        octets = self._rest + octets
        whole = octets.rfind(b"\n") + 1
        if not whole:
            escape = octets.rfind(b"=", max(0, len(octets) - 2))
            whole = len(octets) if escape < 0 else escape
        self._rest = octets[whole:]
        return binascii.a2b_qp(octets[:whole])

    def end(self) -> bytes:
        return binascii.a2b_qp(self._rest)


_DECODERS: dict[str, type[Decoder]] = {
    "base64": _Base64,
    "quoted-printable": _QuotedPrintable,
}


def decoder_of(encoding: str) -> Decoder:
    """Return a new decoder; that of an unknown encoding changes nothing."""
    return _DECODERS.get(encoding, Decoder)()


# Header fields

_WORD = re.compile(r"=\?([^?\s]{1,64})\?([bBqQ])\?([^?]*)\?=")
_PARAMETER = re.compile(
    rb';\s*+([^\s=;"*]{1,64})(?:\*([0-9]{1,3}))?(\*)?\s*+=\s*+("(?:[^"\\]|\\.)*+"|[^;]*+)',
    re.DOTALL,
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")


def unfolded(value: bytes) -> bytes:
    """Return the value of a field on one line (RFC 5322 section 2.2.3)."""
    return value.replace(b"\r\n", b"").replace(b"\n", b"").strip(b" \t\r")


def words_of(value: bytes) -> str:
    """Return the value of a field with its encoded words (RFC 2047) decoded."""
    text = text_of(unfolded(value))
    if "=?" not in text:
        return text
    read: list[str] = []
    charset, octets, at = "", b"", 0
    for word in _WORD.finditer(text):
        between = text[at : word.start()]
        its_charset = word[1].partition("*")[0].lower()  # RFC 2231 section 5: a language behind it
        # Space between two is no text (RFC 2047 section 6.2).
        joined = at > 0 and not between.strip(" \t")
        if not joined or its_charset != charset:
            read += (text_of(octets, charset), "" if joined else between)
            charset, octets = its_charset, b""
        octets += _word(word[2], word[3])  # many cut a character in two there
        at = word.end()
    return "".join([*read, text_of(octets, charset), text[at:]])


def _word(encoding: str, encoded: str) -> bytes:
    octets = encoded.encode()
    if encoding in "bB":
        decoder = _Base64()
        return decoder.feed(octets) + decoder.end()
    return binascii.a2b_qp(octets, header=True)


def parameters(value: bytes) -> tuple[str, dict[str, tuple[str, bytes]]]:
    """Return what stands before the parameters of a field, in lower case, and these.

    Each, by its name in lower case, as (charset, octets), put together as RFC 2231 says; the
    charset is "" where none is told. The first of two of one name counts.
    """
    value = unfolded(value)
    main = text_of(value.partition(b";")[0]).strip().lower()
    plain: dict[str, tuple[str, bytes]] = {}
    split: dict[str, dict[int, tuple[bool, bytes]]] = {}
    for found in _PARAMETER.finditer(value):
        name = found[1].decode("latin-1").lower()
        octets = found[4].strip()
        if octets[:1] == b'"' and octets[-1:] == b'"' and len(octets) > 1:
            octets = _ESCAPED.sub(rb"\1", octets[1:-1])
        if found[2] is None and found[3] is None:
            plain.setdefault(name, ("", octets))
        else:
            pieces = split.setdefault(name, {})
            pieces.setdefault(int(found[2] or 0), (found[3] is not None, octets))
    return main, plain | {name: _joined(pieces) for name, pieces in split.items()}


def _joined(pieces: dict[int, tuple[bool, bytes]]) -> tuple[str, bytes]:
    """Return the charset and octets of a parameter in pieces (RFC 2231 sections 3 and 4)."""
    charset, octets = b"", b""
    for index in range(len(pieces)):
        if index not in pieces:
            break
        encoded, piece = pieces[index]
        if encoded and index == 0 and piece.count(b"'") >= 2:
            charset, _, piece = piece.split(b"'", 2)
        octets += _PERCENT.sub(_octet, piece) if encoded else piece
    return charset.decode("latin-1"), octets


def _octet(escape: re.Match[bytes]) -> bytes:
    return bytes.fromhex(escape[1].decode())


def parameter_text(parameter: tuple[str, bytes]) -> str:
    """Return a parameter as text; one without a charset may hold encoded words, as many do."""
    charset, octets = parameter
    return text_of(octets, charset) if charset else words_of(octets)

"""Messages in files of the usual formats, read as they are wanted."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mtad.cli.exporting import NO_SENDER, UNDECIDED
from mtad.errors import CommandError

_READ_OCTETS = 262_144
# Of a line of an mbox; one that is longer comes in parts.
_LINE_OCTETS = 65_536
_QUOTED = re.compile(rb">++From ")
# A line has up to 998 octets (RFC 5322 section 2.1.1), and a field a name, with white space before
# the colon in old ones (sections 2.2 and 4.5).
_BEGIN_OCTETS = 998
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")


@dataclass(frozen=True, slots=True)
class Found:
    """A message: ``envelope`` is what is known of it, if anything; ``pieces`` are its octets.

    They are read before the next message is asked for.
    """

    source: str
    envelope: Mapping[str, Any]
    pieces: Iterator[bytes]


def messages(path: Path, form: str | None = None) -> Iterator[Found]:
    """Yield the messages of a file or a directory; without ``form`` it is what it looks like.

    Raises CommandError: it is not of this format. OSError.
    """
    return FORMATS[form or _form_of(path)](path)


def _form_of(path: Path) -> str:
    if path.is_dir():
        return "maildir" if (path / "cur").is_dir() or (path / "new").is_dir() else "eml"
    with path.open("rb") as file:
        begin = file.read(_BEGIN_OCTETS)
    # An export of no message is an empty file.
    form = {b"": "mbox", b"From ": "mbox", b'{"id"': "jsonl"}.get(begin[:5])
    if form is None and not _FIELD.match(begin):
        raise CommandError(
            f"{path} does not begin with a header field, and is no mbox and no jsonl",
            help="with --format eml it is imported as it is",
        )
    return form or "eml"


def eml(path: Path) -> Iterator[Found]:
    """The file itself, or each ``*.eml`` of a directory, in the order of names."""
    files = sorted(path.glob("*.eml")) if path.is_dir() else [path]
    if not files:
        raise CommandError(
            f"{path} has no *.eml", help="a Maildir has new and cur; a file is imported as it is"
        )
    for file in files:
        yield Found(str(file), {}, _read(file))


def maildir(path: Path) -> Iterator[Found]:
    """Those in new and cur, in the order of names."""
    files = [file for place in ("new", "cur") for file in (path / place).glob("[!.]*")]
    for file in sorted(files, key=lambda file: file.name):
        yield Found(str(file), {}, _read(file))


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while octets := file.read(_READ_OCTETS):
            yield octets


def mbox(path: Path) -> Iterator[Found]:
    """Those between the lines ``From `` that stand behind an empty one, each unquoted (mboxrd)."""
    with path.open("rb") as file:
        reader = _Mbox(file)
        while (line := reader.separator) is not None:
            if not line.startswith(b"From "):
                raise CommandError(f"{path} is no mbox: it does not begin with 'From '")
            yield Found(str(path), _from_line(line), reader.pieces())


def _from_line(line: bytes) -> dict[str, Any]:
    words = line.split()
    sender = words[1].decode("utf-8", "surrogateescape") if len(words) > 1 else "-"
    return {} if sender in ("-", NO_SENDER) else {"sender": sender}


class _Mbox:
    """``separator`` is the line before the next message, None at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.separator = file.readline(_LINE_OCTETS) or None

    def pieces(self) -> Iterator[bytes]:
        self.separator = None
        held, begins, first = b"", True, True
        while line := self._line(begins):
            if begins and line.startswith(b"From ") and (held or first):
                self.separator = line
                return
            if held:
                yield held
            is_empty = begins and line in (b"\n", b"\r\n")
            held = line if is_empty else b""  # it may be the separator's
            if not is_empty:
                yield line[1:] if begins and _QUOTED.match(line) else line
            begins, first = line.endswith(b"\n"), False

    def _line(self, begins: bool) -> bytes:
        """Return a line, or a part of it; that at its beginning tells whether it is quoted."""
        line = self._file.readline(_LINE_OCTETS)
        while begins and UNDECIDED.fullmatch(line) and (more := self._file.readline(_LINE_OCTETS)):
            line += more
        return line


def jsonl(path: Path) -> Iterator[Found]:
    """Those of each line, as mtactl exports them."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _from_json(f"{path}:{number}", line)


def _from_json(place: str, line: bytes) -> Found:
    try:
        told = json.loads(line)
        octets = b64decode(told["octets"], validate=True)
        envelope = told.get("envelope") or {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CommandError(
            f"{place}: no message: {type(error).__name__}: {error}"[:300],
            help='a line is a JSON object with "octets" in base64, and maybe an "envelope"',
        ) from None
    return Found(place, envelope, iter((octets,)))


FORMATS: Mapping[str, Callable[[Path], Iterator[Found]]] = {
    "eml": eml,
    "mbox": mbox,
    "maildir": maildir,
    "jsonl": jsonl,
}

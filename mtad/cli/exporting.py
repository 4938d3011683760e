"""Captured mail as files of the usual formats: written as it comes, and whole or not at all.

The octets of a message are what they were in all of them: line ends, too. mbox adds a line end to a
message that does not end with one.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mtad.errors import CommandError

NO_SENDER = "MAILER-DAEMON"
"""The null reverse-path in an mbox, and with many programs any that they do not know."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A message: what is known of it, what a list has, and its octets.

    The length of each of the ``pieces`` but the last is a multiple of three: one of base64.
    """

    id: str
    envelope: Mapping[str, Any]
    summary: Mapping[str, Any]
    pieces: Iterable[bytes]


Write = Callable[[Exported], None]


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that is at ``path`` when the block has ended, and nowhere when it has failed.

    Raises CommandError: there is one, or no directory for it. OSError.
    """
    if os.path.lexists(path):
        raise CommandError(f"{path} exists", help="remove it, or choose another name")
    if not path.parent.is_dir():
        raise CommandError(f"there is no directory {path.parent}", help="make it, or name another")
    begun = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with begun.open("xb") as file:
            yield file
        begun.rename(path)
    except BaseException:
        with suppress(OSError):
            begun.unlink()
        raise


@contextmanager
def eml(directory: Path) -> Iterator[Write]:
    """A file ``ID.eml`` for each message, in ``directory``."""

    def write(message: Exported) -> None:
        with new_file(directory / f"{message.id}.eml") as file:
            file.writelines(message.pieces)

    directory.mkdir(exist_ok=True)
    yield write


@contextmanager
def maildir(directory: Path) -> Iterator[Write]:
    """A Maildir: each message is written in tmp, and renamed into new."""
    host = socket.gethostname().replace("/", "\\057").replace(":", "\\072")
    serial = itertools.count()

    def write(message: Exported) -> None:
        # The id comes first: names sort as the messages do.
        name = f"{int(time.time())}.I{message.id}P{os.getpid()}Q{next(serial)}.{host}"
        begun = directory / "tmp" / name
        try:
            with begun.open("xb") as file:
                file.writelines(message.pieces)
            begun.rename(directory / "new" / name)
        except BaseException:
            with suppress(OSError):
                begun.unlink()
            raise

    for place in (directory, *(directory / name for name in ("tmp", "new", "cur"))):
        place.mkdir(exist_ok=True)
    yield write


@contextmanager
def mbox(path: Path) -> Iterator[Write]:
    """An mbox in which every line ``From ``, quoted or not, is quoted (mboxrd)."""

    def write(message: Exported) -> None:
        sender = re.sub(r"\s", "", message.envelope["sender"]) or NO_SENDER
        when = time.asctime(time.gmtime(message.envelope["received_ns"] // 10**9))
        file.write(f"From {sender} {when}\n".encode("utf-8", "surrogateescape"))
        end = b"\n"
        for octets in quoted(message.pieces):
            file.write(octets)
            end = octets[-1:] or end
        file.write(b"\n" if end == b"\n" else b"\n\n")

    with new_file(path) as file:
        yield write


@contextmanager
def jsonl(path: Path) -> Iterator[Write]:
    """A line of JSON for each message: its summary, its ``envelope``, its ``octets`` in base64."""

    def write(message: Exported) -> None:
        known = json.dumps({"id": message.id, **message.summary, "envelope": message.envelope})
        file.write(f'{known[:-1]}, "octets": "'.encode())
        file.writelines(map(b64encode, message.pieces))
        file.write(b'"}\n')

    with new_file(path) as file:
        yield write


FORMATS: Mapping[str, Callable[[Path], AbstractContextManager[Write]]] = {
    "eml": eml,
    "mbox": mbox,
    "maildir": maildir,
    "jsonl": jsonl,
}

_TO_QUOTE = re.compile(rb"^(?=>*+From )", re.MULTILINE)
UNDECIDED = re.compile(rb">*+(?:F(?:r(?:om?)?)?)?")
"""The beginning of a line of an mbox that does not tell yet whether the line is quoted."""


def quoted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the octets of ``pieces`` with a ``>`` before each line ``From ``, quoted or not."""
    rest, begins = b"", True
    for piece in pieces:
        octets = rest + piece
        line = octets.rfind(b"\n") + 1
        # The last line may go on so that it is to be quoted.
        open_end = (line or begins) and UNDECIDED.fullmatch(octets, line)
        ready = line if open_end else len(octets)
        yield _quoted(octets[:ready], begins)
        begins = ready == line if ready else begins
        rest = octets[ready:]
    yield _quoted(rest, begins)


def _quoted(octets: bytes, begins: bool) -> bytes:
    """Return ``octets``, quoted; ``begins``: they are at the beginning of a line."""
    if begins:
        return _TO_QUOTE.sub(b">", octets)
    line, end, rest = octets.partition(b"\n")
    return line + end + _TO_QUOTE.sub(b">", rest)

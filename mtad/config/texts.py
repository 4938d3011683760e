"""What a configuration file holds, before anything is made of it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from mtad.config.document import Document

MAX_OCTETS = 2**20


def text_of(document: Document) -> str | None:
    """Return the text of a document's file; None: what hinders that is among its problems."""
    try:
        octets = _octets(document.file)
    except OSError as error:
        document.report(0, (), f"cannot be read: {error.strerror}")
        return None
    if len(octets) > MAX_OCTETS:
        document.report(0, (), "larger than 1 MiB")
        return None
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        document.report(line, (), f"not UTF-8: octet 0x{octets[error.start]:02x}")
        return None


def _octets(file: Path) -> bytes:
    """Return at most one octet more than a file may have.

    Raises:
        OSError: it cannot be read, or is no regular file (to open a FIFO would wait for a writer).
    """

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NONBLOCK)

    with open(file, "rb", opener=opener) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return stream.read(MAX_OCTETS + 1)

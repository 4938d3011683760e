"""The content of a kept message, to be read anywhere without having it in memory."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtad.archive.decoding import Octets
from mtad.control.params import LATEST
from mtad.errors import CommandError
from mtad.model import ids
from mtad.store import reader
from mtad.store.bodies import open_content
from mtad.store.database import BODIES
from mtad.store.reader import Kept

_WINDOW = 1_048_576


def find(mail: sqlite3.Connection, which: str) -> Kept:
    """Return the message that ``which`` names: an id, or the newest. Raises CommandError."""
    if which == LATEST:
        ours = (ids.highest(),)
        (number,) = mail.execute("SELECT max(id) FROM message WHERE id <= ?", ours).fetchone()
    else:
        number = ids.decode(which)
    kept = None if number is None else reader.message(mail, number)
    if kept is None:
        raise CommandError(
            "there is no message" if which == LATEST else f"there is no message {which}",
            help="it may have been deleted; message list shows what there is",
        )
    return kept


@contextmanager
def content_of(directory: Path, kept: Kept) -> Iterator[Octets]:
    """Yield the content of a message; ``directory`` is the store's.

    Raises CommandError: it was deleted meanwhile. OSError: its file cannot be read.
    """
    if kept.body is not None:
        yield kept.body
        return
    try:
        descriptor = open_content(directory / BODIES, kept.file)
    except FileNotFoundError:
        raise CommandError(
            f"the content of message {ids.encode(kept.id)} is gone",
            help="it may have been deleted; store check knows otherwise",
        ) from None
    try:
        yield FileOctets(descriptor)
    finally:
        os.close(descriptor)


class FileOctets:
    """An open file as Octets, through a window; mmap would end the process where a disk fails."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._begins = 0
        self._window = b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, where: slice, /) -> bytes:
        begin, end, _ = where.indices(self._size)
        if end - begin > _WINDOW:
            return self[begin : begin + _WINDOW] + self[begin + _WINDOW : end]
        self._look(begin, max(begin, end))
        return self._window[begin - self._begins : max(begin, end) - self._begins]

    def find(self, what: bytes, start: int = 0, end: int | None = None, /) -> int:
        """See Octets."""
        end = self._size if end is None else min(end, self._size)
        at = start
        while at + len(what) <= end:
            self._look(at, at + len(what))
            found = self._window.find(what, at - self._begins, end - self._begins)
            if found >= 0:
                return self._begins + found
            if len(self._window) < len(what):  # the file has become shorter
                break
            at = self._begins + len(self._window) - len(what) + 1
        return -1

    def _look(self, begin: int, end: int) -> None:
        """Have what is from ``begin`` to ``end`` in the window."""
        if begin < self._begins or end > self._begins + len(self._window):
            self._begins, self._window = begin, os.pread(self._descriptor, _WINDOW, begin)

"""An archive in the test's process: mail is put into a mail.db of its own, and asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.store_rows import keep_message
from mtad.archive.archive import Archive
from mtad.archive.index import INDEX, Index, open_index
from mtad.archive.methods import METHODS
from mtad.archive.search import Search, wanted
from mtad.control.commands import by_method
from mtad.errors import StoreError
from mtad.ipc.questions import Retention
from mtad.store.database import Database


def content(**fields: str) -> bytes:
    """Return a message: header fields, and its ``text``."""
    text = fields.pop("text", "hello")
    header = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"{header}\r\n{text}\r\n".encode()


class Mailroom:
    """A store in ``directory`` and its index."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.index = Index(directory)
        self.open_database()

    def open_database(self) -> None:
        self.database = Database(self.directory, synced=False)

    def keep(self, octets: bytes = b"", **known: Any) -> int:
        """Keep a message, as a worker does; return its id."""
        return keep_message(self.database, octets, **known)

    def catch_up(self) -> None:
        """Index all there is."""
        while self.index.advance()[1]:
            pass

    def reopen(self) -> None:
        """Go on with another process's index; the first has not been closed, as after a kill."""
        self.index = Index(self.directory)

    def find(self, query: str, *, most: int = 100, patience: int = 1) -> list[int]:
        """Return the ids of all that match, in order; every way to ask has to agree.

        With ``patience`` the index may fail so often less one, as it is made anew then.
        """
        for _ in range(patience - 1):
            with suppress(StoreError):
                self.catch_up()
        self.catch_up()
        with closing(open_index(self.directory / INDEX)) as index:
            search = Search(wanted(query, None))
            found = search.ids(index)
            assert search.count(index) == len(found)
            assert search.newest(index, most) == found[::-1]
            assert search.oldest(index, most) == found
            return found

    def close(self) -> None:
        self.index.close()
        self.database.close()


@contextmanager
def archive_of(directory: Path) -> Iterator[tuple[Archive, Callable[[], None]]]:
    """Yield the archive of a store, and what tells it that there is something new."""
    news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    archive = Archive(directory, Retention(), news, lambda _problems: None)
    try:
        yield archive, lambda: os.eventfd_write(news, 1)
    finally:
        archive.close()
        asyncio.get_running_loop().remove_reader(news)
        os.close(news)


async def ask(archive: Archive, method: str, **params: Any) -> Any:
    """Return the answer of the archive to a command."""
    return await METHODS[method](archive, by_method(method).check(params))

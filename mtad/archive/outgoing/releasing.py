"""What is held, or has failed, sent after all because somebody asks for it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mtad.archive.search import Search, wanted
from mtad.archive.stored import find
from mtad.control.wire import Code
from mtad.errors import CommandError, EndpointError
from mtad.model import ids
from mtad.model.hop import parse_hop
from mtad.store import deliveries
from mtad.store.database import Database
from mtad.store.deliveries import State
from mtad.store.removal import PAUSE_SECONDS

if TYPE_CHECKING:
    from mtad.archive.archive import Archive, Method, Params, Result

_BATCH = 100


async def message_release(archive: Archive, params: Params) -> Result:
    """Send what is held of messages, by their ids or those that match; answer how many."""
    hop, names = _hop(params["to"]), params["ids"]
    tree = wanted(params["query"], params["run"])
    if not names:
        await archive.progress.current()
        found = await archive.index.read(Search(tree).ids)
    numbers = await archive.mail(
        lambda mail: _named(mail, names, hop) if names else _releasable(mail, found, hop)
    )
    released = await asyncio.to_thread(_release, archive, numbers, hop)
    archive.sending.set()
    return {"released": released}


def _hop(text: str | None) -> str:
    try:
        return str(parse_hop(text)) if text else ""
    except EndpointError as error:
        raise CommandError(error.message, code=Code.INVALID_PARAMS, help=error.help) from None


def _named(mail: sqlite3.Connection, names: Sequence[str], hop: str) -> list[int]:
    """Return the ids of messages, of each of which something is to be released."""
    numbers = [find(mail, name).id for name in names]
    for number in set(numbers) - set(_releasable(mail, numbers, hop)):
        raise CommandError(
            f"nothing of message {ids.encode(number)} is held, or has failed",
            help="message show tells what has become of it",
        )
    return numbers


def _releasable(mail: sqlite3.Connection, numbers: Sequence[int], hop: str) -> list[int]:
    """Return the ids of messages of which something is to be released."""
    found = []
    for number in numbers:
        rows = [one for one in deliveries.of_message(mail, number) if one.state in _RELEASABLE]
        if rows and not (hop or all(one.hop for one in rows)):
            raise CommandError(
                f"message {ids.encode(number)} is held, and no rule says where it is to go",
                help="say so: --to mx.example.org:25",
            )
        if rows:
            found.append(number)
    return found


_RELEASABLE = frozenset({State.HELD, State.FAILED})


def _release(archive: Archive, numbers: Sequence[int], hop: str) -> int:
    released = 0
    with Database(archive.directory) as database:
        for first in range(0, len(numbers), _BATCH):
            if first:
                time.sleep(PAUSE_SECONDS)  # the lock is not fair
            with database.transaction() as mail:
                now = time.time_ns()
                released += sum(
                    deliveries.release(mail, number, hop, now)
                    for number in numbers[first : first + _BATCH]
                )
    return released


METHODS: Mapping[str, Method] = {"message.release": message_release}

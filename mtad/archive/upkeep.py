"""The store checked and repaired while the daemon runs."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtad.archive.index import INDEX
from mtad.store.bodies import remove_orphans
from mtad.store.check import MOST_PROBLEMS, Findings, check
from mtad.store.database import FILE, Database, error_of
from mtad.store.removal import Kind, Removed, remove
from mtad.store.repair import Salvaged, salvage

if TYPE_CHECKING:
    from pathlib import Path

    from mtad.archive.archive import Archive, Method, Params, Result

# One at a time; each takes long, and reads everything.
_turn = asyncio.Lock()

_ABSENT = (
    "SELECT id FROM mail.message WHERE id > 0 AND id <= (SELECT indexed FROM progress)"
    " AND NOT EXISTS (SELECT 1 FROM main.message WHERE id = mail.message.id)"
)
_STALE = (
    "SELECT id FROM main.message"
    " WHERE NOT EXISTS (SELECT 1 FROM mail.message WHERE id = main.message.id)"
    " AND id NOT IN (SELECT id FROM leaving)"
)


@dataclass(frozen=True, slots=True)
class Deviations:
    """Ids of messages that are kept and ``absent`` from the index, or ``stale`` in it: gone."""

    absent: frozenset[int]
    stale: frozenset[int]


async def store_check(archive: Archive, _: Params) -> Result:
    """Answer with what is not whole; nothing is changed."""
    async with _turn:
        findings, deviations = await _look(archive)
    return _result(findings, deviations)


async def store_repair(archive: Archive, params: Params) -> Result:
    """Mend what can be mended, and answer with what was done, and what is still not whole."""
    async with _turn:
        findings, _ = await _look(archive)
        done = await asyncio.to_thread(_mend, archive, findings, params["drop"])
        findings, deviations = await _look(archive)
        if deviations.stale:
            stale = Removed(messages=sorted(deviations.stale))
            await asyncio.to_thread(archive.index.forget, stale, pruned=False)
        if deviations.absent:
            await asyncio.to_thread(archive.index.begin_anew)
        if deviations.stale or deviations.absent:
            findings, deviations = await _look(archive)
    return {**_result(findings, deviations), **done}


async def _look(archive: Archive) -> tuple[Findings, Deviations]:
    unwanted = threading.Event()
    try:
        findings = await asyncio.to_thread(check, archive.directory, unwanted.is_set)
        if findings.corrupt:
            return findings, Deviations(frozenset(), frozenset())
        await archive.progress.current()
        # Twice: between the two reads of one look, a message may come or go.
        first, again = [await asyncio.to_thread(_compare, archive.directory) for _ in range(2)]
    finally:
        unwanted.set()
    return findings, Deviations(first.absent & again.absent, first.stale & again.stale)


def _compare(directory: Path) -> Deviations:
    """Compare the messages of index.db with those of mail.db. Raises StoreError."""
    path = directory / INDEX
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as index:
            index.execute("PRAGMA query_only = ON")
            index.execute("ATTACH ? AS mail", (str(directory / FILE),))
            found = [
                frozenset(number for (number,) in index.execute(query))
                for query in (_ABSENT, _STALE)
            ]
    except sqlite3.Error as error:
        raise error_of(error, path) from error
    return Deviations(*found)


def _mend(archive: Archive, findings: Findings, drop: bool) -> Result:
    salvaged: Salvaged | None = None
    removed, dropped = 0, 0
    if findings.corrupt:
        salvaged = salvage(archive.directory, archive.index.indexed)
        findings = check(archive.directory)
    elif findings.orphans:
        removed = remove_orphans(archive.directory)
    doomed: list[tuple[Kind, int]] = [("message", number) for number in findings.broken]
    doomed += findings.nobodys
    if drop and doomed:
        archive.index.leaving([number for kind, number in doomed if kind == "message"])
        with Database(archive.directory) as database:
            for gone in remove(database, doomed):
                archive.index.forget(gone, pruned=False)
                dropped += len(gone.messages) + len(gone.sessions)
    return {
        "salvaged": salvaged and {"messages": salvaged.messages, "sessions": salvaged.sessions},
        "old": salvaged and str(salvaged.old),
        "removed": removed,
        "dropped": dropped,
    }


def _result(findings: Findings, deviations: Deviations) -> Result:
    problems = list(findings.problems)
    if deviations.absent:
        problems.append(f"{INDEX}: {len(deviations.absent)} messages are not in it")
    if deviations.stale:
        problems.append(f"{INDEX}: {len(deviations.stale)} messages are in it and not kept")
    return {
        "ok": not problems,
        "messages": findings.messages,
        "octets": findings.octets,
        "sessions": findings.sessions,
        "unfinished": findings.unfinished,
        "broken": len(findings.broken),
        "orphans": findings.orphans,
        "unindexed": len(deviations.absent),
        "stale": len(deviations.stale),
        "problems": problems[:MOST_PROBLEMS],
    }


METHODS: Mapping[str, Method] = {"store.check": store_check, "store.repair": store_repair}

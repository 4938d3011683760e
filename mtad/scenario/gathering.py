"""What has happened since a scenario began, asked for over the control socket."""

from __future__ import annotations

import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from mtad.errors import CommandError
from mtad.model import ids
from mtad.model.deliveries.attempts import Kept, Session
from mtad.model.deliveries.report import Closure, Report, report_of

if TYPE_CHECKING:
    from mtad.scenario.running import Daemon

_PAGE = 1_000
# A session that began so much earlier may go on when the scenario begins.
_EARLIER_SECONDS = 600
# As rows of a list, so many go into one answer.
MOST_SESSIONS = 15_000
"""Of so many sessions, the newest, the transcripts are looked at."""


class Gathering:
    """Asks for the sessions and messages of listeners that match ``listener`` ("": all).

    Sessions that are over are asked for once; of one that goes on, nothing but what it has kept is
    known. ``latest`` is when something happened last, in
    seconds since the epoch.
    """

    def __init__(self, daemon: Daemon, listener: str, tag: str) -> None:
        self._daemon = daemon
        self._listener = listener
        self._tag = tag
        self._over: dict[str, Session] = {}
        self.cursor = ""
        self.began = self.latest = 0.0

    async def begin(self) -> None:
        """Take what comes from now on. Raises CommandError: no listener is such."""
        names = [row["name"] for row in (await self._daemon.call("listener.list"))["listeners"]]
        if self._listener and not any(map(self._is_of, names)):
            known = ", ".join(names) or "none"
            raise CommandError(f"no listener is {self._listener}", help=f"there are: {known}")
        self.cursor = (await self._daemon.call("message.cursor"))["cursor"]
        self.began = self.latest = time.time()

    async def report(self, closures: Iterable[Closure], ended: float) -> Report:
        """Return the report on what began before ``ended``."""
        kept = await self._messages()
        sessions = await self._sessions(dict.fromkeys(one.session for one in kept))
        return report_of(
            sessions,
            kept,
            began=self.began,
            ended=ended,
            closures=closures,
            run=self._tag,
        )

    async def _messages(self) -> list[Kept]:
        """Return the messages that were kept, the first first."""
        rows: list[dict[str, Any]] = []
        query, more = "", True
        while more:
            page = await self._daemon.call(
                "message.list", query=query, since=self.cursor, limit=_PAGE
            )
            rows += page["messages"]
            more = page["more"] and bool(page["messages"])
            query = f"before:{rows[-1]['id']}" if rows else ""
        kept = [msgspec.convert(row, Kept) for row in reversed(rows) if self._is_ours(row)]
        self.latest = max([self.latest, *(one.received for one in kept)])
        return kept

    async def _sessions(self, of_messages: Iterable[str]) -> list[Session]:
        """Return the sessions that are over, and those that brought messages and go on."""
        since = ids.encode(int((self.began - _EARLIER_SECONDS) * 1e9))
        listed = await self._daemon.call(
            "session.list", query=f"after:{since}", limit=MOST_SESSIONS
        )
        rows = [
            row
            for row in listed["sessions"]
            if self._is_ours(row) and row["began"] + row["duration"] >= self.began
        ]
        self.latest = max([self.latest, *(row["began"] + row["duration"] for row in rows)])
        names = dict.fromkeys(row["id"] for row in reversed(rows)) | dict.fromkeys(of_messages)
        return [self._over.get(name) or await self._session(name) for name in names]

    async def _session(self, name: str) -> Session:
        shown = await self._daemon.call("session.show", id=name)
        session = msgspec.convert({**shown["session"], "entries": shown["entries"]}, Session)
        if session.ended:
            self._over[name] = session
        return session

    async def is_idle(self) -> bool:
        """Whether no session goes on: what is said in one is known when it has ended."""
        rows = (await self._daemon.call("listener.list"))["listeners"]
        return not any(row["sessions"]["active"] for row in rows if self._is_of(row["name"]))

    def _is_ours(self, row: dict[str, Any]) -> bool:
        return self._is_of(row["listener"])

    def _is_of(self, listener: str) -> bool:
        return not self._listener or fnmatchcase(listener, self._listener)

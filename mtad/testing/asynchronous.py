"""The client for tests, in asyncio; mtad.testing.synchronous has the same for everybody else.

A client holds no connection: each call has one of its own, so that clients may be shared between
threads and tasks, outlive a restart of the daemon, and need no closing.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mtad.control import async_client
from mtad.errors import MtadTimeoutError, UnexpectedMailError
from mtad.testing.handles import AsyncListener, AsyncMessage, AsyncRule
from mtad.testing.model import RuleSummary, Session, Summary, listing, summary_of

if TYPE_CHECKING:
    from mtad.model.deliveries.report import Report
    from mtad.testing.config import Config

PATIENCE_SECONDS = 10.0
"""How long a message is waited for, and how much longer than it waits the daemon may take."""

KEPT_SECONDS = 0.2
"""How long after its end a session is kept at the latest, with some to spare."""

_LOOKS = 5
_MANY = 1000
_NEVER = "0" * 13  # an id before all others

__tracebackhide__ = True
"""pytest shows the line of the test, and not those here."""


class AsyncMtad:
    """What has arrived at the daemon whose control socket is ``socket``.

    With ``after``, a cursor, all that came before does not exist; with ``run``, nor does what
    lacks that tag. ``timeout`` is how long to wait for a message by default, in seconds. Queries
    are those of `mtactl message list` (docs/query.md).

    Every method raises:
        UnavailableError: no daemon answers.
        CommandError: it refuses: a mistake in the query, a message that is gone.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str],
        *,
        run: str = "",
        after: str = "",
        timeout: float = PATIENCE_SECONDS,
    ) -> None:
        self.socket = Path(socket)
        self.run = run
        self.after = after or _NEVER
        self.timeout = timeout

    async def call(self, method: str, /, *, waits: float = 0.0, **params: Any) -> dict[str, Any]:
        """Have a command of the control socket (``listener.list``) carried out; return its result.

        ``waits`` is how long it is told to wait, in seconds. Parameters that are None are left out.
        """
        given = {name: value for name, value in params.items() if value is not None}
        return await self._exchange(method, given, waits + PATIENCE_SECONDS)

    async def _exchange(
        self, method: str, params: dict[str, Any], patience: float
    ) -> dict[str, Any]:
        return await async_client.call(self.socket, method, params, patience=patience)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def messages(
        self, query: str = "", *, since: str | None = None, limit: int = _MANY
    ) -> list[AsyncMessage]:
        """Return the newest ``limit`` messages that match, in the order of arrival."""
        answer = await self.call(
            "message.list", **self._which(query), since=since or self.after, limit=limit
        )
        return [self._message(row) for row in reversed(answer["messages"])]

    async def wait_for(
        self,
        query: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109 (the daemon's, which says what came instead)
        after: str | None = None,
    ) -> AsyncMessage:
        """Return the first message that matches, which may be there already, or yet to come.

        Raises:
            MtadTimeoutError: none has come in ``timeout`` seconds; it says what came instead.
        """
        return (await self.wait_for_all(query, timeout=timeout, after=after))[0]

    async def wait_for_all(
        self,
        query: str = "",
        *,
        count: int = 1,
        timeout: float | None = None,  # noqa: ASYNC109 (as above)
        after: str | None = None,
    ) -> list[AsyncMessage]:
        """Return the first ``count`` messages that match, once there are as many.

        Raises:
            MtadTimeoutError: as many have not come in ``timeout`` seconds.
        """
        seconds = self.timeout if timeout is None else timeout
        answer = await self.call(
            "message.wait",
            waits=seconds,
            **self._which(query),
            after=after or self.after,
            count=count,
            timeout=seconds,
        )
        found = [self._message(row) for row in answer["messages"]]
        if answer["ok"]:
            return found
        came = [self._message(row) for row in reversed(answer["instead"])]
        wanted = "a message" if count == 1 else f"{count} messages"
        matches = f" that match{'es' * (count == 1)} {query!r}" if query else ""
        run = f" of the run {self.run!r}" * bool(self.run)
        some = f"; {answer['count']} came" if answer["count"] else ""
        raise MtadTimeoutError(
            f"waited {seconds:g} s in vain for {wanted}{run}{matches}{some}\n"
            + (f"what came:{listing(came)}" if came else "nothing came"),
            messages=came,
        )

    async def expect_none(
        self, for_seconds: float, query: str = "", *, after: str | None = None
    ) -> None:
        """Return after ``for_seconds``, in which nothing that matches came, nor was there before.

        Raises:
            UnexpectedMailError: as soon as there is one.
        """
        answer = await self.call(
            "message.expect-none",
            waits=for_seconds,
            **self._which(query),
            after=after or self.after,
            **{"for": for_seconds},
        )
        if not answer["ok"]:
            found = [self._message(row) for row in answer["messages"]]
            matched = f" that matches {query!r}" if query else ""
            raise UnexpectedMailError(
                f"there was to be no message{matched}, and there is:{listing(found)}",
                messages=found,
            )

    async def count(self, query: str = "") -> int:
        """Return how many messages match."""
        count: int = (await self.call("message.count", query=self._within(query)))["count"]
        return count

    async def cursor(self) -> str:
        """Return the place after the newest message: what comes later comes ``after`` it."""
        cursor: str = (await self.call("message.cursor"))["cursor"]
        return cursor

    async def delete(self, *messages: Summary) -> int:
        """Delete ``messages``, or without any all that there are; return how many that were."""
        which: dict[str, Any] = {"ids": [message.id for message in messages]}
        if not messages:
            which = {"query": self._within("")}
        deleted: int = (await self.call("message.delete", **which))["deleted"]
        return deleted

    async def sessions(self) -> list[Session]:
        """Return the newest thousand sessions, in the order of their ends.

        One is there a moment after its end (hundredths of a second), if it began after the cursor.
        """
        rows = (await self.call("session.list", limit=_MANY))["sessions"]
        sessions = msgspec.convert(rows[::-1], list[Session], str_keys=True)
        return [session for session in sessions if session.id > self.after]

    async def transcript(self, of: Summary | Session) -> str:
        """Return what was said in a session, or in that of a message, with times in seconds.

        Of a session that goes on it is what has been kept so far, which may be nothing.
        """
        session = of.id if isinstance(of, Session) else of.session
        shown = await self.call("session.show", id=session)
        for _ in range(_LOOKS):
            if "ended" in shown["session"]:
                break
            await self._pause(KEPT_SECONDS / _LOOKS)
            shown = await self.call("session.show", id=session)
        entries = shown["entries"]
        return "\n".join(f"{one['at']:10.6f} {one['who']} {one['line']}" for one in entries)

    async def scenario(
        self, scenario: Config, *, start: Callable[[], object] = lambda: None
    ) -> Report:
        """Run a scenario (docs/scenarios.md) to its end; return the report on what senders did.

        It is YAML, the path of a file, or what such a file says. ``start`` is called when what is
        to be done at the beginning is done; it must not take long: to start a thread, a task or a
        program is what it is for. A client of a test run has its rules, and its report, for that
        run alone.

        Raises:
            ConfigError: the scenario cannot be read.
        """
        from mtad.config.scenario import load_scenario
        from mtad.scenario import running

        daemon = running.Daemon(self.call, self._pause)
        return await running.run(load_scenario(scenario), daemon, tag=self.run, start=start)

    def rule(self, rule: str | Mapping[str, Any], *, name: str = "") -> AsyncRule:
        """Return a fault rule (docs/faults.md), which is there while the block runs.

        ``async with mtad.rule("at: rcpt, do: {reply: 450 4.2.0 Later}"):``. It is for sessions that
        begin then; a client of a test run has it for that run alone. Without a ``name`` it has one
        that nobody has.

        Raises, when the block is entered:
            CommandError: it is no rule, or there is one of that name.
        """
        text = rule if isinstance(rule, str) else json.dumps(rule)
        return AsyncRule(self, name or f"test-{secrets.token_hex(4)}", text)

    async def rules(self) -> list[RuleSummary]:
        """Return the fault rules, in the order in which they are asked."""
        rows = (await self.call("rule.list"))["rules"]
        return msgspec.convert(rows, list[RuleSummary])

    async def explain(self, at: str, /, **facts: Any) -> str | None:
        """Return the name of the rule that would fire at a moment (``rcpt``); None: none would.

        ``facts`` are the options of `mtactl rule explain`: ``recipient="ann@example.com"``.
        """
        fires: str | None = (await self.call("rule.explain", at=at, **facts))["fires"]
        return fires

    def listener(self, name: str = "mx") -> AsyncListener:
        """Return a handle on the listener ``name``, whether there is one or not."""
        return AsyncListener(self, name)

    def _which(self, query: str) -> dict[str, Any]:
        return {"query": query or None, "run": self.run or None}

    def _within(self, query: str) -> str:
        """Return ``query`` for commands that take nothing else: of what this client sees."""
        run = re.sub(r'([\\"])', r"\\\1", self.run)
        parts = [f"after:{self.after}", f'run:"{run}"' * bool(run), f"({query})" * bool(query)]
        return " ".join(filter(None, parts))

    def _message(self, row: dict[str, Any]) -> AsyncMessage:
        return AsyncMessage(**summary_of(row), _mtad=self)

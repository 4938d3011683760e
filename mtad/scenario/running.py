"""A scenario is run: its steps, at their times; then the report on what senders did.

Whatever happens, its rules are gone afterwards, and the listeners that it closed are open again.
Should the program that runs it be killed, both happen by themselves, some time after its end.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from math import ceil, inf
from typing import Any, NamedTuple

import msgspec

from mtad.config.rules.text import as_file
from mtad.config.scenario import NAME_CHARACTERS
from mtad.errors import CommandError
from mtad.model.deliveries.expected import judge
from mtad.model.deliveries.report import Closure, Done, Report
from mtad.model.rules.values import Rule
from mtad.model.scenario import Scenario, Step
from mtad.scenario.gathering import Gathering

_LOOK_SECONDS = 0.5
_LOOKS = 10
# So long after the end, rules and closed listeners end by themselves.
_GRACE_SECONDS = 30.0
# How long after its end a session is kept at the latest.
_KEPT_SECONDS = 0.3


class Daemon(NamedTuple):
    """The daemon that it is run against: what calls a command, and what lets time pass.

    Both may block, or suspend. ``call`` takes the method, ``waits`` (how long that is told to
    wait, in seconds) and its parameters.
    """

    call: Callable[..., Awaitable[dict[str, Any]]]
    pause: Callable[[float], Awaitable[None]]


async def run(
    scenario: Scenario,
    daemon: Daemon,
    *,
    tag: str = "",
    start: Callable[[], object] = lambda: None,
    tell: Callable[[Done], object] = lambda done: None,
) -> Report:
    """Run a scenario to its end.

    With ``tag`` its rules are for that test run alone, and the report on it. ``start`` is called
    when the steps of the very beginning are done: what it begins finds them in force. ``tell`` is
    told of each step.

    Raises:
        CommandError: a step cannot be done.
        UnavailableError: the daemon does not answer.
    """
    running = _Running(scenario, daemon, tag, tell)
    await running.begin()
    try:
        for step in [one for one in scenario.steps if not one.at]:
            await running.do(step)
        start()
        for step in [one for one in scenario.steps if one.at]:
            await running.wait_until(step.at)
            await running.do(step)
        await running.wait_for_the_end()
        ended = time.time()
    finally:
        try:
            await running.tidy()
        except KeyboardInterrupt:
            await running.tidy()
            raise
    return await running.result(ended)


def _prefix(name: str, tag: str) -> str:
    """Return what the names of rules begin with: for each test run something else."""
    if not tag:
        return name
    digest = blake2b(tag.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()
    return f"{name[: NAME_CHARACTERS - 1 - len(digest)]}-{digest}"


class _Running:
    def __init__(
        self, scenario: Scenario, daemon: Daemon, tag: str, tell: Callable[[Done], object]
    ) -> None:
        self._scenario = scenario
        self._daemon = daemon
        self._tag = tag
        self._prefix = _prefix(scenario.name, tag)
        self._tell = tell
        self._gathering = Gathering(daemon, scenario.listener, tag)
        self._clock = 0.0
        self._done: list[Done] = []
        self._rules: list[str] = []
        self._closed: dict[str, float] = {}
        self._closures: list[Closure] = []

    async def begin(self) -> None:
        """Begin to look, and to count the time. Raises CommandError: there is no such listener."""
        await self._gathering.begin()
        self._clock = time.monotonic()

    @property
    def _now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._clock

    @property
    def _left(self) -> float:
        """Seconds until the end."""
        return max(0.0, self._scenario.end - self._now)

    async def wait_until(self, at: float) -> None:
        """Return at ``at``, or at once if that has passed."""
        if (left := at - self._now) > 0:
            await self._daemon.pause(left)

    # Steps

    async def do(self, step: Step) -> None:
        """Do a step."""
        if step.rules is not None:
            await self._exchange_rules(step.rules)
        for name in step.open:
            await self._open(name)
        for name in step.close:
            await self._close(name)
        done = Done(self._now, step.words)
        self._done.append(done)
        self._tell(done)

    async def _exchange_rules(self, rules: Sequence[Rule]) -> None:
        """Have other rules: those before hold until the last moment, being asked first."""
        before = self._rules
        if rules:
            ours = [self._ours(rule) for rule in rules]
            # Who is interrupted while it is asked has been heard all the same.
            self._rules = [*before, *(rule.name for rule in ours)]
            await self._daemon.call("rule.load", text=as_file(ours), name=self._scenario.name)
        await self._remove(before)
        self._rules = self._rules[len(before) :] if rules else []

    def _ours(self, rule: Rule) -> Rule:
        """Return a rule for the test run, that goes by itself when nobody removes it."""
        name = self._prefix + rule.name.removeprefix(self._scenario.name)
        seconds = min(rule.seconds or inf, ceil(self._left) + _GRACE_SECONDS)
        where = msgspec.structs.replace(rule.where, run=self._tag or rule.where.run)
        return msgspec.structs.replace(rule, name=name, seconds=seconds, where=where)

    async def _remove(self, names: list[str]) -> None:
        if names:
            await self._daemon.call("rule.remove", names=names)

    async def _open(self, name: str) -> None:
        answer = await self._daemon.call("listener.start", selectors=[name])
        if not answer["ok"]:
            reasons = [row["error"]["text"] for row in answer["listeners"] if row["error"]]
            raise CommandError(f"{name} cannot be opened: {'; '.join(reasons)}")
        if (began := self._closed.pop(name, None)) is not None:
            self._closures.append(Closure(began, time.time()))

    async def _close(self, name: str) -> None:
        began = time.time()
        seconds = self._left + _GRACE_SECONDS
        self._closed.setdefault(name, began)  # as above
        try:
            await self._daemon.call("listener.stop", selectors=[name], **{"for": seconds})
        except CommandError:
            self._closed.pop(name)
            raise

    # The end

    async def wait_for_the_end(self) -> None:
        """Return at the end, or when all that is expected has come and nothing else happens."""
        expect = self._scenario.expect
        while expect.messages and self._left:
            await self._daemon.call(
                "message.wait",
                waits=self._left,
                after=self._gathering.cursor,
                count=expect.messages,
                timeout=self._left,
            )
            report = await self._gathering.report(self._closures, time.time())
            has_come = report.messages >= expect.messages
            has_come &= report.duplicates >= (expect.duplicates or 0)
            quiet_since = time.time() - self._scenario.settle
            is_quiet = self._gathering.latest <= quiet_since and await self._gathering.is_idle()
            if has_come and report.is_settled() and is_quiet:
                return
            await self._daemon.pause(min(_LOOK_SECONDS, self._left))
        await self._daemon.pause(self._left)

    async def tidy(self) -> None:
        """Remove the rules, and open what was closed."""
        try:
            rows = (await self._daemon.call("rule.list"))["rules"]
            await self._remove([row["name"] for row in rows if row["name"] in self._rules])
        finally:
            for name in list(self._closed):
                await self._open(name)

    async def result(self, ended: float) -> Report:
        """Return the report, when the last session is over and kept, if that is soon."""
        for _ in range(_LOOKS):
            if await self._gathering.is_idle():
                break
            await self._daemon.pause(_LOOK_SECONDS)
        await self._daemon.pause(_KEPT_SECONDS)
        report = await self._gathering.report(self._closures, ended)
        verdicts = judge(report, self._scenario.expect)
        return replace(report, done=tuple(self._done), verdicts=tuple(verdicts))

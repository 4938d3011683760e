"""The client for tests, without asyncio: each method is that of its asynchronous twin, driven here.

A coroutine that nothing suspends is a function: its twin's calls block, so it ends at once.
"""

from __future__ import annotations

import os
import smtplib
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from mtad.control.client import ControlClient, finished
from mtad.testing.asynchronous import PATIENCE_SECONDS, AsyncMtad
from mtad.testing.handles import AsyncListener, AsyncMessage, AsyncRule
from mtad.testing.model import Details, Part, Summary, values

__tracebackhide__ = True
"""See mtad.testing.asynchronous."""

P = ParamSpec("P")
A = TypeVar("A")
T = TypeVar("T")
R = TypeVar("R")
A_co = TypeVar("A_co", covariant=True)


class _Twin(Protocol[A_co]):
    @property
    def _twin(self) -> A_co: ...


def _same(value: T) -> T:
    return value


def _blocking(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]], then: Callable[[T], R]
) -> Callable[Concatenate[_Twin[A], P], R]:
    """Return ``method`` of the twin as a method that blocks; ``then`` makes ours of its result."""

    @wraps(method)
    def blocking(self: _Twin[A], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return then(finished(method(self._twin, *args, **kwargs)))

    return blocking


class _BlockingMtad(AsyncMtad):
    async def _exchange(
        self, method: str, params: dict[str, Any], patience: float
    ) -> dict[str, Any]:
        with ControlClient(self.socket, timeout=patience) as client:
            return client.call(method, **params)

    async def _pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 (to block is what it is for)


@dataclass(frozen=True, kw_only=True)
class Message(Summary):
    """A message; what a list does not have of it is asked for when it is wanted."""

    _twin: AsyncMessage = field(repr=False, compare=False)

    raw = _blocking(AsyncMessage.raw, _same)
    part = _blocking(AsyncMessage.part, _same)
    link = _blocking(AsyncMessage.link, _same)
    code = _blocking(AsyncMessage.code, _same)
    transcript = _blocking(AsyncMessage.transcript, _same)

    @cached_property
    def details(self) -> Details:
        """Headers, parts, text and links."""
        return finished(self._twin.details())

    @property
    def text(self) -> str:
        """What a person would read."""
        return self.details.text

    @property
    def links(self) -> tuple[str, ...]:
        """The links of the text and of the HTML, in order."""
        return self.details.links

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of the message (RFC 2045)."""
        return self.details.parts

    def header(self, name: str) -> str | None:
        """Return the first header ``name``, in any case; None where there is none."""
        return self.details.header(name)


@dataclass(frozen=True)
class Listener:
    """A listener, to be closed and opened as a test wants it."""

    _twin: AsyncListener

    stop = _blocking(AsyncListener.stop, _same)
    start = _blocking(AsyncListener.start, _same)
    endpoint = _blocking(AsyncListener.endpoint, _same)


@dataclass(frozen=True)
class Rule:
    """A fault rule that is there while the block runs."""

    _twin: AsyncRule

    @property
    def name(self) -> str:
        """Its name."""
        return self._twin.name

    def __enter__(self) -> Rule:
        """Add it: whoever connects from now on meets it."""
        finished(self._twin.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        finished(self._twin.__aexit__())

    fired = _blocking(AsyncRule.fired, _same)


def _message(twin: AsyncMessage) -> Message:
    return Message(**values(twin), _twin=twin)


def _messages(twins: list[AsyncMessage]) -> list[Message]:
    return [_message(twin) for twin in twins]


class Mtad:
    """What has arrived at the daemon whose control socket is ``socket``: as AsyncMtad, blocking."""

    def __init__(
        self,
        socket: str | os.PathLike[str],
        *,
        run: str = "",
        after: str = "",
        timeout: float = PATIENCE_SECONDS,
    ) -> None:
        self._twin = _BlockingMtad(socket, run=run, after=after, timeout=timeout)

    call = _blocking(AsyncMtad.call, _same)
    messages = _blocking(AsyncMtad.messages, _messages)
    wait_for = _blocking(AsyncMtad.wait_for, _message)
    wait_for_all = _blocking(AsyncMtad.wait_for_all, _messages)
    expect_none = _blocking(AsyncMtad.expect_none, _same)
    count = _blocking(AsyncMtad.count, _same)
    cursor = _blocking(AsyncMtad.cursor, _same)
    delete = _blocking(AsyncMtad.delete, _same)
    sessions = _blocking(AsyncMtad.sessions, _same)
    transcript = _blocking(AsyncMtad.transcript, _same)
    scenario = _blocking(AsyncMtad.scenario, _same)
    rules = _blocking(AsyncMtad.rules, _same)
    explain = _blocking(AsyncMtad.explain, _same)

    def asynchronous(self) -> AsyncMtad:
        """Return the client that sees the same, for coroutines."""
        twin = self._twin
        return AsyncMtad(twin.socket, run=twin.run, after=twin.after, timeout=twin.timeout)

    def rule(self, rule: str | Mapping[str, Any], *, name: str = "") -> Rule:
        """Return a fault rule, which is there while the block runs; see AsyncMtad."""
        return Rule(self._twin.rule(rule, name=name))

    def listener(self, name: str = "mx") -> Listener:
        """Return a handle on the listener ``name``, whether there is one or not."""
        return Listener(self._twin.listener(name))

    @property
    def host(self) -> str:
        """The address of the listener ``mx``."""
        return self.listener().endpoint()[0]

    @property
    def port(self) -> int:
        """The port of the listener ``mx``."""
        return self.listener().endpoint()[1]

    def smtp(self, listener: str = "mx") -> smtplib.SMTP:
        """Return a client that is connected to ``listener``."""
        host, port = self.listener(listener).endpoint()
        return smtplib.SMTP(host, port, timeout=PATIENCE_SECONDS)

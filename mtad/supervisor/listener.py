"""One listener as it is now, and what the workers are told of it."""

from __future__ import annotations

import asyncio
import fnmatch
import logging
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby, islice
from typing import Any, TypeVar

from mtad.errors import ListenerError
from mtad.ipc.channel import MAX_DESCRIPTORS
from mtad.ipc.messages import Open, Opening
from mtad.model.endpoint import Endpoint, TcpEndpoint
from mtad.model.listener import Happening, ListenerSpec, State, after
from mtad.supervisor.events import Events

T = TypeVar("T")

# Longer than any name, or than a glob needs to be.
_LONGEST_SELECTOR = 200


class Lack(StrEnum):
    """What a listener lacks while it has a fault: its port, or who accepts."""

    CLOSED = "closed"
    DEAF = "deaf"


@dataclass(frozen=True, slots=True)
class Fault:
    """``timer`` ends it, at ``until``, in seconds since the epoch; ``by`` says who wanted it."""

    lack: Lack
    until: float
    by: str
    timer: asyncio.TimerHandle

    def __str__(self) -> str:
        return f"{self.lack} until {time.strftime('%H:%M:%SZ', time.gmtime(self.until))}"


@dataclass(slots=True, eq=False)
class Listener:
    """A listener as it is now. ``since`` is when ``state`` began, in seconds since the epoch.

    With a socket and no opening it is deaf.
    """

    spec: ListenerSpec
    slot: int
    state: State = State.STOPPED
    since: float = field(default_factory=time.time)
    bound: Endpoint | None = None
    error: ListenerError | None = None
    socket: socket.socket | None = None
    opening: Opening | None = None
    refused_by: dict[int, str] = field(default_factory=dict)
    """The workers that cannot serve it now, and why."""
    ending: set[int] = field(default_factory=set)
    """Closed openings of which some worker still has sessions."""
    retired: set[int] = field(default_factory=set)
    """Those of them whose sessions go on until they end by themselves."""
    ends_by: float = 0.0
    """When the others must be over, by the loop's clock."""
    removed: bool = False
    fault: Fault | None = None

    @property
    def condition(self) -> str:
        """What it is, and why it does not accept, for people."""
        if self.fault:
            return f"{self.fault}, by {self.fault.by}"
        return f"{self.state}: {self.error}" if self.error else str(self.state)


def select(listeners: Mapping[str, Listener], selectors: Iterable[str]) -> list[Listener]:
    """Return those that the selectors name: a name, a group, or a glob.

    Raises:
        ListenerError: a selector names none, or is longer than any name.
    """
    found: dict[str, Listener] = {}
    for selector in selectors:
        if len(selector) > _LONGEST_SELECTOR:  # fnmatch takes its time, and everybody's
            raise ListenerError(f"a name, or a glob, has at most {_LONGEST_SELECTOR} characters")
        matching = _matching(listeners, selector)
        if not matching:
            known = ", ".join(islice(listeners, 10)) or "none"
            known += f" and {more} more" if (more := len(listeners) - 10) > 0 else ""
            raise ListenerError(f"no listener is called {selector!r}", help=f"there are: {known}")
        found.update((listener.spec.name, listener) for listener in matching)
    return list(found.values())


def _matching(listeners: Mapping[str, Listener], selector: str) -> list[Listener]:
    if selector in listeners:
        return [listeners[selector]]
    return [
        one
        for one in listeners.values()
        if one.spec.group == selector or fnmatch.fnmatchcase(one.spec.name, selector)
    ]


def where(listener: Listener) -> Endpoint:
    """Return where to listen: once the kernel has chosen a port, it is the listener's own."""
    endpoint, bound = listener.spec.endpoint, listener.bound
    if isinstance(endpoint, TcpEndpoint) and isinstance(bound, TcpEndpoint) and not endpoint.port:
        return replace(endpoint, port=bound.port)
    return endpoint


def opening_of(number: int, listener: Listener) -> Opening:
    """Return what the workers are told of ``listener``, as the opening ``number``."""
    spec = listener.spec
    return Opening(number, listener.slot, spec.name, spec.protocol, spec.profile_name, spec.profile)


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield ``items`` in parts that fit one message."""
    for start in range(0, len(items), MAX_DESCRIPTORS):
        yield items[start : start + MAX_DESCRIPTORS]


def hand_outs(listeners: Sequence[Listener]) -> Iterator[tuple[Open, list[int]]]:
    """Yield what hands out those of ``listeners`` that are open, and the descriptors with it."""
    opened = [(one.opening, one.socket) for one in listeners if one.opening and one.socket]
    for _, alike in groupby(opened, lambda pair: pair[0].profile):
        for batch in batches(list(alike)):
            places = tuple(opening.place for opening, _ in batch)
            yield Open(batch[0][0].profile, places), [sock.fileno() for _, sock in batch]


def happened(listener: Listener, happening: Happening, events: Events) -> None:
    """Have ``listener`` go on to the state that follows, and tell of it."""
    state = after(listener.state, happening)
    if state is listener.state:
        return
    listener.state, listener.since = state, time.time()
    if state is State.STARTING:
        return
    fields: dict[str, Any] = {
        "listener": listener.spec.name,
        "endpoint": str(listener.bound or where(listener)),
    }
    if state is State.FAILED and listener.error is not None:
        fields |= {"reason": listener.error.message, "help": listener.error.help}
        events.publish("listener.failed", logging.ERROR, **fields)
    else:
        events.publish(f"listener.{state}", **fields)

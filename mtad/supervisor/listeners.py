"""The listeners: each started and stopped by itself, while the daemon runs.

A socket is bound here and handed to the workers (``mtad.supervisor.serving``); closing it here
frees the port, whatever the workers are doing. Sessions of a stopped listener end in the workers,
who tell when the last has.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from mtad.errors import BindError, ListenerError
from mtad.ipc.counters import Counts
from mtad.ipc.messages import Configure
from mtad.model.listener import Happening, ListenerSpec, State
from mtad.supervisor.events import Events
from mtad.supervisor.faults import Faults
from mtad.supervisor.listener import Listener, happened, opening_of, select, where
from mtad.supervisor.orders import Order
from mtad.supervisor.serving import Serving
from mtad.supervisor.sockets import open_listening

# How long a command that starts listeners waits for the workers.
_ANSWER_SECONDS = 2.0


class Listeners:
    """All listeners by name."""

    def __init__(self, events: Events) -> None:
        self.faults = Faults(self, events)
        self._events = events
        self._listeners: dict[str, Listener] = {}
        self.serving = Serving(self._listeners, events)

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._listeners.values())

    def get(self, name: str) -> Listener | None:
        """Return the listener of that name, if there is one."""
        return self._listeners.get(name)

    def select(self, selectors: Iterable[str]) -> list[Listener]:
        """Return the listeners that the selectors name: a name, a group, or a glob.

        Raises:
            ListenerError: a selector names none.
        """
        return select(self._listeners, selectors)

    def add(self, spec: ListenerSpec) -> Listener:
        """Make a listener, stopped.

        Raises:
            ListenerError: the name is taken, or there are too many.
        """
        if spec.name in self._listeners:
            raise ListenerError(
                f"a listener is called {spec.name!r} already", help="remove it, or take another"
            )
        listener = Listener(spec, self.serving.pool.take_slot())
        self._listeners[spec.name] = listener
        return listener

    def start(self, listeners: Sequence[Listener]) -> None:
        """Open what is not open; a listener that cannot be is ``failed``, the others go on."""
        for listener in listeners:
            self.faults.end(listener)
        opened = [listener for listener in listeners if self._open(listener)]
        self.serving.hand_out(opened)

    async def settled(self, listeners: Iterable[Listener]) -> None:
        """Wait until none is ``starting``, or the workers let us wait for too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                for listener in listeners:
                    await self._events.until(partial(_has_settled, listener))

    def adopt(self, listener: Listener, sock: socket.socket) -> None:
        """Start ``listener`` with a socket that listens already."""
        happened(listener, Happening.START, self._events)
        self.serving.begin(listener, sock)
        self.serving.hand_out([listener])

    def stop(self, listeners: Sequence[Listener], grace: float) -> None:
        """Free the ports now; sessions may finish their transaction within ``grace`` seconds."""
        for listener in listeners:
            self._stop(listener)
        self.serving.end_sessions(listeners, grace)
        for listener in listeners:
            self._stopped_if_nobody_is_left(listener)

    def close(self, listener: Listener) -> None:
        """Free the port now; sessions go on until they end by themselves."""
        self.serving.withdraw([listener])
        self._stop(listener)
        self._stopped_if_nobody_is_left(listener)

    def deafen(self, listeners: Sequence[Listener]) -> list[Order]:
        """Have nobody accepted, until ``start``; the ports stay ours, sessions go on."""
        for listener in listeners:
            if listener.socket is not None:
                listener.socket.listen(0)  # one is let in, and waits; others do not get that far
        return self.serving.withdraw(listeners)

    def remove(self, listeners: Sequence[Listener], grace: float) -> None:
        """Stop and forget; the names are free now, sessions end as with ``stop``."""
        self.stop(listeners, grace)
        for listener in listeners:
            del self._listeners[listener.spec.name]
            listener.removed = True
            self._events.publish("listener.removed", listener=listener.spec.name)
            self.serving.retire(listener)

    def update(self, listener: Listener, spec: ListenerSpec) -> None:
        """Take over what can change without a new socket: all but name and endpoint."""
        listener.spec = spec
        if listener.socket is not None and listener.opening is not None:
            listener.socket.listen(spec.backlog)
            listener.opening = opening_of(listener.opening.id, listener)
            self.serving.pool.broadcast(Configure(listener.opening))

    def counts(self, listener: Listener) -> Counts:
        """Return what was counted for ``listener`` in all workers."""
        return self.serving.pool.counts(listener.slot)

    def _open(self, listener: Listener) -> bool:
        """Begin an opening; return whether there is a new one."""
        if listener.opening is not None:
            return False
        happened(listener, Happening.START, self._events)
        sock, backlog = listener.socket, listener.spec.backlog
        if sock is not None:  # it was deaf
            sock.listen(backlog)
        else:
            try:
                sock = open_listening(where(listener), backlog)
            except BindError as error:
                listener.error = error
                happened(listener, Happening.BIND_FAILED, self._events)
                return False
        self.serving.begin(listener, sock)
        return True

    def _stop(self, listener: Listener) -> None:
        self.faults.end(listener)
        self.serving.shut(listener)
        listener.error = None
        happened(listener, Happening.STOP, self._events)

    def _stopped_if_nobody_is_left(self, listener: Listener) -> None:
        # Nobody can come any more, and nobody is there: no need to wait for the workers' word.
        if listener.state is State.DRAINING and not self.counts(listener).active:
            happened(listener, Happening.DRAINED, self._events)


def _has_settled(listener: Listener) -> bool:
    return listener.state is not State.STARTING

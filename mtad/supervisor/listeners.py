"""The listeners: each started and stopped by itself, while the daemon runs.

A socket is bound here and handed to the workers; closing it here frees the port, whatever the
workers are doing. Sessions of a stopped listener end in the workers, who tell when the last has.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from mtad.errors import BindError, ListenerError, ServeError
from mtad.ipc.counters import Counts
from mtad.ipc.messages import Close, Configure, Retire
from mtad.model.listener import Happening, ListenerSpec, State, after
from mtad.model.profile import Limits
from mtad.supervisor.events import Events
from mtad.supervisor.faults import Faults
from mtad.supervisor.listener import (
    Listener,
    batches,
    hand_outs,
    opening_of,
    select,
    where,
)
from mtad.supervisor.openings import Openings
from mtad.supervisor.orders import Order
from mtad.supervisor.sockets import bound_endpoint, close_listening, open_listening
from mtad.supervisor.workers import Pool, Worker

# How long after the grace a worker may take to end sessions; one that takes longer does not run.
_HANG_SECONDS = 5.0
# How long a command that starts listeners waits for the workers.
_ANSWER_SECONDS = 2.0
# How long after a worker could not serve what others do it is asked again: the cause may be gone.
_AGAIN_SECONDS = 2.0


class Listeners:
    """All listeners by name."""

    def __init__(self, events: Events) -> None:
        self.pool: Pool
        self.faults = Faults(self, events)
        self._events = events
        self._listeners: dict[str, Listener] = {}
        self._openings = Openings()
        self._completer: asyncio.TimerHandle | None = None

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
        listener = Listener(spec, self.pool.take_slot())
        self._listeners[spec.name] = listener
        return listener

    def start(self, listeners: Sequence[Listener]) -> None:
        """Open what is not open; a listener that cannot be is ``failed``, the others go on."""
        for listener in listeners:
            self.faults.end(listener)
        opened = [listener for listener in listeners if self._open(listener)]
        self._hand_out(opened)

    async def settled(self, listeners: Iterable[Listener]) -> None:
        """Wait until none is ``starting``, or the workers let us wait for too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                for listener in listeners:
                    await self._events.until(partial(_has_settled, listener))

    def adopt(self, listener: Listener, sock: socket.socket) -> None:
        """Start ``listener`` with a socket that listens already."""
        self._happened(listener, Happening.START)
        self._bound(listener, sock)
        self._hand_out([listener])

    def stop(self, listeners: Sequence[Listener], grace: float) -> None:
        """Free the ports now; sessions may finish their transaction within ``grace`` seconds."""
        closed: list[int] = []
        for listener in listeners:
            self._stop(listener)
            listener.retired.clear()
            closed += listener.ending
        for batch in batches(closed):
            self.pool.broadcast(Close(tuple(batch), grace))
        if closed:
            self._expect_end(listeners, grace + _HANG_SECONDS)
        for opening in closed:
            self._let_go(opening, ())
        for listener in listeners:
            self._stopped_if_nobody_is_left(listener)

    def close(self, listener: Listener) -> None:
        """Free the port now; sessions go on until they end by themselves."""
        self._withdraw([listener])
        self._stop(listener)
        self._stopped_if_nobody_is_left(listener)

    def deafen(self, listeners: Sequence[Listener]) -> list[Order]:
        """Have nobody accepted, until ``start``; the ports stay ours, sessions go on."""
        for listener in listeners:
            if listener.socket is not None:
                listener.socket.listen(0)  # one is let in, and waits; others do not get that far
        return self._withdraw(listeners)

    def remove(self, listeners: Sequence[Listener], grace: float) -> None:
        """Stop and forget; the names are free now, sessions end as with ``stop``."""
        self.stop(listeners, grace)
        for listener in listeners:
            del self._listeners[listener.spec.name]
            listener.removed = True
            self._events.publish("listener.removed", listener=listener.spec.name)
            self._retire(listener)

    def update(self, listener: Listener, spec: ListenerSpec) -> None:
        """Take over what can change without a new socket: all but name and endpoint."""
        listener.spec = spec
        if listener.socket is not None and listener.opening is not None:
            listener.socket.listen(spec.backlog)
            listener.opening = opening_of(listener.opening.id, listener)
            self.pool.broadcast(Configure(listener.opening))

    def hand_out_to(self, worker: Worker) -> None:
        """Give a worker every socket that is open, and that it does not have."""
        for message, descriptors in hand_outs(self._unheld_by(worker.id)):
            worker.channel.send(message, descriptors)
            for place in message.places:
                self._openings.give(place.id, [worker.id])

    def opened(self, worker: int, openings: Iterable[int]) -> None:
        """Note that ``worker`` takes connections on ``openings``."""
        for opening in openings:
            listener = self._openings.taken(opening, worker)
            if listener is not None and self._openings.is_current(opening):
                listener.refused_by.pop(worker, None)
                self._happened(listener, Happening.SERVED)

    def drained(self, worker: int, openings: Iterable[int] | None) -> None:
        """Note that ``worker`` has no sessions of ``openings`` left; None: it is gone."""
        if openings is None:
            for listener in self:
                listener.refused_by.pop(worker, None)
        elif any(map(self._openings.is_current, openings)):
            self._complete_later()
        for opening in self._openings if openings is None else openings:
            self._let_go(opening, [worker])

    def refused(self, worker: int, openings: Iterable[int], reason: str) -> None:
        """Note that ``worker`` cannot serve ``openings``; what none can serve has failed."""
        held = {one: self._openings.taken(one, worker) for one in openings}
        refused = {one: listener for one, listener in held.items() if listener is not None}
        news = [one for one in refused.values() if one.refused_by.get(worker) != reason]
        if news:
            names = [listener.spec.name for listener in news]
            self._events.publish(
                "worker.refused", logging.ERROR, worker=worker, listeners=names, reason=reason
            )
        for opening, listener in refused.items():
            listener.refused_by[worker] = reason
            if self._openings.refuse(opening, worker):
                self._fail(listener, reason)

    def limits(self, opening: int) -> tuple[str, Limits] | None:
        """Return the name and the limits of the listener that ``opening`` is of; None: it ended."""
        listener = self._openings.listener(opening)
        return None if listener is None else (listener.spec.name, listener.spec.profile.limits)

    def served_by(self, worker: int, opening: int) -> Listener | None:
        """Return the listener that ``worker`` serves, or did, as ``opening``; None: it does not."""
        return self._openings.listener(opening, worker)

    def counts(self, listener: Listener) -> Counts:
        """Return what was counted for ``listener`` in all workers."""
        return self.pool.counts(listener.slot)

    def _expect_end(self, listeners: Sequence[Listener], seconds: float) -> None:
        """Kill, in so many seconds, every worker that has sessions of ``listeners`` even then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        for listener in listeners:
            listener.ends_by = deadline

        def check() -> None:
            late = [one.ending - one.retired for one in listeners if one.ends_by <= deadline]
            for worker in self._openings.holders(itertools.chain.from_iterable(late)):
                self._events.publish("worker.hangs", logging.ERROR, worker=worker)
                self.pool.workers[worker].process.kill()

        loop.call_at(deadline, check)

    def _open(self, listener: Listener) -> bool:
        """Begin an opening; return whether there is a new one."""
        if listener.opening is not None:
            return False
        self._happened(listener, Happening.START)
        sock, backlog = listener.socket, listener.spec.backlog
        if sock is not None:  # it was deaf
            sock.listen(backlog)
        else:
            try:
                sock = open_listening(where(listener), backlog)
            except BindError as error:
                listener.error = error
                self._happened(listener, Happening.BIND_FAILED)
                return False
        self._bound(listener, sock)
        return True

    def _bound(self, listener: Listener, sock: socket.socket) -> None:
        listener.socket, listener.bound, listener.error = sock, bound_endpoint(sock), None
        self._openings.begin(listener)

    def _hand_out(self, listeners: Sequence[Listener]) -> None:
        for message, descriptors in hand_outs(listeners):
            holders = self.pool.broadcast(message, descriptors)
            for place in message.places:
                self._openings.give(place.id, holders)

    def _unheld_by(self, worker: int) -> list[Listener]:
        return [
            one
            for one in self
            if one.opening and self._openings.listener(one.opening.id, worker) is None
        ]

    def _complete_later(self) -> None:
        if self._completer is None:
            loop = asyncio.get_running_loop()
            self._completer = loop.call_later(_AGAIN_SECONDS, self._complete)

    def _complete(self) -> None:
        """Give every worker again what it let go of though it is open.

        Who does not read gets no more: descriptors under way are counted together (unix(7)).
        """
        self._completer = None
        for worker in list(self.pool.workers.values()):
            if worker.serving and self._unheld_by(worker.id):
                if worker.channel.is_unread():
                    self._complete_later()
                else:
                    self.hand_out_to(worker)

    def _stop(self, listener: Listener) -> None:
        self.faults.end(listener)
        self._shut(listener)
        listener.error = None
        self._happened(listener, Happening.STOP)

    def _stopped_if_nobody_is_left(self, listener: Listener) -> None:
        # Nobody can come any more, and nobody is there: no need to wait for the workers' word.
        if listener.state is State.DRAINING and not self.counts(listener).active:
            self._happened(listener, Happening.DRAINED)

    def _withdraw(self, listeners: Sequence[Listener]) -> list[Order]:
        """Have the workers accept nobody; sessions go on."""
        openings: list[int] = []
        for listener in listeners:
            if (opening := self._openings.end(listener)) is not None:
                openings.append(opening)
                listener.retired.add(opening)
        orders = [
            self.pool.orders.give(partial(Retire, openings=tuple(batch)))
            for batch in batches(openings)
        ]
        for opening in openings:
            self._let_go(opening, ())
        return orders

    def _shut(self, listener: Listener) -> None:
        """Free the port; sessions go on in the workers."""
        if listener.socket is not None:
            close_listening(listener.socket)
            listener.socket = None
            self._openings.end(listener)

    def _fail(self, listener: Listener, reason: str) -> None:
        """Close what no worker can serve."""
        self._shut(listener)
        listener.error = ServeError(
            f"no worker can serve it: {reason}", help="mend that, and start the listener again"
        )
        self._happened(listener, Happening.REFUSED)

    def _let_go(self, opening: int, workers: Iterable[int]) -> None:
        """Note that ``workers`` have no sessions of it left; perhaps it has ended by that."""
        listener = self._openings.let_go(opening, workers)
        if listener is not None and not listener.ending:
            self._happened(listener, Happening.DRAINED)
            self._retire(listener)

    def _retire(self, listener: Listener) -> None:
        if listener.removed and not listener.ending:
            self.pool.free_slot(listener.slot)

    def _happened(self, listener: Listener, happening: Happening) -> None:
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
            self._events.publish("listener.failed", logging.ERROR, **fields)
        else:
            self._events.publish(f"listener.{state}", **fields)


def _has_settled(listener: Listener) -> bool:
    return listener.state is not State.STARTING

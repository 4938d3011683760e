"""Which worker serves which listener: what the workers are given, and what they say of it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from mtad.errors import ServeError
from mtad.ipc.messages import Close, Retire
from mtad.model.listener import Happening
from mtad.model.profile import Limits
from mtad.supervisor.events import Events
from mtad.supervisor.listener import Listener, batches, hand_outs, happened
from mtad.supervisor.openings import Openings
from mtad.supervisor.orders import Order
from mtad.supervisor.sockets import bound_endpoint, close_listening
from mtad.supervisor.workers import Pool, Worker

# How long after the grace a worker may take to end sessions; one that takes longer does not run.
_HANG_SECONDS = 5.0
# How long after a worker could not serve what others do it is asked again: the cause may be gone.
_AGAIN_SECONDS = 2.0


class Serving:
    """The sockets of ``listeners``, by name, in the hands of the workers of ``pool``: its Owner.

    A socket is handed out with an opening: a listener has another each time it is opened.
    """

    pool: Pool

    def __init__(self, listeners: Mapping[str, Listener], events: Events) -> None:
        self._listeners = listeners
        self._events = events
        self._openings = Openings()
        self._completer: asyncio.TimerHandle | None = None

    # What is done with a listener

    def begin(self, listener: Listener, sock: socket.socket) -> None:
        """Note that ``listener`` is open at ``sock``, which is to be handed out."""
        listener.socket, listener.bound, listener.error = sock, bound_endpoint(sock), None
        self._openings.begin(listener)

    def hand_out(self, listeners: Sequence[Listener]) -> None:
        """Give every worker the sockets of those that are open."""
        for message, descriptors in hand_outs(listeners):
            holders = self.pool.broadcast(message, descriptors)
            for place in message.places:
                self._openings.give(place.id, holders)

    def withdraw(self, listeners: Sequence[Listener]) -> list[Order]:
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

    def shut(self, listener: Listener) -> None:
        """Free the port; sessions go on in the workers."""
        if listener.socket is not None:
            close_listening(listener.socket)
            listener.socket = None
            self._openings.end(listener)

    def end_sessions(self, listeners: Sequence[Listener], grace: float) -> None:
        """Have the sessions of listeners that are shut end within ``grace`` seconds."""
        closed: list[int] = []
        for listener in listeners:
            listener.retired.clear()
            closed += listener.ending
        for batch in batches(closed):
            self.pool.broadcast(Close(tuple(batch), grace))
        if closed:
            self._expect_end(listeners, grace + _HANG_SECONDS)
        for opening in closed:
            self._let_go(opening, ())

    def retire(self, listener: Listener) -> None:
        """Have what was counted for a listener that is removed, and has ended, be history."""
        if listener.removed and not listener.ending:
            self.pool.free_slot(listener.slot)

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

    # What workers say

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
                happened(listener, Happening.SERVED, self._events)

    def drained(self, worker: int, openings: Iterable[int] | None) -> None:
        """Note that ``worker`` has no sessions of ``openings`` left; None: it is gone."""
        if openings is None:
            for listener in self._listeners.values():
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

    def _unheld_by(self, worker: int) -> list[Listener]:
        return [
            one
            for one in self._listeners.values()
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

    def _fail(self, listener: Listener, reason: str) -> None:
        """Close what no worker can serve."""
        self.shut(listener)
        listener.error = ServeError(
            f"no worker can serve it: {reason}", help="mend that, and start the listener again"
        )
        happened(listener, Happening.REFUSED, self._events)

    def _let_go(self, opening: int, workers: Iterable[int]) -> None:
        """Note that ``workers`` have no sessions of it left; perhaps it has ended by that."""
        listener = self._openings.let_go(opening, workers)
        if listener is not None and not listener.ending:
            happened(listener, Happening.DRAINED, self._events)
            self.retire(listener)

"""Which of many sockets can be read, or written: epoll(7) by itself, inside the loop's.

The loop's own readers do the same; to add one and to remove it costs a tenth of a short connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from select import EPOLLIN, EPOLLOUT, epoll

# A bounded share of each wake-up; the kernel tells of the others next time, before these.
_MOST_AT_ONCE = 64


class Poller:
    """Calls whoever can go on, in ``loop``, and again until they have.

    The reader is called first: before an error, or the end, it finds what came before that. Where
    there is none, the writer is told.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._epoll = epoll()
        self._callbacks: dict[int, tuple[Callable[[], None] | None, Callable[[], None] | None]] = {}
        loop.add_reader(self._epoll, self._ready)

    def watch(
        self,
        descriptor: int,
        readable: Callable[[], None] | None,
        writable: Callable[[], None] | None,
    ) -> None:
        """Call these from now on, in place of those before; with neither, forget it."""
        callbacks = self._callbacks
        mask = EPOLLIN * (readable is not None) | EPOLLOUT * (writable is not None)
        if not mask:
            self._epoll.unregister(descriptor)
            del callbacks[descriptor]
        else:
            change = self._epoll.modify if descriptor in callbacks else self._epoll.register
            change(descriptor, mask)
            callbacks[descriptor] = readable, writable

    def _ready(self) -> None:
        callbacks = self._callbacks
        for descriptor, events in self._epoll.poll(0, _MOST_AT_ONCE):
            watched = callbacks.get(descriptor)
            if watched is None:
                continue  # somebody who was told before has ended it
            readable, writable = watched
            if readable is not None and events != EPOLLOUT:
                readable()
            is_due = events & EPOLLOUT or readable is None
            if writable is not None and is_due and callbacks.get(descriptor) is watched:
                writable()

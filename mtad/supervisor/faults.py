"""Listeners that are closed for a while, or deaf: they listen, and nobody is accepted.

A rule may want that, or an operator. Sessions that are under way go on. When the time is over the
listener is as it was before; if an operator starts or stops it meanwhile, the fault ends then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtad.errors import ListenerError
from mtad.model.rules.values import Shutter
from mtad.supervisor.events import Events
from mtad.supervisor.listener import Fault, Lack, Listener
from mtad.supervisor.orders import Order

if TYPE_CHECKING:
    from mtad.supervisor.listeners import Listeners


class Faults:
    """The faults of all listeners."""

    def __init__(self, listeners: Listeners, events: Events) -> None:
        self._listeners = listeners
        self._events = events

    def act(self, listener: Listener, shutter: Shutter, by: str) -> None:
        """Do what a rule wants; of two faults the one that closes holds, of alike ones the later.

        A listener that is not open stays so.
        """
        lack = Lack.DEAF if shutter.deaf else Lack.CLOSED
        fault = listener.fault
        if fault is not None and fault.lack in (lack, Lack.CLOSED):
            if fault.lack is lack and fault.until < time.time() + shutter.seconds:
                self.begin(listener, lack, shutter.seconds, by)
        elif shutter.deaf and listener.opening is not None:
            self.deafen([listener], shutter.seconds, by)
        elif listener.socket is not None:
            self._listeners.close(listener)
            self.begin(listener, lack, shutter.seconds, by)

    def deafen(self, listeners: Sequence[Listener], seconds: float, by: str) -> list[Order]:
        """Have nobody accepted for ``seconds``: once the orders are carried out, nobody is.

        Raises:
            ListenerError: one of them is not open.
        """
        for listener in listeners:
            if listener.socket is None:
                raise ListenerError(
                    f"{listener.spec.name} is {listener.state}: only an open listener can be deaf",
                    help="start it first",
                )
        orders = self._listeners.deafen(listeners)
        for listener in listeners:
            self.begin(listener, Lack.DEAF, seconds, by)
        return orders

    def begin(self, listener: Listener, lack: Lack, seconds: float, by: str) -> None:
        """Note that a listener has a fault, which is over in ``seconds``."""
        if listener.fault is not None:
            listener.fault.timer.cancel()
        timer = asyncio.get_running_loop().call_later(seconds, self._listeners.start, [listener])
        listener.fault = Fault(lack, time.time() + seconds, by, timer)
        self._events.publish(
            "listener.fault",
            logging.WARNING,
            listener=listener.spec.name,
            fault=lack,
            seconds=seconds,
            by=by,
        )

    def end(self, listener: Listener) -> None:
        """Note that the fault of a listener, if it has one, is over."""
        if listener.fault is not None:
            listener.fault.timer.cancel()
            lack, listener.fault = listener.fault.lack, None
            self._events.publish("listener.fault_over", listener=listener.spec.name, fault=lack)

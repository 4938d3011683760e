"""What the workers are told of the fault rules, and what they ask: which of them fires.

A worker that was taken over can say that rules were hit which were not, as a client could by
hitting them. It closes no listener but one that it serves, and that a rule closes.
"""

from __future__ import annotations

import asyncio

from mtad.ipc.messages import Fired, SetRules, Weigh, Weighed
from mtad.model.rules.decision import choose
from mtad.model.rules.matching import is_for
from mtad.model.rules.values import Do, Rule
from mtad.supervisor.events import Events
from mtad.supervisor.listener import Listener
from mtad.supervisor.listeners import Listeners
from mtad.supervisor.orders import Order, Orders
from mtad.supervisor.rules import Rules

# Of what a worker is told before it serves: nobody waits for it.
_FIRST = 0


class Judge:
    """The rules as the workers have them; ``orders`` goes to those that serve."""

    orders: Orders

    def __init__(self, listeners: Listeners, events: Events) -> None:
        self.rules = Rules(events, self.renew)
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._told: tuple[Rule, ...] = ()
        self._order = Order(_FIRST, frozenset())
        self._due: asyncio.Handle | None = None

    def first_order(self) -> SetRules:
        """Return what a worker is told before it gets a socket."""
        return SetRules(_FIRST, self.rules.in_force())

    def renew(self) -> None:
        """Tell the workers, soon, and once for all changes until then."""
        if self._due is None:
            self._due = self._loop.call_soon(self.tell)

    def tell(self) -> None:
        """Tell the workers now what has changed."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        rules = self.rules.in_force()
        if rules != self._told:
            self._told = rules
            self._order = self.orders.give(lambda ticket: SetRules(ticket, rules))

    async def notes(self) -> list[str]:
        """Return what is to be said of workers that have not taken the rules of now in time.

        Whoever connects to another after that meets these rules.
        """
        self.tell()
        return [
            f"worker {worker} has not said yet that it has these rules"
            for worker in await self.orders.late(self._order)
        ]

    def weigh(self, worker: int, message: Weigh) -> Weighed:
        """Answer a question of ``worker``: each has one answer."""
        rule, draw = self.rules.weigh(message.hits)
        if rule is None:
            return Weighed(message.ticket, "", 0.0)
        if _may_shut(rule.do):
            self._shut(rule, draw, self._listeners.serving.served_by(worker, message.opening))
        return Weighed(message.ticket, rule.name, draw)

    def note(self, message: Fired) -> None:
        """Count what has fired without a question."""
        for name, number in message.counts.items():
            self.rules.ledger.fired(name, number)

    def _shut(self, rule: Rule, draw: float, listener: Listener | None) -> None:
        shutter = choose(rule.do, draw).listener
        if shutter is None or listener is None:
            return
        if is_for(rule, listener.spec.name, listener.spec.profile_name):
            self._listeners.faults.act(listener, shutter, f"rule {rule.name}")


def _may_shut(do: Do) -> bool:
    return do.listener is not None or any(_may_shut(choice.do) for choice in do.one_of)

"""Asking the supervisor whether a session may begin, where limits hold for all workers together."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from mtad.ipc.messages import Admit, Admitted, Left

Answer = Callable[[str], None]


class Admissions:
    """The questions of this worker. ``send`` sends a message to the supervisor.

    Needed only where ``limits.sessions`` or ``limits.sessions_per_peer`` is not 0.
    """

    def __init__(self, send: Callable[[Admit | Left], None]) -> None:
        self._send = send
        self._serial = itertools.count()
        self._asked: dict[int, Answer] = {}

    def ask(self, opening: int, peer: str, answer: Answer) -> int:
        """Ask for a session of ``peer`` (any text that tells peers apart, at most 64 characters).

        ``answer`` is called later with "" if it may begin, else with the name of the limit that
        is in the way. Return the ticket, for ``leave``.
        """
        ticket = next(self._serial)
        self._asked[ticket] = answer
        self._send(Admit(ticket, opening, peer))
        return ticket

    def leave(self, ticket: int) -> None:
        """Say that the session has ended, be it before the answer; it is not called any more.

        A ticket that was refused need not be given back.
        """
        self._asked.pop(ticket, None)
        self._send(Left(ticket))

    def answered(self, message: Admitted) -> None:
        """Pass the supervisor's answer on to whoever waits for it."""
        answer = self._asked.pop(message.ticket, None)
        if answer is not None:
            answer(message.refused_by)

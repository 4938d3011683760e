"""Asking the supervisor which rule fires, where that is counted for all workers together."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtad.ipc.messages import MAX_HITS, Fired, Hit, Weigh, Weighed
from mtad.model.rules.judge import Answer, Asked


class Questions:
    """The questions of this worker. ``send`` sends a message to the supervisor.

    What has fired without a question is told once for each turn of the loop, and before a client
    can have seen it.
    """

    def __init__(
        self, send: Callable[[Weigh | Fired], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._send = send
        self._loop = loop
        self._serial = itertools.count()
        self._asked: dict[int, tuple[int, Sequence[Asked], Answer]] = {}
        self._fired: Counter[str] = Counter()

    def ask(self, opening: int, hits: Sequence[Asked], answer: Answer) -> None:
        """See Judge.weigh. What does not fit into one question is asked if none of it fires."""
        now, later = hits[:MAX_HITS], hits[MAX_HITS:]
        ticket = next(self._serial)
        self._asked[ticket] = opening, later, answer
        self._send(Weigh(ticket, opening, tuple(Hit(*hit) for hit in now)))

    def answered(self, message: Weighed) -> None:
        """Pass the supervisor's answer on to whoever waits for it."""
        opening, later, answer = self._asked.pop(message.ticket)
        if later and not message.rule:
            self.ask(opening, later, answer)
        else:
            answer(message.rule, message.draw)

    def note(self, rule: str) -> None:
        """Count a rule that has fired without a question."""
        if not self._fired:
            self._loop.call_soon(self.tell)
        self._fired[rule] += 1
        if len(self._fired) == MAX_HITS:
            self.tell()

    def tell(self) -> None:
        """Tell the supervisor what has been counted."""
        if self._fired:
            self._send(Fired(dict(self._fired)))
            self._fired.clear()


@dataclass(frozen=True, slots=True)
class OpeningsJudge:
    """The judge (mtad.model.rules.judge) of the sessions of one opening."""

    questions: Questions
    opening: int

    def weigh(self, hits: Sequence[Asked], answer: Answer) -> None:
        """See Judge."""
        self.questions.ask(self.opening, hits, answer)

    def fired(self, rule: str) -> None:
        """See Judge."""
        self.questions.note(rule)

    def tell(self) -> None:
        """See Judge."""
        self.questions.tell()

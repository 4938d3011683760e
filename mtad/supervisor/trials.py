"""Whether the workers can have a handler: the process that holds the capability imports none."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import msgspec

from mtad.ipc.messages import Tried, Try

_ANSWER_SECONDS = 2.0


class Trials:
    """What the workers are asked. ``broadcast`` sends to all that serve, and returns their ids."""

    def __init__(self, broadcast: Callable[[msgspec.Struct], set[int]]) -> None:
        self._broadcast = broadcast
        self._serial = itertools.count()
        self._asked: dict[int, tuple[set[int], asyncio.Future[str]]] = {}

    async def objection(self, handler: str) -> str:
        """Return why every worker refuses ``handler``; "": one can have it, or says nothing."""
        ticket = next(self._serial)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asked = self._broadcast(Try(ticket, handler))
        if not asked:
            return ""
        self._asked[ticket] = asked, answer
        try:
            return await asyncio.wait_for(answer, _ANSWER_SECONDS)
        except TimeoutError:
            return ""
        finally:
            del self._asked[ticket]

    def answered(self, worker: int, message: Tried) -> None:
        """Note the answer of ``worker``: one that was taken over cannot object for the others."""
        asked, answer = self._asked.get(message.ticket, (set(), None))
        if answer is not None and worker in asked:
            asked.remove(worker)
            if not answer.done() and not (message.reason and asked):
                answer.set_result(message.reason)

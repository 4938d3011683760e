"""A timer that is never early."""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable


class Alarm:
    """Calls ``then`` when ``seconds`` have passed, by a loop whose timers may be early.

    A loop counts from its turn's beginning, and uvloop in milliseconds.
    """

    __slots__ = ("_due", "_loop", "_then", "_timer")

    def __init__(self, loop: AbstractEventLoop, seconds: float, then: Callable[[], None]) -> None:
        self._loop = loop
        self._due = time.monotonic() + seconds
        self._then = then
        self._timer: TimerHandle = loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        seconds = self._due - time.monotonic()
        if seconds > 0:
            self._timer = self._loop.call_later(seconds, self._ring)
        else:
            self._then()

    def cancel(self) -> None:
        """Call nothing."""
        self._timer.cancel()

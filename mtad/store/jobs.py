"""A thread that does for the loop what may block, one thing after the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from mtad.errors import StoreError
from mtad.store.database import error_of

Work = Callable[[], None]
Then = Callable[[StoreError | None], None]


class Jobs:
    """``place`` is what the errors of a work are about."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[tuple[Work, Then] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="mtad-store", daemon=True).start()

    def put(self, work: Work, then: Then) -> None:
        """Have ``work`` done in the thread, and ``then`` called on the loop with its error."""
        self._queue.put((work, then))

    def end(self) -> None:
        """End the thread when everything is done."""
        self._queue.put(None)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            work, then = job
            error = None
            try:
                work()
            except Exception as found:
                error = error_of(found, self._place)
            with suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(then, error)

"""Whether a worker can keep mail, or why not: in the log, and for who asks for the status."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mtad.errors import StoreError
from mtad.log import event
from mtad.store.bodies import Content

_log = logging.getLogger("mtad.store")

# How long after a file could not be written it is tried whether one of so many octets can be:
# more than a row takes.
_AGAIN_SECONDS = 5.0
_OCTETS = 2**20


class Health:
    """``reason`` is why nothing can be kept; "": it can. ``on_state`` is told of each change.

    What is too long for a row, and so needs a file in the directory ``bodies``, may fail alone.
    """

    def __init__(self, on_state: Callable[[str], None], bodies: str) -> None:
        self.reason = ""
        self._bodies = bodies
        self._on_state = on_state
        self._loop = asyncio.get_running_loop()
        self._file_fault = ""  # why what is longer than a row takes is not kept
        self._file_timer: asyncio.TimerHandle | None = None
        self._told = ""
        self._lost_records = 0

    def failed(self, error: StoreError) -> None:
        """Say that nothing can be kept."""
        self._tell(str(error))

    def kept(self, *, files: bool) -> None:
        """Say that something has been kept, ``files`` among it or not."""
        if self.reason or files:
            self._file_fault = ""
        self._tell("")

    def file_failed(self, error: StoreError) -> None:
        """Say that a file cannot be written."""
        self._file_fault = str(error)
        if self._file_timer is not None:
            self._file_timer.cancel()
        self._file_timer = self._loop.call_later(_AGAIN_SECONDS, self._try_a_file)
        self._tell(self.reason)

    def lost_record(self) -> None:
        """Count what is thrown away, to be told of when something is kept again."""
        self._lost_records += 1

    def _try_a_file(self) -> None:
        content = Content(self._bodies, lambda _: None)
        try:
            content.write(bytes(_OCTETS))
        except StoreError:
            self._file_timer = self._loop.call_later(_AGAIN_SECONDS, self._try_a_file)
        else:
            content.discard()
            self._file_fault = ""
            self._tell(self.reason)

    def _tell(self, reason: str) -> None:
        self.reason = reason
        fault = reason or self._file_fault
        if fault == self._told:
            return
        self._told = fault
        if fault:
            event(_log, logging.ERROR, "store.failed", reason=fault)
        else:
            lost, self._lost_records = self._lost_records, 0
            event(_log, logging.WARNING, "store.works", records_lost=lost)
        self._on_state(fault)

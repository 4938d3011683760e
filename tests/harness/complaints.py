"""What must not be said: errors in the log, and exceptions that nobody has caught."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Complaints(logging.Handler):
    """Texts of everything that is logged as an error, with the tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text."""
        self.texts.append(logging.Formatter().format(record))


@contextmanager
def complaints() -> Iterator[list[str]]:
    """Collect what the daemon and the loop complain of, while the block runs."""
    handler = Complaints()
    logs = [logging.getLogger(name) for name in ("mtad", "asyncio")]
    for log in logs:
        log.addHandler(handler)
    try:
        yield handler.texts
    finally:
        for log in logs:
            log.removeHandler(handler)

"""Structured logs: one line an event, for people on a terminal and as JSON for everything else.

An event has a name (``listener.started``) and fields. A process writes to its standard output;
for the daemon's processes that is the log, wherever it goes. Nothing that came from outside can
forge a line or move a terminal's cursor: both forms escape control characters, and an event is
never longer than one write that several processes can make to one pipe without mixing.
"""

from __future__ import annotations

import json
import logging
import os
import select
import stat
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Form = Literal["auto", "console", "json"]

LEVELS: dict[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

MAX_LINE = select.PIPE_BUF
"""An event's octets with the final newline: a pipe takes so many whole, or none (pipe(7))."""

_STDOUT = 1
# How many characters of a value remain in an event that is too long: as many as fit.
_SHORTENED = (1_000, 300, 100, 30, 10)


def event(
    log: logging.Logger,
    level: int,
    name: str,
    *,
    exc_info: BaseException | None = None,
    **fields: Any,
) -> None:
    """Log the event ``name`` with ``fields`` (values that JSON can hold, or their str())."""
    if log.isEnabledFor(level):
        log.log(level, "%s", name, extra={"fields": fields}, exc_info=exc_info)


def printable(text: str) -> str:
    """Return ``text`` with everything escaped that is not plainly visible.

    Control characters, line and paragraph separators, bidirectional overrides and lone surrogates
    become Python escapes; a backslash is doubled, so that the result is unambiguous.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(c if c.isprintable() and c != "\\" else _escape(c) for c in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


class _Formatter(logging.Formatter):
    """One event as text, of fewer than MAX_LINE octets."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        text = self._line(record, record.getMessage(), fields, trace)
        for limit in _SHORTENED:
            if len(text) < MAX_LINE and len(text.encode("utf-8", "backslashreplace")) < MAX_LINE:
                break
            shorter = {key: _shorten(value, limit) for key, value in fields.items()}
            message = _shorten(record.getMessage(), limit)
            text = self._line(record, message, shorter, _shorten(trace, limit))
        return text

    @abstractmethod
    def _line(
        self, record: logging.LogRecord, message: str, fields: Mapping[str, Any], trace: str
    ) -> str: ...


class _JsonFormatter(_Formatter):
    """``{"ts": …, "level": …, "event": …, "logger": …, "pid": …, fields…}``."""

    def _line(
        self, record: logging.LogRecord, message: str, fields: Mapping[str, Any], trace: str
    ) -> str:
        line = {
            "ts": _timestamp(record.created),
            "level": record.levelname.lower(),
            "event": message,
            "logger": record.name,
            "pid": record.process,
            **fields,
        }
        if trace:
            line["traceback"] = trace
        return json.dumps(line, default=str, ensure_ascii=True)


class _ConsoleFormatter(_Formatter):
    """``12:00:01.042 info    listener.started name=mx endpoint=*:25``."""

    def _line(
        self, record: logging.LogRecord, message: str, fields: Mapping[str, Any], trace: str
    ) -> str:
        clock = _timestamp(record.created)[11:23]
        words = [f"{key}={_value(value)}" for key, value in fields.items()]
        head = f"{clock} {record.levelname.lower():7} {printable(message)}"
        lines = ["    " + printable(line) for line in trace.splitlines()]
        return "\n".join([" ".join([head, *words]), *lines])


def _shorten(value: Any, limit: int) -> Any:
    """Return a value whose text is longer than ``limit`` characters as its begin and end."""
    text = str(value)
    if len(text) <= limit:
        return value
    return f"{text[: limit // 2]} … {text[-limit // 2 :]}"


def _value(value: object) -> str:
    text = printable(str(value))
    if text and not set(text) & set(' "='):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _timestamp(seconds: float) -> str:
    """RFC 3339, UTC, microseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1_000_000):06d}Z"


class _StdoutHandler(logging.Handler):
    """Writes whole lines to standard output, and never waits for whoever should read it.

    A reader that stopped reading (a paused pager, a full pipe) must not stop the mail: lines that
    do not fit are left out and counted, and the count is written when there is room again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._poll = select.poll()
        self._poll.register(_STDOUT, select.POLLOUT)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.format(record))
        except OSError:
            self._lost += 1  # no room, no reader, no space on the disk: nowhere to say so
        except Exception:
            self.handleError(record)

    def _write(self, line: str) -> None:
        if self._lost:
            lost = logging.LogRecord("mtad.log", logging.WARNING, "", 0, "log.lost", None, None)
            lost.fields = {"lines": self._lost}
            self._write_line(self.format(lost))
            self._lost = 0
        self._write_line(line)

    def _write_line(self, line: str) -> None:
        # A pipe does not block (see configure). Elsewhere nobody else takes the room meanwhile.
        if not self._poll.poll(0):
            raise BlockingIOError
        os.write(_STDOUT, line.encode("utf-8", "backslashreplace") + b"\n")


def configure(form: Form = "auto", level: str = "info") -> Form:
    """Send all log records of this process to its standard output; return the form taken.

    ``auto`` is ``console`` on a terminal and ``json`` elsewhere.
    """
    if form == "auto":
        form = "console" if os.isatty(_STDOUT) else "json"
    if stat.S_ISFIFO(os.fstat(_STDOUT).st_mode):
        # Room that poll(2) saw may be gone: supervisor and workers write to one pipe.
        os.set_blocking(_STDOUT, False)
    handler = _StdoutHandler()
    handler.setFormatter(_ConsoleFormatter() if form == "console" else _JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)
    for chatty in ("asyncio", "mail"):  # aiosmtpd tells of every command at info
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    # What no line of ours shows need not be found out for each ("Optimization" in the HOWTO).
    logging.logThreads = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001
    return form


def set_level(level: str) -> None:
    """Log events of ``level`` and above (a key of LEVELS)."""
    logging.getLogger().setLevel(LEVELS[level])


def write_to(descriptors: Iterable[int]) -> None:
    """Have standard output, and so the log, go to a file that is open as one of ``descriptors``.

    They are closed. None of them, when this process may open no more: all stays as it was.
    """
    for descriptor in descriptors:
        os.dup2(descriptor, _STDOUT)
        os.close(descriptor)

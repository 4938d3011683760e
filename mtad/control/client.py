"""A small synchronous client of the control socket, for mtactl and for tests."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from mtad.control import wire
from mtad.control.peer import caller_of
from mtad.errors import CommandError, UnavailableError

T = TypeVar("T")

__tracebackhide__ = True
"""pytest shows the line of the test that has called, and not those here."""


class ControlClient:
    """One connection to the daemon; calls are answered in order.

    ``timeout`` is how long an answer may take, in seconds (None: for ever); ``path`` is that of
    the control socket.

    Raises:
        UnavailableError: no daemon answers at ``path``.
    """

    def __init__(self, path: Path, *, timeout: float | None = None) -> None:
        self.path = path
        self._last_id = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(os.fspath(path))
        except OSError as error:
            self._socket.close()
            raise unavailable(path, error) from error
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._lines.close()
        self._socket.close()

    @property
    def peer(self) -> int:
        """The process that answers, as the kernel knows it (SO_PEERCRED): 0 for one unseen here."""
        return caller_of(self._socket).pid

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Have ``method`` (``listener.stop``) carried out, and return its result.

        Raises:
            CommandError: it is refused.
            UnavailableError: the daemon ended, or took too long.
        """
        self._last_id += 1
        try:
            self._socket.sendall(wire.request_line(self._last_id, method, params))
        except (BrokenPipeError, ConnectionResetError):
            pass  # we were sent away; why, is there to be read
        except OSError as error:
            raise unavailable(self.path, error) from error
        return result_of(self.path, self._read_line())

    def stream(self, method: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Call ``method``; return its items, as they come, until the daemon ends the connection.

        It is subscribed when this returns. Raises like ``call``, also where a stream ends before.
        """
        self.call(method, **params)
        return self._items()

    def _items(self) -> Iterator[dict[str, Any]]:
        while line := self._read_line():
            told = msgspec.json.decode(line)
            if "error" in told:
                raise _refusal(told["error"])
            yield told["params"]

    def _read_line(self) -> bytes:
        """Return a line, or nothing at the end of the connection."""
        try:
            line = self._lines.readline()
        except ConnectionResetError:
            return b""
        except OSError as error:
            raise unavailable(self.path, error) from error
        return line if line.endswith(b"\n") else b""


def result_of(path: Path, line: bytes) -> dict[str, Any]:
    """Return the result that ``line``, an answer of the daemon at ``path``, has.

    Raises:
        CommandError: the answer is a refusal.
        UnavailableError: there is no line: the connection was ended.
    """
    if not line:
        raise UnavailableError(
            f"the daemon at {path} ended the connection", help="its log says why"
        )
    answer = msgspec.json.decode(line)
    if "error" in answer:
        raise _refusal(answer["error"])
    result: dict[str, Any] = answer["result"]
    return result


def _refusal(told: Mapping[str, Any]) -> CommandError:
    hint = told.get("data", {}).get("help", "")
    return CommandError(told["message"], code=told["code"], help=hint)


def unavailable(path: Path, error: OSError) -> UnavailableError:
    """Return what ``error`` means for somebody who wanted to talk to the daemon."""
    number = error.errno or 0
    reason, hint = f"the daemon at {path} does not answer: {_words(error)}", ""
    if number == errno.ENOENT:
        reason = f"there is no control socket {path}"
        hint = "is the daemon running? another socket is given with --socket or MTAD_SOCKET"
    elif number == errno.EACCES:
        reason = f"{_user(os.geteuid())} may not connect to {path}{_owner(path)}"
        hint = "run it as root or as the daemon's user, or be named in control.operate or .observe"
    elif number == errno.ECONNREFUSED:
        reason = f"nobody listens on {path}"
        hint = (
            "the daemon that made it has died; start it again"
            if path.is_socket()
            else "it is no socket"
        )
    return UnavailableError(reason, errno=number, help=hint)


def _words(error: OSError) -> str:
    return error.strerror or str(error) or "it took too long"  # asyncio's TimeoutError is silent


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _owner(path: Path) -> str:
    """Return whose ``path`` is, or whose its directory is where that cannot be looked into."""
    for place in (path, path.parent):
        try:
            found = place.stat()
        except OSError:
            continue
        try:
            group = grp.getgrgid(found.st_gid).gr_name
        except KeyError:
            group = str(found.st_gid)
        return (
            f" ({place} belongs to {_user(found.st_uid)}, group {group}, "
            f"mode {stat.S_IMODE(found.st_mode):04o})"
        )
    return ""


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that nothing suspends, since its calls block."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("a call that blocks has been suspended")

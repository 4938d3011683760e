"""A daemon of a test run's own: as the present user, on ports that are free, gone afterwards."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from mtad.errors import UnavailableError
from mtad.testing.config import Config, merged
from mtad.testing.synchronous import Mtad

_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_LONGEST_PATH = 107  # octets of a unix socket's path (unix(7))
_READY = "READY=1"


class Daemon:
    """A daemon while the block runs: ``with Daemon() as daemon``.

    ``config`` is laid over a default: one listener, ``mx``, on a free port of 127.0.0.1, one
    worker, and a store in a directory that goes with the daemon. It ends when the thread that
    started it does, however that ends.

    Raises:
        ConfigError: the configuration is not YAML.
        UnavailableError: it did not become ready; with the end of its log.
    """

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or {}

    def __enter__(self) -> Daemon:
        self._temporary = tempfile.TemporaryDirectory(prefix="mtad-", dir=_short_place())
        self.directory = Path(self._temporary.name)
        self._log = self.directory / "log"
        try:
            self._start(merged(self.directory, self._config))
        except BaseException:
            self._temporary.cleanup()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._end()
        finally:
            self._temporary.cleanup()

    @property
    def log(self) -> str:
        """What the daemon has logged, one JSON object a line."""
        return self._log.read_text(errors="replace")

    def log_tail(self, lines: int = 20) -> str:
        """Return the last ``lines`` of the log."""
        return "\n".join(self.log.splitlines()[-lines:])

    @cached_property
    def client(self) -> Mtad:
        """A client that sees all that ever came."""
        return Mtad(self.socket)

    @property
    def host(self) -> str:
        """The address of the listener ``mx``."""
        return self.client.host

    @property
    def port(self) -> int:
        """The port of the listener ``mx``; it stays the same if that is stopped and started."""
        return self.client.port

    def _start(self, config: dict[str, Any]) -> None:
        """Start it; return when it is ready: it says so itself (sd_notify(3))."""
        self.socket = Path(config["control"]["socket"])
        file = self.directory / "mtad.yaml"
        file.write_text(json.dumps(config, default=str, ensure_ascii=False, indent=2))
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications,
            self._log.open("ab") as log,
        ):
            notifications.bind(os.fspath(self.directory / "notify"))
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", "mtad.testing.child", str(os.getpid()), str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": os.fspath(self.directory / "notify")},
                start_new_session=True,  # Ctrl-C is for the tests; what it ends, they end
            )
            try:
                self._wait_ready(notifications)
            except BaseException:
                self._end()
                raise

    def _wait_ready(self, notifications: socket.socket) -> None:
        said = "it has said nothing"
        deadline = time.monotonic() + _START_SECONDS
        ended = os.pidfd_open(self.process.pid)
        poller = select.poll()
        poller.register(notifications, select.POLLIN)
        poller.register(ended, select.POLLIN)
        try:
            while (left := deadline - time.monotonic()) > 0:
                readable = [number for number, _ in poller.poll(left * 1000)]
                if notifications.fileno() in readable:
                    lines = notifications.recv(65_536).decode().splitlines()
                    if _READY in lines:
                        return
                    said = next((line for line in lines if line.startswith("STATUS=")), said)
                elif readable:
                    raise self._failure(f"it ended with status {self.process.wait()}")
        finally:
            os.close(ended)
        raise self._failure(f"not ready after {_START_SECONDS:g} s: {said}")

    def _failure(self, reason: str) -> UnavailableError:
        return UnavailableError(f"the daemon did not start: {reason}\n{self.log_tail()}")

    def _end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                try:
                    self.process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
            return


def _short_place() -> str | None:
    """Return where a directory with sockets can be; None: where temporary files are anyway."""
    longest = os.path.join(tempfile.gettempdir(), "mtad-12345678", "control")  # noqa: PTH118
    return None if len(os.fsencode(longest)) <= _LONGEST_PATH else "/tmp"  # noqa: S108

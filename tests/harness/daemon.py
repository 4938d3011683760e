"""The real daemon as an object: started as a user would, spoken to as a user would."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.mail_db import kept
from mtad.control.client import ControlClient
from mtad.errors import UnavailableError
from mtad.model import ids

PROGRAMS = Path(sys.executable).parent
"""Where `mtad` and `mtactl` of this environment are."""

_PATIENCE = 15.0


class Daemon:
    """A daemon of its own configuration and directories.

    ``prefix`` is a command that runs it (``ip netns exec NAME``, ``setpriv …``); ``files`` come
    after the configuration that the tests make.
    """

    def __init__(
        self,
        directory: Path,
        config: str,
        *,
        prefix: Sequence[str] = (),
        files: Sequence[Path] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.socket = directory / "run" / "control.sock"
        self.store = directory / "store"
        self.log = directory / "log.json"
        self.config = directory / "mtad.yaml"
        self.config.write_text(config)
        self._command = [*prefix, str(PROGRAMS / "mtad"), "run", str(self.config), *map(str, files)]
        self._environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes]

    def start(self) -> Daemon:
        """Start it; return without waiting for anything."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        return self

    def wait_ready(self, seconds: float = _PATIENCE) -> Daemon:
        """Return when the daemon says that it is; AssertionError with the log otherwise."""
        deadline = time.monotonic() + seconds
        answer: Any = "nobody answers"
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                answer = self.call("ready", wait=max(deadline - time.monotonic(), 0.0))
            except UnavailableError:  # not yet
                time.sleep(0.005)
                continue
            if answer["ok"]:
                return self
        raise AssertionError(f"{answer}\n{self.log.read_text()}")

    def mtactl(self, *words: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run mtactl; ``user`` runs it as somebody else."""
        prefix = ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"] if user else []
        command = [*prefix, str(PROGRAMS / "mtactl"), "--socket", str(self.socket), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def call(self, method: str, **params: Any) -> Any:
        """Call a control command over a connection of its own; return its result."""
        with ControlClient(self.socket) as client:
            return client.call(method, **params)

    def port(self, name: str = "mx") -> int:
        """Return the port that a listener has."""
        bound: str = self.call("listener.show", name=name)["listener"]["bound"]
        return int(bound.rpartition(":")[2])

    def events(self) -> list[dict[str, Any]]:
        """Return what the log has so far, one object a line; lines that are no JSON are errors."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def messages(self) -> list[bytes]:
        """Return every captured message, in the order of arrival."""
        return [message.content for message in kept(self.store)]

    def envelopes(self) -> list[dict[str, Any]]:
        """Return every captured envelope, in the order of arrival."""
        return [
            {"id": ids.encode(one.id), "size": one.size, **one.envelope} for one in kept(self.store)
        ]

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return [worker["pid"] for worker in self.call("workers")["workers"]]

    def stop(self, number: int = signal.SIGTERM, seconds: float = _PATIENCE) -> int:
        """Send a signal, wait for the end, return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(self, *_: object) -> None:
        for patience in (0.5, 5):  # the second SIGTERM waits for no session
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(patience)
        self._end_group()

    def _end_group(self, seconds: float = 5) -> None:
        """Return when nothing is left that was started: not what a prefix (strace) leaves behind.

        What takes too long is killed.
        """
        deadline = time.monotonic() + seconds
        with suppress(ProcessLookupError):
            while True:
                self.process.poll()
                os.killpg(self.process.pid, 0 if time.monotonic() < deadline else signal.SIGKILL)
                time.sleep(0.005)


def config(
    directory: Path,
    *,
    listen: str = "127.0.0.1:0",
    capabilities: str = "cap_net_bind_service+ep",
    user: str | None = "ecuser",
    workers: int = 1,
    extra: str = "",
) -> str:
    """Return a configuration whose every path is below ``directory``."""
    security = (
        f"  user: {user}\n  capabilities: {capabilities!r}\n"
        if user is not None
        else "  user: null\n"
    )
    return (
        f"security:\n{security}"
        f"listeners:\n  mx:\n    listen: {listen!r}\n"
        f"control:\n  socket: {directory}/run/control.sock\n"
        f"store:\n  directory: {directory}/store\n"
        f"pid_file: {directory}/run/mtad.pid\n"
        f"workers: {workers}\n"
        f"drain: 5\n"
        f"{extra}"
    )


@contextmanager
def home() -> Iterator[Path]:
    """Yield a directory that any user can pass through, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="mtad-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def send(
    port: int, body: bytes = b"Subject: test\r\n\r\nhello\r\n", host: str = "127.0.0.1"
) -> None:
    """Deliver one message with smtplib."""
    with smtplib.SMTP(host, port, timeout=_PATIENCE) as client:
        client.sendmail("sender@example.org", ["rcpt@example.com"], body)


def until(condition: Any, seconds: float = _PATIENCE) -> Any:
    """Return the first true value of ``condition()``; AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.005)
    return value


def refuses(host: str, port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as client:
        return client.connect_ex((host, port)) != 0


def available(path: Path) -> bool:
    """Whether a daemon answers at the control socket ``path``."""
    try:
        with ControlClient(path) as client:
            client.call("pid")
    except UnavailableError:
        return False
    return True

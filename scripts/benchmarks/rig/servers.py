"""The servers that are measured: mtad, stock aiosmtpd, Postfix's smtp-sink."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import yaml

from rig import postfix, proc

PROGRAMS = Path(sys.executable).parent
STOCK = Path(__file__).with_name("stock.py")
STARTED_WITHIN = 15.0


@dataclass(frozen=True)
class Keep:
    """How mtad keeps mail, for ever, and in which directory, if that is there before."""

    durability: str = "fsync"
    transcripts: str = "none"
    store: Path | None = None


@dataclass(frozen=True)
class Server:
    """A server and the port it will have.

    ``workers``, ``handler``, an aiosmtpd handler, and ``rules``, the stanza of that name, are for
    mtad, ``uvloop`` for aiosmtpd; with ``keep`` mtad keeps what it gets, and aiosmtpd does, in a
    Maildir.
    """

    name: str
    port: int
    program: str
    workers: int = 1
    uvloop: bool = False
    handler: str = ""
    keep: Keep | None = None
    rules: Mapping[str, object] = field(default_factory=dict)

    def command(self, home: Path, certificate: tuple[Path, Path] | None) -> list[str | Path]:
        """Return how it is started; ``home`` is a directory of its own."""
        if self.program == "smtp-sink":
            to = f"127.0.0.1:{self.port}"
            return [postfix.program("smtp-sink"), "-u", "ecuser", "-m", "15000", to, "500"]
        if self.program == "aiosmtpd":
            loop = ["--uvloop"] if self.uvloop else []
            tls = ["--tls", *map(str, certificate)] if certificate else []
            mailbox = ["--mailbox", str(home / "mailbox")] if self.keep else []
            return [sys.executable, STOCK, str(self.port), *loop, *tls, *mailbox]
        config = home / "mtad.yaml"
        config.write_text(yaml.safe_dump(mtad_config(self, home, certificate)))
        return [PROGRAMS / "mtad", "run", config]


SERVERS = (
    Server("smtp-sink", 2501, "smtp-sink"),
    Server("aiosmtpd", 2502, "aiosmtpd"),
    Server("aiosmtpd, uvloop", 2503, "aiosmtpd", uvloop=True),
    Server("mtad", 2504, "mtad"),
    Server("mtad, 2 workers", 2505, "mtad", workers=2),
    Server("mtad, handler", 2506, "mtad", handler="aiosmtpd.handlers:Sink"),
)


def named(name: str) -> Server:
    return next(server for server in SERVERS if server.name == name)


def mtad_config(
    server: Server, home: Path, certificate: tuple[Path, Path] | None
) -> dict[str, object]:
    keep = server.keep or Keep()
    profile: dict[str, object] = {"hostname": "mx.example", "tls": "off"}
    profile |= {"transcripts": keep.transcripts} if server.keep else {"store": "discard"}
    if server.handler:
        profile["handler"] = server.handler
    if certificate:
        pair = {"certificate": str(certificate[0]), "key": str(certificate[1])}
        profile["tls"] = {"certificates": [pair]}
    return {
        "security": {"user": "ecuser", "capabilities": ""},
        "listeners": {"mx": {"listen": f"127.0.0.1:{server.port}"}},
        "profiles": {"default": profile},
        "control": {"socket": str(control_socket(home))},
        "store": {
            "directory": str(keep.store or home / "store"),
            "durability": keep.durability,
            "retention": {"age": 0, "size": 0},
        },
        "workers": server.workers,
        "pid_file": None,
        "rules": dict(server.rules),
    }


def control_socket(home: Path) -> Path:
    return home / "run" / "control.sock"


class StartError(Exception):
    """A server ended, or did not greet in time."""


class Running:
    """A server that has greeted; stopped at the end of the with statement. Raises StartError.

    ``took`` is how many seconds its start took, to the first greeting.
    """

    def __init__(
        self, server: Server, directory: Path, certificate: tuple[Path, Path] | None = None
    ) -> None:
        self.server = server
        home = directory / server.name.replace(" ", "")
        self.control = control_socket(home)
        home.mkdir(exist_ok=True)
        home.chmod(0o755)
        command = server.command(home, certificate)
        with (home / "output").open("w") as output:
            start = time.perf_counter()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=postfix.ENVIRONMENT if server.program == "smtp-sink" else None,
            )
        while not self._greets():
            if self._process.poll() is not None or time.perf_counter() > start + STARTED_WITHIN:
                self._stop()
                raise StartError(f"it did not start: {(home / 'output').read_text()[-2000:]}")
            time.sleep(0.001)
        self.took = time.perf_counter() - start
        while len(self.serving()) < server.workers:
            time.sleep(0.01)

    def pids(self) -> list[int]:
        """Return all its processes."""
        return proc.tree(self._process.pid)

    def serving(self) -> list[int]:
        """Return those that serve sessions: all, or mtad's workers."""
        pids = self.pids()
        return proc.of_module(pids, "mtad.worker") if self.server.program == "mtad" else pids

    def archive(self) -> list[int]:
        """Return those that answer questions about what is kept: mtad's archive."""
        return proc.of_module(self.pids(), "mtad.archive")

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.server.port), timeout=5) as client:
                return client.recv(100).startswith(b"220")
        except OSError:
            return False

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()


def raise_open_files() -> int:
    """Allow as many open files as the hard limit has, for us and what we start; return that."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard

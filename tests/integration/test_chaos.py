"""Everything at once, by a seed: afterwards daemon and kernel agree, and nothing has leaked."""

from __future__ import annotations

import os
import random
import signal
import smtplib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import Daemon, refuses, send, until
from harness.descriptors import opened

from mtad.control.client import ControlClient
from mtad.errors import CommandError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
    pytest.mark.timeout(180),
]

Start = Callable[..., Daemon]

SECONDS = 15.0
OPERATORS = 8
SENDERS = 4
WORKERS = 2
HOSTS = [f"127.0.0.{host}" for host in range(1, 7)]
ADDED = [f"added{number}" for number in range(4)]
# What a command is refused for when others work on the same listeners, and nothing else.
EXPECTED = ("no listener is called", "is called", "cannot listen on", "names")


class Chaos:
    """Threads that disturb one daemon, each with a random generator of its own."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.accepted: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.carried_out: Counter[str] = Counter()
        self._seed = seed
        self._file = threading.Lock()
        self._text = daemon.config.read_text()
        self._end = time.monotonic() + SECONDS

    def run(self) -> None:
        """Disturb for SECONDS."""
        work = [self._operate] * OPERATORS + [self._send] * SENDERS + [self._kill, self._occupy]
        threads = [
            threading.Thread(target=self._guarded, args=(each, random.Random(self._seed * 100 + n)))
            for n, each in enumerate(work)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _guarded(self, work: Callable[[random.Random], None], chance: random.Random) -> None:
        try:
            while time.monotonic() < self._end:
                work(chance)
        except Exception as error:
            self.unexpected.append(f"{work.__name__}: {error!r}")

    def _operate(self, chance: random.Random) -> None:
        with ControlClient(self.daemon.socket) as control:
            for _ in range(50):
                method, params = self._command(chance)
                try:
                    if method == "config.reload":
                        self._rewrite(chance)
                    control.call(method, **params)
                except CommandError as error:
                    if not any(words in error.message for words in EXPECTED):
                        self.unexpected.append(f"{method} {params}: {error}")
                else:
                    self.carried_out[method] += 1

    def _command(self, chance: random.Random) -> tuple[str, dict[str, Any]]:
        name = chance.choice(["mx", "two", "mx", *ADDED])
        gently: dict[str, Any] = {"drain": chance.choice([0.0, 0.1, 1.0])}
        grace = chance.choice([gently, {"cut": True}])
        return chance.choice(
            [
                ("listener.start", {"selectors": [name]}),
                ("listener.start", {"selectors": [name]}),
                ("listener.stop", {"selectors": [name], **grace}),
                ("listener.stop", {"selectors": [name], "wait": True, **grace}),
                ("listener.restart", {"selectors": [name], **grace}),
                ("listener.add", {"name": chance.choice(ADDED), "endpoint": self._where(chance)}),
                ("listener.remove", {"selectors": [chance.choice(ADDED)], **grace}),
                ("config.reload", {}),
                ("listener.list", {}),
                ("summary", {}),
            ]
        )

    @staticmethod
    def _where(chance: random.Random) -> str:
        return chance.choice([*(f"{host}:25" for host in HOSTS), "127.0.8.0/29:25"])

    def _rewrite(self, chance: random.Random) -> None:
        """Have another second listener in the file, or none."""
        second = f"  two:\n    listen: {chance.choice(HOSTS[3:])}:25\n"
        text = self._text.replace("control:\n", chance.choice([second, ""]) + "control:\n")
        with self._file:
            fresh = self.daemon.config.with_suffix(".new")
            fresh.write_text(text)
            fresh.rename(self.daemon.config)

    def _send(self, chance: random.Random) -> None:
        host = chance.choice(HOSTS)
        with suppress(OSError, smtplib.SMTPException):
            send(25, host=host)
            self.accepted[host] += 1

    def _kill(self, chance: random.Random) -> None:
        time.sleep(chance.uniform(0.5, 2.0))
        if workers := self.daemon.workers():
            victim = chance.choice(workers)
            os.kill(victim, signal.SIGKILL)
            until(lambda: victim not in self.daemon.workers())

    def _occupy(self, chance: random.Random) -> None:
        """Be another program that has the port for a while."""
        with suppress(OSError), socket.create_server((chance.choice(HOSTS), 25)):
            time.sleep(chance.uniform(0.01, 0.2))


def rows(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.call("listener.list")["listeners"]
    return found


def listening() -> set[str]:
    """Return where the kernel has listening sockets on port 25, in this network namespace."""
    found = set()
    for line in Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        host, port = local.split(":")
        if state == "0A" and int(port, 16) == 25:
            found.add(socket.inet_ntoa(bytes.fromhex(host)[::-1]))
    return found


def descriptors(daemon: Daemon) -> list[list[str]]:
    """Return what kinds of files each process has open: ``socket``, ``anon_inode``, paths.

    No listener is open then, and nobody is connected.
    """
    daemon.call("listener.stop", all=True, cut=True, wait=True)
    until(lambda: not daemon.call("summary")["sessions"]["active"])
    processes = (daemon.process.pid, *daemon.workers())
    return [[link.partition(":")[0] for link in opened(pid)] for pid in processes]


def assert_no_more(daemon: Daemon, before: list[list[str]]) -> None:
    """Fail if a process has more open; fewer: a connection of ours was on its way out before."""
    more: list[Counter[str]] = []

    def closed() -> bool:
        now = descriptors(daemon)
        more[:] = [Counter(a) - Counter(b) for a, b in zip(now, before, strict=True)]
        return not any(more)

    try:
        until(closed)  # the last connections are closing
    except AssertionError:
        pytest.fail(f"open beyond what was before, supervisor first: {more}")


def settled(daemon: Daemon) -> bool:
    serving = daemon.call("summary")["workers"]["serving"]
    ended = all(row["state"] in ("running", "stopped", "failed") for row in rows(daemon))
    return serving == WORKERS and ended and not daemon.call("summary")["sessions"]["active"]


def warm(daemon: Daemon) -> None:
    """Let each worker open what it opens once: each has to take a message."""
    earlier = len(daemon.envelopes())

    def taken_by_all() -> bool:
        send(25)
        return len({envelope["worker"] for envelope in daemon.envelopes()[earlier:]}) == WORKERS

    until(taken_by_all)


@pytest.mark.parametrize("seed", [1])
def test_chaos(started: Start, seed: int) -> None:
    daemon = started(listen="127.0.0.1:25", workers=WORKERS)
    warm(daemon)
    before = descriptors(daemon)
    daemon.call("listener.start", selectors=["mx"])

    chaos = Chaos(daemon, seed)
    chaos.run()
    assert not chaos.unexpected, chaos.unexpected[:5]
    assert min(chaos.carried_out.values()) > 5, chaos.carried_out
    until(lambda: settled(daemon), 40)

    # The daemon says what the kernel says.
    now = rows(daemon)
    running = {row["endpoint"].rpartition(":")[0] for row in now if row["state"] == "running"}
    assert listening() == running
    assert {row["bound"] is not None for row in now if row["state"] != "running"} <= {False}

    # What was answered 250 is kept; what was counted for a listener came to that listener.
    kept = Counter(envelope["listener"] for envelope in daemon.envelopes())
    assert sum(chaos.accepted.values()) <= kept.total()
    for row in now:
        assert row["sessions"]["active"] == 0, row
        assert row["messages"] <= kept[row["name"]], row
        assert row["messages"] <= row["sessions"]["total"], row

    # From here on nothing is killed: every number is exact.
    daemon.call("listener.start", all=True)
    first = {row["name"]: row for row in rows(daemon)}
    served = [row for row in first.values() if row["state"] == "running"]
    for times, row in enumerate(served, start=1):
        host = row["endpoint"].rpartition(":")[0]
        for _ in range(times):
            send(25, host=host)
    until(lambda: not daemon.call("summary")["sessions"]["active"])
    second = {row["name"]: row for row in rows(daemon)}
    for times, row in enumerate(served, start=1):
        assert second[row["name"]]["messages"] - row["messages"] == times
        assert second[row["name"]]["sessions"]["total"] - row["sessions"]["total"] == times

    # Nothing is left behind.
    daemon.call("listener.stop", all=True, wait=True)
    assert daemon.call("listener.start", selectors=["mx"])["ok"]
    warm(daemon)
    assert_no_more(daemon, before)
    assert all(refuses(host, 25) for host in HOSTS)
    log = daemon.log.read_text()
    assert "Traceback" not in log
    assert "internal_error" not in log

"""Workers: replaced when they die, and nothing that was answered 250 is lost with them."""

from __future__ import annotations

import _sqlite3
import email.parser
import itertools
import os
import re
import signal
import smtplib
import threading
import time
from collections.abc import Callable
from importlib.util import cache_from_source
from pathlib import Path

import pytest
from harness.daemon import Daemon, send, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

Start = Callable[..., Daemon]

REPLACED_WITHIN_SECONDS = 0.5


class Load:
    """Senders in threads: what was answered 250, and whether a connection was ever refused."""

    def __init__(self, senders: int) -> None:
        self.accepted: list[int] = []
        self.refused = 0
        self._serial = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(senders)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        while not self._stop.is_set():
            number = next(self._serial)
            try:
                send(25, b"Subject: %d\r\n\r\n" % number)
            except ConnectionRefusedError:
                self.refused += 1
            except (OSError, smtplib.SMTPException):
                continue  # its worker died with the session: a sender would try again
            else:
                self.accepted.append(number)


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_under_load(started: Start, workers: int) -> None:
    """No connection is refused, no accepted message is lost."""
    daemon = started(listen="127.0.0.1:25", workers=workers)
    with Load(senders=4) as load:
        for _ in range(5):
            served = len(load.accepted)
            until(lambda: len(load.accepted) > served + 20)  # noqa: B023
            replaced(daemon, workers)
    assert load.refused == 0
    subjects = re.findall(rb"(?m)^Subject: (\d+)", b"".join(daemon.messages()))
    assert set(load.accepted) <= set(map(int, subjects))
    assert len(subjects) == len(set(subjects))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_new_worker_is_there_in_time(started: Start, workers: int) -> None:
    """The first death is answered at once; a row of quick ones by growing pauses, on purpose.

    What else runs on the machine may be in the way of one daemon, not of five.
    """
    delays = []
    for _ in range(5):
        daemon = started(listen="127.0.0.1:25", workers=workers)
        delays.append(replaced(daemon, workers))
        if delays[-1] < REPLACED_WITHIN_SECONDS:
            break
        daemon.stop()
    assert delays[-1] < REPLACED_WITHIN_SECONDS, delays


def replaced(daemon: Daemon, workers: int) -> float:
    """Kill a worker; return how many seconds it took until there were as many again."""
    victim = daemon.workers()[0]
    killed = time.time()
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(serving(daemon)) == workers and victim not in serving(daemon))
    return since(daemon) - killed


def serving(daemon: Daemon) -> list[int]:
    rows = daemon.call("workers")["workers"]
    return [row["pid"] for row in rows if row["state"] == "serving"]


def since(daemon: Daemon) -> float:
    """Return when the last worker said that it serves."""
    found = [each for each in daemon.events() if each["event"] == "worker.serving"]
    whole, _, fraction = found[-1]["ts"].rstrip("Z").partition(".")
    return calendar_seconds(whole) + float(f"0.{fraction}")


def calendar_seconds(text: str) -> float:
    import calendar

    return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S")))


def test_listener_works_before_the_first_worker_does(started: Start) -> None:
    """A connection waits in the backlog while every worker is dead."""
    daemon = started(listen="127.0.0.1:25")
    os.kill(daemon.workers()[0], signal.SIGKILL)
    send(25)
    assert len(daemon.messages()) == 1


def test_counts_survive_a_worker(started: Start) -> None:
    """What a dead worker counted still counts; its open sessions do not."""
    daemon = started(listen="127.0.0.1:25")
    send(25)
    with smtplib.SMTP("127.0.0.1", 25) as client:
        os.kill(daemon.workers()[0], signal.SIGKILL)
        until(lambda: daemon.call("summary")["workers"]["restarts"] == 1)
        client.close()
    summary = daemon.call("summary")
    assert summary["messages"] == 1
    assert summary["sessions"] == {"active": 0, "total": 2}


def test_workers_die_with_the_supervisor(started: Start) -> None:
    """kill -9 of the supervisor leaves no process behind, and the next start needs no help."""
    daemon = started(listen="127.0.0.1:25", workers=2)
    workers = daemon.workers()
    daemon.process.kill()
    daemon.process.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    daemon.start().wait_ready()
    send(25)


LOADED = {
    "supervisor": {"control"},
    "worker": {"smtp", "store", "aiosmtpd", "sqlite3"},
    "archive": {"control", "smtp", "store", "archive", "sqlite3"},
}
"""What each kind of process loads of what is looked for, and nothing else of it.

Of the engine the archive has the grammar of parameters, which a bounce repeats; not aiosmtpd.
"""

FILES = {
    **{room: f"/mtad/{room}/" for room in ("control", "smtp", "store", "archive")},
    "aiosmtpd": "site-packages/aiosmtpd/",
    "sqlite3": str(_sqlite3.__file__),
    # importlib.metadata, which pydantic needs, loads the rest of the email package.
    "email.parser": cache_from_source(str(email.parser.__file__)),
}


def test_each_process_loads_its_own_and_no_more(started: Start, directory: Path) -> None:
    """Witnessed from outside: every file they open, from the start to the last command."""
    trace = directory / "trace"
    daemon = started(
        listen="127.0.0.1:25",
        prefix=("strace", "-ff", "-e", "trace=openat,open", "-o", str(trace)),
    )
    send(25)
    daemon.call("listener.restart", selectors=["mx"])
    for method in ("version", "security", "message.count"):
        daemon.call(method)
    processes = {row["role"].split()[0]: row["pid"] for row in daemon.call("security")["processes"]}
    assert processes.keys() == LOADED.keys()
    for role, pid in processes.items():
        opened = (directory / f"trace.{pid}").read_text()
        assert "site-packages/uvloop" in opened  # the witness sees what is loaded
        assert {name for name, file in FILES.items() if file in opened} == LOADED[role]


def test_one_too_many_that_does_not_end(started: Start) -> None:
    """A reload with fewer workers ends the surplus, frozen or not."""
    daemon = started(listen="127.0.0.1:25", workers=2)
    frozen = daemon.workers()[1]
    os.kill(frozen, signal.SIGSTOP)
    daemon.config.write_text(daemon.config.read_text().replace("workers: 2", "workers: 1"))
    assert daemon.call("config.reload")["ok"]
    until(lambda: frozen not in daemon.workers())
    send(25)

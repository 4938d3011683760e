"""A worker that was taken over: its channel and its memory are in the test's hands."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from harness.daemon import Daemon, refuses, send, until
from harness.lies import channel_of

from mtad.ipc.messages import Drained, Hello, Opened, Refused, Tried

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

Start = Callable[..., Daemon]

encode = msgspec.msgpack.encode


@contextmanager
def memory_of(worker: int, name: str) -> Iterator[mmap.mmap]:
    """Yield the first page of what the worker shares under ``name``."""
    maps = Path(f"/proc/{worker}/map_files").iterdir()
    (shared,) = (each for each in maps if f"memfd:{name}" in str(each.readlink()))
    with shared.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as memory:
        yield memory


def replaced(daemon: Daemon, worker: int) -> bool:
    serving = daemon.call("summary")["workers"]["serving"]
    return worker not in daemon.workers() and serving == 1


@pytest.mark.parametrize(
    "message",
    [
        b"\xff" * 100,
        b"\x91" * 100_000,
        os.urandom(100_000),
        encode({"type": "Stop", "grace": 0.0}),
        encode({"type": "Drained", "openings": "all"}),
        encode({"type": "Drained", "openings": [2**64 - 1, -1, 1.5]}),
        encode(Refused((1,), "x" * 100_000)),
        encode(Hello()),
    ],
    ids=["junk", "nested", "random", "an order", "no numbers", "no whole", "a novel", "twice"],
)
def test_what_is_no_message_ends_the_worker(started: Start, message: bytes) -> None:
    daemon = started(listen="127.0.0.1:25")
    (worker,) = daemon.workers()
    with channel_of(worker) as channel:
        channel.send(message)
    until(lambda: replaced(daemon, worker))
    send(25)
    assert "Traceback" not in daemon.log.read_text()


@pytest.mark.parametrize(
    "message",
    [
        Drained(tuple(range(30_000))),
        Drained((1,)),
        Refused((), "x" * 200),
        Opened(tuple(range(30_000))),
        Tried(0, "x" * 200),
    ],
    ids=["many", "the open one", "of none", "opened", "tried"],
)
def test_a_flood_of_lies(started: Start, message: msgspec.Struct) -> None:
    """The supervisor answers meanwhile, keeps nothing of it, and a stop is a stop."""
    daemon = started(listen="127.0.0.1:25")
    supervisor, (worker,) = daemon.process.pid, daemon.workers()
    open_before = len(list(Path(f"/proc/{supervisor}/fd").iterdir()))
    slowest, ends = 0.0, time.monotonic() + 1.0
    with channel_of(worker) as channel:
        while time.monotonic() < ends:
            for _ in range(50):
                channel.send(encode(message))
            asked = time.monotonic()
            daemon.call("pid")
            slowest = max(slowest, time.monotonic() - asked)
    assert slowest < 3.0
    # Fewer than before: a connection of ours may have been on its way out then.
    until(lambda: len(list(Path(f"/proc/{supervisor}/fd").iterdir())) <= open_before)
    assert daemon.call("listener.show", name="mx")["listener"]["state"] == "running"
    send(25)
    assert daemon.call("listener.stop", selectors=["mx"], wait=True)["ok"]
    assert refuses("127.0.0.1", 25)
    assert daemon.call("listener.start", selectors=["mx"])["ok"]
    send(25)


def test_who_lets_go_without_reading_is_given_it_once(started: Start) -> None:
    """Else every two seconds there would be more descriptors under way, and no end of it."""
    daemon = started(listen="127.0.0.1:25", workers=2)
    until(lambda: daemon.call("summary")["workers"]["serving"] == 2)
    hostile, _ = daemon.workers()
    os.kill(hostile, signal.SIGSTOP)
    given, ends = 0, time.monotonic() + 9.0
    with channel_of(hostile) as channel:
        while time.monotonic() < ends:
            channel.send(encode(Drained((1,))))
            time.sleep(0.1)
        channel.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                given += b"Open" in channel.recv(65_536)
    assert given == 1
    os.kill(hostile, signal.SIGCONT)
    send(25)


def test_numbers_that_are_lies(started: Start) -> None:
    """Every command answers; the lies end with the worker and the listener they were told of."""
    daemon = started(listen="127.0.0.1:25", workers=2)
    until(lambda: daemon.call("summary")["workers"]["serving"] == 2)
    for worker in daemon.workers():
        with memory_of(worker, "mtad-counters") as memory:
            memory[:] = b"\xff" * 4096
    assert daemon.call("summary")["sessions"]["active"] >= 2**64
    for method in ("listener.list", "workers", "status"):
        daemon.call(method)
    assert daemon.mtactl("listener", "list").returncode == 0
    assert daemon.call("listener.stop", selectors=["mx"])["ok"]
    until(lambda: daemon.call("listener.show", name="mx")["listener"]["draining"] == 0)
    daemon.call("listener.remove", selectors=["mx"])
    daemon.call("listener.add", name="new", endpoint="127.0.0.1:25")
    row = daemon.call("listener.show", name="new")["listener"]
    assert row["sessions"] == {"active": 0, "total": 0}
    assert daemon.call("summary")["sessions"]["active"] == 0


NOBODY_HAS_ANY = struct.pack("=Q", 511) + struct.pack("=Q", 1) * 511


@pytest.mark.parametrize(
    "nonsense",
    [b"\xff" * 4096, bytes(4096), NOBODY_HAS_ANY, os.urandom(4096)],
    ids=["all", "none", "idle", "random"],
)
def test_nonsense_about_who_has_how_many_sessions(started: Start, nonsense: bytes) -> None:
    """Written again and again, while the other worker serves whoever comes, in time."""
    daemon = started(listen="127.0.0.1:25", workers=2)
    until(lambda: daemon.call("summary")["workers"]["serving"] == 2)
    hostile, _ = workers = daemon.workers()
    os.kill(hostile, signal.SIGSTOP)  # it takes no connection, and writes
    waits = []
    with ExitStack() as clients, memory_of(hostile, "mtad-loads") as memory:
        for _ in range(100):
            memory[:] = nonsense
            began = time.monotonic()
            client = clients.enter_context(socket.create_connection(("127.0.0.1", 25), 10))
            memory[:] = nonsense
            assert client.recv(100).startswith(b"220 ")
            waits.append(time.monotonic() - began)
    assert sorted(waits)[-3] < 0.5  # the machine may stand still, once or twice
    assert daemon.workers() == workers
    os.kill(hostile, signal.SIGCONT)
    send(25)
    assert "Traceback" not in daemon.log.read_text()


def test_a_worker_that_hangs_up_and_lives_on_is_ended(started: Start) -> None:
    daemon = started(listen="127.0.0.1:25")
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGSTOP)
    with channel_of(worker) as channel:
        channel.shutdown(socket.SHUT_RDWR)
    until(lambda: replaced(daemon, worker))
    send(25)

"""Connections that come at once are shared out among the workers."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

import pytest
from harness.daemon import Daemon, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

Start = Callable[..., Daemon]


def started_with(started: Start, workers: int) -> Daemon:
    """Return a daemon of which each worker has taken a session, and nobody is there any more."""
    daemon = started(listen="127.0.0.1:25", workers=workers)

    def taken_by_all() -> bool:
        with ExitStack() as clients:
            connect(clients, 10)
            return len(sessions(daemon)) == workers and all(sessions(daemon))

    until(taken_by_all)
    until(lambda: not any(sessions(daemon)))
    return daemon


def sessions(daemon: Daemon) -> list[int]:
    """Return how many each worker has, the oldest first."""
    return [row["sessions"] for row in daemon.call("workers")["workers"]]


def connect(clients: ExitStack, number: int) -> None:
    """Have so many connections more, begun at once and greeted."""
    come = [clients.enter_context(socket.socket()) for _ in range(number)]
    for client in come:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", 25))
    for client in come:
        client.settimeout(10)
        assert client.recv(100).startswith(b"220 ")


@pytest.mark.parametrize("workers", [2, 3])
def test_at_once(started: Start, workers: int) -> None:
    """One could be late now and then, for want of a processor; not time after time."""
    daemon = started_with(started, workers)
    shares = []
    for _ in range(20):
        with ExitStack() as clients:
            connect(clients, 10 * workers)
            until(lambda: sum(sessions(daemon)) == 10 * workers)
            shares.append(max(sessions(daemon)))
        until(lambda: not any(sessions(daemon)))
    assert median(shares) < 13, shares


def test_a_new_worker_catches_up(started: Start) -> None:
    """What the dead one had is not held against the new one, nor the new one's place lost."""
    daemon = started_with(started, 2)
    with ExitStack() as clients:
        connect(clients, 30)
        dead, _ = daemon.workers()
        os.kill(dead, signal.SIGKILL)
        until(lambda: dead not in daemon.workers())

        def fresh() -> int:
            """Add a client, until the new worker takes one."""
            connect(clients, 1)
            return sum(sessions(daemon)[1:])

        until(fresh)
        behind = sessions(daemon)[0] - sessions(daemon)[1]
        for _ in range(behind):  # of many at once, who has the processor takes most
            connect(clients, 1)
        assert sessions(daemon)[1] > behind * 0.7, (behind, sessions(daemon))


def test_a_frozen_one_is_not_waited_for(started: Start) -> None:
    daemon = started_with(started, 2)
    frozen, _ = daemon.workers()
    os.kill(frozen, signal.SIGSTOP)
    with ExitStack() as clients:
        connect(clients, 50)
        assert sessions(daemon) == [0, 50]
    os.kill(frozen, signal.SIGCONT)
    with smtplib.SMTP("127.0.0.1", 25, timeout=10) as client:
        assert client.noop()[0] == 250

"""Limits of sessions are counted where all workers meet: the supervisor, asked by its workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from harness.daemon import Daemon, until
from harness.lies import channel_of

from mtad.ipc.messages import Admit, Admitted, FromSupervisor, Left

pytestmark = [pytest.mark.integration, pytest.mark.root]

Start = Callable[..., Daemon]
PROFILE = "profiles: {default: {limits: {sessions: 2, sessions_per_peer: 1}, tls: off}}\n"
OPENING = 1  # the first of the daemon's only listener


@contextmanager
def in_place_of(worker: int) -> Iterator[Callable[[Any], Any]]:
    """Yield what asks the supervisor as ``worker`` would, which is stopped meanwhile."""
    os.kill(worker, signal.SIGSTOP)
    with channel_of(worker) as channel:

        def ask(message: Any) -> Any:
            channel.send(msgspec.msgpack.encode(message))
            return (
                msgspec.msgpack.decode(channel.recv(4096), type=FromSupervisor)
                if isinstance(message, Admit)
                else None
            )

        yield ask


def test_exact_across_workers_and_beyond_their_death(started: Start) -> None:
    daemon = started(workers=3, extra=PROFILE)
    until(lambda: daemon.call("summary")["workers"]["serving"] == 3)
    first, second, third = daemon.workers()
    with in_place_of(first) as one, in_place_of(second) as two:
        assert one(Admit(1, OPENING, "a")) == Admitted(1, "")
        assert two(Admit(1, OPENING, "a")) == Admitted(1, "sessions_per_peer")
        assert two(Admit(2, OPENING, "b")) == Admitted(2, "")
        assert two(Admit(3, OPENING, "c")) == Admitted(3, "sessions")
        two(Left(2))
        assert two(Admit(4, OPENING, "c")) == Admitted(4, "")
        assert two(Admit(5, OPENING + 1, "d")) == Admitted(5, "sessions"), "no such listener"
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in daemon.workers())
    with in_place_of(third) as three:
        assert three(Admit(9, OPENING, "a")) == Admitted(9, "")
        assert three(Admit(10, OPENING, "d")) == Admitted(10, "sessions")


def test_a_name_of_a_peer_is_short(started: Start) -> None:
    daemon = started(extra=PROFILE)
    (worker,) = daemon.workers()
    with channel_of(worker) as channel:
        channel.send(msgspec.msgpack.encode(Admit(1, OPENING, "x" * 65)))
    until(lambda: worker not in daemon.workers())

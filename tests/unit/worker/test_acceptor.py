"""An opening in a worker, over real sockets: accepted, counted, and let go, whatever happens."""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401 (uvloop's sock_connect reads it, and cannot without room)
import errno
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from harness.descriptors import opened
from harness.serving import serving
from msgspec import structs

from mtad.ipc.counters import Counts
from mtad.model.profile import Profile


@contextmanager
def no_room() -> Iterator[None]:
    """Let this process open no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def sockets_open() -> int:
    return sum(link.startswith("socket:") for link in opened())


async def test_sessions_are_counted() -> None:
    async with serving() as served:
        assert served.counts == Counts()
        clients = [await served.greeted() for _ in range(3)]
        assert served.counts == Counts(active=3, sessions=3)
        await clients[0].begin()
        await clients[0].send(b"four\r\n")
        clients[0].reset()
        assert (await clients[1].ask("QUIT")).startswith("221")
        await served.until(lambda: served.counts.active == 1)
        assert served.counts == Counts(active=1, sessions=3, messages=1, octets=6)


async def test_no_socket_is_left_open() -> None:
    async with serving() as served:
        (await served.greeted()).reset()
        await served.until(lambda: not served.counts.active)
        before = sockets_open()
        for _ in range(30):
            client = await served.greeted()
            client.reset()
            await served.until(lambda: not served.counts.active)
        await served.until(lambda: sockets_open() <= before)


@pytest.mark.parametrize("grace", [0.0, 60.0])
async def test_without_sessions_an_opening_is_drained_at_once(grace: float) -> None:
    async with serving() as served:
        served.stop(grace)
        assert served.drained == [7]


@pytest.mark.parametrize("grace", [0.0, 60.0])
async def test_drained_is_said_once_however_often_it_is_closed(grace: float) -> None:
    async with serving() as served:
        clients = [await served.greeted() for _ in range(5)]
        served.stop(60.0)
        served.acceptor.close(60.0)
        served.acceptor.close(grace)
        for client in clients:
            client.reset()
        await served.until(lambda: bool(served.drained))
        await asyncio.sleep(0.01)
        assert served.drained == [7]


async def test_nobody_is_accepted_after_close() -> None:
    async with serving() as served:
        where = served.listening.getsockname()
        client = await served.greeted()
        await client.begin()
        served.stop(60.0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*where)
        assert served.counts.sessions == 1
        assert (await client.send(b"x\r\n")).startswith("250")


async def test_a_socket_that_the_supervisor_shut_down_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """shutdown(2) comes before Close, and makes accept(2) fail with EINVAL meanwhile."""
    async with serving() as served:
        client = await served.greeted()
        served.listening.shutdown(socket.SHUT_RDWR)
        await asyncio.sleep(0.01)
        assert (await client.ask("NOOP")).startswith("250")
        assert caplog.messages.count("accept.paused") == 0


async def test_out_of_files_and_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMFILE (accept(2)): the connection waits in the backlog, and is served when there is room."""
    monkeypatch.setattr("mtad.worker.acceptor._PAUSE_SECONDS", 0.02)
    async with serving() as served:
        old = await served.greeted()
        with socket.socket() as peer:
            peer.setblocking(False)
            with no_room():
                await asyncio.get_running_loop().sock_connect(peer, served.listening.getsockname())
                await served.until(lambda: "accept.paused" in caplog.messages)
                assert (await old.ask("NOOP")).startswith("250")
                assert served.counts.sessions == 1
            greeting = await asyncio.get_running_loop().sock_recv(peer, 100)
            assert greeting.startswith(b"220 ")
        reasons = {one.__dict__["fields"]["reason"] for one in caplog.records}
        assert reasons == {os.strerror(errno.EMFILE)}


async def test_closed_while_it_pauses(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause ends on a socket that is gone, whose number may be somebody else's."""
    monkeypatch.setattr("mtad.worker.acceptor._PAUSE_SECONDS", 0.02)
    async with serving() as served:
        with socket.socket() as peer:
            peer.setblocking(False)
            with no_room():
                await asyncio.get_running_loop().sock_connect(peer, served.listening.getsockname())
                await served.until(lambda: "accept.paused" in caplog.messages)
            served.stop(0.0)
            await asyncio.sleep(0.05)
            assert served.drained == [7]
        assert "Exception in callback" not in caplog.text


async def test_a_new_profile_is_for_new_sessions(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(hostname="old.example") as served:
        old = await served.client()
        assert await old.reply() == "220 old.example ESMTP mtad"
        new_profile = Profile(hostname="new.example")
        served.acceptor.configure(structs.replace(served.acceptor.opening, profile=new_profile))
        new = await served.client()
        assert await new.reply() == "220 new.example ESMTP mtad"
        assert await old.ask("HELO c") == "250 old.example"


async def test_many_that_come_and_go_at_once() -> None:
    """Each connection is answered, or ended, and none is forgotten."""
    async with serving() as served:

        async def visit(number: int) -> None:
            client = await served.client()
            if number % 3:
                assert (await client.reply()).startswith("220 ")
            if number % 2:
                client.reset()
            else:
                client.writer.close()

        await asyncio.gather(*(visit(number) for number in range(90)))
        await served.until(lambda: served.counts.sessions == 90 and not served.counts.active)


async def test_a_connection_is_left_to_who_has_fewer_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody takes it: it is served after the moment, and more of them at once each time."""
    moment = 0.2
    monkeypatch.setattr("mtad.worker.acceptor._MOMENT_SECONDS", moment)
    async with serving() as served:
        served.other_worker()
        clients = [await served.greeted(), await served.greeted()]
        began = time.monotonic()
        clients += [await served.client() for _ in range(7)]
        for client in clients[2:]:
            assert (await client.reply()).startswith("220 ")
        assert moment * 2.5 < time.monotonic() - began < moment * 6  # 1, 2, 4
        assert served.counts.active == 9


async def test_a_connection_is_not_left_any_longer_than_there_are_others_with_fewer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mtad.worker.acceptor._MOMENT_SECONDS", 600.0)
    async with serving() as served:
        served.other_worker()
        clients = [await served.greeted(), await served.greeted()]
        waiting = await served.client()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting.reader.readline()), 0.05)
        assert served.counts.active == 2
        clients[0].reset()
        await served.until(lambda: served.counts.sessions == 3)


async def test_closed_while_it_leaves_a_connection_to_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mtad.worker.acceptor._MOMENT_SECONDS", 0.02)
    async with serving() as served:
        served.other_worker()
        # Held: Python 3.13 closes the connection of a writer that nobody has.
        clients = [await served.greeted(), await served.greeted(), await served.client()]
        await asyncio.sleep(0)
        served.stop(0.0)
        await asyncio.sleep(0.05)
        assert served.counts.sessions == 2
    assert len(clients) == 3
    assert "Exception in callback" not in caplog.text

"""Who is told that a socket can go on, and how often."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest

from mtad.smtp.poller import Poller


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


async def turns(number: int = 3) -> None:
    """Let the loop look at its descriptors so often."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_who_can_read_is_told_until_it_has(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    told: list[str] = []
    poller = Poller(asyncio.get_running_loop())
    poller.watch(ours.fileno(), lambda: told.append("read"), None)
    await turns()
    assert told == []
    theirs.send(b"x")
    await turns()
    assert len(told) >= 2
    ours.recv(1)
    told.clear()
    await turns()
    assert told == []


async def test_who_can_read_and_write_does_both(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    told: list[str] = []
    poller = Poller(asyncio.get_running_loop())

    def read() -> None:
        told.append("read")
        ours.recv(1)

    def write() -> None:
        told.append("write")
        poller.watch(ours.fileno(), read, None)

    theirs.send(b"x")
    poller.watch(ours.fileno(), read, write)
    await turns(5)
    assert told == ["read", "write"]


async def test_the_reader_finds_what_came_before_the_end() -> None:
    """Of a connection that was reset, with octets both ways under way."""
    told: list[str] = []
    poller = Poller(asyncio.get_running_loop())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    with ours, theirs:
        theirs.send(b"QUIT")

        def read() -> None:
            told.append(ours.recv(4).decode())
            poller.watch(ours.fileno(), None, None)

        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        poller.watch(ours.fileno(), read, lambda: told.append("write"))
        await turns()
    assert told == ["QUIT"]


@pytest.mark.parametrize("way", ["read", "write"])
async def test_the_end_is_told_to_whoever_waits(
    pair: tuple[socket.socket, socket.socket], way: str
) -> None:
    ours, theirs = pair
    told: list[str] = []
    with suppress(BlockingIOError):
        while True:
            ours.send(bytes(65_536))
    poller = Poller(asyncio.get_running_loop())

    def tell() -> None:
        told.append(way)

    poller.watch(ours.fileno(), *((tell, None) if way == "read" else (None, tell)))
    await turns()
    assert told == []
    theirs.close()
    await turns()
    assert len(told) >= 2
    poller.watch(ours.fileno(), None, None)
    told.clear()
    await turns()
    assert told == []


async def test_who_is_forgotten_by_another_is_not_told() -> None:
    """Of two that can go on at once, the first ends the second."""
    poller = Poller(asyncio.get_running_loop())
    pairs = [socket.socketpair() for _ in range(2)]
    told: list[int] = []

    def readable(number: int) -> None:
        told.append(number)
        for ours, _ in pairs:
            poller.watch(ours.fileno(), None, None)

    for number, (ours, theirs) in enumerate(pairs):
        poller.watch(ours.fileno(), partial(readable, number), None)
        theirs.send(b"x")
    await turns()
    assert len(told) == 1
    for ours, theirs in pairs:
        ours.close()
        theirs.close()

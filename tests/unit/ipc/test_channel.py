"""The channel on real socketpairs: order, descriptors, back-pressure, lies, nothing left open."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mtad.errors import ChannelError
from mtad.ipc import channel
from mtad.ipc.channel import MAX_DESCRIPTORS, MAX_WAITING, Channel
from mtad.ipc.messages import (
    Drained,
    FromSupervisor,
    FromWorker,
    Hello,
    LogLevel,
    Open,
    Opening,
    Place,
)
from mtad.model.listener import Protocol
from mtad.model.profile import Auth, Profile


class End:
    """One end with everything that it was told."""

    def __init__(self, sock: socket.socket, receives: Any, descriptors: int) -> None:
        self.messages: list[Any] = []
        self.descriptors: list[list[int]] = []
        self.closed = 0
        self._woken = asyncio.Event()
        self.channel: Channel[Any] = Channel(
            sock, receives, self._on_message, self._on_close, descriptors=descriptors
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._woken.clear()
                await self._woken.wait()

    async def hears(self, count: int) -> None:
        await self.until(lambda: len(self.messages) >= count)

    async def closes(self) -> None:
        await self.until(lambda: self.closed > 0)

    def close(self) -> None:
        self.channel.close()
        for descriptor in itertools.chain(*self.descriptors):
            os.close(descriptor)

    def _on_message(self, message: Any, descriptors: list[int]) -> None:
        self.messages.append(message)
        self.descriptors.append(descriptors)
        self._woken.set()

    def _on_close(self) -> None:
        self.closed += 1
        self._woken.set()


def open_descriptors() -> Counter[str]:
    """Count what this process has open, by kind; uvloop changes a socketpair at each run."""
    links = (Path(f"/proc/self/fd/{fd}") for fd in range(4_096) if is_open(fd))
    return Counter(str(link.readlink()).partition("[")[0] for link in links)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.fixture(autouse=True)
async def _nothing_is_left_open() -> AsyncIterator[None]:
    async with ends():  # a loop opens some of its own at its first reader
        await asyncio.sleep(0)
    before = open_descriptors()
    yield
    # Not what is gone: another test's garbage may be collected meanwhile.
    assert not open_descriptors() - before


@asynccontextmanager
async def ends() -> AsyncIterator[tuple[End, End]]:
    """A supervisor's end and a worker's, as the daemon makes them."""
    ours, theirs = channel.pair()
    supervisor, worker = End(ours, FromWorker, 0), End(theirs, FromSupervisor, MAX_DESCRIPTORS)
    try:
        yield supervisor, worker
    finally:
        supervisor.close()
        worker.close()


@asynccontextmanager
async def end_and_socket() -> AsyncIterator[tuple[End, socket.socket]]:
    """A supervisor's end, and the bare socket of a worker that may do anything."""
    ours, theirs = channel.pair()
    supervisor = End(ours, FromWorker, 0)
    try:
        with theirs:
            yield supervisor, theirs
    finally:
        supervisor.close()


@contextmanager
def pipes(count: int) -> Iterator[list[tuple[int, int]]]:
    made = [os.pipe() for _ in range(count)]
    try:
        yield made
    finally:
        for descriptor in itertools.chain(*made):
            os.close(descriptor)


@contextmanager
def room_for(more: int) -> Iterator[None]:
    """Lower RLIMIT_NOFILE so that this process can open so many more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probes = [os.dup(0) for _ in range(more + 1)]
    for probe in probes:
        os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probes[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def place(number: int) -> Place:
    return Place(number, number, f"mx/{number}", Protocol.SMTP, "default")


async def test_messages_pass_both_ways() -> None:
    async with ends() as (supervisor, worker):
        supervisor.channel.send(LogLevel("debug"))
        worker.channel.send(Hello())
        worker.channel.send(Drained((1, 2)))
        await worker.hears(1)
        await supervisor.hears(2)
        assert worker.messages == [LogLevel("debug")]
        assert supervisor.messages == [Hello(), Drained((1, 2))]
        assert supervisor.closed == worker.closed == 0


async def test_descriptors_pass_in_order_and_are_not_inherited() -> None:
    with pipes(MAX_DESCRIPTORS) as made:
        async with ends() as (supervisor, worker):
            places = tuple(map(place, range(MAX_DESCRIPTORS)))
            supervisor.channel.send(Open(Profile(), places), [writing for _, writing in made])
            await worker.hears(1)
            (received,) = worker.descriptors
            assert len(received) == MAX_DESCRIPTORS
            for number, descriptor in enumerate(received):
                assert not os.get_inheritable(descriptor)
                os.write(descriptor, b"%d" % number)
                assert os.read(made[number][0], 10) == b"%d" % number


@pytest.mark.parametrize("users", [0, 1, 50_000])
async def test_any_batch_fits_one_message(users: int) -> None:
    """Names at their limits (mtad.config.values), and more users than a configuration can have."""
    auth = Auth({f"user{number}": "p" * 20 for number in range(users)})
    profile = Profile("h" * 255, auth=auth)
    name = "n" * 63 + "/" + "ffff:" * 7 + "ffff"
    places = (Place(2**40, 2**17, name, Protocol.LMTP, "p" * 63),) * MAX_DESCRIPTORS
    # Many hosts let a process open 1,024 files: both batches have to fit.
    with pipes(1) as [(_, writing)]:
        pipe = os.fstat(writing).st_ino
        async with ends() as (supervisor, worker):
            for _ in range(2):
                supervisor.channel.send(Open(profile, places), [writing] * MAX_DESCRIPTORS)
            supervisor.channel.send(LogLevel("info"))
            await worker.hears(3)
            assert worker.messages == [*[Open(profile, places)] * 2, LogLevel("info")]
            assert worker.messages[0].openings[-1] == Opening(
                2**40, 2**17, name, Protocol.LMTP, "p" * 63, profile
            )
            for batch in worker.descriptors[:2]:
                assert len(batch) == MAX_DESCRIPTORS
                assert {os.fstat(descriptor).st_ino for descriptor in batch} == {pipe}


async def test_a_side_that_takes_no_descriptors_takes_no_file() -> None:
    async with ends() as (supervisor, worker):
        worker.channel.send(Drained(tuple(range(200_000))))
        await supervisor.closes()
        assert supervisor.messages == []


async def test_too_many_descriptors_are_refused_whole() -> None:
    async with ends() as (supervisor, worker):
        with pytest.raises(ChannelError, match="message with 251 descriptors"):
            supervisor.channel.send(Open(Profile(), ()), [0] * (MAX_DESCRIPTORS + 1))
        supervisor.channel.send(LogLevel("info"))
        await worker.hears(1)
        assert worker.messages == [LogLevel("info")]


async def test_order_under_back_pressure() -> None:
    """The worker does not read meanwhile; descriptors may be closed as soon as they are sent."""
    async with ends() as (supervisor, worker):
        for number in range(5_000):
            if number % 100:
                supervisor.channel.send(LogLevel(f"{number:0400}"))
            else:
                reading, writing = os.pipe()
                os.write(writing, b"%d" % number)
                supervisor.channel.send(LogLevel(f"{number:0400}"), [reading])
                os.close(reading)
                os.close(writing)
        await worker.hears(5_000)
        assert [int(message.level) for message in worker.messages] == list(range(5_000))
        for number, received in enumerate(worker.descriptors):
            expected = [] if number % 100 else [b"%d" % number]
            assert [os.read(descriptor, 10) for descriptor in received] == expected


async def test_there_is_room_when_the_other_side_has_read() -> None:
    """And soon: a writer of much is not held up by pauses."""
    async with ends() as (supervisor, worker):
        began = asyncio.get_running_loop().time()
        for _ in range(1_500):
            await supervisor.channel.room()
            supervisor.channel.send(LogLevel("x" * 100_000))
        await worker.hears(1_500)
        assert asyncio.get_running_loop().time() - began < 5.0  # 7.5 s, if it were 10 ms for two
    async with end_and_socket() as (supervisor, _):
        for _ in range(10):
            supervisor.channel.send(LogLevel("x" * 100_000))
        waiting = asyncio.ensure_future(supervisor.channel.room())
        assert await asyncio.wait({waiting}, timeout=0.05) == (set(), {waiting})
        supervisor.channel.close()  # nobody reads any more
        await asyncio.wait_for(waiting, 10)


async def test_a_receiver_without_room_gets_the_first_descriptors() -> None:
    """MSG_CTRUNC (recvmsg(2)): the kernel closes what does not fit; the message is whole."""
    with pipes(10) as made:
        async with ends() as (supervisor, worker):
            supervisor.channel.send(
                Open(Profile(), tuple(map(place, range(10)))), [writing for _, writing in made]
            )
            with room_for(4):
                await worker.hears(1)
            (received,) = worker.descriptors
            assert 0 < len(received) <= 4
            assert len(worker.messages[0].places) == 10
            for number, descriptor in enumerate(received):
                os.write(descriptor, b"x")
                assert os.read(made[number][0], 1) == b"x"
            supervisor.channel.send(Open(Profile(), (place(1),)), [made[0][1]])
            await worker.hears(2)
            assert len(worker.descriptors[1]) == 1


async def test_a_side_that_takes_no_descriptors_gets_none() -> None:
    """A worker cannot fill the supervisor's table of files."""
    async with end_and_socket() as (supervisor, worker):
        before = open_descriptors()
        for _ in range(100):
            socket.send_fds(worker, [msgspec.msgpack.encode(Hello())], [0] * 253)
            await supervisor.hears(1)
            supervisor.messages.clear()
        assert not open_descriptors() - before
        assert not any(supervisor.descriptors)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0",
        b"\xff" * 100,
        b"GET / HTTP/1.0\r\n\r\n",
        msgspec.msgpack.encode({"type": "Unknown"}),
        msgspec.msgpack.encode({"type": "Drained"}),
        msgspec.msgpack.encode({"type": "Drained", "openings": ["1"]}),
        msgspec.msgpack.encode({"type": "Refused", "openings": [1], "reason": 1}),
        msgspec.msgpack.encode(LogLevel("info")),
        msgspec.msgpack.encode(Hello())[:-1],
        msgspec.msgpack.encode(Drained(tuple(range(60_000)))),
        b"\x83\xa4type\xa7Drained\xa8openings\x90\xa1x" + b"\x91" * 100_000 + b"\xc0",
    ],
    ids=lambda garbage: garbage[:24].hex(),
)
async def test_what_cannot_be_understood_ends_the_channel(garbage: bytes) -> None:
    async with end_and_socket() as (supervisor, worker):
        worker.send(garbage)
        await supervisor.closes()
        assert supervisor.messages == []
        assert supervisor.closed == 1
        supervisor.channel.send(LogLevel("info"))  # nobody is there: nothing happens


async def test_what_is_said_before_the_end_is_heard() -> None:
    async with end_and_socket() as (supervisor, worker):
        worker.send(msgspec.msgpack.encode(Hello()))
        worker.close()
        await supervisor.closes()
        assert (supervisor.messages, supervisor.closed) == ([Hello()], 1)


async def test_sending_to_nobody_is_the_end_and_no_error() -> None:
    async with end_and_socket() as (supervisor, worker):
        worker.close()
        supervisor.channel.send(LogLevel("info"))
        await supervisor.closes()
        assert supervisor.closed == 1


async def test_close_is_quiet_and_can_be_repeated() -> None:
    async with ends() as (supervisor, worker):
        supervisor.channel.close()
        supervisor.channel.close()
        await worker.closes()
        assert (supervisor.closed, worker.closed) == (0, 1)


async def test_close_gives_up_what_was_waiting() -> None:
    """The descriptors of unsent messages are closed (the fixture counts)."""
    async with end_and_socket() as (supervisor, _):
        for _ in range(700):  # fewer than the 1,024 files that many may open
            supervisor.channel.send(LogLevel("x" * 1_000), [0])
        assert open_descriptors().total() > 300


async def test_one_that_never_reads_is_given_up() -> None:
    """By the number of messages that wait, so that a hanging worker costs a bounded memory."""
    async with end_and_socket() as (supervisor, _):
        for sent in itertools.count():
            supervisor.channel.send(LogLevel("x"))
            if sent % 1_000 == 0:
                await asyncio.sleep(0)
            if supervisor.closed:
                break
            assert sent < 2 * MAX_WAITING
        assert supervisor.closed == 1


async def test_one_that_never_reads_is_given_up_before_files_run_out() -> None:
    """Descriptors wait as copies; when there are too many, the channel goes, not its owner."""
    async with end_and_socket() as (supervisor, _):
        with room_for(50):
            for _ in range(1_000):
                supervisor.channel.send(LogLevel("x" * 1_000), [0, 0, 0])
            os.close(os.dup(0))  # there is room again
        await supervisor.closes()
        assert supervisor.closed == 1


async def test_what_has_come_is_taken_without_a_turn_of_the_loop() -> None:
    async with ends() as (supervisor, worker):
        for number in range(50):
            worker.channel.send(Drained((number,)))
        supervisor.channel.catch_up()
        assert supervisor.messages == [Drained((number,)) for number in range(50)]
        supervisor.channel.catch_up()
        assert len(supervisor.messages) == 50


async def test_whoever_writes_on_and_on_is_not_caught_up_with_for_ever() -> None:
    async with ends() as (supervisor, worker):
        heard = supervisor._on_message

        def answer(message: Any, descriptors: list[int]) -> None:
            heard(message, descriptors)
            worker.channel.send(Hello())

        supervisor.channel._on_message = answer
        worker.channel.send(Hello())
        supervisor.channel.catch_up()
        assert 1 < len(supervisor.messages) < 1_000


async def test_the_end_is_found_once_when_it_is_caught_up_with() -> None:
    async with ends() as (supervisor, worker):
        worker.channel.send(Hello())
        worker.channel.close()
        supervisor.channel.catch_up()
        supervisor.channel.catch_up()
        assert (supervisor.messages, supervisor.closed) == ([Hello()], 1)

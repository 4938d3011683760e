"""Shared counters: their sums, and a holder that means harm."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from harness.descriptors import count_open
from hypothesis import given
from hypothesis import strategies as st

from mtad.ipc import counters
from mtad.ipc.counters import SLOTS, Counters, Counts


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = counters.create()
    yield descriptor
    os.close(descriptor)


def test_new_memory_is_zero_to_its_last_row(memory: int) -> None:
    shared = Counters(memory)
    assert {shared.read(0), shared.read(SLOTS - 1)} == {Counts(0, 0, 0, 0)}
    with pytest.raises((IndexError, ValueError)):
        shared.session_opened(SLOTS)
    shared.close()


def test_what_one_process_counts_another_reads_after_its_death(memory: int) -> None:
    program = (
        "import os, signal, sys; from mtad.ipc.counters import Counters\n"
        "shared = Counters(int(sys.argv[1]))\n"
        "for slot in (0, 7):\n"
        "    shared.session_opened(slot); shared.session_opened(slot)\n"
        "    shared.session_closed(slot); shared.message_accepted(slot, 1_000)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(memory)], pass_fds=[memory], timeout=20)
    shared = Counters(memory)
    assert shared.read(0) == shared.read(7) == Counts(1, 2, 1, 1_000)
    assert shared.read(1) == Counts()
    shared.close()


counts = st.builds(Counts, *[st.integers(-(2**64), 2**64)] * 4)


@given(counts, counts, counts)
def test_sums(one: Counts, two: Counts, three: Counts) -> None:
    assert one.plus(Counts()) == one
    assert one.plus(two) == two.plus(one)
    assert one.plus(two).plus(three) == one.plus(two.plus(three))
    assert one.plus(two) == tuple(map(sum, zip(one, two, strict=True)))


@given(
    st.lists(
        st.tuples(st.sampled_from(["open", "close", "message"]), st.integers(0, 2)), max_size=50
    )
)
def test_rows_are_independent(steps: list[tuple[str, int]]) -> None:
    descriptor = counters.create()
    shared = Counters(descriptor)
    expected = {slot: Counts() for slot in range(4)}
    for step, slot in steps:
        if step == "open":
            shared.session_opened(slot)
            expected[slot] = expected[slot].plus(Counts(active=1, sessions=1))
        elif step == "close" and expected[slot].active:
            shared.session_closed(slot)
            expected[slot] = expected[slot].plus(Counts(active=-1))
        elif step == "message":
            shared.message_accepted(slot, slot + 1)
            expected[slot] = expected[slot].plus(Counts(messages=1, octets=slot + 1))
    assert {slot: shared.read(slot) for slot in range(4)} == expected
    shared.close()
    os.close(descriptor)


def test_a_holder_cannot_change_the_size(memory: int) -> None:
    """A reader of memory that was cut off would die of SIGBUS."""
    size = os.fstat(memory).st_size
    for wanted in (0, size - 1, size + 1):
        with pytest.raises(PermissionError) as caught:
            os.ftruncate(memory, wanted)
        assert caught.value.errno == errno.EPERM
    assert os.fstat(memory).st_size == size


def test_a_holder_cannot_add_a_seal(memory: int) -> None:
    """F_SEAL_WRITE would stop the counting of whoever maps it next."""
    with pytest.raises(PermissionError):
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_without_the_seals_the_size_can_change() -> None:
    """The negative control."""
    descriptor = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 4096)
    os.ftruncate(descriptor, 0)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(descriptor)


def test_nonsense_in_the_memory_is_only_a_number(memory: int) -> None:
    """A worker that was taken over can write what it likes into its own rows."""
    with mmap.mmap(memory, 32) as raw:
        raw[:] = b"\xff" * 32
    shared = Counters(memory)
    lie = shared.read(0)
    assert lie == Counts(*[2**64 - 1] * 4)
    assert lie.plus(lie).plus(Counts(*(-count for count in lie))) == lie
    shared.close()


def test_close_gives_the_memory_back(memory: int) -> None:
    before = count_open()
    shared = Counters(memory)
    shared.close()
    assert count_open() <= before

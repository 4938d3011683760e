"""Who has more sessions than the others: exact among the honest, a number in any case."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.ipc.loads import CELLS, Load, Loads


@pytest.fixture
def loads() -> Iterator[Loads]:
    made = Loads()
    yield made
    made.close()


def joined(loads: Loads, *sessions: int) -> list[Load]:
    """Return as many workers as there are numbers, with so many sessions."""
    workers = [Load(loads.descriptor, loads.take()) for _ in sessions]
    for worker, number in zip(workers, sessions, strict=True):
        worker.change(number)
    return workers


@pytest.mark.parametrize(
    ("sessions", "ahead"),
    [
        ([100], [False]),
        ([1, 0], [False, False]),
        ([2, 0], [True, False]),
        ([10, 9, 11], [False, False, False]),
        ([10, 12, 9], [False, True, False]),
        ([89, 80], [False, False]),
        ([92, 80], [True, False]),
    ],
)
def test_ahead(loads: Loads, sessions: list[int], ahead: list[bool]) -> None:
    assert [worker.is_ahead() for worker in joined(loads, *sessions)] == ahead


def test_the_dead_are_not_waited_for(loads: Loads) -> None:
    cells = [loads.take() for _ in range(3)]
    assert cells == [1, 2, 3]
    living = Load(loads.descriptor, 3)
    living.change(5)
    assert not living.is_ahead()  # the others have a cell, and do not serve yet
    dead = Load(loads.descriptor, 1)
    assert not living.is_ahead()
    dead.change(0)
    assert living.is_ahead()
    dead.change(3)
    loads.free(1)
    assert not living.is_ahead()
    assert loads.take() == 1
    assert not living.is_ahead()


def test_no_more_cells(loads: Loads) -> None:
    """Who has none counts for nobody, and serves all the same."""
    assert [loads.take() for _ in range(1, CELLS)] == list(range(1, CELLS))
    assert loads.take() == 0
    (without,) = joined(loads, 3)
    assert not without.is_ahead()
    loads.free(0)
    loads.free(7)
    assert loads.take() == 7
    Load(loads.descriptor, 7).change(0)
    assert without.is_ahead()


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4),
    st.integers(0, 2**64 - 1),
    st.integers(0, 100),
)
def test_nonsense_is_only_a_hint(cells: list[int], used: int, sessions: int) -> None:
    loads = Loads()
    (worker,) = joined(loads, sessions)
    with os.fdopen(loads.descriptor, "r+b") as file:
        file.write(b"".join(number.to_bytes(8, "little") for number in [used, *cells]))
        file.flush()
        assert worker.is_ahead() in (True, False)
        worker.change(1)
        file.seek(8)
        assert file.read(8) == (sessions + 2).to_bytes(8, "little")  # its own is what it counted


@given(st.integers(2, 5), st.lists(st.integers(0, 4), min_size=1, max_size=200))
def test_whoever_is_awake_first_the_difference_stays_small(workers: int, awake: list[int]) -> None:
    """Somebody can always accept, and nobody gets far ahead."""
    loads = Loads()
    everybody = joined(loads, *[0] * workers)
    taken = [0] * workers
    for first in awake:
        order = [(first + n) % workers for n in range(workers)]
        taker = next(number for number in order if not everybody[number].is_ahead())
        everybody[taker].change(1)
        taken[taker] += 1
        assert max(taken) <= min(taken) + 2 + min(taken) // 8
    loads.close()

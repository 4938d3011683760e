"""Limits across workers: exact, whatever the workers do, and remembered no longer than needed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.model.profile import Limits
from mtad.supervisor import admissions
from mtad.supervisor.admissions import Admissions

LISTENERS = {
    1: ("mx", Limits(sessions=3, sessions_per_peer=2)),
    2: ("mx", Limits(sessions=3, sessions_per_peer=2)),  # started again
    3: ("peers", Limits(sessions_per_peer=1)),
    4: ("free", Limits()),
}


@pytest.fixture
def counting() -> Admissions:
    return Admissions(LISTENERS.get)


def test_a_limit_holds_for_all_workers_together(counting: Admissions) -> None:
    assert counting.admit(1, 1, 1, "a") == ""
    assert counting.admit(2, 1, 1, "b") == ""
    assert counting.admit(3, 1, 2, "c") == "", "an earlier opening of the same listener counts"
    assert counting.admit(4, 1, 2, "d") == "sessions"
    counting.leave(2, 1)
    assert counting.admit(4, 2, 1, "d") == ""


def test_a_peer_has_a_limit_of_its_own(counting: Admissions) -> None:
    assert counting.admit(1, 1, 3, "a") == ""
    assert counting.admit(2, 1, 3, "a") == "sessions_per_peer"
    assert counting.admit(2, 2, 3, "b") == ""
    assert counting.admit(2, 3, 4, "a") == "", "another listener, another count"


def test_a_dead_worker_gives_everything_back(counting: Admissions) -> None:
    for ticket in range(3):
        assert counting.admit(1, ticket, 1, f"peer{ticket}") == ""
    assert counting.admit(2, 1, 1, "x") == "sessions"
    counting.forget(1)
    counting.forget(1)
    for ticket in range(3):
        assert counting.admit(2, ticket, 1, f"peer{ticket}") == ""


def test_lies_change_nothing_for_others(counting: Admissions) -> None:
    for ticket in range(3):
        assert counting.admit(1, ticket, 1, f"peer{ticket}") == ""
    for ticket in range(3):
        counting.leave(2, ticket)  # they are the other worker's
    counting.forget(3)
    assert counting.admit(2, 1, 1, "x") == "sessions"
    assert counting.admit(1, 0, 4, "x") == "sessions", "a ticket is used once"
    assert counting.admit(1, 99, 99, "x") == "sessions", "there is no such listener"
    counting.leave(1, 0)
    counting.leave(1, 0)
    assert counting.admit(2, 1, 1, "x") == ""
    assert counting.admit(2, 2, 1, "x") == "sessions"


def test_a_worker_has_so_many_tickets_and_no_more(
    counting: Admissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissions, "MAX_TICKETS", 10)
    assert [counting.admit(1, n, 4, str(n)) for n in range(12)] == [""] * 10 + ["sessions"] * 2
    assert counting.admit(2, 1, 4, "x") == ""


def test_what_has_ended_is_forgotten(counting: Admissions) -> None:
    for ticket in range(1_000):
        counting.admit(1, ticket, 4, f"peer{ticket}")
        counting.leave(1, ticket)
    counting.forget(1)
    held = (counting._tickets, counting._sessions, counting._of_peer)
    assert [len(one) for one in held] == [0, 0, 0]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["admit", "leave", "forget"]),
            st.integers(1, 3),
            st.integers(1, 6),
            st.integers(1, 5),
            st.sampled_from("ab"),
        ),
        max_size=60,
    )
)
def test_the_count_is_that_of_the_sessions(steps: list[tuple[str, int, int, int, str]]) -> None:
    counting = Admissions(LISTENERS.get)
    sessions: dict[tuple[int, int], tuple[str, str]] = {}
    for what, worker, ticket, opening, peer in steps:
        if what == "leave":
            counting.leave(worker, ticket)
            sessions.pop((worker, ticket), None)
        elif what == "forget":
            counting.forget(worker)
            sessions = {key: one for key, one in sessions.items() if key[0] != worker}
        else:
            name, limits = LISTENERS.get(opening, ("", Limits(sessions=-1)))
            of_listener = Counter(one[0] for one in sessions.values())[name]
            of_peer = Counter(sessions.values())[name, peer]
            may = (
                bool(name)
                and (worker, ticket) not in sessions
                and not 0 < limits.sessions <= of_listener
                and not 0 < limits.sessions_per_peer <= of_peer
            )
            assert (counting.admit(worker, ticket, opening, peer) == "") is may
            if may:
                sessions[worker, ticket] = (name, peer)

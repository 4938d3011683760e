"""Nothing that was answered 250 is lost, whatever ends; `scripts/loss` asks more often."""

from __future__ import annotations

import time

import pytest
from harness import loss
from harness.ledger import LOST

pytestmark = [pytest.mark.integration, pytest.mark.root]

SEED = time.time_ns() % 1_000_000


@pytest.fixture(scope="module")
def power_cuts() -> None:
    if reason := loss.missing():
        pytest.skip(reason)


def holds(end: str, rounds: int, durability: str = "fsync") -> None:
    for number, faults in enumerate(loss.run(end, rounds, SEED, durability)):
        assert not faults, f"seed {SEED}, round {number}: {len(faults)} faults: {faults[:5]}"


def loses(end: str, durability: str) -> None:
    """The experiment finds what is lost by a daemon that does not promise to keep it."""
    for faults in loss.run(end, loss.ROUNDS_OF_A_STORE, SEED, durability):
        if any(fault.startswith(LOST) for fault in faults):
            return
    pytest.fail(f"seed {SEED}: nothing was lost with durability {durability}")


@pytest.mark.parametrize("end", ["worker", "supervisor", "all"])
def test_killed(end: str) -> None:
    holds(end, 2)


def test_killed_without_sync() -> None:
    holds("all", 1, "os")


def test_killed_in_memory_loses() -> None:
    loses("all", "memory")


@pytest.mark.usefixtures("power_cuts")
def test_power_cut() -> None:
    holds("power", 2)


@pytest.mark.usefixtures("power_cuts")
def test_power_cut_without_sync_loses() -> None:
    loses("power", "os")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("end", ["worker", "supervisor", "all"])
def test_killed_a_hundred_times(end: str) -> None:
    holds(end, 100)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("power_cuts")
def test_power_cut_a_hundred_times() -> None:
    holds("power", 100)

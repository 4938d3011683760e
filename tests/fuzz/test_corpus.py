"""What fuzzing has found to be of interest is tried each time, and a little by chance."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import corpus
from fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    inputs = corpus.read(name)
    assert inputs
    for octets in inputs:
        TARGETS[name].run(octets)


@pytest.mark.parametrize("name", TARGETS)
def test_by_chance(name: str) -> None:
    target = TARGETS[name]
    parts = st.sampled_from(target.words) | st.binary(max_size=10)

    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(parts, max_size=20).map(lambda some: b"".join(some)[: target.size]))
    def check(octets: bytes) -> None:
        target.run(octets)

    check()

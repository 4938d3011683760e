"""Durations in buckets, against the durations themselves."""

from __future__ import annotations

from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.model.histogram import Histogram, bucket, merge, middle, percentile

durations = st.integers(0, 100) | st.integers(0, 4_000_000_000) | st.integers(0, 2**62)


def histogram_of(values: list[int]) -> Histogram:
    return dict(Counter(map(bucket, values)))


@given(durations)
def test_the_middle_of_a_bucket_is_near_everything_in_it(duration: int) -> None:
    assert abs(middle(bucket(duration)) - duration) * 32 <= duration


@given(durations, durations)
def test_a_longer_duration_is_in_no_lower_bucket(one: int, other: int) -> None:
    assert (bucket(one) <= bucket(other)) or one > other


@given(durations)
def test_the_middle_of_a_bucket_is_in_it(duration: int) -> None:
    number = bucket(duration)
    assert bucket(middle(number)) == number


def test_buckets_leave_no_number_out_and_are_few() -> None:
    hour = 3_600_000_000
    edges = {0, *(1 << bit for bit in range(40)), hour}
    assert bucket(hour) < 500
    found = {bucket(at + step * (at // 16 or 1)) for at in edges for step in range(16)}
    assert set(range(bucket(hour))) <= found


@given(st.lists(durations, min_size=1, max_size=60), st.sampled_from([0, 1, 50, 90, 99, 99.9, 100]))
def test_percentiles_are_those_of_the_durations(values: list[int], percent: float) -> None:
    exact = sorted(values)[max(ceil(len(values) * percent / 100), 1) - 1]
    found = percentile(histogram_of(values), percent)
    assert found is not None
    assert abs(found - exact) * 32 <= exact


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile({}, 50) is None


@given(st.lists(durations, max_size=30), st.lists(durations, max_size=30))
def test_merged_histograms_are_that_of_all(ones: list[int], others: list[int]) -> None:
    merged = histogram_of(ones)
    merge(merged, histogram_of(others))
    assert merged == histogram_of(ones + others)


@pytest.mark.parametrize(("duration", "number"), [(0, 0), (31, 31), (32, 32), (33, 32), (34, 33)])
def test_where_buckets_begin(duration: int, number: int) -> None:
    """They are in what is kept: they can never change."""
    assert bucket(duration) == number

"""Durations as a log histogram: counts by buckets, as wide as the 16th of what they hold.

A histogram is ``{bucket: count}``. Microseconds below 32 have a bucket each; above, every power of
two is cut into 16 (as in HdrHistogram): so 500 buckets reach from a microsecond to an hour, and
what is told of a duration is off by 1/32 of it at most.
"""

from __future__ import annotations

from collections.abc import Mapping

Histogram = dict[int, int]

_BITS = 4


def bucket(microseconds: int) -> int:
    """Return the bucket of a duration, which is not negative."""
    above = microseconds.bit_length() - _BITS - 1
    return (above << _BITS) + (microseconds >> above) if above > 0 else microseconds


def middle(number: int) -> int:
    """Return the microseconds in the middle of a bucket."""
    above = (number >> _BITS) - 1
    if above <= 0:
        return number
    return ((number - (above << _BITS)) << above) + ((1 << above) >> 1)


def merge(into: Histogram, other: Mapping[int, int]) -> None:
    """Add the counts of ``other``."""
    for number, count in other.items():
        into[number] = into.get(number, 0) + count


def percentile(histogram: Mapping[int, int], percent: float) -> int | None:
    """Return the microseconds that ``percent`` of the durations do not exceed; None for none."""
    rest = sum(histogram.values()) * percent / 100
    for number in sorted(histogram):
        rest -= histogram[number]
        if rest <= 0:
            return middle(number)
    return None

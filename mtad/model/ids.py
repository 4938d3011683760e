"""Ids of messages and sessions: numbers that sort by time, and how people write them.

A number is in nanoseconds since the epoch, or just above; its text, 13 digits of Crockford's base32
in lower case, sorts as the number does.

A clock may be wrong: ids go on from the last one, even if that is ahead of the clock. But one that
is further ahead than ``AHEAD_SECONDS``, ten years, is nobody's, as is one below 1: nothing goes on
from it, or a single row with the greatest number there is would be the last. A clock that stands
before 2026, as where a machine has none, counts as 2026.
"""

from __future__ import annotations

import time

AHEAD_SECONDS = 10 * 365 * 86_400
"""So far ahead of the clock an id may be."""

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_LENGTH = 13
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]
_WORKERS = 1024
_NS = 1_000_000_000
_2026 = 1_767_225_600 * _NS


def encode(number: int) -> str:
    """Return the text of ``number``, which is from 0 to 2**63 - 1."""
    pairs = _PAIRS
    return (
        f"{_DIGITS[number >> 60]}{pairs[number >> 50 & 1023]}{pairs[number >> 40 & 1023]}"
        f"{pairs[number >> 30 & 1023]}{pairs[number >> 20 & 1023]}{pairs[number >> 10 & 1023]}"
        f"{pairs[number & 1023]}"
    )


def decode(text: str) -> int:
    """Return the number of ``text``, in either case. Raises ValueError for what is no id."""
    number = 0
    for digit in text.lower():
        value = _VALUES.get(digit)
        if value is None:
            raise ValueError(f"{digit!r} is no digit of an id")
        number = number << 5 | value
    if len(text) != _LENGTH or number >> 63:
        raise ValueError(f"an id has {_LENGTH} digits")
    return number


def highest() -> int:
    """Return the greatest number that an id can have now."""
    return max(time.time_ns(), _2026) + AHEAD_SECONDS * _NS


class Keys:
    """Makes the keys of a worker's sessions: each greater than the last, none another's."""

    def __init__(self, worker: int) -> None:
        self._worker = worker % _WORKERS
        self._last = 0

    def next(self) -> int:
        """Return a new key."""
        now = time.time_ns() // _WORKERS * _WORKERS
        self._last = max(now, self._last + _WORKERS) // _WORKERS * _WORKERS
        return self._last | self._worker

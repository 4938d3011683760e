"""What was expected of a sender, and whether it did so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from mtad.model.deliveries.attempts import Outcome
from mtad.model.deliveries.report import Report, Verdict


class Range(msgspec.Struct, frozen=True):
    """Both ends included; ``most`` None: no end."""

    least: float = 0.0
    most: float | None = None

    def has(self, value: float) -> bool:
        """Whether ``value`` is in it."""
        return value >= self.least and (self.most is None or value <= self.most)


class Expected(msgspec.Struct, frozen=True):
    """What is expected; None: anything.

    ``messages`` are the different ones that are kept in the end, ``duplicates`` how often one is
    kept again, ``lost`` the deliveries that are not; ``order``: messages are kept in the order in
    which they were attempted first. Each delivery has so many ``attempts``; ``first_retry`` is
    the time, in seconds, from its first attempt to the second, ``intervals`` all such times.
    """

    messages: int | None = None
    duplicates: int | None = None
    lost: int | None = None
    order: bool = False
    attempts: Range | None = None
    first_retry: Range | None = None
    intervals: Range | None = None


def judge(report: Report, expected: Expected) -> list[Verdict]:
    """Return a verdict for each thing that is expected."""
    return [
        verdict
        for name in expected.__struct_fields__
        if (wanted := getattr(expected, name)) is not None and wanted is not False
        for verdict in _JUDGES[name](report, name, wanted)
    ]


def _count(report: Report, name: str, wanted: int) -> Iterator[Verdict]:
    found = getattr(report, name)
    yield Verdict(name, str(wanted), str(found), found == wanted)


def _order(report: Report, name: str, _: bool) -> Iterator[Verdict]:
    late = report.overtaken
    yield Verdict(name, "kept", f"{late} overtaken" if late else "kept", not late)


def _attempts(report: Report, name: str, wanted: Range) -> Iterator[Verdict]:
    counts = [len(one.attempts) for one in report.deliveries]
    yield _ranged(name, wanted, counts, "", 0)


def _first_retry(report: Report, name: str, wanted: Range) -> Iterator[Verdict]:
    firsts, missing = [], 0
    for one in report.deliveries:
        times = [interval.seconds for interval in report.intervals(one)]
        first = one.attempts[0]
        firsts += times[:1]
        # One that is not due yet is not missing.
        is_due = wanted.most is not None and report.ended - first.at > wanted.most
        is_open = first.outcome in (Outcome.DEFERRED, Outcome.BROKEN)
        missing += not times and is_open and is_due
    yield _ranged(name, wanted, firsts, " s", missing)


def _intervals(report: Report, name: str, wanted: Range) -> Iterator[Verdict]:
    every = [interval.seconds for one in report.deliveries for interval in report.intervals(one)]
    yield _ranged(name, wanted, every, " s", 0)


def _ranged(name: str, wanted: Range, found: list[Any], unit: str, missing: int) -> Verdict:
    """Return the verdict on values that are all to be in a range, and of which some are missing."""
    words = _from_to(min(found), max(found)) + unit if found else "none"
    words += f", and {missing} missing" if missing else ""
    ok = bool(found) and not missing and all(map(wanted.has, found))
    return Verdict(name, _range(wanted, unit), words, ok)


def _range(wanted: Range, unit: str) -> str:
    if wanted.most is None:
        return f"{wanted.least:g}{unit} or more"
    return _from_to(wanted.least, wanted.most) + unit


def _from_to(least: float, most: float) -> str:
    return " to ".join(dict.fromkeys((f"{least:.3g}", f"{most:.3g}")))


_JUDGES: dict[str, Callable[[Report, str, Any], Iterator[Verdict]]] = {
    "messages": _count,
    "duplicates": _count,
    "lost": _count,
    "order": _order,
    "attempts": _attempts,
    "first_retry": _first_retry,
    "intervals": _intervals,
}

"""The report on a sender: its deliveries, and the numbers that they make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from mtad.model.deliveries.attempts import Kept, Outcome, Session, Stray, attempts_of
from mtad.model.deliveries.grouping import Delivery, deliveries_of


class Closure(msgspec.Struct, frozen=True):
    """From when to when, in seconds since the epoch, nobody could connect: nothing was seen."""

    began: float
    ended: float


class Interval(msgspec.Struct, frozen=True):
    """Seconds between the beginnings of two attempts that follow each other.

    ``is_blind``: a listener was closed meanwhile, so that there may have been others.
    """

    seconds: float
    is_blind: bool


class Done(msgspec.Struct, frozen=True):
    """A step of a scenario that was done, so many seconds after its beginning."""

    at: float
    words: str


class Verdict(msgspec.Struct, frozen=True):
    """One expectation, and what was found, in words."""

    what: str
    expected: str
    found: str
    ok: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.found}{'' if self.ok else f', not {self.expected}'}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was seen of senders from ``began`` to ``ended``, in seconds since the epoch.

    ``strays`` are sessions that came to no envelope: what they were for, nobody knows.
    ``unheard`` sessions have no transcript: of them there is only what was kept. ``done`` are the
    steps of the scenario that it is about, ``verdicts`` are on what was expected.
    """

    began: float
    ended: float
    deliveries: tuple[Delivery, ...]
    strays: tuple[Stray, ...] = ()
    closures: tuple[Closure, ...] = ()
    unheard: int = 0
    done: tuple[Done, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all is as it was expected."""
        return all(verdict.ok for verdict in self.verdicts)

    @property
    def messages(self) -> int:
        """How many different messages were kept."""
        return len({one.identity for one in self.deliveries if one.kept})

    @property
    def duplicates(self) -> int:
        """How often a message was kept again for the same recipient."""
        return sum(len(one.kept) - 1 for one in self.deliveries if one.kept)

    @property
    def lost(self) -> int:
        """How many deliveries were attempted, and nothing was kept."""
        return sum(not one.kept for one in self.deliveries)

    @property
    def overtaken(self) -> int:
        """How many messages were kept after one that had been attempted later."""
        first_kept: dict[str, str] = {}
        for one in self.deliveries:  # in the order of their first attempts
            for kept in one.kept:
                first_kept[one.identity] = min(kept, first_kept.get(one.identity, kept))
        latest, count = "", 0
        for kept in first_kept.values():
            count += kept < latest
            latest = max(kept, latest)
        return count

    def intervals(self, delivery: Delivery) -> Iterator[Interval]:
        """Yield the intervals between the attempts of a delivery."""
        for one, following in pairwise(delivery.attempts):
            is_blind = any(
                closure.began < following.at and closure.ended > one.at for closure in self.closures
            )
            yield Interval(following.at - one.at, is_blind)

    def __str__(self) -> str:
        """What was expected and found, and every attempt, a line each."""
        lines = list(map(str, self.verdicts))
        for one in self.deliveries:
            lines.append(f"from <{one.sender}> to <{one.recipient or '?'}>:")
            lines += [f"{each.at - self.began:10.3f} s  {each}" for each in one.attempts]
        return "\n".join(lines)

    def is_settled(self) -> bool:
        """Whether no sender has a reason to come again: each was told in the end."""
        told = (Outcome.ACCEPTED, Outcome.REFUSED)
        return all(one.attempts[-1].outcome in told for one in self.deliveries)


def report_of(
    sessions: Iterable[Session],
    kept: Iterable[Kept],
    *,
    began: float,
    ended: float,
    closures: Iterable[Closure] = (),
    run: str = "",
) -> Report:
    """Return the report on ``sessions`` and on the messages ``kept``, in the order of their ids.

    What began before ``began`` or after ``ended`` is left out.
    With ``run``, on nothing but the messages with that tag, and on what was refused of the
    recipients ``somebody+RUN@…``.
    """
    sessions, kept = list(sessions), list(kept)
    attempts, strays = attempts_of(sessions, kept)
    deliveries = deliveries_of(one for one in attempts if began <= one.at <= ended)
    if run:
        tagged = {one.id for one in kept if one.run == run}
        deliveries = [one for one in deliveries if _is_of_run(one, run, tagged)]
    return Report(
        began,
        ended,
        tuple(deliveries),
        () if run else tuple(one for one in strays if began <= one.at <= ended),
        tuple(closures),
        sum(not session.entries for session in sessions),
    )


def _is_of_run(delivery: Delivery, run: str, tagged: set[str]) -> bool:
    if delivery.kept:
        return not tagged.isdisjoint(delivery.kept)
    local_part = (delivery.recipient or "").rpartition("@")[0]
    return local_part.partition("+")[2] == run

"""Which attempts belong together: those of one message to one recipient are a delivery.

What a message is, is known where it was kept: by its Message-ID, or else its content's hash. An
attempt that came to nothing shows its sender, its recipient and, in MAIL's SIZE=, how large the
message is. It belongs to the delivery of the same that was not accepted before it: to the one that
was kept later, if there is one. Where there are several, nobody can tell; they are dealt the
attempts in turn, and their deliveries are ``guessed``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from mtad.model.deliveries.attempts import Attempt, Outcome


@dataclass(slots=True)
class Delivery:
    """The attempts, in order, to bring one message to one recipient (None: never told).

    ``identity`` is the message's, "" if it was not kept for anybody.
    """

    sender: str
    recipient: str | None
    identity: str = ""
    guessed: bool = False
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def kept(self) -> list[str]:
        """The ids of what was kept: more than one is a duplicate."""
        return list(dict.fromkeys(one.kept for one in self.attempts if one.kept))

    @property
    def sizes(self) -> set[str]:
        """What SIZE= said, where it said anything."""
        return {one.size for one in self.attempts if one.size}

    def could_be(self, attempt: Attempt) -> bool:
        """Whether ``attempt`` may belong to it; sender and recipient do."""
        if attempt.size and self.sizes and attempt.size not in self.sizes:
            return False
        return not any(
            one.outcome is Outcome.ACCEPTED and one.at < attempt.at for one in self.attempts
        )


def deliveries_of(attempts: Iterable[Attempt]) -> list[Delivery]:
    """Return the deliveries that ``attempts``, in order, belong to: in order of their first."""
    grouping = _Grouping()
    unknown = []
    for attempt in attempts:
        if attempt.identity and attempt.recipient is not None:
            grouping.known(attempt)
        else:
            unknown.append(attempt)
    for attempt in unknown:
        if attempt.recipient is not None:
            grouping.place(attempt)
    for attempt in unknown:
        if attempt.recipient is None:
            grouping.place_for_all(attempt)
    for delivery in grouping.deliveries:
        delivery.attempts.sort(key=lambda attempt: attempt.at)
    return sorted(grouping.deliveries, key=lambda delivery: delivery.attempts[0].at)


class _Grouping:
    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self._by_identity: dict[tuple[str, str | None], Delivery] = {}
        self._by_sender: dict[str, list[Delivery]] = defaultdict(list)
        self._by_people: dict[tuple[str, str | None], list[Delivery]] = defaultdict(list)

    def known(self, attempt: Attempt) -> None:
        """Add an attempt with a message that is known."""
        key = attempt.identity, attempt.recipient
        delivery = self._by_identity.get(key)
        if delivery is None:
            delivery = self._by_identity[key] = self._new(attempt)
        delivery.attempts.append(attempt)

    def place(self, attempt: Attempt) -> None:
        """Add an attempt that came to nothing."""
        self._deal(attempt, self._by_people[attempt.sender, attempt.recipient]).attempts.append(
            attempt
        )

    def place_for_all(self, attempt: Attempt) -> None:
        """Add an attempt without a recipient: to a message of its sender's, for all of them."""
        there = self._by_sender[attempt.sender]
        chosen = self._deal(attempt, there)
        for delivery in there:
            if delivery is chosen or (chosen.identity and delivery.identity == chosen.identity):
                delivery.attempts.append(attempt)

    def _deal(self, attempt: Attempt, there: list[Delivery]) -> Delivery:
        """Return the delivery that an attempt belongs to; of several, the one whose turn it is."""
        candidates = [one for one in there if one.could_be(attempt)]
        if not candidates:
            return self._new(attempt)
        if len({one.identity or id(one) for one in candidates}) > 1:
            for one in candidates:
                one.guessed = True
        return min(candidates, key=lambda one: _tried_before(one, attempt))

    def _new(self, attempt: Attempt) -> Delivery:
        delivery = Delivery(attempt.sender, attempt.recipient, attempt.identity)
        self.deliveries.append(delivery)
        self._by_sender[attempt.sender].append(delivery)
        self._by_people[attempt.sender, attempt.recipient].append(delivery)
        return delivery


def _tried_before(delivery: Delivery, attempt: Attempt) -> int:
    return sum(one.at <= attempt.at for one in delivery.attempts)

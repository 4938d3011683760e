"""What relays have logged of their attempts to deliver: each with its time and what came of it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

_POSTFIX = re.compile(
    r"to=<(?P<to>[^>]*)>, relay=.*?, delay=(?P<delay>[0-9.]+), .*status=(?P<status>\w+) "
    r"\((?P<why>.*)\)$",
    re.MULTILINE,
)
_EXIM = re.compile(
    r"^(?P<at>\S+ \S+) \S+ (?P<mark>=>|->|==|\*\*) (?P<to>\S+) (?P<why>.*)$", re.MULTILINE
)
# What is said of an attempt says what came of it; "": it was none that anybody could see.
_OUTCOMES = {
    "": re.compile("Connection refused|temporarily suspended|retry time not reached"),
    "accepted": re.compile('^250 |C="250 '),
    "deferred": re.compile("said: 4|: 4[0-9]{2} "),
    "broken": re.compile("lost connection|closed connection"),
}


class Logged(NamedTuple):
    """An attempt; ``at`` is in seconds since whenever, the same for all of a recipient's."""

    at: float
    outcome: str


def attempts(log: str) -> dict[str, list[Logged]]:
    """Return the attempts for each recipient, in their order, that reached a server."""
    found: dict[str, list[Logged]] = defaultdict(list)
    for recipient, at, why in (*_of_postfix(log), *_of_exim(log)):
        outcome = next(name for name, words in _OUTCOMES.items() if words.search(why))
        if outcome:
            found[recipient].append(Logged(at, outcome))
    return dict(found)


def _of_postfix(log: str) -> Iterator[tuple[str, float, str]]:
    """Yield recipient, time and reason; ``delay`` is the time since the message came."""
    for line in _POSTFIX.finditer(log):
        yield line["to"], float(line["delay"]), line["why"]


def _of_exim(log: str) -> Iterator[tuple[str, float, str]]:
    """Yield the same; recipients after the first of a transaction are marked ``->``."""
    for line in _EXIM.finditer(log):
        yield line["to"], datetime.fromisoformat(line["at"]).timestamp(), line["why"]

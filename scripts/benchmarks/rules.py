"""What it costs to ask fault rules: where none matches, where one does, and where it is counted.

Run by `scripts/bench rules`, in a few seconds. No daemon is started: the calls are those of a
session at RCPT, and of the supervisor. Prints the best of several turns in microseconds, with
--json the figures, and says which goals were missed.
"""

from __future__ import annotations

import argparse
import json
import timeit
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rig.machine import machine

from mtad.model.rules.decision import Ledger, choose
from mtad.model.rules.facts import Facts
from mtad.model.rules.judge import Asked
from mtad.model.rules.matching import RuleSet, key
from mtad.model.rules.values import (
    AnyGate,
    At,
    Chance,
    Choice,
    Close,
    Do,
    First,
    Greylist,
    Moment,
    Quota,
    Rate,
    Rule,
    Said,
    When,
    Where,
)

MANY = 1_000
TURNS, CALLS = 9, 1_000
NOW = 1_800_000_000.0
RCPT = At(Moment.RCPT)
REFUSED = Do(reply=Said(450, "4.2.0", "Try again later"))
DRAWN = Do(delay=1, one_of=(Choice(9, Do()), Choice(1, Do(close=Close.RST, jitter=1))))
FACTS = Facts(
    "mx",
    "192.0.2.7",
    helo="client.example.net",
    sender="bob@example.net",
    recipients=["alice@example.com"],
)

NEVER: dict[str, Callable[[int], Where]] = {
    "recipients": lambda n: Where(recipient=(f"nobody{n}@example.com",)),
    "domains": lambda n: Where(recipient=(f"*@nobody{n}.example",)),
    "recipients (*-1@example.com)": lambda n: Where(recipient=(f"*-{n}@example.com",)),
    "senders": lambda n: Where(sender=(f"nobody{n}@example.com",)),
    "networks": lambda n: Where(peer=(f"10.{n >> 8}.{n & 255}.0/24",)),
    "test runs": lambda n: Where(run=f"ci-{n}"),
}
COUNTED: dict[str, AnyGate | None] = {
    "first": First(3),
    "chance": Chance(0.5),
    "greylist": Greylist(),
    "rate": Rate(10),
    "quota": Quota(1 << 40),
    "nothing, but drawn": None,
}


class Row(NamedTuple):
    """A case; ``goal`` is in microseconds, None where there is none."""

    name: str
    call: Callable[[], object]
    goal: float | None


def rows() -> Iterator[Row]:
    """Yield all cases."""
    yield Row("no rule at that moment", asked([rule(at=At(Moment.MAIL))]), 0.5)
    for name, where in NEVER.items():
        yield Row(f"{MANY:,} rules for other {name}", asked(many(where)), 5)
    kinds = list(NEVER.values())
    yield Row(f"{MANY:,} of all these kinds", asked(many(lambda n: kinds[n % 6](n))), 10)
    regular = many(lambda n: Where(recipient=(f"/nobody{n}/",)))
    yield Row(f"{MANY:,} regular expressions", asked(regular), None)
    here = rule("here", where=Where(recipient=("*@example.com",), tls=False))
    yield Row("one rule, it matches", asked([here]), 10)
    yield Row(f"the last of {MANY + 1:,} matches", asked([*many(NEVER["domains"]), here]), 10)
    per = rule(when=When(per=("peer", "sender", "recipient")))
    yield Row("the key of a hit", lambda: key(per, FACTS), 10)
    for name, gate in COUNTED.items():
        yield Row(f"a decision about one key: {name}", decided(gate, 1), 20)
    yield Row("a decision: greylist, 100,000 keys in turn", decided(Greylist(), 100_000), 20)
    yield Row("what is drawn, is chosen", lambda: choose(DRAWN, 0.95), 10)


def rule(
    name: str = "r",
    at: At = RCPT,
    where: Where | None = None,
    when: When | None = None,
    do: Do = REFUSED,
) -> Rule:
    return Rule(name, (at,), do, where or Where(), when or When())


def many(where: Callable[[int], Where]) -> list[Rule]:
    return [rule(f"never-{number}", where=where(number)) for number in range(MANY)]


def asked(rules: list[Rule]) -> Callable[[], object]:
    here = RuleSet(rules, FACTS.listener)
    return lambda: here.candidates(RCPT, FACTS, NOW)


def decided(gate: AnyGate | None, keys: int) -> Callable[[], object]:
    ledger = Ledger([rule(when=When(gate), do=REFUSED if gate else DRAWN)])
    hits = [(Asked("r", number.to_bytes(16), 4096),) for number in range(keys)]
    for hit in hits:
        ledger.decide(hit, NOW)
    turn = iter(hits * (TURNS * CALLS // keys + 2))
    return lambda: ledger.decide(next(turn), NOW)


def microseconds(call: Callable[[], object]) -> float:
    """Return the best of the turns: what is in the way of others is not the call's."""
    return min(timeit.repeat(call, number=CALLS, repeat=TURNS)) / CALLS * 1e6


def _word(took: float, goal: float) -> str:
    return "met" if took <= goal else "missed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    as_json = parser.parse_args().json
    measured = []
    for row in rows():
        took = microseconds(row.call)
        measured.append({"case": row.name, "us": round(took, 2), "goal": row.goal})
        if not as_json:
            goal = "" if row.goal is None else f"{row.goal:g}: {_word(took, row.goal)}"
            print(f"{row.name:52} {took:9.2f} µs  {goal}", flush=True)
    if as_json:
        print(json.dumps({"machine": machine(), "measured": measured}))


if __name__ == "__main__":
    main()

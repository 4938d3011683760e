"""The ledger: what is counted, what is forgotten, and that the order of others changes nothing."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate

import msgspec
import pytest
from harness.rule_attempts import NO, counted, rule
from hypothesis import given
from hypothesis import strategies as st

from mtad.model.rules import decision
from mtad.model.rules.decision import Counts, Ledger, choose
from mtad.model.rules.gates import State
from mtad.model.rules.values import (
    After,
    Chance,
    Choice,
    Close,
    Do,
    Every,
    First,
    Greylist,
    Nth,
    Quota,
    Rate,
    Rule,
    Source,
)

BEGAN = 1_800_000_000.0


@dataclass(frozen=True)
class Hit:
    rule: str
    key: bytes = b""
    octets: int = 0


def ask(ledger: Ledger, *rules: str, key: bytes = b"", now: float = BEGAN) -> str:
    return ledger.decide([Hit(name, key) for name in rules], now)[0]


def test_rules_are_asked_in_turn_until_one_fires() -> None:
    ledger = Ledger([counted(First(1), "a"), counted(First(2), "b"), rule("c")])
    assert [ask(ledger, "a", "b", "c") for _ in range(5)] == ["a", "b", "b", "c", "c"]
    assert ledger.counts("a") == Counts(seen=5, fired=1, keys=1)
    assert ledger.counts("b") == Counts(seen=4, fired=2, keys=1)
    assert ledger.counts("c") == Counts(seen=2, fired=2, keys=1)


def test_nothing_fires_where_none_does() -> None:
    ledger = Ledger([counted(Nth(2))])
    assert ledger.decide([Hit("r")], BEGAN) == ("", 0.0)
    assert ledger.decide([], BEGAN) == ("", 0.0)


def test_each_key_has_a_count_of_its_own() -> None:
    ledger = Ledger([counted(First(1), per=("peer",))])
    assert [ask(ledger, "r", key=key) for key in (b"k", b"l", b"k", b"l")] == ["r", "r", "", ""]
    assert ledger.counts("r") == Counts(4, 2, 2)


def test_a_rule_fires_as_often_as_it_may_for_all_keys_together() -> None:
    ledger = Ledger([rule("limited", hits=3), rule("behind")])
    names = [ask(ledger, "limited", "behind", key=bytes([number])) for number in range(5)]
    assert names == ["limited"] * 3 + ["behind"] * 2
    assert ledger.is_spent("limited")
    assert not ledger.is_spent("behind")
    assert ledger.counts("limited") == Counts(3, 3, 3), "who is spent is not asked"


def test_unknown_and_disabled_rules_are_passed_over() -> None:
    ledger = Ledger([rule("off", enabled=False), rule("on")])
    assert ask(ledger, "gone", "off", "on") == "on"
    assert ledger.counts("off") == ledger.counts("gone") == Counts()
    assert not ledger.is_spent("gone")


def test_what_fired_without_a_question_is_counted() -> None:
    ledger = Ledger([rule()])
    ledger.fired("r", 3)
    ledger.fired("r", 4)
    ledger.fired("gone", 1)
    assert ledger.counts("r") == Counts(7, 7, 0)
    assert ledger.counts("gone") == Counts()


@pytest.mark.parametrize("name", ["a", None])
def test_a_reset_rule_is_as_new(name: str | None) -> None:
    ledger = Ledger([counted(First(1), "a"), counted(First(1), "b")])
    before = [ask(ledger, "a"), ask(ledger, "a"), ask(ledger, "b")]
    ledger.reset(name)
    assert before == ["a", "", "b"]
    assert ask(ledger, "a") == "a"
    assert ask(ledger, "b") == ("b" if name is None else "")
    ledger.reset("gone")


def test_rules_that_say_what_they_said_keep_their_counts() -> None:
    kept, changed, gone = (counted(First(2), name) for name in ("kept", "changed", "gone"))
    ledger = Ledger([kept, changed, gone])
    for name in ("kept", "changed", "gone"):
        ask(ledger, name)
    disabled = msgspec.structs.replace(kept, enabled=False, source=Source.ADDED)
    ledger.replace([counted(First(3), "changed"), disabled])
    assert ledger.counts("changed") == ledger.counts("gone") == Counts()
    assert ledger.counts("kept") == Counts(1, 1, 1)
    assert ask(ledger, "kept", "gone") == "", "one is disabled, the other is gone"
    ledger.replace([kept, gone])
    assert [ask(ledger, "kept", "gone") for _ in range(4)] == ["kept", "gone", "gone", ""]


def test_looking_at_a_state_changes_nothing() -> None:
    ledger = Ledger([counted(First(1))])
    assert ledger.state("r", b"") == ledger.state("gone", b"") == State()
    assert ledger.counts("r") == Counts()
    ask(ledger, "r")
    assert ledger.state("r", b"").hits == 1


# Bounds


def test_who_has_not_come_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "KEYS", 3)
    ledger = Ledger([counted(First(1))])
    for key in (b"a", b"b", b"c", b"a", b"d"):
        ask(ledger, "r", key=key)
    assert ledger.counts("r") == Counts(5, 4, 3)
    known = [key for key in (b"a", b"b", b"c", b"d") if ledger.state("r", key).hits]
    assert known == [b"a", b"c", b"d"]


def test_no_number_of_rules_remembers_more_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "KEYS_OF_ALL", 30)
    names = [f"r{number}" for number in range(20)]
    rules = [counted(Nth(0), name) for name in names]
    ledger = Ledger(rules)

    def keys() -> int:
        return sum(ledger.counts(name).keys for name in names)

    def ask_all(of: list[str]) -> None:
        for number in range(50):
            ask(ledger, *of, key=bytes([number]))

    ask_all(names[:1])
    assert keys() == 30
    ask_all(names)
    assert keys() == 30 + 19, "each has one, at least"
    ledger.reset("r0")
    ask_all(names[1:2])
    assert keys() == 30, "another has the room of what was reset"
    ledger.replace(rules[:2])
    ask_all(names[:1])
    assert keys() == 30, "and that of the rules that are gone"
    ledger.reset()
    ask_all(names[:1])
    assert keys() == 30


def test_a_hundred_thousand_keys_of_a_rule_are_remembered() -> None:
    ledger = Ledger([counted(First(1))])
    for number in range(decision.KEYS + 5):
        ledger.decide([Hit("r", number.to_bytes(16))], BEGAN)
    assert ledger.counts("r").keys == decision.KEYS
    remembered = [ledger.state("r", number.to_bytes(16)).hits for number in (4, 5)]
    assert remembered == [0, 1]


# Order

RULES = [
    counted(Nth(2), "nth"),
    counted(Every(3), "every"),
    counted(Chance(0.3), "chance", seed=7),
    counted(Rate(2, 60), "rate"),
    counted(Rate(1, 60, growth=2.0), "growth"),
    counted(Greylist(60, 600, 3600), "greylist"),
    counted(Quota(100), "quota"),
    counted(After(9), "after"),
    rule("drawn", do=Do(one_of=(Choice(1, NO), Choice(3, Do())))),
]


@given(
    st.dictionaries(
        st.binary(min_size=16, max_size=16),
        st.lists(st.tuples(st.integers(0, 900), st.integers(0, 60)), max_size=12),
        max_size=4,
    ),
    st.permutations(RULES),
    st.randoms(use_true_random=False),
)
def test_attempts_are_decided_alike_in_whatever_order_keys_come(
    attempts: dict[bytes, list[tuple[int, int]]], rules: list[Rule], chance: random.Random
) -> None:
    """Those of a key come one after another; between them come those of the others."""

    def run() -> dict[bytes, list[tuple[str, float]]]:
        waiting = {
            key: list(zip(accumulate(ahead for ahead, _ in steps), steps, strict=True))
            for key, steps in attempts.items()
        }
        order = [key for key, steps in attempts.items() for _ in steps]
        chance.shuffle(order)
        ledger = Ledger(rules)
        found: dict[bytes, list[tuple[str, float]]] = {key: [] for key in attempts}
        for key in order:
            seconds, (_, octets) = waiting[key].pop(0)
            hits = [Hit(one.name, key, octets) for one in rules]
            found[key].append(ledger.decide(hits, BEGAN + seconds))
        counts.append([ledger.counts(one.name) for one in rules])
        return found

    counts: list[list[Counts]] = []
    assert run() == run()
    assert counts[0] == counts[1]


# Choices

THREE = Do(
    delay=9,
    one_of=(
        Choice(1, Do(close=Close.FIN)),
        Choice(0, Do(close=Close.HALF)),
        Choice(3, Do(close=Close.RST)),
        Choice(4, Do()),
    ),
)


@pytest.mark.parametrize(
    ("draw", "close"),
    [
        (0.0, Close.FIN),
        (0.124, Close.FIN),
        (0.125, Close.RST),
        (0.499, Close.RST),
        (0.5, None),
        (1 - 2**-53, None),
    ],
)
def test_one_of_several_is_chosen_by_weight_and_done_instead(
    draw: float, close: Close | None
) -> None:
    assert choose(THREE, draw) == Do(close=close)


def test_jitter_is_a_part_of_the_delay() -> None:
    do = Do(delay=2, jitter=4, close=Close.FIN)
    assert choose(do, 0.0) == Do(delay=2, close=Close.FIN)
    assert choose(do, 0.25) == Do(delay=3, close=Close.FIN)
    assert choose(NO, 0.25) is NO


def test_what_is_chosen_within_a_choice_does_not_depend_on_the_choice() -> None:
    inner = Do(one_of=(Choice(1, Do(delay=1)), Choice(1, Do(delay=2, jitter=1))))
    outer = Do(one_of=(Choice(1, inner), Choice(3, Do())))
    found = Counter(int(choose(outer, number / 1000).delay) for number in range(1000))
    assert found == {0: 750, 1: 125, 2: 125}
    delays = [choose(outer, number / 1000).delay for number in range(125, 250)]
    assert min(delays) == 2
    assert 2.99 < max(delays) < 3


weights = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8)


@given(weights, st.floats(0, 1, exclude_max=True))
def test_whatever_is_drawn_something_plain_is_chosen(shares: list[float], draw: float) -> None:
    delays = [Do(delay=number, jitter=1) for number in range(len(shares))]
    do = Do(one_of=tuple(map(Choice, shares, delays)))
    found = choose(do, draw)
    assert not found.one_of
    assert not found.jitter
    assert found.delay <= len(shares)  # 2 and nearly 1 are 3, rounded

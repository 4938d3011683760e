"""What is said of each rule: whether it fires, why not, and that nothing is counted by asking."""

from __future__ import annotations

from typing import Any

import pytest
from harness.rule_attempts import RCPT, counted, facts, rule, where

from mtad.model.rules.decision import Counts, Ledger
from mtad.model.rules.explain import explain
from mtad.model.rules.facts import Facts
from mtad.model.rules.matching import RuleSet, key
from mtad.model.rules.values import (
    After,
    AnyGate,
    At,
    Between,
    Chance,
    Cycle,
    Every,
    First,
    Greylist,
    Moment,
    Nth,
    Quota,
    Rate,
    Rule,
    Source,
    When,
    Window,
)

NOON = 1_800_014_400.0  # of 15 January 2027 it is 12:00 UTC


class Hit:
    def __init__(self, asked: Rule, known: Facts) -> None:
        self.rule = asked.name
        self.key = key(asked, known)
        self.octets = known.size or 0


def said(*rules: Rule, ledger: Ledger | None = None, **known: Any) -> list[tuple[bool, str]]:
    explained = explain(rules, ledger or Ledger(rules), RCPT, facts(**known), NOON)
    assert [one.rule for one in explained] == list(rules)
    return [(one.fires, one.reason) for one in explained]


@pytest.mark.parametrize(
    ("asked", "known", "reason"),
    [
        (where(listener=("a", "b*")), {}, "listener mx is not a or b*"),
        (where(peer=("10.0.0.0/8", "unix")), {}, "peer 192.0.2.7 is not 10.0.0.0/8 or unix"),
        (where(helo=("*.org",)), {}, "helo client.example.net is not *.org"),
        (where(helo=("*.org",)), {"helo": None}, "helo (unknown) is not *.org"),
        (where(tls=True), {}, "tls no is not yes"),
        (where(tls=False), {"tls": True}, "tls yes is not no"),
        (where(user=("bob",)), {}, "user (unknown) is not bob"),
        (where(sender=("",)), {}, 'sender bob@example.net is not ""'),
        (where(sender=("?*",)), {"sender": ""}, 'sender "" is not ?*'),
        (
            where(recipient=("/x/",)),
            {"recipients": ["a@b", "c@d"]},
            "recipient a@b and c@d is not /x/",
        ),
        (where(recipient=("x",)), {"recipients": []}, "recipient (unknown) is not x"),
        (where(size=Between(1025)), {"size": 1024}, "size 1K is not >1K"),
        (where(size=Between(1025)), {}, "size (unknown) is not >1K"),
        (
            where(header={"x-test": ("a",), "x-b": ("b",)}),
            {"header": {"x-test": ["b", "c"], "x-c": ["d"]}},
            "header x-test: b and c is not x-test: a, x-b: b",
        ),
        (where(header={"x": ("a",)}), {}, "header (none of these fields) is not x: a"),
        (where(run="ci-7"), {}, "run (none) is not ci-7"),
        (where(run="ci-7"), {"runs": frozenset({"b", "a"})}, "run a and b is not ci-7"),
        (rule(enabled=False), {}, "disabled"),
        (
            rule("strict/a", source=Source.PROFILE),
            {"profile": "default"},
            "profile default is not strict",
        ),
        (rule(when=When(daily=(Window(7200, 14400),))), {}, "not now: daily 02:00-04:00"),
        (rule(when=When(cycle=Cycle(0, 30))), {}, "not now: 0 s of every 30 s"),
    ],
)
def test_why_a_rule_does_not_fire(asked: Rule, known: dict[str, Any], reason: str) -> None:
    assert said(asked, **known) == [(False, reason)]
    assert RuleSet([asked], "mx", "default").candidates(RCPT, facts(**known), NOON) == []


def test_rules_behind_the_one_that_fires_are_not_asked() -> None:
    rules = [where("a", tls=True), rule("b"), rule("c"), rule("d", enabled=False)]
    assert said(*rules) == [
        (False, "tls no is not yes"),
        (True, "all that it asks for is the case"),
        (False, "not asked: b decides"),
        (False, "not asked: b decides"),
    ]


def test_rules_of_other_moments_are_not_named() -> None:
    mail = rule("mail", at=(At(Moment.MAIL),))
    assert explain([mail], Ledger([mail]), RCPT, facts(), NOON) == []


GATES: list[tuple[AnyGate, list[tuple[bool, str]]]] = [
    (Nth(2), [(False, "the 1st hit; nth 2"), (True, "the 2nd hit; nth 2")]),
    (Every(2), [(False, "the 1st hit; every 2"), (True, "the 2nd hit; every 2")]),
    (First(1), [(True, "the 1st hit; first 1"), (False, "the 2nd hit; first 1")]),
    (After(1), [(False, "the 1st hit; after 1"), (True, "the 2nd hit; after 1")]),
    (Chance(0.0), [(False, "the 1st hit; chance 0")]),
    (
        Rate(1),
        [
            (False, "the 1st hit, 0 left then; rate 1 in 60 s"),
            (True, "the 2nd hit, 0 left then; rate 1 in 60 s"),
        ],
    ),
    (
        Rate(1, growth=2.0),
        [
            (False, "the 1st hit, 1 used then; rate 1 in 60 s, times 2 each"),
            (True, "the 2nd hit, 1 used then; rate 1 in 60 s, times 2 each"),
        ],
    ),
    (
        Quota(1024),
        [
            (False, "the 1st hit, 0 used before; quota 1K"),
            (True, "the 2nd hit, 600 used before; quota 1K"),
        ],
    ),
]


@pytest.mark.parametrize(("gate", "reasons"), GATES)
def test_what_is_said_of_what_is_counted(gate: AnyGate, reasons: list[tuple[bool, str]]) -> None:
    asked = counted(gate)
    ledger = Ledger([asked])
    for fires, reason in reasons:
        for _ in range(2):
            assert said(asked, ledger=ledger, size=600) == [(fires, reason)]
        decided, _ = ledger.decide([Hit(asked, facts(size=600))], NOON)
        assert decided == ("r" if fires else "")


def test_what_an_attempt_says_besides_makes_another_key() -> None:
    asked = counted(First(1), per=("peer", "helo", "user", "sender_domain", "recipient"))
    all_said = "the 1st hit of this key; first 1"
    assert said(asked) == [(True, all_said)]
    lacking = f"{all_said}; another key with a helo and a sender_domain and a recipient"
    assert said(asked, helo=None, sender=None, recipients=[]) == [(True, lacking)]


def test_what_is_said_of_greylisting() -> None:
    asked = counted(Greylist(60, 600, 3600), per=("peer",))
    ledger = Ledger([asked])

    def at(second: float) -> tuple[bool, str]:
        (found,) = explain([asked], ledger, RCPT, facts(), NOON + second)
        ledger.decide([Hit(asked, facts())], NOON + second)
        return found.fires, found.reason

    assert at(0) == (True, "the 1st hit of this key; greylist 60 s")
    assert at(12) == (True, "the 2nd hit of this key, 12 s after the first; greylist 60 s")
    assert at(60) == (False, "the 3rd hit of this key, 60 s after the first; greylist 60 s")
    assert at(70) == (
        False,
        "the 4th hit of this key, 70 s after the first, after one that passed; greylist 60 s",
    )
    assert at(5000) == (True, "the 5th hit of this key, after one that passed; greylist 60 s")


def test_a_spent_rule_says_so() -> None:
    asked = rule(hits=1)
    ledger = Ledger([asked])
    assert said(asked, ledger=ledger) == [(True, "all that it asks for is the case")]
    ledger.decide([Hit(asked, facts())], NOON)
    assert said(asked, ledger=ledger) == [(False, "has fired 1 of 1 times")]


def test_asking_counts_nothing() -> None:
    rules = [counted(First(1), "a", per=("peer",)), rule("b", hits=1)]
    ledger = Ledger(rules)
    for _ in range(3):
        assert [fires for fires, _ in said(*rules, ledger=ledger)] == [True, False]
    assert ledger.counts("a") == ledger.counts("b") == Counts()

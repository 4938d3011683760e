"""Which rules have to do with a session: each condition alone, then all against a plain reading."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from itertools import combinations
from typing import Any

import msgspec
import pytest
from harness.rule_attempts import RCPT, counted, facts, rule, where
from hypothesis import given, settings
from hypothesis import strategies as st

from mtad.model.rules.facts import Facts
from mtad.model.rules.matching import RuleSet, key, keys
from mtad.model.rules.values import (
    FACTS,
    At,
    Between,
    Choice,
    Close,
    Cycle,
    Do,
    First,
    Moment,
    Quota,
    Rule,
    Shutter,
    Source,
    When,
    Where,
    Window,
)

NOON = 12 * 3600.0


def names(rules: list[Rule], known: Facts, at: At = RCPT, now: float = NOON) -> list[str]:
    return [found.name for found in RuleSet(rules, known.listener).candidates(at, known, now)]


CONDITIONS: list[tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]] = [
    ({"listener": ("mx",)}, [{}, {"listener": "MX"}], [{"listener": "mx2"}]),
    ({"listener": ("in*", "/^m/")}, [{}, {"listener": "in"}], [{"listener": "out"}]),
    ({"peer": ("192.0.2.0/24",)}, [{}, {"peer": "::ffff:192.0.2.1"}], [{"peer": "192.0.3.7"}]),
    ({"peer": ("2001:db8::/32",)}, [{"peer": "2001:db8::1"}], [{}, {"peer": "2001:db9::"}]),
    ({"peer": ("unix", "::1")}, [{"peer": "unix"}, {"peer": "::1"}], [{}, {"peer": "other"}]),
    (
        {"helo": ("*.example.net",)},
        [{}, {"helo": "A.EXAMPLE.NET"}],
        [{"helo": "x"}, {"helo": None}],
    ),
    ({"helo": ("a", "Client.Example.Net")}, [{}, {"helo": "A"}], [{"helo": "b"}, {"helo": ""}]),
    ({"recipient": ("alice@example.com",)}, [{}], [{"recipients": ["bob@example.com"]}]),
    ({"tls": True}, [{"tls": True}], [{}]),
    ({"tls": False}, [{}], [{"tls": True}]),
    ({"user": ("*",)}, [{"user": "bob"}, {"user": ""}], [{}]),
    ({"sender": ("",)}, [{"sender": ""}], [{}, {"sender": None}]),
    ({"sender": ("*",)}, [{}, {"sender": ""}], [{"sender": None}]),
    (
        {"recipient": ("alice@*",)},
        [{}, {"recipients": ["x@example.com", "Alice@example.org"]}],
        [{"recipients": []}, {"recipients": ["x@example.com"]}],
    ),
    ({"size": Between(10, 20)}, [{"size": 10}, {"size": 20}], [{"size": 9}, {"size": 21}, {}]),
    ({"size": Between(11)}, [{"size": 11}, {"size": 2**40}], [{"size": 10}]),
    ({"size": Between(most=0)}, [{"size": 0}], [{"size": 1}, {}]),
    (
        {"header": {"X-Test": ("a*", "/z$/")}},
        [{"header": {"x-test": ["b", "abc"]}}, {"header": {"x-test": ["xyz"]}}],
        [{}, {"header": {"x-test": ["b"]}}, {"header": {"x-other": ["abc"]}}],
    ),
    (
        {"header": {"a": ("1",), "b": ("2",)}},
        [{"header": {"a": ["1"], "b": ["2"]}}],
        [{"header": {"a": ["1"]}}, {"header": {"a": ["1"], "b": ["1"]}}],
    ),
    (
        {"run": "ci-7"},
        [{"runs": frozenset({"ci-7", "x"})}],
        [{}, {"runs": frozenset({"CI-7"})}, {"runs": frozenset({"ci-77"})}],
    ),
    (
        {"tls": False, "helo": ("client*",), "recipient": ("alice@*",)},
        [{}],
        [{"tls": True}, {"helo": "x"}, {"recipients": ["x"]}],
    ),
]


@pytest.mark.parametrize(("wanted", "matching", "others"), CONDITIONS)
def test_what_a_condition_holds_of(
    wanted: dict[str, Any], matching: list[dict[str, Any]], others: list[dict[str, Any]]
) -> None:
    for known in matching:
        assert names([where(**wanted)], facts(**known)) == ["r"], known
    for known in others:
        assert names([where(**wanted)], facts(**known)) == [], known


def test_a_rule_without_conditions_holds_of_everything() -> None:
    assert names([rule()], Facts("mx", "unix")) == ["r"]


TIMES: list[tuple[When, list[float], list[float]]] = [
    (When(daily=(Window(7200, 14400),)), [7200, 14399.9, 86400 * 9 + 7200], [0, 7199.9, 14400]),
    (When(daily=(Window(79200, 3600),)), [79200, 86399, 0, 3599], [3600, NOON, 79199]),
    (When(daily=(Window(0, 60), Window(120, 180))), [0, 120], [60, 119, 180]),
    (When(daily=(Window(0, 86400),)), [0, 86399.9], []),
    (When(cycle=Cycle(5, 25)), [0, 4.9, 30, 30 * 10**8 + 4], [5, 29.9, 35]),
    (When(cycle=Cycle(0.25, 0.25)), [0, 10.5], [0.25, 10.75]),
    (When(daily=(Window(0, 60),), cycle=Cycle(5, 5)), [0, 54], [5, 59, 60]),
]


@pytest.mark.parametrize(("when", "on", "off"), TIMES)
def test_the_times_at_which_a_rule_acts(when: When, on: list[float], off: list[float]) -> None:
    timed = rule(when=when)
    assert [now for now in on + off if names([timed], facts(), now=now)] == on


def test_candidates_end_with_the_first_that_is_not_counted() -> None:
    rules = [
        counted(First(1), "counted"),
        where("other", helo=("nobody",)),
        rule("limited", hits=3),
        rule("plain"),
        rule("behind"),
        counted(First(1), "counted behind"),
    ]
    assert names(rules, facts()) == ["counted", "limited", "plain"]
    assert names([rules[1], rules[0]], facts()) == ["counted"]


@pytest.mark.parametrize(
    "do",
    [
        Do(jitter=1),
        Do(listener=Shutter(1)),
        Do(one_of=(Choice(1, Do(close=Close.FIN)),)),
    ],
)
def test_what_is_drawn_or_done_by_the_supervisor_is_asked_for(do: Do) -> None:
    assert names([rule("first", do=do), rule("plain")], facts()) == ["first", "plain"]


def test_rules_are_asked_at_their_moments_alone() -> None:
    body, byte = At(Moment.BODY), At(Moment.BODY, octets=1000)
    rules = [
        rule("connect", at=(At(Moment.CONNECT),)),
        rule("both", at=(RCPT, At(Moment.MAIL), RCPT)),
        rule("body", at=(At(Moment.BODY, lines=20), byte)),
        rule("begin", at=(body,)),
    ]
    here = RuleSet(rules, "mx")
    assert here.moments == {Moment.CONNECT, Moment.RCPT, Moment.MAIL, Moment.BODY}
    assert here.positions == (body, At(Moment.BODY, lines=20), byte)
    assert names(rules, facts()) == names(rules, facts(), At(Moment.MAIL)) == ["both"]
    assert names(rules, facts(), At(Moment.BODY, octets=1000)) == ["body"]
    assert names(rules, facts(), At(Moment.BODY, octets=1001)) == []
    assert names(rules, facts(), At(Moment.DATA)) == []


def test_rules_of_a_profile_are_for_its_listeners() -> None:
    rules = [rule("strict/a", source=Source.PROFILE), rule("b")]
    strict, other = (RuleSet(rules, "mx", profile) for profile in ("strict", "other"))
    assert strict.candidates(RCPT, facts(), NOON) == rules[:1]
    assert other.candidates(RCPT, facts(), NOON) == rules[1:]
    assert not RuleSet(rules[:1], "mx", "other")


def test_what_never_matches_here_leaves_no_trace() -> None:
    rules = [
        where("elsewhere", listener=("submission",), header={"x": ("1",)}),
        rule("disabled", enabled=False),
    ]
    here = RuleSet(rules, "mx")
    assert not here
    assert (here.moments, here.positions, here.needs_header) == (frozenset(), (), False)
    there = RuleSet(rules, "submission")
    assert there
    assert there.needs_header
    assert not there.needs_run
    assert RuleSet([where(run="ci-7")], "mx").needs_run
    assert not RuleSet([], "mx")


# Against a plain reading

words = st.sampled_from(["", "a", "ab", "ba", "b@x", "ab@x", "a@x.y"])
one_pattern = (
    words
    | st.text("ab.@*?", max_size=4)
    | st.sampled_from(["/a/", "/^b/", "//", "*a*", "[ab]*"])
    | st.tuples(words, words).map("*".join)
)
patterns = st.lists(one_pattern, min_size=1, max_size=2).map(tuple)
CHOICES: dict[str, st.SearchStrategy[Any]] = {
    "peer": st.lists(
        st.sampled_from(["unix", "10.0.0.0/8", "10.1.2.3", "10.1.0.0/16", "::/0", "fe80::1"]),
        min_size=1,
        max_size=2,
    ).map(tuple),
    "helo": patterns,
    "tls": st.booleans(),
    "user": patterns,
    "sender": patterns,
    "recipient": patterns,
    "size": st.builds(Between, st.integers(0, 3), st.none() | st.integers(2, 4)),
    "header": patterns.map(lambda wanted: {"x": wanted}),
    "run": st.sampled_from(["one", "two"]),
}


@st.composite
def some_where(draw: st.DrawFn) -> Where:
    """What a rule asks for: few things, so that it holds now and then."""
    asked = draw(st.lists(st.sampled_from(sorted(CHOICES)), max_size=3, unique=True))
    return Where(**{fact: draw(CHOICES[fact]) for fact in asked})


wheres = some_where()
sessions = st.builds(
    Facts,
    listener=st.just("mx"),
    peer=st.sampled_from(["unix", "10.1.2.3", "::ffff:10.1.2.4", "10.9.9.9", "fe80::1", "?"]),
    helo=st.none() | words,
    tls=st.booleans(),
    user=st.none() | words,
    sender=st.none() | words,
    recipients=st.lists(words, max_size=2),
    size=st.none() | st.integers(0, 5),
    header=st.just({}) | st.lists(words, max_size=2).map(lambda values: {"x": values}),
    runs=st.frozensets(st.sampled_from(["one", "two"])),
)


def plainly(wanted: tuple[str, ...], texts: list[str | None]) -> bool:
    return not wanted or any(
        re.search(pattern[1:-1], text, re.IGNORECASE)
        if pattern.startswith("/")
        else fnmatchcase(text, pattern)
        for pattern in wanted
        for text in texts
        if text is not None
    )


def is_peer(wanted: tuple[str, ...], peer: str) -> bool:
    if not wanted or peer in ("unix", "?"):
        return not wanted or peer in wanted
    address = ip_address(peer.removeprefix("::ffff:"))
    return any(address in ip_network(text) for text in wanted if text != "unix")


def holds(wanted: Where, known: Facts) -> bool:
    return (
        is_peer(wanted.peer, known.peer)
        and plainly(wanted.helo, [known.helo])
        and wanted.tls in (None, known.tls)
        and plainly(wanted.user, [known.user])
        and plainly(wanted.sender, [known.sender])
        and plainly(wanted.recipient, list(known.recipients))
        and (
            wanted.size is None
            or (
                known.size is not None
                and wanted.size.least <= known.size
                and (wanted.size.most is None or known.size <= wanted.size.most)
            )
        )
        and all(
            plainly(patterns, list(known.header.get(name, ())))
            for name, patterns in wanted.header.items()
        )
        and (not wanted.run or wanted.run in known.runs)
    )


@settings(max_examples=200)
@given(st.lists(wheres, max_size=12), sessions)
def test_candidates_are_those_of_a_plain_reading(all_of: list[Where], known: Facts) -> None:
    rules = [counted(First(1), str(number)) for number in range(len(all_of))]
    rules = [msgspec.structs.replace(one, where=w) for one, w in zip(rules, all_of, strict=True)]
    assert names(rules, known) == [one.name for one in rules if holds(one.where, known)]


# Keys

DIFFERENT: dict[str, Any] = {
    "listener": "mx2",
    "peer": "192.0.2.8",
    "helo": "other",
    "user": "bob",
    "sender": "bob@example.org",
    "recipients": ["alice@example.org"],
}


def key_of(per: tuple[str, ...], known: Facts) -> bytes:
    return key(rule(when=When(per=per)), known)


def test_hits_that_are_counted_together_have_no_key() -> None:
    assert key_of((), facts()) == b""


@pytest.mark.parametrize("changed", DIFFERENT)
def test_a_key_tells_apart_what_it_is_made_of_and_nothing_else(changed: str) -> None:
    other = replace(facts(), **{changed: DIFFERENT[changed]})
    for number in range(1, len(FACTS) + 1):
        for per in combinations(FACTS, number):
            assert len(key_of(per, other)) == 16
            differs = key_of(per, other) != key_of(per, facts())
            assert differs == any(fact.startswith(changed.rstrip("s")) for fact in per), per


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"sender": "Bob@Example.net"}, {"sender": "bob@example.net"}),
        ({"peer": "::ffff:10.0.0.1"}, {"peer": "10.0.0.1"}),
        ({"peer": "2001:DB8:0::1"}, {"peer": "2001:db8::1"}),
        ({"size": 7, "tls": True}, {}),
        ({"recipients": ["a@x", "b@x"]}, {"recipients": ["B@x", "a@x"]}),
    ],
)
def test_what_makes_no_difference(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert key_of(FACTS, facts(**one)) == key_of(FACTS, facts(**other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"sender": None}, {"sender": ""}),
        ({"sender": None}, {"sender": "-"}),
        ({"helo": "a", "user": "bc"}, {"helo": "ab", "user": "c"}),
        ({"helo": "1:a", "user": ""}, {"helo": "", "user": "1:a"}),
        ({"helo": "a", "user": None}, {"helo": None, "user": "a"}),
        ({"recipients": ["a", "b"]}, {"recipients": ["ab"]}),
        ({"recipients": ["a"]}, {"recipients": ["a", ""]}),
    ],
)
def test_what_makes_one(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert key_of(FACTS, facts(**one)) != key_of(FACTS, facts(**other))


@pytest.mark.parametrize("sender", ["", None, "example.net", "bob@example.net", "example.net@"])
def test_senders_of_a_domain_can_be_counted_together(sender: str | None) -> None:
    domain = ("sender_domain",)
    same = key_of(domain, facts(sender=sender)) == key_of(domain, facts(sender="a@EXAMPLE.net"))
    assert same == (sender == "bob@example.net")


def test_recipients_of_a_domain_can_be_counted_together() -> None:
    domain = ("recipient_domain",)
    one = key_of(domain, facts(recipients=["alice@example.com"]))
    assert one == key_of(domain, facts(recipients=["bob@EXAMPLE.com", "carol@example.com"]))
    assert one != key_of(domain, facts(recipients=["alice@example.org"]))
    assert one != key_of(domain, facts(recipients=["example.com@"]))


def test_a_quota_is_that_of_each_recipient() -> None:
    both = facts(recipients=["alice@example.com", "bob@example.com"])
    each = [key_of(("recipient",), facts(recipients=[one])) for one in both.recipients]
    when = When(Quota(1_000), ("recipient",))
    assert keys(Rule("full", (At(Moment.MESSAGE),), Do(), when=when), both) == each
    counted = Rule("first", (At(Moment.MESSAGE),), Do(), when=When(First(1), ("recipient",)))
    assert keys(counted, both) == [key_of(("recipient",), both)]


def test_any_text_has_a_key() -> None:
    assert len(key_of(FACTS, facts(sender="\udcff\ud800"))) == 16

"""The rules of a worker, as its listeners and sessions have them."""

from __future__ import annotations

import time

from harness.rule_attempts import RCPT, facts, rule, where
from harness.serving import serving

from mtad.ipc.messages import Fired, Weigh, Weighed
from mtad.model.rules.matching import RuleSet
from mtad.model.rules.values import At, Close, Do, First, Moment, Rule, Said, Source, When
from mtad.worker.rules import Rules


def names(rules: RuleSet) -> list[str]:
    """Return the rules that are asked at RCPT, where all of them are counted."""
    return [one.name for one in rules.candidates(RCPT, facts(), time.time())]


def counted(name: str, **wanted: str) -> Rule:
    return where(name, **{fact: (pattern,) for fact, pattern in wanted.items()})


def test_a_listener_has_the_rules_that_are_for_it() -> None:
    rules = Rules()
    one = rule("busy/r", source=Source.PROFILE)
    rules.replace([counted("mx", listener="mx"), counted("m", listener="/^m/"), one])
    assert not rules.of("other", "default")
    assert names(rules.of("mx", "default")) == ["mx"]
    assert names(rules.of("mail", "default")) == ["m"]
    assert names(rules.of("other", "busy")) == ["busy/r"]
    rules.replace([])
    assert not rules.of("mx", "default")


def test_listeners_with_the_same_rules_share_one_set() -> None:
    """A range of a thousand has it compiled once."""
    rules = Rules()
    rules.replace([rule(f"r{number}", hits=1) for number in range(1_000)])
    first = rules.of("mx/127.0.0.0", "default")
    began = time.process_time()
    for number in range(1_000):
        assert rules.of(f"mx/127.0.0.{number}", "default") is first
    assert time.process_time() - began < 5
    rules.replace([rule("r1", hits=1), counted("one", listener="mx/127.0.0.1")])
    alike = {id(rules.of(f"mx/127.0.0.{number}", "default")) for number in range(9)}
    assert len(alike) == 2


NOOP = Rule("r", (At(Moment.NOOP),), Do(Said(250, "", "faulty")))


async def test_a_session_has_the_rules_that_there_were_when_it_began() -> None:
    async with serving() as served:
        before = await served.greeted()
        served.rules.replace([NOOP])
        between = await served.greeted()
        assert (await before.ask("NOOP"), await between.ask("NOOP")) == (
            "250 2.0.0 Ok",
            "250 faulty",
        )
        served.rules.replace([])
        after = await served.greeted()
        assert (await between.ask("NOOP"), await after.ask("NOOP")) == (
            "250 faulty",
            "250 2.0.0 Ok",
        )
        assert served.told == [Fired({"r": 1})] * 2


async def test_what_is_counted_is_asked_and_waits_for_the_answer() -> None:
    async with serving() as served:
        served.rules.replace([Rule("r", NOOP.at, NOOP.do, when=When(First(1)))])
        client = await served.greeted()
        client.say("NOOP", "RSET")
        await served.until(lambda: bool(served.told))
        (weigh,) = served.told
        assert isinstance(weigh, Weigh)
        assert (weigh.opening, [hit.rule for hit in weigh.hits]) == (7, ["r"])
        served.questions.answered(Weighed(weigh.ticket, "r", 0.5))
        assert [await client.reply(), await client.reply()] == ["250 faulty", "250 2.0.0 Ok"]


async def test_an_answer_after_the_end_of_its_session_goes_nowhere() -> None:
    async with serving() as served:
        served.rules.replace([Rule("r", NOOP.at, Do(close=Close.RST), when=When(First(1)))])
        client = await served.greeted()
        client.say("NOOP")
        await served.until(lambda: bool(served.told))
        client.reset()
        await served.until(lambda: not served.counts.active)
        (weigh,) = served.told
        assert isinstance(weigh, Weigh)
        served.questions.answered(Weighed(weigh.ticket, "r", 0.5))

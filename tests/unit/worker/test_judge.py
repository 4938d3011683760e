"""The worker's side of rules that are counted: every question has one answer, in its order."""

from __future__ import annotations

import asyncio

import msgspec

from mtad.ipc.messages import MAX_HITS, MAX_RULE_NAME, Fired, Hit, Weigh, Weighed
from mtad.model.rules.judge import Asked
from mtad.worker.judge import OpeningsJudge, Questions

_MAX_MESSAGE = 131_072  # of the channel, for who takes no descriptors


def hits(number: int) -> list[Asked]:
    return [Asked(f"r{one}", b"k", one) for one in range(number)]


class Sent(list[Weigh | Fired]):
    """What was sent; ``questions`` and ``judge`` send it."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[str, float]] = []
        self.questions = Questions(self.append, asyncio.get_running_loop())
        self.judge = OpeningsJudge(self.questions, 7)

    def answer(self, rule: str, draw: float) -> None:
        self.answers.append((rule, draw))


async def test_a_question_and_its_answer() -> None:
    sent = Sent()
    sent.judge.weigh(hits(2), sent.answer)
    sent.judge.weigh(hits(1), lambda rule, draw: sent.answer(f"second {rule}", draw))
    assert sent == [
        Weigh(0, 7, (Hit("r0", b"k", 0), Hit("r1", b"k", 1))),
        Weigh(1, 7, (Hit("r0", b"k", 0),)),
    ]
    assert sent.answers == []
    sent.questions.answered(Weighed(1, "", 0.0))
    sent.questions.answered(Weighed(0, "r1", 0.5))
    assert sent.answers == [("second ", 0.0), ("r1", 0.5)]


async def test_more_rules_than_one_question_names() -> None:
    """They are asked in turn, up to the one that fires."""
    sent = Sent()
    sent.judge.weigh(hits(2 * MAX_HITS + 5), sent.answer)
    for ticket in (0, 1):
        assert len(sent) == ticket + 1
        sent.questions.answered(Weighed(ticket, "", 0.0))
    assert [len(one.hits) for one in sent if isinstance(one, Weigh)] == [MAX_HITS, MAX_HITS, 5]
    sent.questions.answered(Weighed(2, f"r{2 * MAX_HITS}", 0.25))
    sent.judge.weigh(hits(MAX_HITS + 1), sent.answer)
    sent.questions.answered(Weighed(3, "r0", 0.75))
    assert sent.answers == [(f"r{2 * MAX_HITS}", 0.25), ("r0", 0.75)]
    assert len(sent) == 4


def test_the_longest_question_fits_in_one_message() -> None:
    """A channel that takes no descriptors takes no more."""
    hit = Hit("r" * MAX_RULE_NAME, b"k" * 16, 2**48)
    weigh = Weigh(2**63, 2**63, (hit,) * MAX_HITS)
    fired = Fired({f"{number:0{MAX_RULE_NAME}}": 2**32 for number in range(MAX_HITS)})
    for message in (weigh, fired):
        octets = msgspec.msgpack.encode(message)
        assert len(octets) < _MAX_MESSAGE
        assert msgspec.msgpack.decode(octets, type=Weigh | Fired) == message


async def test_what_fires_in_one_turn_is_told_once() -> None:
    sent = Sent()
    for rule in ("a", "b", "a"):
        sent.judge.fired(rule)
    assert sent == []
    await asyncio.sleep(0)
    assert sent == [Fired({"a": 2, "b": 1})]
    sent.judge.fired("a")
    sent.questions.tell()
    assert sent[1:] == [Fired({"a": 1})]
    await asyncio.sleep(0)
    assert len(sent) == 2


async def test_a_message_names_no_more_rules_than_it_may() -> None:
    sent = Sent()
    for number in range(MAX_HITS + 1):
        sent.judge.fired(f"r{number}")
    await asyncio.sleep(0)
    assert [len(one.counts) for one in sent if isinstance(one, Fired)] == [MAX_HITS, 1]

"""A worker that was taken over, and the rules: it can count wrongly, and do nothing else."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from harness.daemon import Daemon, send, until
from harness.lies import channel_of

from mtad.ipc.messages import (
    MAX_HITS,
    MAX_RULE_NAME,
    Done,
    Fired,
    FromSupervisor,
    Hit,
    Weigh,
    Weighed,
)

pytestmark = [pytest.mark.integration, pytest.mark.root]

Start = Callable[..., Daemon]

OPENING = 1  # the first of the daemon's first listener
encode = msgspec.msgpack.encode


@contextmanager
def in_place_of(worker: int) -> Iterator[Callable[[Any], Any]]:
    """Yield what tells the supervisor something as ``worker``, which is stopped meanwhile."""
    os.kill(worker, signal.SIGSTOP)
    with channel_of(worker) as channel:
        channel.settimeout(10)

        def say(message: Any) -> Any:
            channel.send(encode(message))
            if isinstance(message, Weigh):
                return msgspec.msgpack.decode(channel.recv(4096), type=FromSupervisor)
            return None

        yield say


def hit(rule: str, key: bytes = b"") -> Hit:
    return Hit(rule, key, 0)


def rule(daemon: Daemon, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = daemon.call("rule.show", name=name)["rule"]
    return shown


def replaced(daemon: Daemon, worker: int) -> bool:
    serving = daemon.call("summary")["workers"]["serving"]
    return worker not in daemon.workers() and serving == 1


def test_every_question_has_one_answer(started: Start) -> None:
    daemon = started()
    daemon.call("rule.add", name="r", text="at: noop, when: {first: 2}, do: {close: rst}")
    (worker,) = daemon.workers()
    with in_place_of(worker) as say:
        assert say(Weigh(1, OPENING, (hit("r"),))).rule == "r"
        assert say(Weigh(1, OPENING, (hit("x"), hit("r")))).rule == "r", "a ticket twice"
        assert say(Weigh(2**63, 2**62, (hit("r"),))) == Weighed(2**63, "", 0.0)
        assert say(Weigh(3, OPENING, ())) == Weighed(3, "", 0.0)
        assert say(Weigh(4, OPENING, (hit("r"),) * MAX_HITS)) == Weighed(4, "", 0.0)
        say(Fired({"r": 5, "x": 2**32}))
        say(Done(2**63))
        until(lambda: rule(daemon, "r")["fired"] == 7)
    assert daemon.call("rule.list")["rules"][0]["seen"] == 3 + MAX_HITS + 5


@pytest.mark.parametrize(
    "message",
    [
        {"type": "Weigh", "ticket": 1, "opening": 1, "hits": [["r", b"", -1]]},
        {"type": "Weigh", "ticket": 1, "opening": 1, "hits": [["r", b"x" * 17, 0]]},
        {"type": "Weigh", "ticket": 1, "opening": 1, "hits": [["r" * (MAX_RULE_NAME + 1), b"", 0]]},
        {"type": "Weigh", "ticket": 1, "opening": 1, "hits": [["r", b"", 0]] * (MAX_HITS + 1)},
        {"type": "Weigh", "ticket": 1, "opening": 1, "hits": [["r", b"", 2**49]]},
        {"type": "Fired", "counts": {"r": -1}},
        {"type": "Fired", "counts": {"r": 2**33}},
        {"type": "Fired", "counts": {"r" * (MAX_RULE_NAME + 1): 1}},
        {"type": "Fired", "counts": {f"r{number}": 1 for number in range(MAX_HITS + 1)}},
        {"type": "SetRules", "ticket": 1, "rules": []},
    ],
    ids=[
        *("negative octets", "a long key", "a long name", "too many hits", "too large"),
        *("less", "too often", "a long name told", "too many told", "an order"),
    ],
)
def test_what_is_no_message_ends_the_worker(started: Start, message: dict[str, Any]) -> None:
    daemon = started()
    daemon.call("rule.add", name="r", text="at: noop, do: {close: rst}")
    (worker,) = daemon.workers()
    with channel_of(worker) as channel:
        channel.send(encode(message))
    until(lambda: replaced(daemon, worker))
    assert rule(daemon, "r")["seen"] == 0
    send(daemon.port())
    assert "Traceback" not in daemon.log.read_text()


def test_it_closes_no_listener_that_no_rule_closes(started: Start) -> None:
    """Nor one that it does not serve, nor at another time than a rule may."""
    daemon = started(workers=1)
    daemon.call("listener.add", name="other", endpoint="127.0.0.1:0")
    shut = "do: {listener: {close: 600}}"
    daemon.call("rule.add", name="other", text=f"at: noop, where: {{listener: other}}, {shut}")
    daemon.call("rule.add", name="off", text=f"at: noop, {shut}, enabled: no")
    daemon.call("rule.add", name="none", text="at: noop, when: {first: 9}, do: {}")
    (worker,) = daemon.workers()
    with in_place_of(worker) as say:
        for opening in (OPENING, 3, 2**40):
            assert say(Weigh(1, opening, (hit("other"),))).rule == "other"
            assert say(Weigh(1, opening, (hit("off"), hit("none")))).rule == "none"
    states = {one["name"]: one["fault"] for one in daemon.call("listener.list")["listeners"]}
    assert states == {"mx": None, "other": None}
    with in_place_of(worker) as say:
        say(Weigh(1, 2, (hit("other"),)))  # as a client of that listener could
    assert daemon.call("listener.show", name="other")["listener"]["fault"]["lack"] == "closed"
    assert daemon.call("listener.show", name="mx")["listener"]["fault"] is None


def test_a_word_for_another_worker_is_none(started: Start) -> None:
    """That rules are in force is said by each worker for itself."""
    daemon = started(workers=2)
    until(lambda: daemon.call("summary")["workers"]["serving"] == 2)
    hostile, frozen = daemon.call("workers")["workers"]
    os.kill(frozen["pid"], signal.SIGSTOP)
    with channel_of(hostile["pid"]) as channel:
        channel.send(encode(Done(2**62)))
    answer = daemon.call("rule.add", name="r", text="at: noop, do: {}")
    assert answer["notes"] == [f"worker {frozen['id']} has not said yet that it has these rules"]
    os.kill(frozen["pid"], signal.SIGCONT)


@pytest.mark.parametrize(
    "message",
    [
        Weigh(1, 1, (hit("r", b"k"),) * MAX_HITS),
        Weigh(1, 1, (Hit("x" * MAX_RULE_NAME, b"k" * 16, 2**48),) * MAX_HITS),
        Fired({f"{number:0{MAX_RULE_NAME}}": 1 for number in range(MAX_HITS)}),
        Done(1),
    ],
    ids=["hits", "of none", "told", "done"],
)
def test_a_flood(started: Start, message: msgspec.Struct) -> None:
    """The supervisor answers meanwhile, also who asks for the counts."""
    daemon = started()
    daemon.call("rule.add", name="r", text="at: noop, when: {nth: 1, per: peer}, do: {close: rst}")
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGSTOP)
    slowest, ends = 0.0, time.monotonic() + 1.0
    with channel_of(worker) as channel:
        channel.setblocking(False)
        while time.monotonic() < ends:
            for _ in range(50):
                try:
                    channel.send(encode(message))
                    while True:
                        channel.recv(4096)
                except BlockingIOError:
                    pass
            asked = time.monotonic()
            daemon.call("rule.list")
            slowest = max(slowest, time.monotonic() - asked)
    assert slowest < 3.0
    os.kill(worker, signal.SIGCONT)
    assert rule(daemon, "r")["state"] == "on"


def test_who_does_not_read_answers_is_ended(started: Start) -> None:
    """A worker that asks and never reads is told no more than fits."""
    daemon = started()
    daemon.call("rule.add", name="r", text="at: noop, when: {first: 9}, do: {close: rst}")
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGSTOP)
    question = encode(Weigh(1, OPENING, (hit("r"),)))
    with channel_of(worker) as channel:
        try:
            for _ in range(30_000):
                channel.send(question)
        except OSError as error:
            assert not isinstance(error, socket.timeout)  # noqa: PT017
    until(lambda: replaced(daemon, worker))
    send(daemon.port())

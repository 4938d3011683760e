"""Postfix and Exim in scenarios: the report says what their own logs say."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from harness import exim, installed, postfix
from harness.daemon import until
from harness.exim import Exim
from harness.postfix import Postfix
from harness.receiver import SENDER, Receiver, message
from harness.relay_logs import attempts

from mtad.model.deliveries.report import Report
from mtad.testing import Mtad

pytestmark = [pytest.mark.integration, pytest.mark.root, pytest.mark.netns]

Relay = Postfix | Exim


@pytest.fixture(scope="module", params=[postfix, exim], ids=["postfix", "exim"])
def relay(mx: Receiver, request: pytest.FixtureRequest) -> Iterator[Relay]:
    program: ModuleType = request.param
    if reason := installed.lacking(program.PACKAGE):
        pytest.skip(reason)
    with program.relay(mx) as running:
        yield running


class Case(NamedTuple):
    """The steps of a scenario, and what is expected of a relay that tries every second.

    A message has two recipients, so that there are five of them.
    """

    steps: list[dict[str, Any]]
    duplicates: int = 0
    least: int = 1
    most: int | None = None


def first(at: str, number: int = 1, **do: Any) -> list[dict[str, Any]]:
    """Return a step with a rule for the first attempts for each recipient, and for both."""
    rule = {"at": at, "when": {"first": number, "per": "recipient"}, "do": do}
    return [{"at": 0, "rules": {"first": rule}}]


def outage(seconds: float) -> list[dict[str, Any]]:
    return [{"at": 0, "close": "mx"}, {"at": seconds, "open": "mx"}]


def greylisting(seconds: float) -> list[dict[str, Any]]:
    rule = {
        "at": "rcpt",
        "when": {"greylist": {"delay": seconds}},
        "do": {"reply": "451 4.7.1 Greylisted, try later"},
    }
    return [{"at": 0, "rules": {"grey": rule}}]


def busy_and_down(seconds: float) -> list[dict[str, Any]]:
    """Return 450 for all, then an outage, 450 again, and then all is well."""
    later = {"later": {"at": "rcpt", "do": {"reply": "450 4.2.0 Later"}}}
    return [
        {"at": 0, "rules": later},
        {"at": seconds, "close": "mx"},
        {"at": 2 * seconds, "open": "mx"},
        {"at": 3 * seconds, "rules": {}},
    ]


CASES = {
    "450, then 250": Case(first("rcpt", 2, reply="450 4.2.0 Later"), least=3, most=3),
    "greylisting": Case(greylisting(2.5), least=3),
    "451 to the content": Case(first("message", 2, reply="451 4.3.0 Later"), least=3, most=3),
    "reset before it is kept": Case(first("message", close="rst"), least=2, most=2),
    "closed before the reply": Case(first("kept", close="fin"), 5, least=2, most=2),
    "reset before the reply": Case(first("kept", close="rst"), 5, least=2, most=2),
    "reset after the reply": Case(first("answered", close="rst"), most=1),
    "an outage": Case(outage(3), most=1),
    "busy, and down": Case(busy_and_down(2.2), least=3),
}
LONG = {
    "greylisting": Case(greylisting(30), least=20),
    "an outage": Case(outage(20), most=1),
    "busy, and down": Case(busy_and_down(20), least=20),
}


# Each takes seconds: Postfix goes through all of them every time, Exim through these.
EXIM = {"greylisting", "an outage", "reset before the reply"}
SLOW = {(exim, name) for name in CASES.keys() - EXIM}
RELAYED = [
    pytest.param(program, name, id=f"{program.PACKAGE}-{name}", marks=marks)
    for program in (postfix, exim)
    for name in CASES
    for marks in [(pytest.mark.slow,) if (program, name) in SLOW else ()]
]


@pytest.mark.parametrize(("relay", "name"), RELAYED, indirect=["relay"])
def test_the_report_agrees_with_the_log(mx: Receiver, relay: Relay, name: str) -> None:
    agrees(mx, relay, name, CASES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_the_report_agrees_with_a_long_log(mx: Receiver, relay: Relay, name: str) -> None:
    agrees(mx, relay, f"{name} for long", LONG[name])


def agrees(mx: Receiver, relay: Relay, name: str, case: Case, *, tolerance: float = 1.5) -> None:
    """Run a scenario with four messages; compare its report with the log of the relay."""
    # They are in no other test's part of the log.
    word = name.replace(" ", "-").replace(",", "")
    people = [f"{word}-{number}@plain.example" for number in range(5)]
    report = run(mx, relay, case, word, people)
    assert report.ok, f"{report}\n{relay.said()[-10_000:]}"
    until(lambda: not relay.queue())
    logged = {one: found for one, found in attempts(relay.said()).items() if one in people}
    assert {one.recipient for one in report.deliveries} == set(logged) == set(people)
    for delivery in report.deliveries:
        theirs = logged[str(delivery.recipient)]
        ours = [attempt.outcome.value for attempt in delivery.attempts]
        assert ours == [one.outcome for one in theirs], f"{report}\n{relay.said()[-10_000:]}"
        for number, interval in enumerate(report.intervals(delivery)):
            seconds = theirs[number + 1].at - theirs[number].at
            assert interval.seconds == pytest.approx(seconds, abs=tolerance), str(report)
    # What a relay cannot know it sends again.
    unsure = sum(one.outcome == "broken" for found in logged.values() for one in found)
    kept = sum(len(delivery.kept) for delivery in report.deliveries)
    assert kept == len(people) + report.duplicates
    assert report.duplicates in (0, unsure)


def run(mx: Receiver, relay: Relay, case: Case, word: str, people: list[str]) -> Report:
    def submit() -> None:
        for number, recipient in enumerate(people[:3]):
            relay.submit([message(f"{word}-{number}")], SENDER, [recipient])
        relay.submit([message(f"{word}-3")], SENDER, people[3:])

    limits = {"least": case.least} | ({"most": case.most} if case.most else {})
    scenario = {
        "listener": "mx",
        "steps": case.steps,
        "end": 90,
        "settle": 1.5,
        "expect": {
            "messages": 4,
            "duplicates": case.duplicates,
            "lost": 0,
            "attempts": limits,
        },
    }
    return Mtad(mx.daemon.socket).scenario(scenario, start=submit)

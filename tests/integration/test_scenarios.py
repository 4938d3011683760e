"""Scenarios against the real daemon: what is done when, what is reported, and what is left."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import PROGRAMS, refuses, until
from harness.retrying import Retrying

from mtad.errors import CommandError, ConfigError
from mtad.model.deliveries.report import Report
from mtad.testing import AsyncMtad, Daemon

pytestmark = pytest.mark.integration

ONE, TWO = "one@example.com", "two@example.com"
LATER = {"later": {"at": "rcpt", "do": {"reply": "450 4.2.0 Later"}}}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon({"workers": 2}) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_left(daemon: Daemon) -> Iterator[None]:
    yield
    assert daemon.client.call("rule.list")["rules"] == []
    assert not refuses("127.0.0.1", daemon.port)


def tried(daemon: Daemon, scenario: dict[str, Any], *recipients: str) -> tuple[Report, Retrying]:
    """Run a scenario with a sender that begins when the first steps are done."""
    sender = Retrying(daemon.port, *recipients)
    report = daemon.client.scenario(scenario, start=sender.start)
    sender.stop()
    return report, sender


def test_later_then_now(daemon: Daemon) -> None:
    scenario = {
        "listener": "mx",
        "steps": [{"at": 0, "rules": LATER}, {"at": 2.5, "rules": {}}],
        "end": 30,
        "settle": 0.3,
        "expect": {
            "messages": 2,
            "duplicates": 0,
            "lost": 0,
            "attempts": {"least": 2},
            "first_retry": {"least": 0.2, "most": 5},
        },
    }
    report, sender = tried(daemon, scenario, ONE, TWO)
    assert report.ok, str(report)
    assert report.ended - report.began < 20, "it ends when all has come"
    assert [done.words for done in report.done] == ["rules: scenario.1.later", "rules: none"]
    for delivery in report.deliveries:
        own = sender.of(str(delivery.recipient))
        codes = [int(one.reply[:3]) for one in delivery.attempts]
        assert codes == [one.code for one in own] == [*[450] * (len(own) - 1), 250]
        ends = [*(one.at for one in own[1:]), math.inf]
        for ours, theirs, end in zip(delivery.attempts, own, ends, strict=True):
            assert theirs.at <= ours.at < end


def test_a_lost_answer_makes_a_duplicate(daemon: Daemon) -> None:
    silent = {"cut": {"at": "kept", "when": {"first": 1}, "do": {"close": "rst"}}}
    scenario = {
        "steps": [{"at": 0, "rules": silent}],
        "end": 30,
        "settle": 0.3,
        "expect": {"messages": 1, "duplicates": 1, "lost": 0},
    }
    report, sender = tried(daemon, scenario, ONE)
    assert report.ok, str(report)
    (delivery,) = report.deliveries
    assert [one.code for one in sender.tries] == [0, 250]
    first, second = delivery.attempts
    assert (first.outcome, first.stage, first.ended) == (
        "broken",
        "content",
        "broken off by a rule",
    )
    assert first.kept
    assert second.kept not in ("", first.kept)


def test_what_is_lost(daemon: Daemon) -> None:
    never = {"never": {"at": "message", "do": {"reply": "550 5.7.1 Never"}}}
    scenario = {"steps": [{"at": 0, "rules": never}], "end": 3, "expect": {"lost": 0}}
    report, _ = tried(daemon, scenario, ONE)
    assert not report.ok
    assert str(report).startswith("lost: 1, not 0\nfrom <sender@example.org> to <one@")


def test_an_outage(daemon: Daemon) -> None:
    """Nothing is seen while the listener is closed, and the report says where that was."""
    scenario = {
        "steps": [
            {"at": 0, "rules": LATER},
            {"at": 2.5, "close": "mx"},
            {"at": 3.5, "rules": {}, "open": "mx"},
        ],
        "end": 30,
        "settle": 0.3,
        "expect": {"messages": 1, "lost": 0},
    }
    report, sender = tried(daemon, scenario, ONE)
    assert report.ok, str(report)
    (delivery,) = report.deliveries
    codes = [one.code for one in sender.tries]
    assert 0 in codes
    told = sum(code in {250, 450} for code in codes)
    # One that is connected when the listener closes hears 421, and may not have got to MAIL.
    assert told <= len(delivery.attempts) <= told + codes.count(421)
    blind = [one for one in report.intervals(delivery) if one.is_blind]
    assert len(blind) == 1
    assert blind[0].seconds > 0.5


def test_a_listener_that_stays_closed_is_opened_afterwards(daemon: Daemon) -> None:
    report = daemon.client.scenario({"steps": [{"at": 0, "close": "mx"}], "end": 0.1})
    assert (report.deliveries, report.ok) == ((), True)


def test_a_listener_that_there_is_not(daemon: Daemon) -> None:
    with pytest.raises(CommandError, match="no listener is mxx") as caught:
        daemon.client.scenario({"listener": "mxx", "steps": [{"at": 0, "rules": LATER}], "end": 1})
    assert caught.value.help == "there are: mx"


def test_where_there_is_no_listener_yet() -> None:
    """Who names none means all that there are, and those may be none."""
    with Daemon() as empty:
        empty.client.call("listener.remove", selectors=["mx"])
        assert empty.client.call("listener.list")["listeners"] == []
        report = empty.client.scenario({"steps": [{"at": 0, "rules": LATER}], "end": 0.1})
    assert (report.deliveries, report.ok) == ((), True)


@pytest.mark.parametrize("what", ["open", "close"])
def test_a_step_that_cannot_be_done(daemon: Daemon, what: str) -> None:
    steps = [{"at": 0, "rules": LATER, "close": "mx"}, {"at": 0.1, what: "nobody"}]
    with pytest.raises(CommandError, match="nobody"):
        daemon.client.scenario({"steps": steps, "end": 1})


def test_a_mistake_is_told_before_anything_is_done(daemon: Daemon) -> None:
    with pytest.raises(ConfigError, match="no moment of a session"):
        daemon.client.scenario({"steps": [{"at": 0, "rules": {"x": {"at": "?"}}}], "end": 1})


async def test_in_a_coroutine(daemon: Daemon) -> None:
    sender = Retrying(daemon.port, ONE)
    client = daemon.client.asynchronous()
    scenario = {"steps": [{"at": 0, "rules": LATER}, {"at": 0.3, "rules": {}}], "end": 10}
    scenario |= {"settle": 0.2, "expect": {"messages": 1}}
    report = await client.scenario(scenario, start=sender.start)
    sender.stop()
    assert report.ok, str(report)


async def test_a_coroutine_that_is_cancelled(daemon: Daemon) -> None:
    client = daemon.client.asynchronous()
    begun = asyncio.Event()
    steps = [{"at": 0, "rules": LATER, "close": "mx"}]
    running = asyncio.create_task(client.scenario({"steps": steps, "end": 60}, start=begun.set))
    await begun.wait()
    assert refuses("127.0.0.1", daemon.port)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_a_run_of_its_own(daemon: Daemon) -> None:
    """Rules and report are for what has its tag; others are neither disturbed nor told of."""
    from mtad.testing import Mtad

    tagged, other = "one+ci@example.com", Retrying(daemon.port, TWO)
    sender = Retrying(daemon.port, tagged)

    def start() -> None:
        other.start()
        sender.start()

    scenario = {"steps": [{"at": 0, "rules": LATER}, {"at": 2.5, "rules": {}}], "end": 20}
    scenario |= {"settle": 0.3, "expect": {"messages": 1, "attempts": {"least": 2}}}
    report = Mtad(daemon.socket, run="ci").scenario(scenario, start=start)
    sender.stop()
    other.stop()
    assert report.ok, str(report)
    assert [one.recipient for one in report.deliveries] == [tagged]
    assert [one.code for one in other.tries] == [250]


async def test_two_runs_at_the_same_time(daemon: Daemon) -> None:
    """The same scenario for each: the rules of one are not those of the other."""
    scenario = {"steps": [{"at": 0, "rules": LATER}], "end": 60}
    running, begun = [], [asyncio.Event() for _ in range(2)]
    for tag, event in zip(("ci-1", "ci-2"), begun, strict=True):
        scenarios = AsyncMtad(daemon.socket, run=tag).scenario(scenario, start=event.set)
        running.append(asyncio.create_task(scenarios))
    async with asyncio.timeout(10):
        for event in begun:
            await event.wait()
    rules = daemon.client.call("rule.list")["rules"]
    assert {one["where"] for one in rules} == {"run ci-1", "run ci-2"}
    for task in running:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# mtactl


def mtactl(daemon: Daemon, *words: str) -> list[str]:
    return [str(PROGRAMS / "mtactl"), "--socket", str(daemon.socket), *words]


OUTAGE = """
listener: mx
steps:
  - at: 0
    rules: {later: {at: rcpt, do: {reply: 450 4.2.0 Later}}}
    open: mx
  - at: 2.5
    rules: {}
end: 20
settle: 0.3
expect: {messages: 1, duplicates: 0, attempts: {least: 2}}
"""


def run_file(daemon: Daemon, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a scenario with a sender that finds the listener closed until it has begun."""
    sender = Retrying(daemon.port, ONE, pause=0.1)
    daemon.client.listener("mx").stop()
    sender.start()
    until(lambda: sender.tries)
    done = subprocess.run(
        mtactl(daemon, "scenario", "run", str(file), *options),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    sender.stop()
    return done


def test_a_report_for_people(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "outage.yaml"
    file.write_text(OUTAGE)
    done = run_file(daemon, file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split("  ")[-1] for line in done.stderr.splitlines()] == [
        "rules: outage.1.later; open mx",
        "rules: none",
    ]
    assert "messages    1          1      yes" in done.stdout.splitlines()
    assert "OUTCOME" not in done.stdout


def test_a_whole_report_and_an_expectation_that_fails(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "outage.yaml"
    file.write_text(OUTAGE.replace("duplicates: 0", "duplicates: 7").replace("end: 20", "end: 6"))
    done = run_file(daemon, file, "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [one["what"] for one in told["expectations"] if not one["ok"]] == ["duplicates"]
    (delivery,) = told["deliveries"]
    outcomes = [one["outcome"] for one in delivery["attempts"]]
    assert outcomes == [*["deferred"] * (len(outcomes) - 1), "accepted"]
    assert delivery["attempts"][0]["reply"] == "450 4.2.0 Later"
    assert delivery["attempts"][-1]["id"] == delivery["kept"][0]
    assert [one["after"] is None for one in delivery["attempts"]][:2] == [True, False]


def test_a_table_of_attempts(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "outage.yaml"
    file.write_text(OUTAGE)
    done = run_file(daemon, file, "--report")
    assert done.returncode == 0
    *later, now = [line.split() for line in done.stdout.splitlines() if ONE in line]
    assert later
    assert {tuple(row[5:7]) for row in later} == {("deferred", "rcpt")}
    assert now[5:7] == ["accepted", "content"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_one_that_is_interrupted(
    daemon: Daemon, tmp_path: Path, number: int
) -> None:
    file = tmp_path / "long.yaml"
    file.write_text(
        "steps:\n- {at: 0, rules: {x: {at: rcpt, do: {reply: 450}}}, close: mx}\nend: 1h"
    )
    with subprocess.Popen(mtactl(daemon, "scenario", "run", str(file))) as running:
        until(lambda: refuses("127.0.0.1", daemon.port))
        running.send_signal(number)
        assert running.wait(10) == 130
    assert not refuses("127.0.0.1", daemon.port)


def test_nothing_is_left_of_one_that_is_told_twice(daemon: Daemon, tmp_path: Path) -> None:
    """timeout(1) does: it tells its child, and then the group of both."""
    file = tmp_path / "again.yaml"
    rules = ", ".join(f"x{number}: {{at: rcpt, do: {{reply: 450}}}}" for number in range(9))
    file.write_text(f"steps:\n- {{at: 0, rules: {{{rules}}}, close: mx}}\nend: 1h")
    for _ in range(3):
        command = ["timeout", "1", *mtactl(daemon, "scenario", "run", str(file))]
        assert subprocess.run(command, check=False, timeout=30).returncode == 124
        assert daemon.client.call("rule.list")["rules"] == []
        assert not refuses("127.0.0.1", daemon.port)


def test_what_became_of_a_command_that_was_started(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "short.yaml"
    file.write_text("steps: [{at: 0, open: mx}]\nend: 0.3")
    done = subprocess.run(
        mtactl(daemon, "scenario", "run", str(file), "--start", "exit 3"),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "--start: exit status 3"


def test_of_one_that_is_killed_everything_ends_by_itself(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "killed.yaml"
    file.write_text(
        "steps:\n- {at: 0, rules: {x: {at: rcpt, do: {reply: 450}}}, close: mx}\nend: 10"
    )
    with subprocess.Popen(mtactl(daemon, "scenario", "run", str(file))) as running:
        until(lambda: refuses("127.0.0.1", daemon.port))
        running.kill()
    rule = daemon.client.call("rule.show", name="killed.1.x")["rule"]
    (listener,) = daemon.client.call("listener.list")["listeners"]
    for left in (rule["left"]["seconds"], listener["fault"]["until"] - time.time()):
        assert 10 < left < 60
    daemon.client.call("rule.remove", names=["killed.1.x"])
    daemon.client.listener("mx").start()


def test_a_session_is_played_again(daemon: Daemon, tmp_path: Path) -> None:
    rules = {
        "slow": {"at": "mail", "do": {"delay": 0.2}},
        "busy": {"at": "message", "do": {"reply": "452 4.2.2 Full", "close": "fin"}},
    }
    first = Retrying(daemon.port, ONE, pause=60)
    report = daemon.client.scenario(
        {"steps": [{"at": 0, "rules": rules}], "end": 3}, start=first.start
    )
    first.stop()
    (delivery,) = report.deliveries
    (attempt,) = delivery.attempts
    words = mtactl(daemon, "transcript", "to-scenario", attempt.session)
    made = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    file = tmp_path / "played.yaml"
    file.write_text(made.stdout)
    # Its sender finds the listener closed until the rules are there.
    file.write_text(made.stdout.replace("end: 60", "    open: mx\nend: 3"))
    done = run_file(daemon, file, "--json")
    (played,) = json.loads(done.stdout)["deliveries"]
    again = played["attempts"][0]
    assert (again["outcome"], again["reply"]) == (attempt.outcome, "452 4.2.2 Full")
    assert len(played["attempts"]) > 1, "each rule fires once"

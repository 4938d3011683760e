"""Scenario files: what they mean, and everything that is wrong with them, by file and line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtad.config.scenario import Expect, ScenarioFile, Step, load_scenario
from mtad.errors import ConfigError
from mtad.model.deliveries.expected import Expected, Range
from mtad.model.rules.values import At, Do, Moment, Said, Where

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "conf/scenarios").glob("*.yaml"))
OUTAGE = """
listener: mx
seed: 1
steps:
  - at: 0
    rules:
      later: {at: rcpt, do: {reply: 450 4.2.0 Try later}}
      own: {at: mail, where: {listener: other}, when: {chance: 0.5, seed: 9}, do: {close: rst}}
  - at: 10s
    close: mx
  - at: 150
    open: [mx, "extra*"]
    rules: {}
end: 1h
expect:
  messages: 20
  duplicates: 0
  order: kept
  attempts: {least: 2, most: 5}
  first_retry: {least: 5s}
  intervals: {most: 0.5}
"""


def problems(what: str | Path | dict[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_scenario(what)
    return [f"{one.line} {one.key}: {one.reason}" for one in caught.value.problems]


def test_what_a_file_means(tmp_path: Path) -> None:
    file = tmp_path / "an outage!.yaml"
    file.write_text(OUTAGE)
    scenario = load_scenario(file)
    first, second, third = scenario.steps
    assert (scenario.name, scenario.listener, scenario.end) == ("an-outage-", "mx", 3600)
    later, own = first.rules or ()
    assert (later.name, own.name) == ("an-outage-.1.later", "an-outage-.1.own")
    assert (later.at, later.where) == ((At(Moment.RCPT),), Where(listener=("mx",)))
    assert later.do == Do(reply=Said(450, "4.2.0", "Try later"))
    assert (later.when.seed, own.when.seed, own.where.listener) == (1, 9, ("other",))
    assert (second.at, second.rules, second.open, second.close) == (10, None, (), ("mx",))
    assert (third.at, third.rules, third.open) == (150, (), ("mx", "extra*"))
    assert scenario.expect == Expected(
        messages=20,
        duplicates=0,
        order=True,
        attempts=Range(2, 5),
        first_retry=Range(5),
        intervals=Range(0, 0.5),
    )


def test_a_text_and_what_it_says_are_scenarios_too() -> None:
    scenario = load_scenario("steps: [{at: 0, rules: {}}]\nend: 1")
    assert scenario == load_scenario({"steps": [{"at": 0, "rules": {}}], "end": 1})
    assert (scenario.name, scenario.listener, scenario.expect) == ("scenario", "", Expected())


def test_words_for_people(tmp_path: Path) -> None:
    words = [step.words for step in load_scenario(OUTAGE).steps]
    assert words == [
        "rules: scenario.1.later, scenario.1.own",
        "close mx",
        "rules: none; open mx; open extra*",
    ]


BAD = {
    "no steps": ("steps: []\nend: 1", ["1 steps: there is no step"]),
    "nothing but a name": (
        "listener: mx",
        ["0 steps: required, but not there", "0 end: required, but not there"],
    ),
    "a step that does nothing": (
        "steps:\n  - at: 0\nend: 1",
        ["2 steps[0]: nothing is done"],
    ),
    "a step that goes back": (
        "steps:\n  - {at: 5, open: mx}\n  - {at: 7, open: mx}\n  - {at: 6, open: mx}\nend: 9",
        ["4 steps[2].at: before the step above"],
    ),
    "an end before the last step": (
        "steps: [{at: 5, open: mx}]\nend: 4",
        ["2 end: before the step at 5 s"],
    ),
    "a range that is none": (
        "steps: [{at: 0, open: mx}]\nend: 4\nexpect: {attempts: {least: 3, most: 2}}",
        ["3 expect.attempts: most, 2, is less than least, 3"],
    ),
    "a listener that is none": (
        "listener: [mx]\nsteps: [{at: 0, open: mx, close: 7}]\nend: 4",
        [
            "1 listener: expected the name of a listener, found a list",
            "2 steps[0].close: expected the name of a listener, found 7",
        ],
    ),
    "a long name": (
        f"steps: [{{at: 0, rules: {{{'x' * 35}: {{at: rcpt, do: {{}}}}}}}}]\nend: 4",
        [f"1 steps[0].rules.{'x' * 35}: '{'x' * 35}' is longer than 34 characters"],
    ),
    "all at once": (
        """\
listner: mx
steps:
  - at: soon
    rules:
      later: {at: rcptt, do: {reply: 45 Try later}}
  - at: 1
    clos: mx
end: 0
expect: {order: yes, first_retry: 7, lost: -1}
""",
        [
            "1 listner: unknown option",
            "3 steps[0].at: expected a duration, found 'soon'",
            "5 steps[0].rules.later.at: 'rcptt' is no moment of a session",
            "5 steps[0].rules.later.do.reply: expected a reply, found '45 Try later'",
            "7 steps[1].clos: unknown option",
            "8 end: expected more than 0 seconds",
            "9 expect.lost: expected at least 0, found -1",
            "9 expect.order: expected 'kept', found 'yes'",
            "9 expect.first_retry: expected a mapping, found 7",
        ],
    ),
    "not YAML": ("steps: [", ["1 : not YAML: did not find expected node content"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_scenarios(name: str) -> None:
    text, expected = BAD[name]
    assert problems(text) == expected


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path / "missing.yaml") == ["0 : cannot be read: No such file or directory"]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_scenarios(file: Path) -> None:
    assert load_scenario(file).expect != Expected()


def test_the_manual_has_the_example_and_every_option() -> None:
    text = (ROOT / "docs/scenarios.md").read_text()
    assert f"```yaml\n{(ROOT / 'conf/scenarios/later-then-now.yaml').read_text()}```" in text
    options = [name for kind in (ScenarioFile, Step, Expect) for name in kind.model_fields]
    assert [name for name in options if f"| `{name}` |" not in text] == []


def check(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run mtactl where there is no daemon."""
    return subprocess.run(
        [sys.executable, "-m", "mtad.cli.mtactl", *options, "scenario", "check", str(file)],
        capture_output=True,
        text=True,
        env=os.environ | {"MTAD_SOCKET": "/nonexistent"},
        timeout=30,
        check=False,
    )


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("steps:\n  - {at: 1, opn: mx}\n")
    done = check(file)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{file}: end: required, but not there",
        f"{file}:2: steps[0].opn: unknown option",
        "    help: did you mean open?",
    ]


def test_check_says_what_there_is(tmp_path: Path) -> None:
    file = tmp_path / "outage.yaml"
    file.write_text(OUTAGE)
    done = check(file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "name  outage",
        "end   1h0m",
        "   SECONDS  STEP",
        "  0.000000  rules: outage.1.later, outage.1.own",
        " 10.000000  close mx",
        "150.000000  rules: none; open mx; open extra*",
    ]

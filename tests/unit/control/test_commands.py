"""The table of commands: sound in itself, and the same for JSON, plain words and mtactl."""

from __future__ import annotations

import shlex
from typing import Any

import click
import pytest

from mtad.cli.local import MTACTL_COMMANDS
from mtad.cli.mtactl import cli
from mtad.control.commands import COMMANDS, by_method, by_words, help_on
from mtad.control.grammar import Command, Role
from mtad.control.params import TYPES, Param
from mtad.errors import CommandError

STOP = COMMANDS["listener.stop"]
ADD = COMMANDS["listener.add"]
READY = COMMANDS["ready"]


def call(line: str) -> dict[str, Any]:
    """Return the parameters of a plain line."""
    command, words = by_words(line.split())
    return command.parse(words)


@pytest.mark.parametrize(
    ("line", "params"),
    [
        ("listener list", {"selectors": []}),
        ("listener list a b", {"selectors": ["a", "b"]}),
        ("listener stop a", {"selectors": ["a"], "drain": None, "cut": False}),
        ("listener stop a --drain 5 b", {"selectors": ["a", "b"], "drain": 5.0}),
        ("listener stop --drain=0 a", {"selectors": ["a"], "drain": 0.0}),
        ("listener stop --all --cut --wait", {"all": True, "cut": True, "wait": True}),
        ("listener stop -- --all", {"selectors": ["--all"], "all": False}),
        ("listener add a *:25", {"v6only": True, "protocol": "smtp", "backlog": None}),
        ("listener add a *:25 --no-v6only", {"v6only": False}),
        ("listener add a *:25 --v6only --backlog 7", {"v6only": True, "backlog": 7}),
        ("ready", {"wait": None}),
        ("ready --wait", {"wait": 30.0}),
        ("ready --wait 5", {"wait": 5.0}),
        ("log level debug", {"level": "debug"}),
        ("config check a b", {"files": ["a", "b"]}),
    ],
)
def test_plain_lines(line: str, params: dict[str, Any]) -> None:
    got = call(line)
    assert {name: got[name] for name in params} == params


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("listner stop", "no command 'listner stop'; did you mean 'listener stop'?"),
        ("listener", "no command 'listener'"),
        ("listener stop", "needs SELECTOR… or --all"),
        ("listener stop a --all", "only one of SELECTOR… and --all"),
        ("listener stop a --cut --drain 1", "only one of --drain SECONDS and --cut"),
        ("listener stop a --darin 1", "no option '--darin'; did you mean '--drain'?"),
        ("listener stop a --drain", "--drain needs SECONDS"),
        ("listener stop a --drain -1", "from 0 to"),
        ("listener stop a --drain inf", "from 0 to"),
        ("listener stop a --cut=1", "--cut takes no value"),
        ("listener stop a --no-cut", "no option '--no-cut'"),
        ("listener show", "needs NAME"),
        ("message expect-none", "needs --for SECONDS"),
        ("listener show a b", "does not take 'b'"),
        ("listener add a *:25 --backlog 0", "a whole number from 1"),
        ("listener add a *:25 --backlog 1.5", "a whole number from 1"),
        ("log level debugg", "one of debug, info, warning, error"),
    ],
)
def test_plain_lines_that_are_refused(line: str, said: str) -> None:
    with pytest.raises(CommandError) as raised:
        call(line)
    assert said in raised.value.message
    assert raised.value.help


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        (STOP, {"selectors": "mx"}, "selectors is a list, not 'mx'"),
        (STOP, {"selectors": [1]}, "not 1"),
        (STOP, {"selectors": ["a\0b"]}, "without a NUL"),
        (STOP, {"selectors": []}, "needs SELECTOR"),
        (STOP, {"all": 1}, "true or false"),
        (STOP, {"all": True, "drain": True}, "a number of seconds"),
        (STOP, {"all": True, "drain": "5"}, "a number of seconds"),
        (STOP, {"all": True, "drain": 1e12}, "a number of seconds"),
        (STOP, {"all": True, "x" * 1000: 1}, "no parameter"),
        (ADD, {"name": "a"}, "needs ENDPOINT"),
        (ADD, {"name": None, "endpoint": "*:25"}, "name is text"),
        (ADD, {"name": "a", "endpoint": "*:25", "protocol": "http"}, "one of smtp"),
        (ADD, {"name": "a", "endpoint": "*:25", "backlog": True}, "whole number"),
    ],
)
def test_parameters_that_are_refused(command: Command, given: dict[str, Any], said: str) -> None:
    with pytest.raises(CommandError) as raised:
        command.check(given)
    assert said in raised.value.message
    assert raised.value.code == -32602
    assert len(raised.value.message) < 300


def test_null_is_the_default() -> None:
    assert READY.check({"wait": None}) == READY.check({}) == {"wait": None}


def test_defaults_are_not_shared() -> None:
    STOP.check({"all": True})["selectors"].append("x")
    assert STOP.check({"all": True})["selectors"] == []


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_table_is_sound(command: Command) -> None:
    assert by_method(command.method) is command
    assert by_words(command.name.split()) == (command, [])
    assert command.summary.endswith(".")
    for param in command.params:
        assert param.type in TYPES
        assert param.help
        assert param.kind != "flag" or param.type == "switch"
        for value in (param.default, param.implied):
            assert value is None or TYPES[param.type].accepts(value)
    for rule in command.rules:
        assert set(rule.names) <= command.by_name.keys()
    repeated = [p for p in command.params if p.kind == "argument" and p.repeated]
    assert len(repeated) <= 1, "what follows a repeated argument could never be given"
    for example in command.examples:
        found, words = by_words(shlex.split(example))
        assert found is command
        found.parse(words)


def test_what_changes_something_needs_to_operate() -> None:
    operating = {command.name for command in COMMANDS.values() if command.role is Role.OPERATE}
    assert operating == {
        *(f"listener {verb}" for verb in ("start", "stop", "deaf", "restart", "add", "remove")),
        *(f"rule {verb}" for verb in ("add", "load", "change", "enable", "disable")),
        *("rule reset", "rule remove"),
        "rule explain",  # it tries an operator's patterns on a caller's texts
        "message delete",
        "message release",
        "message import",
        "stats reset",
        "store repair",
        "config reload",
        "log level",
        "log reopen",
        "shutdown",
    }


@pytest.mark.parametrize("command", [c for c in MTACTL_COMMANDS if c.name != "help"])
def test_mtactl_offers_what_the_table_has(command: Command) -> None:
    found: click.Command = cli
    for word in command.name.split():
        assert isinstance(found, click.Group)
        found = found.commands[word]
    offered = {param.name for param in found.params} - {"socket", "json"}
    assert offered == {param.name for param in command.params}


def test_mtactl_offers_nothing_else() -> None:
    offered = set()
    for name, command in cli.commands.items():
        words = [""]
        if isinstance(command, click.Group):
            words = [*command.commands, *([""] if command.invoke_without_command else [])]
        offered |= {f"{name} {word}".strip() for word in words}
    assert offered - {"completion"} == {command.name for command in MTACTL_COMMANDS}


def test_help() -> None:
    everything = help_on([])
    assert [row["method"] for row in everything["commands"]] == list(COMMANDS)
    one = help_on(["listener", "stop"])
    assert one == help_on(["listener.stop"])
    assert "usage: listener stop [SELECTOR…]" in one["text"]
    with pytest.raises(CommandError, match="did you mean 'listener stop'"):
        help_on(["listener", "stpo"])


@pytest.mark.parametrize(
    ("param", "usage"),
    [
        (Param("a", "x", "argument", metavar="A"), "[A]"),
        (Param("a", "x", "argument", metavar="A", repeated=True, required=True), "A…"),
        (Param("a", "x", "flag", "switch", default=True), "[--no-a]"),
        (Param("a", "x", choices=("p", "q")), "[--a p|q]"),
        (Param("a", "x", type="seconds", implied=1.0), "[--a [SECONDS]]"),
    ],
)
def test_usage(param: Param, usage: str) -> None:
    assert param.usage == usage

"""Rules as texts: those of a file, that of a command line, and from a rule back to its text."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import yaml

from mtad.config.document import Document
from mtad.config.reader import parse
from mtad.config.rules.plain import plain
from mtad.config.rules.schema import Rule
from mtad.config.rules.values import Moments
from mtad.config.stanza import Stanza
from mtad.config.values import Name
from mtad.config.words import validated
from mtad.model.rules import values
from mtad.model.rules.values import Source


class _RuleFile(Stanza):
    """What a file of rules has."""

    rules: dict[Name, Rule]


def load_rules(text: str, name: str) -> dict[str, values.Rule]:
    """Return the rules that ``text`` has, in its order; ``name`` is that of a file, for problems.

    Raises:
        ConfigError: with every problem.
    """
    rules = validated(parse(text, name), _RuleFile).rules
    return {name: rule.value(name, Source.ADDED) for name, rule in rules.items()}


def load_rule(name: str, text: str) -> values.Rule:
    """Return the rule ``name`` that ``text`` makes; a mapping of one line may lack its braces.

    Raises:
        ConfigError: with every problem.
    """
    line = text.strip()
    if "\n" not in line and not line.startswith("{"):
        text = f"{{{line}}}"
    document = parse(text, f"rule {name}")
    document.lines[()] = 1  # that of what is missing
    return validated(document, Rule).value(name, Source.ADDED)


class _Moment(Stanza):
    at: Moments


def load_moment(text: str) -> values.At:
    """Return the moment that ``text`` names, of all commands the first. Raises ConfigError."""
    return validated(Document(Path("moment"), {"at": text}), _Moment).at[0]


class _Named(Stanza):
    name: Name


def check_name(name: str) -> None:
    """Raise ConfigError if no rule that is added can have this name."""
    validated(Document(Path("rule"), {"name": name}), _Named)


class _Dumper(yaml.SafeDumper):
    """Writes numbers as the reader knows them: without exponents."""


_Dumper.add_representer(
    float,
    lambda dumper, value: dumper.represent_scalar(
        "tag:yaml.org,2002:float", format(Decimal(repr(value)), "f")
    ),
)


def as_yaml(rule: values.Rule) -> str:
    """Return the text that `load_rule` makes ``rule`` of, as long as that is no profile's."""
    return _dumped(rule, flow=None)


def in_line(rule: values.Rule) -> str:
    """Return the same in one line, to stand behind the rule's name."""
    return _dumped(rule, flow=True).rstrip("\n")


def as_file(rules: Iterable[values.Rule]) -> str:
    """Return the text that `load_rules` makes ``rules`` of."""
    return "rules:\n" + "".join(f"  {rule.name}: {in_line(rule)}\n" for rule in rules)


def _dumped(rule: values.Rule, *, flow: bool | None) -> str:
    return yaml.dump(
        plain(rule), Dumper=_Dumper, sort_keys=False, default_flow_style=flow, width=2**20
    )

"""Scenario files: their options, and from a file to a scenario or to every problem it has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mtad.config.document import Document
from mtad.config.reader import parse, read
from mtad.config.rules.reading import many, several
from mtad.config.rules.schema import Rule
from mtad.config.rules.values import Seed, SomeTime, Time
from mtad.config.stanza import Stanza
from mtad.config.values import Name, found, refuse
from mtad.config.words import validated
from mtad.model import scenario as model
from mtad.model.deliveries import expected
from mtad.model.rules import values
from mtad.model.rules.values import Source

NAME_CHARACTERS = 24
"""Of a scenario's name, at most."""

# Together, with the number of the step and two dots, they are a name.
_RULE_CHARACTERS, _MOST_STEPS = 34, 999
_NO_NAME = "scenario"


def _selector(value: Any) -> str:
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise refuse(f"expected the name of a listener, found {found(value)}")


def _rule_name(value: str) -> str:
    if len(value) > _RULE_CHARACTERS:
        reason = f"{found(value)} is longer than {_RULE_CHARACTERS} characters"
        raise refuse(reason, "the name of the scenario goes before it")
    return value


RuleName = Annotated[Name, AfterValidator(_rule_name)]
Selectors = Annotated[tuple[str, ...], PlainValidator(several(_selector))]
Selector = Annotated[str, PlainValidator(_selector)]
Count = Annotated[int, Field(ge=0, le=10**9)]


class Range(Stanza):
    """From where to where, both ends included."""

    @model_validator(mode="after")
    def _fits(self) -> Range:
        least, most = self.value().least, self.value().most
        if most is not None and most < least:
            raise refuse(f"most, {most:g}, is less than least, {least:g}", "exchange them")
        return self

    def value(self) -> expected.Range:
        """Return this as the rest of the program knows it."""
        return expected.Range(**dict(self))


class Counts(Range):
    """So many."""

    least: Count = Field(0, description="The fewest.")
    most: Count | None = Field(None, description="The most; null: any number.")


class Times(Range):
    """So long."""

    least: Time = Field(0.0, description="The shortest.")
    most: Time | None = Field(None, description="The longest; null: any.")


class Expect(Stanza):
    """What is expected; what is null is not looked at."""

    messages: Count | None = Field(None, description="How many different messages are kept.")
    duplicates: Count | None = Field(
        None, description="How often a message is kept again for the same recipient."
    )
    lost: Count | None = Field(
        None, description="For how many recipients a message was attempted, and never kept."
    )
    order: Literal["kept"] | None = Field(
        None, description="Messages are kept in the order in which they were attempted first."
    )
    attempts: Counts | None = Field(
        None, description="How often each message is attempted for each recipient."
    )
    first_retry: Times | None = Field(
        None, description="How long after the first attempt the second is."
    )
    intervals: Times | None = Field(
        None, description="How long after an attempt the next one is, each time."
    )

    def value(self) -> expected.Expected:
        """Return this as the rest of the program knows it."""
        wanted: dict[str, Any] = {
            name: one.value() if isinstance(one, Range) else one for name, one in self
        }
        return expected.Expected(**wanted | {"order": self.order is not None})


class Step(Stanza):
    """What is done at a time: rules are exchanged, then listeners opened, then others closed."""

    at: Time = Field(description="How long after the beginning.")
    rules: dict[RuleName, Rule] | None = Field(
        None, description="The rules from now on, instead of those of the steps before; {}: none."
    )
    open: Selectors = Field((), description="Listeners that are opened: a name, a glob, a list.")
    close: Selectors = Field((), description="Listeners that are closed.")

    @model_validator(mode="after")
    def _does_something(self) -> Step:
        if self.rules is None and not self.open and not self.close:
            raise refuse("nothing is done", "rules, open or close; `rules: {}` for no rules")
        return self


class ScenarioFile(Stanza):
    """A scenario."""

    listener: Selector | None = Field(
        None,
        description="The listener (a name, a glob) that rules are for unless they say otherwise, "
        "and whose senders are looked at; null: all.",
    )
    seed: Seed = Field(0, description="The seed of rules that have none of their own.")
    steps: list[Step] = Field(description="What is done, in the order of time.")
    end: SomeTime = Field(description="How long it lasts at most.")
    settle: Time = Field(
        1.0,
        description="It ends earlier when all messages (and duplicates) that are expected have "
        "arrived, no sender has a reason to come again, and so long nothing has happened.",
    )
    expect: Expect = Field(default_factory=Expect)

    @field_validator("steps")
    @classmethod
    def _in_time(cls, steps: list[Step]) -> list[Step]:
        if not steps:
            raise refuse(
                "there is no step", "- {at: 0, rules: {}} has mail accepted from the start"
            )
        late = [
            ((number, "at"), refuse("before the step above", "write steps in the order of time"))
            for number, (one, following) in enumerate(pairwise(steps), 1)
            if following.at < one.at
        ]
        if late:
            raise many(late)
        return steps

    @field_validator("end")
    @classmethod
    def _is_last(cls, end: float, info: ValidationInfo) -> float:
        steps: Iterable[Step] = info.data.get("steps", ())
        if late := [step.at for step in steps if step.at > end]:
            raise refuse(f"before the step at {late[0]:g} s", "a step after the end is never done")
        return end

    def value(self, name: str) -> model.Scenario:
        """Return this as the rest of the program knows it."""
        return model.Scenario(
            name=name,
            steps=tuple(
                self._step(step, f"{name}.{number}") for number, step in enumerate(self.steps, 1)
            ),
            end=self.end,
            settle=self.settle,
            expect=self.expect.value(),
            listener=self.listener or "",
        )

    def _step(self, step: Step, prefix: str) -> model.Step:
        rules = None
        if step.rules is not None:
            rules = tuple(self._rule(f"{prefix}.{key}", rule) for key, rule in step.rules.items())
        return model.Step(step.at, rules, step.open, step.close)

    def _rule(self, name: str, rule: Rule) -> values.Rule:
        value = rule.value(name, Source.ADDED)
        where, when = value.where, value.when
        if self.listener and not where.listener:
            where = msgspec.structs.replace(where, listener=(self.listener,))
        if "seed" not in rule.when.model_fields_set:
            when = msgspec.structs.replace(when, seed=self.seed)
        return msgspec.structs.replace(value, where=where, when=when)


def load_scenario(what: str | Path | Mapping[str, Any]) -> model.Scenario:
    """Return the scenario of a file, of a text in YAML, or of what such a file says.

    Its rules have its name, that of the file, and the number of their step before their own.

    Raises:
        ConfigError: with every problem.
    """
    name = _NO_NAME
    if isinstance(what, Path):
        document = read(what)
        name = re.sub("[^A-Za-z0-9_-]+", "-", what.stem).lstrip("-_")[:NAME_CHARACTERS] or name
    elif isinstance(what, str):
        document = parse(what, name)
    else:
        document = Document(Path(name), dict(what))
    return validated(document, ScenarioFile).value(name)

"""The options of a fault rule: where, when, what, and for how long.

What is said here to be a default is that of mtad.model.rules.values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_serializer, model_validator

from mtad.config.rules.actions import Do
from mtad.config.rules.checks import of_actions, of_knowledge, of_quota
from mtad.config.rules.gates import ATTEMPT, GATES, Cycle, Greylist, Rate, default_per
from mtad.config.rules.plain import plain
from mtad.config.rules.reading import Problem, clash, many
from mtad.config.rules.values import (
    MOMENTS,
    Drawn,
    Facts,
    Header,
    Moments,
    OneOrMore,
    Ordinal,
    Peers,
    Probability,
    Run,
    Seed,
    SizeRange,
    SomeTime,
    Windows,
)
from mtad.config.stanza import Stanza
from mtad.config.values import Size, Switch
from mtad.model.rules import values
from mtad.model.rules.values import AnyGate, Source


class Where(Stanza):
    """What has to be true of the session: all of it; a list: one of its elements.

    A pattern is a glob of the whole text, or `/a regular expression/` found in it; neither looks
    at case.
    """

    listener: OneOrMore = Field((), description="The listener's name.")
    peer: Peers = Field((), description="The client: IP addresses, networks, `unix`.")
    helo: OneOrMore = Field((), description="The argument of HELO or EHLO.")
    tls: Switch | None = Field(None, description="Whether the session is encrypted.")
    user: OneOrMore = Field((), description="Who has logged in.")
    sender: OneOrMore = Field((), description='The sender of the message; `""` is the null sender.')
    recipient: OneOrMore = Field(
        (), description="The recipient of RCPT; later one of all recipients of the message."
    )
    size: SizeRange | None = Field(
        None, description="What MAIL says by SIZE=; from `message` on, the octets of the content."
    )
    header: Header = Field(
        {}, description="Fields of the message, from `message` on: `{X-Test: pattern}`."
    )
    run: Run = Field("", description="The tag of a test run.")

    def value(self) -> values.Where:
        """Return this as the rest of the program knows it."""
        return values.Where(**dict(self))


class When(Stanza):
    """At which times, and at which of the hits: at most one of the options up to `quota`."""

    nth: Ordinal | None = Field(None, description="This hit alone, counted from 1.")
    every: Ordinal | None = Field(None, description="Each of so many: 3 is every third.")
    first: Ordinal | None = Field(None, description="The first so many.")
    after: Ordinal | None = Field(None, description="All but the first so many.")
    chance: Probability | None = Field(
        None, description="Each with this probability, drawn from the rule's seed."
    )
    greylist: Greylist | None = Field(None)
    rate: Rate | None = Field(None)
    quota: Size | None = Field(
        None,
        description="What would make the octets of a key more than this: of each recipient, also "
        "where a message has several.",
    )
    per: Facts | None = Field(
        None,
        description="What has a count of its own, of "
        + ", ".join(values.FACTS)
        + ". null: nothing; for `chance`, and where something is drawn, "
        + ", ".join(ATTEMPT)
        + "; for `greylist` peer, sender, recipient; for `quota` recipient.",
    )
    seed: Seed = Field(
        0,
        description="What is drawn comes from this, the rule's name, `per` and the number of the "
        "hit; `random`: a number that is drawn when the rule is made, logged, and shown by "
        "`rule show`.",
    )
    daily: Windows = Field((), description='Times of a day, in UTC: `"02:00-04:00"`.')
    cycle: Cycle | None = Field(None)

    @model_validator(mode="after")
    def _fits(self) -> When:
        gates = self._gates()
        if len(gates) > 1:
            raise clash(gates[1], f"{' and '.join(gates)} exclude each other", "keep one")
        return self

    def _gates(self) -> list[str]:
        return [name for name in GATES if getattr(self, name) is not None]

    def value(self, do: values.Do) -> values.When:
        """Return this as the rest of the program knows it, for a rule that does ``do``."""
        gate: AnyGate | None = None
        for name in self._gates():
            given = getattr(self, name)
            gate = given.value() if isinstance(given, Greylist | Rate) else GATES[name](given)
        per = default_per(gate, do) if self.per is None else self.per
        cycle = None if self.cycle is None else values.Cycle(self.cycle.on, self.cycle.off)
        seed, drawn = int(self.seed), isinstance(self.seed, Drawn)
        return values.When(gate, per, seed, self.daily, cycle, drawn)


class For(Stanza):
    """How often a rule fires, and how long it is there, at most."""

    hits: Ordinal | None = Field(None, description="It has fired so often, and does no more.")
    seconds: SomeTime | None = Field(
        None, description="It ends so long after it was made, by a command or a start."
    )


class Rule(Stanza):
    """A fault rule: a moment, conditions, and what happens. The first that fires decides."""

    at: Moments = Field(
        description=f"The moment of the session, or a list of them: {', '.join(MOMENTS)}."
    )
    where: Where = Field(default_factory=Where)
    when: When = Field(default_factory=When)
    do: Do = Field()
    for_: For = Field(default_factory=For, alias="for")
    enabled: Switch = Field(True, description="Whether the rule is asked at all.")

    @field_validator("where")
    @classmethod
    def _can_hold(cls, where: Where, info: ValidationInfo) -> Where:
        _refuse(of_knowledge(where.model_fields_set, info.data.get("at", ())))
        return where

    @field_validator("when")
    @classmethod
    def _can_count(cls, when: When, info: ValidationInfo) -> When:
        at, words = info.data.get("at", ()), when.model_fields_set
        _refuse(
            [
                *of_knowledge(words, at),
                *of_knowledge(when.per or (), at, ("per",)),
                *of_quota(words, at),
            ]
        )
        return when

    @field_validator("do")
    @classmethod
    def _can_act(cls, do: Do, info: ValidationInfo) -> Do:
        _refuse(of_actions(do.value(), info.data.get("at", ())))
        return do

    @model_serializer
    def _shown(self) -> dict[str, Any]:
        return plain(self.value("", Source.FILE))

    def value(self, name: str, source: Source) -> values.Rule:
        """Return this as the rest of the program knows it."""
        do = self.do.value()
        return values.Rule(
            name=name,
            at=self.at,
            do=do,
            where=self.where.value(),
            when=self.when.value(do),
            hits=self.for_.hits or 0,
            seconds=self.for_.seconds or 0.0,
            enabled=self.enabled,
            source=source,
        )


def _refuse(problems: Iterable[Problem]) -> None:
    if found := list(problems):
        raise many(found)

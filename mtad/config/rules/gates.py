"""Which of the hits fire: what ``when`` calls the gates of mtad.model.rules, and their options."""

from __future__ import annotations

from pydantic import Field, model_validator

from mtad.config.rules.reading import clash
from mtad.config.rules.values import Amount, Growth, SomeTime
from mtad.config.stanza import Stanza
from mtad.model.rules import values
from mtad.model.rules.values import AnyGate

GATES: dict[str, type[AnyGate]] = {
    "nth": values.Nth,
    "every": values.Every,
    "first": values.First,
    "after": values.After,
    "chance": values.Chance,
    "greylist": values.Greylist,
    "rate": values.Rate,
    "quota": values.Quota,
}
"""What the options of ``when`` are to the rest of the program; a rule has one at most."""

_GREYLIST, _RATE = values.Greylist(), values.Rate(1.0)

ATTEMPT = ("peer", "helo", "user", "sender", "recipient")
_PER: dict[type, tuple[str, ...]] = {
    values.Chance: ATTEMPT,
    values.Greylist: ("peer", "sender", "recipient"),
    values.Quota: ("recipient",),
}


def default_per(gate: AnyGate | None, do: values.Do) -> tuple[str, ...]:
    """Return what has a count of its own where a rule does not say it."""
    if gate is None and (do.one_of or do.jitter):
        return ATTEMPT  # so that what is drawn depends on no order
    return _PER.get(type(gate), ())


class Greylist(Stanza):
    """The rule fires until an attempt comes again after `delay`, as greylisting does."""

    delay: SomeTime = Field(_GREYLIST.delay, description="How long after the first attempt.")
    window: SomeTime = Field(
        _GREYLIST.window, description="How long after the first attempt the next is still it."
    )
    remember: SomeTime = Field(
        _GREYLIST.remember, description="How long after its last attempt who has passed may pass."
    )

    @model_validator(mode="after")
    def _fits(self) -> Greylist:
        if self.delay >= self.window:
            raise clash("window", "the window ends before the delay", "{delay: 60, window: 4h}")
        return self

    def value(self) -> values.Greylist:
        """Return this as the rest of the program knows it."""
        return values.Greylist(**dict(self))


class Rate(Stanza):
    """The rule fires for what is more than `limit` in `seconds`: a token bucket."""

    limit: Amount = Field(description="How many in `seconds`.")
    seconds: SomeTime = Field(_RATE.seconds, description="The period.")
    burst: Amount | None = Field(
        None, description="How many at once, after a time without any; null: `limit`."
    )
    growth: Growth = Field(
        _RATE.growth,
        description="How many times that of the period before each limit is, counted from the "
        "first hit: 2 is a warm-up; what a period leaves is not carried over then.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Rate:
        if self.burst is not None and self.growth != 1:
            raise clash("burst", "burst and growth exclude each other", "keep one")
        return self

    def value(self) -> values.Rate:
        """Return this as the rest of the program knows it."""
        return values.Rate(self.limit, self.seconds, self.burst or 0.0, self.growth)


class Cycle(Stanza):
    """The rule acts for `on` seconds, then for `off` seconds not, again and again."""

    on: SomeTime = Field(description="How long it acts.")
    off: SomeTime = Field(description="How long it does not.")

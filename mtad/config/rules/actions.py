"""The options of ``do``: what a fault rule makes happen.

What is said here to be a default is that of mtad.model.rules.values.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from mtad.config.rules.action_values import (
    MUTE,
    Closing,
    Hidden,
    Raw,
    Reply,
)
from mtad.config.rules.parts import Mail, Shutter, Tarpit, TlsFault
from mtad.config.rules.reading import clash
from mtad.config.rules.values import Repeat, Speed, Time, Weight
from mtad.config.shorthand import InShort
from mtad.config.stanza import Stanza
from mtad.config.values import Switch
from mtad.model.rules import values
from mtad.model.rules.values import Said

MAX_RAW = 16 * 2**20
"""Octets that one ``raw`` sends, all its repetitions together."""

_DO = values.Do()


class Actions(Stanza):
    """What happens, in this order: wait, answer, close."""

    reply: Reply | None = Field(
        None,
        description="The answer: `450 4.2.0 Try again later`, a list of lines that all begin "
        "with the same code, or `none`. With 4xx or 5xx the command is not carried out.",
    )
    raw: Raw | None = Field(
        None,
        description='Octets that are sent instead, as they are: `"250 ok\\r\\n250 ok\\r\\n"`. '
        "Each character is one octet, at most U+00FF. The command is carried out if they begin "
        "with 2 or 3.",
    )
    repeat: Repeat = Field(
        _DO.repeat, description="How many times `raw` is sent, 16 MiB in all at most."
    )
    delay: Time = Field(_DO.delay, description="How long is waited before the answer.")
    jitter: Time = Field(_DO.jitter, description="Up to how much longer, by the rule's seed.")
    tarpit: Tarpit | None = Field(None)
    send_rate: Speed | None = Field(
        None, description="Octets a second that are sent, from now on, at most."
    )
    read_rate: Speed | None = Field(
        None, description="Octets a second that are read, from now on, at most."
    )
    silent: Switch = Field(
        _DO.silent, description="Whether nothing is answered from now on, though all is read."
    )
    deaf: Switch = Field(
        _DO.deaf,
        description="Whether nothing is read or answered from now on: the client's window closes.",
    )
    close: Closing | None = Field(
        None,
        description="How the connection ends after the answer: `fin`, `rst`, or `half`, our half "
        "only. Without an answer the command is not carried out.",
    )
    listener: Shutter | None = Field(None)
    hide: Hidden | None = Field(
        None, description="Keywords that are left out of EHLO's reply, for this session."
    )
    tls: TlsFault | None = Field(None)
    mail: Annotated[
        Mail | None, InShort({"discard": {"discard": True}, "hold": {"hold": True}})
    ] = Field(None)

    @model_validator(mode="after")
    def _answers(self) -> Actions:
        if self.reply is not None and self.raw is not None:
            raise clash("raw", "reply and raw exclude each other", "keep one")
        if self.raw is None and self.repeat != 1:
            raise clash("repeat", "there is no raw", "only `raw` is sent again")
        if len(self.raw or b"") * self.repeat > MAX_RAW:
            raise clash("repeat", f"raw and repeat make more than {MAX_RAW >> 20} MiB")
        return self

    def value(self) -> values.Do:
        """Return this as the rest of the program knows it."""
        return values.Do(
            reply=self.reply if isinstance(self.reply, Said) else None,
            raw=self.raw,
            repeat=self.repeat,
            mute=self.reply == MUTE,
            delay=self.delay,
            jitter=self.jitter,
            tarpit=None if self.tarpit is None else self.tarpit.value(),
            send_rate=self.send_rate or 0.0,
            read_rate=self.read_rate or 0.0,
            silent=self.silent,
            deaf=self.deaf,
            close=self.close,
            listener=None if self.listener is None else self.listener.value(),
            hide=self.hide or (),
            tls=None if self.tls is None else self.tls.value(),
            mail=None if self.mail is None else self.mail.value(),
        )


class Choice(Actions):
    """One of several things to do: options as in `do`."""

    weight: Weight = Field(1.0, description="Its chance is its share of all weights.")


class Do(Actions):
    """What happens: wait, answer, close, in this order; `{}`: nothing, and later rules neither.

    The command is carried out unless the answer says that it is not.
    """

    one_of: list[Choice] | None = Field(
        None,
        description="Mappings with the options of `do` and a `weight`, of which one is drawn, by "
        "the rule's seed, and done: `[{weight: 9}, {weight: 1, close: rst}]`.",
    )

    @model_validator(mode="after")
    def _draws(self) -> Do:
        if self.one_of is not None:
            if len(self.model_fields_set) > 1:
                raise clash("one_of", "one_of stands alone", "put the rest into its mappings")
            if not any(choice.weight for choice in self.one_of):
                raise clash("one_of", "all weights are 0", "[{weight: 9}, {weight: 1, close: rst}]")
        return self

    def value(self) -> values.Do:
        """Return this as the rest of the program knows it."""
        if self.one_of is None:
            return super().value()
        choices = (values.Choice(choice.weight, choice.value()) for choice in self.one_of)
        return values.Do(one_of=tuple(choices))

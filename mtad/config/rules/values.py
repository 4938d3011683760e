"""The kinds of value that fault rules have: where, when, how long.

Each is a type for the schema; what it makes of the text in a file is that of mtad.model.rules.
"""

from __future__ import annotations

import re
import secrets
import warnings
from difflib import get_close_matches
from itertools import chain
from typing import Annotated, Any

from pydantic import PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from mtad.config.profile_values import network, one_of
from mtad.config.rules.reading import Problem, below, many, number, several, whole
from mtad.config.values import MAX_DURATION, duration, found, read_size, refuse
from mtad.model.rules.patterns import compile_pattern, is_expression
from mtad.model.rules.values import COMMANDS, FACTS, At, Between, Moment, Patterns, Window

ALL_COMMANDS = tuple(dict.fromkeys(COMMANDS.values()))
MOMENTS = (*Moment, "command", "byte 1000", "line 20")
"""What ``at`` may be; ``command`` is all commands, and the last two take any number."""

# What some would call them.
_ALSO = {"lhlo": "ehlo", "accept": "connect", "greeting": "banner", "dot": "message"}

_WHOLE_DAY = 86_400
_MAX_OCTETS = 2**40
_MAX_PATTERN = 1000
_MAX_RUN = 200
_MAX_SEED = 2**53 - 1  # what a JSON number holds exactly
_FIELD_NAME = re.compile("[!-9;-~]{1,76}")


def _between(kind: str, least: float, most: float) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, "minimum": least, "maximum": most})


def _time(value: Any) -> float:
    """Return seconds for ``0.5``, ``90``, ``"15m"`` or ``"35d"``."""
    if isinstance(value, float) and 0 <= value <= MAX_DURATION:
        return value
    try:
        return float(duration(value))
    except PydanticCustomError as error:
        reason = (error.context or {})["reason"]
        raise refuse(reason, "such as 0.5, 90, 15m or 4h") from None


def _some_time(value: Any) -> float:
    if (seconds := _time(value)) > 0:
        return seconds
    raise refuse("expected more than 0 seconds", "leave the option out if none is meant")


def _moments(value: Any) -> tuple[At, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(several(_named)(value))))


def _named(value: Any) -> tuple[At, ...]:
    return tuple(map(At, ALL_COMMANDS)) if value == "command" else (_moment(value),)


def _moment(value: Any) -> At:
    if not isinstance(value, str):
        raise refuse(f"expected a moment of a session, found {found(value)}", "such as rcpt")
    if value in set(Moment):
        return At(Moment(value))
    if match := re.fullmatch("(byte|line) ([1-9][0-9]{0,12})", value):
        count = int(match[2])
        kind = "octets" if match[1] == "byte" else "lines"
        return At(Moment.BODY, **{kind: count})
    meant = _ALSO.get(value.lower()) or next(iter(get_close_matches(value, MOMENTS, 1)), "")
    hint = f"did you mean {meant}?" if meant else "there are: " + ", ".join(MOMENTS)
    raise refuse(f"{found(value)} is no moment of a session", hint)


def _pattern(value: Any) -> str:
    """Return a glob, or a regular expression between slashes that compiles."""
    if not isinstance(value, str):
        raise refuse(f"expected text, found {found(value)}", "put it in quotes")
    if len(value) > _MAX_PATTERN:
        raise refuse(f"longer than {_MAX_PATTERN} characters")
    if not value.isprintable():
        raise refuse(f"control characters in {found(value)}")
    if value.startswith("/") and not is_expression(value):
        raise refuse(f"{found(value)} is half a regular expression", "end it with /")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what a later Python will read in another way
            compile_pattern(value)
    except (ValueError, FutureWarning) as error:
        raise refuse(f"not a regular expression: {error}") from None
    return value


def _peer(value: Any) -> str:
    return "unix" if value == "unix" else network(value)


def _range(value: Any) -> Between:
    """Return octets of ``">1M"``, ``"<1M"`` or ``"1K..2M"``."""
    if isinstance(value, str):
        if value.startswith(">"):
            return Between(least=read_size(value[1:].strip()) + 1)
        if value.startswith("<"):
            if most := read_size(value[1:].strip()):
                return Between(most=most - 1)
            raise refuse("nothing is smaller than 0")
        least, dots, most_text = value.partition("..")
        if dots:
            between = Between(read_size(least), read_size(most_text))
            if between.most is not None and between.least > between.most:
                raise refuse(f"{found(value)} ends before it begins")
            return between
    raise refuse(f"expected a range of sizes, found {found(value)}", '">1M", "<64K" or "1K..2M"')


def _header(value: Any) -> dict[str, Patterns]:
    """Return patterns by names of fields in lower case (RFC 5322 section 3.6.8: ftext)."""
    if not isinstance(value, dict):
        raise refuse(f"expected a mapping, found {found(value)}", "{X-Test: pattern}")
    if not value:
        raise refuse("an empty mapping", "leave the option out")
    header: dict[str, Patterns] = {}
    problems: list[Problem] = []
    for name, patterns in value.items():
        try:
            if not _FIELD_NAME.fullmatch(name):
                raise refuse(f"{found(name)} is no name of a header field")
            if name.lower() in header:
                raise refuse(f"{name} is given twice", "write a list of patterns")
            header[name.lower()] = several(_pattern)(patterns)
        except PydanticCustomError as error:
            problems.append(((name,), error))
        except ValidationError as error:
            problems += below(name, error)
    if problems:
        raise many(problems)
    return header


def _run(value: Any) -> str:
    if isinstance(value, str) and 0 < len(value) <= _MAX_RUN and value.isprintable():
        return value
    raise refuse(f"expected the tag of a test run, found {found(value)}")


def _fact(value: Any) -> str:
    return one_of("fact that can tell attempts apart", value, FACTS)


def _facts(value: Any) -> tuple[str, ...]:
    return () if value == [] else several(_fact)(value)


class Drawn(int):
    """A seed that nobody wrote."""


def _seed(value: Any) -> int:
    """Return a number, for ``random`` one that is drawn now."""
    if value == "random":
        return Drawn(secrets.randbits(32))
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_SEED:
        return value
    raise refuse(f"expected random or a number from 0 to {_MAX_SEED}, found {found(value)}")


def _window(value: Any) -> Window:
    clock = "([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?"
    match = re.fullmatch(f"{clock}-{clock}", value) if isinstance(value, str) else None
    if match is None:
        raise refuse(f"expected times of a day, found {found(value)}", '"02:00-04:00", in UTC')
    begin, end = _of_day(*match.groups()[:3]), _of_day(*match.groups()[3:])
    if begin in (end, _WHOLE_DAY):
        raise refuse(f"{found(value)} is no part of a day", "leave it out for the whole day")
    return Window(begin, end)


def _of_day(hours: str, minutes: str, seconds: str | None) -> int:
    second = int(hours) * 3600 + int(minutes) * 60 + int(seconds or 0)
    if int(minutes) > 59 or int(seconds or 0) > 59 or second > _WHOLE_DAY:
        raise refuse(f"{hours}:{minutes} is no time of a day", "00:00 to 24:00, in UTC")
    return second


def _listed(form: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", "array"], "format": form})


Header = Annotated[
    dict[str, Patterns],
    PlainValidator(_header),
    WithJsonSchema({"type": "object", "format": "patterns by field"}),
]
Moments = Annotated[tuple[At, ...], PlainValidator(_moments), _listed("moments")]
OneOrMore = Annotated[tuple[str, ...], PlainValidator(several(_pattern)), _listed("patterns")]
Peers = Annotated[tuple[str, ...], PlainValidator(several(_peer)), _listed("networks or unix")]
Facts = Annotated[tuple[str, ...], PlainValidator(_facts), _listed("facts")]
SizeRange = Annotated[
    Between, PlainValidator(_range), WithJsonSchema({"type": "string", "format": "range"})
]
Seed = Annotated[
    int,
    PlainValidator(_seed),
    WithJsonSchema(
        {"anyOf": [{"const": "random"}, {"type": "integer", "minimum": 0, "maximum": _MAX_SEED}]}
    ),
]
Time = Annotated[
    float, PlainValidator(_time), WithJsonSchema({"type": ["number", "string"], "format": "time"})
]
SomeTime = Annotated[
    float,
    PlainValidator(_some_time),
    WithJsonSchema({"type": ["number", "string"], "format": "time"}),
]
Windows = Annotated[tuple[Window, ...], PlainValidator(several(_window)), _listed("times of a day")]
Amount = Annotated[float, number(0.001, 10**9), _between("number", 0.001, 10**9)]
Growth = Annotated[float, number(1, 1000), _between("number", 1, 1000)]
Ordinal = Annotated[int, whole(1, 10**12), _between("integer", 1, 10**12)]
Probability = Annotated[float, number(0, 1), _between("number", 0, 1)]
Repeat = Annotated[int, whole(1, 2**24), _between("integer", 1, 2**24)]
Run = Annotated[str, PlainValidator(_run), WithJsonSchema({"type": "string"})]
Speed = Annotated[float, number(0.001, 10**9), _between("number", 0.001, 10**9)]
Weight = Annotated[float, number(0, 10**9), _between("number", 0, 10**9)]

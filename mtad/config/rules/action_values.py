"""The kinds of value that the actions of fault rules have, as `values` has the others."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import PlainValidator, WithJsonSchema

from mtad.config.profile_values import member, one_of
from mtad.config.rules.reading import every, many, several
from mtad.config.values import found, refuse
from mtad.errors import EndpointError
from mtad.model.hop import parse_hop
from mtad.model.profile import EXTENSIONS
from mtad.model.rules.alerts import ALERTS
from mtad.model.rules.values import Close, Flawed, Said

MUTE = "none"
"""What is written for no reply."""

_STATUS = re.compile(r"([0-9])\.[0-9]{1,3}\.[0-9]{1,3}(?= |$)")
_A_REPLY = "450 4.2.0 Try again later"


def _reply(value: Any) -> Said | str:
    """Return a reply, of one line or a list of lines with the same code."""
    if value == MUTE:
        return MUTE
    lines = every(_line)(value)
    first = lines[0]
    problems = [
        (
            (index,),
            refuse(
                f"expected {_start(first)} as in the first line, found {_start(line)}",
                "`raw` sends what is no reply",
            ),
        )
        for index, line in enumerate(lines)
        if _start(line) != _start(first)
    ]
    if problems:
        raise many(problems)
    return Said(first.code, first.status, "\n".join(line.text for line in lines))


def _start(line: Said) -> str:
    return f"{line.code} {line.status}".strip()


def _line(value: Any) -> Said:
    text = str(value) if type(value) is int else value
    match = (
        re.fullmatch("([0-9]{3})(?:[ -](.*))?", text, re.DOTALL) if isinstance(text, str) else None
    )
    if match is None:
        raise refuse(f"expected a reply, found {found(value)}", f"none, or such as {_A_REPLY}")
    code, rest = int(match[1]), match[2] or ""
    if not 200 <= code <= 599:
        raise refuse(f"expected a code from 200 to 599, found {match[1]}", "`raw` sends others")
    if not (rest.isascii() and rest.isprintable()):
        reason = f"a reply has printable ASCII only (RFC 5321 section 4.2), found {found(rest)}"
        raise refuse(reason, "`raw` sends any octets; a list has an element for each line")
    status = ""
    if one := _STATUS.match(rest):
        status, rest = one[0], rest[one.end() + 1 :]
        if one[1] != match[1][0] or one[1] == "3":
            raise refuse(
                f"the status {status} does not go with {code}",
                "its first digit is that of the code, 2, 4 or 5 (RFC 2034 section 4)",
            )
    return Said(code, status, rest)


def _raw(value: Any) -> bytes:
    """Return an octet for each character."""
    if not isinstance(value, str):
        raise refuse(f"expected text, found {found(value)}", 'such as "250 ok\\r\\n"')
    if not value:
        raise refuse("nothing to send", "write reply: none for no reply")
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError as error:
        reason = f"the character {value[error.start]!r} is no octet"
        raise refuse(reason, 'write its octets, as in "\\xC3\\xA9"') from None


def _alert(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return value
    if isinstance(value, str) and value in ALERTS:
        return ALERTS[value]
    close = get_close_matches(str(value), ALERTS, 1)
    hint = f"did you mean {close[0]}?" if close else "a name of RFC 8446 section 6, or its number"
    raise refuse(f"{found(value)} is no alert of TLS", hint)


def _hop(value: Any) -> str:
    if not isinstance(value, str):
        raise refuse(f"expected a host and a port, found {found(value)}", "mx.example.com:25")
    try:
        return str(parse_hop(value))
    except EndpointError as error:
        raise refuse(error.message, error.help) from None


def _bounce_status(value: Any) -> str:
    match = _STATUS.fullmatch(value) if isinstance(value, str) else None
    if match and match[1] in "45":
        return match[0]
    raise refuse(f"expected an enhanced status code, found {found(value)}", "such as 5.1.1")


def _bounce_text(value: Any) -> str:
    if isinstance(value, str) and value.isascii() and value.isprintable():
        return value
    raise refuse(f"expected printable ASCII, found {found(value)}")


def _extension(value: Any) -> str:
    return one_of("extension that can be hidden", value, EXTENSIONS)


def _words(kinds: type[Close] | type[Flawed]) -> WithJsonSchema:
    return WithJsonSchema({"enum": [*map(str, kinds)]})


Alert = Annotated[
    int,
    PlainValidator(_alert),
    WithJsonSchema({"type": ["string", "integer"], "format": "alert"}),
]
BounceStatus = Annotated[
    str, PlainValidator(_bounce_status), WithJsonSchema({"type": "string", "format": "status"})
]
BounceText = Annotated[str, PlainValidator(_bounce_text), WithJsonSchema({"type": "string"})]
Closing = Annotated[Close, PlainValidator(member(Close)), _words(Close)]
Hidden = Annotated[
    tuple[str, ...],
    PlainValidator(several(_extension)),
    WithJsonSchema({"type": ["string", "array"], "format": "extensions"}),
]
Flaw = Annotated[Flawed, PlainValidator(member(Flawed)), _words(Flawed)]
Hop = Annotated[str, PlainValidator(_hop), WithJsonSchema({"type": "string", "format": "hop"})]
Raw = Annotated[bytes, PlainValidator(_raw), WithJsonSchema({"type": "string", "format": "octets"})]
Reply = Annotated[
    Said | Literal["none"],
    PlainValidator(_reply),
    WithJsonSchema({"type": ["string", "integer", "array"], "format": "reply"}),
]

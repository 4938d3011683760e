"""The kinds of value a configuration holds: what is accepted, and the words for what is not.

Each kind is a type for the schema. Its JSON schema carries the kind's name as ``format``.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from mtad.errors import EndpointError
from mtad.model.endpoint import parse_endpoints

REFUSED = "refused"
"""The type of every error raised here; its context holds ``reason`` and ``help``."""

# 4294967295 is (uid_t) -1, which setresuid(2) takes for "leave this one as it is".
_MAX_ID = 2**32 - 2
_MAX_SIZE = 2**40
MAX_WORKERS = 64
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
MAX_DURATION = 36_500 * 86_400
_DURATIONS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def found(value: object) -> str:
    """Return words for a value as it stood in the file."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str() if len(value) > 60:
            return f"{value[:60]!r}…"
        case _:
            return repr(value)


def kind(value: object) -> str:
    """Return words for the kind of a value that must not be shown."""
    match value:
        case str():
            return "text"
        case int() | float() if not isinstance(value, bool):
            return "a number"
        case _:
            return found(value)


def refuse(reason: str, help: str = "") -> PydanticCustomError:  # noqa: A002 (the field's word)
    """Return the error for a value that is not accepted."""
    return PydanticCustomError(REFUSED, "{reason}", {"reason": reason, "help": help})


def read_size(value: Any) -> int:
    """Return octets for ``33554432``, ``"32M"`` or ``"10 MiB"``."""
    match = re.fullmatch(r"([0-9]{1,15}) ?([KMGT]?)(?:iB)?", str(value))
    if match is None:
        raise refuse(
            f"expected a size, found {found(value)}",
            "write a number of octets, or one with K, M, G or KiB, MiB, GiB (powers of 1024)",
        )
    octets = int(match[1]) * _UNITS[match[2]]
    if octets > _MAX_SIZE:
        raise refuse(f"expected at most 1 TiB, found {found(value)}")
    return octets


def duration(value: Any) -> int:
    """Return seconds for ``90``, ``"15m"`` or ``"7d"``."""
    match = re.fullmatch(r"([0-9]{1,10}) ?([smhdw]?)", str(value))
    if match is None:
        raise refuse(
            f"expected a duration, found {found(value)}",
            "write a number of seconds, or one with s, m, h, d or w (weeks): 12h",
        )
    seconds = int(match[1]) * _DURATIONS[match[2]]
    if seconds > MAX_DURATION:
        raise refuse(f"expected at most 36500d, found {found(value)}", "0 is no limit")
    return seconds


def _mode(value: Any) -> str:
    """Return permission bits as four octal digits, from ``0660`` or ``0o660``."""
    match = re.fullmatch(r"0o?([0-7]{3})", str(value))
    if match is None:
        raise refuse(
            f"expected permission bits, found {found(value)}",
            "write them in octal with a leading zero, such as 0660",
        )
    return f"0{match[1]}"


def _path(value: Any) -> Path:
    if not isinstance(value, str):
        raise refuse(f"expected a path, found {found(value)}")
    if not value.isprintable():
        raise refuse(f"expected a path, found control characters in {found(value)}")
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        reason = f"the home directory in {found(value)} is not known"
        raise refuse(reason, "begin with /") from None
    if not path.is_absolute():
        raise refuse(
            f"expected an absolute path, found {found(value)}", "begin with / or ~/ (your home)"
        )
    return path


def _socket_path(value: Any) -> Path:
    path = _path(value)
    _listen(str(path))
    return path


def _listen(value: Any) -> str:
    """Return the text of an endpoint, with ``~`` expanded."""
    if not isinstance(value, str):
        raise refuse(f"expected an address and a port, found {found(value)}", 'such as "*:25"')
    text = str(_path(value)) if value.startswith("~") else value
    try:
        parse_endpoints(text)
    except EndpointError as error:
        raise refuse(error.message, error.help) from None
    return text


def _account(value: Any) -> str | int:
    """Return a name, or an id as a number."""
    if isinstance(value, str) and re.fullmatch(r"0|[1-9][0-9]{0,9}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value <= _MAX_ID:
            return value
        raise refuse(f"expected an id from 0 to {_MAX_ID}, found {value}")
    if (
        isinstance(value, str)
        and value.isprintable()
        and re.fullmatch(r"(?![-@]|[0-9]+$)[^\s:,/]{1,256}", value)
    ):
        return value
    raise refuse(f"expected a name or an id, found {found(value)}")


def _principal(value: Any) -> str | int:
    """Return a user as `_account` does, or ``@group``."""
    if isinstance(value, str) and value.startswith("@"):
        return f"@{_account(value[1:])}"
    return _account(value)


NAMES = "letters, digits, '_', '.' and '-', at most 63, the first a letter or a digit"


def is_name(value: Any) -> bool:
    """Whether a listener, a profile or a rule may be called so: see NAMES."""
    pattern = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _name(value: Any) -> Any:
    if is_name(value):
        return value
    raise refuse(f"{found(value)} is not a name", NAMES)


def _hostname(value: Any) -> str:
    """Return a Domain or an address literal (RFC 5321 section 4.1.2), or ""."""
    if isinstance(value, str) and (not value or _is_domain(value) or _is_literal(value)):
        return value
    raise refuse(
        f"expected a host name, found {found(value)}",
        "write mx.example.com or [192.0.2.1] (RFC 5321 section 4.1.2)",
    )


def _is_domain(text: str) -> bool:
    label = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    return len(text) <= 255 and re.fullmatch(rf"{label}(?:\.{label})*", text) is not None


def _is_literal(text: str) -> bool:
    match = re.fullmatch(r"\[(IPv6:)?([0-9A-Fa-f:.]+)\]", text)
    if match is None:
        return False
    try:
        return ipaddress.ip_address(match[2]).version == (6 if match[1] else 4)
    except ValueError:
        return False


def _switch(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    answer = value if isinstance(value, bool) else words.get(str(value).lower())
    if answer is None:
        raise refuse(f"expected true or false, found {found(value)}")
    return answer


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise refuse(f"expected text, found {found(value)}")
    return value


def _log_target(value: Any) -> Path | str:
    return "stdout" if value == "stdout" else _path(value)


def _workers(value: Any) -> int | str:
    if value == "auto" or (type(value) is int and 1 <= value <= MAX_WORKERS):
        return value  # type: ignore[no-any-return]  # mypy does not narrow Any
    raise refuse(f"expected auto or a number from 1 to {MAX_WORKERS}, found {found(value)}")


def _schema(form: str, *types: str) -> WithJsonSchema:
    return WithJsonSchema({"type": types[0] if len(types) == 1 else list(types), "format": form})


Account = Annotated[str | int, BeforeValidator(_account), _schema("account", "string", "integer")]
Duration = Annotated[int, BeforeValidator(duration), _schema("duration", "integer", "string")]
Hostname = Annotated[str, BeforeValidator(_hostname), _schema("host name", "string")]
Listen = Annotated[str, BeforeValidator(_listen), _schema("endpoint", "string")]
LogTarget = Annotated[
    Path | Literal["stdout"], BeforeValidator(_log_target), _schema("path", "string")
]
Mode = Annotated[str, BeforeValidator(_mode), _schema("mode", "string")]
Name = Annotated[str, BeforeValidator(_name), _schema("name", "string")]
AbsolutePath = Annotated[Path, BeforeValidator(_path), _schema("path", "string")]
Principal = Annotated[
    str | int, BeforeValidator(_principal), _schema("account or @group", "string", "integer")
]
Seconds = Annotated[float, Field(ge=0, le=86_400, json_schema_extra={"format": "seconds"})]
Size = Annotated[int, BeforeValidator(read_size), _schema("size", "integer", "string")]
SocketPath = Annotated[Path, BeforeValidator(_socket_path), _schema("path", "string")]
Switch = Annotated[bool, BeforeValidator(_switch), WithJsonSchema({"type": "boolean"})]
Text = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string"})]
Workers = Annotated[
    int | Literal["auto"],
    BeforeValidator(_workers),
    WithJsonSchema(
        {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": MAX_WORKERS}]}
    ),
]

"""The kinds of value that only profiles have, as `values` has those of all stanzas.

Words about a password, or about what may be one, never repeat it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Secret,
    WithJsonSchema,
)

from mtad.config.document import REDACTED
from mtad.config.values import found, kind, refuse
from mtad.model.profile import (
    EXTENSIONS,
    MECHANISMS,
    RUN_RULES,
    TERMINATORS,
    ClientCertificates,
    Early,
    Newlines,
    Switch,
    Transcripts,
)

_E = TypeVar("_E", bound=StrEnum)

_MAX_COUNT = 1_000_000
_MAX_NAME = 255
_FIELD_NAME = re.compile("[!-9;-~]{1,76}")
_VERSIONS = ("1.0", "1.1", "1.2", "1.3")


class Password(Secret[str]):
    """A password or token; whatever shows it shows asterisks."""

    def _display(self) -> str:
        return REDACTED


def one_of(what: str, value: Any, known: Iterable[str]) -> str:
    """Return the known name that ``value`` is, in any case."""
    names = {name.upper(): name for name in known}
    if isinstance(value, str) and value.upper() in names:
        return names[value.upper()]
    raise refuse(f"{found(value)} is no {what}", f"there are: {', '.join(names.values())}")


def member(kinds: type[_E]) -> Callable[[Any], _E]:
    """Return what reads a member of ``kinds``."""

    def read(value: Any) -> _E:
        if isinstance(value, str) and value in set(kinds):
            return kinds(value)
        *others, last = (repr(each.value) for each in kinds)
        raise refuse(f"expected {', '.join(others)} or {last}, found {found(value)}")

    return read


def once(names: list[str]) -> list[str]:
    """Return the names, none of which may be there twice."""
    for name in names:
        if names.count(name) > 1:
            raise refuse(f"{name} is given twice", "keep one")
    return names


def _extensions(value: Any) -> Any:
    """Refuse a name that is there twice, in different cases."""
    if isinstance(value, dict):
        once([str(name).upper() for name in value])
    return value


def _switch(value: Any) -> Switch:
    words = {True: Switch.ON, False: Switch.OFF}
    if isinstance(value, bool):
        return words[value]
    if isinstance(value, str) and value.lower() in set(Switch):
        return Switch(value.lower())
    raise refuse(f"expected on, hidden or off, found {found(value)}")


def _user(value: Any) -> str:
    if isinstance(value, str) and 0 < len(value.encode()) <= _MAX_NAME and value.isprintable():
        return value
    raise refuse("not the name of a user", f"1 to {_MAX_NAME} octets of UTF-8, all visible")


def _password(value: Any) -> Any:
    if isinstance(value, str) and value and "\0" not in value:
        return value
    what = "an empty one" if value == "" else kind(value)
    raise refuse(f"expected a password, found {what}", "put it in quotes")


def _version(value: Any) -> str:
    # 1.2 is a number in YAML.
    if isinstance(value, str | float) and str(value) in _VERSIONS:
        return str(value)
    raise refuse(f"expected a version of TLS, found {found(value)}", ", ".join(_VERSIONS))


def _newlines(value: Any) -> Any:
    """Return ``strict``, ``lenient``, or ``{"emulate": NAME}`` with a name of TERMINATORS."""
    match value:
        case Newlines.STRICT.value | Newlines.LENIENT.value:
            return value
        case {"emulate": name, **rest} if not rest:
            return {"emulate": one_of("end of a message", name, TERMINATORS)}
    raise refuse(
        f"expected strict, lenient or a mapping, found {found(value)}",
        "the mapping says which end of a message to know besides the right one: "
        f"{{emulate: {next(iter(TERMINATORS))}}}",
    )


def network(value: Any) -> str:
    """Return an IP network; an address is one of one."""
    if not isinstance(value, str):
        raise refuse(f"expected an IP address or network, found {found(value)}", "127.0.0.0/8")
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        network = None
    if network is None or "%" in value:
        raise refuse(f"{found(value)} is no IP address or network", "such as 127.0.0.0/8 or ::1")
    if "/" in value and ipaddress.ip_interface(value).ip != network.network_address:
        raise refuse(f"{value} has host bits set", f"write {network}")
    return str(network)


def _handler(value: Any) -> str:
    """Return ``package.module:Class``, or ""."""
    match = re.fullmatch(r"([^:]+):([^:.]+)", value) if isinstance(value, str) else None
    if value == "" or (
        match and all(name.isidentifier() for name in [*match[1].split("."), match[2]])
    ):
        return str(value)
    raise refuse(
        f"{found(value)} names no class", "package.module:Class, of a package that is installed"
    )


def _run_rule(value: Any) -> str:
    """Return a name of RUN_RULES, or ``header NAME`` (RFC 5322 section 3.6.8: ftext)."""
    if isinstance(value, str):
        if value.lower() in RUN_RULES:
            return value.lower()
        word, _, name = value.partition(" ")
        if word.lower() == "header" and _FIELD_NAME.fullmatch(name):
            return f"header {name}"
    raise refuse(
        f"{found(value)} is no rule for the tag of a test run",
        f"there are: {', '.join(RUN_RULES)}, header NAME",
    )


ClientCertificatesWord = Annotated[
    ClientCertificates,
    BeforeValidator(member(ClientCertificates)),
    WithJsonSchema({"enum": [*map(str, ClientCertificates)]}),
]
Count = Annotated[int, Field(ge=0, le=_MAX_COUNT)]
EarlyWord = Annotated[
    Early, BeforeValidator(member(Early)), WithJsonSchema({"enum": [*map(str, Early)]})
]
Extension = Annotated[
    str, BeforeValidator(lambda value: one_of("extension that can be switched", value, EXTENSIONS))
]
ExtensionSwitch = Annotated[
    Switch, BeforeValidator(_switch), WithJsonSchema({"enum": [*map(str, Switch), True, False]})
]
Extensions = Annotated[dict[Extension, ExtensionSwitch], BeforeValidator(_extensions)]
Handler = Annotated[
    str, BeforeValidator(_handler), WithJsonSchema({"type": "string", "format": "class"})
]
Mechanism = Annotated[
    str,
    BeforeValidator(lambda value: one_of("mechanism", value, MECHANISMS)),
    WithJsonSchema({"enum": list(MECHANISMS)}),
]
Mechanisms = Annotated[list[Mechanism], AfterValidator(once)]
Network = Annotated[
    str, BeforeValidator(network), WithJsonSchema({"type": "string", "format": "network"})
]
NewlinesPolicy = Annotated[
    str | dict[str, str],
    BeforeValidator(_newlines),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": Newlines.STRICT.value},
                {"const": Newlines.LENIENT.value},
                {
                    "type": "object",
                    "properties": {"emulate": {"enum": list(TERMINATORS)}},
                    "required": ["emulate"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
RunRule = Annotated[
    str,
    BeforeValidator(_run_rule),
    WithJsonSchema(
        {"anyOf": [{"enum": list(RUN_RULES)}, {"type": "string", "format": "header NAME"}]}
    ),
]
RunRules = Annotated[list[RunRule], AfterValidator(once)]
TlsVersion = Annotated[
    str,
    BeforeValidator(_version),
    WithJsonSchema({"enum": [*_VERSIONS, *map(float, _VERSIONS)]}),
]
TranscriptsWord = Annotated[
    Transcripts,
    BeforeValidator(member(Transcripts)),
    WithJsonSchema({"enum": [*map(str, Transcripts)]}),
]
Users = dict[
    Annotated[str, BeforeValidator(_user)], Annotated[Password, BeforeValidator(_password)]
]


def passwords(users: Users) -> dict[str, str]:
    """Return the passwords by name, as they are."""
    return {name: password.get_secret_value() for name, password in users.items()}

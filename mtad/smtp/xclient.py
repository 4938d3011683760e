"""XCLIENT (Postfix, XCLIENT_README): a trusted client says whom it speaks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from mtad.smtp.grammar import helo_domain, xtext
from mtad.smtp.reply import Refusal

_TEXT_LIMIT = 255
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_PORT = re.compile("0|[1-9][0-9]{0,4}")


class Unknown(Enum):
    """What stands for a value that the client has not got, for good or for now."""

    UNAVAILABLE = "[UNAVAILABLE]"
    TEMPUNAVAIL = "[TEMPUNAVAIL]"


@dataclass(frozen=True, slots=True)
class Client:
    """What an XCLIENT command says; None for what it leaves as it is.

    ``name`` is a host name; ``addr`` and ``destaddr`` are IP addresses in their shortest form;
    ``proto`` is ``SMTP`` or ``ESMTP``; ``login`` is a user name, Unknown for nobody.
    """

    name: str | Unknown | None = None
    addr: str | Unknown | None = None
    port: int | Unknown | None = None
    proto: str | None = None
    helo: str | Unknown | None = None
    login: str | Unknown | None = None
    destaddr: str | Unknown | None = None
    destport: int | Unknown | None = None


def parse(argument: str) -> Client:
    """Parse what follows ``XCLIENT``: attributes in any order and case, each once.

    Raises:
        Refusal: 501 5.5.4.
    """
    values: dict[str, Any] = {}
    for item in filter(None, argument.split(" ")):
        attribute, equals, encoded = item.partition("=")
        name = attribute.upper()
        if not equals or name not in _VALUES or name.lower() in values:
            raise Refusal(501, "5.5.4", f"XCLIENT takes {', '.join(ATTRIBUTES)}, each once")
        try:
            values[name.lower()] = _value(name, xtext(encoded))
        except ValueError:
            raise Refusal(501, "5.5.4", f"The value of {name} is not valid") from None
    if not values:
        raise Refusal(501, "5.5.4", f"XCLIENT needs one of {', '.join(ATTRIBUTES)}")
    return Client(**values)


def _value(name: str, text: str) -> str | int | Unknown:
    parse_value, unknowns = _VALUES[name]
    return unknowns.get(text.upper()) or parse_value(text)


def _host_name(text: str) -> str:
    if text.startswith("["):
        raise ValueError("an address literal")
    return helo_domain(text)


def _address(text: str) -> str:
    if text[:5].upper() != "IPV6:":
        return str(IPv4Address(text))
    address = IPv6Address(text[5:])
    if address.scope_id is not None:
        raise ValueError("a scope, which means something on one host only")
    return str(address)


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 0xFFFF:
        raise ValueError("no port")
    return int(text)


def _protocol(text: str) -> str:
    if text.upper() not in ("SMTP", "ESMTP"):
        raise ValueError("neither SMTP nor ESMTP")
    return text.upper()


def _text(text: str) -> str:
    if not text or len(text.encode()) > _TEXT_LIMIT or _CONTROL.search(text):
        raise ValueError("empty, too long, or with a control character")
    return text


_UNAVAILABLE = {Unknown.UNAVAILABLE.value: Unknown.UNAVAILABLE}
_EITHER = {unknown.value: unknown for unknown in Unknown}

_VALUES: dict[str, tuple[Callable[[str], str | int], dict[str, Unknown]]] = {
    "NAME": (_host_name, _EITHER),
    "ADDR": (_address, _UNAVAILABLE),
    "PORT": (_port, _UNAVAILABLE),
    "PROTO": (_protocol, {}),
    "HELO": (_text, _UNAVAILABLE),
    "LOGIN": (_text, _UNAVAILABLE),
    "DESTADDR": (_address, _UNAVAILABLE),
    "DESTPORT": (_port, _UNAVAILABLE),
}

ATTRIBUTES = tuple(_VALUES)
"""The names of the attributes, as EHLO announces them."""

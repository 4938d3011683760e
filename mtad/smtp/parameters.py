"""The parameters of MAIL and RCPT (RFC 5321 section 4.1.2, esmtp-param), by a table of keywords.

A parameter, or a value of BODY, whose extension is not offered is unknown: 555 (RFC 5321 section
4.1.1.11). What is known and wrong is 501. Text may be non-ASCII where RFC 6531 and RFC 6533 let it;
whether the client may use that is for the caller to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from mtad.smtp.grammar import ATEXT, NEVER, mailbox_fault, xtext
from mtad.smtp.reply import Refusal

ENVID_LIMIT = 100
"""Characters of ENVID's value (RFC 3461 section 4.4)."""

ORCPT_LIMIT = 500
"""Characters of ORCPT's value (RFC 3461 section 4.2)."""


@dataclass(frozen=True, slots=True)
class MailParameters:
    """What MAIL declares about a message.

    ``size``: octets (RFC 1870). ``body``: 7BIT, 8BITMIME or BINARYMIME. ``ret``: FULL, HDRS or "";
    ``envid``: decoded (RFC 3461). ``auth``: the submitter's mailbox, "" for <> (RFC 4954 section
    5). None and "": not declared. ``given``: the parameters as they were sent, in order.
    """

    size: int | None = None
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    auth: str | None = None
    requiretls: bool = False
    given: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RcptParameters:
    """What RCPT asks for (RFC 3461).

    ``notify``: NEVER alone, or some of SUCCESS, FAILURE and DELAY, in the order sent; empty if not
    asked for. ``orcpt``: ``type;address``, decoded, or "". ``given``: the parameters as they were
    sent, in order.
    """

    notify: tuple[str, ...] = ()
    orcpt: str = ""
    given: tuple[str, ...] = ()


NO_MAIL_PARAMETERS = MailParameters()
NO_RCPT_PARAMETERS = RcptParameters()


def mail_parameters(text: str, offered: frozenset[str]) -> MailParameters:
    """Parse the parameters of MAIL; ``offered`` names the extensions that the session serves.

    Raises:
        Refusal: 555 5.5.4 for what is not offered, 501 5.5.4 for what is malformed.
    """
    if not text:
        return NO_MAIL_PARAMETERS
    values, given = _parse(text, offered, _MAIL)
    body = values.get("body", "7BIT")
    if body != "7BIT" and body not in offered:  # these values have the names of their extensions
        raise Refusal(555, "5.5.4", f"BODY={body} is not served here")
    return MailParameters(**values, given=given)


def rcpt_parameters(text: str, offered: frozenset[str]) -> RcptParameters:
    """Parse the parameters of RCPT, as mail_parameters does those of MAIL."""
    if not text:
        return NO_RCPT_PARAMETERS
    values, given = _parse(text, offered, _RCPT)
    return RcptParameters(**values, given=given)


def _size(value: str) -> int:
    if not _SIZE.fullmatch(value):
        raise ValueError(value)
    return int(value)


def _flag(value: str) -> bool:
    if value:
        raise ValueError(value)
    return True


def _one_of(names: Collection[str], value: str) -> str:
    name = value.upper()
    if name not in names:
        raise ValueError(value)
    return name


def _printable(encoded: str) -> str:
    decoded = xtext(encoded)
    if not (decoded.isascii() and decoded.isprintable()):
        raise ValueError(decoded)
    return decoded


def _envid(value: str) -> str:
    if not 0 < len(value) <= ENVID_LIMIT:
        raise ValueError(value)
    return _printable(value)


def _auth(value: str) -> str:
    mailbox = xtext(value, utf8=True)
    if mailbox == "<>":
        return ""
    if mailbox_fault(mailbox):
        raise ValueError(mailbox)
    return mailbox


def _notify(value: str) -> tuple[str, ...]:
    names = tuple(value.upper().split(","))
    if names != ("NEVER",) and not (_EVENTS.issuperset(names) and len(set(names)) == len(names)):
        raise ValueError(value)
    return names


def _orcpt(value: str) -> str:
    kind, _, encoded = value.partition(";")
    if len(value) > ORCPT_LIMIT or not _ADDRESS_TYPE.fullmatch(kind) or not encoded:
        raise ValueError(value)
    decode = _utf8_address if kind.lower() == "utf-8" else _printable
    return f"{kind};{decode(encoded)}"


def _utf8_address(encoded: str) -> str:
    """Decode utf-8-enc-addr, in each of its three forms (RFC 6533 section 3)."""
    address = _EMBEDDED.sub(lambda embedded: chr(int(embedded[1], 16)), encoded)
    if mailbox_fault(address):
        raise ValueError(address)
    return address


class _Parameter(NamedTuple):
    """A row of the tables: one of ``extensions`` brings the parameter, which fills ``field``.

    ``parse`` gets the value, "" if there is none, and raises ValueError for what is not what the
    parameter ``takes``.
    """

    field: str
    extensions: frozenset[str]
    parse: Callable[[str], Any]
    takes: str


_SIZE = re.compile("[0-9]{1,20}")
_EVENTS = frozenset({"SUCCESS", "FAILURE", "DELAY"})
_ADDRESS_TYPE = re.compile(f"[{ATEXT}]+")
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")

_DSN = frozenset({"DSN"})
_MAIL = {
    "SIZE": _Parameter("size", frozenset({"SIZE"}), _size, "a number of octets, 1 to 20 digits"),
    "BODY": _Parameter(
        "body",
        frozenset({"8BITMIME", "BINARYMIME"}),
        partial(_one_of, ("7BIT", "8BITMIME", "BINARYMIME")),
        "7BIT, 8BITMIME or BINARYMIME",
    ),
    "SMTPUTF8": _Parameter("smtputf8", frozenset({"SMTPUTF8"}), _flag, "no value"),
    "RET": _Parameter("ret", _DSN, partial(_one_of, ("FULL", "HDRS")), "FULL or HDRS"),
    "ENVID": _Parameter("envid", _DSN, _envid, f"xtext, at most {ENVID_LIMIT} characters"),
    "AUTH": _Parameter("auth", frozenset({"AUTH"}), _auth, "<> or a mailbox, as xtext"),
    "REQUIRETLS": _Parameter("requiretls", frozenset({"REQUIRETLS"}), _flag, "no value"),
}
_RCPT = {
    "NOTIFY": _Parameter(
        "notify", _DSN, _notify, "NEVER, or some of SUCCESS, FAILURE and DELAY, each once"
    ),
    "ORCPT": _Parameter(
        "orcpt", _DSN, _orcpt, f"type;address, as xtext, at most {ORCPT_LIMIT} characters"
    ),
}
_MAY_BE_NON_ASCII = frozenset({"AUTH", "ORCPT"})
_PARAMETER = re.compile(rf"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\0- ={NEVER}]+))?")


def _parse(
    text: str, offered: frozenset[str], table: Mapping[str, _Parameter]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the values by field, and the parameters as sent."""
    values: dict[str, Any] = {}
    given = tuple(word for word in text.split(" ") if word)
    for word in given:
        parts = _PARAMETER.fullmatch(word)
        if parts is None:
            raise Refusal(501, "5.5.4", "Malformed parameter: KEYWORD or KEYWORD=VALUE is needed")
        keyword, value = parts[1].upper(), parts[2] or ""
        parameter = table.get(keyword)
        if parameter is None or offered.isdisjoint(parameter.extensions):
            raise Refusal(555, "5.5.4", f"Parameter {keyword[:40]} is not served here")
        if parameter.field in values:
            raise Refusal(501, "5.5.4", f"{keyword} is given twice")
        try:
            if not (value.isascii() or keyword in _MAY_BE_NON_ASCII):
                raise ValueError(value)
            values[parameter.field] = parameter.parse(value)
        except ValueError:
            raise Refusal(501, "5.5.4", f"{keyword} takes {parameter.takes}") from None
    return values, given

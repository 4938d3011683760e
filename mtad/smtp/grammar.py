"""The grammar of SMTP's arguments: paths, mailboxes, domains and xtext.

RFC 5321 sections 4.1.2 and 4.1.3, with the characters of RFC 6531 section 3.3: whether a client
may use those is for the caller to say. Text is str, decoded from UTF-8; a surrogate, which stands
for an octet that was no UTF-8, is refused everywhere, as control characters are.

On purpose otherwise than the RFCs: a domain may have underscores, as names of real hosts do, and
in EHLO a final dot; a U-label is checked for its characters (RFC 5892 section 2.1), not for context
and normal form.

Time is linear in the text: every pattern is anchored, and what ends a repetition cannot be part of
it. Possessive quantifiers would say so, but with those Python 3.11.2 takes ``a@b.`` for a mailbox.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata

from mtad.smtp.reply import Refusal

LOCAL_PART_LIMIT = 64
"""Octets of a local part, with its quotes (RFC 5321 section 4.5.3.1.1)."""

DOMAIN_LIMIT = 255
"""Octets of a domain or an address literal (RFC 5321 section 4.5.3.1.2)."""

ATEXT = "A-Za-z0-9!#$%&'*+/=?^_`{|}~\\-"
"""The characters of an atom (RFC 5322 section 3.2.3), as the inside of a character class."""

NEVER = "\x7f-\x9f\u2028\u2029\ud800-\udfff"
"""DEL, C1 controls, the separators of lines and paragraphs, and surrogates, as the inside of a
character class. A class is told by what is not in it where that leaves UTF8-non-ascii (RFC 6531
section 3.3): to compile one, Python goes through all the characters that are named."""


def _joined(characters: str, separators: str) -> str:
    return f"[{characters}]+(?:{separators}[{characters}]+)*"


# Of ASCII: letters, digits and underscores; all but controls, space and specials (RFC 5322 section
# 3.2.3), which leaves ATEXT; all but controls, quote and backslash.
_LABEL = _joined(rf"^\0-/:-@\[-\^`{{-~{NEVER}", "-+")
_DOT_STRING = _joined(rf'^\0- "(),.:;<>@\[-\]{NEVER}', "[.]")
_QUOTED_STRING = rf'"(?:[^\0-\x1f"\\{NEVER}]|\\[ -~])*"'

# DNS has labels of at most 63 octets; a U-label has no more characters than its A-label octets.
_DOMAIN = re.compile(rf"(?![^.]{{64}}){_LABEL}(?:[.](?![^.]{{64}}){_LABEL})*")
_MAILBOX = re.compile(f"({_DOT_STRING}|{_QUOTED_STRING})@(.*)", re.DOTALL)
_PATH = re.compile(r' *<([^">]*(?:"(?:[^"\\]|\\.)*"[^">]*)*)>', re.DOTALL)

# What nearly every path is. In 64 characters, no part of it can be too long.
_PLAIN_LABEL = _joined("A-Za-z0-9_", "-+")
_PLAIN_DOMAIN = f"{_PLAIN_LABEL}(?:[.]{_PLAIN_LABEL})*"
_PLAIN_PATH = re.compile(
    f" *<((?=[^>]{{1,64}}>){_joined(ATEXT, '[.]')}@{_PLAIN_DOMAIN})>(?![^ ])(.*)", re.DOTALL
)

_SNUM = "(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]{1,2})"
_IPV4_LITERAL = re.compile(rf"\[{_SNUM}(?:[.]{_SNUM}){{3}}\]")
_TAGGED_LITERAL = re.compile(r"\[([A-Za-z0-9-]*[A-Za-z0-9]):([!-Z^-~]+)\]")

# Of RFC 5892: LetterDigits, JoinControl, and the CONTEXTO that are neither.
_LETTER_DIGITS = frozenset({"Ll", "Lu", "Lo", "Nd", "Lm", "Mn", "Mc"})
_CONTEXT = frozenset("-._\u200c\u200d\u00b7\u0375\u05f3\u05f4\u30fb")

_XTEXT = re.compile(rf"(?:[^\0- +={NEVER}]|\+[0-9A-F]{{2}})*")
_HEXCHAR = re.compile(rb"\+(..)")


def reverse_path(text: str) -> tuple[str, str]:
    """Parse what follows ``MAIL FROM:``: the mailbox ("" for ``<>``), the parameters' text.

    A source route is checked and left out (RFC 5321 section 4.1.1.3).

    Raises:
        Refusal: 501 5.5.4 for what is no path, 553 5.1.7 for what is no mailbox in one.
    """
    if plain := _PLAIN_PATH.fullmatch(text):
        return plain[1], plain[2].strip(" ")
    inside, rest = _bracketed(text, "MAIL FROM:<user@example.net>")
    return inside and _mailbox(inside, "5.1.7"), rest


def forward_path(text: str) -> tuple[str, str]:
    """Parse what follows ``RCPT TO:``: the mailbox, the parameters' text.

    As reverse_path, but ``<>`` is refused, and ``<Postmaster>``, in any case, is a mailbox.

    Raises:
        Refusal: 501 5.5.4 for what is no path, 553 5.1.3 for what is no mailbox in one.
    """
    if plain := _PLAIN_PATH.fullmatch(text):
        return plain[1], plain[2].strip(" ")
    inside, rest = _bracketed(text, "RCPT TO:<user@example.net>")
    return inside if inside.lower() == "postmaster" else _mailbox(inside, "5.1.3"), rest


def helo_domain(text: str) -> str:
    """Return the name in the argument of EHLO, HELO or LHLO: a domain or an address literal.

    Raises:
        Refusal: 501 5.5.4.
    """
    name = text.strip(" ")
    if not name:
        raise Refusal(501, "5.5.4", "Say who you are: a domain or an address literal")
    if fault := _domain_fault(name if name.startswith("[") else name.removesuffix(".")):
        raise Refusal(501, "5.5.4", fault)
    return name


def xtext(text: str, *, utf8: bool = False) -> str:
    """Decode xtext (RFC 3461 section 4); its octets are UTF-8. ``utf8`` allows non-ASCII as it is.

    Raises:
        ValueError: ``text`` is not xtext, or its octets are not UTF-8.
    """
    if not (utf8 or text.isascii()) or not _XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    return _HEXCHAR.sub(lambda hexchar: bytes((int(hexchar[1], 16),)), text.encode()).decode()


def mailbox_fault(text: str) -> str:
    """Return what is wrong with a mailbox, as a sentence for a reply, or "" if nothing is."""
    parts = _MAILBOX.fullmatch(text)
    if parts is None and "@" not in text:
        return "No mailbox: a local part, an @ and a domain are needed"
    if parts is None:
        return "No local part: atoms with dots between, or one quoted string, are needed"
    if len(parts[1].encode()) > LOCAL_PART_LIMIT:
        return f"The local part is longer than {LOCAL_PART_LIMIT} octets"
    return _domain_fault(parts[2])


def _domain_fault(text: str) -> str:
    if len(text.encode("utf-8", "surrogatepass")) > DOMAIN_LIMIT:
        return f"The domain is longer than {DOMAIN_LIMIT} octets"
    if text.startswith("["):
        return "" if _is_literal(text) else "No address literal: write [192.0.2.1] or [IPv6:::1]"
    if not _is_domain(text):
        return "No domain: letters, digits and inner hyphens, with dots between, are needed"
    return ""


def _is_domain(text: str) -> bool:
    if not _DOMAIN.fullmatch(text):
        return False
    return text.isascii() or all(
        character in _CONTEXT or unicodedata.category(character) in _LETTER_DIGITS
        for character in text
    )


def _is_literal(text: str) -> bool:
    if _IPV4_LITERAL.fullmatch(text):
        return True
    tagged = _TAGGED_LITERAL.fullmatch(text)
    if tagged is None or tagged[1].lower() != "ipv6":
        return tagged is not None
    try:
        return ipaddress.IPv6Address(tagged[2]).scope_id is None
    except ValueError:
        return False


def _bracketed(text: str, example: str) -> tuple[str, str]:
    """Return what the angle brackets hold and what follows them."""
    path = _PATH.match(text)
    if path is None:
        raise Refusal(501, "5.5.4", f"Angle brackets are needed, and quotes in pairs: {example}")
    rest = text[path.end() :]
    if rest and rest[0] != " ":
        raise Refusal(501, "5.5.4", "Nothing but a space may follow the closing angle bracket")
    return path[1], rest.strip(" ")


def _mailbox(inside: str, status: str) -> str:
    """Return the mailbox of a path, its source route checked and left out."""
    mailbox = inside
    if inside.startswith("@"):
        route, _, mailbox = inside.partition(":")
        if not all(hop[:1] == "@" and _is_domain(hop[1:]) for hop in route.split(",")):
            raise Refusal(553, status, "The source route is malformed, and better left out")
    if fault := mailbox_fault(mailbox):
        raise Refusal(553, status, fault)
    return mailbox

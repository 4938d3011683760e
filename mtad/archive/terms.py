"""What a message is found by besides words: terms, each of a kind, in lower case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any

HAS = ("attachment", "auth", "lint", "run", "tls")
"""What ``has:`` asks for."""

LINT = (
    "bare-cr",
    "bare-lf",
    "nul",
    "long-line",
    "8bit",
    "no-final-crlf",
    "early-talk",
    "pipelining",
)
"""What ``lint:`` asks for: the notes that a message may have."""

UNIX = "unix"
"""The peer that has come to a unix socket."""

People = Mapping[str, Sequence[tuple[str, str]]]
"""Names and addresses: ``from``, ``to`` and ``cc`` of a message."""


class Term(IntEnum):
    """Kinds of terms, as they stand in the index.

    Of addresses there is the whole, and what is behind the @, with it; their parts are what is
    before and behind the @, and the words of the name that goes with them.
    """

    LISTENER = 1
    PEER = 2
    HELO = 3
    AUTH = 4
    TLS = 5
    LINT = 6
    RUN = 7
    SESSION = 8
    HAS = 9
    FROM, FROM_PART = 10, 11
    TO, TO_PART = 12, 13
    CC, CC_PART = 14, 15
    SENDER, SENDER_PART = 16, 17
    RCPT, RCPT_PART = 18, 19
    OUTGOING = 20

    @property
    def part(self) -> Term:
        """The kind of the parts of addresses of this kind."""
        return Term(self + 1)


def terms_of(number: int, summary: Mapping[str, Any], people: People) -> set[tuple[int, str, int]]:
    """Return the terms of a message: kind, value, id. What is the same has the same terms."""
    version, _, cipher = (summary["tls"] or "").partition(" ")
    present = (summary["attachments"], summary["user"], summary["lint"], summary["run"], version)
    values: list[tuple[int, str]] = [
        (Term.LISTENER, summary["listener"]),
        (Term.PEER, host(summary["peer"])),
        (Term.HELO, summary["helo"]),
        (Term.AUTH, summary["user"] or ""),
        (Term.RUN, summary["run"] or ""),
        (Term.SESSION, summary["session"]),
        (Term.TLS, version),
        (Term.TLS, version.removeprefix("TLSv")),
        (Term.TLS, cipher),
        *((Term.LINT, note) for note in summary["lint"]),
        *((Term.OUTGOING, state) for state in summary["outgoing"]),
        *((Term.HAS, what) for what, there in zip(HAS, present, strict=True) if there),
    ]
    pairs = [_pair(kind, value) for kind, value in values if value]
    pairs += _of_address(Term.SENDER, summary["sender"])
    for recipient in summary["recipients"]:
        pairs += _of_address(Term.RCPT, recipient)
    for kind, mailboxes in _PEOPLE.items():
        for name, address in people[mailboxes]:
            pairs += _of_address(kind, address)
            pairs += [_pair(kind + 1, word) for word in words_of_name(name)]
    return {(kind, value, number) for kind, value in pairs}


_PEOPLE = {Term.FROM: "from", Term.TO: "to", Term.CC: "cc"}
# Addresses that are remembered: the same ones come again and again.
_SHORT, _FEW = 256, 1024


def _pair(kind: int, value: str) -> tuple[int, str]:
    return int(kind), text(value).lower()


def _of_address(kind: Term, address: str) -> Sequence[tuple[int, str]]:
    return (_known_pairs if len(address) <= _SHORT else _pairs)(kind, address)


def _pairs(kind: Term, address: str) -> Sequence[tuple[int, str]]:
    local, at, domain = address.rpartition("@")
    pairs = [_pair(kind, address)]
    if at:
        pairs += (_pair(kind, f"@{domain}"), _pair(kind + 1, domain), _pair(kind + 1, local))
    elif address:
        pairs.append(_pair(kind + 1, address))
    return pairs


_known_pairs = lru_cache(maxsize=_FEW)(_pairs)


def words_of_name(name: str) -> Iterable[str]:
    """Return the words of a name that goes with an address."""
    return filter(None, (word.strip(_PUNCTUATION) for word in name.split()))


_PUNCTUATION = "\"'()[]<>,.;:!?"


def host(peer: str) -> str:
    """Return the address of ``192.0.2.1:40000`` or ``[2001:db8::1]:40000``; others as they are."""
    return peer if peer.startswith("/") or peer == UNIX else peer.rpartition(":")[0].strip("[]")


def text(value: str) -> str:
    """Return ``value`` as SQLite takes it: octets that are no UTF-8 (PEP 383) become "?"."""
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode()
    return value.replace("\0", " ")

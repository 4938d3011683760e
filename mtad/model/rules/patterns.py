"""Patterns of text and of peers: what one says, compiled once."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

Matches = Callable[[str], bool]

UNIX = "unix"
"""The peer of a session that came through a unix socket."""

_WILD = frozenset("*?[")
_MAPPED = IPv6Network("::ffff:0:0/96")


def is_expression(pattern: str) -> bool:
    """Whether a pattern is a ``/regular expression/``, and not a glob."""
    return len(pattern) > 1 and pattern.startswith("/") and pattern.endswith("/")


def is_literal(pattern: str) -> bool:
    """Whether a pattern matches itself alone, but for case."""
    return _WILD.isdisjoint(pattern) and not is_expression(pattern)


def literal_ends(pattern: str) -> tuple[str, str]:
    """Return what each text that matches begins with, and ends with, in lower case; "": nothing."""
    if is_expression(pattern):
        return "", ""
    wanted = pattern.lower()
    head = next((at for at, mark in enumerate(wanted) if mark in _WILD), len(wanted))
    tail = max(wanted.rfind(mark) for mark in "*?]") + 1
    return wanted[:head], wanted[tail:]


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Matches:
    """Return what tells whether a text matches; ``ValueError`` says what is wrong, and where.

    A glob (``*``, ``?``, ``[a-z]``, ``[!a-z]``; ``[[]`` is a bracket) has to match all of the text,
    a ``/regular expression/`` (Python's) some of it. Neither looks at case. A regular expression
    that takes exponential time on some text, like ``/(a+)+$/``, takes that time of a worker.
    """
    if is_expression(pattern):
        return _expression(pattern)
    wanted = pattern.lower()
    if is_literal(pattern):
        return lambda text: text.lower() == wanted
    match = re.compile(translate(wanted)).match
    return lambda text: match(text.lower()) is not None


def _expression(pattern: str) -> Matches:
    try:
        search = re.compile(pattern[1:-1], re.IGNORECASE).search
    except re.error as error:
        where = f" at character {error.pos + 2} of {pattern}" if error.pos is not None else ""
        raise ValueError(f"{error.msg}{where}") from None
    except (OverflowError, RecursionError) as error:
        raise ValueError(f"{error}: {pattern}") from None
    return lambda text: search(text) is not None


class Network(NamedTuple):
    """The addresses of an IP ``version`` of which all but the last ``rest`` bits are ``prefix``."""

    version: int
    rest: int
    prefix: int


def network(text: str) -> Network:
    """Return the network that a text names: an address, or ``address/bits``; ``ValueError``.

    That of an IPv4 address in an IPv6 one (``::ffff:10.0.0.0/104``) is IPv4.
    """
    found = ip_network(text, strict=False)
    rest = found.max_prefixlen - found.prefixlen
    prefix = int(found.network_address) >> rest
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        return Network(4, rest, prefix & (0xFFFFFFFF >> rest))
    return Network(found.version, rest, prefix)


class Address(NamedTuple):
    """An address as a number; that of a peer which is none has the version 0."""

    version: int
    number: int
    text: str


@lru_cache(maxsize=4096)
def address(peer: str) -> Address:
    """Return the address of a peer: of an IPv4 one in IPv6, that."""
    try:
        found: IPv4Address | IPv6Address = ip_address(peer)
    except ValueError:
        return Address(0, 0, peer)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return Address(found.version, int(found), str(found))

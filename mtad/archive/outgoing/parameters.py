"""What a hop is told of an envelope: the parameters as they came, where it offers to take them."""

from __future__ import annotations

from collections.abc import Sequence

# Which extension brings a parameter. AUTH= is for those who log in, and says nothing here.
_EXTENSIONS = {
    "BODY=7BIT": "8bitmime",
    "BODY=8BITMIME": "8bitmime",
    "BODY=BINARYMIME": "binarymime",
    "SMTPUTF8": "smtputf8",
    "RET": "dsn",
    "ENVID": "dsn",
    "NOTIFY": "dsn",
    "ORCPT": "dsn",
    "REQUIRETLS": "requiretls",
}


class UnfitError(Exception):
    """What the hop does not offer, and cannot be done without."""


def command(verb: str, path: str, given: Sequence[str]) -> list[bytes]:
    """Return the words of MAIL or RCPT, as octets; those that are no UTF-8 are as they came."""
    return [word.encode("utf-8", "surrogateescape") for word in (verb, path, *given)]


def of_sender(given: Sequence[str], size: int, offers: frozenset[str]) -> list[str]:
    """Return the parameters of MAIL, for content of ``size`` octets.

    Raises:
        UnfitError: REQUIRETLS, which a hop has to offer (RFC 8689 section 4.2.1).
    """
    if "requiretls" not in offers and any(word.upper() == "REQUIRETLS" for word in given):
        raise UnfitError("it was sent with REQUIRETLS, which the hop does not offer (5.7.30)")
    sizes = [f"SIZE={size}"] if "size" in offers else []
    return sizes + taken(given, offers)


def taken(given: Sequence[str], offers: frozenset[str]) -> list[str]:
    """Return those of the parameters that the hop offers to take; ``offers`` is in lower case."""
    return [word for word in given if _extension(word) in offers]


def check_address(address: str, offers: frozenset[str]) -> None:
    """Raise UnfitError for an address that the hop cannot be told (RFC 6531 section 3.2)."""
    if not address.isascii() and "smtputf8" not in offers:
        raise UnfitError(f"the hop does not offer SMTPUTF8, which {address} needs (5.6.7)")


def _extension(word: str) -> str:
    keyword = word.upper()
    return _EXTENSIONS.get(keyword) or _EXTENSIONS.get(keyword.partition("=")[0], "-")

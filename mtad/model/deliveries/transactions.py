"""The mail transactions of a dialogue (RFC 5321 section 3.3): what was said of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mtad.model.deliveries.dialogue import CONTENT, UNASKED, Exchange, Reply

_PATH = re.compile(r'[^:]*: *<(?:@[^:>]*:)?((?:"(?:[^"\\]|\\.)*"|[^">])*)>(.*)', re.DOTALL)
_SIZE = re.compile(r" SIZE=([0-9]+)", re.IGNORECASE)
_BEGINS_ANEW = ("RSET", "HELO", "EHLO", "LHLO", "QUIT")


@dataclass(slots=True)
class Transaction:
    """A transaction, from MAIL on; what the client did not come to is None.

    ``content`` is its end, or its last chunk; ``unasked`` a reply that answers no command;
    ``is_given_up``: the client has gone on to something else.
    """

    mail: Exchange
    recipients: dict[str, Exchange] = field(default_factory=dict)
    data: Exchange | None = None
    content: Exchange | None = None
    unasked: Reply | None = None
    is_given_up: bool = False

    @property
    def sender(self) -> str:
        """The reverse-path; "" is the null sender."""
        return _path(self.mail)[0]

    @property
    def size(self) -> str:
        """What SIZE= says, "" for nothing."""
        found = _SIZE.search(_path(self.mail)[1])
        return found[1] if found else ""

    @property
    def is_over(self) -> bool:
        """Whether the content is complete, or a part of it was refused."""
        return self.content is not None and (
            self.content.ends_message() or _is_negative(self.content)
        )

    def take(self, exchange: Exchange) -> None:
        """Add a command that belongs to it."""
        if exchange.verb == "RCPT":
            self._add_recipient(exchange)
        elif exchange.verb == "DATA":
            self.data = exchange
        elif exchange.line == CONTENT or exchange.verb == "BDAT":
            self.content = exchange
        elif exchange.line == UNASKED:
            self.unasked = exchange.reply

    def _add_recipient(self, exchange: Exchange) -> None:
        """Add a recipient; who is told twice counts once, as accepted if either was."""
        address = _path(exchange)[0]
        first = self.recipients.get(address)
        if first is None or _is_negative(first):
            self.recipients[address] = exchange


def transactions_of(said: Iterable[Exchange]) -> Iterator[Transaction]:
    """Yield the transactions, in their order."""
    current: Transaction | None = None
    for exchange in said:
        verb = exchange.verb
        if current is not None and (verb in _BEGINS_ANEW or verb == "MAIL"):
            current.is_given_up = True
            yield current
            current = None
        if verb == "MAIL":
            current = Transaction(exchange)
        elif current is not None:
            current.take(exchange)
            if current.is_over:
                yield current
                current = None
    if current is not None:
        yield current


def _is_negative(exchange: Exchange) -> bool:
    return exchange.reply is not None and not exchange.reply.is_positive()


def _path(exchange: Exchange) -> tuple[str, str]:
    """Return the address and the parameters of MAIL or RCPT; what is no path, as it is."""
    found = _PATH.fullmatch(exchange.line)
    return (found[1], found[2]) if found else (exchange.line.partition(":")[2].strip(), "")

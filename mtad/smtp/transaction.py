"""Mail transactions: their envelope, which MAIL and RCPT make (RFC 5321 section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

from mtad.smtp.dialogue import Dialogue
from mtad.smtp.envelope import TOO_BIG, Transaction
from mtad.smtp.grammar import forward_path, reverse_path
from mtad.smtp.lines import Run
from mtad.smtp.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    MailParameters,
    RcptParameters,
    mail_parameters,
    rcpt_parameters,
)
from mtad.smtp.reply import Refusal, Reply, encode

_SENDER_OK = encode(Reply(250, "2.1.0", "Sender ok"))
_RECIPIENT_OK = encode(Reply(250, "2.1.5", "Recipient ok"))
_NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")
# What handlers compare is in upper case, as the base class has it; these values keep theirs.
_AS_SENT = ("ENVID=", "AUTH=", "ORCPT=")


class PathArgument(NamedTuple):
    """The argument of MAIL or RCPT: the mailbox, and the text of the parameters."""

    mailbox: str
    parameters: str
    is_ascii: bool


def mail_argument(text: str) -> PathArgument:
    """Parse what follows ``MAIL``. Raises Refusal."""
    if text[:5].upper() != "FROM:":
        raise Refusal(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
    return PathArgument(*reverse_path(text[5:]), text.isascii())


def rcpt_argument(text: str) -> PathArgument:
    """Parse what follows ``RCPT``. Raises Refusal."""
    if text[:3].upper() != "TO:":
        raise Refusal(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
    return PathArgument(*forward_path(text[3:]), text.isascii())


class Transactions(Dialogue):
    """The commands that carry an envelope."""

    envelope: Transaction | None
    _transactions = 0

    def begin_transaction(self) -> Transaction:
        """Return a new envelope, which is the session's from now on."""
        self.envelope = envelope = Transaction()
        return envelope

    def _check_admitted(self) -> None:
        """Refuse mail of a client that has not said hello, or not who it is."""
        if self.session.host_name is None:
            raise Refusal(503, "5.5.1", f"Send {'LHLO' if self.service.is_lmtp else 'EHLO'} first")
        self.check_authenticated()

    def mail(self, argument: PathArgument) -> Run:
        """Begin a transaction (RFC 5321 section 4.1.1.2)."""
        self._check_admitted()
        sender, rest, is_ascii = argument
        envelope = self.envelope or self.begin_transaction()
        if envelope.mail_from is not None:
            raise Refusal(503, "5.5.1", "Nested MAIL command")
        limit = self.service.limits.transactions
        if limit and self._transactions >= limit:
            raise Refusal(452, "4.7.0", "Too many transactions in one session")
        options: list[str] = []
        parameters = NO_MAIL_PARAMETERS
        if rest:
            parameters = self._mail_parameters(rest)
            options = _options(parameters.given)
        if not (is_ascii or parameters.smtputf8):
            raise Refusal(*_NEEDS_SMTPUTF8)
        if rest:
            envelope.parameters, envelope.smtp_utf8 = parameters, parameters.smtputf8
        return self.do_mail(envelope, sender, options)

    def do_mail(self, envelope: Transaction, sender: str, options: list[str]) -> Run:
        """Take a sender that may be taken."""
        if "MAIL" in self.service.hooks:
            return self._mail_by_hook(sender, options)
        envelope.mail_from = sender
        envelope.mail_options = options
        self.reply(_SENDER_OK)
        return None

    async def _mail_by_hook(self, sender: str, options: list[str]) -> None:
        """Let the handler take the sender, or not; MISSING: as if there were no hook."""
        reply = await self.hook("MAIL", b"", sender, options)
        if not reply:
            self._transaction.mail_from = sender
            self._transaction.mail_options = options
        self.reply(reply or _SENDER_OK)

    def _mail_parameters(self, text: str) -> MailParameters:
        parameters = mail_parameters(text, self._offered())
        limit = self.service.limits.message_size
        if limit and (parameters.size or 0) > limit:
            raise Refusal(*TOO_BIG)
        return parameters

    def _offered(self) -> frozenset[str]:
        if not self.session.extended_smtp:
            return frozenset()  # parameters are for clients that have said EHLO
        service = self.service
        return service.parameters if self.is_secure else service.parameters - {"REQUIRETLS"}

    def rcpt(self, argument: PathArgument) -> Run:
        """Add a recipient (RFC 5321 section 4.1.1.3)."""
        self._check_admitted()
        envelope = self.envelope
        if envelope is None or envelope.mail_from is None:
            raise Refusal(503, "5.5.1", "Need MAIL command")
        if envelope.body is not None:
            raise Refusal(503, "5.5.1", "The message has begun")
        recipient, rest, is_ascii = argument
        parameters = rcpt_parameters(rest, self._offered()) if rest else NO_RCPT_PARAMETERS
        if not (is_ascii or envelope.smtp_utf8):
            raise Refusal(*_NEEDS_SMTPUTF8)
        limit = self.service.limits.recipients
        if limit and len(envelope.rcpt_tos) >= limit:
            raise Refusal(452, "4.5.3", "Too many recipients")
        return self.do_rcpt(envelope, recipient, parameters)

    def do_rcpt(self, envelope: Transaction, recipient: str, parameters: RcptParameters) -> Run:
        """Take a recipient that may be taken."""
        if "RCPT" in self.service.hooks:
            return self._rcpt_by_hook(recipient, parameters)
        envelope.rcpt_tos.append(recipient)
        envelope.recipient_parameters.append(parameters)
        if parameters.given:
            envelope.rcpt_options.extend(_options(parameters.given))
        self.reply(_RECIPIENT_OK)
        return None

    async def _rcpt_by_hook(self, recipient: str, parameters: RcptParameters) -> None:
        """Let the handler add the recipient, or not; MISSING: as if there were no hook."""
        envelope, options = self._transaction, _options(parameters.given)
        reply = await self.hook("RCPT", b"", recipient, options)
        if not reply:
            envelope.rcpt_tos.append(recipient)
            envelope.rcpt_options.extend(options)
        if len(envelope.recipient_parameters) < len(envelope.rcpt_tos):
            envelope.recipient_parameters.append(parameters)
        self.reply(reply or _RECIPIENT_OK)

    @property
    def _transaction(self) -> Transaction:
        return self.envelope or self.begin_transaction()

    def end_transaction(self) -> None:
        """Forget the transaction (RFC 5321 section 4.1.1.5)."""
        if self.envelope is not None:
            self.envelope.discard()
            self.envelope = None


def _options(given: tuple[str, ...]) -> list[str]:
    return [one if one.upper().startswith(_AS_SENT) else one.upper() for one in given]

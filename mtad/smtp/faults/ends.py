"""Rules at the end of a message: before it is kept, before that is said, and behind it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress

from mtad.model.envelope import Captured
from mtad.model.rules.facts import Facts
from mtad.model.rules.values import At, Do, Mail, Moment
from mtad.smtp.envelope import Transaction
from mtad.smtp.faults.acting import Acting
from mtad.smtp.faults.answers import (
    NOTHING,
    REFUSAL,
    Say,
    answer,
    ends,
    for_each,
    is_positive,
    whatever,
    when_done,
)
from mtad.smtp.faults.bodies import WithHead
from mtad.smtp.lines import Run
from mtad.smtp.transaction import Transactions

_MESSAGE, _KEPT, _ANSWERED = At(Moment.MESSAGE), At(Moment.KEPT), At(Moment.ANSWERED)


class Ending(Acting):
    """The end of a message, of which all is known then.

    ``dos`` is what is done for each of its recipients, in LMTP.
    """

    dos: Sequence[Do] = ()

    def _message_ended(self) -> Run:
        envelope = self._transaction
        if envelope.refusal is not None:
            return super()._message_ended()
        facts = self.facts_of_mail(envelope)
        facts.recipients = envelope.rcpt_tos
        facts.size = 0 if envelope.body is None else envelope.body.size
        if isinstance(self, WithHead):
            facts.header = self.head.fields
        return self.message_known(envelope, facts)

    def message_known(self, envelope: Transaction, facts: Facts) -> Run:
        """Have the message judged and kept, and answer."""
        return super()._message_ended()


class AtMessage(Ending):
    """A message that is neither kept nor answered."""

    _mail: Mail | None = None  # what becomes of it

    def message_known(self, envelope: Transaction, facts: Facts) -> Run:
        """Have the message judged and kept, if a rule lets it, and answer."""
        self._mail, self.dos = None, ()
        if self.service.is_lmtp:
            return self._ask_for_each(_Asking(envelope, facts))
        found = self.find(_MESSAGE, facts)
        if not found:
            return super().message_known(envelope, facts)
        return self.decide(_MESSAGE, facts, found, partial(self._take_or_not, envelope))

    def _take_or_not(self, envelope: Transaction, do: Do) -> Run:
        if is_positive(do):
            return self._take(envelope, do, do.mail, when_done(do))
        if answer(do) is None:
            self.end_transaction()
            self.say_only(do)
            return None
        return self._refuse(envelope, do, whatever(do))

    def _take(self, envelope: Transaction, do: Do, mail: Mail | None, say: Say) -> Run:
        self._mail = mail
        self.say_next(say, do)
        if mail is not None and mail.discard and envelope.body is not None:
            self.service.capture.forget(envelope.body)
            envelope.discard()
            envelope.body = None
        return super().message_known(envelope, self.facts_of_mail(envelope))

    def _refuse(self, envelope: Transaction, do: Do, say: Say) -> Run:
        envelope.refuse(REFUSAL)
        self.say_next(say, do)
        return super().message_known(envelope, self.facts_of_mail(envelope))

    def _ask_for_each(self, asking: _Asking) -> Run:
        """Ask about one recipient after the other (RFC 2033 section 4.2)."""
        recipients = asking.envelope.rcpt_tos
        while len(asking.dos) < len(recipients):
            asking.facts.recipients = (recipients[len(asking.dos)],)
            asking.is_going_on = True
            self.consult(_MESSAGE, asking.facts, partial(self._answered_for_one, asking))
            asking.is_going_on = False
            if self._holds:
                return None  # _answered_for_one comes back here
        asking.facts.recipients = recipients
        return self._take_for_some(asking.envelope, asking.dos)

    def _answered_for_one(self, asking: _Asking, do: Do) -> Run:
        asking.dos.append(do)
        return None if asking.is_going_on else self._ask_for_each(asking)

    def _take_for_some(self, envelope: Transaction, dos: Sequence[Do]) -> Run:
        last = next(filter(ends, dos), NOTHING)
        self.dos = dos
        taken = [do for do in dos if is_positive(do)]
        if not taken:
            return self._refuse(envelope, last, for_each(dos))
        mails = [do.mail for do in taken if do.mail is not None]
        mail = next((mail for mail in mails if not mail.discard), None)
        if len(mails) == len(taken):
            mail = mail or mails[0]
        return self._take(envelope, last, mail, for_each(dos))

    def _captured(self, envelope: Transaction) -> Captured:
        captured = super()._captured(envelope)
        captured.mail = self._mail
        if self.dos:
            kept = [is_positive(do) and not (do.mail and do.mail.discard) for do in self.dos]
            captured.recipients = tuple(compress(captured.recipients, kept))
            captured.recipient_options = tuple(compress(captured.recipient_options, kept))
        return captured


class AtKept(Ending):
    """A message that is kept; its sender does not know."""

    def _answer_message(self, reply: bytes) -> None:
        facts = self._facts
        if facts is None or self._ended or not reply.startswith(b"2"):
            super()._answer_message(reply)
        elif found := self.find_or_leave(_KEPT, facts):
            self.at_found(_KEPT, facts, found, partial(self._say_or_not, reply))
        else:
            super()._answer_message(reply)

    def _say_or_not(self, reply: bytes, do: Do) -> Run:
        if answer(do) is None and ends(do):
            Transactions.end_transaction(self)  # which is not given up
            self.say_only(do)
            return None
        if answer(do) is not None:
            self.say_next(self._for_all(do), do)
        super()._answer_message(reply)
        return None

    def _for_all(self, do: Do) -> Say:
        """Return what says the same of every recipient that the message was taken for."""
        if not self.service.is_lmtp:
            return whatever(do)
        dos = self.dos or [NOTHING] * len(self._transaction.rcpt_tos)
        return for_each([do if is_positive(one) else one for one in dos])


class AtAnswered(Ending):
    """A message that is answered by 250, which its sender may have read."""

    def _answer_message(self, reply: bytes) -> None:
        facts = self._facts
        is_told = reply.startswith(b"2") and not self.is_refused_next and not self._ended
        super()._answer_message(reply)
        if facts is not None and is_told and not self.is_over:
            found = self.find_or_leave(_ANSWERED, facts)
            if found:
                self.flush()
                self.at_found(_ANSWERED, facts, found, self._add)

    def _add(self, do: Do) -> Run:
        """Say, behind all, what a rule says besides."""
        self.say_only(do)
        return None


@dataclass(slots=True)
class _Asking:
    """What has been said about the recipients of a message so far.

    ``is_going_on``: the next one is asked about by who asks now.
    """

    envelope: Transaction
    facts: Facts
    dos: list[Do] = field(default_factory=list)
    is_going_on: bool = False

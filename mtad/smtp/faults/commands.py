"""Rules at the beginning of a session, and at its commands: a class for each moment.

A session has those of the moments that have a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mtad.model.rules.values import At, Do, Moment
from mtad.smtp.envelope import ChunkReader, Transaction
from mtad.smtp.faults.acting import Acting
from mtad.smtp.faults.answers import NOTHING, REFUSAL, answer, ends, is_positive, whatever
from mtad.smtp.faults.facts import facts_of
from mtad.smtp.lines import Run
from mtad.smtp.parameters import RcptParameters
from mtad.smtp.reply import Refusal
from mtad.smtp.xclient import Client

_CONNECT, _BANNER, _HELO, _EHLO, _STARTTLS, _AUTH, _XCLIENT = map(
    At,
    (
        Moment.CONNECT, Moment.BANNER, Moment.HELO, Moment.EHLO, Moment.STARTTLS, Moment.AUTH,
        Moment.XCLIENT,
    ),
)  # fmt: skip
_MAIL, _RCPT, _DATA, _BDAT = map(At, (Moment.MAIL, Moment.RCPT, Moment.DATA, Moment.BDAT))
_RSET, _NOOP, _VRFY, _EXPN, _HELP, _ETRN, _QUIT = map(
    At,
    (
        Moment.RSET, Moment.NOOP, Moment.VRFY, Moment.EXPN, Moment.HELP, Moment.ETRN, Moment.QUIT,
    ),
)  # fmt: skip

# What AUTH says of credentials; another reply is to a command that was not as it should be.
_JUDGED = (b"235", b"535")


class AtConnect(Acting):
    """A connection, of which nothing has been read."""

    def begin(self, *, header: bool) -> None:
        """Begin to read, if a rule lets it."""
        act = partial(super().begin, header=header)
        self.at_moment(_CONNECT, facts_of(self), lambda do: self.say_first(do, act))


class AtBanner(Acting):
    """The greeting. One that refuses leaves nothing but QUIT (RFC 5321 section 3.1)."""

    _is_shut_out = False

    def _greet(self) -> None:
        self.at_moment(_BANNER, facts_of(self), self._greet_or_not)

    def _greet_or_not(self, do: Do) -> Run:
        said = answer(do)
        if said is None and ends(do):
            self.say_only(do)
            return None
        if said and not is_positive(do):
            self._is_shut_out = self._is_guarded = True
        if do is not NOTHING:
            self.say_next(whatever(do), do)
        super()._greet()
        return None

    def _check_security(self, verb: str) -> None:
        if not self._is_shut_out:
            super()._check_security(verb)
        elif verb != "QUIT":
            raise Refusal(503, "5.5.1", "There is no service here: say QUIT")


class AtHelo(Acting):
    """HELO."""

    def do_helo(self, name: str) -> Run:
        """Greet."""
        return self.at_command(_HELO, partial(super().do_helo, name), helo=name)


class AtEhlo(Acting):
    """EHLO and LHLO."""

    def do_ehlo(self, name: str) -> Run:
        """Greet, and say what is served."""
        return self.at_command(_EHLO, partial(super().do_ehlo, name), helo=name)


class AtStarttls(Acting):
    """STARTTLS; the handshake is another moment."""

    def do_starttls(self) -> Run:
        """Encrypt the rest of the connection."""
        return self.at_command(_STARTTLS, super().do_starttls)


class AtAuth(Acting):
    """The end of AUTH, when it is known whom it is about."""

    def do_auth(self, status: bytes, *, user: str, failed: bool) -> None:
        """Say what has come of it, or that nothing has."""
        act = partial(super().do_auth, status, user=user, failed=failed)
        if status.startswith(_JUDGED):
            self.at_moment(_AUTH, facts_of(self, user=user), partial(self._log_in_or_not, act))
        else:
            act()

    def _log_in_or_not(self, act: Callable[[], None], do: Do) -> Run:
        if not is_positive(do):
            self.log_out()
        return self.carry_out(do, act)


class AtXclient(Acting):
    """XCLIENT."""

    def do_xclient(self, client: Client) -> Run:
        """Begin anew as the client says."""
        return self.at_command(_XCLIENT, partial(super().do_xclient, client))


class AtMail(Acting):
    """MAIL."""

    def do_mail(self, envelope: Transaction, sender: str, options: list[str]) -> Run:
        """Take a sender."""
        facts = self.facts_of_mail(envelope, sender)
        found = self.find(_MAIL, facts)
        if not found:
            return super().do_mail(envelope, sender, options)
        act = partial(super().do_mail, envelope, sender, options)
        return self.decide(_MAIL, facts, found, lambda do: self.carry_out(do, act))


class AtRcpt(Acting):
    """RCPT."""

    def do_rcpt(self, envelope: Transaction, recipient: str, parameters: RcptParameters) -> Run:
        """Take a recipient."""
        facts = self.facts_of_mail(envelope)
        facts.recipients = (recipient,)
        found = self.find(_RCPT, facts)
        if not found:
            return super().do_rcpt(envelope, recipient, parameters)
        act = partial(super().do_rcpt, envelope, recipient, parameters)
        return self.decide(_RCPT, facts, found, lambda do: self.carry_out(do, act))


class AtData(Acting):
    """DATA."""

    def do_data(self, envelope: Transaction) -> Run:
        """Take a message."""
        facts = self.facts_of_mail(envelope)
        facts.recipients = envelope.rcpt_tos
        found = self.find(_DATA, facts)
        if not found:
            return super().do_data(envelope)
        act = partial(super().do_data, envelope)
        return self.decide(_DATA, facts, found, lambda do: self.carry_out(do, act))


class AtBdat(Acting):
    """BDAT."""

    def do_bdat(self, envelope: Transaction, chunk: ChunkReader) -> Run:
        """Take a chunk; one that is not taken is read all the same."""
        return self.consult(
            _BDAT, facts_of(self), partial(self._take_chunk_or_not, envelope, chunk)
        )

    def _take_chunk_or_not(self, envelope: Transaction, chunk: ChunkReader, do: Do) -> Run:
        if is_positive(do) or answer(do) is None:
            return self.carry_out(do, partial(super().do_bdat, envelope, chunk))
        # What follows belongs to the same message, of which a part is missing (RFC 3030 section 2).
        envelope.by_chunks = True
        envelope.refuse(REFUSAL)
        self.say_next(whatever(do), do)
        return self.refuse_chunk(chunk, REFUSAL)


class AtRset(Acting):
    """RSET."""

    def rset(self, _: None) -> Run:
        """Give up the transaction."""
        return self.at_command(_RSET, partial(super().rset, None))


class AtNoop(Acting):
    """NOOP."""

    def noop(self, argument: str) -> Run:
        """Do nothing."""
        return self.at_command(_NOOP, partial(super().noop, argument))


class AtVrfy(Acting):
    """VRFY."""

    def do_vrfy(self, argument: str) -> Run:
        """Answer a question."""
        return self.at_command(_VRFY, partial(super().do_vrfy, argument))


class AtExpn(Acting):
    """EXPN."""

    def expn(self, argument: str) -> Run:
        """Refuse, or say what a rule has instead."""
        return self.at_command(_EXPN, partial(super().expn, argument), whatever)


class AtHelp(Acting):
    """HELP."""

    def help(self, argument: str) -> Run:
        """Tell what is here."""
        return self.at_command(_HELP, partial(super().help, argument))


class AtEtrn(Acting):
    """ETRN."""

    def etrn(self, argument: str) -> Run:
        """Refuse, or say what a rule has instead."""
        return self.at_command(_ETRN, partial(super().etrn, argument), whatever)


class AtQuit(Acting):
    """QUIT."""

    def quit(self, _: None) -> Run:
        """Say goodbye."""
        return self.at_command(_QUIT, partial(super().quit, None))

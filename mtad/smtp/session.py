"""An SMTP or LMTP session: every command, in the frame of the dialogue."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any

from aiosmtpd.smtp import SMTP

from mtad.smtp.authentication import Authentication
from mtad.smtp.commands import Commands
from mtad.smtp.content import Contents
from mtad.smtp.grammar import helo_domain
from mtad.smtp.lines import Command, Run, no_argument
from mtad.smtp.transaction import mail_argument, rcpt_argument
from mtad.smtp.xclient import parse as xclient_argument


class Session(Commands, Authentication, Contents):
    """One client's session, from the greeting to the close."""


def _own(name: str) -> Callable[[Any, Any], Run]:
    """Return what runs the method that the session's own class has."""
    return lambda session, argument: getattr(session, name)(argument)


COMMANDS = {
    "HELO": Command(Session.helo, helo_domain),
    "EHLO": Command(Session.ehlo, helo_domain),
    "LHLO": Command(Session.lhlo, helo_domain),
    "STARTTLS": Command(Session.starttls),
    "AUTH": Command(Session.auth),
    "MAIL": Command(Session.mail, mail_argument),
    "RCPT": Command(Session.rcpt, rcpt_argument),
    "DATA": Command(Session.data),
    "BDAT": Command(Session.bdat),
    "RSET": Command(_own("rset"), no_argument("RSET")),
    "NOOP": Command(_own("noop")),
    "QUIT": Command(_own("quit"), no_argument("QUIT")),
    "HELP": Command(_own("help")),
    "VRFY": Command(Session.vrfy),
    "EXPN": Command(_own("expn")),
    "ETRN": Command(_own("etrn")),
    "XCLIENT": Command(Session.xclient, xclient_argument),
}
"""Every command there is, in the order of a session."""


@lru_cache(maxsize=64)
def session_class(bases: tuple[type[Session], ...], base: SMTP) -> Callable[..., Session]:
    """Return the class of the sessions of listeners with the server ``base``, made of ``bases``.

    What aiosmtpd's constructor works out for each connection is in the class instead: a session
    begins with what is its own.
    """
    worked_out = {
        # A function in a class would be taken for a method.
        name: staticmethod(value) if isinstance(value, FunctionType) else value
        for name, value in vars(base).items()
    }
    return type(bases[-1].__name__, bases, worked_out)

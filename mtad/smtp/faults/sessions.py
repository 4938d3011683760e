"""The sessions of listeners that have rules: made of what their rules are about."""

from __future__ import annotations

from collections.abc import Mapping

from mtad.model.profile import Profile
from mtad.model.rules.matching import RuleSet
from mtad.model.rules.values import Moment
from mtad.smtp.faults import commands
from mtad.smtp.faults.acting import Acting, Counting, Pacing
from mtad.smtp.faults.answers import is_long
from mtad.smtp.faults.bodies import AtBody, WithHead
from mtad.smtp.faults.ends import AtAnswered, AtKept, AtMessage
from mtad.smtp.faults.tls import Handshakes
from mtad.smtp.session import Session

AT: Mapping[Moment, type[Acting]] = {
    Moment.CONNECT: commands.AtConnect,
    Moment.TLS: Handshakes,
    Moment.BANNER: commands.AtBanner,
    Moment.HELO: commands.AtHelo,
    Moment.EHLO: commands.AtEhlo,
    Moment.STARTTLS: commands.AtStarttls,
    Moment.AUTH: commands.AtAuth,
    Moment.XCLIENT: commands.AtXclient,
    Moment.MAIL: commands.AtMail,
    Moment.RCPT: commands.AtRcpt,
    Moment.DATA: commands.AtData,
    Moment.BDAT: commands.AtBdat,
    Moment.BODY: AtBody,
    Moment.MESSAGE: AtMessage,
    Moment.KEPT: AtKept,
    Moment.ANSWERED: AtAnswered,
    Moment.RSET: commands.AtRset,
    Moment.NOOP: commands.AtNoop,
    Moment.VRFY: commands.AtVrfy,
    Moment.EXPN: commands.AtExpn,
    Moment.HELP: commands.AtHelp,
    Moment.ETRN: commands.AtEtrn,
    Moment.QUIT: commands.AtQuit,
}
"""What a session needs for the rules of each moment."""

_OF_THE_END = (Moment.MESSAGE, Moment.KEPT, Moment.ANSWERED)


def parts_for(rules: RuleSet, profile: Profile) -> tuple[type[Session], ...]:
    """Return what a session needs for ``rules``, and no more."""
    parts = [part for moment, part in AT.items() if moment in rules.moments]
    if _looks_at_headers(rules, profile) and not rules.moments.isdisjoint(_OF_THE_END):
        parts.insert(0, WithHead)
    if rules.does(lambda do: do.tarpit is not None):
        parts.append(Counting)
    if rules.does(lambda do: bool(do.send_rate or do.read_rate or is_long(do))):
        parts.append(Pacing)
    return tuple(dict.fromkeys(parts))


def _looks_at_headers(rules: RuleSet, profile: Profile) -> bool:
    is_run = any(rule.startswith("header ") for rule in profile.runs)
    return rules.needs_header or (rules.needs_run and is_run)

"""What makes no sense in a fault rule: conditions that cannot hold, actions that mean nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from mtad.config.document import KeyPath
from mtad.config.rules.reading import Problem
from mtad.config.values import refuse
from mtad.model.rules.values import MEANT_FOR, At, Do, Moment

_BEFORE_HELO = frozenset({Moment.CONNECT, Moment.BANNER})
_BEFORE_MAIL = _BEFORE_HELO | {
    Moment.TLS,
    Moment.HELO,
    Moment.EHLO,
    Moment.STARTTLS,
    Moment.AUTH,
    Moment.XCLIENT,
}
_BEFORE_RCPT = _BEFORE_MAIL | {Moment.MAIL}
_BEFORE_MESSAGE = frozenset(Moment) - {Moment.MESSAGE, Moment.KEPT, Moment.ANSWERED}

_UNKNOWN = {
    "helo": (_BEFORE_HELO, "helo"),
    "user": (_BEFORE_HELO, "helo"),
    "sender": (_BEFORE_MAIL, "mail"),
    "sender_domain": (_BEFORE_MAIL, "mail"),
    "size": (_BEFORE_MAIL, "mail"),
    "run": (_BEFORE_RCPT, "rcpt"),
    "recipient": (_BEFORE_RCPT, "rcpt"),
    "recipient_domain": (_BEFORE_RCPT, "rcpt"),
    "quota": (_BEFORE_RCPT, "rcpt"),
    "header": (_BEFORE_MESSAGE, "message"),
}
"""At which moments nothing is known yet of what a condition or a count is about; when it is."""


def of_knowledge(words: Iterable[str], at: Sequence[At], path: KeyPath = ()) -> Iterator[Problem]:
    """Yield a problem for each of ``words`` of which none of the moments can know anything.

    It is at the key of that name, or where ``path`` is given, there.
    """
    for word in sorted(_UNKNOWN.keys() & set(words)):
        too_early, known = _UNKNOWN[word]
        if at and all(one.moment in too_early for one in at):
            reason = f"{word} is not known at {_names(at)}"
            yield path or (word,), refuse(reason, f"it can be from {known} on")


def of_quota(words: Iterable[str], at: Sequence[At]) -> Iterator[Problem]:
    """Yield a problem where the octets of a message would count at each of several moments."""
    if "quota" in words and len(at) > 1:
        reason = f"octets would count at each of {_names(at)}"
        help_ = "keep one: rcpt knows what SIZE= says, message what has come"
        yield ("quota",), refuse(reason, help_)


def of_actions(do: Do, at: Sequence[At], path: KeyPath = ()) -> Iterator[Problem]:
    """Yield a problem for each action that means nothing at one of the moments."""
    for field in msgspec.structs.fields(Do):
        if getattr(do, field.name) == field.default:
            continue
        option = "reply" if field.name == "mute" else field.name
        if strange := [one for one in at if one.moment not in MEANT_FOR[field.name]]:
            reason = f"{option} means nothing at {_names(strange)}"
            moments = [moment for moment in Moment if moment in MEANT_FOR[field.name]]
            yield (*path, option), refuse(reason, f"it does at {', '.join(moments)}")
    if At(Moment.MESSAGE) in at and do.mail is not None and _refuses(do):
        reason = "there is no mail, because the answer does not accept it"
        yield (*path, "mail"), refuse(reason, "leave reply, raw and close out, or mail")
    for index, choice in enumerate(do.one_of):
        yield from of_actions(choice.do, at, (*path, "one_of", index))


def _refuses(do: Do) -> bool:
    """Whether what is answered says that the command is not carried out."""
    if do.reply is not None:
        return do.reply.code >= 400
    if do.raw is not None:
        return do.raw[:1] not in (b"2", b"3")
    return do.mute or do.silent or do.deaf or do.close is not None


def _names(at: Iterable[At]) -> str:
    return ", ".join(dict.fromkeys(one.moment.value for one in at))

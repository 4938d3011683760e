"""Which rules have to do with a session, at a moment of it: none, most of the time, and quickly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b

from mtad.model.rules.conditions import any_of
from mtad.model.rules.facts import Facts
from mtad.model.rules.index import Compiled, Index
from mtad.model.rules.patterns import address
from mtad.model.rules.values import At, Do, Moment, Quota, Rule


class RuleSet:
    """The enabled rules that can ever match on one listener, in the order in which they are asked.

    ``profile`` is the name of the listener's: rules of other profiles are not for it.
    ``moments`` are those with a rule; ``positions``, those of BODY, in the order of their octets
    and lines. ``needs_header`` says whether a rule asks for the header of a message, ``needs_run``
    whether one asks for its test run.
    """

    def __init__(self, rules: Sequence[Rule], listener: str, profile: str = "") -> None:
        here = [rule for rule in rules if rule.enabled and is_for(rule, listener, profile)]
        compiled: dict[At, list[Compiled]] = {}
        for number, rule in enumerate(here):
            one = Compiled(number, rule)
            for at in dict.fromkeys(rule.at):
                compiled.setdefault(at, []).append(one)
        self._indexes = {at: Index(rules) for at, rules in compiled.items()}
        self.moments = frozenset(at.moment for at in compiled)
        self.positions = tuple(
            sorted(
                (at for at in compiled if at.moment is Moment.BODY),
                key=lambda at: (at.octets, at.lines),
            )
        )
        self.needs_header = any(rule.where.header for rule in here)
        self.needs_run = any(rule.where.run for rule in here)
        self._dos = [rule.do for rule in here]

    def does(self, what: Callable[[Do], bool]) -> bool:
        """Whether there is a rule that may do it."""
        return any(_does(do, what) for do in self._dos)

    def __bool__(self) -> bool:
        return bool(self.moments)

    def candidates(self, at: At, facts: Facts, now: float) -> list[Rule]:
        """Return the rules that may fire, up to the first that needs nobody to be asked.

        ``now`` is in seconds since the epoch (UTC): windows of a day and cycles are counted by it.
        """
        found: list[Rule] = []
        index = self._indexes.get(at)
        if index is not None:
            for one in index.find(facts):
                if one.holds(facts, now):
                    found.append(one.rule)
                    if not one.is_counted:
                        break
        return found


def _does(do: Do, what: Callable[[Do], bool]) -> bool:
    return what(do) or any(_does(choice.do, what) for choice in do.one_of)


def is_for(rule: Rule, listener: str, profile: str) -> bool:
    """Whether a rule can ever match on a listener that has this profile."""
    if rule.profile not in ("", profile):
        return False
    return not rule.where.listener or any_of(rule.where.listener)(listener)


def keys(rule: Rule, facts: Facts) -> list[bytes]:
    """Return the keys that a hit counts for: a quota is that of each recipient, whoever else is."""
    if isinstance(rule.when.gate, Quota) and len(facts.recipients) > 1:
        return [key(rule, replace(facts, recipients=(one,))) for one in facts.recipients]
    return [key(rule, facts)]


def key(rule: Rule, facts: Facts) -> bytes:
    """Return what has a count of its own: 16 octets that tell the values of ``per`` apart.

    Case is not looked at, nor the order of recipients; an IPv4 peer in IPv6 is an IPv4 one. What
    is not known differs from what is empty. b"" where all hits are counted together.
    """
    per = rule.when.per
    if not per:
        return b""
    text = "".join([_value(fact, facts) for fact in per])
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _value(fact: str, facts: Facts) -> str:
    """Return a value with its length before it, so that none runs into the next."""
    if fact == "recipient":
        return _all(text.lower() for text in facts.recipients)
    if fact == "recipient_domain":
        return _all({_domain(text).lower() for text in facts.recipients})
    if fact == "sender_domain":
        value = None if facts.sender is None else _domain(facts.sender)
    else:
        value = address(facts.peer).text if fact == "peer" else getattr(facts, fact)
    return "-" if value is None else f"{len(value)}:{value.lower()}"


def _all(values: Iterable[str]) -> str:
    every = sorted(values)
    return f"{len(every)};" + "".join([f"{len(text)}:{text}" for text in every])


def _domain(mailbox: str) -> str:
    """Return what is behind the @: nothing, of the null sender."""
    _, at, domain = mailbox.rpartition("@")
    return domain if at else ""

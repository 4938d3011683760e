"""Which rule would fire, and why the others would not: in words, and nothing is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mtad.model.rules.conditions import conditions, is_time
from mtad.model.rules.decision import Ledger
from mtad.model.rules.facts import Facts
from mtad.model.rules.gates import State, weigh
from mtad.model.rules.matching import is_for, key
from mtad.model.rules.values import AnyGate, At, Greylist, Quota, Rate, Rule
from mtad.model.rules.words import (
    condition_words,
    gate_words,
    octets_words,
    ordinal,
    time_words,
)


class Explained(NamedTuple):
    """Whether a rule would fire, and why, or why not, in words."""

    rule: Rule
    fires: bool
    reason: str


def explain(
    rules: Sequence[Rule], ledger: Ledger, at: At, facts: Facts, now: float
) -> list[Explained]:
    """Return what each rule that is asked at a moment would say, in their order.

    Nothing is counted. ``now`` is in seconds since the epoch; the ledger's clock has to be that.
    """
    found: list[Explained] = []
    decides = ""
    for rule in rules:
        if at not in rule.at:
            continue
        if decides:
            found.append(Explained(rule, False, f"not asked: {decides} decides"))
            continue
        fires, reason = _explained(rule, ledger, facts, now)
        found.append(Explained(rule, fires, reason))
        if fires:
            decides = rule.name
    return found


def _explained(rule: Rule, ledger: Ledger, facts: Facts, now: float) -> tuple[bool, str]:
    if not rule.enabled:
        return False, "disabled"
    if ledger.is_spent(rule.name):
        return False, f"has fired {rule.hits} of {rule.hits} times"
    if rule.profile not in ("", facts.profile):
        return False, f"profile {facts.profile or _UNKNOWN} is not {rule.profile}"
    if not is_for(rule, facts.listener, facts.profile):
        return False, _differs(rule, "listener", facts)
    for condition in conditions(rule.where):
        if not condition.holds(facts):
            return False, _differs(rule, condition.fact, facts)
    if not is_time(rule.when, now):
        return False, f"not now: {time_words(rule.when)}"
    if rule.when.gate is None:
        return True, "all that it asks for is the case"
    of = key(rule, facts)
    before = ledger.state(rule.name, of)
    fires, _, after = weigh(rule, before, of, facts.size or 0, now)
    hit = f"the {ordinal(after.hits)} hit{' of this key' if of else ''}"
    words = f"{hit}{_amount(rule.when.gate, before, after, now)}; {gate_words(rule.when.gate)}"
    return fires, words + _lacking(rule, facts)


def _differs(rule: Rule, fact: str, facts: Facts) -> str:
    return f"{fact} {_FOUND[fact](rule, facts)} is not {condition_words(rule.where, fact)}"


def _lacking(rule: Rule, facts: Facts) -> str:
    """Return what the key is made of besides, and an attempt says: it is another with that."""
    known = {
        "helo": facts.helo is not None,
        "sender": facts.sender is not None,
        "sender_domain": facts.sender is not None,
        "recipient": bool(facts.recipients),
        "recipient_domain": bool(facts.recipients),
    }
    lacking = [fact for fact in rule.when.per if not known.get(fact, True)]
    return f"; another key with a {' and a '.join(lacking)}" if lacking else ""


def _amount(gate: AnyGate, before: State, after: State, now: float) -> str:
    """Return what there is to a hit besides its number."""
    match gate:
        case Greylist() if before.hits:
            known = f", {now - after.since:g} s after the first" if now > after.since else ""
            return f"{known}, after one that passed" if before.amount else known
        case Rate(growth=growth):
            return f", {after.amount:.3g} {'left' if growth == 1 else 'used'} then"
        case Quota():
            return f", {octets_words(int(before.amount))} used before"
    return ""


def _text(text: str | None) -> str:
    return _UNKNOWN if text is None else text or '""'


def _header(rule: Rule, facts: Facts) -> str:
    found = [
        f"{name}: {' and '.join(map(_text, facts.header[name]))}"
        for name in rule.where.header
        if name in facts.header
    ]
    return ", ".join(found) or "(none of these fields)"


_UNKNOWN = "(unknown)"

_FOUND: dict[str, Callable[[Rule, Facts], str]] = {
    "listener": lambda _, facts: facts.listener,
    "peer": lambda _, facts: facts.peer,
    "helo": lambda _, facts: _text(facts.helo),
    "tls": lambda _, facts: "yes" if facts.tls else "no",
    "user": lambda _, facts: _text(facts.user),
    "sender": lambda _, facts: _text(facts.sender),
    "recipient": lambda _, facts: " and ".join(facts.recipients) or _UNKNOWN,
    "size": lambda _, facts: _UNKNOWN if facts.size is None else octets_words(facts.size),
    "header": _header,
    "run": lambda _, facts: " and ".join(sorted(facts.runs)) or "(none)",
}

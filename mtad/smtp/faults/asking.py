"""Asking the rules of a session: which of them acts, and when its delay is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, cast

from mtad.log import event
from mtad.model.automatic_tls import AutomaticTls
from mtad.model.rules.decision import choose
from mtad.model.rules.facts import Facts
from mtad.model.rules.judge import Asked, Judge
from mtad.model.rules.matching import RuleSet, keys
from mtad.model.rules.values import At, Do, Rule, Tarpit
from mtad.model.rules.words import at_words, do_words
from mtad.smtp.client import Client
from mtad.smtp.envelope import Transaction
from mtad.smtp.faults.answers import NOTHING
from mtad.smtp.faults.facts import NO_FIELDS, facts_of, run_of_facts
from mtad.smtp.faults.paced import PacedConnection
from mtad.smtp.faults.waiting import Waiting
from mtad.smtp.frame import log
from mtad.smtp.lines import Run
from mtad.smtp.service import Service
from mtad.smtp.stage import Stage

Act = Callable[[Do], Run]
"""Does what a rule says, its delay over; NOTHING where there is none."""


class Asking(Waiting):
    """A session that has rules.

    ``automatic_tls`` is where the certificates are that a rule may ask for; ``refusals`` counts the
    replies of 4xx and 5xx so far, where a rule wants to know.
    """

    refusals = 0
    _facts: Facts | None = None  # what is known
    _facts_of: Client | None = None  # of whom
    _facts_in: Transaction | None = None  # in which transaction

    def __init__(
        self,
        service: Service,
        on_end: Callable[[Any], None],
        *,
        rules: RuleSet,
        judge: Judge,
        automatic_tls: AutomaticTls,
        **others: Any,
    ) -> None:
        super().__init__(service, on_end, **others)
        self.rules = rules
        self.judge = judge
        self.automatic_tls = automatic_tls

    @property
    def paced(self) -> PacedConnection:
        """The connection, as it is where a rule makes it slow or speaks at length."""
        return cast("PacedConnection", self.connection)

    def facts_of_mail(self, envelope: Transaction, sender: str | None = None) -> Facts:
        """Return what is known within a transaction, to be completed by who knows more.

        It is the same as that of the last one, as long as the client is. ``sender`` begins one.
        """
        facts, client = self._facts, self.session
        if (
            facts is None
            or self._facts_of is not client
            or facts.helo is not client.host_name
            or (facts.user is None) is bool(client.authenticated)
        ):
            self._facts = facts = facts_of(self)
            self._facts_of = client
        elif sender is None and self._facts_in is envelope:
            return facts
        self._facts_in = envelope
        facts.sender = envelope.mail_from if sender is None else sender
        facts.recipients = envelope.rcpt_tos
        facts.size = envelope.parameters.size
        facts.header = NO_FIELDS
        return facts

    def find(self, at: At, facts: Facts) -> list[Rule]:
        """Return the rules that may act at a moment: none, most of the time."""
        rules = self.rules
        if rules.needs_run:
            facts.runs = run_of_facts(self.service.profile.runs, facts)
        return rules.candidates(at, facts, time.time())

    def decide(self, at: At, facts: Facts, found: Sequence[Rule], act: Act) -> Run:
        """Have one of the rules that were found say what is done, when it has waited."""
        first = found[0]
        if not first.is_counted:
            self.judge.fired(first.name)
            return self._fire(at, first, first.do, act)
        hits = [
            Asked(rule.name, key, facts.size or 0) for rule in found for key in keys(rule, facts)
        ]
        self.judge.weigh(hits, partial(self._weighed, at, found, act))
        self.hold()
        return None

    def consult(self, at: At, facts: Facts, act: Act) -> Run:
        """Find rules, and have them decide."""
        found = self.find(at, facts)
        return self.decide(at, facts, found, act) if found else act(NOTHING)

    def at_moment(self, at: At, facts: Facts, act: Act) -> None:
        """Do what happens at a moment that is not that of a command."""
        self._or_leave(lambda: self.consult(at, facts, act))

    def at_found(self, at: At, facts: Facts, found: Sequence[Rule], act: Act) -> None:
        """The same, where rules have been found."""
        self._or_leave(lambda: self.decide(at, facts, found, act))

    def find_or_leave(self, at: At, facts: Facts) -> Sequence[Rule]:
        """Find rules, where no command is answered."""
        try:
            return self.find(at, facts)
        except Exception as error:
            self.goodbye(self._fault(error, 421), Stage.FAULT)
            return ()

    def _or_leave(self, act: Callable[[], Run]) -> None:
        try:
            run = act()
        except Exception as error:
            self.goodbye(self._fault(error, 421), Stage.FAULT)
        else:
            if run is not None:
                self.drive(run)

    def _weighed(self, at: At, found: Sequence[Rule], act: Act, name: str, draw: float) -> None:
        fired = next((rule for rule in found if rule.name == name), None)
        if fired is None:
            self.go_on(partial(act, NOTHING))
        else:
            self.go_on(partial(self._fire, at, fired, choose(fired.do, draw), act))

    def _fire(self, at: At, rule: Rule, do: Do, act: Act) -> Run:
        self._note(at, rule, do)
        if do.send_rate:
            self.paced.send_slowly(do.send_rate)
        if do.read_rate:
            self.paced.read_slowly(do.read_rate)
        seconds = do.delay + (_tarpit(do.tarpit, self.refusals) if do.tarpit else 0.0)
        if not seconds:
            return act(do)
        self.wait(seconds, partial(act, do))
        return None

    def _note(self, at: At, rule: Rule, do: Do) -> None:
        where, what = _words(at, do)
        self.stage(Stage.RULE, f"{rule.name}, {where}: {what}")
        if log.isEnabledFor(logging.DEBUG):
            event(
                log,
                logging.DEBUG,
                "rule.fired",
                rule=rule.name,
                at=where,
                do=what,
                listener=self.service.name,
                peer=self.client,
            )


@lru_cache(maxsize=256)
def _words(at: At, do: Do) -> tuple[str, str]:
    return at_words((at,)), do_words(do)


def _tarpit(tarpit: Tarpit, refusals: int) -> float:
    try:
        seconds = tarpit.base * tarpit.growth**refusals
    except OverflowError:
        return tarpit.most
    return min(seconds, tarpit.most)

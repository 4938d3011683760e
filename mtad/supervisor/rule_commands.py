"""What the commands about rules do; mtad.control.rule_commands says what they are and take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from mtad.config.rules.text import (
    as_yaml,
    check_name,
    in_line,
    load_moment,
    load_rule,
    load_rules,
)
from mtad.control.peer import Caller
from mtad.control.server import Handler
from mtad.errors import CommandError
from mtad.model.rules.explain import explain
from mtad.model.rules.facts import Facts
from mtad.model.rules.values import Rule
from mtad.model.rules.words import at_words, do_words, when_words, where_words
from mtad.supervisor.daemon import Daemon
from mtad.supervisor.listener import Listener
from mtad.supervisor.rule import Kept

Params = dict[str, Any]
Result = dict[str, Any]


class RuleCommands:
    """The handlers of one daemon's rules. What changes them answers when the workers have them."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._judge = daemon.judge
        self._rules = daemon.judge.rules

    def handlers(self) -> dict[str, Handler]:
        """Return every handler by the method of its command."""
        return {
            "rule.add": self.add,
            "rule.list": self.show_all,
            "rule.show": self.show,
            "rule.change": self.change,
            "rule.enable": self.enable,
            "rule.disable": self.disable,
            "rule.reset": self.reset,
            "rule.remove": self.remove,
            "rule.load": self.load,
            "rule.explain": self.explain,
        }

    def add(self, caller: Caller, params: Params) -> Any:
        """Add a rule."""
        check_name(params["name"])
        rule = load_rule(params["name"], params["text"])
        if params["for_run"]:
            of_run = replace(rule, where=replace(rule.where, run=params["for_run"]))
            rule = load_rule(rule.name, in_line(of_run))  # not every moment knows of a run
        self._have_certificates([rule])
        self._rules.add([rule], str(caller), before=params["before"] or "")
        return self._when_told([rule.name])

    def load(self, caller: Caller, params: Params) -> Any:
        """Add the rules of a text."""
        rules = list(load_rules(params["text"], params["name"]).values())
        self._have_certificates(rules)
        self._rules.add(rules, str(caller), clear=params["replace"])
        return self._when_told([rule.name for rule in rules])

    def show_all(self, _: Caller, __: Params) -> Result:
        """Answer all rules."""
        self._daemon.pool.catch_up()
        return {"rules": [self._row(kept) for kept in self._rules]}

    def show(self, _: Caller, params: Params) -> Result:
        """Answer one rule with everything known of it."""
        self._daemon.pool.catch_up()
        kept = self._rules.get(params["name"])
        rule = kept.rule
        return {
            "rule": {
                **self._row(kept),
                "keys": self._rules.ledger.counts(rule.name).keys,
                "run": rule.where.run or None,
                "seed": rule.when.seed,
                "made": kept.made,
                "by": kept.by,
                "text": as_yaml(rule),
            }
        }

    def change(self, caller: Caller, params: Params) -> Any:
        """Have a rule say something else."""
        self._rules.get(params["name"])
        rule = load_rule(params["name"], params["text"])
        self._have_certificates([rule])
        self._rules.change(rule, str(caller))
        return self._when_told([params["name"]], "is as it is written again after the next reload")

    def enable(self, caller: Caller, params: Params) -> Any:
        """Have rules asked again."""
        self._rules.enable(params["names"], True, str(caller))
        return self._when_told(params["names"])

    def disable(self, caller: Caller, params: Params) -> Any:
        """Have rules not asked."""
        self._rules.enable(params["names"], False, str(caller))
        return self._when_told(params["names"])

    def reset(self, caller: Caller, params: Params) -> Any:
        """Have rules begin anew."""
        names = _names(self._rules) if params["all"] else params["names"]
        self._rules.reset(names, str(caller))
        return self._when_told(names)

    def remove(self, caller: Caller, params: Params) -> Any:
        """Forget rules."""
        names = list(dict.fromkeys(params["names"]))
        if params["all"]:
            names = _names(self._rules)
        elif params["for_run"]:
            names = _names(self._rules.of_run(params["for_run"]))
        notes = self._notes(names, "comes back with the next reload")
        self._rules.remove(names, str(caller))
        return self._when_removed(names, notes)

    def explain(self, _: Caller, params: Params) -> Result:
        """Answer which rule would fire."""
        self._daemon.pool.catch_up()
        found = explain(
            [kept.asked for kept in self._rules],
            self._rules.ledger,
            load_moment(params["at"]),
            self._facts(params),
            time.time(),
        )
        expired = {kept.rule.name for kept in self._rules if kept.expired}
        return {
            "fires": next((one.rule.name for one in found if one.fires), None),
            "rules": [
                {
                    "name": one.rule.name,
                    "fires": one.fires,
                    "reason": "its time is over" if one.rule.name in expired else one.reason,
                }
                for one in found
            ],
        }

    def _have_certificates(self, rules: Sequence[Rule]) -> None:
        """Have those with a flaw that ``rules`` need. Raises TlsError: they cannot be made."""
        self._daemon.certificates.ensure_for(rules, self._daemon.configuration)

    async def _when_removed(self, names: list[str], notes: list[str]) -> Result:
        return {"removed": names, "notes": [*notes, *await self._judge.notes()]}

    def _when_told(self, names: Iterable[str], said: str = "") -> Any:
        """Answer when the workers have the rules; ``said`` is noted of those of a file."""
        rows = [self._row(self._rules.get(name)) for name in names]
        notes = self._notes(names, said)

        async def when_told() -> Result:
            return {"rules": rows, "notes": [*notes, *await self._judge.notes()]}

        return when_told()

    def _notes(self, names: Iterable[str], said: str) -> list[str]:
        kept = [self._rules.get(name) for name in names]
        return [f"{one.rule.name} {said}" for one in kept if said and one.written is not None]

    def _row(self, kept: Kept) -> Result:
        rule = kept.rule
        counts = self._rules.ledger.counts(rule.name)
        left: dict[str, float] = {"hits": max(rule.hits - counts.fired, 0)} if rule.hits else {}
        if rule.seconds:
            left["seconds"] = max(kept.made + rule.seconds - time.time(), 0.0)
        return {
            "name": rule.name,
            "at": at_words(rule.at),
            "where": where_words(rule.where) or None,
            "when": when_words(rule.when) or None,
            "do": do_words(rule.do),
            "seen": counts.seen,
            "fired": counts.fired,
            "left": left or None,
            "state": self._rules.standing(kept),
            "source": rule.source,
        }

    def _facts(self, params: Params) -> Facts:
        """Return what is known of the session that is asked about. Raises CommandError."""
        spec = self._listener(params["listener"]).spec
        facts = Facts(spec.name, params["peer"], profile=spec.profile_name, tls=params["tls"])
        for fact in ("helo", "user", "sender", "size"):
            setattr(facts, fact, params[fact])
        if params["recipient"] is not None:
            facts.recipients = (params["recipient"],)
        if params["run"]:
            facts.runs = frozenset({params["run"]})
        if params["header"]:
            name, colon, value = params["header"].partition(":")
            if not colon:
                raise CommandError("a field is NAME: VALUE", help="--header 'X-Test: abc'")
            facts.header = {name.strip().lower(): (value.strip(),)}
        return facts

    def _listener(self, name: str | None) -> Listener:
        listeners = list(self._daemon.listeners)
        if name is not None:
            (*_, listener) = self._daemon.listeners.select([name])
            return listener
        if len(listeners) != 1:
            raise CommandError(
                f"there are {len(listeners)} listeners", help="name one: --listener NAME"
            )
        return listeners[0]


def _names(rules: Iterable[Kept]) -> list[str]:
    return [kept.rule.name for kept in rules]

"""The fault rules there are: those of the configuration, and before them those that were added.

A rule is asked while it is enabled, has not fired as often as it may, and its time is not over. One
that was added and is over, or is a test run's, is forgotten an hour after it was asked last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

from msgspec.structs import replace

from mtad.errors import RuleError
from mtad.model.rules.decision import Hit, Ledger
from mtad.model.rules.values import Rule
from mtad.supervisor.events import Events
from mtad.supervisor.rule import Kept, Standing, as_written, says_the_same

MAX_ADDED = 10_000
"""How many rules can be added; so many and more in the configuration take a worker's time."""

FORGET_SECONDS = 3600.0
_LOOK_SECONDS = 60.0
# To tell the workers of a rule that is spent costs them more than to ask about it in vain.
_SPENT_SECONDS = 1.0


class Rules:
    """All rules by name, in the order in which they are asked.

    ``on_change()`` is called when others are asked than before: soon, where that is only because
    one has fired as often as it may.
    """

    def __init__(self, events: Events, on_change: Callable[[], None]) -> None:
        self.ledger = Ledger()
        self._events = events
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._added: dict[str, Kept] = {}
        self._written: dict[str, Kept] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._teller: asyncio.TimerHandle | None = None

    def __iter__(self) -> Iterator[Kept]:
        return chain(self._added.values(), self._written.values())

    def get(self, name: str) -> Kept:
        """Return the rule of that name. Raises RuleError: there is none."""
        kept = self._added.get(name) or self._written.get(name)
        if kept is None:
            names = [one.rule.name for one in islice(self, 10)]
            known = ", ".join(names) or "none"
            known += f" and {more} more" if (more := len(list(self)) - len(names)) > 0 else ""
            raise RuleError(f"no rule is called {name!r}", help=f"there are: {known}")
        return kept

    def of_run(self, run: str) -> list[Kept]:
        """Return the rules of a test run that were added."""
        return [kept for kept in self._added.values() if kept.rule.where.run == run]

    def standing(self, kept: Kept) -> Standing:
        """Return whether a rule is asked."""
        if kept.expired:
            return Standing.EXPIRED
        if self.ledger.is_spent(kept.rule.name):
            return Standing.SPENT
        return Standing.ON if kept.rule.enabled else Standing.DISABLED

    def in_force(self) -> tuple[Rule, ...]:
        """Return those that are asked."""
        return tuple(kept.rule for kept in self if self.standing(kept) is Standing.ON)

    # Changes: each of them is whole, or raises RuleError and changes nothing.

    def add(self, rules: Sequence[Rule], by: str, *, before: str = "", clear: bool = False) -> None:
        """Add rules behind those that were added, or ``before`` one of them.

        With ``clear`` those that were added are removed first.
        """
        old = {} if clear else self._added
        for rule in rules:
            if rule.name in old or rule.name in self._written:
                raise RuleError(
                    f"a rule is called {rule.name!r} already",
                    help="change it, or take another name",
                )
        if len(old) + len(rules) > MAX_ADDED:
            raise RuleError(f"there can be {MAX_ADDED} added rules, and no more")
        if before:
            self.get(before)
        if clear:
            self._drop(list(self._added.values()))
        new = {rule.name: self._keep(rule, by) for rule in rules}
        behind = dict(self._split(before))
        self._added = {**self._added, **new, **behind}
        for rule in rules:
            self._events.publish("rule.added", rule=rule.name, by=by)
        self._changed()

    def _split(self, before: str) -> list[tuple[str, Kept]]:
        """Take out the added rules from ``before`` on, and return them."""
        names = list(self._added)
        place = names.index(before) if before in self._added else len(names)
        return [(name, self._added.pop(name)) for name in names[place:]]

    def change(self, rule: Rule, by: str) -> None:
        """Have a rule say something else, in the place of the one of its name."""
        old = self.get(rule.name)
        self._end_timer(old)
        new = self._keep(replace(rule, source=old.rule.source), by)
        new.written = old.written
        place = self._added if rule.name in self._added else self._written
        place[rule.name] = new
        self._events.publish("rule.changed", rule=rule.name, by=by)
        self._changed()

    def enable(self, names: Iterable[str], enabled: bool, by: str) -> None:
        """Have rules asked, or not."""
        for kept in [self.get(name) for name in names]:
            if kept.rule.enabled is not enabled:
                kept.rule = replace(kept.rule, enabled=enabled)
                what = "rule.enabled" if enabled else "rule.disabled"
                self._events.publish(what, rule=kept.rule.name, by=by)
        self._changed()

    def reset(self, names: Iterable[str], by: str) -> None:
        """Have rules begin anew: their counts, and their time."""
        for kept in [self.get(name) for name in names]:
            self.ledger.reset(kept.rule.name)
            self._begin(kept)
            self._events.publish("rule.reset", rule=kept.rule.name, by=by)
        self._changed()

    def remove(self, names: Iterable[str], by: str) -> None:
        """Forget rules; those of the configuration come back with the next reload."""
        gone = [self.get(name) for name in dict.fromkeys(names)]
        self._drop(gone)
        for kept in gone:
            self._events.publish("rule.removed", rule=kept.rule.name, by=by)
        self._changed()

    def differences(self, rules: Sequence[Rule]) -> list[str]:
        """Return a line for each rule of the configuration that is another in ``rules``."""
        new = {rule.name: rule for rule in rules}
        lines = [f"rule {name}: removed" for name in self._written if name not in new]
        for name, rule in new.items():
            kept = self._written.get(name)
            if kept is None:
                gives_way = ", in place of the one that was added" if name in self._added else ""
                lines.append(f"rule {name}: new{gives_way}")
            elif kept.written is None or as_written(kept.written) != as_written(rule):
                lines.append(f"rule {name}: changed")
            elif not says_the_same(kept.rule, rule):
                lines.append(f"rule {name}: as it is written again")
        if [name for name in self._written if name in new] != [
            name for name in new if name in self._written
        ]:
            lines.append("rules: asked in another order")
        return lines

    def replace(self, rules: Sequence[Rule]) -> None:
        """Have these rules of the configuration; what has not changed goes on as it is.

        A rule that an operator has changed or removed is as it is written; one that was enabled or
        disabled stays so, unless the file has changed its mind.
        """
        old, self._written = self._written, {}
        self._drop([self._added[rule.name] for rule in rules if rule.name in self._added])
        for rule in rules:
            kept = old.get(rule.name)
            if kept is not None and says_the_same(kept.rule, rule):
                if kept.written is None or kept.written.enabled is not rule.enabled:
                    kept.rule = replace(kept.rule, enabled=rule.enabled)
                kept.written = rule
                self._written[rule.name] = old.pop(rule.name)
            else:
                new = self._keep(rule, "configuration", written=rule)
                if kept and kept.written and kept.written.enabled is rule.enabled:
                    new.rule = replace(rule, enabled=kept.rule.enabled)
                self._written[rule.name] = new
        for kept in old.values():
            self._end_timer(kept)
        self._changed()

    def extend(self, rules: Sequence[Rule]) -> None:
        """Have more rules of the configuration: of profiles that had not been named before."""
        for rule in rules:
            self._written[rule.name] = self._keep(rule, "configuration", written=rule)
        self._changed()

    # What sessions bring

    def weigh(self, hits: Sequence[Hit]) -> tuple[Rule | None, float]:
        """Return which of ``hits`` fires, None for none, and what was drawn."""
        name, draw = self.ledger.decide(hits, time.time())
        if not name:
            return None, 0.0
        rule = self.get(name).rule
        if self.ledger.is_spent(name):
            self._events.publish("rule.spent", rule=name, hits=rule.hits)
            if self._teller is None:
                self._teller = self._loop.call_later(_SPENT_SECONDS, self._tell_of_spent)
        return rule, draw

    # The rest

    def _keep(self, rule: Rule, by: str, written: Rule | None = None) -> Kept:
        kept = Kept(rule, by, 0.0, written)
        self._begin(kept)
        if rule.when.drawn:
            self._events.publish("rule.seed", rule=rule.name, seed=rule.when.seed)
        return kept

    def _begin(self, kept: Kept) -> None:
        """Have a rule's time begin."""
        self._end_timer(kept)
        kept.made, kept.expired = time.time(), False
        kept.seen, kept.idle_since = 0, self._loop.time()
        if kept.rule.seconds:
            kept.timer = self._loop.call_later(kept.rule.seconds, self._expire, kept)

    def _end_timer(self, kept: Kept) -> None:
        if kept.timer is not None:
            kept.timer.cancel()
            kept.timer = None

    def _expire(self, kept: Kept) -> None:
        kept.expired = True
        self._events.publish("rule.expired", rule=kept.rule.name, seconds=kept.rule.seconds)
        self._changed()

    def _drop(self, gone: Iterable[Kept]) -> None:
        for kept in gone:
            self._end_timer(kept)
            self._added.pop(kept.rule.name, None) or self._written.pop(kept.rule.name)

    def _changed(self) -> None:
        self.ledger.replace([kept.asked for kept in self])
        self._look_later()
        self._on_change()

    def _tell_of_spent(self) -> None:
        self._teller = None
        self._on_change()

    def _look_later(self) -> None:
        if self._added and self._sweeper is None:
            self._sweeper = self._loop.call_later(_LOOK_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Forget what was added, is a run's or over, and has not been asked for an hour."""
        now, forgotten = self._loop.time(), []
        for kept in self._added.values():
            seen = self.ledger.counts(kept.rule.name).seen
            if seen != kept.seen:
                kept.seen, kept.idle_since = seen, now
            is_over = self.standing(kept) in (Standing.SPENT, Standing.EXPIRED)
            if (kept.rule.where.run or is_over) and now - kept.idle_since >= FORGET_SECONDS:
                forgotten.append(kept)
        self._sweeper = None
        self._drop(forgotten)
        for kept in forgotten:
            self._events.publish("rule.removed", rule=kept.rule.name, by="time")
        self._look_later()
        if forgotten:
            self._changed()

"""The fault rules that there are now, as sessions of a listener take them when they begin."""

from __future__ import annotations

from collections.abc import Sequence

from mtad.model.rules.matching import RuleSet, is_for
from mtad.model.rules.values import Rule


class Rules:
    """The rules of this worker; ``serial`` counts how often there were others."""

    def __init__(self) -> None:
        self.serial = 0
        self._rules: Sequence[Rule] = ()
        self._compiled: dict[tuple[int, ...], RuleSet] = {}

    def replace(self, rules: Sequence[Rule]) -> None:
        """Have these from now on."""
        self.serial += 1
        self._rules = rules
        self._compiled.clear()

    def of(self, listener: str, profile: str) -> RuleSet:
        """Return the rules of a listener: listeners that have the same share one set."""
        here = tuple(
            number for number, rule in enumerate(self._rules) if is_for(rule, listener, profile)
        )
        if here not in self._compiled:
            rules = [self._rules[number] for number in here]
            self._compiled[here] = RuleSet(rules, listener, profile)
        return self._compiled[here]

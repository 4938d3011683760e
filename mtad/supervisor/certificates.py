"""The test CA of a running daemon: made before anything needs it, and told of when it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from mtad.config.load import Configuration
from mtad.model.rules.values import Rule
from mtad.supervisor import automatic_tls
from mtad.supervisor.events import Events
from mtad.supervisor.listeners import Listeners
from mtad.supervisor.rules import Rules


class Certificates:
    """What profiles with `tls: auto`, and ``rules``, have certificates from."""

    def __init__(self, events: Events, listeners: Listeners, rules: Rules) -> None:
        self._events = events
        self._listeners = listeners
        self._rules = rules

    def ensure(self, configuration: Configuration, new: Iterable[Rule] = ()) -> bool:
        """Have what a configuration and its rules need, those there are, and ``new`` ones.

        True: the CA is a new one. Listeners serve its certificate when they are updated.

        Raises:
            TlsError: it cannot be made.
        """
        rules = chain(configuration.rules(), self._there(), new)
        reason = automatic_tls.ensure(configuration, rules)
        if reason:
            ca = configuration.settings.automatic_tls().ca
            self._events.publish("tls.ca_created", file=str(ca), reason=reason)
        return bool(reason)

    def ensure_for(self, rules: Sequence[Rule], configuration: Configuration) -> None:
        """Have what new ``rules`` need. Raises TlsError as ``ensure``."""
        if self.ensure(configuration, rules):
            for listener in self._listeners:
                self._listeners.update(listener, listener.spec)

    def are_needed(self, configuration: Configuration) -> bool:
        """Whether there is a test CA that anybody could meet."""
        return automatic_tls.are_needed(configuration, self._there())

    def _there(self) -> Iterable[Rule]:
        return (kept.rule for kept in self._rules)

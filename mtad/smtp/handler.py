"""What an opening is served by: the handler that its profile names, or none, and the keeper."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from mtad.errors import HandlerError
from mtad.model.automatic_tls import AutomaticTls
from mtad.model.envelope import Store
from mtad.model.ids import Keys
from mtad.model.listener import Protocol
from mtad.model.profile import Profile, Switch
from mtad.model.rules.judge import Judge
from mtad.model.rules.matching import RuleSet
from mtad.smtp.capture import Capture
from mtad.smtp.faults.sessions import parts_for
from mtad.smtp.record import Recording
from mtad.smtp.recording import Recorded
from mtad.smtp.service import Service
from mtad.smtp.session import COMMANDS, Session, session_class
from mtad.tls.contexts import shared_context


class Makings:
    """What the sessions of an opening are made of; ``keys`` are for those that are recorded.

    ``automatic_tls`` is where the certificates are that rules may ask for.

    Raises:
        MtadError: the handler or the TLS of its profile cannot be had.
    """

    def __init__(
        self,
        listener: str,
        protocol: Protocol,
        profile: Profile,
        worker: int,
        keys: Keys,
        store: Store,
        automatic_tls: AutomaticTls,
        on_accepted: Callable[[int], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.service = Service(
            listener,
            worker,
            profile,
            protocol,
            load_handler(profile.handler) if profile.handler else None,
            Capture(store if profile.keep else None, on_accepted),
            shared_context(profile.tls) if profile.tls.key_pairs else None,
            COMMANDS,
            loop,
        )
        self._automatic_tls = automatic_tls
        self._recording = self._recorded(store, keys) if profile.keep else None

    def sessions(self, rules: RuleSet, judge: Judge) -> Callable[[Callable[[Any], None]], Session]:
        """Return what makes sessions that have these ``rules``."""
        service = self.service
        bases: tuple[type[Session], ...] = (Session,)
        others: dict[str, Any] = {}
        if self._recording is not None:
            bases = (Recorded,)
            others["recording"] = self._recording
        if rules:
            bases = (*parts_for(rules, service.profile), *bases)
            others |= {"rules": rules, "judge": judge, "automatic_tls": self._automatic_tls}
        return partial(session_class(bases, service.base), service, **others)

    def _recorded(self, store: Store, keys: Keys) -> Recording:
        service = self.service
        return Recording(
            store,
            keys,
            service.profile.transcripts,
            service.switch("PIPELINING") is Switch.ON,
            service.has_handler,
            service.is_lmtp,
        )


def load_handler(name: str) -> object:
    """Return an instance of the class ``package.module:Class``.

    Raises:
        HandlerError: it cannot be imported or made, with the reason.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)()
    except Exception as error:
        raise HandlerError(
            f"handler {name} cannot be used: {type(error).__name__}: {error}",
            help=f"it has to be installed for the daemon's Python, {sys.executable}, and made "
            "without arguments",
        ) from error

"""Fault rules that a test leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mtad.errors import UnavailableError
from mtad.testing.synchronous import Mtad


@contextmanager
def gone_afterwards(client: Mtad) -> Iterator[None]:
    """Have the rules that are added in the block removed behind it."""
    before = _added(client)
    yield
    try:
        new = _added(client) - before
        if new:
            client.call("rule.remove", names=sorted(new))
    except UnavailableError:
        pass  # the test has ended the daemon


def _added(client: Mtad) -> set[str]:
    return {rule.name for rule in client.rules() if rule.source == "added"}

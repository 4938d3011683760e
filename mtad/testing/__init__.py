"""For tests of applications that send mail: a client, a private daemon, a pytest plugin.

``Mtad`` and ``AsyncMtad`` ask a daemon what has arrived; ``Daemon`` starts one for a test run.
pytest finds the plugin by itself (docs/testing.md).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtad.errors import ExpectationError, MtadTimeoutError, UnexpectedMailError
    from mtad.testing.asynchronous import AsyncMtad
    from mtad.testing.daemon import Daemon
    from mtad.testing.handles import AsyncListener, AsyncMessage, AsyncRule
    from mtad.testing.model import Details, Part, RuleSummary, Session, Summary
    from mtad.testing.synchronous import Listener, Message, Mtad, Rule

__all__ = [
    "AsyncListener",
    "AsyncMessage",
    "AsyncMtad",
    "AsyncRule",
    "Daemon",
    "Details",
    "ExpectationError",
    "Listener",
    "Message",
    "Mtad",
    "MtadTimeoutError",
    "Part",
    "Rule",
    "RuleSummary",
    "Session",
    "Summary",
    "UnexpectedMailError",
]

_MODULES = {
    "mtad.errors": ("ExpectationError", "MtadTimeoutError", "UnexpectedMailError"),
    "mtad.testing.asynchronous": ("AsyncMtad",),
    "mtad.testing.daemon": ("Daemon",),
    "mtad.testing.handles": ("AsyncListener", "AsyncMessage", "AsyncRule"),
    "mtad.testing.model": ("Details", "Part", "RuleSummary", "Session", "Summary"),
    "mtad.testing.synchronous": ("Listener", "Message", "Mtad", "Rule"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is: pytest loads the plugin in every project (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

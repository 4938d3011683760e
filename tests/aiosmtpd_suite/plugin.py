"""The pytest plugin that puts mtad's session in the place of aiosmtpd's server.

It is loaded before any module of the suite (``-p``).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.resources
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import aiosmtpd.smtp
import pytest
from aiosmtpd_suite.server import Lmtp, Server

_patch = pytest.MonkeyPatch()
# Before the modules that import it by name.
_patch.setattr(aiosmtpd.smtp, "SMTP", Server)
import aiosmtpd.controller  # noqa: E402
import aiosmtpd.lmtp  # noqa: E402
from aiosmtpd.testing.statuscodes import SMTP_STATUS_CODES, StatusCode  # noqa: E402

_patch.setattr(aiosmtpd.lmtp, "LMTP", Lmtp)


class _ByCode(StatusCode):
    """A reply that the suite expects: mtad says the same in other words.

    Only replies of the suite's table; what its handlers say is compared to the letter.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple) and self.code == other[0]

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = StatusCode.__hash__

    def __call__(self, *arguments: bytes) -> _ByCode:
        return type(self)(*super().__call__(*arguments))


for _name, _status in vars(SMTP_STATUS_CODES).items():
    if isinstance(_status, StatusCode):
        _patch.setattr(SMTP_STATUS_CODES, _name, _ByCode(*_status))


def _implicit_tls(create: Any) -> Any:
    """Leave TLS to the session."""

    @functools.wraps(create)
    def create_server(
        loop: Any, factory: Any, *arguments: Any, ssl: Any = None, **rest: Any
    ) -> Any:
        def make() -> Any:
            protocol = factory()
            if isinstance(protocol, Server):
                protocol.implicit_tls = ssl
            return protocol

        return create(loop, make, *arguments, **rest)

    return create_server


for _kind in ("create_server", "create_unix_server"):
    _create = getattr(asyncio.SelectorEventLoop, _kind)
    _patch.setattr(asyncio.SelectorEventLoop, _kind, _implicit_tls(_create))


def _cut_first(cancel: Any) -> Any:
    """Cut what is connected: a session is more than the tasks that a controller knows."""

    @functools.wraps(cancel)
    def cancel_tasks(controller: Any, *arguments: Any, **rest: Any) -> None:
        Server.cut_all(controller.loop)
        cancel(controller, *arguments, **rest)

    return cancel_tasks


_controller = aiosmtpd.controller.BaseController
_patch.setattr(_controller, "cancel_tasks", _cut_first(_controller.cancel_tasks))


def _may_be_reset(trigger: Any) -> Any:
    """Let a controller's own first connection be reset: it sends no PROXY header."""

    @functools.wraps(trigger)
    def trigger_server(controller: Any) -> None:
        with contextlib.suppress(ConnectionResetError):
            trigger(controller)

    return trigger_server


_inet = aiosmtpd.controller.InetMixin
_patch.setattr(_inet, "_trigger_server", _may_be_reset(_inet._trigger_server))


class _PackageResources(ModuleType):
    """The one function of a package that Python no longer brings."""

    @staticmethod
    def resource_filename(package: str, name: str) -> str:
        return str(importlib.resources.files(package) / name)


_patch.setitem(sys.modules, "pkg_resources", _PackageResources("pkg_resources"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the caller asks for."""
    parser.addoption("--outcomes", type=Path, help="a JSON file: the outcome of each test")
    parser.addoption("--bracket", action="store_true", help="put bare addresses in angle brackets")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Function) -> None:
    """Put the address in angle brackets, if that is asked for."""
    if item.config.getoption("--bracket"):
        address = str(item.callspec.params["address"]).strip()
        item.callspec.params["address"] = address if address.startswith("<") else f"<{address}>"


_outcomes: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how a test went: a failure in any of its phases counts."""
    name = report.nodeid[report.nodeid.index("::") :]
    if _outcomes.get(name) != "failed":
        _outcomes[name] = report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write it all down."""
    session.config.getoption("--outcomes").write_text(json.dumps(_outcomes))

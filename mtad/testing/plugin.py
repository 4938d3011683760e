"""The pytest plugin: a daemon for the test run, and a client for each test.

pytest loads this in every project, so it imports nothing until a test wants it.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mtad.testing.asynchronous import AsyncMtad
    from mtad.testing.config import Config
    from mtad.testing.daemon import Daemon
    from mtad.testing.synchronous import Mtad

_USED = pytest.StashKey[tuple["Daemon", "Mtad", float]]()
"""What a test uses, and since when: for the report of its failure."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of pytest's configuration file."""
    parser.addini(
        "mtad_config",
        "YAML file, relative to the root directory, that is laid over the daemon's configuration",
        default="",
    )
    parser.addini(
        "mtad_timeout", "how many seconds the fixture mtad waits for a message", default="10"
    )


@pytest.fixture(scope="session")
def mtad_config(pytestconfig: pytest.Config) -> Config:
    """What is laid over the daemon's default configuration: override it, or set it as an option.

    One override, for the whole run: pytest makes a fixture of the session once.
    """
    name: str = pytestconfig.getini("mtad_config")
    return pytestconfig.rootpath / name if name else {}


@pytest.fixture(scope="session")
def mtad_daemon(mtad_config: Config) -> Iterator[Daemon]:
    """A daemon of the test run's own; under pytest-xdist, of each worker's."""
    from mtad.testing.daemon import Daemon

    with Daemon(mtad_config) as daemon:
        yield daemon


@pytest.fixture
def mtad(request: pytest.FixtureRequest, mtad_daemon: Daemon) -> Iterator[Mtad]:
    """A client that sees the mail of this test, and none before; fault rules go with the test."""
    from mtad.testing.rules import gone_afterwards
    from mtad.testing.synchronous import Mtad

    client = Mtad(
        mtad_daemon.socket,
        after=mtad_daemon.client.cursor(),
        timeout=_seconds(request.config.getini("mtad_timeout")),
    )
    request.node.stash[_USED] = mtad_daemon, client, time.time()
    with gone_afterwards(client):
        yield client


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise pytest.UsageError(f"mtad_timeout: expected seconds, found {text!r}") from None


@pytest.fixture
def amtad(mtad: Mtad) -> AsyncMtad:
    """The fixture mtad for tests that are coroutines."""
    return mtad.asynchronous()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Add to the report of a test that failed what was said in its sessions."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    if report.failed and (used := item.stash.get(_USED, None)):
        from mtad.testing.report import sections

        report.sections += sections(*used)

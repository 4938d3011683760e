"""Fixtures for every test; what cannot run here is skipped by name."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import Daemon, config, home
from harness.netns import namespace

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell starts what is to run in the background: what we start would ignore it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

collect_ignore = ["example"]
"""A project of its own, whose tests are run by integration/test_testing.py."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root where there is none."""
    if os.geteuid() == 0:
        return
    needs_root = pytest.mark.skip(reason="needs root: run scripts/test as root or with sudo")
    for item in items:
        if item.get_closest_marker("root") or item.get_closest_marker("netns"):
            item.add_marker(needs_root)


@pytest.fixture
def netns() -> Iterator[None]:
    """Run the test in a network namespace of its own."""
    with namespace():
        yield


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that the daemon's user can reach."""
    with home() as path:
        yield path


@pytest.fixture
def started(directory: Path) -> Iterator[Callable[..., Daemon]]:
    """A function that starts a daemon with ``config(directory, …)`` and waits until it is ready."""
    with ExitStack() as running:

        def start(*, ready: bool = True, prefix: tuple[str, ...] = (), **options: Any) -> Daemon:
            daemon = Daemon(directory, config(directory, **options), prefix=prefix)
            running.enter_context(daemon)
            return daemon.wait_ready() if ready else daemon

        yield start

"""The shop under test sends its mail to the daemon of the test run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from shop import Shop

from mtad.testing import Daemon


@pytest.fixture
def shop(mtad_daemon: Daemon, record_property: Callable[[str, object], None]) -> Shop:
    record_property("daemon", mtad_daemon.process.pid)
    return Shop(mtad_daemon.host, mtad_daemon.port)

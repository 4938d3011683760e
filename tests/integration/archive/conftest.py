"""A daemon for the tests of this directory, that takes whatever comes, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.daemon import Daemon, config, home
from harness.sender import Sender

LENIENT = """\
profiles:
  default:
    newlines: lenient
    limits:
      message_size: 67108864
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with home() as directory, Daemon(directory, config(directory, extra=LENIENT)) as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def sender(daemon: Daemon) -> Iterator[Sender]:
    client = Sender(daemon.port())
    yield client
    client.close()

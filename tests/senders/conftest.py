"""A daemon for the senders of a module, in a network of the module's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.netns import namespace
from harness.receiver import Receiver, receiver


@pytest.fixture(scope="module")
def mx() -> Iterator[Receiver]:
    with namespace(), receiver() as receiving:
        yield receiving

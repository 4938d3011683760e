"""The loop of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loop that pytest-asyncio runs the dialogues on."""
    return {"uvloop": uvloop.new_event_loop}

"""Both loops: asyncio's own, and the one of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loops that pytest-asyncio runs each test on."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

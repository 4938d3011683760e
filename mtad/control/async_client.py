"""The asynchronous twin of mtad.control.client: one call over a connection of its own."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtad.control import wire
from mtad.control.client import result_of, unavailable

_PIECE = 65_536
"""Octets that are read at once, at most."""

__tracebackhide__ = True
"""pytest shows the line of the test that has called, and not those here."""


async def call(
    path: Path, method: str, params: dict[str, Any], *, patience: float | None = None
) -> dict[str, Any]:
    """Have ``method`` carried out by the daemon at ``path``, and return its result.

    ``patience`` is how long that may take, in seconds (None: for ever). Cancelled, it ends the
    connection, and the daemon gives up what it was waiting for.

    Raises:
        CommandError: it is refused.
        UnavailableError: no daemon answers, or it took too long.
    """
    try:
        async with asyncio.timeout(patience):
            line = await _exchange(path, wire.request_line(1, method, params))
    except OSError as error:
        raise unavailable(path, error) from error
    return result_of(path, line)


async def _exchange(path: Path, request: bytes) -> bytes:
    """Send ``request``; return the line that comes back, or nothing at the connection's end.

    No stream of asyncio's: one whose write fails throws away what there is to be read.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, os.fspath(path))
        # Where we were sent away, why is there to be read.
        with suppress(BrokenPipeError, ConnectionResetError):
            await loop.sock_sendall(connection, request)
        line = bytearray()
        with suppress(ConnectionResetError):
            while octets := await loop.sock_recv(connection, _PIECE):
                line += octets
                if octets.endswith(b"\n"):
                    return bytes(line)
    return b""

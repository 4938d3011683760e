"""Telling the service manager how we are: the protocol of sd_notify(3)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


class ServiceManager:
    """The socket that NOTIFY_SOCKET names; without one, nothing is sent.

    The variables are taken out of the environment: what we start must not speak for us.
    """

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        watchdog = os.environ.pop("WATCHDOG_USEC", "")
        os.environ.pop("WATCHDOG_PID", None)
        self.watchdog_seconds = int(watchdog) / 1_000_000 if watchdog.isdecimal() else 0.0
        """Within how many seconds a sign of life is expected; 0: never."""
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            with suppress(OSError):
                self._socket.connect("\0" + address[1:] if address.startswith("@") else address)

    def tell(self, *assignments: str) -> None:
        """Send ``READY=1`` and the like; a manager that does not listen is left alone."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send("\n".join(assignments).encode())

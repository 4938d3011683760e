"""A relay between a sender and a server that notes who said what, in order."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# What the server says is held back for so long: what a sender says without waiting for it comes
# before it, however the sender writes and the machine schedules.
_DELAY = 0.05


class Tap:
    """Relays the connections to ``port`` of ``address``, one at a time, to ``to``."""

    def __init__(self, listening: socket.socket, to: tuple[str, int]) -> None:
        self.port: int = listening.getsockname()[1]
        self.turns: list[tuple[str, bytes]] = []
        self._listening = listening
        self._to = to
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def said(self) -> list[bytes]:
        """Return what the client said, all that it said without a reply in one piece."""
        return [octets for who, octets in self.turns if who == "client"]

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with client, socket.create_connection(self._to) as server:
                back = threading.Thread(target=self._carry, args=("server", server, client))
                back.start()
                self._carry("client", client, server)
                back.join()

    def _carry(self, who: str, source: socket.socket, target: socket.socket) -> None:
        pause = threading.Event()
        try:
            while octets := source.recv(65536):
                if who == "server":
                    pause.wait(_DELAY)
                if self.turns and self.turns[-1][0] == who:
                    self.turns[-1] = (who, self.turns[-1][1] + octets)
                else:
                    self.turns.append((who, octets))
                target.sendall(octets)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # either side may go as it likes

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@contextmanager
def tap(to: tuple[str, int], address: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[Tap]:
    """Relay ``address`` to ``to`` while the block runs; senders have ended when it does."""
    made = Tap(socket.create_server(address), to)
    try:
        yield made
    finally:
        made.close()

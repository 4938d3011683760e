"""The places in the content of a message where rules are asked."""

from __future__ import annotations

from collections.abc import Iterable

from mtad.model.rules.values import At
from mtad.smtp.frame import MessageReader


class Positions:
    """The positions of a message that are still to come, as its octets are counted.

    Counted is what has come behind 354, as it has come; a line ends with LF.
    """

    def __init__(self, positions: Iterable[At]) -> None:
        ahead = list(positions)
        self._octets = sorted((at for at in ahead if at.octets), key=lambda at: -at.octets)
        self._lines = sorted((at for at in ahead if at.lines), key=lambda at: -at.lines)
        self._seen = 0
        self._ended = 0  # lines

    def find(self, buffer: bytes | bytearray, start: int, end: int) -> tuple[At | None, int]:
        """Return the first position in ``buffer[start:end]``, None for none, and where it is."""
        reached: At | None = None
        stop = end
        if self._octets and self._octets[-1].octets - self._seen <= end - start:
            reached = self._octets[-1]
            stop = start + reached.octets - self._seen
        if self._lines:
            line_end = self._line_end(buffer, start, stop)
            if line_end is not None:
                reached, stop = self._lines[-1], line_end
        return reached, stop

    def _line_end(self, buffer: bytes | bytearray, start: int, end: int) -> int | None:
        """Return where the line ends that is waited for."""
        wanted = self._lines[-1].lines - self._ended
        if buffer.count(b"\n", start, end) < wanted:
            return None
        at = start
        for _ in range(wanted):
            at = buffer.find(b"\n", at, end) + 1
        return at

    def count(self, buffer: bytes | bytearray, start: int, end: int) -> None:
        """Count what has come."""
        if self._lines:
            self._ended += buffer.count(b"\n", start, end)
        self._seen += end - start

    def drop(self, position: At) -> None:
        """Forget a position, which was reached."""
        (self._octets if position.octets else self._lines).pop()


class WatchedReader:
    """Reads what ``reader`` reads, and stops at each position: ``reached``.

    So many octets of the chunk are then ``left``. At the end of what is read none is reached.
    """

    def __init__(self, reader: MessageReader, positions: Positions) -> None:
        self.ended = False
        self.unread = 0
        self.reached: At | None = None
        self.left = 0
        self._reader = reader
        self._positions = positions

    def feed(self, buffer: bytes | bytearray, start: int, end: int) -> bytes | memoryview:
        """Take the chunk, up to the next position."""
        reached, stop = self._positions.find(buffer, start, end)
        octets = self._reader.feed(buffer, start, stop)
        self.ended, unread = self._reader.ended, self._reader.unread
        self._positions.count(buffer, start, stop - unread)
        self.left = end - stop
        self.unread = unread + self.left
        self.reached = None if self.ended else reached
        if self.reached is not None:
            self._positions.drop(self.reached)
        return octets

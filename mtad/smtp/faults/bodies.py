"""Rules while the content of a message comes, and what is kept of its beginning for later ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mtad.model.rules.values import At, Do, Moment
from mtad.smtp.body import DataReader
from mtad.smtp.envelope import ChunkReader, Transaction
from mtad.smtp.faults.acting import Acting
from mtad.smtp.faults.answers import NOTHING, REFUSAL, answer, ends, is_positive
from mtad.smtp.faults.facts import facts_of
from mtad.smtp.faults.header import Head
from mtad.smtp.faults.positions import Positions, WatchedReader
from mtad.smtp.frame import MessageReader
from mtad.smtp.lines import Run

_BEGINNING = At(Moment.BODY)

Sink = Callable[[bytes | memoryview], None]


class WithHead(Acting):
    """A session that remembers the beginning of each message: ``head``."""

    head: Head

    def _begin_body(self, envelope: Transaction) -> None:
        super()._begin_body(envelope)
        self.head = Head()

    def read(self, reader: MessageReader, sink: Sink, ended: Callable[[Any], Run]) -> None:
        """Take the octets that follow, and remember the first of a message."""
        super().read(reader, _both(self.head.add, sink) if _is_content(reader) else sink, ended)


class AtBody(Acting):
    """The beginning of a content, and places in it."""

    _positions = Positions(())  # those that are ahead in the message that comes

    def _begin_body(self, envelope: Transaction) -> None:
        super()._begin_body(envelope)
        self._positions = Positions(at for at in self.rules.positions if at != _BEGINNING)

    def read(self, reader: MessageReader, sink: Sink, ended: Callable[[Any], Run]) -> None:
        """Take the octets that follow, and stop where a rule is to be asked."""
        if _is_content(reader):
            super().read(WatchedReader(reader, self._positions), sink, lambda _: ended(reader))
        else:
            super().read(reader, sink, ended)

    def do_data(self, envelope: Transaction) -> Run:
        """Take a message."""
        run = super().do_data(envelope)
        self._begun()
        return run

    def do_bdat(self, envelope: Transaction, chunk: ChunkReader) -> Run:
        """Take a chunk."""
        is_first = envelope.body is None
        run = super().do_bdat(envelope, chunk)
        if is_first:
            self._begun()
        return run

    def _begun(self) -> None:
        """Be at the beginning of a content."""
        if self.body is not None and not self.is_over:
            self.at_moment(_BEGINNING, facts_of(self), self._within)

    def _read_body(
        self, body: MessageReader, buffer: bytes | bytearray, start: int, end: int
    ) -> None:
        super()._read_body(body, buffer, start, end)
        if isinstance(body, WatchedReader) and body.reached is not None:
            self._input = bytes(memoryview(buffer)[end - body.left : end])
            self.at_moment(body.reached, facts_of(self), self._within)

    def _within(self, do: Do) -> Run:
        """Answer before the message has ended, which is then its answer."""
        envelope = self.envelope
        if answer(do) is not None:
            if envelope is not None and not is_positive(do):
                envelope.refuse(REFUSAL)
            self.say_only(do)
            if not self.is_over:
                self.say_next(_nothing, NOTHING)
        elif ends(do):
            self.say_only(do)
        return None


def _is_content(reader: MessageReader) -> bool:
    """Whether it reads a message, or a chunk that belongs to one."""
    return isinstance(reader, DataReader) or (
        isinstance(reader, ChunkReader) and reader.refusal is None
    )


def _nothing(_: bytes) -> tuple[()]:
    """Say nothing: it is said already."""
    return ()


def _both(first: Sink, second: Sink) -> Sink:
    def sink(octets: bytes | memoryview) -> None:
        first(octets)
        second(octets)

    return sink

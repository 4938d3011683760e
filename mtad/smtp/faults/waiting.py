"""A session that waits, or is silent, because a rule says so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mtad.smtp.faults.alarm import Alarm
from mtad.smtp.faults.connection import FaultyConnection
from mtad.smtp.lines import Run
from mtad.smtp.reply import Refusal, encode
from mtad.smtp.session import Session
from mtad.smtp.stage import Stage


class Waiting(Session):
    """A session that can wait without a task, and fall silent.

    While it waits it takes nothing more. One that is silent reads all, says nothing, and stays as
    long as its client does: neither has a timeout.
    """

    connection: FaultyConnection
    connection_class = FaultyConnection
    _timer: Alarm | None = None  # of a delay
    _holds = False  # nothing is taken: a rule waits, or speaks at length
    _is_silent = False
    _ignored = 0  # octets, since then

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be said now."""
        return self._ended or self._holds or self._is_silent

    def hold(self) -> None:
        """Take nothing more until ``go_on``."""
        self._holds = self._waits = True

    def wait(self, seconds: float, then: Callable[[], Run]) -> None:
        """Take nothing for so long, and go on with ``then``; a client that goes away ends it."""
        self.hold()
        self._timer = Alarm(self.service.loop, seconds, partial(self._waited, then))

    def _waited(self, then: Callable[[], Run]) -> None:
        self._timer = None
        self.go_on(then)

    def go_on(self, then: Callable[[], Run]) -> None:
        """Do what was waited for, and take what has come meanwhile."""
        self._holds = False
        self.update_waits()
        if self._ended:
            return
        self.connection.last = self.service.loop.time()
        try:
            run = then()
        except Refusal as refusal:
            self.reply(encode(refusal.reply))
        except Exception as error:
            self.reply(self._fault(error))
        else:
            if run is not None:
                self.drive(run)
        self.turn()

    def update_waits(self) -> None:
        """Find out whether anything can be answered now."""
        super().update_waits()
        self._waits = self._waits or self._holds or self._is_silent

    def _may_end(self) -> bool:
        return not self._holds and super()._may_end()

    # Silence

    def fall_silent(self) -> None:
        """Say what is to be said, and nothing from then on."""
        self.flush()
        if self._ended:
            return
        self._is_silent = self._waits = True
        self.end_transaction()
        # The methods of other sessions do not have to look.
        vars(self).update(data_received=self._ignore, receive=self._ignore_message)
        self._forget_input()

    def _ignore(self, data: bytes) -> None:
        type(self).data_received(self, data)
        self._forget_input()

    def _ignore_message(self, buffer: bytearray, length: int) -> None:
        type(self).receive(self, buffer, length)
        self._forget_input()

    def _forget_input(self) -> None:
        self._ignored += self.drop_input()
        if not self._ended:
            self.connection.resume_reading()

    # The end

    def eof_received(self) -> bool:
        """End with the client that a rule lets wait: it has given up."""
        if self._is_silent or self._timer is not None:
            self.end()
            return True
        return super().eof_received()

    def check(self, now: float) -> None:
        """End what has been silent for too long; where a rule is silent, what has no client."""
        connection = self.connection
        if not self._ended and (self._is_silent or self._timer is not None):
            if connection.has_hung_up():
                self.end()
            connection.last = now
            return
        if connection.is_slow:
            connection.heard = True
        super().check(now)

    def drain(self) -> None:
        """End the session as soon as may be; one that is silent says no goodbye."""
        if self._is_silent:
            self.stage(Stage.STOPPED)
            self.end()
        else:
            super().drain()

    def connection_lost(self, error: Exception | None) -> None:
        """Give up what is under way."""
        if self._timer is not None:
            self._timer.cancel()
        if self._ignored and self.body is None:
            self.stage(Stage.IGNORED, str(self._ignored))
        super().connection_lost(error)

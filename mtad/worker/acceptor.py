"""What a worker does with one opening: accept, keep track of the sessions, and end them."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from mtad.ipc.counters import Counters
from mtad.ipc.loads import Load
from mtad.ipc.messages import Opening
from mtad.log import event
from mtad.model.automatic_tls import AutomaticTls
from mtad.model.envelope import Store
from mtad.model.ids import Keys
from mtad.smtp.handler import Makings
from mtad.smtp.poller import Poller
from mtad.smtp.session import Session
from mtad.smtp.stage import Stage
from mtad.smtp.stream import Outbox
from mtad.worker.admissions import Admissions
from mtad.worker.judge import OpeningsJudge, Questions
from mtad.worker.rules import Rules

_log = logging.getLogger("mtad.worker")

_PAUSE_SECONDS = 0.1
# How long a connection is left to workers that have fewer sessions.
_MOMENT_SECONDS = 0.001
# And how many are accepted then, at most, before the others have another moment.
_MOST_AT_ONCE = 256
# Octets that the kernel takes for a client beyond what it has sent (tcp(7)); Python has no name
# for the option.
_TCP_NOTSENT_LOWAT = 25
_NOT_SENT = 16_384
# A client whose kernel answers nothing for two minutes is gone: seconds, seconds, times.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 20, socket.TCP_KEEPCNT: 3}
# The connection is gone before it was accepted (accept(2)), or another worker has taken it.
_NOTHING_TO_ACCEPT = frozenset(
    {errno.EAGAIN, errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EPERM}
)


@dataclass(frozen=True, slots=True)
class Common:
    """What all openings of a worker have in common.

    ``on_drained(id)`` is called once for each, when it accepts no more and no session is left.
    """

    worker: int
    keys: Keys
    store: Store
    automatic_tls: AutomaticTls
    counters: Counters
    load: Load
    admissions: Admissions
    rules: Rules
    questions: Questions
    poller: Poller
    on_drained: Callable[[int], None]


class Acceptor:
    """An opening in this worker, until its last session has ended.

    Raises:
        MtadError: the opening cannot be served: its handler or its TLS.
    """

    def __init__(self, opening: Opening, listening: socket.socket, common: Common) -> None:
        self.opening = opening
        self._socket = listening
        self._common = common
        self._counters = common.counters
        self._load = common.load
        self._tickets: dict[Session, int] = {}
        self._sessions: set[Session] = set()
        self._is_drained = False
        self._loop = asyncio.get_running_loop()
        # Who reads what a rule has made of a reply, finds it counted.
        self._outbox = Outbox(self._loop, common.questions.tell)
        self._most_left = 1
        self.configure(opening)
        self._grace: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._moment: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        if listening.family != socket.AF_UNIX:
            # Accepted sockets inherit it: one call, and not one for each (tcp(7)).
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Who never reads fills little more than our own buffer, not megabytes of the kernel's.
            listening.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _NOT_SENT)
            # Where a rule waits or is silent, nothing else tells of a client that has vanished.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE.items():
                listening.setsockopt(socket.IPPROTO_TCP, option, value)
        self._loop.add_reader(listening, self._readable)
        self._load.change(0)

    def configure(self, opening: Opening) -> None:
        """Serve new sessions by what the opening is now. Raises MtadError as the constructor."""
        self._makings = Makings(
            opening.listener,
            opening.protocol,
            opening.profile,
            self._common.worker,
            self._common.keys,
            self._common.store,
            self._common.automatic_tls,
            self._accepted,
            self._loop,
        )
        self.opening = opening
        self._serial = -1  # of no set of rules: they are looked up when somebody comes
        timeouts = opening.profile.timeouts
        # Late by a tenth at most, and never busy.
        shortest = min(timeouts.command, timeouts.data, timeouts.handshake)
        self._tick = min(max(shortest / 10, 0.02), 5.0)

    def retire(self) -> None:
        """Accept no more; sessions go on until they end by themselves."""
        self._stop_accepting()
        self._tell_if_drained()

    def close(self, grace: float) -> None:
        """Accept no more; let transactions finish within ``grace`` seconds, or cut now at 0."""
        self._stop_accepting()
        if self._grace is not None:
            self._grace.cancel()
        if grace > 0:
            self._grace = self._loop.call_later(grace, self._cut)
            for session in list(self._sessions):
                session.drain()
        else:
            self._cut()
        self._tell_if_drained()

    def _readable(self) -> None:
        # One connection a wake-up: the other workers, woken too, take their share.
        if self._load.is_ahead():
            self._loop.remove_reader(self._socket)
            self._moment = self._loop.call_later(_MOMENT_SECONDS, self._take_what_is_left)
        else:
            self._most_left = 1
            self._accept()

    def _take_what_is_left(self) -> None:
        """Accept what the other workers have left for too long, and more each time they do so."""
        self._moment = None
        if self._socket.fileno() < 0:
            return
        self._resume()
        for _ in range(self._most_left):
            if not self._accept():
                self._most_left = 1
                return
        self._most_left = min(2 * self._most_left, _MOST_AT_ONCE)

    def _accept(self) -> bool:
        """Begin a session, if somebody waits for it."""
        try:
            connection, peer = self._socket.accept()
        except OSError as error:
            self._accept_failed(error)
            return False
        if self._serial != self._common.rules.serial:
            self._take_rules()
        session = self._session(self._ended)
        service = session.service
        self._sessions.add(session)
        self._counters.session_opened(self.opening.slot)
        self._load.change(1)
        if self._watch is None:
            self._watch = self._loop.call_later(self._tick, self._check)
        session.connection = session.connection_class(
            connection, peer, session, self._outbox, self._common.poller
        )
        session.stage(Stage.CONNECTED)
        limits = service.limits
        if limits.sessions or limits.sessions_per_peer:
            self._ask(session)
        else:
            self._begin(session)
        return True

    def _take_rules(self) -> None:
        """Make sessions that have the rules of now: those that go on keep theirs."""
        common = self._common
        self._serial = common.rules.serial
        rules = common.rules.of(self.opening.listener, self.opening.profile_name)
        judge = OpeningsJudge(common.questions, self.opening.id)
        self._session = self._makings.sessions(rules, judge)

    def _ask(self, session: Session) -> None:
        """Begin when the supervisor, which counts for all workers, has said whether."""

        def answered(refused_by: str) -> None:
            session.refused_by = refused_by
            if refused_by:
                del self._tickets[session]
            self._begin(session)

        peer = _host(session.connection.peer) or "unix"
        self._tickets[session] = self._common.admissions.ask(self.opening.id, peer, answered)

    def _begin(self, session: Session) -> None:
        service, connection = session.service, session.connection
        header = bool(service.proxies) and _host(connection.peer) in service.proxies
        session.begin(header=header)

    def _check(self) -> None:
        """Look for those who have been silent for too long."""
        now = self._loop.time()
        for session in list(self._sessions):
            session.check(now)
        self._watch = self._loop.call_later(self._tick, self._check) if self._sessions else None

    def _accept_failed(self, error: OSError) -> None:
        if error.errno in _NOTHING_TO_ACCEPT:
            return
        self._loop.remove_reader(self._socket)
        if error.errno != errno.EINVAL:  # EINVAL: shut down by the supervisor, Close follows
            # EMFILE and its like: the connection stays in the backlog, and would wake us at once.
            event(_log, logging.ERROR, "accept.paused", reason=error.strerror)
            self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket, self._readable)

    def _ended(self, session: Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
            self._counters.session_closed(self.opening.slot)
            self._load.change(-1)
            if self._moment is not None and not self._load.is_ahead():
                self._moment.cancel()
                self._moment = None
                self._resume()
            if session in self._tickets:
                self._common.admissions.leave(self._tickets.pop(session))
            self._tell_if_drained()

    def _accepted(self, octets: int) -> None:
        self._counters.message_accepted(self.opening.slot, octets)

    def _cut(self) -> None:
        for session in list(self._sessions):
            session.cut()

    def _stop_accepting(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _tell_if_drained(self) -> None:
        if self._socket.fileno() < 0 and not self._sessions and not self._is_drained:
            self._is_drained = True
            for timer in (self._grace, self._watch):
                if timer is not None:
                    timer.cancel()
            self._common.on_drained(self.opening.id)


def _host(peer: object) -> str | None:
    return str(peer[0]) if isinstance(peer, tuple) else None

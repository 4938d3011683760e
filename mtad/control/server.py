"""The server of the control socket: whom it lets in, what it carries out, and what it logs.

It distrusts everyone: a peer is known by the credentials the kernel gives (peer.py), may do what
its roles allow, and is bounded in lines, memory and time (connection.py). A peer without a role
is told so and sent away; nothing it sends is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from mtad.control.calls import Relayed
from mtad.control.commands import COMMANDS, help_on
from mtad.control.connection import Connection
from mtad.control.grammar import Command, Role
from mtad.control.peer import Caller
from mtad.control.socket import BACKLOG
from mtad.control.wire import Code
from mtad.errors import CommandError
from mtad.ipc.questions import Form
from mtad.log import event

Result = dict[str, Any]

Outcome = Result | Coroutine[Any, Any, Result] | AsyncGenerator[Result, None]
Relay = Callable[
    [Command, dict[str, Any], Form],
    Coroutine[Any, Any, Relayed | AsyncGenerator[Relayed, None]],
]
"""Has a command of the table's ``relayed`` carried out elsewhere, with a result of that form."""
Handler = Callable[[Caller, dict[str, Any]], Outcome]
"""Carries out one command; gets every parameter of the table, defaults filled in.

A result that is there at once is the quickest. A coroutine runs in a task of its own, which is
cancelled when the client goes away; so is a stream, whose handler subscribes before it returns.
It raises CommandError, or any MtadError, to refuse.
"""

log = logging.getLogger(__name__)

_LOGGED_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the server; times are in seconds.

    The last ``reserved`` of ``connections`` are for callers who may operate. ``line`` is how long
    a line may take to arrive, ``idle`` how long a connection may say nothing, ``linger`` how long
    one that was sent away may take to read why, ``turn`` how long the lines of one connection are
    answered before the others have theirs. ``unread`` is how many octets of answers wait in memory
    for clients that do not read, all together.
    """

    connections: int = 256
    reserved: int = 16
    line: float = 10.0
    idle: float = 600.0
    linger: float = 2.0
    turn: float = 0.005
    unread: int = 67_108_864


class ControlServer:
    """Answers control commands on a listening unix socket.

    ``handlers`` has one for each method of the table but ``help`` and those that ``relay`` has
    carried out; ``authorise`` gives the roles of a caller (none: it is sent away).
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        authorise: Callable[[Caller], frozenset[Role]],
        relay: Relay,
        *,
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._handlers = {**handlers, "help": _help}
        self._authorise = authorise
        self._relay = relay
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        own = {method for method, command in COMMANDS.items() if not command.relayed}
        if odd := self._handlers.keys() ^ own:
            raise ValueError(f"handlers and commands do not match: {', '.join(sorted(odd))}")

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on ``sock``, which is bound."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: Connection(self), sock=sock, backlog=BACKLOG
        )

    async def close(self) -> None:
        """Stop accepting, answer what still waits with an error, and end every connection."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.end()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), self.limits.linger)
        for connection in list(self._connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def admit(self, connection: Connection, caller: Caller) -> frozenset[Role]:
        """Count ``connection`` and return the roles of its caller.

        Raises:
            CommandError: it has none, or there are too many connections.
        """
        self._connections.add(connection)
        self._empty.clear()
        if self._sweeper is None:
            self._sweep()
        roles = self._authorise(caller)
        if not roles:
            event(
                log,
                logging.WARNING,
                "control.refused",
                uid=caller.uid,
                user=caller.name,
                caller_pid=caller.pid,
            )
            raise CommandError(
                f"uid {caller.uid} ({caller.name}) may not use this socket",
                code=Code.NOT_PERMITTED,
                help="control.observe or control.operate in the configuration would permit it",
            )
        room = self.limits.connections
        if Role.OPERATE not in roles:
            room -= self.limits.reserved
        if sum(other.admitted for other in self._connections) >= room:
            raise CommandError(
                f"{room} connections are open already", code=Code.BUSY, help="try again later"
            )
        return roles

    @property
    def crowded(self) -> bool:
        """Whether more connections are being sent away than may linger."""
        return len(self._connections) > 2 * self.limits.connections

    def bound_unread(self) -> None:
        """Cut off those who have not read for longest, while more is unread than may be."""
        behind = [one for one in self._connections if one.unread_since is not None]
        behind.sort(key=lambda one: one.unread_since or 0.0)
        unread = sum(one.unread for one in behind)
        for connection in behind:
            if unread <= self.limits.unread:
                break
            unread -= connection.unread
            connection.cut_off()

    def forget(self, connection: Connection) -> None:
        """Stop counting a connection that is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def carry_out(
        self,
        caller: Caller,
        roles: frozenset[Role],
        command: Command,
        params: dict[str, Any],
        form: Form,
    ) -> Outcome | Coroutine[Any, Any, Relayed | AsyncGenerator[Relayed, None]]:
        """Log and carry out a command; raises what its handler raises."""
        if command.role not in roles:
            raise CommandError(
                f"uid {caller.uid} ({caller.name}) may not run `{command.name}`",
                code=Code.NOT_PERMITTED,
                help=f"control.{command.role} in the configuration would permit it",
            )
        if command.role is Role.OPERATE:
            event(
                log,
                logging.INFO,
                "control",
                command=command.name,
                params={name: _for_the_log(value) for name, value in params.items()},
                uid=caller.uid,
                user=caller.name,
                caller_pid=caller.pid,
            )
        if command.relayed:
            return self._relay(command, params, form)
        return self._handlers[command.method](caller, params)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for connection in list(self._connections):
            connection.check(loop.time())
        shortest = min(self.limits.line, self.limits.idle, self.limits.linger)
        self._sweeper = loop.call_later(shortest / 4, self._sweep) if self._connections else None


def _help(caller: Caller, params: dict[str, Any]) -> Result:
    return help_on(params["command"])


def _for_the_log(value: object) -> object:
    """Return a parameter as it is, but a long text, such as mail that is imported, cut."""
    if isinstance(value, str) and len(value) > _LOGGED_CHARACTERS:
        return f"{value[:_LOGGED_CHARACTERS]}… ({len(value)} characters)"
    return value

"""A session of mtad's that is made and connected as aiosmtpd's own server is."""

from __future__ import annotations

import asyncio
import socket
import ssl
import weakref
from asyncio.trsock import TransportSocket
from collections.abc import Iterator
from typing import Any, ClassVar

from aiosmtpd.smtp import SMTP, LoginPassword

from mtad.model.listener import Protocol
from mtad.model.profile import EXTENSIONS, Auth, Limits, Newlines, Profile, Switch, Timeouts, Tls
from mtad.smtp.capture import Capture
from mtad.smtp.connection import Connection
from mtad.smtp.lines import Command
from mtad.smtp.poller import Poller
from mtad.smtp.reply import Refusal, Reply, encode
from mtad.smtp.sasl import Users
from mtad.smtp.service import Service
from mtad.smtp.session import COMMANDS, Session
from mtad.smtp.stream import Outbox
from mtad.tls.contexts import ServerObject

_TICK_SECONDS = 0.05


class Server(Session):
    """Takes the arguments of ``aiosmtpd.smtp.SMTP`` and a transport of asyncio's.

    The arguments become a profile, as near to aiosmtpd as a profile can be. Of the transport only
    the socket is used: what reads and writes is mtad's own. ``implicit_tls`` is set by the plugin.
    """

    protocol = Protocol.SMTP
    implicit_tls: ssl.SSLContext | None = None
    _living: ClassVar[weakref.WeakSet[Server]] = weakref.WeakSet()

    def __init__(self, handler: Any, **options: Any) -> None:
        SMTP.__init__(self, handler, **options)
        service = Service(
            "suite",
            0,
            _profile(self, options),
            self.protocol,
            handler,
            Capture(None, lambda octets: None),
            self.tls_context,
            COMMANDS,
            self.loop,
        )
        service.lines.commands.update(self._own_commands())
        service.greeting = encode(Reply(220, "", f"{self.hostname} {self.__ident__}"))
        for name in options.get("auth_exclude_mechanism") or ():
            service.handler_mechanisms.pop(name, None)
        service.users = _Asked(self)
        self._writer: Any = _Writer(self)
        self._far_end: socket.socket | None = None
        Session.__init__(self, service, lambda _: self._writer.close())

    def _own_commands(self) -> Iterator[tuple[str, Any]]:
        """Yield the commands that a subclass of the suite's replaces."""
        for name in dir(type(self)):
            command = getattr(type(self), name)
            if name.startswith("smtp_") and command is not getattr(SMTP, name, None):
                yield name.removeprefix("smtp_"), Command(command)

    @classmethod
    def cut_all(cls, loop: asyncio.AbstractEventLoop) -> None:
        """Reset every connection of a loop that is about to be closed."""
        for server in list(cls._living):
            if server.loop is loop and server.connection is not None:
                server.cut()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: with asyncio's transport first, with mtad's connection when that is ready."""
        if isinstance(transport, Connection):
            super().connection_made(transport)
            return
        for context in filter(None, (self.tls_context, self.implicit_tls)):
            context.sslobject_class = ServerObject
        given = transport.get_extra_info("socket")
        if isinstance(given, TransportSocket):
            sock = given.dup()
            transport.set_protocol(asyncio.Protocol())
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
        else:  # a mock: what it is given to write, and what is received, goes through a pair
            sock, self._far_end = socket.socketpair()
            self._far_end.setblocking(False)
            self._handler_coroutine = self.loop.create_task(_relay(self._far_end, transport))
        peer = transport.get_extra_info("peername")
        self.connection = Connection(
            sock, peer, self, Outbox(self.loop, lambda: None), Poller(self.loop)
        )
        self.connection.begin(header=self._proxy_timeout is not None, context=self.implicit_tls)
        self._living.add(self)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take octets from the connection; or from a test, while no loop runs."""
        if self._far_end is None or self.loop.is_running():
            super().data_received(data)
        else:
            self._far_end.sendall(data)

    def _watch(self) -> None:
        """Look at the clock, as a worker does for its sessions."""
        self.check(self.loop.time())
        if self in self._living:
            self.loop.call_later(_TICK_SECONDS, self._watch)

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        self._living.discard(self)
        super().connection_lost(error)


class Lmtp(Server):
    """The same for ``aiosmtpd.lmtp.LMTP``."""

    protocol = Protocol.LMTP


class _Writer:
    """What the suite looks at to see that a connection is closed."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def transport(self) -> asyncio.BaseTransport:
        return self._server.connection

    def close(self) -> None:
        """Called when it is."""


class _Asked(Users):
    """Asks the ``authenticator`` or ``auth_callback`` that the suite gives to a server."""

    __slots__ = ("_server",)

    def __init__(self, server: Server) -> None:
        super().__init__({})
        self._server = server

    def accept(self, name: str, password: str) -> bool:
        server = self._server
        login = LoginPassword(name.encode(), password.encode())
        if server._authenticator is None:
            assert server._auth_callback is not None
            return bool(server._auth_callback("", *login))
        envelope = server.envelope or server.begin_transaction()
        result = server._authenticator(server, server.session, envelope, "", login)
        if result.message:
            code, status, text = result.message.split(" ", 2)
            raise Refusal(int(code), status, text)
        return bool(result.success)


def _profile(server: Server, options: dict[str, Any]) -> Profile:
    extensions = dict.fromkeys(EXTENSIONS, Switch.OFF)
    extensions |= dict.fromkeys(("SIZE", "8BITMIME", "STARTTLS", "AUTH", "HELP"), Switch.ON)
    extensions["VRFY"] = Switch.HIDDEN
    if not server.data_size_limit:
        extensions["SIZE"] = Switch.HIDDEN
    if server._decode_data:
        extensions["8BITMIME"] = Switch.HIDDEN
    if server.enable_SMTPUTF8:
        extensions["SMTPUTF8"] = Switch.ON
    excluded = options.get("auth_exclude_mechanism") or ()
    timeout = server._timeout_duration
    return Profile(
        hostname=server.hostname,
        extensions=extensions,
        tls=Tls(required=bool(server.require_starttls)),
        auth=Auth(
            mechanisms=tuple(name for name in ("LOGIN", "PLAIN") if name not in excluded),
            before_tls=not server._auth_require_tls,
            required=server._auth_required,
            attempts=0,
        ),
        limits=Limits(
            message_size=server.data_size_limit or 0,
            line_length=server.line_length_limit,
            command_length=server.command_size_limit + len(b"\r\n"),
            errors=0,
        ),
        timeouts=Timeouts(timeout, timeout, server._proxy_timeout or timeout),
        newlines=Newlines.LENIENT,
    )


async def _relay(far_end: socket.socket, transport: Any) -> None:
    """Write line by line to a mocked transport what the session says, and close it then."""
    loop = asyncio.get_running_loop()
    with far_end:
        while said := await loop.sock_recv(far_end, 65536):
            for line in said.splitlines(keepends=True):
                transport.write(line)
    transport.close()

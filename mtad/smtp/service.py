"""What all sessions of a listener share: made once, so that a connection costs little."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from typing import Any

from aiosmtpd.smtp import SMTP

from mtad.model.listener import Protocol
from mtad.model.profile import EXTENSIONS, Profile, Switch
from mtad.smtp.capture import Capture
from mtad.smtp.lines import AUTH_LINE, Command, Lines
from mtad.smtp.networks import Networks
from mtad.smtp.reply import Reply, encode, without_status
from mtad.smtp.sasl import Users

# The commands that an extension brings; where it is off they are unknown.
_EXTENSION_OF = {
    "STARTTLS": "STARTTLS",
    "AUTH": "AUTH",
    "BDAT": "CHUNKING",
    "XCLIENT": "XCLIENT",
    "VRFY": "VRFY",
    "HELP": "HELP",
}
# What brings MAIL and RCPT parameters.
_PARAMETERS_OF = ("SIZE", "8BITMIME", "BINARYMIME", "SMTPUTF8", "DSN", "AUTH", "REQUIRETLS")
# RFC 3030 section 3, RFC 6531 section 3.1.
_NEEDS = {"BINARYMIME": "CHUNKING", "SMTPUTF8": "8BITMIME"}
# A task can begin at once, without a turn of the loop, since Python 3.12.
_EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}

# AUTH may be longer than other commands (RFC 4954 section 4).

Start = Callable[[Any], asyncio.Task[None]]


# Its constructor looks through all of its own attributes: listeners that differ in nothing that
# it is told share one.
_shared_server = lru_cache(maxsize=32)(partial(SMTP, None))


class Service:
    """A listener in this process, as its sessions see it.

    ``name`` is the listener's, ``worker`` this process's number; ``handler`` is an aiosmtpd
    handler, or None; ``capture`` takes what is accepted. ``base`` is a server of aiosmtpd's that
    nobody is connected to: what its constructor works out, it works out once.
    """

    def __init__(
        self,
        name: str,
        worker: int,
        profile: Profile,
        protocol: Protocol,
        handler: object | None,
        capture: Capture,
        context: ssl.SSLContext | None,
        commands: Mapping[str, Command],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.name = name
        self.worker = worker
        self.profile = profile
        self.limits = profile.limits
        self.longest_line = max(AUTH_LINE, profile.limits.command_length)
        self.capture = capture
        self.context = context
        self.loop = loop
        self.hostname = profile.hostname or socket.gethostname()
        self.is_lmtp = protocol is Protocol.LMTP
        self.implicit_tls = context if protocol is Protocol.SMTPS else None
        self.proxies = Networks(profile.proxy_from)
        self.xclients = Networks(profile.xclient_from)
        self.enhanced = self.switch("ENHANCEDSTATUSCODES") is Switch.ON
        make = _shared_server if handler is None else partial(SMTP, handler)
        self.base: SMTP = make(
            data_size_limit=self.limits.message_size or None,
            enable_SMTPUTF8=self.offers("SMTPUTF8"),
            timeout=profile.timeouts.command,
            hostname=self.hostname,
            ident=f"{'LMTP' if self.is_lmtp else 'ESMTP'} mtad",
            tls_context=context if self.offers("STARTTLS") else None,
            auth_require_tls=not profile.auth.before_tls,
            loop=loop,
        )
        self.hooks: dict[str, Callable[..., Any]] = self.base._handle_hooks  # noqa: SLF001
        self.handler_mechanisms: dict[str, Callable[..., Any]] = {
            name: mechanism.method
            for name, mechanism in self.base._auth_methods.items()  # noqa: SLF001
            if not mechanism.is_builtin
        }
        self.users = Users(profile.auth.users)
        # A handler of others may use what needs a task of its own, asyncio.timeout() say.
        self.has_handler = handler is not None
        self.greeting = self.encode(Reply(220, "", f"{self.hostname} {self.base.__ident__}"))
        served = {
            verb: command
            for verb, command in commands.items()
            if self.offers(_EXTENSION_OF.get(verb, ""))
        }
        self.lines = Lines(served, self.limits.command_length, profile.newlines)
        self.hello = cache(self._hello)
        self.parameters = frozenset(name for name in _PARAMETERS_OF if self.offers(name))

    def switch(self, extension: str) -> Switch:
        """Return what the profile says of ``extension``, off for one that lacks what it needs."""
        if extension == "STARTTLS" and self.context is None:
            return Switch.OFF
        if extension in _NEEDS and not self.offers(_NEEDS[extension]):
            return Switch.OFF
        return self.profile.extensions.get(extension, Switch.ON)

    def offers(self, extension: str) -> bool:
        """Whether ``extension`` is served, announced or not."""
        return self.switch(extension) is not Switch.OFF

    def start(self, coroutine: Any) -> asyncio.Task[None]:
        """Run a coroutine as a task: at once where Python can, else with the loop's next turn."""
        return asyncio.Task(coroutine, loop=self.loop, **_EAGER)

    def encode(self, reply: Reply) -> bytes:
        """Return the octets of ``reply``, as this listener says it."""
        octets = encode(reply)
        return octets if self.enhanced else without_status(octets)

    def _hello(self, tls: bool, trusted: bool) -> tuple[list[str], bytes]:
        """Return the lines that answer EHLO, without their code, and the whole reply.

        ``tls``: the session is encrypted; ``trusted``: the client may use XCLIENT.
        """
        auth = self.profile.auth
        mechanisms = [*auth.mechanisms, *self.handler_mechanisms]
        limits = {"MAILMAX": self.limits.transactions, "RCPTMAX": self.limits.recipients}
        words = {
            "SIZE": f"SIZE {self.limits.message_size}",
            "AUTH": f"AUTH {' '.join(mechanisms)}",
            "LIMITS": " ".join(["LIMITS", *(f"{k}={v}" for k, v in limits.items() if v)]),
            "XCLIENT": "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
        }
        announced = {
            "8BITMIME": True,
            "STARTTLS": not tls,
            "AUTH": bool(mechanisms) and (tls or auth.before_tls),
            "REQUIRETLS": tls,  # RFC 8689 section 2
            "LIMITS": any(limits.values()),
            "XCLIENT": trusted,
        }
        keywords = [
            words.get(name, name)
            for name in EXTENSIONS
            if self.switch(name) is Switch.ON and announced.get(name, True)
        ]
        lines = [self.hostname, *keywords]
        return lines, encode(Reply(250, "", "\n".join(lines)))

"""Handlers as a profile names them (harness.handlers:Waits): hooks of aiosmtpd at their worst."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiosmtpd.smtp import MISSING, AuthResult, LoginPassword


class Waits:
    """Waits in every hook: for a time, under a timeout, for a thread."""

    async def handle_EHLO(  # noqa: N802 (aiosmtpd's names)
        self, _server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        await asyncio.sleep(0.001)
        session.host_name = hostname
        return [*responses[:-1], "250-X-WAITS", responses[-1]]

    async def handle_MAIL(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        await asyncio.sleep(0.001)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Waited"

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        async with asyncio.timeout(5):
            await asyncio.sleep(0.001)
        if address.startswith("no"):
            return "550 5.1.1 Nobody"
        envelope.rcpt_tos.append(address)
        return "250 Somebody"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.002)
        return f"250 {len(envelope.content)} octets"

    async def handle_NOOP(  # noqa: N802
        self, _server: Any, _session: Any, _envelope: Any, argument: str
    ) -> str:
        await asyncio.sleep(0)
        return f"250 {argument}"


class Halves:
    """Says the first line of a reply by itself."""

    async def handle_NOOP(self, server: Any, *_: Any) -> str:  # noqa: N802
        await server.push("250-one")
        return "250 two"


class Indifferent:
    """Leaves everything as it would be without hooks."""

    async def handle_HELO(self, *_: Any) -> Any:  # noqa: N802
        return MISSING

    async def handle_MAIL(self, *_: Any) -> Any:  # noqa: N802
        return MISSING

    async def handle_RCPT(self, *_: Any) -> Any:  # noqa: N802
        return MISSING

    async def handle_DATA(self, *_: Any) -> Any:  # noqa: N802
        return MISSING


class Fails:
    """Fails, in the hooks that are most used."""

    async def handle_MAIL(self, *_: Any) -> str:  # noqa: N802
        raise ValueError("secret text")

    async def handle_VRFY(self, *_: Any) -> Any:  # noqa: N802
        return 250

    async def handle_NOOP(self, *_: Any) -> str:  # noqa: N802
        return "not a reply"

    async def handle_PROXY(self, *_: Any) -> bool:  # noqa: N802
        raise ValueError("secret text")

    def handle_STARTTLS(self, *_: Any) -> bool:  # noqa: N802
        raise ValueError("secret text")


class Excuses(Fails):
    """Has a reply to its own failures."""

    async def handle_exception(self, error: Exception) -> str:
        await asyncio.sleep(0.001)
        return f"471 4.7.1 {type(error).__name__}"


class FailsAgain(Fails):
    """Fails to excuse itself."""

    async def handle_exception(self, error: Exception) -> str:
        raise KeyError("secret text") from error


class Holds:
    """Holds every message until ``release`` is set; ``begun`` and ``cancelled`` tell of them."""

    begun = 0
    cancelled = 0
    release: asyncio.Event

    async def handle_DATA(self, *_: Any) -> str:  # noqa: N802
        Holds.begun += 1
        try:
            await Holds.release.wait()
        except asyncio.CancelledError:
            Holds.cancelled += 1
            raise
        return "250 Released"


class Identifies:
    """Mechanisms that come to an identity of every kind; VRFY tells what the session has of it."""

    async def auth_NAMED(self, _server: Any, _args: list[str]) -> AuthResult:  # noqa: N802
        return AuthResult(success=True, auth_data=LoginPassword(b"ann", b"secret"))

    async def auth_NAMELESS(self, _server: Any, _args: list[str]) -> AuthResult:  # noqa: N802
        return AuthResult(success=True, auth_data="bob:secret")

    async def auth_BARE(self, _server: Any, _args: list[str]) -> AuthResult:  # noqa: N802
        return AuthResult(success=True, message="235 2.7.0 Come in")

    async def auth_OLD(self, _server: Any, _args: list[str]) -> bytes:  # noqa: N802
        return b"carl"

    async def auth_ODD(self, _server: Any, _args: list[str]) -> bool:  # noqa: N802
        return True

    async def handle_AUTH(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, args: list[str]
    ) -> Any:
        assert envelope.mail_from is None
        return "435 4.7.0 Hooked" if args == ["HOOKED"] else MISSING

    async def handle_VRFY(  # noqa: N802
        self, _server: Any, session: Any, _envelope: Any, _address: str
    ) -> str:
        login = getattr(session.auth_data, "login", None)
        return f"250 {session.authenticated} {login} {session.login_data}"

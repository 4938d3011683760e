"""What a session runs: commands that have to wait, hooks of a handler, and their faults.

A command answers at once, or is a coroutine, as in aiosmtpd. A coroutine is run at once, too, up to
where it has to wait: only then a task is made, and while that waits the session takes nothing more.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any

from aiosmtpd.smtp import MISSING, LoginPassword

from mtad.log import event
from mtad.smtp.frame import Frame, log
from mtad.smtp.lines import Run
from mtad.smtp.reply import Refusal, Reply, encode


class Running(Frame):
    """A session that can run commands and hooks."""

    def drive(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine: to its end if it never waits, else as a task."""
        if self.service.has_handler:
            task = self.service.start(self._guarded(coroutine))
            if not task.done():
                self._wait_for(task)
            return
        try:
            awaited = coroutine.send(None)
        except StopIteration:
            return
        except Refusal as refusal:
            self.reply(encode(refusal.reply))
        except Exception as error:
            self.reply(self._fault(error))
        else:
            self._wait_for(self.service.start(self._guarded(_Begun(coroutine, awaited))))

    def _wait_for(self, task: asyncio.Task[None]) -> None:
        self._task = task
        self.update_waits()
        self.flush()
        task.add_done_callback(self._went_on)

    async def _guarded(self, command: Awaitable[None]) -> None:
        try:
            await command
        except Refusal as refusal:
            self.reply(encode(refusal.reply))
        except Exception as error:
            self.reply(await self.excuse(error))

    def _went_on(self, _: asyncio.Task[None]) -> None:
        self._task = None
        self.update_waits()
        if not self._ended:
            self.connection.last = self.service.loop.time()
            if self._ending is not None:
                self.flush()
            self.turn()

    async def excuse(self, error: Exception) -> bytes:
        """Return the reply to an error: that of the handler's handle_exception, or ours."""
        hook = self.service.hooks.get("exception")
        if hook is None:
            return self._fault(error)
        try:
            return self.said(await hook(error))
        except Exception as another:
            return self._fault(another)

    def _fault(self, error: Exception, code: int = 451) -> bytes:
        """Log what went wrong, which is not for the client, and return the reply."""
        reference = secrets.token_hex(4)
        event(
            log,
            logging.ERROR,
            "session.error",
            exc_info=error,
            reference=reference,
            peer=self.client,
        )
        return encode(Reply(code, "4.3.0", f"Internal error, reference {reference}"))

    def answer(self, hook: str, default: bytes, *arguments: Any) -> Run:
        """Reply with what the handler's hook says, or at once with ``default`` without one."""
        if hook in self.service.hooks:
            return self._answer_by_hook(hook, default, arguments)
        self.reply(default)
        return None

    async def _answer_by_hook(self, hook: str, default: bytes, arguments: tuple[Any, ...]) -> None:
        self.reply(await self.hook(hook, default, *arguments))

    async def hook(self, name: str, default: bytes, *arguments: Any) -> bytes:
        """Return the reply of the handler's hook ``name``; ``default`` for MISSING."""
        status: object = await self.ask(name, *arguments)
        return default if status is MISSING else self.said(status)

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call the handler's hook ``name``; all but STARTTLS return something to wait for."""
        envelope = self.envelope or self.begin_transaction()
        return self.service.hooks[name](self, self.session, envelope, *arguments)

    def log_in(self, login: Any, data: Any = MISSING) -> None:
        """Take the client for ``login``: a name as text or octets, or what a handler has for one.

        ``data`` is what handlers find in the session. The password stays with the mechanism.
        """
        session = self.session
        session.authenticated = True
        session.auth_data = LoginPassword(login, b"") if data is MISSING else data
        session._login_data = login  # noqa: SLF001 (its setter complains that it is old)
        name = login.decode("utf-8", "replace") if isinstance(login, bytes) else login
        self.user = name if isinstance(name, str) else ""

    def log_out(self) -> None:
        """Take the client for nobody again."""
        session = self.session
        session.authenticated = session.auth_data = session._login_data = None  # noqa: SLF001
        self.user = ""

    def check_authenticated(self) -> None:
        """Refuse who has not logged in, where that is required (RFC 4954 section 6)."""
        if self.service.profile.auth.required and not self.session.authenticated:
            raise Refusal(530, "5.7.0", "Authentication required")


class _Begun:
    """A coroutine that has run up to its first wait, to go on in a task."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, None]:
        awaited = self._awaited
        while True:
            try:
                try:
                    sent = yield awaited
                except BaseException as error:
                    awaited = self._coroutine.throw(error)
                else:
                    awaited = self._coroutine.send(sent)
            except StopIteration:
                return

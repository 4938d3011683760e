"""One connection to a hop, and one transaction on it; by aiosmtplib.

TLS is taken where it is offered, whoever the certificate is of; where it fails, it is done
without. Commands and replies are aiosmtplib's; content is not, for it mends line ends: what is kept
is sent as it is, by BDAT where the hop offers CHUNKING.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import cast

from aiosmtplib import (
    SMTP,
    SMTPException,
    SMTPHeloError,
    SMTPResponse,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPStatus,
)
from aiosmtplib.protocol import SMTPProtocol

from mtad.archive.outgoing import parameters
from mtad.archive.outgoing.letters import Letter
from mtad.archive.outgoing.parameters import UnfitError
from mtad.archive.outgoing.stuffing import AsItIs, Stuffing, UncarriableError
from mtad.model.hop import Hop
from mtad.store.deliveries import State

# In seconds; RFC 5321 section 4.5.3.2 has minutes, which would keep a test waiting.
_CONNECT_SECONDS = 30.0
_COMMAND_SECONDS = 60.0
_CONTENT_SECONDS = 60.0  # until the hop takes more
_END_SECONDS = 300.0
_MOST_SECONDS = 900.0
_QUIT_SECONDS = 2.0

_UNCARRIABLE = (
    "it has a line with a dot alone that does not end with CRLF, where some servers would see its "
    "end: a hop that offers CHUNKING can take it (5.6.0)"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one try has come to for one recipient; WAITING: another one may do better."""

    state: State
    said: str


async def deliver(hop: Hop, letter: Letter) -> list[Outcome]:
    """Return what has come of ``letter``, for each of its recipients in their order."""
    attempt = _Attempt(hop, letter)
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            await attempt.run()
    except SMTPResponseException as error:
        rest = _refused(SMTPResponse(error.code, error.message))
    except UncarriableError:
        rest = Outcome(State.FAILED, _UNCARRIABLE)
    except (UnfitError, ValueError) as error:  # aiosmtplib sends no control character in a command
        rest = Outcome(State.FAILED, str(error))
    except (SMTPException, OSError) as error:
        rest = Outcome(State.WAITING, _reason(error))
    else:
        rest = Outcome(State.WAITING, "nothing was said")
    return [rest if one is None else one for one in attempt.outcomes]


class _Attempt:
    """``outcomes`` has what is known already, whatever ends it."""

    def __init__(self, hop: Hop, letter: Letter) -> None:
        self.outcomes: list[Outcome | None] = [None] * len(letter.recipients)
        self._hop = hop
        self._letter = letter
        self._writer: asyncio.StreamWriter | None = None  # one that is forgotten closes

    async def run(self) -> None:
        client = await self._connected()
        try:
            await self._transaction(client)
        except asyncio.CancelledError:
            client.close()  # without a word
            raise
        finally:
            with suppress(SMTPException, OSError):
                await client.quit(timeout=_QUIT_SECONDS)
            client.close()

    async def _connected(self) -> SMTP:
        client = await self._greeted()
        if not client.supports_extension("starttls"):
            return client
        try:
            await client.starttls(server_hostname=self._hop.host)
            await _say_hello(client)
        except (SMTPException, OSError):
            client.close()
            return await self._greeted()
        return client

    async def _greeted(self) -> SMTP:
        client = SMTP(
            hostname=self._hop.host,
            port=self._hop.port,
            local_hostname=self._letter.name,
            timeout=_COMMAND_SECONDS,
            start_tls=False,
            tls_context=_any_certificate(),
        )
        await client.connect(timeout=_CONNECT_SECONDS)
        try:
            await _say_hello(client)
        except BaseException:
            client.close()
            raise
        return client

    async def _transaction(self, client: SMTP) -> None:
        letter, offers = self._letter, frozenset(client.esmtp_extensions)
        parameters.check_address(letter.sender, offers)
        given = parameters.of_sender(letter.options, letter.size, offers)
        path = f"FROM:<{letter.sender}>"
        reply = await client.execute_command(*parameters.command("MAIL", path, given))
        if not _is_positive(reply):
            raise SMTPResponseException(reply.code, reply.message)
        taken = [
            place
            for place in range(len(letter.recipients))
            if await self._is_taken(client, place, offers)
        ]
        if taken:
            reply = await self._content(client, offers)
            delivered = Outcome(State.DELIVERED, _on_one_line(reply))
            outcome = delivered if _is_positive(reply) else _refused(reply)
            for place in taken:
                self.outcomes[place] = outcome

    async def _is_taken(self, client: SMTP, place: int, offers: frozenset[str]) -> bool:
        address, options = self._letter.recipients[place]
        try:
            parameters.check_address(address, offers)
        except UnfitError as error:
            self.outcomes[place] = Outcome(State.FAILED, str(error))
            return False
        given = parameters.taken(options, offers)
        reply = await client.execute_command(*parameters.command("RCPT", f"TO:<{address}>", given))
        if not _is_positive(reply):
            self.outcomes[place] = _refused(reply)
        return _is_positive(reply)

    async def _content(self, client: SMTP, offers: frozenset[str]) -> SMTPResponse:
        if "chunking" not in offers:
            reply = await client.execute_command(b"DATA")
            if reply.code != SMTPStatus.start_input:
                raise _refusal_of(reply, "DATA")
        protocol = client.protocol
        if protocol is None:
            raise SMTPServerDisconnected("Connection lost")
        # That of uvloop is one by its methods alone.
        transport = cast("asyncio.Transport", client.transport)
        try:
            if "chunking" not in offers:
                return await self._sent(protocol, transport, b"", Stuffing())
            command = b"BDAT %d LAST\r\n" % self._letter.size
            return await self._sent(protocol, transport, command, AsItIs())
        except BaseException:
            transport.abort()  # before it is whole
            raise

    async def _sent(
        self,
        protocol: SMTPProtocol,
        transport: asyncio.Transport,
        command: bytes,
        carrier: AsItIs,
    ) -> SMTPResponse:
        loop = asyncio.get_running_loop()
        self._writer = writer = asyncio.StreamWriter(transport, protocol, None, loop)
        # The hop may have had enough before the end, and say so; what comes before it is waited for
        # is thrown away, such as the reply to a message of no octets.
        reply = loop.create_task(protocol.read_response())
        await asyncio.sleep(0)
        sent = 0
        try:
            protocol.write(command)
            async for piece in self._letter.pieces():
                sent += len(piece)
                protocol.write(carrier.feed(piece))  # which says so when the hop has gone
                async with asyncio.timeout(_CONTENT_SECONDS):
                    await writer.drain()
                if reply.done():
                    raise _refusal_of(reply.result(), "a part of the content")
            if sent != self._letter.size:
                raise OSError(f"its content has {sent} octets of {self._letter.size}")
            protocol.write(carrier.end())
            async with asyncio.timeout(_END_SECONDS):
                return await reply
        except ConnectionError:
            if reply.done() and not reply.cancelled() and reply.exception() is None:
                raise _refusal_of(reply.result(), "a part of the content") from None
            raise
        finally:
            reply.cancel()


async def _say_hello(client: SMTP) -> None:
    try:
        await client.ehlo()
    except SMTPHeloError as error:
        if error.code // 100 != 5:
            raise
        await client.helo()


@cache
def _any_certificate() -> ssl.SSLContext:
    """Return a context for TLS with whom it may be: what is sent is mail of tests."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _is_positive(reply: SMTPResponse) -> bool:
    return reply.code // 100 == 2


def _refusal_of(reply: SMTPResponse, what: str) -> SMTPException:
    """Return what a reply means that is no success, whatever it says."""
    if reply.code // 100 in (4, 5):
        return SMTPResponseException(reply.code, reply.message)
    return SMTPException(f"it answers {what} with {reply.code} {reply.message}")


def _refused(reply: SMTPResponse) -> Outcome:
    """Return what a reply means that is not the one that was hoped for."""
    state = State.FAILED if reply.code // 100 == 5 else State.WAITING
    return Outcome(state, _on_one_line(reply))


def _on_one_line(reply: SMTPResponse) -> str:
    # What is no reply at all has a code below 0.
    code = f"{reply.code} " if reply.code > 0 else ""
    return code + " / ".join(reply.message.splitlines())


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
    return str(error) or "it took too long"

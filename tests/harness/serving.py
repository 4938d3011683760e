"""One opening served in the test's own process, on its loop, and clients that speak to it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mtad.errors import StoreError
from mtad.ipc import counters
from mtad.ipc.counters import Counters, Counts
from mtad.ipc.loads import Load, Loads
from mtad.ipc.messages import Fired, Opening, Weigh, Weighed
from mtad.model.automatic_tls import AutomaticTls
from mtad.model.endpoint import Endpoint, TcpEndpoint
from mtad.model.envelope import Captured, SessionSummary
from mtad.model.ids import Keys
from mtad.model.listener import Protocol
from mtad.model.profile import Profile
from mtad.smtp.poller import Poller
from mtad.supervisor.sockets import bound_endpoint, close_listening, open_listening
from mtad.worker.acceptor import Acceptor, Common
from mtad.worker.admissions import Admissions
from mtad.worker.judge import Questions
from mtad.worker.rules import Rules

# An address that nobody else on the machine connects to, whatever port it is.
LOOPBACK = TcpEndpoint("127.0.0.2", 0)
NOWHERE = Path("/nowhere")
_PATIENCE = 10.0


class Collected:
    """A message in memory (mtad.model.envelope.Body)."""

    def __init__(self) -> None:
        self.size = 0
        self.content = b""

    def write(self, octets: bytes | memoryview) -> None:
        """Add to the content."""
        self.content += octets
        self.size = len(self.content)

    def discard(self) -> None:
        """Nothing is left behind anyway."""


class Memory:
    """A store (mtad.model.envelope.Store) that keeps messages in a list, or fails as it is told."""

    def __init__(self) -> None:
        self.messages: list[Captured] = []
        self.contents: list[bytes] = []
        self.summaries: list[SessionSummary] = []
        self.transcripts: list[tuple[int, int, list[Any]]] = []
        self.failure: Exception | None = None
        self.works = asyncio.Event()  # while it is not set, nothing comes to an end
        self.works.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def body(self) -> Collected:
        """Return the place for a message."""
        return Collected()

    def keep(
        self, message: Captured, body: Any, answered: Callable[[str | StoreError], None]
    ) -> None:
        """Put the message on the list, when the store works."""
        if self.failure is not None and not isinstance(self.failure, StoreError):
            raise self.failure
        task = asyncio.create_task(self._keep(message, body, answered))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(
        self, message: Captured, body: Collected, answered: Callable[[str | StoreError], None]
    ) -> None:
        async with asyncio.timeout(_PATIENCE):
            await self.works.wait()
        if isinstance(self.failure, StoreError):
            answered(self.failure)
            return
        self.messages.append(message)
        self.contents.append(body.content)
        answered(f"id{len(self.messages)}")

    def session(self, summary: SessionSummary) -> None:
        """Put it on the list."""
        self.summaries.append(summary)

    def transcript(self, key: int, part: int, entries: list[Any]) -> None:
        """Put it on the list."""
        self.transcripts.append((key, part, entries))

    def refuse(self) -> None:
        """Have no room from now on."""
        self.failure = StoreError("no room", full=True)


class Serving:
    """An acceptor as a worker has it, with everything that the supervisor would see."""

    def __init__(
        self,
        endpoint: Endpoint,
        protocol: Protocol,
        profile: Profile,
        certificates: Path = NOWHERE,
    ) -> None:
        self.is_lmtp = protocol is Protocol.LMTP
        self.listening = open_listening(endpoint, 100)
        self.store = Memory()
        self.drained: list[int] = []
        self.rules = Rules()
        self.told: list[Weigh | Fired] = []
        self.verdict: Callable[[Weigh], str] | None = None  # which rule fires; or the test says
        self._loop = asyncio.get_running_loop()
        self.questions = Questions(self._tell, self._loop)
        memory = counters.create()
        self._counters = Counters(memory)
        os.close(memory)
        self._loads = Loads()
        self._all_loads: list[Load] = []
        common = Common(
            1,
            Keys(1),
            self.store,
            AutomaticTls(certificates),
            self._counters,
            self.other_worker(),
            Admissions(lambda _: None),
            self.rules,
            self.questions,
            Poller(self._loop),
            self.drained.append,
        )
        self.acceptor = Acceptor(
            Opening(7, 3, "mx", protocol, "default", profile), self.listening.dup(), common
        )

    def _tell(self, message: Weigh | Fired) -> None:
        """Be told as the supervisor is, and answer, if there is a verdict."""
        self.told.append(message)
        if isinstance(message, Weigh) and self.verdict is not None:
            answer = Weighed(message.ticket, self.verdict(message), 0.0)
            self._loop.call_soon(self.questions.answered, answer)

    @property
    def counts(self) -> Counts:
        """What has been counted."""
        return self._counters.read(3)

    def other_worker(self) -> Load:
        """Have another worker, which has no sessions."""
        load = Load(self._loads.descriptor, self._loads.take())
        load.change(0)
        self._all_loads.append(load)
        return load

    async def client(self) -> Client:
        """Return a client that is connected and has read nothing yet."""
        where = bound_endpoint(self.listening)
        if isinstance(where, TcpEndpoint):
            return Client(*await asyncio.open_connection(where.host, where.port, limit=1 << 20))
        return Client(*await asyncio.open_unix_connection(where.path))

    async def greeted(self, greeting: str = "EHLO client.example") -> Client:
        """Return a client that has said hello."""
        client = await self.client()
        assert (await client.reply()).startswith("220 ")
        assert (await client.ask(greeting)).startswith("250")
        return client

    def stop(self, grace: float) -> None:
        """Stop as the supervisor does: the socket first, then the worker's share."""
        close_listening(self.listening)
        self.acceptor.close(grace)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what no socket tells."""
        async with asyncio.timeout(_PATIENCE):
            while not condition():  # noqa: ASYNC110 (what is waited for is in the kernel)
                await asyncio.sleep(0.002)

    async def close(self) -> None:
        """End everything; nothing may be left."""
        if self.listening.fileno() >= 0:
            close_listening(self.listening)
        self.acceptor.close(0.0)
        await self.until(lambda: bool(self.drained))
        assert self.drained == [7]
        assert self.counts.active == 0
        self._counters.close()
        for load in self._all_loads:
            load.close()
        self._loads.close()


@asynccontextmanager
async def serving(
    endpoint: Endpoint = LOOPBACK,
    protocol: Protocol = Protocol.SMTP,
    certificates: Path = NOWHERE,
    **profile: Any,
) -> AsyncIterator[Serving]:
    """Serve ``endpoint`` while the block runs; ``certificates``: where those of `tls: auto` are."""
    served = Serving(endpoint, protocol, Profile(**profile), certificates)
    try:
        yield served
    finally:
        await served.close()


class Client:
    """A client that says what it is told, octet for octet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def reply(self) -> str:
        """Return the next reply, its lines joined by newlines; "" at the end of the connection."""
        lines: list[str] = []
        async with asyncio.timeout(_PATIENCE):
            while line := (await self.reader.readline()).decode():
                lines.append(line.removesuffix("\r\n"))
                if line[3:4] != "-":
                    break
        return "\n".join(lines)

    async def rest(self) -> bytes:
        """Return everything up to the end, and close; ConnectionResetError for a reset."""
        async with asyncio.timeout(_PATIENCE):
            octets = await self.reader.read(-1)
        self.writer.close()
        return octets

    def say(self, *lines: str | bytes) -> None:
        """Send lines, in one segment."""
        octets = [line.encode() if isinstance(line, str) else line for line in lines]
        self.writer.write(b"".join(line + b"\r\n" for line in octets))

    async def ask(self, line: str | bytes) -> str:
        """Send a line and return its reply."""
        self.say(line)
        return await self.reply()

    async def begin(self, *recipients: str, sender: str = "s@client.example") -> None:
        """Begin a transaction."""
        assert (await self.ask(f"MAIL FROM:<{sender}>")).startswith("250")
        for recipient in recipients or ("r@example",):
            assert (await self.ask(f"RCPT TO:<{recipient}>")).startswith("250")

    async def send(self, content: bytes) -> str:
        """Send DATA and ``content`` (its lines end with CRLF), and return the final reply."""
        assert (await self.ask("DATA")).startswith("354")
        self.writer.write(content)
        return await self.ask(b".")

    def reset(self) -> None:
        """Vanish (RST)."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()

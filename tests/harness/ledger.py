"""Senders that remember what they were promised: each message, and what was answered to it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from random import Random

from harness.mail_db import Kept

MAX_SIZE = 200_000
_LINE = 66
_PATIENCE = 30.0
_ENVELOPE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
# Of a hundred messages, so many are broken off by their sender, who has not ended them.
_BROKEN_OFF = 2

NEVER_ENDED = "never ended"
LOST = "lost"


@dataclass
class Sent:
    """A message; ``answer`` is the reply to it as a whole, "" if there was none."""

    digest: bytes
    life: int
    answer: str = ""

    @property
    def promised(self) -> bool:
        """Whether it was answered 250."""
        return self.answer.startswith("250")


class Ledger:
    """Every message that was sent, by its serial number, which is in its first line.

    An answer counts in the life of the daemon that the message was begun in: who has lost power
    says nothing more, and what came between the failure of its disk and its own end was never said.
    """

    def __init__(self, seed: int) -> None:
        self.life = 0
        self.promises = 0
        self.sent: dict[int, Sent] = {}
        self._serials = itertools.count(1)
        chance = Random(seed)
        lines = [chance.randbytes((_LINE - 2) // 2).hex().encode() for _ in range(8_192)]
        self._filler = b"\r\n".join(lines) + b"\r\n"

    def write(self, size: int, chance: Random) -> tuple[Sent, bytes]:
        """Return a new message of about ``size`` octets, and its content."""
        serial = next(self._serials)
        start = _LINE * chance.randrange((len(self._filler) - size) // _LINE)
        text = self._filler[start : start + size // _LINE * _LINE]
        content = b"X-Serial: %d\r\n\r\n" % serial + text
        self.sent[serial] = sent = Sent(sha256(content).digest(), self.life)
        return sent, content

    def enter(self, sent: Sent, answer: str) -> None:
        """Note the answer to a message."""
        if sent.life == self.life:
            sent.answer = answer
            self.promises += sent.promised

    def faults(self, kept: Iterable[Kept]) -> list[str]:
        """Return what is wrong with what is kept: nothing, if every promise was held."""
        found = []
        there: Counter[int] = Counter()
        for message in kept:
            serial = _serial(message.content)
            there[serial] += 1
            digest = sha256(message.content).digest()
            sent = self.sent.get(serial)
            if sent is None:
                found.append(f"message {message.id} was never sent: {message.content[:40]!r}")
            elif not digest == sent.digest == message.sha256:
                found.append(f"number {serial} ({sent.answer}) is not what was sent")
            elif sent.answer and not sent.promised:
                found.append(f"number {serial} ({sent.answer}) is there")
            if message.size != len(message.content):
                octets = len(message.content)
                found.append(f"number {serial} has {octets} octets, not {message.size}")
        found += [f"number {serial} is there {n} times" for serial, n in there.items() if n > 1]
        lost = [serial for serial, sent in self.sent.items() if sent.promised and not there[serial]]
        return found + [f"{LOST}: number {serial}" for serial in lost]


def _serial(content: bytes) -> int:
    name, _, value = content.partition(b"\r\n")[0].partition(b": ")
    return int(value) if name == b"X-Serial" and value.isdigit() else 0


class Senders:
    """Connections that send messages, in a thread of their own, until they are told to stop.

    ``port`` may change while they run: whoever is cut off connects again.
    """

    def __init__(self, ledger: Ledger, port: int, seed: int, connections: int = 50) -> None:
        self.port = port
        self._ledger = ledger
        self._seed = seed
        self._connections = connections
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Senders:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let each connection end the message that it is at, if the daemon does."""
        self._stopping = True
        self._thread.join()

    async def _run(self) -> None:
        seeds = range(self._seed * 1_000, self._seed * 1_000 + self._connections)
        await asyncio.gather(*(self._connect(Random(seed)) for seed in seeds))

    async def _connect(self, chance: Random) -> None:
        while not self._stopping:
            with suppress(OSError, EOFError, TimeoutError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    await self._talk(_Client(reader, writer), chance)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.01)

    async def _talk(self, client: _Client, chance: Random) -> None:
        await client.reply()
        await client.say(b"EHLO loss.example\r\n")
        while not self._stopping:
            size = int(chance.choice([chance.uniform(0, 8_000), chance.uniform(0, MAX_SIZE)]))
            sent, content = self._ledger.write(size, chance)
            client.writer.write(_ENVELOPE)
            for answer in [await client.reply() for _ in range(3)]:
                if answer[0] not in "23":
                    self._ledger.enter(sent, answer)
                    return
            if chance.randrange(100) < _BROKEN_OFF:
                sent.answer = NEVER_ENDED
                client.writer.write(content[: chance.randrange(len(content))])
                return
            self._ledger.enter(sent, await client.say(content + b".\r\n"))


class _Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def reply(self) -> str:
        """Return the last line of the next reply; EOFError when there is none."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                line = await self._reader.readuntil(b"\n")
                if line[3:4] != b"-":
                    return line.decode().rstrip()

    async def say(self, octets: bytes) -> str:
        self.writer.write(octets)
        return await self.reply()

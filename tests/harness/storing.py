"""A writer of the store: in the test's own process, or in processes that can be cut off."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mtad.errors import StoreError
from mtad.model import ids
from mtad.model.envelope import Captured, SessionSummary
from mtad.store.writer import Writer

PATIENCE = 20.0

CAPTURED = Captured(
    received_ns=1,
    listener="mx",
    worker=1,
    peer="127.0.0.1:4242",
    helo="client.example",
    protocol="ESMTPS",
    tls_version="TLSv1.3",
    tls_cipher="TLS_AES_256_GCM_SHA384",
    sni="mx.example",
    user="",
    sender="",
    sender_options=("SIZE=5",),
    recipients=("a@example",),
    recipient_options=(("NOTIFY=NEVER",),),
    terminator="CRLF.CRLF",
    notes=("bare-lf",),
    runs=(),
    session=7,
)
SUMMARY = SessionSummary(
    key=7,
    listener="mx",
    worker=1,
    peer="127.0.0.1:4242",
    helo="client.example",
    protocol="ESMTP",
    tls_version="",
    tls_cipher="",
    sni="",
    user="",
    began_ns=1,
    ended_ns=2,
    messages=1,
    octets_in=3,
    octets_out=4,
    replies={250: 5},
    phases={"command": {6: 7}},
    ended="quit",
    failed=False,
    transcript="all",
)


class Storing:
    """A writer, what it said of its state, and how to keep a message and wait for the answer."""

    def __init__(self, directory: Path, durability: str = "fsync", notify: int | None = None):
        self.states: list[str] = []
        self.writer = Writer(directory, durability, self.states.append, notify)

    def begin(
        self, content: bytes = b"hello\r\n", message: Captured = CAPTURED
    ) -> asyncio.Future[str | StoreError]:
        """Have a message kept; return what will be its answer. StoreError: there is no room."""
        answer: asyncio.Future[str | StoreError] = asyncio.get_running_loop().create_future()
        body = self.writer.body()
        for at in range(0, len(content), 16_384):
            body.write(content[at : at + 16_384])
        self.writer.keep(message, body, answer.set_result)
        return answer

    async def outcome(
        self, content: bytes = b"hello\r\n", message: Captured = CAPTURED
    ) -> str | StoreError:
        """Return the answer: an id as text, or why it is not kept."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.begin(content, message)
        except StoreError as error:
            return error

    async def keep(self, content: bytes = b"hello\r\n", message: Captured = CAPTURED) -> int:
        """Return the id of a message that is kept; raise StoreError if it is not."""
        outcome = await self.outcome(content, message)
        if isinstance(outcome, StoreError):
            raise outcome
        return ids.decode(outcome)

    async def until_well(self) -> None:
        """Return when the writer has said that it works again."""
        async with asyncio.timeout(PATIENCE):
            while self.states and self.states[-1]:  # noqa: ASYNC110 (a callback tells)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def storing(
    directory: Path, durability: str = "fsync", notify: int | None = None
) -> AsyncIterator[Storing]:
    """Have a writer while the block runs."""
    store = Storing(directory, durability, notify)
    try:
        yield store
    finally:
        async with asyncio.timeout(PATIENCE):
            await store.writer.close()


_PROGRAM = """
import asyncio, os, sys
from pathlib import Path
sys.path[:0] = {path!r}
from harness.storing import CAPTURED, SUMMARY, storing
from mtad.errors import StoreError
directory = Path(sys.argv[1])
async def main():
    async with storing(directory, {durability!r}) as store:
{body}
asyncio.run(main())
"""


def process(
    directory: Path, body: str, *prefix: str, durability: str = "fsync"
) -> subprocess.Popen[str]:
    """Start a process that has a ``store`` (Storing) and runs ``body``, in a coroutine."""
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    program = _PROGRAM.format(path=sys.path, durability=durability, body=lines)
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", program, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(directory: Path, body: str, *prefix: str, durability: str = "fsync") -> list[str]:
    """Run ``body`` as ``process`` does; return the lines that it has printed."""
    with process(directory, body, *prefix, durability=durability) as started:
        out, err = started.communicate(timeout=60)
    assert started.returncode == 0, err
    return out.splitlines()

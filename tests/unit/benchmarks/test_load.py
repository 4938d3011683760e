"""The load generator, seen by a server that notes what arrives."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rig import load

pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler"
)

EHLO, QUIT = b"EHLO load.example\r\n", b"QUIT\r\n"
MAIL, RCPT, DATA = (
    b"MAIL FROM:<sender@example.org>\r\n",
    b"RCPT TO:<user0@example.net>\r\n",
    b"DATA\r\n",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return load.build(tmp_path_factory.mktemp("load"))


class Sink:
    """A server that answers what it reads at once; ``reads`` is that, a list for each connection.

    The load waits for the replies to each of its writes, so a read is a write, unless it is large.
    """

    def __init__(self, end_of_data: bytes = b"250 taken\r\n") -> None:
        self.reads: list[list[bytes]] = []
        self._end_of_data = end_of_data

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reads: list[bytes] = []
        self.reads.append(reads)
        writer.write(b"220 sink\r\n")
        body = left = False
        while not left and (octets := await reader.read(65536)):
            reads.append(octets)
            for line in octets.splitlines(keepends=True):
                if body:
                    if line == b".\r\n":
                        body = False
                        writer.write(self._end_of_data)
                    continue
                body = line == DATA
                left = line == QUIT
                writer.write(
                    {EHLO: b"250-sink\r\n250 SIZE\r\n", DATA: b"354 go\r\n"}.get(
                        line, b"250 ok\r\n"
                    )
                )
        writer.close()

    async def under(self, program: Path, *options: str) -> dict[str, Any]:
        """Return the load's result."""
        async with await asyncio.start_server(self.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            words = [str(program), "-p", str(port), "-t", "20", *options]
            process = await asyncio.create_subprocess_exec(*words, stdout=-1, stderr=-1)
            output, _ = await process.communicate()
        result: dict[str, Any] = json.loads(output)
        return result | {"status": process.returncode}


async def test_lockstep_writes_one_command_at_a_time(program: Path) -> None:
    sink = Sink()
    result = await sink.under(program, "-b", "lockstep", "-c", "1", "-m", "2", "-l", "1000")
    assert (result["messages"], result["errors"], result["status"]) == (2, 0, 0)
    ((ehlo, *reads),) = sink.reads
    assert ehlo == EHLO
    body = reads[3]
    assert body.endswith(b"\r\n.\r\n")
    assert len(body) == 1_000 + len(b".\r\n")
    assert reads == [MAIL, RCPT, DATA, body] * 2 + [QUIT]


async def test_pipelined_writes_an_envelope_at_once(program: Path) -> None:
    sink = Sink()
    await sink.under(program, "-b", "pipelined", "-c", "1", "-m", "2", "-r", "2")
    ((_, *reads),) = sink.reads
    second = RCPT.replace(b"user0", b"user1")
    assert reads == [MAIL + RCPT + second + DATA, reads[1]] * 2 + [QUIT]


async def test_joined_writes_a_message_and_the_next_envelope_at_once(program: Path) -> None:
    sink = Sink()
    result = await sink.under(program, "-b", "joined", "-c", "1", "-m", "3")
    assert result["messages"] == 3
    ((_, *reads),) = sink.reads
    envelope, body = MAIL + RCPT + DATA, reads[3]
    assert reads == [envelope, body + envelope, body + envelope, body, QUIT]


@pytest.mark.parametrize("behaviour", ["lockstep", "pipelined", "joined"])
async def test_as_many_messages_as_asked_for_over_many_connections(
    program: Path, behaviour: str
) -> None:
    sink = Sink()
    result = await sink.under(program, "-b", behaviour, "-c", "4", "-m", "10", "-n", "3")
    bodies = sum(b"".join(reads).count(b"\r\n.\r\n") for reads in sink.reads)
    assert (result["messages"], result["connections"], bodies) == (10, 4, 10)
    assert result["p50_ms"] <= result["p99_ms"] <= result["max_ms"]


async def test_a_connection_for_each(program: Path) -> None:
    sink = Sink()
    result = await sink.under(program, "-b", "quit", "-c", "3", "-m", "20")
    assert (result["messages"], sink.reads) == (20, [[QUIT]] * 20)


async def test_a_refusal_is_an_error(program: Path) -> None:
    result = await Sink(b"451 no\r\n").under(program, "-m", "5", "-c", "2", "-n", "1")
    assert (result["messages"], result["errors"], result["status"]) == (0, 5, 1)


async def test_idle_connections_are_held_until_it_is_ended(program: Path) -> None:
    sink = Sink()
    async with await asyncio.start_server(sink.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

        def hold() -> list[list[bytes]]:
            with load.held(program, port, 50, "idle"):
                return list(sink.reads)

        reads = await asyncio.to_thread(hold)
    assert reads == [[EHLO]] * 50


async def test_a_closed_connection_is_not_held(program: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"554 no\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

        def hold() -> None:
            with load.held(program, port, 5, "idle"):
                pass

        with pytest.raises(load.LoadError, match="not all are held"):
            await asyncio.to_thread(hold)


def test_bad_options_are_refused(program: Path) -> None:
    with pytest.raises(load.LoadError, match="Invalid argument"):
        load.smtp(program, 1, 1, "-b", "nonsense")

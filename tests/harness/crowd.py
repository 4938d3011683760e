"""Many senders at the same time, none like the other, and what each was answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing

_PATIENCE = 120.0
_CONTENT = "Subject: test\r\n\r\nhello\r\n."


async def crowd(port: int, numbers: Sequence[int], at_once: int) -> dict[int, tuple[str, ...]]:
    """Return the answers by the number of the sender; ``at_once`` are connected at a time."""
    turn = asyncio.Semaphore(at_once)
    met: dict[int, tuple[str, ...]] = {}

    async def one(number: int) -> None:
        async with turn, asyncio.timeout(_PATIENCE):
            met[number] = await _session(port, number)

    async with asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(one(number))
    return met


async def _session(port: int, number: int) -> tuple[str, ...]:
    """Go through a session, whatever is refused; return the codes, and how it ended."""
    lines = [
        f"EHLO client{number}.example",
        f"MAIL FROM:<sender{number}@example.org>",
        f"RCPT TO:<rcpt{number}@example.com>",
        "DATA",
        _CONTENT,
        "QUIT",
    ]
    answers: list[str] = []
    source = f"127.1.{number // 250}.{number % 250 + 1}"
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        with closing(writer):
            answers.append(await _answer(reader))
            for line in lines:
                if line != _CONTENT or answers[-1] == "354":
                    writer.write(line.encode() + b"\r\n")
                    answers.append(await _answer(reader))
    except asyncio.IncompleteReadError:
        answers.append("fin")
    except ConnectionResetError:
        answers.append("rst")
    return tuple(answers)


async def _answer(reader: asyncio.StreamReader) -> str:
    while (line := await reader.readuntil(b"\r\n"))[3:4] == b"-":
        pass
    return line[:3].decode()

"""The bounds of the server: places, idle connections, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.control_daemon import Switches

from mtad.control.calls import Relayed
from mtad.control.grammar import Command, Role
from mtad.control.peer import Caller
from mtad.control.server import ControlServer, Limits, Relay
from mtad.control.socket import ControlSocket
from mtad.ipc.questions import Form

pytestmark = pytest.mark.integration

_ALL = frozenset(Role)
_OBSERVE = frozenset({Role.OBSERVE})
_PATIENCE = 10.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(
    path: Path,
    authorise: Callable[[Caller], frozenset[Role]],
    limits: Limits,
    relay: Relay | None = None,
) -> AsyncIterator[ControlServer]:
    switches = Switches()
    relay = relay or switches.relay
    server = ControlServer(switches.handlers(), authorise, relay, limits=limits)
    with ControlSocket(path) as control:
        await server.start(control)
        yield server
        await asyncio.wait_for(server.close(), _PATIENCE)


async def ask(client: Streams, line: str) -> dict[str, Any]:
    """Return the answer to one line; what the end of the connection says is an empty one."""
    reader, writer = client
    writer.write(f"{line}\n".encode())
    answer = await asyncio.wait_for(reader.readline(), _PATIENCE)
    return json.loads(answer) if answer else {}


PID = '{"jsonrpc":"2.0","id":1,"method":"pid"}'


async def test_the_last_places_are_for_those_who_may_operate(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    roles = [_OBSERVE, _OBSERVE, _OBSERVE, _ALL, _ALL, _ALL]
    async with serving(path, lambda _: roles.pop(0), Limits(connections=4, reserved=2)):
        clients = [await asyncio.open_unix_connection(path) for _ in range(6)]
        served = ["result" in await ask(client, PID) for client in clients]
        assert served == [True, True, False, True, True, False]
        for _, writer in clients:
            writer.close()


async def test_a_place_is_free_again_when_its_client_leaves(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with serving(path, lambda _: _ALL, Limits(connections=1, reserved=0)):
        for _ in range(5):
            client = await asyncio.open_unix_connection(path)
            assert "result" in await ask(client, PID)
            client[1].write_eof()
            assert await asyncio.wait_for(client[0].read(), _PATIENCE) == b""
            client[1].close()


async def test_an_idle_connection_is_closed_and_a_waiting_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with serving(path, lambda _: _ALL, Limits(idle=0.2, linger=0.2)):
        idle, watching, waiting = [await asyncio.open_unix_connection(path) for _ in range(3)]
        assert await ask(watching, '{"jsonrpc":"2.0","id":1,"method":"events"}')
        waiting[1].write(b'{"jsonrpc":"2.0","id":1,"method":"ready","params":{"wait":1}}\n')
        assert await asyncio.wait_for(idle[0].read(), _PATIENCE) == b""
        answer = json.loads(await asyncio.wait_for(waiting[0].readline(), _PATIENCE))
        assert answer["result"]["waited"]
        item = json.loads(await asyncio.wait_for(watching[0].readline(), _PATIENCE))
        assert item["params"]["event"] == "wait.ended"
        for _, writer in (idle, watching, waiting):
            writer.close()


async def test_whoever_waits_is_told_that_the_daemon_ends(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with serving(path, lambda _: _ALL, Limits()) as server:
        waiting, watching = [await asyncio.open_unix_connection(path) for _ in range(2)]
        waiting[1].write(b'{"jsonrpc":"2.0","id":5,"method":"ready","params":{"wait":600}}\n')
        # Its answer shows that the other one has begun to wait.
        assert (await ask(watching, '{"jsonrpc":"2.0","id":1,"method":"events"}'))["id"] == 1
        await server.close()
        answer = json.loads(await asyncio.wait_for(waiting[0].readline(), _PATIENCE))
        assert (answer["id"], answer["error"]["message"]) == (5, "the daemon ends")
        assert await asyncio.wait_for(waiting[0].read(), _PATIENCE) == b""
        rest = await asyncio.wait_for(watching[0].read(), _PATIENCE)
        assert b'"id"' not in rest, "a stream was answered a second time"
        for _, writer in (waiting, watching):
            writer.close()


async def test_a_client_that_reads_nothing_is_closed_as_an_idle_one(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with serving(path, lambda _: _ALL, Limits(connections=1, reserved=0, idle=0.3)):
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.setblocking(False)
            deaf.connect(str(path))
            with contextlib.suppress(BlockingIOError):
                while True:
                    deaf.send(b'{"jsonrpc":"2.0","id":1,"method":"help"}\n' * 100)
                    await asyncio.sleep(0)
            answer: dict[str, Any] = {}
            async with asyncio.timeout(_PATIENCE):
                while "result" not in answer:
                    answer = await ask(client := await asyncio.open_unix_connection(path), PID)
                    client[1].close()


async def test_answers_that_nobody_reads_are_bounded(tmp_path: Path) -> None:
    path, long = tmp_path / "control.sock", b'"' + b"x" * 4_000_000 + b'"'
    count = b'{"jsonrpc":"2.0","id":1,"method":"message.count"}\n'

    async def answer(_command: Command, _params: dict[str, Any], _form: Form) -> Relayed:
        return Relayed(long)

    limits = Limits(unread=10_000_000)
    async with serving(path, lambda _: _ALL, limits, answer):
        deaf = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for one in deaf:
            one.connect(str(path))
            one.sendall(count)
            # Each is answered before the next one asks.
            await asyncio.to_thread(select.select, [one], [], [], _PATIENCE)
        reading = await asyncio.open_unix_connection(path, limit=10_000_000)
        assert (await ask(reading, count.decode().strip()))["result"]
        reading[1].close()
        received = [await asyncio.to_thread(_all_of, one) for one in deaf]
        whole = [len(octets) > len(long) for octets in received]
        assert whole[-1], "one who was answered last was cut off first"
        assert not whole[0], "nobody was cut off"


def _all_of(client: socket.socket) -> bytes:
    """Return what has been sent to ``client``, up to the end of a line or of the connection."""
    with client:
        client.settimeout(_PATIENCE)
        octets = b""
        with contextlib.suppress(ConnectionError):
            while not octets.endswith(b"\n") and (more := client.recv(1_000_000)):
                octets += more
        return octets


def test_every_command_must_have_a_handler() -> None:
    switches = Switches()
    handlers = switches.handlers()
    del handlers["pid"]
    with pytest.raises(ValueError, match="do not match: pid"):
        ControlServer(handlers, lambda _: _ALL, switches.relay)

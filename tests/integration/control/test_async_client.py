"""The asynchronous client: what it returns, and what it raises when there is no answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.control_daemon import control_daemon

from mtad.control.async_client import call
from mtad.control.client import ControlClient
from mtad.errors import CommandError, UnavailableError

pytestmark = pytest.mark.integration


@pytest.fixture
def mute(tmp_path: Path) -> Iterator[socket.socket]:
    """A control socket of which nobody answers."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control.sock"))
        listening.listen()
        yield listening


async def test_calls_at_the_same_time_have_each_its_answer(tmp_path: Path) -> None:
    with control_daemon(tmp_path) as daemon:
        waiting = asyncio.create_task(call(daemon.path, "ready", {"wait": 20}, patience=30))
        first = await call(daemon.path, "listener.list", {})
        await call(daemon.path, "listener.start", {"selectors": ["lab"]})
        assert (await waiting)["ready"] is True
    assert {row["name"]: row["state"] for row in first["listeners"]} == {
        "mx": "running",
        "lab": "stopped",
    }


async def test_a_refusal_is_a_command_error(tmp_path: Path) -> None:
    with (
        control_daemon(tmp_path) as daemon,
        pytest.raises(CommandError, match="no listener is called 'x'") as caught,
    ):
        await call(daemon.path, "listener.stop", {"selectors": ["x"]})
    assert caught.value.help == "list shows them all"


async def test_without_a_daemon(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="there is no control socket"):
        await call(tmp_path / "control.sock", "pid", {})


async def test_a_daemon_that_says_nothing(mute: socket.socket) -> None:
    path = Path(mute.getsockname())
    with pytest.raises(UnavailableError, match="it took too long"):
        await call(path, "pid", {}, patience=0.05)


@pytest.mark.parametrize("said", [b"", b'{"jsonrpc"'])
async def test_a_daemon_that_ends_the_connection_instead(mute: socket.socket, said: bytes) -> None:
    """It does that in the middle of a line, or after nothing, and it has read what was asked."""
    asked = asyncio.create_task(call(Path(mute.getsockname()), "pid", {}, patience=10))
    with (await asyncio.to_thread(mute.accept))[0] as connection:
        await asyncio.to_thread(connection.recv, 1000)
        connection.sendall(said)
    with pytest.raises(UnavailableError, match="ended the connection"):
        await asked


@pytest.mark.parametrize("octets", [100, 4_000_000])
async def test_who_is_sent_away_learns_why(mute: socket.socket, octets: int) -> None:
    """Whether what he asks can still be written, or not, and nobody has read it."""
    refusal = b'{"error": {"code": -32000, "message": "you are one too many"}}\n'
    asked = asyncio.create_task(
        call(Path(mute.getsockname()), "pid", {"x": "x" * octets}, patience=10)
    )
    with (await asyncio.to_thread(mute.accept))[0] as connection:
        connection.sendall(refusal)
    with pytest.raises(CommandError, match="you are one too many"):
        await asked


async def test_a_call_that_is_cancelled_is_over_for_the_daemon(tmp_path: Path) -> None:
    with control_daemon(tmp_path) as daemon, ControlClient(daemon.path, timeout=10) as client:
        events = client.stream("events")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await call(daemon.path, "ready", {"wait": 60})
        assert (await asyncio.to_thread(next, events))["event"] == "wait.ended"

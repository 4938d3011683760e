"""sd_notify(3), with a real datagram socket in the manager's place."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtad.supervisor.notify import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        if request.param == "path":
            sock.bind(str(tmp_path / "notify"))
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        else:
            sock.bind("")  # the kernel chooses an abstract address (unix(7))
            monkeypatch.setenv("NOTIFY_SOCKET", "@" + sock.getsockname()[1:].decode())
        yield sock


def test_what_is_told_arrives(manager: socket.socket) -> None:
    told = ServiceManager()
    told.tell("READY=1", "STATUS=every enabled listener accepts")
    told.tell("WATCHDOG=1")
    assert manager.recv(1000) == b"READY=1\nSTATUS=every enabled listener accepts"
    assert manager.recv(1000) == b"WATCHDOG=1"


def test_children_inherit_neither_variables_nor_socket(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    before = {fd for fd in range(1000) if is_inheritable(fd)}
    told = ServiceManager()
    assert told.watchdog_seconds == 3.0
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()
    assert {fd for fd in range(1000) if is_inheritable(fd)} == before


def is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def test_a_manager_that_went_away_is_left_alone(manager: socket.socket) -> None:
    told = ServiceManager()
    manager.close()
    told.tell("READY=1")


def test_a_manager_that_does_not_read_is_not_waited_for(manager: socket.socket) -> None:
    told = ServiceManager()
    for _ in range(10_000):
        told.tell("WATCHDOG=1")
    assert manager.recv(1000) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", ["/nowhere/notify", "relative", "/" + "x" * 200, "vsock:2:1"])
def test_an_address_of_nobody_is_no_reason_to_fail(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    ServiceManager().tell("READY=1")


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 0.0), ("0", 0.0), ("1500000", 1.5), ("abc", 0.0), ("-5", 0.0)]
)
def test_watchdog(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", text)
    assert ServiceManager().watchdog_seconds == seconds


def test_without_a_manager_nothing_is_sent() -> None:
    assert "NOTIFY_SOCKET" not in os.environ
    told = ServiceManager()
    told.tell("READY=1")
    assert told.watchdog_seconds == 0.0

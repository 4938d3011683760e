"""Listeners that are closed for a while, or accept nobody, on the reserved port."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import Daemon, refuses, send, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

Start = Callable[..., Daemon]

_PORTS = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
LONG = 600.0


def show(daemon: Daemon) -> dict[str, Any]:
    shown: dict[str, Any] = daemon.call("listener.show", name="mx")["listener"]
    return shown


def happened(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    return [event for event in daemon.events() if event["event"] == name]


def is_greeted(client: socket.socket, seconds: float) -> bool:
    """Whether the banner comes within ``seconds``."""
    client.settimeout(seconds)
    try:
        return client.recv(100).startswith(b"220 ")
    except TimeoutError:
        return False


def knock() -> socket.socket:
    return socket.create_connection(("127.0.0.1", 25), 5)


def test_closed_for_a_second_and_open_again(started: Start) -> None:
    """The retained capability at work: nobody has to start it."""
    daemon = started(listen="127.0.0.1:25")
    before = time.time()
    daemon.call("listener.stop", selectors=["mx"], **{"for": 3})
    assert refuses("127.0.0.1", 25)
    assert daemon.call("ready", wait=15)["ready"]
    assert time.time() >= before + 3 - 0.001
    send(25)
    assert show(daemon)["fault"] is None
    (begun,), (over,) = (happened(daemon, f"listener.{one}") for one in ("fault", "fault_over"))
    assert (begun["fault"], begun["seconds"], over["fault"]) == ("closed", 3, "closed")


def test_what_is_said_meanwhile(started: Start) -> None:
    daemon = started(listen="127.0.0.1:25")
    (row,) = daemon.call("listener.stop", selectors=["mx"], **{"for": LONG})["listeners"]
    assert (row["state"], row["fault"]["lack"]) == ("stopped", "closed")
    assert time.time() < row["fault"]["until"] <= time.time() + LONG
    listed = daemon.mtactl("listener", "list").stdout
    assert re.search(r" stopped, closed until [0-9:]{8}Z ", listed)
    ready = daemon.call("ready")
    assert not ready["ready"]
    why = r"listener mx is closed until [0-9:]{8}Z, by root \(uid 0\)"
    assert re.fullmatch(why, ready["problems"][0])


def test_sessions_end_as_a_stop_has_it(started: Start) -> None:
    daemon = started(listen="127.0.0.1:25")
    with smtplib.SMTP("127.0.0.1", 25, timeout=5) as client:
        daemon.call("listener.stop", selectors=["mx"], **{"for": LONG})
        assert client.sock is not None
        assert client.sock.recv(100).startswith(b"421 ")


def test_without_the_capability_it_does_not_open_again(started: Start) -> None:
    """The negative control: the same daemon, which may open port 25 once."""
    _PORTS.write_text("25")
    daemon = started(listen="127.0.0.1:25", capabilities="")
    daemon.call("listener.add", name="second", endpoint="127.0.0.1:0")
    daemon.call("listener.stop", selectors=["mx"], **{"for": 3})
    _PORTS.write_text("1024")
    until(lambda: show(daemon)["state"] == "failed")
    row = show(daemon)
    assert row["error"]["code"] == "EACCES"
    assert "cap_net_bind_service" in row["error"]["hint"]
    assert row["fault"] is None
    assert "listener mx is failed: cannot listen on 127.0.0.1:25" in daemon.mtactl("ready").stdout
    assert refuses("127.0.0.1", 25)
    send(daemon.port("second"))


def test_a_port_that_was_taken_meanwhile(started: Start) -> None:
    daemon = started(listen="127.0.0.1:25")
    daemon.call("listener.stop", selectors=["mx"], **{"for": 3})
    with socket.create_server(("127.0.0.1", 25)):
        until(lambda: show(daemon)["state"] == "failed")
        assert show(daemon)["error"]["code"] == "EADDRINUSE"
    assert daemon.call("listener.start", selectors=["mx"])["ok"]
    send(25)


@pytest.mark.parametrize("lack", ["stop", "deaf"])
@pytest.mark.parametrize("end", ["start", "restart"])
def test_whoever_starts_it_ends_the_fault(started: Start, lack: str, end: str) -> None:
    daemon = started(listen="127.0.0.1:25")
    daemon.call(f"listener.{lack}", selectors=["mx"], **{"for": 2})
    (row,) = daemon.call(f"listener.{end}", selectors=["mx"])["listeners"]
    assert (row["state"], row["fault"]) == ("running", None)
    send(25)
    opened = len(happened(daemon, "listener.running"))
    time.sleep(2.2)  # nothing more is to happen when the time would have been over
    assert len(happened(daemon, "listener.running")) == opened
    assert len(happened(daemon, "listener.fault_over")) == 1
    send(25)


@pytest.mark.parametrize("lack", ["stop", "deaf"])
@pytest.mark.parametrize("end", ["stop", "remove"])
def test_whoever_stops_it_means_it(started: Start, lack: str, end: str) -> None:
    daemon = started(listen="127.0.0.1:25")
    daemon.call(f"listener.{lack}", selectors=["mx"], **{"for": 2})
    (row,) = daemon.call(f"listener.{end}", selectors=["mx"])["listeners"]
    assert (row["state"], row["fault"]) == ("stopped", None)
    time.sleep(2.2)
    assert refuses("127.0.0.1", 25)
    assert happened(daemon, "listener.fault_over")


def test_a_reload_that_disables_it_means_it(started: Start) -> None:
    daemon = started(listen="127.0.0.1:25")
    daemon.call("listener.stop", selectors=["mx"], **{"for": 0.5})
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("  mx:\n", "  mx:\n    enabled: no\n"))
    assert daemon.call("config.reload")["ok"]
    time.sleep(0.7)
    assert refuses("127.0.0.1", 25)


def test_a_reload_keeps_it_closed_until_then(started: Start) -> None:
    daemon = started(listen="127.0.0.1:25")
    daemon.call("listener.stop", selectors=["mx"], **{"for": 3})
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("  mx:\n", "  mx:\n    backlog: 7\n"))
    assert daemon.call("config.reload")["ok"]
    assert refuses("127.0.0.1", 25)
    assert daemon.call("ready", wait=5)["ready"]
    assert show(daemon)["backlog"] == 7
    send(25)


def test_deaf(started: Start) -> None:
    """Sessions go on, one more is let in and waits, others do not get that far."""
    daemon = started(listen="127.0.0.1:25", workers=2)
    until(lambda: daemon.call("summary")["workers"]["serving"] == 2)
    with smtplib.SMTP("127.0.0.1", 25, timeout=5) as client:
        answer = daemon.call("listener.deaf", selectors=["mx"], **{"for": 3})
        assert [row["fault"]["lack"] for row in answer["listeners"]] == ["deaf"]
        with knock() as waiting:
            assert not is_greeted(waiting, 0.3)
            with pytest.raises(TimeoutError):
                socket.create_connection(("127.0.0.1", 25), 0.5)
            assert client.noop()[0] == 250
            row = show(daemon)
            assert (row["state"], row["fault"]["lack"]) == ("running", "deaf")
            assert "is deaf until" in daemon.call("ready")["problems"][0]
            assert is_greeted(waiting, 10)
        assert client.noop()[0] == 250
    assert daemon.call("ready")["ready"]
    send(25)


def test_a_new_worker_is_as_deaf(started: Start) -> None:
    daemon = started(listen="127.0.0.1:25")
    daemon.call("listener.deaf", selectors=["mx"], **{"for": LONG})
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGKILL)
    until(lambda: daemon.workers() not in ([], [worker]))
    until(lambda: daemon.call("summary")["workers"]["serving"] == 1)
    with knock() as waiting:
        assert not is_greeted(waiting, 0.5)
        daemon.call("listener.start", selectors=["mx"])
        assert is_greeted(waiting, 5)


def test_only_an_open_listener_can_be_deaf(started: Start) -> None:
    daemon = started(listen="127.0.0.1:25")
    daemon.call("listener.stop", selectors=["mx"])
    answer = daemon.mtactl("listener", "deaf", "mx", "--for", "1")
    assert answer.returncode == 1
    assert "mx is stopped: only an open listener can be deaf" in answer.stderr


def test_deaf_again_and_again(started: Start) -> None:
    """Nothing is left of the openings that there were, and each time takes the new time."""
    daemon = started(listen="127.0.0.1:25")
    for _ in range(20):
        daemon.call("listener.deaf", selectors=["mx"], **{"for": LONG})
        daemon.call("listener.deaf", selectors=["mx"], **{"for": 0.02})
        assert daemon.call("ready", wait=5)["ready"]
    send(25)
    until(lambda: show(daemon)["draining"] == 0)


def test_the_daemon_ends_meanwhile(started: Start) -> None:
    daemon = started(listen="127.0.0.1:25")
    daemon.call("listener.stop", selectors=["mx"], **{"for": 0.2})
    assert daemon.stop() == 0


def test_a_rule_closes_it_for_two_seconds(started: Start) -> None:
    """The session goes on meanwhile, and nobody has to open the listener again."""
    daemon = started(listen="127.0.0.1:25")
    daemon.call("rule.add", name="r", text="at: noop, when: {nth: 1}, do: {listener: {close: 2}}")
    with smtplib.SMTP("127.0.0.1", 25, timeout=5) as client:
        closed = time.monotonic()
        assert client.noop()[0] == 250
        until(lambda: refuses("127.0.0.1", 25))
        row = show(daemon)
        assert (row["state"], row["fault"]["by"]) == ("draining", "rule r")
        assert "listener mx is closed until" in daemon.call("ready")["problems"][0]
        assert client.noop()[0] == 250
        until(lambda: not refuses("127.0.0.1", 25))
        assert 1.9 < time.monotonic() - closed < 12
        assert client.noop()[0] == 250
    send(25)
    assert [one["by"] for one in happened(daemon, "listener.fault")] == ["rule r"]


def test_a_rule_makes_it_deaf(started: Start) -> None:
    daemon = started(listen="127.0.0.1:25")
    daemon.call("rule.add", name="r", text="at: quit, for: {hits: 1}, do: {listener: {deaf: 2}}")
    with smtplib.SMTP("127.0.0.1", 25, timeout=5):
        pass
    until(lambda: show(daemon)["fault"])
    with knock() as waiting:
        assert not is_greeted(waiting, 0.5)
        assert is_greeted(waiting, 10)
    assert show(daemon)["fault"] is None


@pytest.mark.parametrize(
    ("faults", "lack", "seconds"),
    [
        (("close: 60", "close: 600"), "closed", 600),
        (("close: 600", "close: 60"), "closed", 600),
        (("deaf: 60", "deaf: 600"), "deaf", 600),
        (("deaf: 600", "close: 60"), "closed", 60),
        (("close: 60", "deaf: 600"), "closed", 60),
    ],
)
def test_of_two_faults(started: Start, faults: tuple[str, str], lack: str, seconds: float) -> None:
    """The one that closes holds; of alike ones, that which lasts longer."""
    daemon = started(listen="127.0.0.1:25")
    for name, fault in zip(("noop", "rset"), faults, strict=True):
        daemon.call("rule.add", name=name, text=f"at: {name}, do: {{listener: {{{fault}}}}}")
    with smtplib.SMTP("127.0.0.1", 25, timeout=5) as client:
        client.noop()
        client.rset()
        fault = show(daemon)["fault"]
        assert fault["lack"] == lack
        assert seconds - 30 < fault["until"] - time.time() <= seconds


def test_a_session_of_a_listener_that_was_stopped_opens_nothing(started: Start) -> None:
    daemon = started(listen="127.0.0.1:25")
    daemon.call("rule.add", name="r", text="at: rset, do: {listener: {close: 0.1}}")
    client = smtplib.SMTP("127.0.0.1", 25, timeout=5)
    client.ehlo()
    client.mail("a@example.org")
    daemon.call("listener.stop", selectors=["mx"], drain=30)
    assert client.rset()[0] == 250
    client.close()
    assert daemon.call("rule.show", name="r")["rule"]["fired"] == 1
    time.sleep(0.3)
    assert refuses("127.0.0.1", 25)
    assert happened(daemon, "listener.fault") == []

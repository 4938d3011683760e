"""A listener that no worker can serve: failed with its reason, the others as they were."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from harness.daemon import Daemon, available, config, refuses, send, until
from harness.lies import channel_of

from mtad.ipc.messages import Refused, Tried

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

Start = Callable[..., Daemon]
TWO = "  odd: {{listen: '127.0.0.2:25', profile: odd}}\n"
ODD = "profiles: {{odd: {{handler: {handler}}}}}\n"
MISSING = "no_such_package.module:Handler"
PRESENT = "aiosmtpd.handlers:Sink"


def row(daemon: Daemon, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = daemon.call("listener.show", name=name)["listener"]
    return shown


def told(daemon: Daemon, event: str) -> list[dict[str, Any]]:
    return [one for one in daemon.events() if one["event"] == event]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_handler_that_is_not_there(directory: Path, workers: int) -> None:
    """Never ready, never said to run; mended by a reload."""
    text = config(
        directory, listen="127.0.0.1:25", workers=workers, extra=ODD.format(handler=MISSING)
    )
    text = text.replace("listeners:\n", f"listeners:\n{TWO.format()}")
    with Daemon(directory, text) as daemon:
        until(lambda: available(daemon.socket))
        until(lambda: row(daemon, "odd")["state"] != "starting")
        assert row(daemon, "odd")["state"] == "failed"
        assert refuses("127.0.0.2", 25)
        error = row(daemon, "odd")["error"]
        assert error["text"].startswith("no worker can serve it: ")
        assert "no_such_package" in error["text"]
        assert (error["errno"], error["code"]) == (None, None)
        answer = daemon.mtactl("listener", "list")
        assert "no_such_package" in answer.stdout
        assert answer.returncode == 0
        (failed,) = told(daemon, "listener.failed")
        assert failed["listener"] == "odd"
        assert "no_such_package" in failed["reason"]
        assert daemon.mtactl("ready", "--wait", "0.3").returncode != 0
        assert not told(daemon, "daemon.ready")
        send(25)  # the other one goes on

        answer = daemon.call("listener.start", selectors=["odd"])  # tries again, in vain
        assert not answer["ok"]
        assert [one["state"] for one in answer["listeners"]] == ["failed"]
        assert len(told(daemon, "listener.failed")) == 2

        daemon.config.write_text(text.replace(MISSING, PRESENT))
        assert daemon.call("config.reload")["ok"]
        assert row(daemon, "odd")["state"] == "running"
        assert row(daemon, "odd")["error"] is None
        assert not refuses("127.0.0.2", 25)
        assert daemon.mtactl("ready").returncode == 0
        running = [one["listener"] for one in told(daemon, "listener.running")]
        assert running.count("odd") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_listener_never_runs_before_it_is_served(started: Start, workers: int) -> None:
    """Each time a command starts it: the answer is the workers' own, and so is every state."""
    extra = ODD.format(handler=MISSING)
    daemon = started(listen="127.0.0.1:25", workers=workers, extra=extra)
    for number in range(10):
        name = f"odd{number}"
        new = {"name": name, "endpoint": f"127.0.0.{number + 2}:25", "profile": "odd"}
        for answer in (
            daemon.call("listener.add", **new),
            daemon.call("listener.restart", selectors=[name]),
        ):
            assert not answer["ok"]
            assert [one["state"] for one in answer["listeners"]] == ["failed"]
            assert "no_such_package" in answer["listeners"][0]["error"]["text"]
        answer = daemon.call("listener.restart", selectors=["mx"])
        assert [one["state"] for one in answer["listeners"]] == ["running"]
    assert {one["listener"] for one in told(daemon, "listener.running")} == {"mx"}


def test_a_reload_with_a_handler_that_is_not_there(started: Start) -> None:
    """All of it or nothing: the answer says where the mistake is, and everything stays."""
    daemon = started(listen="127.0.0.1:25", extra=ODD.format(handler=PRESENT))
    before = daemon.config.read_text()
    missing = before.replace(PRESENT, MISSING).replace("127.0.0.1:25", "127.0.0.3:25")
    daemon.config.write_text(missing)
    for method in ("config.check", "config.reload"):
        answer = daemon.call(method)
        assert not answer["ok"]
        (problem,) = answer["problems"]
        assert re.match(rf"{daemon.config}:\d+: profiles\.odd\.handler: .*no_such_package", problem)
    assert row(daemon, "mx")["endpoint"] == "127.0.0.1:25"
    send(25)


def test_one_worker_of_two_cannot_object_to_a_reload(started: Start) -> None:
    daemon = started(listen="127.0.0.1:25", workers=2, extra=ODD.format(handler=PRESENT))
    until(lambda: daemon.call("summary")["workers"]["serving"] == 2)
    first, second = daemon.workers()
    os.kill(first, signal.SIGSTOP)
    os.kill(second, signal.SIGSTOP)
    with channel_of(first) as channel, ThreadPoolExecutor() as pool:
        reload = pool.submit(daemon.call, "config.reload")
        for ticket in range(10):
            channel.send(msgspec.msgpack.encode(Tried(ticket, "I will not")))
        os.kill(second, signal.SIGCONT)
        assert reload.result(10)["ok"]
    os.kill(first, signal.SIGCONT)


def test_what_a_reload_wants_cannot_be_had_any_more(started: Start) -> None:
    """A key is gone between the look at it and its use: failed, and the session goes on."""
    daemon = started(listen="127.0.0.1:25")
    (worker,) = daemon.workers()
    with smtplib.SMTP("127.0.0.1", 25, timeout=10) as client:
        os.kill(worker, signal.SIGSTOP)
        with daemon.config.open("a") as file:
            file.write("profiles: {default: {hostname: other.example}}\n")
        assert daemon.call("config.reload")["ok"]
        (key,) = (daemon.store / "tls").glob("*.key")
        key.unlink()
        os.kill(worker, signal.SIGCONT)
        until(lambda: row(daemon, "mx")["state"] == "failed")
        assert str(key) in row(daemon, "mx")["error"]["text"]
        assert refuses("127.0.0.1", 25)
        assert daemon.mtactl("ready").returncode == 1
        assert client.noop()[0] == 250
        assert row(daemon, "mx")["sessions"]["active"] == 1
        assert row(daemon, "mx")["draining"] == 1
        daemon.call("listener.stop", selectors=["mx"], cut=True, wait=True)
        assert row(daemon, "mx")["draining"] == 0
        with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
            client.noop()
        client.close()
    assert not daemon.call("listener.start", selectors=["mx"])["ok"]
    assert daemon.call("config.reload")["ok"]  # which makes the key anew
    assert daemon.call("listener.start", selectors=["mx"])["ok"]
    send(25)


def test_a_worker_that_could_not_serve_does_when_the_cause_is_gone(started: Start) -> None:
    """A key is missing when one of two workers reads it: that one is asked again."""
    daemon = started(listen="127.0.0.1:25", workers=2)
    until(lambda: daemon.call("summary")["workers"]["serving"] == 2)
    first, second = daemon.workers()
    os.kill(first, signal.SIGSTOP)
    with daemon.config.open("a") as file:
        file.write("profiles: {default: {hostname: other.example}}\n")
    assert daemon.call("config.reload")["ok"]
    until(lambda: _greeting().startswith(b"220 other.example"))
    (key,) = (daemon.store / "tls").glob("*.key")
    aside = key.rename(key.with_suffix(".aside"))
    os.kill(first, signal.SIGCONT)
    until(lambda: not daemon.call("status")["ok"])
    status = daemon.call("status")
    (problem,) = status["problems"]
    assert problem.startswith("worker 1 does not serve listener mx: ")
    assert str(key) in problem
    assert status["ready"]
    assert row(daemon, "mx")["state"] == "running"
    os.kill(second, signal.SIGSTOP)
    assert _greeting() == b""  # nobody accepts
    aside.rename(key)
    until(lambda: _greeting().startswith(b"220 other.example"))
    assert daemon.call("status")["ok"]
    assert [e["event"] for e in daemon.events()].count("worker.refused") == 1
    os.kill(second, signal.SIGCONT)


def _greeting() -> bytes:
    """Return what is said within a second."""
    with socket.create_connection(("127.0.0.1", 25), timeout=1) as client:
        try:
            return client.recv(1000)
        except TimeoutError:
            return b""


def test_one_worker_of_two_cannot_take_a_listener_down(started: Start) -> None:
    """Be it for want of descriptors, or because it was taken over."""
    daemon = started(listen="127.0.0.1:25", workers=2)
    until(lambda: daemon.call("summary")["workers"]["serving"] == 2)
    first, second = daemon.workers()
    os.kill(first, signal.SIGSTOP)  # it takes no connection
    refusal = msgspec.msgpack.encode(Refused((1, 2, 3), "I will not"))
    with channel_of(first) as channel:
        for _ in range(3):
            channel.send(refusal)
    until(lambda: [e for e in daemon.events() if e["event"] == "worker.refused"])
    (refused,) = [one for one in daemon.events() if one["event"] == "worker.refused"]
    assert (refused["listeners"], refused["reason"]) == (["mx"], "I will not")
    assert row(daemon, "mx")["state"] == "running"
    send(25)
    with channel_of(second) as channel:
        channel.send(refusal)
    until(lambda: row(daemon, "mx")["state"] == "failed")
    assert row(daemon, "mx")["error"]["text"] == "no worker can serve it: I will not"
    assert refuses("127.0.0.1", 25)
    assert daemon.call("listener.start", selectors=["mx"])["ok"]
    send(25)
    os.kill(first, signal.SIGCONT)

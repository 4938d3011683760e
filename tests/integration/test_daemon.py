"""The daemon as a program: its start, its signals, its files, its log, its end."""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import PROGRAMS, Daemon, available, config, refuses, send, until
from harness.descriptors import opened

from mtad.errors import CommandError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

Start = Callable[..., Daemon]
BAD_CONFIGS = Path(__file__).parents[1] / "bad_configs"


def test_sigterm_drains(started: Start) -> None:
    """A transaction may finish; then everything is gone: port, socket, pid file, processes."""
    daemon = started(listen="127.0.0.1:25")
    workers = daemon.workers()
    pid_file = daemon.directory / "run" / "mtad.pid"
    assert int(pid_file.read_text()) == daemon.process.pid == daemon.call("pid")["pid"]
    with smtplib.SMTP("127.0.0.1", 25) as client:
        client.ehlo()
        client.mail("a@example.org")
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: refuses("127.0.0.1", 25))
        client.rcpt("b@example.com")
        assert client.data(b"last words\r\n")[0] == 250
        assert client.getreply()[0] == 421
        client.close()
    assert daemon.process.wait(10) == 0
    assert daemon.messages() == [b"last words\r\n"]
    assert not daemon.socket.exists()
    assert not pid_file.exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_second_sigterm_ends_now(started: Start) -> None:
    """Nobody has to wait for a session that does not end."""
    daemon = started(listen="127.0.0.1:25", extra="")
    with smtplib.SMTP("127.0.0.1", 25) as client:
        client.ehlo()
        client.mail("a@example.org")
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: "daemon.stopping" in daemon.log.read_text())
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(10) == 0
        assert time.monotonic() - began < 3  # the drain would have been 5
        client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_while_it_starts(started: Start, number: int) -> None:
    """No stack trace, and nothing left."""
    daemon = started(listen="127.0.0.1:25", ready=False)
    maps = Path(f"/proc/{daemon.process.pid}/maps")
    until(lambda: "pydantic_core" in maps.read_text())  # the supervisor, before its event loop
    assert daemon.stop(number) in (-number, 0)
    assert "Traceback" not in daemon.log.read_text()
    assert not daemon.socket.exists()


def test_nothing_is_opened_while_the_daemon_stops(started: Start) -> None:
    """No port comes back, and the end comes with the last session, not with the drain's end."""
    daemon = started(listen="127.0.0.1:25")
    with smtplib.SMTP("127.0.0.1", 25) as client:
        client.ehlo()
        client.mail("a@example.org")
        daemon.call("shutdown", drain=60.0)
        commands: dict[str, dict[str, Any]] = {
            "listener.start": {"selectors": ["mx"]},
            "listener.restart": {"selectors": ["mx"]},
            "listener.add": {"name": "new", "endpoint": "127.0.0.2:25"},
            "config.reload": {},
        }
        for method, params in commands.items():
            with pytest.raises(CommandError, match="the daemon is stopping"):
                daemon.call(method, **params)
        assert refuses("127.0.0.1", 25)
        client.rset()
        client.close()
    assert daemon.process.wait(10) == 0


def test_shutdown_by_command(started: Start) -> None:
    """`mtactl shutdown --cut` answers, and the daemon ends."""
    daemon = started(listen="127.0.0.1:25")
    assert daemon.mtactl("shutdown", "--cut").returncode == 0
    assert daemon.process.wait(10) == 0
    assert daemon.mtactl("status").returncode == 3


def test_sighup_reopens_the_log(started: Start, directory: Path) -> None:
    """Rotated away, all processes go on in a new file, none in the old one."""
    target = directory / "log" / "mtad.log"
    daemon = started(
        listen="127.0.0.1:25",
        extra=f"log: {{target: {target}, form: json, level: debug}}\n",
    )
    send(25)
    old = target.rename(target.with_suffix(".1"))
    daemon.process.send_signal(signal.SIGHUP)
    until(target.exists)
    size = old.stat().st_size
    send(25)
    until(lambda: "message.accepted" in target.read_text())
    assert old.stat().st_size == size
    assert target.stat().st_mode & 0o777 == 0o640
    kinds = {json.loads(line)["event"] for line in target.read_text().splitlines()}
    assert "message.accepted" in kinds
    assert daemon.mtactl("log", "reopen").stdout.strip() == str(target)


def test_the_log_holds_no_raw_control_character(started: Start) -> None:
    """Whatever a sender says, a line of the log is a line, and a terminal stays sane."""
    daemon = started(listen="127.0.0.1:25")
    with socket.create_connection(("127.0.0.1", 25)) as client:
        client.sendall(
            b"HELO a\x1b[2J\x07\x00b\xc2\x9b\xe2\x80\xae\r\n"
            b'MAIL FROM:<"\x1b]0;owned\x07"@x.org>\r\n'
            b"RCPT TO:<b@c.d>\r\nDATA\r\n.\r\nQUIT\r\n"
        )
        client.makefile("rb").read()
    log = daemon.log.read_bytes()
    assert set(log) & ({*range(32), 127} - {10}) == set()
    assert log.isascii()
    assert all(isinstance(json.loads(line), dict) for line in log.splitlines())


def test_log_level_reaches_every_process(started: Start) -> None:
    """`mtactl log level debug`: every message is worth a line."""
    daemon = started(listen="127.0.0.1:25", workers=2)
    assert daemon.mtactl("log", "level", "info").returncode == 0
    send(25)
    send(25)
    assert daemon.mtactl("log", "level", "debug").returncode == 0
    send(25)
    until(lambda: "message.accepted" in daemon.log.read_text())
    assert daemon.log.read_text().count("message.accepted") == 1


def test_events_are_live(started: Start, directory: Path) -> None:
    """A follower sees each step of a listener as it happens."""
    daemon = started(listen="127.0.0.1:25")
    output = directory / "events"
    command = [str(PROGRAMS / "mtactl"), "--socket", str(daemon.socket), "--json", "events"]
    with output.open("w") as file:
        follower = subprocess.Popen(command, stdout=file)

    steps = ["listener.draining", "listener.stopped", "listener.running"]

    def sees_a_whole_restart() -> bool:
        """Whether the follower has told of all of one: it may begin in the middle of another."""
        daemon.call("listener.restart", selectors=["mx"])
        seen = [json.loads(line)["event"] for line in output.read_text().splitlines()]
        return any(seen[at : at + len(steps)] == steps for at in range(len(seen)))

    try:
        until(sees_a_whole_restart)
    finally:
        follower.send_signal(signal.SIGINT)
        follower.wait(10)


def test_a_second_daemon_is_refused(started: Start, directory: Path) -> None:
    """It says who is there, touches nothing, and the first goes on."""
    daemon = started(listen="127.0.0.1:25")
    second = subprocess.run(
        [PROGRAMS / "mtad", "run", daemon.config], capture_output=True, text=True, timeout=20
    )
    assert second.returncode == 1
    assert str(daemon.process.pid) in second.stderr
    assert "Traceback" not in second.stderr
    assert available(daemon.socket)
    send(25)


def test_after_kill_9_the_next_start_needs_no_help(started: Start) -> None:
    """A stale socket, a stale pid file: taken over."""
    daemon = started(listen="127.0.0.1:25")
    daemon.stop(signal.SIGKILL)
    assert daemon.socket.exists()
    daemon.start().wait_ready()
    send(25)


def test_a_planted_link_is_not_followed(directory: Path) -> None:
    """The control socket's name leads elsewhere: refused by name, nothing touched."""
    (directory / "run").mkdir()
    os.chown(directory / "run", *ids("ecuser"))
    precious = directory / "precious"
    precious.write_text("precious")
    (directory / "run" / "control.sock").symlink_to(precious)
    with Daemon(directory, config(directory, listen="127.0.0.1:25")) as daemon:
        assert daemon.process.wait(20) == 1
    assert "symbolic link" in daemon.log.read_text()
    assert precious.read_text() == "precious"
    assert refuses("127.0.0.1", 25)


@pytest.mark.parametrize(
    "name", ["mail.db", "mail.db-wal", "mail.db-shm", "mail.lock", "index.db", "bodies"]
)
def test_links_planted_in_the_store_lead_to_nothing_of_roots(directory: Path, name: str) -> None:
    """Whoever had the user's rights once gains none of root's by the next start as root."""
    victim, store = directory / "victim", directory / "store"
    store.mkdir()
    (victim / "inner").mkdir(parents=True)
    (victim / "file").write_text("precious")
    (victim / "inner" / "0123456789abcdef.tmp").write_text("precious")
    target = victim / ("inner" if name == "bodies" else "file")
    (store / name).symlink_to(target)
    for path in (store, store / name):
        os.chown(path, *ids("ecuser"), follow_symlinks=False)
    before = {path: state_of(path) for path in (victim, *victim.rglob("*"))}

    with Daemon(directory, config(directory, listen="127.0.0.1:25")) as daemon:
        daemon.wait_ready()
        with suppress(smtplib.SMTPException):  # it may be refused
            send(25)
        with suppress(CommandError):
            daemon.call("message.count")

    assert {path: state_of(path) for path in (victim, *victim.rglob("*"))} == before


def state_of(path: Path) -> tuple[int, int, int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, found.st_mode, found.st_size, found.st_mtime_ns


def ids(user: str) -> tuple[int, int]:
    import pwd

    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


@pytest.mark.parametrize("name", ["several", "capability-unknown", "profile-unknown", "tab"])
def test_nothing_is_opened_for_a_bad_configuration(directory: Path, name: str) -> None:
    """The message of `mtad check`, exit status 1, and not a file or port made."""
    text = (BAD_CONFIGS / f"{name}.yaml").read_text()
    with Daemon(directory, text) as daemon:
        assert daemon.process.wait(20) == 1
    assert "mtad.yaml" in daemon.log.read_text()
    assert "Traceback" not in daemon.log.read_text()
    assert sorted(path.name for path in directory.iterdir()) == ["log.json", "mtad.yaml"]


def test_one_bad_listener_does_not_stop_the_rest(started: Start) -> None:
    """At start as later: the daemon says that it is not ready, why, and serves what it can."""
    daemon = started(ready=False, listen="192.0.2.1:25")
    until(lambda: available(daemon.socket))
    assert daemon.call("listener.add", name="good", endpoint="127.0.0.1:25")["ok"]
    send(25)
    answer = daemon.mtactl("ready")
    assert answer.returncode == 1
    assert "no interface of this machine has the address" in answer.stdout + answer.stderr


def test_sd_notify(directory: Path) -> None:
    """READY=1 when every enabled listener accepts, signs of life, STOPPING=1; no child speaks."""
    path = directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        path.chmod(0o777)
        manager.settimeout(10)
        environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "3000000"}
        text = config(directory, listen="127.0.0.1:25")
        with Daemon(directory, text, environment=environment) as daemon:
            told = b""
            while b"READY=1" not in told:
                told = manager.recv(4_096)
            send(25)
            signs = [manager.recv(4_096) for _ in range(3)]
            assert signs == [b"WATCHDOG=1"] * 3
            (worker,) = daemon.workers()
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{worker}/environ").read_bytes()
            daemon.process.send_signal(signal.SIGTERM)
            while b"STOPPING=1" not in told:
                told = manager.recv(4_096)
            assert daemon.process.wait(10) == 0


def test_what_was_inherited_is_closed(started: Start, directory: Path) -> None:
    """A descriptor that whoever started us left open reaches neither supervisor nor worker."""
    secret = directory / "secret"
    secret.write_text("secret")
    leak = f'exec 7<{secret}; exec "$@"'
    daemon = started(listen="127.0.0.1:25", prefix=("bash", "-c", leak, "leak"))
    for pid in (daemon.call("pid")["pid"], *daemon.workers()):
        targets = opened(pid)
        assert str(secret) not in targets
        assert targets


def test_a_store_that_fails_says_nothing_of_itself(started: Start) -> None:
    """No database: 451, no path and no error's text to the sender; the status has the reason."""
    daemon = started(listen="127.0.0.1:25")
    until(lambda: (daemon.store / "mail.db").exists())
    away = daemon.store.rename(daemon.store.with_name("away"))
    with smtplib.SMTP("127.0.0.1", 25) as client:
        client.ehlo()
        client.mail("a@example.org")
        client.rcpt("b@example.com")
        code, text = client.data(b"x\r\n")
        assert code == 451
        assert not re.search(rb"/|Error|Errno|Traceback", text)
        status = daemon.call("status")
        assert status["ready"]
        assert not status["ok"]
        assert any("no mail is kept: " in problem for problem in status["problems"])
        away.rename(daemon.store)
        until(lambda: daemon.call("status")["ok"])
        client.mail("a@example.org")
        client.rcpt("b@example.com")
        assert client.data(b"y\r\n")[0] == 250
    assert daemon.messages() == [b"y\r\n"]
    kinds = [event["event"] for event in daemon.events()]
    assert kinds.count("store.failed") == kinds.count("store.works") == 1


def test_interpreter_of_the_tests_is_the_daemons(started: Start) -> None:
    """What is tested is what was installed: the versions agree."""
    daemon = started(listen="127.0.0.1:25")
    told = daemon.call("version")
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {name: told[name] for name in ("aiosmtpd", "uvloop")} == {
        name: metadata.version(name) for name in ("aiosmtpd", "uvloop")
    }

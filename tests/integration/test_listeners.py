"""Listeners on the reserved port: stopped and started while the daemon runs, as ecuser."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from harness.daemon import Daemon, available, refuses, send, until

from mtad.control.client import ControlClient
from mtad.errors import CommandError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

Start = Callable[..., Daemon]


def state(daemon: Daemon, name: str = "mx") -> str:
    found: str = daemon.call("listener.show", name=name)["listener"]["state"]
    return found


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def held_by_a_server() -> bool:
    """Whether a connection to port 25 is open at its server's end (proc_net_tcp: states 01, 08)."""
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/thread-self/net/{family}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if local.endswith(":0019") and state in ("01", "08"):
                return True
    return False


def assert_reset(client: smtplib.SMTP) -> None:
    assert client.sock is not None
    with pytest.raises(ConnectionResetError):
        client.sock.recv(100)


@pytest.mark.timeout(300)
def test_a_thousand_cycles_lose_nothing(started: Start) -> None:
    """Each cycle: closed means refused, open means mail arrives; nothing leaks."""
    daemon = started(listen="127.0.0.1:25")
    processes = [daemon.process.pid, *daemon.workers()]
    cycles, swaks_every = 1_000, 100
    before: list[int] = []
    with ControlClient(daemon.socket) as control:

        def open_when_quiet() -> list[int]:
            until(lambda: control.call("summary")["sessions"]["active"] == 0)
            until(lambda: not held_by_a_server())  # its descriptor goes after its last count
            return [descriptors(pid) for pid in processes]

        for cycle in range(cycles):
            if cycle == 10:  # by now everything that is opened once has been
                before = open_when_quiet()
            assert control.call("listener.stop", selectors=["mx"])["ok"]
            assert refuses("127.0.0.1", 25)
            answer = control.call("listener.start", selectors=["mx"])
            assert answer["ok"], answer
            if cycle % swaks_every:
                send(25, b"Subject: %d\r\n\r\n" % cycle)
            else:
                swaks = ["swaks", "--server", "127.0.0.1", "--from", "a@example.org"]
                swaks += ["--to", "b@example.com", "--header", f"Subject: {cycle}", "--silent", "3"]
                subprocess.run(swaks, check=True)
        assert open_when_quiet() == before
    subjects = [int(re.findall(rb"(?m)^Subject: (\d+)", mail)[0]) for mail in daemon.messages()]
    assert sorted(subjects) == list(range(cycles))
    assert "EADDRINUSE" not in daemon.log.read_text()


def test_without_the_capability_port_25_is_refused(started: Start) -> None:
    """The negative control of every test here; the refusal says what is missing."""
    daemon = started(ready=False, listen="127.0.0.1:25", capabilities="")
    until(lambda: available(daemon.socket))
    listener = daemon.call("listener.show", name="mx")["listener"]
    assert listener["state"] == "failed"
    assert listener["error"]["code"] == "EACCES"
    assert "cap_net_bind_service" in listener["error"]["hint"]
    answer = daemon.mtactl("listener", "start", "mx")
    assert answer.returncode == 1
    assert "Permission denied" in answer.stdout + answer.stderr
    assert daemon.mtactl("ready").returncode == 1
    assert refuses("127.0.0.1", 25)


def test_permitted_only_is_raised_for_the_bind_alone(started: Start) -> None:
    """`+p`: port 25 opens again and again, and the effective set is empty in between."""
    daemon = started(listen="127.0.0.1:25", capabilities="cap_net_bind_service+p")
    for _ in range(3):
        assert daemon.call("listener.restart", selectors=["mx"])["ok"]
        send(25)
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        assert re.search(r"CapPrm:\s+0*400\n", status)
        assert re.search(r"CapEff:\s+0+\n", status)


def test_a_thousand_listeners_from_one_line(started: Start) -> None:
    """They open and close together, and each of them accepts."""
    daemon = started(listen="127.1.0.0/22:25")
    answer = daemon.call("listener.list")
    assert len(answer["listeners"]) == 1_024
    for address in ("127.1.0.0", "127.1.1.7", "127.1.3.255"):
        send(25, host=address)
    assert daemon.call("listener.stop", selectors=["mx/127.1.3.*"])["ok"]
    assert refuses("127.1.3.255", 25)
    assert not refuses("127.1.2.255", 25)
    assert daemon.call("listener.stop", selectors=["mx"])["ok"]
    assert refuses("127.1.0.0", 25)
    assert {row["state"] for row in daemon.call("listener.list")["listeners"]} == {"stopped"}
    assert daemon.call("listener.start", all=True)["ok"]
    send(25, host="127.1.2.9")
    assert len(daemon.messages()) == 4


def test_drain_lets_a_transaction_finish(started: Start) -> None:
    """In a transaction: it ends well, then 421. Between transactions: 421 at once."""
    daemon = started(listen="127.0.0.1:25")
    with smtplib.SMTP("127.0.0.1", 25) as busy, smtplib.SMTP("127.0.0.1", 25) as idle:
        busy.ehlo()
        idle.ehlo()
        busy.mail("a@example.org")
        row = daemon.call("listener.stop", selectors=["mx"], drain=10.0)["listeners"][0]
        assert row["state"] == "draining"
        assert refuses("127.0.0.1", 25)
        assert idle.getreply()[0] == 421
        assert busy.rcpt("b@example.com")[0] == 250
        assert busy.data(b"Subject: last\r\n\r\n")[0] == 250
        assert busy.getreply()[0] == 421
        with pytest.raises(smtplib.SMTPServerDisconnected):
            busy.noop()
        busy.close()
        idle.close()
    until(lambda: state(daemon) == "stopped")
    assert len(daemon.messages()) == 1


def test_drain_ends_when_its_time_is_over(started: Start) -> None:
    """A session that does not finish is reset when the grace is over."""
    daemon = started(listen="127.0.0.1:25")
    with smtplib.SMTP("127.0.0.1", 25) as client:
        client.ehlo()
        client.mail("a@example.org")
        began = time.monotonic()
        answer = daemon.call("listener.stop", selectors=["mx"], drain=0.5, wait=True)
        assert 0.4 < time.monotonic() - began < 5
        assert answer["listeners"][0]["state"] == "stopped"
        assert_reset(client)
        client.close()


def test_waiting_for_nobody(started: Start) -> None:
    """`--wait` answers at once where no session is left to wait for, however often it is asked."""
    daemon = started(listen="127.0.0.1:25", workers=2)
    for _ in range(3):
        answer = daemon.call("listener.stop", selectors=["mx"], wait=True)
        assert answer["listeners"][0]["state"] == "stopped"
    with socket.create_server(("127.0.0.1", 25)):
        assert not daemon.call("listener.start", selectors=["mx"])["ok"]
    answer = daemon.call("listener.stop", selectors=["mx"], wait=True)
    assert answer["ok"], answer  # the failure was of the start, and is over
    assert answer["listeners"][0]["state"] == "stopped"


def test_waiting_for_sessions_behind_a_failure(started: Start) -> None:
    """A restart that failed does not hide the sessions of the opening before."""
    daemon = started(listen="127.0.0.1:25")
    with smtplib.SMTP("127.0.0.1", 25) as client:
        client.ehlo()
        client.mail("a@example.org")
        daemon.call("listener.stop", selectors=["mx"])
        with socket.create_server(("127.0.0.1", 25)):
            assert not daemon.call("listener.start", selectors=["mx"])["ok"]
        assert daemon.call("listener.stop", selectors=["mx"])["listeners"][0]["state"] == "draining"
        answer = daemon.call("listener.stop", selectors=["mx"], drain=0.1, wait=True)
        assert answer["listeners"][0]["sessions"]["active"] == 0
        client.close()


def test_more_listeners_than_descriptors(started: Start) -> None:
    """What cannot be opened says so; the rest serves, and the daemon can be spoken to."""
    daemon = started(ready=False, listen="127.1.0.0/22:25", prefix=("prlimit", "--nofile=500:500"))
    until(lambda: available(daemon.socket))

    def states() -> list[str]:
        return [row["state"] for row in daemon.call("listener.list")["listeners"]]

    until(lambda: "starting" not in states())
    assert set(states()) == {"running", "failed"}
    assert states().count("running") > 100
    send(25, host="127.1.0.1")
    os.kill(daemon.workers()[0], signal.SIGKILL)
    send(25, host="127.1.0.1")
    assert daemon.call("listener.stop", all=True, wait=True)["ok"]
    assert daemon.call("listener.start", selectors=["mx/127.1.3.255"])["ok"]
    send(25, host="127.1.3.255")


def test_cut_resets(started: Start) -> None:
    """`--cut`: RST, now; what was not answered was not promised."""
    daemon = started(listen="127.0.0.1:25")
    with smtplib.SMTP("127.0.0.1", 25) as client:
        client.ehlo()
        assert daemon.mtactl("listener", "stop", "mx", "--cut").returncode == 0
        assert_reset(client)
        client.close()
    until(lambda: state(daemon) == "stopped")


def test_start_while_draining(started: Start) -> None:
    """The old session drains on; new ones are served at once."""
    daemon = started(listen="127.0.0.1:25")
    with smtplib.SMTP("127.0.0.1", 25) as old:
        old.ehlo()
        old.mail("a@example.org")
        daemon.call("listener.stop", selectors=["mx"])
        daemon.call("listener.start", selectors=["mx"])
        assert state(daemon) == "running"
        send(25)
        old.rcpt("b@example.com")
        assert old.data(b"x\r\n")[0] == 250
        assert old.getreply()[0] == 421
        old.close()
    assert state(daemon) == "running"
    until(lambda: daemon.call("listener.show", name="mx")["listener"]["draining"] == 0)
    assert len(daemon.messages()) == 2


def test_start_and_stop_are_idempotent(started: Start) -> None:
    """Twice is once; a running listener keeps its sessions."""
    daemon = started(listen="127.0.0.1:25")
    with smtplib.SMTP("127.0.0.1", 25) as client:
        assert daemon.call("listener.start", selectors=["mx"])["ok"]
        assert client.noop()[0] == 250
    for _ in range(2):
        assert daemon.call("listener.stop", selectors=["mx"])["ok"]
    until(lambda: state(daemon) == "stopped")


def test_a_failed_start_leaves_the_rest_alone(started: Start) -> None:
    """The port is taken by somebody else: failed, with errno and hint; later it works."""
    daemon = started(listen="127.0.0.1:25")
    daemon.call("listener.add", name="other", endpoint="127.0.0.2:25", stopped=True)
    with socket.create_server(("127.0.0.2", 25)):
        answer = daemon.mtactl("--json", "listener", "start", "other")
        assert answer.returncode == 1
        row = daemon.call("listener.show", name="other")["listener"]
        assert (row["state"], row["error"]["code"]) == ("failed", "EADDRINUSE")
        assert "mtad doctor" in row["error"]["hint"]
        send(25)
    assert daemon.call("listener.start", selectors=["other"])["ok"]
    send(25, host="127.0.0.2")


def test_add_and_remove(started: Start) -> None:
    """What the file does not have can be made, and is gone when removed."""
    daemon = started(listen="127.0.0.1:25")
    assert daemon.mtactl("listener", "add", "lab", "127.0.9.0/30:25").returncode == 0
    names = {row["name"] for row in daemon.call("listener.list")["listeners"]}
    assert names == {"mx", *(f"lab/127.0.9.{host}" for host in range(4))}
    send(25, host="127.0.9.3")
    again = daemon.mtactl("listener", "add", "lab", "127.0.9.0/30:25")
    assert again.returncode == 1
    assert "already" in again.stderr
    assert daemon.mtactl("listener", "remove", "lab").returncode == 0
    assert refuses("127.0.9.3", 25)
    assert [row["name"] for row in daemon.call("listener.list")["listeners"]] == ["mx"]
    with pytest.raises(CommandError, match="no listener is called 'lab'"):
        daemon.call("listener.start", selectors=["lab"])


def test_what_is_added_has_a_name_as_in_the_configuration(started: Start) -> None:
    """One that is a glob, or cannot be seen, could not be stopped without others."""
    daemon = started(listen="127.0.0.1:25")
    for name in ("", "*", "two words", "mx/127.0.0.1", "a\x1b[31m", "x" * 64):
        with pytest.raises(CommandError, match="is not a name") as refused:
            daemon.call("listener.add", name=name, endpoint="127.0.0.9:25")
        assert "letters, digits" in refused.value.help
    assert [row["name"] for row in daemon.call("listener.list")["listeners"]] == ["mx"]


def test_counters_start_at_zero_in_a_slot_used_again(started: Start) -> None:
    """A new listener does not inherit the counts of a removed one."""
    daemon = started(listen="127.0.0.1:25", workers=2)
    for _ in range(2):
        daemon.call("listener.add", name="lab", endpoint="127.0.0.9:25")
        send(25, host="127.0.0.9")
        row = daemon.call("listener.show", name="lab")["listener"]
        assert (row["sessions"]["total"], row["messages"]) == (1, 1)
        until(
            lambda: not daemon.call("listener.show", name="lab")["listener"]["sessions"]["active"]
        )
        daemon.call("listener.remove", selectors=["lab"])


def test_sessions_are_counted(started: Start) -> None:
    """Open sessions and all there were, exactly, over several workers."""
    daemon = started(listen="127.0.0.1:25", workers=2)
    clients = [smtplib.SMTP("127.0.0.1", 25) for _ in range(20)]
    row = daemon.call("listener.show", name="mx")["listener"]
    assert row["sessions"] == {"active": 20, "total": 20}
    for client in clients:
        client.quit()
    until(lambda: daemon.call("listener.show", name="mx")["listener"]["sessions"]["active"] == 0)
    assert daemon.call("summary")["sessions"] == {"active": 0, "total": 20}


@pytest.mark.parametrize(
    ("endpoint", "options", "reached", "refused"),
    [
        ("[::1]:25", {}, ["::1"], ["127.0.0.3"]),
        ("[::]:25", {}, ["::1"], ["127.0.0.3"]),
        ("[::]:25", {"v6only": False}, ["::1", "127.0.0.3"], []),
        ("*:25", {}, ["::1", "127.0.0.3"], []),
        ("0.0.0.0:25", {}, ["127.0.0.3"], ["::1"]),
    ],
)
def test_ipv6_and_wildcards(
    started: Start,
    endpoint: str,
    options: dict[str, bool],
    reached: list[str],
    refused: list[str],
) -> None:
    """What an endpoint covers, and what it leaves alone."""
    daemon = started(listen="127.0.0.1:2525")
    assert daemon.call("listener.add", name="six", endpoint=endpoint, **options)["ok"]
    for host in reached:
        send(25, host=host)
    for host in refused:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, 25), timeout=5)
    peers = [envelope["peer"] for envelope in daemon.envelopes()]
    assert [peer.rpartition(":")[0].strip("[]") for peer in peers] == [
        "127.0.0.1" if host == "127.0.0.3" else host for host in reached
    ]


def test_unix_socket(started: Start, directory: Path) -> None:
    """A listener on a path: mail goes in, stop removes the path, start makes it again."""
    daemon = started(listen="127.0.0.1:25")
    path = directory / "run" / "mx.sock"
    for _ in range(2):
        assert daemon.call("listener.add", name="local", endpoint=str(path))["ok"]
        assert path.stat().st_mode & 0o777 == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(
                b"HELO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n.\r\nQUIT\r\n"
            )
            answers = client.makefile("rb").read()
        assert re.findall(rb"(?m)^\d\d\d", answers) == b"220 250 250 250 354 250 221".split()
        daemon.call("listener.remove", selectors=["local"])
        assert not path.exists()
    path.write_text("precious")
    row = daemon.call("listener.add", name="local", endpoint=str(path))["listeners"][0]
    assert row["error"]["code"] == "EADDRINUSE"
    assert path.read_text() == "precious"


def test_a_path_that_is_somebody_elses_by_now_stays(started: Start, directory: Path) -> None:
    daemon = started(listen="127.0.0.1:25")
    path = directory / "run" / "mx.sock"
    daemon.call("listener.add", name="local", endpoint=str(path))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert daemon.call("listener.stop", selectors=["local"])["ok"]
        assert path.is_socket()
    path.unlink()
    daemon.call("listener.start", selectors=["local"])
    path.unlink()
    path.write_text("precious")
    assert daemon.call("listener.stop", selectors=["local"])["ok"]
    assert path.read_text() == "precious"


def test_port_zero_keeps_its_port(started: Start) -> None:
    """The kernel chooses once; a restart comes back where senders look for it."""
    daemon = started()
    port = daemon.port()
    assert port > 0
    daemon.call("listener.restart", selectors=["mx"])
    assert daemon.port() == port
    send(port)


def test_stop_frees_the_port_while_workers_are_frozen(started: Start) -> None:
    """Closing is the supervisor's own act: no worker has to help."""
    daemon = started(listen="127.0.0.1:25")
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        assert daemon.call("listener.stop", selectors=["mx"])["ok"]
        assert refuses("127.0.0.1", 25)
        with socket.create_server(("127.0.0.1", 25)):
            pass
        assert daemon.call("listener.start", selectors=["mx"])["ok"]
    finally:
        os.kill(worker, signal.SIGCONT)
    send(25)


def test_what_was_added_is_not_waited_for_and_its_counts_stay(started: Start) -> None:
    """Ready is what the configuration asks for; the summary is of all there ever was."""
    daemon = started(listen="127.0.0.1:25")
    daemon.call("listener.add", name="extra", endpoint="127.0.0.9:25")
    send(25, host="127.0.0.9")
    daemon.call("listener.stop", selectors=["extra"])
    assert daemon.mtactl("ready").returncode == 0
    daemon.call("listener.remove", selectors=["extra"])
    assert daemon.call("summary")["messages"] == 1


def test_a_frozen_worker_does_not_hold_a_stop_for_ever(started: Start) -> None:
    """Whoever has not ended its sessions well after the grace is killed, and replaced."""
    daemon = started(listen="127.0.0.1:25")
    (worker,) = daemon.workers()
    with smtplib.SMTP("127.0.0.1", 25) as client:
        os.kill(worker, signal.SIGSTOP)
        answer = daemon.call("listener.stop", selectors=["mx"], drain=0.1, wait=True)
        assert answer["listeners"][0]["state"] == "stopped"
        assert client.sock is not None
        with suppress(ConnectionResetError):
            assert client.sock.recv(1_000) == b""
        client.close()
    daemon.call("listener.start", selectors=["mx"])
    send(25)
    assert "worker.hangs" in daemon.log.read_text()


def test_a_selector_that_is_longer_than_any_name(started: Start) -> None:
    """A glob of thousands of brackets would take fnmatch its time, and everybody's."""
    daemon = started(listen="127.0.0.1:25")
    began = time.monotonic()
    with pytest.raises(CommandError, match="at most 200 characters"):
        daemon.call("listener.list", selectors=["[" * 30_000])
    assert daemon.call("listener.list", selectors=["m*"])["listeners"]
    assert time.monotonic() - began < 5

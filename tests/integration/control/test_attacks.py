"""A real control server in a process of its own, under attack."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from harness import control_attacks as attacks
from harness.control_daemon import ControlDaemon, control_daemon

pytestmark = pytest.mark.integration

LINE_SECONDS = 0.5


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A directory that every uid can look into, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.fixture(scope="module")
def daemon(directory: Path) -> Iterator[ControlDaemon]:
    with control_daemon(directory, mode=0o666, line=LINE_SECONDS, linger=1.0) as serving:
        yield serving
        attacks.assert_serves(serving.path)
        assert serving.process.poll() is None


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another uid")


@pytest.mark.root
@needs_root
def test_another_uid_is_told_and_sent_away(daemon: ControlDaemon) -> None:
    before = daemon.logged("control")
    attacks.another_uid(daemon.path)
    assert daemon.logged("control") == before, "a command of a stranger was carried out"
    (refused, *_) = daemon.logged("control.refused")
    assert refused["uid"] == attacks.NOBODY


@pytest.mark.root
@needs_root
def test_another_uid_with_a_role_is_served(directory: Path) -> None:
    """The negative control: what keeps a stranger out is the missing role alone."""
    roles = {attacks.NOBODY: ["observe"]}
    place = directory / "observed"
    place.mkdir(mode=0o755)
    identity = ["setpriv", f"--reuid={attacks.NOBODY}", f"--regid={attacks.NOBODY}"]
    with control_daemon(place, mode=0o666, roles=roles) as served:
        done = subprocess.run(
            [*identity, "--clear-groups", "socat", "-t5", "-", f"UNIX-CONNECT:{served.path}"],
            input="pid\nlistener stop mx\n",
            capture_output=True,
            text=True,
            timeout=attacks.PATIENCE,
            check=True,
        )
        pid, refused, hint = done.stdout.splitlines()
        assert int(pid) == served.process.pid
        assert refused.startswith(f"error: uid {attacks.NOBODY}")
        assert "may not run `listener stop`" in refused
        assert "control.operate" in hint


def test_a_line_of_ten_megabytes(daemon: ControlDaemon) -> None:
    attacks.endless_line(daemon.path)


def test_half_a_line_and_silence(daemon: ControlDaemon) -> None:
    attacks.silence(daemon.path, LINE_SECONDS)


def test_a_line_octet_by_octet(daemon: ControlDaemon) -> None:
    attacks.drip(daemon.path, LINE_SECONDS)


def test_a_thousand_connections(daemon: ControlDaemon) -> None:
    served, busy = attacks.crowd(daemon.path)
    assert served == 256
    assert busy == 744


@pytest.mark.parametrize("seed", range(5))
def test_noise(daemon: ControlDaemon, seed: int) -> None:
    attacks.noise(daemon.path, seed)


@pytest.mark.parametrize("what", attacks.MALFORMED)
def test_malformed(daemon: ControlDaemon, what: str) -> None:
    assert attacks.malformed(daemon.path, *attacks.MALFORMED[what])


def test_a_client_that_reads_no_answer(daemon: ControlDaemon) -> None:
    attacks.deaf_client(daemon.path)


def test_more_requests_than_can_be_carried_out(daemon: ControlDaemon) -> None:
    # The machine may stand still, once.
    assert any(attacks.flood(daemon.path) < 0.25 for _ in range(3))


def test_a_watcher_that_does_not_read(daemon: ControlDaemon) -> None:
    def happen() -> None:
        for _ in range(200):
            attacks.exchange(daemon.path, b"listener stop mx lab\nlistener start mx lab\n" * 20)

    assert attacks.deaf_watcher(daemon.path, happen) > 1_000


def test_a_watcher_that_leaves_is_forgotten(daemon: ControlDaemon) -> None:
    with closing(attacks.connect(daemon.path)) as watching:
        watching.sendall(b'{"jsonrpc":"2.0","id":1,"method":"events"}\n')
        lines = watching.makefile("rb")
        assert json.loads(lines.readline())["result"] == {"ok": True}
        with closing(attacks.connect(daemon.path)) as leaving:
            leaving.sendall(b'{"jsonrpc":"2.0","id":1,"method":"events"}\n')
            assert leaving.recv(65_536)
        _skip_to("watch.ended", lines)


@pytest.mark.parametrize("behind", [b"", b"pid\n" * 50_000], ids=["nothing", "more than is read"])
@pytest.mark.parametrize("half_first", [False, True])
def test_a_waiter_that_leaves_is_forgotten(
    daemon: ControlDaemon, behind: bytes, half_first: bool
) -> None:
    """Whether the daemon still reads from it or not, and in one step or in two."""
    with closing(attacks.connect(daemon.path)) as watching:
        watching.sendall(b'{"jsonrpc":"2.0","id":1,"method":"events"}\n')
        lines = watching.makefile("rb")
        lines.readline()
        attacks.exchange(daemon.path, b"listener stop lab\n")
        _skip_to("listener.stopped", lines)
        with closing(attacks.connect(daemon.path)) as leaving:
            leaving.sendall(b"ready --wait 600\n")
            leaving.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                leaving.sendall(behind)
            if half_first:
                leaving.shutdown(socket.SHUT_WR)
                # It has its turn before we are gone: the answer to somebody else comes later.
                attacks.assert_serves(daemon.path)
        _skip_to("wait.ended", lines)


def test_a_waiter_that_only_stops_sending_is_answered(daemon: ControlDaemon) -> None:
    attacks.exchange(daemon.path, b"listener stop lab\n")
    with closing(attacks.connect(daemon.path)) as waiting:
        waiting.sendall(b"ready --wait 600\npid")
        waiting.shutdown(socket.SHUT_WR)
        attacks.exchange(daemon.path, b"listener start lab mx\n")
        ready, pid = attacks.read_all(waiting).splitlines()[-2:]
        assert ready.split() == [b"ready", b"yes"]
        assert int(pid) == daemon.process.pid


def test_an_internal_error_tells_only_its_reference(daemon: ControlDaemon) -> None:
    request = b'{"jsonrpc":"2.0","id":1,"method":"log.reopen"}\n'
    (answer,) = attacks.answers(attacks.exchange(daemon.path, request))
    assert answer["error"]["code"] == -32603
    assert "secret" not in json.dumps(answer)
    (logged, *_) = daemon.logged("control.internal_error")
    assert logged["reference"] in answer["error"]["message"]
    assert "the secret cause" in logged["traceback"]


def test_every_change_is_logged_with_who_made_it(daemon: ControlDaemon) -> None:
    attacks.exchange(daemon.path, b"listener list\nlistener stop 'lab'\n")
    logged = daemon.logged("control")[-1]
    assert logged["command"] == "listener stop"
    assert logged["params"]["selectors"] == ["lab"]
    assert (logged["uid"], logged["caller_pid"]) == (os.getuid(), os.getpid())


@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
def test_socat_prints_the_answer_and_ends(daemon: ControlDaemon, end: str) -> None:
    done = subprocess.run(
        ["socat", "-t5", "-", f"UNIX-CONNECT:{daemon.path}"],
        input=f"pid{end}",
        capture_output=True,
        text=True,
        timeout=attacks.PATIENCE,
        check=True,
    )
    assert done.stdout == f"{daemon.process.pid}\n"
    assert done.stderr == ""


def test_a_notification_is_carried_out_without_an_answer(daemon: ControlDaemon) -> None:
    notification = b'{"jsonrpc":"2.0","method":"listener.stop","params":{"selectors":["mx"]}}\n'
    assert attacks.exchange(daemon.path, notification) == b""
    listing = attacks.exchange(daemon.path, b'{"jsonrpc":"2.0","id":1,"method":"listener.list"}')
    assert {"name": "mx", "state": "stopped"} in attacks.answers(listing)[0]["result"]["listeners"]


def _skip_to(event: str, lines: Iterable[bytes]) -> None:
    """Read events until ``event``: those that an earlier test left may come before it."""
    assert event in (json.loads(line)["params"]["event"] for line in lines)

"""The attacks on the control socket, against the daemon itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from harness import control_attacks as attacks
from harness.daemon import Daemon, config, home, send

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can start it as another user"),
]

LINE_SECONDS = 10.0  # what the daemon allows; the tests of the server alone have less


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with home() as directory:
        # With a name here the mode of the socket lets everybody in: SO_PEERCRED alone decides.
        text = config(directory).replace("control:\n", "control:\n  operate: [daemon]\n")
        with Daemon(directory, text) as running:
            running.wait_ready()
            yield running
            send(running.port())
            assert len(running.messages()) == 1
            assert not [event for event in running.events() if event["level"] == "error"]


def test_another_uid(daemon: Daemon) -> None:
    attacks.another_uid(daemon.socket)
    assert daemon.call("ready")["ready"]


def test_a_line_of_ten_megabytes(daemon: Daemon) -> None:
    attacks.endless_line(daemon.socket)


def test_half_a_line_and_silence(daemon: Daemon) -> None:
    attacks.silence(daemon.socket, LINE_SECONDS)


def test_a_thousand_connections(daemon: Daemon) -> None:
    assert attacks.crowd(daemon.socket) == (256, 744)


@pytest.mark.parametrize("seed", range(3))
def test_noise(daemon: Daemon, seed: int) -> None:
    attacks.noise(daemon.socket, seed)


@pytest.mark.parametrize("what", attacks.MALFORMED)
def test_malformed(daemon: Daemon, what: str) -> None:
    assert attacks.malformed(daemon.socket, *attacks.MALFORMED[what])


def test_a_client_that_reads_no_answer(daemon: Daemon) -> None:
    attacks.deaf_client(daemon.socket)


def test_more_requests_than_can_be_carried_out(daemon: Daemon) -> None:
    # The machine may stand still, once.
    assert any(attacks.flood(daemon.socket) < 0.25 for _ in range(3))


def test_a_watcher_that_does_not_read(daemon: Daemon) -> None:
    def happen() -> None:
        for _ in range(100):
            changes = b"listener add x 127.0.0.1:0\nlistener remove x --cut\n" * 20
            assert b"error" not in attacks.exchange(daemon.socket, changes)

    assert attacks.deaf_watcher(daemon.socket, happen) > 0


@pytest.mark.parametrize("kind", ["symlink", "file", "directory", "lock symlink"])
def test_what_is_planted_is_refused(kind: str) -> None:
    with home() as directory:
        daemon = Daemon(directory, config(directory))
        daemon.socket.parent.mkdir()
        shutil.chown(daemon.socket.parent, "ecuser")
        victim = directory / "victim"
        attacks.planted(daemon.socket, kind, victim)
        with daemon:
            assert daemon.process.wait(attacks.PATIENCE) == 1
        assert str(daemon.socket) in daemon.log.read_text()
        assert victim.read_text() == "precious"


def test_a_second_daemon_and_the_socket_of_a_killed_one() -> None:
    with home() as directory:
        text = config(directory)
        with Daemon(directory, text) as first:
            first.wait_ready()
            pid = first.call("pid")["pid"]
            with Daemon(directory, text) as second:
                assert second.process.wait(attacks.PATIENCE) == 1
            assert f"process {pid} holds" in second.log.read_text()
            attacks.assert_serves(first.socket)
            first.process.kill()
            first.process.wait()
        assert first.socket.is_socket(), "kill -9 left no socket: nothing is proven"
        with Daemon(directory, text) as third:
            third.wait_ready()

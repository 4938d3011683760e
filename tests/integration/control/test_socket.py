"""Where the control socket lies: what is taken over, what is refused, and what is left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
from pathlib import Path

import pytest
from harness import control_attacks as attacks
from harness.control_daemon import control_daemon

from mtad.control.socket import ControlSocket
from mtad.errors import ControlSocketError, MtadError

pytestmark = pytest.mark.integration


def assert_refused(directory: Path, said: str) -> None:
    """Assert that no daemon comes to serve there, and what it says."""
    with pytest.raises(MtadError, match=said), control_daemon(directory):
        pass


def test_a_second_daemon_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    with control_daemon(tmp_path) as first:
        assert_refused(tmp_path, rf"process {first.process.pid} holds .*\.lock")
        attacks.assert_serves(first.path)


def test_a_second_daemon_is_refused_even_without_the_lock_file(tmp_path: Path) -> None:
    with control_daemon(tmp_path) as first:
        first.path.with_name("control.sock.lock").unlink()
        assert_refused(tmp_path, f"process {first.process.pid} listens")
        attacks.assert_serves(first.path)


def test_the_socket_of_a_killed_daemon_is_taken_over(tmp_path: Path) -> None:
    with control_daemon(tmp_path) as first:
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    assert stat.S_ISSOCK(first.path.lstat().st_mode), "kill -9 left no socket: nothing is proven"
    with control_daemon(tmp_path) as second:
        attacks.assert_serves(second.path)


@pytest.mark.parametrize("end", ["SIGTERM", "shutdown"])
def test_the_socket_goes_with_its_daemon(tmp_path: Path, end: str) -> None:
    with control_daemon(tmp_path) as daemon:
        if end == "SIGTERM":
            daemon.process.terminate()
        else:
            assert b"yes" not in attacks.exchange(daemon.path, b"shutdown --cut\n")
        assert daemon.process.wait(attacks.PATIENCE) == 0
        assert not daemon.path.exists()


def test_a_socket_that_took_our_place_is_not_removed(tmp_path: Path) -> None:
    place = tmp_path / "control.sock"
    with ControlSocket(place):
        place.unlink()
        place.write_text("precious")
    assert place.read_text() == "precious"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("symlink", "is a symbolic link"),
        ("dangling symlink", "is a symbolic link"),
        ("file", "is a file"),
        ("directory", "is a directory"),
        ("lock symlink", "it is a symbolic link"),
    ],
)
def test_what_is_planted_is_refused_by_name(tmp_path: Path, kind: str, said: str) -> None:
    place, victim = tmp_path / "control.sock", tmp_path / "victim"
    attacks.planted(place, kind, victim)
    before = sorted(tmp_path.iterdir())
    assert_refused(tmp_path, f"{re.escape(str(place))}.*{said}")
    assert victim.read_text() == "precious"
    left = {"control.sock.lock", "log"}
    assert [p for p in sorted(tmp_path.iterdir()) if p.name not in left] == [
        p for p in before if p.name not in left
    ]


def test_a_lock_file_with_another_name_is_refused(tmp_path: Path) -> None:
    """It would be emptied and written to: with a hard link, that is somebody else's file."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.link(victim, tmp_path / "control.sock.lock")
    with (
        pytest.raises(ControlSocketError, match="2 links"),
        ControlSocket(tmp_path / "control.sock"),
    ):
        pass
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_socket_has_its_mode_from_its_first_moment(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "control.sock"
    umask = os.umask(0)
    try:
        with ControlSocket(place, mode):
            assert stat.S_IMODE(place.stat().st_mode) == mode
            assert stat.S_IMODE(place.with_name("control.sock.lock").stat().st_mode) == 0o600
        assert os.umask(0) == 0, "the umask was not put back"
    finally:
        os.umask(umask)


@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o1777, False), (0o755, False)])
def test_a_directory_where_others_may_write(tmp_path: Path, mode: int, refused: bool) -> None:
    tmp_path.chmod(mode)
    if refused:
        with pytest.raises(ControlSocketError, match="others may write in"):
            ControlSocket(tmp_path / "control.sock").__enter__()
        assert list(tmp_path.iterdir()) == []
    else:
        with ControlSocket(tmp_path / "control.sock"):
            pass


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    os.chown(tmp_path, attacks.NOBODY, -1)
    with pytest.raises(ControlSocketError, match=f"belongs to uid {attacks.NOBODY}"):
        ControlSocket(tmp_path / "control.sock").__enter__()


@pytest.mark.parametrize(
    ("name", "reason"), [("no/such/control.sock", "No such file"), ("x" * 120, "too long")]
)
def test_a_place_that_cannot_be(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ControlSocketError, match=reason):
        ControlSocket(tmp_path / name).__enter__()


def test_a_socket_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(place))
        with pytest.raises(ControlSocketError, match="may be in use"):
            ControlSocket(place).__enter__()
        assert place.exists()


def test_the_directory_may_vanish(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    with ControlSocket(place / "control.sock"):
        shutil.rmtree(place)

"""Directories, log and pid file: made where they should be, and never where a link leads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.descriptors import count_open

from mtad.errors import MtadError, PreflightError
from mtad.supervisor.files import open_log, pid_file, prepare_directory

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files away")


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    """The daemon's."""
    before = os.umask(0o027)
    yield
    assert os.umask(before) == 0o027


def owner(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, status.st_mode & 0o7777


@pytest.mark.root
@as_root
@pytest.mark.usefixtures("narrow_umask")
def test_a_new_directory_is_handed_over_and_can_be_reached(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "store"
    prepare_directory(path, NOBODY, NOBODY, 0o750)
    assert owner(path) == (NOBODY, NOBODY, 0o750)
    assert owner(path.parent) == owner(path.parent.parent) == (0, 0, 0o755)
    prepare_directory(tmp_path / "run", NOBODY, NOBODY, 0o755)
    assert owner(tmp_path / "run") == (NOBODY, NOBODY, 0o755)


@pytest.mark.root
@as_root
@pytest.mark.parametrize(
    ("mode", "content", "uid", "handed_over"),
    [
        (0o755, False, 0, True),
        (0o700, False, 0, True),
        (0o755, True, 0, False),
        (0o1777, False, 0, False),
        (0o755, False, 1, False),
    ],
    ids=["fresh volume", "closed volume", "in use", "like /tmp", "somebody else's"],
)
def test_an_existing_directory(
    tmp_path: Path, mode: int, content: bool, uid: int, handed_over: bool
) -> None:
    path = tmp_path / "store"
    path.mkdir()
    path.chmod(mode)
    if content:
        (path / "file").touch()
    os.chown(path, uid, uid)
    prepare_directory(path, NOBODY, NOBODY, 0o750)
    assert owner(path) == ((NOBODY, NOBODY, mode) if handed_over else (uid, uid, mode))


@pytest.mark.root
@as_root
@pytest.mark.parametrize("wanted", ["empty", "new", "new/store"])
def test_root_is_not_led_astray(tmp_path: Path, wanted: str) -> None:
    """A link that the user planted is not followed; root's own is, wherever it leads."""
    target, theirs = tmp_path / "target", tmp_path / "theirs"
    (target / "empty").mkdir(parents=True)
    theirs.mkdir()
    (theirs / "link").symlink_to(target)
    os.chown(theirs, NOBODY, NOBODY)
    os.chown(theirs / "link", NOBODY, NOBODY, follow_symlinks=False)
    (tmp_path / "through").symlink_to(theirs / "link")  # root's, over one that is not
    for place in (theirs / "link", tmp_path / "through"):
        with pytest.raises(PreflightError, match=f"link is a symbolic link of uid {NOBODY}"):
            prepare_directory(place / wanted, NOBODY, NOBODY, 0o750)
    assert [path.name for path in target.iterdir()] == ["empty"]
    assert owner(target / "empty")[:2] == (0, 0)
    (tmp_path / "own").symlink_to("target")
    prepare_directory(tmp_path / "own" / wanted, NOBODY, NOBODY, 0o750)
    assert owner(target / wanted)[:2] == (NOBODY, NOBODY)


def test_links_that_lead_nowhere_end(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    before = count_open()
    with pytest.raises(PreflightError, match="symbolic link"):
        prepare_directory(tmp_path / "loop" / "store", NOBODY, NOBODY, 0o750)
    assert count_open() <= before


def test_without_root_a_directory_is_ones_own(tmp_path: Path) -> None:
    """Nothing is given away: not to the ids that are asked for either."""
    program = (
        "import os, sys; from pathlib import Path\n"
        "from mtad.supervisor.files import prepare_directory\n"
        "if os.geteuid() == 0: os.setresgid(65534, 65534, 65534); os.setresuid(*[65534] * 3)\n"
        "prepare_directory(Path(sys.argv[1]), 1, 1, 0o750)\n"
        "print(Path(sys.argv[1]).stat().st_uid == os.getuid())"
    )
    for place in (tmp_path, *tmp_path.parents[:3]):  # pytest-xdist has one more
        place.chmod(0o777)
    command = [sys.executable, "-c", program, str(tmp_path / "store")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (result.stdout, result.stderr) == ("True\n", "")


@pytest.mark.parametrize("planted", ["link to a directory", "dangling link", "file", "file above"])
def test_what_was_planted_is_not_followed(tmp_path: Path, planted: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "store"
    victim.mkdir(mode=0o700)
    before = owner(victim)
    match planted:
        case "link to a directory":
            path.symlink_to(victim)
        case "dangling link":
            path.symlink_to(victim / "new")
        case "file":
            path.touch()
        case "file above":
            path.touch()
            path /= "store"
    with pytest.raises(PreflightError) as caught:
        prepare_directory(path, NOBODY, NOBODY, 0o750)
    assert f"the directory {path} cannot be made ready: " in caught.value.message
    assert f"owned by uid {NOBODY}" in caught.value.help
    assert owner(victim) == before
    assert not list(victim.iterdir())


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = count_open()
    prepare_directory(tmp_path / "a", os.getuid(), os.getgid(), 0o750)
    (tmp_path / "file").touch()
    with pytest.raises(PreflightError):
        prepare_directory(tmp_path / "file", os.getuid(), os.getgid(), 0o750)
    assert count_open() <= before


@pytest.fixture
def stdout() -> Iterator[None]:
    """Standard output comes back after the test."""
    kept = os.dup(1)
    yield
    os.dup2(kept, 1)
    os.close(kept)


@pytest.mark.usefixtures("stdout")
def test_the_log_is_appended_to_and_inherited(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    descriptor = open_log(log)
    os.write(1, b"ours\n")
    subprocess.run(["echo", "a child's"], check=True)
    assert log.read_text() == "before\nours\na child's\n"
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


@pytest.mark.usefixtures("stdout")
def test_a_new_log_is_not_for_others(tmp_path: Path) -> None:
    os.close(open_log(tmp_path / "log"))
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


@pytest.mark.usefixtures("stdout")
@pytest.mark.parametrize("planted", ["link", "dangling link", "directory", "nowhere", "fifo"])
def test_a_log_that_cannot_be_opened(tmp_path: Path, planted: str) -> None:
    """Standard output stays as it was; a FIFO without a reader is not waited for."""
    log, victim = tmp_path / "log", tmp_path / "victim"
    match planted:
        case "link":
            victim.touch()
            log.symlink_to(victim)
        case "dangling link":
            log.symlink_to(victim)
        case "directory":
            log.mkdir()
        case "nowhere":
            log /= "log"
        case "fifo":
            os.mkfifo(log)
    before = os.fstat(1)
    with pytest.raises(MtadError) as caught:
        open_log(log)
    assert f"the log file {log} cannot be opened: " in caught.value.message
    assert os.path.samestat(os.fstat(1), before)
    assert not victim.exists() or victim.read_bytes() == b""


def test_pid_file(tmp_path: Path) -> None:
    path = tmp_path / "mtad.pid"
    path.write_text("stale")
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


def test_pid_file_goes_with_an_exception_and_may_be_gone_before(tmp_path: Path) -> None:
    path = tmp_path / "mtad.pid"
    with pytest.raises(KeyError), pid_file(path):
        raise KeyError
    assert not path.exists()
    with pid_file(path):
        path.unlink()


def test_no_pid_file() -> None:
    with pid_file(None):
        pass


def test_links_that_were_planted_for_the_pid_file_are_not_followed(tmp_path: Path) -> None:
    path, victim = tmp_path / "mtad.pid", tmp_path / "victim"
    victim.write_text("precious")
    path.symlink_to(victim)
    (tmp_path / f".mtad.pid.{os.getpid()}").symlink_to(victim)
    with pid_file(path):
        assert not path.is_symlink()
        assert path.read_text() == f"{os.getpid()}\n"
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("place", ["missing/mtad.pid", "directory"])
def test_a_pid_file_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(MtadError) as caught, pid_file(tmp_path / place):
        pytest.fail("the block must not run")
    assert f"the pid file {tmp_path / place} cannot be written: " in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]

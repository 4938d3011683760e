"""A daemon that root starts on a terminal: nobody but root types there, or reads what is typed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.daemon import PROGRAMS, config, until

from mtad.control.client import ControlClient
from mtad.errors import UnavailableError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

CTRL_C = b"\x03"


def terminal_of(pid: int) -> int:
    """Return the controlling terminal of a process (proc_pid_stat(5), tty_nr), 0 for none."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4])


def access_to(pid: int, descriptor: int) -> int:
    """Return what a process may do with a descriptor: O_RDONLY, O_WRONLY or O_RDWR."""
    info = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text()
    return int(info.split("flags:")[1].split()[0], 8) & os.O_ACCMODE


def processes(path: Path) -> list[int] | None:
    """Return those of the daemon, the supervisor first; None where there is none, or not yet."""
    try:
        with ControlClient(path, timeout=5) as client:
            archive = client.call("summary")["archive"]["pid"]
            workers = [one["pid"] for one in client.call("workers")["workers"]]
            supervisor = client.peer
    except UnavailableError:
        return None
    return [supervisor, archive, *workers] if archive and workers else None


@contextmanager
def typed(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start it as a shell of root's does on a terminal; yield the shell, and who types there."""
    file = directory / "mtad.yaml"
    file.write_text(config(directory, listen="127.0.0.1:25"))
    ours, theirs = os.openpty()
    script = f"trap : INT; sleep 60 & {PROGRAMS / 'mtad'} run {file}; kill $!; exit 7"
    try:
        with subprocess.Popen(
            ["setsid", "--ctty", "sh", "-c", script], stdin=theirs, stdout=theirs, stderr=theirs
        ) as shell:
            try:
                yield shell, ours
            finally:
                os.write(ours, CTRL_C)
                shell.wait(20)
    finally:
        os.close(ours)
        os.close(theirs)


def test_no_process_has_the_terminal(directory: Path) -> None:
    with typed(directory) as (shell, _):
        pids = until(lambda: processes(directory / "run" / "control.sock"), seconds=20)
        children = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
        (sleep,) = {int(pid) for pid in children} - set(pids)
        assert terminal_of(sleep) == terminal_of(shell.pid) != 0
        assert access_to(sleep, 1) == os.O_RDWR
        for pid in pids:
            assert terminal_of(pid) == 0
            assert [access_to(pid, descriptor) for descriptor in (1, 2)] == [os.O_WRONLY] * 2
        assert access_to(pids[0], 0) == os.O_WRONLY


def test_ctrl_c_ends_it_all_the_same(directory: Path) -> None:
    with typed(directory) as (shell, types):
        assert until(lambda: processes(directory / "run" / "control.sock"), seconds=20)
        os.write(types, CTRL_C)
        assert shell.wait(20) == 7
    assert processes(directory / "run" / "control.sock") is None

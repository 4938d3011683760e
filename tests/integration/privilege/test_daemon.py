"""The real daemon under the same battery: each thread of all its processes."""

from __future__ import annotations

import errno
import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.daemon import PROGRAMS, Daemon, config, refuses, until
from harness.privilege_battery import NEED_SETPCAP, Workshop, bind, gains
from harness.privilege_subject import STARTS
from harness.privilege_witness import (
    getpcaps,
    held_by_all,
    threads,
    unprivileged_port_start,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

Start = Callable[..., Daemon]


@pytest.mark.parametrize(
    ("start", "supervisor_open", "child_open"),
    [
        ("root", set(), set()),
        ("root_without_setpcap", NEED_SETPCAP, {"keep_caps"}),
        ("ecuser_ambient", NEED_SETPCAP, {"keep_caps"}),
    ],
)
def test_no_process_regains_anything(
    start: str,
    supervisor_open: set[str],
    child_open: set[str],
    started: Start,
    directory: Path,
    ecuser: pwd.struct_passwd,
    shop: Workshop,
) -> None:
    os.chown(directory, ecuser.pw_uid, ecuser.pw_gid)
    daemon = started(listen="127.0.0.1:25", workers=2, prefix=tuple(STARTS[start]))
    supervisor, workers = daemon.process.pid, daemon.workers()
    assert unprivileged_port_start(supervisor) > 25
    assert getpcaps(supervisor) == "cap_net_bind_service=ep"
    assert len(workers) == 2
    archive = until(lambda: daemon.call("summary")["archive"]["pid"])
    daemon.call("message.count")  # it has threads that read by now
    children = [*workers, archive]
    assert len(threads(archive)) > 1
    for pid in [supervisor, *children]:
        holds = held_by_all(pid)
        assert (holds.uids, holds.gids) == ((ecuser.pw_uid,) * 4, (ecuser.pw_gid,) * 4)
        assert (holds.groups, holds.ambient, holds.no_new_privs) == (frozenset(), 0, 1)
        if start == "root":
            assert holds.bounding == 0
    for tid in threads(supervisor):
        assert set(gains(tid, shop)) == supervisor_open
        assert bind(tid, 26) == 0
    for child in children:
        assert getpcaps(child) == "="
        for tid in threads(child):
            assert set(gains(tid, shop)) == child_open
            assert bind(tid, 26) == errno.EACCES
    # What was tried left them as they were.
    security = daemon.call("security")
    assert security["ok"]
    assert [row["pid"] for row in security["processes"]] == [supervisor, *children]
    assert security["processes"][-1]["role"] == "archive"


@pytest.mark.parametrize("named", [False, True], ids=["not named", "named"])
def test_whoever_has_the_daemons_user_has_no_port_bound_by_a_command(
    named: bool, directory: Path, ecuser: pwd.struct_passwd
) -> None:
    """The workers have that user. Where the configuration names it, it may all the same."""
    text = config(directory, listen="127.0.0.1:25")
    if named:
        text = text.replace("control:\n", "control:\n  operate: [ecuser]\n")
    with Daemon(directory, text) as daemon:
        daemon.wait_ready()
        identity = [f"--reuid={ecuser.pw_uid}", f"--regid={ecuser.pw_gid}", "--clear-groups"]
        mtactl = [str(PROGRAMS / "mtactl"), "--socket", f"{directory}/run/control.sock"]

        def as_ecuser(*words: str) -> subprocess.CompletedProcess[str]:
            command = ["setpriv", *identity, *mtactl, *words]
            return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

        assert as_ecuser("listener", "list").returncode == 0
        added = as_ecuser("listener", "add", "evil", "127.0.0.1:80")
        assert added.returncode == (0 if named else 1)
        assert ("may not run" in added.stderr) is not named
        assert refuses("127.0.0.1", 80) is not named

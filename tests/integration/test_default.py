"""conf/mtad.yaml as it is shipped: who runs, with what, seen from outside."""

from __future__ import annotations

import pwd
import re
import subprocess
from pathlib import Path

import pytest
from harness.whole import running

pytestmark = [pytest.mark.integration, pytest.mark.root, pytest.mark.netns]

_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def threads(pid: int) -> list[dict[str, str]]:
    """Return the fields of /proc/PID/task/*/status (proc_pid_status(5))."""
    found = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/status")]
    return [dict(re.findall(r"(?m)^(\w+):\t(.*)$", text)) for text in found]


@pytest.mark.timeout(180)
def test_every_thread_is_ecuser_and_only_one_process_may_bind() -> None:
    """The supervisor holds 0x400 permitted and effective and nothing else, a worker nothing."""
    user = pwd.getpwnam("ecuser")
    bind, nothing = f"{0x400:016x}", f"{0:016x}"
    with running() as whole:
        reserved = whole.shell("cat /proc/sys/net/ipv4/ip_unprivileged_port_start").stdout
        assert int(reserved) == 1_024
        # A message through each worker: its threads are there as well.
        send = "import smtplib; smtplib.SMTP('localhost').sendmail('a@b.c', ['d@e.f'], 'x')"
        assert whole.shell(f'for i in $(seq 20); do python3 -c "{send}"; done').returncode == 0
        children = Path(f"/proc/{whole.pid}/task/{whole.pid}/children").read_text().split()
        assert children
        for pid in (whole.pid, *map(int, children)):
            held = bind if pid == whole.pid else nothing
            for thread in threads(pid):
                assert thread["Uid"].split() == [str(user.pw_uid)] * 4
                assert thread["Gid"].split() == [str(user.pw_gid)] * 4
                assert thread["Groups"].split() == []
                assert thread["NoNewPrivs"] == "1"
                sets = [thread[name] for name in _SETS]
                assert sets == [nothing, held, held, nothing, nothing]
            told = subprocess.run(
                ["getpcaps", str(pid)], capture_output=True, text=True, check=True
            )
            expected = "cap_net_bind_service=ep" if pid == whole.pid else "="
            assert (told.stdout + told.stderr).split() == [f"{pid}:", expected]

"""Real drops, in every start mode, as other processes see them."""

from __future__ import annotations

import errno
import grp
import pwd
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness.privilege_battery import NOBODY, Workshop, attempt, bind
from harness.privilege_subject import STARTS, subject, subject_in_user_namespace
from harness.privilege_witness import getpcaps, held, held_by_all, threads

from mtad.privilege.capabilities import CapabilitySets
from mtad.privilege.report import Expected, inspect, judge

pytestmark = [pytest.mark.root, pytest.mark.netns]

BIND = 1 << 10
FOUR = "cap_net_bind_service,cap_net_admin,cap_net_raw,cap_sys_resource+ep"


@pytest.mark.parametrize("start", ["root", "root_without_setpcap", "ecuser_ambient"])
def test_ecuser_holds_the_one_capability_and_binds_port_25(
    start: str, ecuser: pwd.struct_passwd
) -> None:
    with subject(start, user="ecuser", capabilities="cap_net_bind_service+ep") as daemon:
        holds = held_by_all(daemon.pid)
        assert holds.uids == (ecuser.pw_uid,) * 4
        assert holds.gids == (ecuser.pw_gid,) * 4
        assert holds.groups == frozenset()
        assert (holds.permitted, holds.effective, holds.inheritable) == (BIND, BIND, 0)
        assert (holds.ambient, holds.no_new_privs) == (0, 1)
        assert getpcaps(daemon.pid) == "cap_net_bind_service=ep"
        assert bind(daemon.pid, 25) == 0


@pytest.mark.parametrize("start", ["root", "root_without_setpcap", "ecuser_ambient"])
@pytest.mark.parametrize("text", ["", "=", "all="])
def test_with_nothing_retained_port_25_is_refused(start: str, text: str) -> None:
    with subject(start, user="ecuser", capabilities=text) as daemon:
        assert getpcaps(daemon.pid) == "="
        assert bind(daemon.pid, 25) == errno.EACCES
        assert bind(daemon.pid, 2525) == 0


def test_root_loses_the_bounding_set_too(ecuser: pwd.struct_passwd) -> None:
    with subject("root", user="ecuser", capabilities="cap_net_bind_service+ep") as daemon:
        assert held(daemon.pid).bounding == 0
        assert daemon.answer["warnings"] == []


def test_a_start_without_setpcap_says_what_it_cannot_do() -> None:
    order = {"user": "ecuser", "capabilities": "cap_net_bind_service+ep"}
    with subject("root_without_setpcap", **order) as daemon:
        assert held(daemon.pid).bounding != 0
        warnings = " ".join(daemon.answer["warnings"])
    assert "the bounding set stays as it is, for want of cap_setpcap" in warnings
    assert "the securebits stay 0x0" in warnings


def test_who_has_no_capability_can_stay_and_drop() -> None:
    with subject("ecuser_nothing", capabilities="") as daemon:
        holds = held_by_all(daemon.pid)
        assert (holds.permitted, holds.no_new_privs) == (0, 1)
        assert bind(daemon.pid, 25) == errno.EACCES


def test_who_has_no_capability_is_told_what_gives_one() -> None:
    order = {"user": "ecuser", "capabilities": "cap_net_bind_service+ep"}
    with subject("ecuser_nothing", **order) as daemon:
        assert daemon.answer["error"] == "PreflightError"
        for part in (
            "security.capabilities: this process lacks cap_net_bind_service",
            "--cap-add=NET_BIND_SERVICE",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        ):
            assert part in daemon.answer["message"]


def test_what_the_error_advises_works(ecuser: pwd.struct_passwd) -> None:
    with subject("ecuser_nothing", user="ecuser", capabilities="10+ep") as daemon:
        advice = daemon.answer["message"].partition("by hand: ")[2].partition(";")[0]
    STARTS["as_advised"] = [*STARTS["ecuser_nothing"], *advice.split()[1:]]
    try:
        with subject("as_advised", user="ecuser", capabilities="10+ep") as daemon:
            assert bind(daemon.pid, 25) == 0
    finally:
        del STARTS["as_advised"]


def test_user_root_keeps_what_is_configured_and_no_more(shop: Workshop) -> None:
    order = {"user": "root", "capabilities": "cap_net_bind_service+ep"}
    with subject("root", **order) as daemon:
        holds = held_by_all(daemon.pid)
        assert holds.uids == (0, 0, 0, 0)
        assert (holds.permitted, holds.effective, holds.bounding) == (BIND, BIND, 0)
        assert bind(daemon.pid, 25) == 0
        assert attempt("file_of_user", daemon.pid, shop, NOBODY) == ""
        assert attempt("plain_program", daemon.pid, shop) == ""
        warnings = " ".join(daemon.answer["warnings"])
    assert "user: root still owns the system's files" in warnings
    assert "cannot read or write the files of other users" in warnings


def test_a_root_that_nobody_asked_for_is_refused() -> None:
    with subject("root", capabilities="cap_net_bind_service+ep") as daemon:
        assert daemon.answer["error"] == "PreflightError"
        assert "write user: root if you mean it" in daemon.answer["message"]


def test_permitted_only_binds_where_it_is_raised() -> None:
    order = {"user": "ecuser", "capabilities": "cap_net_bind_service+p", "bind_raised": 25}
    with subject("root", **order) as daemon:
        assert daemon.answer["bound"] == [errno.EACCES, 0, errno.EACCES]
        holds = held(daemon.pid)
        assert (holds.permitted, holds.effective) == (BIND, 0)


def test_effective_needs_no_raising() -> None:
    order = {"user": "ecuser", "capabilities": "cap_net_bind_service+ep", "bind_raised": 25}
    with subject("root", **order) as daemon:
        assert daemon.answer["bound"] == [0, 0, 0]


def test_supplementary_groups_are_exactly_those_named(ecuser: pwd.struct_passwd) -> None:
    with subject("root", user="ecuser", supplemental_groups=["tty", 4321]) as daemon:
        assert held_by_all(daemon.pid).groups == {grp.getgrnam("tty").gr_gid, 4321}


def test_the_cluster_string_where_the_bounding_set_lacks_one_of_them() -> None:
    with subject("root_without_sys_resource", user="ecuser", capabilities=FOUR) as daemon:
        assert daemon.answer["error"] == "PreflightError"
        assert (
            "this process lacks cap_sys_resource, and so does its bounding set"
            in daemon.answer["message"]
        )
        assert "--cap-add=SYS_RESOURCE" in daemon.answer["message"]


def test_the_cluster_string_where_all_of_it_is_held(ecuser: pwd.struct_passwd) -> None:
    with subject_in_user_namespace(user="ecuser", capabilities=FOUR) as daemon:
        holds = held_by_all(daemon.pid)
        assert holds.uids == (ecuser.pw_uid,) * 4
        assert holds.permitted == holds.effective == BIND | 1 << 12 | 1 << 13 | 1 << 24
        assert holds.bounding == 0
        assert bind(daemon.pid, 25) == 0


@pytest.mark.parametrize(
    ("order", "error", "message"),
    [
        ({"capabilities": "63=p"}, "CapabilityTextError", "63 in '63=p' is unknown to this kernel"),
        ({"capabilities": "cap_x+p"}, "CapabilityTextError", "'cap_x' is no capability"),
        ({"thread": "before"}, "PreflightError", "this process has 2 threads"),
        ({"readable": ["/proc/1/no-such"]}, "PreflightError", "/proc/1/no-such does not exist"),
    ],
)
def test_a_refusal_changes_nothing(order: dict[str, Any], error: str, message: str) -> None:
    with subject("root", user="ecuser", **order) as daemon:
        assert daemon.answer["error"] == error
        assert message in daemon.answer["message"]
        holds = held_by_all(daemon.pid)
        assert (holds.uids, holds.no_new_privs) == ((0, 0, 0, 0), 0)
        assert holds.permitted == held(1).permitted & holds.bounding


@pytest.mark.parametrize("user", ["ecuser", "root"])
def test_a_thread_that_came_too_late_for_the_preflight_is_found_by_the_verification(
    user: str,
) -> None:
    with subject("root", user=user, thread="late") as daemon:
        assert daemon.answer["error"] == "VerificationError"
        main, other = threads(daemon.pid)
        # What the program would look like to whoever reads /proc/PID/status alone.
        assert held(main).permitted == 0
        assert f"thread {other} (" in daemon.answer["message"]
        assert f"thread {main} (" not in daemon.answer["message"]


@pytest.mark.parametrize("kind", ["readable", "writable"])
def test_a_file_out_of_reach_is_named_with_what_is_in_the_way(kind: str, shop: Workshop) -> None:
    closed = shop.directory / "closed"
    closed.mkdir(mode=0o700, exist_ok=True)
    (closed / "file").touch()
    link = shop.directory / "link"
    link.unlink(missing_ok=True)
    link.symlink_to("closed/file")
    with subject("root", user="ecuser", **{kind: [str(link)]}) as daemon:
        assert daemon.answer["error"] == "PreflightError"
        verb = kind.removesuffix("able").replace("writ", "write")
        assert daemon.answer["message"].startswith(
            f"security.user: as ecuser, cannot {verb} {link}: {closed} does not let it pass "
            "(mode 0700, owner 0:0)"
        )


def test_a_file_that_may_be_read_but_not_written(shop: Workshop) -> None:
    path = shop.directory / "read-me"
    path.touch(mode=0o644)
    with subject("root", user="ecuser", readable=[str(path)], writable=[str(path)]) as daemon:
        assert (
            f"cannot write {path}: {path} does not allow it (mode 0644" in daemon.answer["message"]
        )


def test_what_the_retained_capabilities_reach_is_in_reach(shop: Workshop) -> None:
    secret = str(shop.directory / "user_0")
    order = {"user": "ecuser", "readable": [secret]}
    with subject("root", **order) as daemon:
        assert f"cannot read {secret}" in daemon.answer["message"]
    with subject("root", capabilities="cap_dac_read_search+ep", **order) as daemon:
        assert "error" not in daemon.answer


def test_the_report_agrees_with_the_outside(ecuser: pwd.struct_passwd) -> None:
    order = {"user": "ecuser", "capabilities": "cap_net_bind_service+ep"}
    expected = Expected(
        uid=ecuser.pw_uid,
        gid=ecuser.pw_gid,
        groups=frozenset(),
        sets=CapabilitySets(BIND, BIND, 0),
        bounding=0,
        securebits=0xEF,
    )
    with subject("root", **order) as daemon:
        assert daemon.answer["expected"] == expected.as_dict()
        assert judge(inspect(daemon.pid), expected) == []
    with subject("root", act="nothing") as daemon:
        assert len(judge(inspect(daemon.pid), expected)) == 8


DIES = """
import os, sys
from mtad.privilege.drop import die_with_parent
child = os.fork()
if child == 0:
    if sys.argv[1] == "bound":
        die_with_parent(os.getppid())
    os.write(1, b"r")
    sys.stdin.read()
else:
    sys.stdin.read()
"""


@pytest.mark.parametrize("bond", ["bound", "unbound"])
def test_die_with_parent(bond: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", DIES, bond],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(judge.__code__.co_filename).parents[2])},
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    assert parent.stdout.read(1) == b"r"
    child = int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text())
    parent.kill()
    parent.wait(10)
    if bond == "bound":
        # The last holder of the pipe is gone while its standard input is still open.
        assert parent.stdout.read() == b""
        assert not Path(f"/proc/{child}/exe").exists()
    else:
        assert Path(f"/proc/{child}/exe").exists()
    parent.stdin.close()
    parent.stdout.close()


def test_a_parent_that_is_gone_already() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from mtad.privilege.drop import die_with_parent; die_with_parent(1); print('alive')",
        ],
        capture_output=True,
        check=False,
        env={"PYTHONPATH": str(Path(judge.__code__.co_filename).parents[2])},
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")

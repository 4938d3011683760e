"""Processes to examine: the miniature daemon, in each way a daemon is started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.privilege_witness import unprivileged_port_start
from mtad import errors

_AS_ECUSER = ["setpriv", "--reuid=ecuser", "--regid=ecuser", "--clear-groups"]

# Where mtad and harness are imported from.
_PATHS = [str(Path(file).parents[1]) for file in (errors.__file__, __file__)]

STARTS: dict[str, list[str]] = {
    # As a root shell has it: in the group root as well.
    "root": ["setpriv", "--groups=0"],
    "root_without_sys_resource": ["setpriv", "--groups=0", "--bounding-set=-sys_resource"],
    "root_without_setpcap": ["setpriv", "--groups=0", "--bounding-set=-setpcap"],
    "ecuser_ambient": [
        *_AS_ECUSER,
        "--inh-caps=+net_bind_service",
        "--ambient-caps=+net_bind_service",
    ],
    "ecuser_nothing": _AS_ECUSER,
}
"""The start modes, each as the command that goes before the program."""


@dataclass(frozen=True)
class Subject:
    """A running miniature daemon: ``pid``, and what it said of its drop."""

    pid: int
    answer: dict[str, Any]


def command(order: dict[str, Any]) -> list[str]:
    """The command line of the miniature daemon."""
    return [
        "env",
        f"PYTHONPATH={os.pathsep.join(_PATHS)}",
        "PYTHONDONTWRITEBYTECODE=1",
        sys.executable,
        "-m",
        "harness.privilege_program",
        json.dumps(order),
    ]


@contextmanager
def subject(start: str, **order: Any) -> Iterator[Subject]:
    """Run the miniature daemon as ``start`` says, in a network namespace of its own."""
    with _running(["unshare", "--net", *STARTS[start], *command(order)]) as running:
        yield running


@contextmanager
def subject_in_user_namespace(**order: Any) -> Iterator[Subject]:
    """Run it as the root of a user namespace with the same ids, where every capability is held."""
    # exec as uid 0 gives the capabilities, so the ids must be mapped before it.
    shell = ["sh", "-c", 'read -r mapped && exec "$@"', "sh"]
    with _running(
        ["unshare", "--user", "--net", *shell, *command(order)], user_namespace=True
    ) as running:
        yield running


@contextmanager
def _running(line: list[str], *, user_namespace: bool = False) -> Iterator[Subject]:
    process = subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if user_namespace:
            _map_ids(process)
        said = process.stdout.readline()
        assert said, f"it ended with {process.wait(10)} and said nothing"
        assert unprivileged_port_start(process.pid) > 25, "port 25 would be free for everyone"
        yield Subject(process.pid, json.loads(said))
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.stdout.close()


def _map_ids(process: subprocess.Popen[str]) -> None:
    own = Path("/proc/self/ns/user").stat().st_ino
    while Path(f"/proc/{process.pid}/ns/user").stat().st_ino == own:
        assert process.poll() is None, "unshare --user was refused"
    for table in ("uid_map", "gid_map"):
        Path(f"/proc/{process.pid}/{table}").write_text("0 0 4294967295\n")
    assert process.stdin is not None
    process.stdin.write("mapped\n")
    process.stdin.flush()


TOOLS = ("setpriv", "unshare", "nsenter", "getpcaps", "setcap", "capsh")


def why_not() -> str:
    """Why the real drops cannot be made here; empty where they can."""
    if os.geteuid() != 0:
        return "a real drop needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"missing: {', '.join(missing)} (util-linux, libcap2-bin)" if missing else ""

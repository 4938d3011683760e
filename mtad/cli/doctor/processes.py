"""Processes as a stranger sees them: who they are, where they run, and which sockets they hold."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

_MOST_COMMAND = 100
_UNIT = re.compile(r"/([^/]+\.service)(?:/|$)")
_CONTAINER = re.compile(r"(docker|libpod|cri-containerd|crio)[-/]([0-9a-f]{12})[0-9a-f]{52}")
_ENGINES = {"libpod": "podman", "cri-containerd": "crictl", "crio": "crictl"}


@dataclass(frozen=True, slots=True)
class Process:
    """A process. ``unit`` is of systemd, ``container`` is ``podman ID``; "" where it is in none."""

    pid: int
    parent: int
    name: str
    command: str
    user: str
    unit: str
    container: str

    def __str__(self) -> str:
        place = "".join(f", {where}" for where in (self.unit, self.container) if where)
        return f"process {self.pid} ({self.command}), user {self.user}{place}"


def process(pid: int) -> Process:
    """Return process ``pid``.

    Raises:
        OSError: there is none (or /proc hides it: hidepid in proc(5)).
    """
    place, about = PROC / str(pid), status(pid)
    words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    command = words.strip() or f"[{about['Name']}]"
    cgroup = (place / "cgroup").read_text("utf-8", "backslashreplace")
    return Process(
        pid=pid,
        parent=int(about["PPid"]),
        name=about["Name"],
        command=f"{command[:_MOST_COMMAND]}…" if len(command) > _MOST_COMMAND else command,
        user=user_name(int(about["Uid"].split()[1])),
        unit=unit_in(cgroup),
        container=container_in(cgroup),
    )


def status(pid: int) -> dict[str, str]:
    """Return /proc/PID/status; raises OSError as process() does."""
    text = (PROC / str(pid) / "status").read_text("utf-8", "backslashreplace")
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def user_name(uid: int) -> str:
    """Return the name of a user, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def unit_in(cgroup: str) -> str:
    """Return the innermost service that a /proc/PID/cgroup names, or ""."""
    found = [name for line in cgroup.splitlines() for name in _UNIT.findall(line.split(":", 2)[2])]
    # user@1000.service is a whole session; what runs in it has a unit of its own, or none.
    return next((name for name in reversed(found) if not name.startswith("user@")), "")


def container_in(cgroup: str) -> str:
    """Return the container that a /proc/PID/cgroup names, as ``podman ID``, or ""."""
    match = _CONTAINER.search(cgroup)
    if match is None:
        return ""
    engine, name = match.groups()
    return f"{_ENGINES.get(engine, engine)} {name}"


def holders(inodes: Collection[int]) -> tuple[list[Process], bool]:
    """Return the processes that hold one of the sockets, and whether all processes were looked at.

    A process whose parent holds the socket as well is left out: it was given it.
    """
    wanted = {f"socket:[{inode}]" for inode in inodes}
    everything, pids = True, []
    for place in PROC.iterdir():
        if not place.name.isdigit():
            continue
        try:
            with os.scandir(place / "fd") as entries:
                if any(_link(entry.path) in wanted for entry in entries):
                    pids.append(int(place.name))
        except PermissionError:
            everything = False
        except OSError:
            continue  # it ended meanwhile
    found = []
    for pid in sorted(pids):
        with suppress(OSError):
            found.append(process(pid))
    holding = {one.pid for one in found}
    return [one for one in found if one.parent not in holding], everything


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 (one of many thousands)
    except OSError:
        return ""


def tasks_of(uid: int) -> int:
    """Return how many tasks (threads) the real user ``uid`` has, as RLIMIT_NPROC counts them."""
    count = 0
    for place in PROC.iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                about = status(int(place.name))
                count += int(about["Threads"]) if int(about["Uid"].split()[0]) == uid else 0
    return count

"""What a process holds, told by others than mtad: /proc read here, and libcap's own getpcaps."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Held:
    """The lines of /proc/PID/task/TID/status that matter, capability sets as integers."""

    uids: tuple[int, ...]
    gids: tuple[int, ...]
    groups: frozenset[int]
    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int
    no_new_privs: int


def parse_status(text: str) -> Held:
    lines = {}
    for line in text.splitlines():
        key, _, value = line.partition(":\t")
        lines[key] = value.strip()

    def numbers(key: str) -> tuple[int, ...]:
        return tuple(int(word) for word in lines[key].split())

    return Held(
        uids=numbers("Uid"),
        gids=numbers("Gid"),
        groups=frozenset(numbers("Groups")),
        inheritable=int(lines["CapInh"], 16),
        permitted=int(lines["CapPrm"], 16),
        effective=int(lines["CapEff"], 16),
        bounding=int(lines["CapBnd"], 16),
        ambient=int(lines["CapAmb"], 16),
        no_new_privs=int(lines["NoNewPrivs"]),
    )


def threads(pid: int) -> list[int]:
    return sorted(int(path.name) for path in Path(f"/proc/{pid}/task").iterdir())


def held(tid: int) -> Held:
    return parse_status(Path(f"/proc/{tid}/status").read_text())


def held_by_all(pid: int) -> Held:
    """What every thread of ``pid`` holds; AssertionError where two differ."""
    found = {held(tid) for tid in threads(pid)}
    assert len(found) == 1, f"the threads of {pid} differ: {found}"
    return found.pop()


def getpcaps(pid: int) -> str:
    """What getpcaps(8) says, without the pid: ``cap_net_bind_service=ep`` or ``=``."""
    done = subprocess.run(
        ["getpcaps", str(pid)], capture_output=True, text=True, check=True, timeout=10
    )
    return (done.stdout + done.stderr).strip().removeprefix(f"{pid}:").strip()


def readable_by_same_user(pid: int) -> bool:
    """Whether another process of the same user, without capabilities, may look into ``pid``.

    The kernel grants /proc/PID/environ as it grants ptrace(2): PTRACE_MODE_READ.
    """
    holder = held(pid)
    who = [f"--reuid={holder.uids[0]}", f"--regid={holder.gids[0]}", "--clear-groups"]
    nothing = ["--inh-caps=-all", "--bounding-set=-all"]
    reader = subprocess.run(
        ["setpriv", *who, *nothing, "cat", f"/proc/{pid}/environ"],
        capture_output=True,
        check=False,
        timeout=10,
    )
    assert reader.returncode == 0 or b"Permission denied" in reader.stderr, reader.stderr
    return reader.returncode == 0


def unprivileged_port_start(pid: int) -> int:
    """The sysctl as the network namespace of ``pid`` has it."""
    done = subprocess.run(
        [
            "nsenter",
            f"--net=/proc/{pid}/ns/net",
            "cat",
            "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return int(done.stdout)

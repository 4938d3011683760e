"""What processes and threads really hold, read from the kernel, and judged against a plan."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import prctl

from mtad.privilege import capabilities
from mtad.privilege.capabilities import CapabilitySets

Ids = tuple[int, int, int, int]
"""Real, effective, saved and file system id."""


@dataclass(frozen=True, slots=True)
class ThreadReport:
    """What one thread holds: proc_pid_status(5). Capability sets are bit masks.

    ``securebits`` is known of the calling thread alone (PR_GET_SECUREBITS), and None of others;
    ``seccomp`` is 0 (none), 1 (strict) or 2 (filter).
    """

    tid: int
    comm: str
    uids: Ids
    gids: Ids
    groups: tuple[int, ...]
    permitted: int
    effective: int
    inheritable: int
    bounding: int
    ambient: int
    no_new_privs: bool
    seccomp: int
    securebits: int | None = None

    @property
    def sets(self) -> CapabilitySets:
        """The three sets of capset(2)."""
        return CapabilitySets(self.permitted, self.effective, self.inheritable)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; a capability set becomes its mask in hex and its names."""
        return {
            "tid": self.tid,
            "comm": self.comm,
            "uids": list(self.uids),
            "gids": list(self.gids),
            "groups": list(self.groups),
            **{name: mask_as_dict(getattr(self, name)) for name in SETS},
            "no_new_privs": self.no_new_privs,
            "seccomp": self.seccomp,
            "securebits": None if self.securebits is None else f"{self.securebits:#x}",
        }


SETS = ("permitted", "effective", "inheritable", "bounding", "ambient")


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """What a process and each of its threads hold.

    ``core_limit`` is the hard RLIMIT_CORE in octets (-1: unlimited). ``dumpable`` is known of the
    calling process alone (PR_GET_DUMPABLE), and None of others.
    """

    pid: int
    threads: tuple[ThreadReport, ...]
    core_limit: int
    dumpable: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "pid": self.pid,
            "core_limit": self.core_limit,
            "dumpable": self.dumpable,
            "threads": [thread.as_dict() for thread in self.threads],
        }


@dataclass(frozen=True, slots=True)
class Expected:
    """What every thread of a process is to hold. Capability sets are bit masks.

    ``bounding`` is the most that is allowed: a smaller bounding set is no weaker. ``groups`` leaves
    open whether the primary group is listed once more.
    """

    uid: int
    gid: int
    groups: frozenset[int]
    sets: CapabilitySets
    bounding: int
    securebits: int

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "uid": self.uid,
            "gid": self.gid,
            "groups": sorted(self.groups),
            "permitted": mask_as_dict(self.sets.permitted),
            "effective": mask_as_dict(self.sets.effective),
            "inheritable": mask_as_dict(self.sets.inheritable),
            "bounding": mask_as_dict(self.bounding),
            "ambient": mask_as_dict(0),
            "no_new_privs": True,
            "securebits": f"{self.securebits:#x}",
            "dumpable": False,
            "core_limit": 0,
        }


def inspect(pid: int) -> ProcessReport:
    """Return what process ``pid`` and each of its threads hold at this moment.

    Raises:
        ProcessLookupError: there is no such process (or /proc hides it: hidepid in proc(5)).
    """
    process = Path("/proc") / str(pid)
    own = pid == os.getpid()
    try:
        core_limit = _core_limit((process / "limits").read_text("ascii"))
        threads = [_thread(task) for task in (process / "task").iterdir()]
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} is gone, or hidden by /proc") from None
    return ProcessReport(
        pid=pid,
        threads=tuple(sorted(filter(None, threads), key=lambda thread: thread.tid)),
        core_limit=core_limit,
        dumpable=bool(prctl.get_dumpable()) if own else None,
    )


def tracer_of(process: int | Literal["self"]) -> int:
    """Return the process that traces ``process`` (ptrace(2)), 0 for none. Raises OSError."""
    status = Path(f"/proc/{process}/status").read_text("utf-8", "backslashreplace")
    return int(next(line for line in status.splitlines() if line.startswith("TracerPid:"))[10:])


def judge(report: ProcessReport, expected: Expected) -> list[str]:
    """Return each way in which ``report`` differs from ``expected``, as sentences; none is well."""
    wrong = [
        f"thread {thread.tid} ({thread.comm}): {sentence}"
        for thread in report.threads
        for sentence in _judge_thread(thread, expected)
    ]
    if not report.threads:
        wrong.append(f"process {report.pid} has no thread left to look at")
    if report.core_limit:
        wrong.append(f"process {report.pid} may dump core: its RLIMIT_CORE is {report.core_limit}")
    if report.dumpable:
        wrong.append(f"process {report.pid} is dumpable: others of its user may trace it")
    return wrong


def _judge_thread(thread: ThreadReport, expected: Expected) -> list[str]:
    wrong = []
    for what, ids, planned in (
        ("uids", thread.uids, expected.uid),
        ("gids", thread.gids, expected.gid),
    ):
        if set(ids) != {planned}:
            wrong.append(f"its {what} are {', '.join(map(str, ids))}; planned is {planned} alone")
    if set(thread.groups) - {expected.gid} != expected.groups - {expected.gid}:
        wrong.append(
            f"its supplementary groups are {_listed(thread.groups)}; "
            f"planned: {_listed(expected.groups)}"
        )
    for name in ("permitted", "effective", "inheritable"):
        held, planned = getattr(thread, name), getattr(expected.sets, name)
        if held != planned:
            wrong.append(
                f"its {name} set is {capabilities.describe(held)}; "
                f"planned: {capabilities.describe(planned)}"
            )
    if excess := thread.bounding & ~expected.bounding:
        wrong.append(f"its bounding set still has {capabilities.describe(excess)}")
    if thread.ambient:
        wrong.append(f"its ambient set is {capabilities.describe(thread.ambient)}; planned: none")
    if not thread.no_new_privs:
        wrong.append("no_new_privs is not set: exec may still give it privileges")
    if thread.securebits not in {None, expected.securebits}:
        wrong.append(
            f"its securebits are {thread.securebits:#x}; planned: {expected.securebits:#x}"
        )
    return wrong


def _listed(groups: tuple[int, ...] | frozenset[int]) -> str:
    return ", ".join(map(str, sorted(groups))) or "none"


def mask_as_dict(mask: int) -> dict[str, Any]:
    """Return a capability set for JSON: its mask in hex and its names."""
    return {"hex": f"{mask:#x}", "names": list(capabilities.names(mask))}


def _core_limit(limits: str) -> int:
    line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    hard = line.split()[5]
    return -1 if hard == "unlimited" else int(hard)


def _thread(task: Path) -> ThreadReport | None:
    """Return what one thread holds, or None if it ended meanwhile."""
    try:
        status = (task / "status").read_text("utf-8", "backslashreplace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    tid = int(fields["Pid"])
    return ThreadReport(
        tid=tid,
        comm=fields["Name"].strip(),
        uids=_ids(fields["Uid"]),
        gids=_ids(fields["Gid"]),
        groups=tuple(map(int, fields["Groups"].split())),
        permitted=int(fields["CapPrm"], 16),
        effective=int(fields["CapEff"], 16),
        inheritable=int(fields["CapInh"], 16),
        bounding=int(fields["CapBnd"], 16),
        ambient=int(fields["CapAmb"], 16),
        no_new_privs=fields["NoNewPrivs"].strip() == "1",
        seccomp=int(fields["Seccomp"]),
        securebits=prctl.get_securebits() if tid == threading.get_native_id() else None,
    )


def _ids(text: str) -> Ids:
    real, effective, saved, file_system = map(int, text.split())
    return real, effective, saved, file_system

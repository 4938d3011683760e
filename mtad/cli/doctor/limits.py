"""Limits of this process, and of its control groups, against what the daemon will need."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mtad.cli.doctor.finding import Finding, ok, problem, warning
from mtad.cli.doctor.processes import PROC, tasks_of
from mtad.cli.doctor.start import Start

# What a process of the daemon has open beside listeners, workers and sessions, rounded up.
_OPEN_ANYWAY = 32
_OPEN_FOR_A_WORKER = 4
_FEW_SESSIONS = 100

_CGROUPS = Path("/sys/fs/cgroup")


def open_files(start: Start) -> Iterator[Finding]:
    """Count the descriptors of supervisor and worker against RLIMIT_NOFILE.

    The supervisor has each listener's socket, and so has each worker, which has its sessions as
    well. The start raises the soft limit to the hard one.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    listening = len(start.configuration.listeners())
    workers = start.configuration.settings.worker_count()
    # The supervisor keeps half of its descriptors free, to hand sockets to a worker.
    needed = 2 * (listening + _OPEN_ANYWAY + _OPEN_FOR_A_WORKER * workers)
    sessions = hard - listening - _OPEN_ANYWAY
    found = f"RLIMIT_NOFILE is {hard}: room for {max(sessions, 0)} sessions in each worker"
    wanted = max(65_536, 2 * needed)
    remedies = (
        f"systemd: LimitNOFILE={wanted}",
        f"podman run --ulimit nofile={wanted}:{wanted}",
        f"as root, in the shell that starts it: ulimit -Hn {wanted}",
    )
    if hard < needed:
        yield problem(found, f"the daemon needs {needed} to open its listeners", *remedies)
    elif sessions < _FEW_SESSIONS:
        yield warning(found, "a worker that has no descriptor left accepts nobody", *remedies)
    else:
        yield ok(found)


class _Limit(NamedTuple):
    """A limit of tasks: what it is, how many it leaves, and what raises it."""

    found: str
    left: int
    remedies: tuple[str, ...]


def processes(start: Start) -> Iterator[Finding]:
    """Count the workers and their threads against RLIMIT_NPROC and the control groups."""
    workers = start.configuration.settings.worker_count()
    needed = 1 + workers * _threads_of_a_worker()
    limits = [*_of_the_user(start, needed), *_of_the_groups(needed)]
    for limit in limits:
        found = f"{limit.found}; {needed} more are needed at most"
        if limit.left >= needed:
            yield ok(found)
        else:
            why = "workers could not be started, or could not write mail"
            yield problem(found, why, *limit.remedies)
    if not limits:
        yield ok(f"no limit; {needed} are needed at most")


def _threads_of_a_worker() -> int:
    """Return the most that a worker has: the loop's, and those of its executor (which writes)."""
    return 1 + min(32, (os.cpu_count() or 1) + 4)


def _of_the_user(start: Start, needed: int) -> Iterator[_Limit]:
    """Yield RLIMIT_NPROC, which counts what the user has already, and root has not."""
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if most == resource.RLIM_INFINITY or start.plan is None or start.plan.uid == 0:
        return
    present = tasks_of(start.plan.uid)
    wanted = 2 * (present + needed)
    remedies = (
        "systemd: LimitNPROC=infinity",
        f"podman run --ulimit nproc={wanted}:{wanted}",
        f"as root, in the shell that starts it: ulimit -u {wanted}",
    )
    found = f"RLIMIT_NPROC is {most}, and {start.user} has {present} tasks"
    yield _Limit(found, most - present, remedies)


def _of_the_groups(needed: int) -> Iterator[_Limit]:
    """Yield pids.max of each control group above this process that has one."""
    for line in (PROC / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in {"", "pids"}:
            continue
        root = _CGROUPS / controllers
        group = root / path.lstrip("/")
        for place in (group, *group.parents):
            if not place.is_relative_to(root):
                break
            with suppress(OSError, ValueError):  # no limit is "max"; the root has no such file
                most = int((place / "pids.max").read_text())
                present = int((place / "pids.current").read_text())
                wanted = 2 * (present + needed)
                remedies = ("systemd: TasksMax=infinity", f"podman run --pids-limit {wanted}")
                found = f"pids.max of {place} is {most}, and {present} tasks are in it"
                yield _Limit(found, most - present, remedies)

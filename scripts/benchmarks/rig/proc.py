"""What /proc says about a process and its descendants."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def tree(pid: int) -> list[int]:
    """Return ``pid`` and its descendants."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold anything.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def of_module(pids: list[int], module: str) -> list[int]:
    """Return those of ``pids`` that ``python -m module`` started."""
    found = []
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
            found += [pid] * (module.encode() in words)
    return found


def cpu_seconds(pids: list[int]) -> float:
    """Return the time that the threads of ``pids`` ran (user and system), to the nanosecond.

    It is from schedstat: the times in stat have a grain of 10 ms. Threads that ended are left out.
    """
    tasks = (task for pid in pids for task in (PROC / str(pid) / "task").iterdir())
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident(pids: list[int]) -> float:
    """Return the resident set of ``pids`` in MB.

    It is counted page by page: the VmRSS of status is behind by some hundred KB.
    """
    return sum(_kilobytes(pid, "smaps_rollup", "Rss") for pid in pids) / 1024


def peak_resident(pids: list[int]) -> float:
    """Return the highest resident set of ``pids`` since `reset_peak`, in MB."""
    return sum(_kilobytes(pid, "status", "VmHWM") for pid in pids) / 1024


def reset_peak(pids: list[int]) -> None:
    """Set the peak to what is resident now (proc_pid_clear_refs(5))."""
    for pid in pids:
        (PROC / str(pid) / "clear_refs").write_text("5")


def _kilobytes(pid: int, file: str, key: str) -> int:
    for line in (PROC / str(pid) / file).read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise LookupError(f"{key} in /proc/{pid}/{file}")

"""What is around this process: a container, a unit, a user namespace, its ancestors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mtad.cli.doctor.processes import PROC, Process, container_in, process, status, unit_in
from mtad.privilege.capabilities import describe, names

HOW_TO_SEE_DENIALS = (
    "journalctl -k --since -5min | grep -E 'apparmor=|avc:|type=1326' shows what was denied"
)

_CONTAINER_MARKS = (Path("/run/.containerenv"), Path("/.dockerenv"))
_ALL_IDS = ["0", "0", "4294967295"]


def container() -> str:
    """Return how it shows that this process is in a container, or ""."""
    for mark in _CONTAINER_MARKS:
        if mark.exists():
            return f"{mark} is there"
    with suppress(OSError):
        if found := container_in((PROC / "1" / "cgroup").read_text()):
            return f"/proc/1/cgroup names {found}"
    return ""


def unit() -> str:
    """Return the systemd service that started this process, or ""."""
    if "INVOCATION_ID" not in os.environ:
        return ""
    return unit_in((PROC / "self" / "cgroup").read_text())


def in_user_namespace() -> bool:
    """Whether this process is in another user namespace than the machine's first."""
    return (PROC / "self" / "uid_map").read_text().split() != _ALL_IDS


def how_to_give(capabilities: int, command: str) -> Iterator[str]:
    """Yield what gives the start ``command`` the ``capabilities`` (a mask), where it is made."""
    wanted = [name.upper() for name in names(capabilities)]
    if os.geteuid() != 0:
        yield f"sudo {command}"
    if service := unit():
        listed = " ".join(wanted)
        yield (
            f"systemctl edit {service}: [Service] AmbientCapabilities={listed}, and the same in "
            "CapabilityBoundingSet= where it is set"
        )
    if container():
        short = ",".join(name.removeprefix("CAP_") for name in wanted)
        yield f"podman run --cap-add={short} … (docker run alike)"


def who_took(capabilities: int) -> str:
    """Return which of our ancestors lost ``capabilities`` (a mask) from its bounding set."""
    found = _losers(capabilities)
    if found is None:
        return f"no ancestor that can be seen has {describe(capabilities)} in its bounding set"
    elder, younger = found
    if younger.pid == os.getpid():
        return f"{elder} has it still: what it started, or this process itself, gave it up"
    return f"{elder} has it still, and {younger} has not"


def _losers(capabilities: int) -> tuple[Process, Process] | None:
    """Return the nearest ancestor that has ``capabilities``, and its child that has not."""
    younger = process(os.getpid())
    while younger.parent:
        try:
            elder = process(younger.parent)
        except OSError:
            return None
        if int(status(elder.pid)["CapBnd"], 16) & capabilities == capabilities:
            return elder, younger
        younger = elder
    return None

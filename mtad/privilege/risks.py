"""What a reader of a plan should be warned of."""

from __future__ import annotations

from collections.abc import Iterator

from mtad.privilege import accounts
from mtad.privilege.capabilities import describe, names
from mtad.privilege.report import Expected
from mtad.privilege.situation import CAP_SETGID, CAP_SETPCAP, LOCKED_DOWN, Situation

ROOT_EQUIVALENT = {
    "cap_bpf": "loads programs into the kernel",
    "cap_chown": "takes any file as its own",
    "cap_dac_override": "reads and writes any file",
    "cap_dac_read_search": "reads any file",
    "cap_fowner": "changes the mode of any file",
    "cap_mknod": "makes device files",
    "cap_setfcap": "gives capabilities to files",
    "cap_setgid": "joins any group",
    "cap_setpcap": "changes securebits and inheritable capabilities",
    "cap_setuid": "becomes any user",
    "cap_sys_admin": "mounts, and much more",
    "cap_sys_boot": "starts another kernel",
    "cap_sys_chroot": "leaves and fakes root directories",
    "cap_sys_module": "loads kernel modules",
    "cap_sys_ptrace": "takes over other processes",
    "cap_sys_rawio": "writes to memory and ports of the machine",
}
"""Capabilities from which full root is one step away, and which step."""


def of_what_is_kept(expected: Expected, situation: Situation) -> Iterator[str]:
    """Yield a warning for each power that the plan leaves, or that its reader may miss."""
    permitted = expected.sets.permitted
    kept = names(permitted | expected.sets.inheritable)
    if risky := [f"{name} ({ROOT_EQUIVALENT[name]})" for name in kept if name in ROOT_EQUIVALENT]:
        yield f"what is retained is as good as root: {', '.join(risky)}"
    if expected.uid != 0:
        return
    yield (
        "user: root still owns the system's files, and who can write those needs no capability; "
        "name an ordinary user instead"
    )
    if lost := names(situation.sets.permitted & ~expected.sets.permitted):
        grave = [name for name in lost if name in ROOT_EQUIVALENT]
        yield (
            f"capabilities are exclusive, not cumulative: this root keeps {describe(permitted)}, "
            f"and loses {len(lost)}, among them {', '.join(grave) or lost[0]}"
        )
    if "cap_dac_override" in lost:
        yield "without cap_dac_override this root cannot read or write the files of other users"


def of_the_start(expected: Expected, situation: Situation) -> Iterator[str]:
    """Yield what this start leaves weaker than a start as root with all capabilities."""
    if not situation.may(CAP_SETPCAP):
        if expected.bounding:
            yield (
                "the bounding set stays as it is, for want of cap_setpcap: "
                f"{describe(expected.bounding)}"
            )
        if expected.securebits != LOCKED_DOWN:
            yield f"the securebits stay {expected.securebits:#x}, for want of cap_setpcap"
    elif expected.securebits != LOCKED_DOWN:
        yield f"some securebits are locked already: they become {expected.securebits:#x}"
    groups = expected.groups - {expected.gid}
    if groups and not situation.may(CAP_SETGID):
        listed = ", ".join(accounts.group(gid)[1] for gid in sorted(groups))
        yield f"the supplementary groups stay as they are, for want of cap_setgid: {listed}"

"""What a process holds before it drops: the facts that a plan starts from."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mtad.privilege import capabilities
from mtad.privilege.capabilities import CapabilitySets
from mtad.privilege.report import Ids, inspect

CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_BIND_SERVICE = (1 << bit for bit in (6, 7, 8, 10))

# linux/securebits.h: each bit has its lock one place higher.
NO_SETUID_FIXUP = 0x04
KEEP_CAPS = 0x10
KEEP_CAPS_LOCKED = 0x20
ALL_LOCKS = 0xAA
LOCKED_DOWN = 0xEF
"""NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE on, KEEP_CAPS off, every lock on."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the process that will drop holds now; ``threads`` is how many it has."""

    uids: Ids
    gids: Ids
    groups: tuple[int, ...]
    sets: CapabilitySets
    bounding: int
    ambient: int
    securebits: int
    no_new_privs: bool
    threads: int

    @classmethod
    def here(cls) -> Situation:
        """Return the situation of the calling thread."""
        report = inspect(os.getpid())
        (thread,) = (each for each in report.threads if each.securebits is not None)
        return cls(
            uids=thread.uids,
            gids=thread.gids,
            groups=thread.groups,
            sets=thread.sets,
            bounding=thread.bounding,
            ambient=thread.ambient,
            securebits=thread.securebits or 0,
            no_new_privs=thread.no_new_privs,
            threads=len(report.threads),
        )

    @classmethod
    def of_root(cls) -> Situation:
        """Return the situation of a plain start as root, with all that this kernel has."""
        every = capabilities.every()
        nobody = (0, 0, 0, 0)
        return cls(nobody, nobody, (0,), CapabilitySets(every, every, 0), every, 0, 0, False, 1)

    def may(self, capability: int) -> bool:
        """Whether ``capability`` (a mask) is effective."""
        return self.sets.effective & capability == capability

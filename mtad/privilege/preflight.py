"""What must be true before a drop, each with its error: who to become, and with what.

Every error names the option of the configuration, what was found, and what would help.
"""

from __future__ import annotations

from dataclasses import dataclass

from mtad.errors import PreflightError
from mtad.privilege import accounts, capabilities
from mtad.privilege.capabilities import CapabilitySets, describe
from mtad.privilege.situation import (
    CAP_SETGID,
    CAP_SETPCAP,
    CAP_SETUID,
    KEEP_CAPS_LOCKED,
    Situation,
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and a primary group, by id and name."""

    uid: int
    user: str
    gid: int
    group: str


def one_thread(situation: Situation) -> None:
    """Refuse a process with several threads: what is dropped is dropped by one of them."""
    if situation.threads != 1:
        raise PreflightError(
            f"this process has {situation.threads} threads: capabilities are a thread's own, "
            "and the others would keep theirs",
            help="drop before anything starts a thread",
        )


def identity(user: str | int | None, group: str | int | None, situation: Situation) -> Identity:
    """Return whom to become; None stays: as the user, and in the user's primary group."""
    present = situation.uids[1]
    if user is None and present == 0:
        raise PreflightError(
            "security.user: none is named, and the program was started as root",
            help="name a user, or write user: root if you mean it",
        )
    account = accounts.user(present if user is None else user)
    if account.uid not in situation.uids[:3] and not situation.may(CAP_SETUID):
        raise PreflightError(
            f"security.user: only a process with cap_setuid becomes {account.name} "
            f"({account.uid}); this one is uid {present} and has "
            f"{describe(situation.sets.effective)}",
            help=f"start it as root, or as {account.name} in the first place: systemd User=, "
            "podman --user, setpriv --reuid; root in a container needs --cap-add=SETUID,SETGID",
        )
    if group is None:
        group = situation.gids[1] if user is None else account.gid
    if group is None:
        raise PreflightError(
            f"security.group: uid {account.uid} is not in the user database, "
            "so it has no primary group",
            help="name the group",
        )
    gid, group_name = accounts.group(group)
    if gid not in situation.gids[:3] and not situation.may(CAP_SETGID):
        raise PreflightError(
            f"security.group: only a process with cap_setgid takes the group {group_name} ({gid}); "
            f"this one has gid {situation.gids[1]}",
            help=f"start it as root, or with that group: systemd Group=, setpriv --regid {gid}",
        )
    return Identity(account.uid, account.name, gid, group_name)


def supplementary_groups(
    values: tuple[str | int, ...], identity: Identity, situation: Situation, *, staying: bool
) -> frozenset[int]:
    """Return the supplementary groups to have.

    Who is ``staying`` the user that started the program, and may not leave its groups, keeps them.
    """
    option = "security.supplemental_groups"
    wanted = frozenset(accounts.group(each, option)[0] for each in values)
    present = frozenset(situation.groups)
    if situation.may(CAP_SETGID):
        return wanted
    if missing := wanted - present - {identity.gid}:
        raise PreflightError(
            f"{option}: this process is not in {_named(missing)}, and only cap_setgid lets it join",
            help="start it as root, or with the groups: systemd SupplementaryGroups=, "
            "podman --group-add, setpriv --groups",
        )
    extra = present - wanted - {identity.gid}
    if extra and not staying:
        raise PreflightError(
            f"{option}: this process is in {_named(extra)} as well, "
            "and only cap_setgid lets it leave",
            help="start it as root, or without them (setpriv --clear-groups), or list them",
        )
    return present


def capability_sets(text: str, situation: Situation) -> CapabilitySets:
    """Return the sets that ``text`` asks for, if capset(2) would give them."""
    option = "security.capabilities"
    sets, held = capabilities.parse(text), situation.sets
    if loose := sets.effective & ~sets.permitted:
        raise PreflightError(
            f"{option}: {text!r} makes {describe(loose)} effective without permitting it",
            help=f"write {describe(loose)}+ep",
        )
    if missing := sets.permitted & ~held.permitted:
        raise PreflightError(
            f"{option}: {_lacks(missing, situation.bounding)}",
            help=f"{capabilities.how_to_give(missing)}; or leave {describe(missing)} out",
        )
    reach = held.inheritable | situation.bounding
    if not situation.may(CAP_SETPCAP):
        reach &= held.inheritable | held.permitted
    if missing := sets.inheritable & ~reach:
        raise PreflightError(
            f"{option}: {describe(missing)} cannot be made inheritable here: it must be in the "
            "bounding set, and permitted where cap_setpcap is missing",
            help=f"leave out the i of {describe(missing)}: no process of mtad inherits anything",
        )
    return sets


def can_keep_capabilities(securebits: int) -> None:
    """Refuse where PR_SET_KEEPCAPS is needed and locked off."""
    if securebits & KEEP_CAPS_LOCKED:
        raise PreflightError(
            f"security.capabilities: the securebits ({securebits:#x}) are locked so that leaving "
            "uid 0 loses every capability",
            help="start it without SecureBits= or setpriv --securebits, or as the user itself",
        )


def _lacks(missing: int, bounding: int) -> str:
    parts = []
    if barred := missing & ~bounding:
        parts.append(
            f"this process lacks {describe(barred)}, and so does its bounding set: whatever "
            "started it took it away (a container's --cap-drop, systemd's CapabilityBoundingSet=)"
        )
    if absent := missing & bounding:
        parts.append(f"this process lacks {describe(absent)}; its bounding set would allow it")
    return "; ".join(parts)


def _named(gids: frozenset[int]) -> str:
    return ", ".join(f"{accounts.group(gid)[1]} ({gid})" for gid in sorted(gids))

"""Who may use the control socket, and for what."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Sequence

from mtad.control.grammar import Role
from mtad.control.peer import Caller
from mtad.errors import PreflightError

_ALL = frozenset(Role)
_OBSERVE = frozenset({Role.OBSERVE})
_NONE: frozenset[Role] = frozenset()


class Roles:
    """The roles of a caller: root may do everything, and the daemon's own user look.

    It may do everything, too, where nothing is ``retained``. Otherwise the workers, which have the
    same user, could have by a command what they do not hold: reserved ports. ``operate`` and
    ``observe`` name users, groups (``@group``), or ids, from the configuration.

    Raises:
        PreflightError: this machine knows no user or group of that name.
    """

    def __init__(
        self, operate: Sequence[str | int], observe: Sequence[str | int], *, retained: bool = False
    ) -> None:
        self._users = {os.getuid(): _OBSERVE if retained else _ALL, 0: _ALL}
        self._groups: dict[int, frozenset[Role]] = {}
        for option, principals, roles in (
            ("control.observe", observe, _OBSERVE),
            ("control.operate", operate, _ALL),
        ):
            for principal in principals:
                ids, number = self._resolve(option, principal)
                ids[number] = ids.get(number, _NONE) | roles
        # A root without capabilities, as in a container, is neither its owner nor of its group.
        self.socket_mode = 0o666 if operate or observe or retained else 0o660
        """Who may connect: SO_PEERCRED decides, the mode keeps out who has no role anyway."""

    def __call__(self, caller: Caller) -> frozenset[Role]:
        """Return what ``caller`` may do: nothing, observe, or both."""
        roles = self._users.get(caller.uid, _NONE)
        for group in {caller.gid, *caller.groups} & self._groups.keys():
            roles |= self._groups[group]
        return roles

    def _resolve(self, option: str, principal: str | int) -> tuple[dict[int, frozenset[Role]], int]:
        text = str(principal)
        ids, name = (self._groups, text[1:]) if text[:1] == "@" else (self._users, text)
        if name.isdecimal():
            return ids, int(name)
        try:
            return ids, grp.getgrnam(name).gr_gid if ids is self._groups else pwd.getpwnam(
                name
            ).pw_uid
        except KeyError:
            kind = "group" if ids is self._groups else "user"
            raise PreflightError(
                f"{option}: this machine has no {kind} {name!r}",
                help="groups are written @group; a number works for either",
            ) from None

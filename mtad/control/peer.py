"""Who is at the other end of a unix socket, as the kernel knows it (unix(7))."""

from __future__ import annotations

import array
import pwd
import socket
import struct
from dataclasses import dataclass

_UCRED = struct.Struct("3i")
# asm-generic/socket.h; Python has no name for it. getsockopt(2) through Python returns at most
# 1024 octets: a peer with more than 256 groups has none for us, and is refused rather than guessed.
_SO_PEERGROUPS = 59
_MOST = 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """A peer, as it was when it connected. ``groups`` are its supplementary groups.

    ``name`` is the name of its user, or its number where it has none.
    """

    uid: int
    gid: int
    pid: int
    groups: frozenset[int]
    name: str

    def __str__(self) -> str:
        return f"{self.name} (uid {self.uid})"


def caller_of(sock: socket.socket) -> Caller:
    """Return the credentials of the peer (SO_PEERCRED, SO_PEERGROUPS); OSError if it has none."""
    pid, uid, gid = _UCRED.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    try:
        groups = array.array("I", sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST))
    except OSError:
        groups = array.array("I")
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Caller(uid, gid, pid, frozenset(groups), name)

"""The sockets of this network namespace, as /proc/net has them (proc(5))."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtad.control.peer import caller_of
from mtad.model.endpoint import ANY, TcpEndpoint

_NET = Path("/proc/self/net")
_PROBE_SECONDS = 1.0
_WORD = 4
# include/net/tcp_states.h. A port whose connections are in TIME_WAIT can be bound (SO_REUSEADDR).
_TIME_WAIT = 6
_LISTEN = 10
# include/uapi/linux/net.h
_ACCEPTS_CONNECTIONS = 0x10000
_UNIX_ROW = re.compile(
    r"[0-9a-f]+: [0-9A-F]+ [0-9A-F]+ (?P<flags>[0-9A-F]+) [0-9A-F]+ [0-9A-F]+ +(?P<inode>\d+) "
    r"(?P<path>.+)"
)
# include/uapi/linux/if_addr.h
_TENTATIVE, _DUPLICATE = 0x40, 0x08


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """A TCP socket by its local end; ``uid`` owns it."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    listens: bool
    uid: int
    inode: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


def tcp_sockets() -> list[TcpSocket]:
    """Return every TCP socket that can be in the way of a bind(2)."""
    sockets = []
    for table in ("tcp", "tcp6"):
        path = _NET / table
        if path.exists():  # there is no tcp6 without IPv6
            sockets += tcp_table(path.read_text("ascii"))
    return sockets


def tcp_table(text: str) -> list[TcpSocket]:
    """Return the sockets in a /proc/net/tcp or tcp6."""
    sockets = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        host, _, port = fields[1].partition(":")
        state = int(fields[3], 16)
        if state != _TIME_WAIT:
            sockets.append(
                TcpSocket(
                    _address(host), int(port, 16), state == _LISTEN, int(fields[7]), int(fields[9])
                )
            )
    return sockets


def in_the_way(endpoint: TcpEndpoint, sockets: Sequence[TcpSocket]) -> list[TcpSocket]:
    """Return those of ``sockets`` that exclude ``endpoint``; those that listen, if any does.

    /proc does not say whether a socket at ``[::]`` takes IPv4 as well; it is supposed to where
    nothing else is in the way.
    """
    wildcard = endpoint.host == ANY
    address = ipaddress.ip_address("::" if wildcard else endpoint.host)
    both = wildcard or (address.version == 6 and address.is_unspecified and not endpoint.v6only)
    same_port = [sock for sock in sockets if sock.port == endpoint.port]
    found = [
        sock
        for sock in same_port
        if (both or sock.address.version == address.version)
        and (address.is_unspecified or sock.address.is_unspecified or sock.address == address)
    ]
    found = found or [sock for sock in same_port if str(sock.address) == "::"]
    return [sock for sock in found if sock.listens] or found


def listening_inode(path: str) -> int:
    """Return the inode of the socket that listens at the unix path ``path``; 0 without one."""
    # Whoever binds chooses the path, line breaks and all: what does not look like a row is none.
    for line in (_NET / "unix").read_text("utf-8", "surrogateescape").split("\n"):
        row = _UNIX_ROW.fullmatch(line)
        if row and row["path"] == path and int(row["flags"], 16) & _ACCEPTS_CONNECTIONS:
            return int(row["inode"])
    return 0


def listening_pid(path: Path) -> int:
    """Return the process that listens at the unix path ``path``; 0: none that we may reach."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return 0
        return caller_of(probe).pid


def is_tentative(host: str) -> bool:
    """Whether the IPv6 address ``host`` is there, but duplicate detection keeps it from use."""
    packed = ipaddress.ip_address(host).packed.hex()
    path = _NET / "if_inet6"
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return any(row[0] == packed and int(row[4], 16) & (_TENTATIVE | _DUPLICATE) for row in rows)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address that the kernel printed as words in its own byte order."""
    words = [int(text[at : at + 2 * _WORD], 16) for at in range(0, len(text), 2 * _WORD)]
    packed = b"".join(word.to_bytes(_WORD, sys.byteorder) for word in words)
    if len(packed) == _WORD:
        return ipaddress.IPv4Address(packed)
    address = ipaddress.IPv6Address(packed)
    return address.ipv4_mapped or address

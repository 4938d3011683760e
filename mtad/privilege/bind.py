"""bind(2) to a port: the one act that the retained capability is for."""

from __future__ import annotations

import socket
from pathlib import Path

from mtad.model.endpoint import ANY, TcpEndpoint
from mtad.privilege.drop import raised

_UNPRIVILEGED_START = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def unprivileged_port_start() -> int:
    """Return the lowest port that needs no cap_net_bind_service (ip(7)); IPv6 goes by it too."""
    return int(_UNPRIVILEGED_START.read_text("ascii"))


def bind_tcp(endpoint: TcpEndpoint) -> socket.socket:
    """Return a socket that is bound to ``endpoint`` and does not listen yet.

    Raises OSError as bind(2) does.
    """
    host, v6only = endpoint.host, endpoint.v6only
    if host == ANY:
        host, v6only = ("::", False) if socket.has_dualstack_ipv6() else ("0.0.0.0", False)  # noqa: S104
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # IPPROTO_TCP by name: asyncio sets TCP_NODELAY only where the socket says that it is TCP.
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
    try:
        # A port whose last connections are in TIME_WAIT can be bound again (tcp(7)).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        with raised():
            sock.bind((host, endpoint.port))
    except BaseException:
        sock.close()
        raise
    return sock

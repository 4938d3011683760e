"""Who a session is with: aiosmtpd's Session, for its handlers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from aiosmtpd.proxy_protocol import ProxyData
from aiosmtpd.smtp import Session


class Client(Session):
    """What a client has said of itself; ``peer`` is its address as accept(2) gave it."""

    # What most clients leave as it is for a while: many connections only come and go.
    ssl: dict[str, Any] | None = None
    host_name: str | None = None
    extended_smtp = False
    proxy_data: ProxyData | None = None
    auth_data: Any = None
    authenticated: bool | None = None
    _login_data: Any = None

    def __init__(self, peer: Any, loop: Any) -> None:
        # Not the base class's, which sets all of them.
        self.peer = peer
        self.loop = loop


@lru_cache(maxsize=256)
def peer_name(peer: Any) -> str:
    """Return the text of a socket's peer name: ``127.0.0.1:4242``, ``[::1]:4242`` or ``unix``.

    An IPv4 peer of a dual-stack socket is written as what it is (RFC 4291 section 2.5.5.2).
    """
    if not isinstance(peer, tuple):
        return "unix"
    host, port = str(peer[0]), peer[1]
    if host.startswith("::ffff:") and "." in host:
        host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

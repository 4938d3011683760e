"""Where a listener listens: the text of the configuration, and the value it stands for."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from mtad.errors import EndpointError

ANY = "*"
"""Every address of the machine, IPv4 and IPv6, through one socket."""

MAX_RANGE = 65_536
"""A longer range is a slip of the pen, not a test."""

# sun_path holds 108 octets with its final NUL (unix(7)).
_MAX_UNIX_PATH = 107

_HELP = (
    "write 0.0.0.0:25, 127.0.0.1:2525, [::1]:25, *:25 for all addresses, 127.0.0.0/24:25 for a "
    "range, or /run/mtad/mx.sock"
)


@dataclass(frozen=True, slots=True, order=True)
class TcpEndpoint:
    """An address and a port. ``host`` is ``*`` or an IP address in its shortest form.

    ``v6only`` (IPV6_V6ONLY, ipv6(7)) matters for ``::`` alone: False takes IPv4 as well.
    """

    host: str
    port: int
    v6only: bool = True

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, order=True)
class UnixEndpoint:
    """A unix stream socket; ``mode`` holds its permission bits."""

    path: str
    mode: int = 0o660

    def __str__(self) -> str:
        return self.path


Endpoint = TcpEndpoint | UnixEndpoint


def parse_endpoints(text: str, *, v6only: bool = True, mode: int = 0o660) -> tuple[Endpoint, ...]:
    """Return the endpoints that ``text`` names: one, or all addresses of a range in order.

    A range is an IP network without host bits, ``127.1.0.0/22:25``; its first and last address
    are included.

    Raises:
        EndpointError: ``text`` names no endpoint.
    """
    if text.startswith("/"):
        return (_unix(text, mode),)
    match = re.fullmatch(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})", text)
    if match is None:
        raise EndpointError(f"{text!r} is not an address and a port", help=_HELP)
    port = int(match["port"])
    if port > 65_535:
        raise EndpointError(f"port {port} in {text!r} is above 65535", help=_HELP)
    if match["host"] == ANY:
        return (TcpEndpoint(ANY, port, v6only=False),)
    return tuple(
        TcpEndpoint(str(address), port, v6only)
        for address in _network(match["v6"] or match["host"] or "", text)
    )


def _unix(path: str, mode: int) -> UnixEndpoint:
    if not path.isprintable():
        raise EndpointError(f"{path!r} has characters that cannot be seen", help=_HELP)
    if len(path.encode()) > _MAX_UNIX_PATH:
        raise EndpointError(
            f"{path!r} cannot be a unix socket: its path has {len(path.encode())} octets",
            help=f"at most {_MAX_UNIX_PATH} octets (unix(7))",
        )
    return UnixEndpoint(path, mode)


def _network(text: str, whole: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        hint = "use the address itself: a name may stand for several" if text[-1:].isalpha() else ""
        raise EndpointError(f"{text!r} in {whole!r} is no IP address", help=hint or _HELP) from None
    if "%" in text:
        raise EndpointError(
            f"{text!r} in {whole!r} names an interface", help="write the address alone, or [::]"
        )
    if "/" in text and ipaddress.ip_interface(text).ip != network.network_address:
        raise EndpointError(f"{text} in {whole!r} has host bits set", help=f"write {network}")
    if network.num_addresses > MAX_RANGE:
        raise EndpointError(
            f"{whole!r} has {network.num_addresses} addresses",
            help=f"a range has at most {MAX_RANGE}",
        )
    return network

"""Where mail is sent on to: the text of a rule or a command, and the value it stands for."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from mtad.errors import EndpointError

_HELP = "write 192.0.2.1:25, [2001:db8::1]:25 or mx.example.org:25"
_PLACE = re.compile(
    r"(?:\[(?P<v6>[^\[\]%]{2,45})\]|(?P<host>[^:\[\]/]{1,253})):(?P<port>[0-9]{1,5})"
)
# Names of hosts, and what people call them in containers (an underscore is in no RFC).
_NAME = re.compile(r"(?!-)[\w-]{1,63}(?:\.(?!-)[\w-]{1,63})*\.?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hop:
    """A server that takes mail: ``host`` is a name or an IP address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_hop(text: str) -> Hop:
    """Return the hop that ``text`` names: an IP address or a name, and a port.

    Raises:
        EndpointError: ``text`` names none.
    """
    match = _PLACE.fullmatch(text)
    if match is None:
        raise EndpointError(f"{text!r} is not a host and a port", help=_HELP)
    port = int(match["port"])
    if not 1 <= port <= 65_535:
        raise EndpointError(f"port {port} in {text!r} is not from 1 to 65535", help=_HELP)
    host = match["v6"] or match["host"]
    if match["v6"] or _is_numeric(host):
        try:
            address = (ipaddress.IPv6Address if match["v6"] else ipaddress.IPv4Address)(host)
        except ValueError:
            raise EndpointError(f"{host!r} in {text!r} is no IP address", help=_HELP) from None
        return Hop(str(address), port)
    if not _NAME.fullmatch(host):
        raise EndpointError(f"{host!r} in {text!r} is no name of a host", help=_HELP)
    return Hop(host, port)


def _is_numeric(host: str) -> bool:
    """Whether a name ends as only an address does (RFC 3696 section 2)."""
    return host.rstrip(".").rpartition(".")[2].isdecimal()

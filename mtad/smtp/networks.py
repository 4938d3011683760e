"""Whom a listener trusts: the networks whose clients may say who somebody else is."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

UNIX = "unix"
"""Stands among networks for every client of a unix socket."""


class Networks:
    """A set of IP networks, built once; ``host in networks`` for each connection.

    ``texts`` are networks in CIDR notation without host bits, or ``unix``. An IPv4 client of a
    socket for both families (``::ffff:192.0.2.1``) is in IPv4 networks alone.

    Raises:
        ValueError: a text is none of these.
    """

    __slots__ = ("_networks", "_unix")

    def __init__(self, texts: Iterable[str]) -> None:
        texts = set(texts)
        self._unix = UNIX in texts
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(text) for text in texts - {UNIX}
        )

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def __contains__(self, host: str | None) -> bool:
        """Whether the client at ``host``, an IP address or None for a unix socket, is inside.

        Raises:
            ValueError: ``host`` is no IP address.
        """
        if host is None:
            return self._unix
        if not self._networks:
            return False
        address = ip_address(host)
        if address.version == 6:
            address = address.ipv4_mapped or address
        return any(address in network for network in self._networks)

"""Listeners that cannot be open at the same time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from mtad.config.schema import Listener
from mtad.model.endpoint import ANY, MAX_RANGE, Endpoint, TcpEndpoint, UnixEndpoint

# What an endpoint takes: a path; or a port of one address, or of a family as a whole.
_Claim = tuple[str, int, str]

_WILDCARDS = {ANY, "0.0.0.0", "::"}  # noqa: S104 (compared, not bound)


def conflicts(listeners: Mapping[str, Listener], control: str) -> Iterator[tuple[str, str]]:
    """Yield ``(name, reason)`` for each enabled listener that cannot be open beside an earlier one.

    ``control`` is the path of the control socket. A listener is named once for each other.
    """
    register = _Register()
    register.take("the control socket", UnixEndpoint(control))
    total = 0
    for name, listener in listeners.items():
        if not listener.enabled:
            continue
        endpoints = listener.endpoints()
        total += len(endpoints)
        if total > MAX_RANGE:
            yield name, f"with this one there are more than {MAX_RANGE} listeners"
            return
        owners = {}
        for endpoint in endpoints:
            if (owner := register.take(f"listener {name}", endpoint)) and owner[0] not in owners:
                owners[owner[0]] = f"{endpoint} is taken by {owner[0]} ({owner[1]})"
        yield from ((name, reason) for reason in owners.values())


class _Register:
    """Who has which address and port."""

    def __init__(self) -> None:
        self._exact: dict[_Claim, tuple[str, Endpoint]] = {}
        self._any: dict[tuple[str, int], tuple[str, Endpoint]] = {}

    def take(self, who: str, endpoint: Endpoint) -> tuple[str, Endpoint] | None:
        """Note that ``who`` wants ``endpoint``; return who has it, or part of it, already."""
        earlier = None
        for claim in _claims(endpoint):
            family, port, host = claim
            if host:
                earlier = earlier or self._exact.get((family, port, ""))
                earlier = earlier or self._exact.get(claim)
            else:
                earlier = earlier or self._any.get((family, port))
            self._exact.setdefault(claim, (who, endpoint))
            self._any.setdefault((family, port), (who, endpoint))
        return earlier


def _claims(endpoint: Endpoint) -> list[_Claim]:
    if not isinstance(endpoint, TcpEndpoint):
        return [("unix", 0, os.path.normpath(endpoint.path))]
    if endpoint.port == 0:
        return []  # the kernel chooses a free one
    families = ["ipv6" if ":" in endpoint.host else "ipv4"]
    if endpoint.host == ANY or (endpoint.host == "::" and not endpoint.v6only):
        families = ["ipv4", "ipv6"]
    host = "" if endpoint.host in _WILDCARDS else endpoint.host
    return [(family, endpoint.port, host) for family in families]

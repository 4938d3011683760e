"""Why the kernel refuses an address and port: who has it, or what is missing."""

from __future__ import annotations

import errno
import ipaddress
import os
import shlex
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mtad.cli.doctor import surroundings
from mtad.cli.doctor.processes import PROC, Process, holders, user_name
from mtad.cli.doctor.sockets import TcpSocket, is_tentative, listening_pid
from mtad.cli.doctor.start import Start
from mtad.model.endpoint import ANY, TcpEndpoint
from mtad.privilege.situation import CAP_NET_BIND_SERVICE

_IPV6_OFF = PROC / "sys/net/ipv6/conf/all/disable_ipv6"
_OTHER_PORTS = (2525, 2526)

# Programs that hold a port for somebody else, and what tells for whom.
_ON_BEHALF = {
    "docker-proxy": "docker ps --filter publish={port} names the container: docker stop NAME",
    "conmon": "podman ps --filter publish={port} names the container: podman stop NAME",
    "rootlessport": "podman ps --filter publish={port} names the container: podman stop NAME",
    "pasta": "podman ps --filter publish={port} names the container: podman stop NAME",
    "systemd": "systemctl list-sockets names the unit: systemctl disable --now UNIT.socket",
}
# Services that are not called like their program.
_SERVICES = {"master": "postfix"}


class Refusal(NamedTuple):
    """Why an endpoint cannot be opened; not ``sure`` where it could not really be tried."""

    reason: str
    remedies: tuple[str, ...] = ()
    sure: bool = True


class Cause(NamedTuple):
    """The errno of a bind(2), and the sockets that may be in its way."""

    number: int
    sockets: tuple[TcpSocket, ...]


def explain(start: Start, group: str, endpoints: Sequence[TcpEndpoint], cause: Cause) -> Refusal:
    """Return what ``cause`` means for ``endpoints`` of the listener ``group``."""
    number = cause.number
    reason = f"{os.strerror(number)} ({errno.errorcode.get(number, number)})"
    # Who lacks the capability does not get as far as EADDRINUSE, but may be told.
    if number == errno.EADDRINUSE or (number == errno.EACCES and cause.sockets and start.refusal):
        return _taken(start, group, endpoints[0], cause.sockets)
    if number in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
        return _no_address(endpoints, reason)
    if number in {errno.EACCES, errno.EPERM}:
        return _forbidden(start, endpoints[0], reason)
    return Refusal(reason)


def _taken(
    start: Start, group: str, endpoint: TcpEndpoint, sockets: Sequence[TcpSocket]
) -> Refusal:
    addresses = start.configuration.settings.listeners[group].listen.rpartition(":")[0]
    port = next(port for port in _OTHER_PORTS if port != endpoint.port)
    other = f'in {start.files}: listeners.{group}.listen: "{addresses}:{port}"'
    if not sockets:
        reason = "a socket that does not listen has the port"
        return Refusal(reason, ("ss -tanp (as root) shows more of it", other))
    processes, everything = holders({one.inode for one in sockets})
    names = ", ".join(sorted({str(one) for one in sockets}))
    # What is bound to * shows as [::].
    same = names == str(endpoint).replace(ANY, "[::]")
    prefix = "" if same else f"{names} excludes it, and is "
    if processes:
        refusal = held_by(start, processes, endpoint.port)
        return Refusal(prefix + refusal.reason, (*refusal.remedies, other))
    users = ", ".join(sorted({user_name(one.uid) for one in sockets}))
    if everything:
        reason = f"held by something of user {users} outside this PID namespace, or in the kernel"
        return Refusal(prefix + reason, (other,))
    reason = f"held by a process of user {users}: only root may see which"
    return Refusal(prefix + reason, (f"sudo {start.command('doctor')}", other))


def held_by(start: Start, processes: Sequence[Process], port: int) -> Refusal:
    """Return the refusal for what ``processes`` hold."""
    return Refusal(
        f"held by {' and '.join(map(str, processes)) or 'something that cannot be seen from here'}",
        tuple(how_to_end(start, one, port) for one in processes),
    )


def how_to_end(start: Start, process: Process, port: int) -> str:
    """Return the command that ends ``process``, for good where it would be started again."""
    control = start.configuration.settings.control.socket
    if process.pid == listening_pid(control):
        return f"mtactl --socket {shlex.quote(str(control))} shutdown"
    if process.name in _ON_BEHALF:
        return _ON_BEHALF[process.name].format(port=port)
    if process.unit:
        # Quoted, as all that others could have named.
        return f"systemctl disable --now {shlex.quote(process.unit)}"
    if process.container:
        engine, name = process.container.split()
        return f"{engine} stop {name}"
    service = _SERVICES.get(process.name, process.name)
    if Path("/etc/init.d", service).is_file():
        return f"service {shlex.quote(service)} stop"
    return f"kill {process.pid}"


def _no_address(endpoints: Sequence[TcpEndpoint], reason: str) -> Refusal:
    first, last = (ipaddress.ip_address(endpoints[at].host) for at in (0, -1))
    if first.version == 6 and (not _IPV6_OFF.exists() or _IPV6_OFF.read_text().strip() == "1"):
        return Refusal(
            f"{reason}: IPv6 is switched off here",
            (
                "sysctl -w net.ipv6.conf.all.disable_ipv6=0",
                "where there is no such sysctl: boot without ipv6.disable=1",
            ),
        )
    if first.version == 6 and is_tentative(str(first)):
        return Refusal(
            f"{reason}: the address is there, but duplicate address detection is not through",
            ("wait two seconds, or add it with: ip address add … nodad",),
        )
    if first.is_loopback:
        return Refusal(f"{reason}: the loopback interface is down", ("ip link set lo up",))
    remedies = [
        f"ip route add local {network} dev lo"
        for network in ipaddress.summarize_address_range(first, last)
    ]
    if first == last:
        device = next((name for _, name in socket.if_nameindex() if name != "lo"), "lo")
        remedies = [f"ip address add {first}/{first.max_prefixlen} dev {device}"]
    remedies.append("ip -brief address shows the addresses that there are")
    return Refusal(f"{reason}: no interface has the address", tuple(remedies))


def _forbidden(start: Start, endpoint: TcpEndpoint, reason: str) -> Refusal:
    if start.plan is None:
        return Refusal(f"{reason}, but tried without the drop, which is refused", sure=False)
    if not start.plan.expected.sets.permitted & CAP_NET_BIND_SERVICE:
        return Refusal(f"{reason}: see privileged ports", sure=False)
    if surroundings.in_user_namespace():
        return Refusal(
            f"{reason}: the capability belongs to this user namespace, and the network does not",
            (
                f"on the host: sysctl -w net.ipv4.ip_unprivileged_port_start={endpoint.port}",
                "or give it a network of its own: podman run without --network=host",
            ),
        )
    return Refusal(
        f"{reason}, with the capability in force: a security module or a seccomp filter forbids it",
        (surroundings.HOW_TO_SEE_DENIALS,),
    )

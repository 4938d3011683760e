"""The checks of a start, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mtad.cli.doctor import limits, listeners, places, privileges
from mtad.cli.doctor.certificates import certificates
from mtad.cli.doctor.finding import Finding
from mtad.cli.doctor.start import Start

CHECKS: dict[str, Callable[[Start], Iterator[Finding]]] = {
    "user": privileges.user,
    "capabilities": privileges.capability,
    "drop": privileges.drop,
    "confinement": privileges.confinement,
    "privileged ports": privileges.privileged_ports,
    "listeners": listeners.tcp,
    "unix listeners": listeners.unix,
    "files": places.files,
    "imports": places.imports,
    "certificates": certificates,
    "directories": places.directories,
    "control socket": places.control_socket,
    "disk": places.disk,
    "open files": limits.open_files,
    "processes": limits.processes,
}

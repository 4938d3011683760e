"""Whether each listener can be opened."""

from __future__ import annotations

import errno
import os
import shlex
import socket
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from mtad.cli.doctor import refusals
from mtad.cli.doctor.finding import Finding, Level, ok, problem
from mtad.cli.doctor.processes import holders
from mtad.cli.doctor.refusals import Cause, Refusal
from mtad.cli.doctor.sockets import in_the_way, listening_inode, tcp_sockets
from mtad.cli.doctor.start import Start
from mtad.model.endpoint import TcpEndpoint, UnixEndpoint
from mtad.model.listener import ListenerSpec
from mtad.privilege.access import obstacles
from mtad.privilege.bind import bind_tcp
from mtad.privilege.child import in_child

_WHY = "the daemon would run with this listener failed, and not be ready"


def tcp(start: Start) -> Iterator[Finding]:
    """Try every address and port of the enabled listeners; tell a reason once for a range."""
    groups: dict[str, list[TcpEndpoint]] = {}
    for spec in _enabled(start):
        if isinstance(spec.endpoint, TcpEndpoint):
            groups.setdefault(spec.group, []).append(spec.endpoint)
    numbers = _try(start, [endpoint for group in groups.values() for endpoint in group])
    sockets = tcp_sockets() if any(numbers.values()) else []
    for group, endpoints in groups.items():
        # The same errno and the same sockets in the way are the same cause.
        causes: dict[Cause, list[TcpEndpoint]] = {}
        for endpoint in endpoints:
            number = numbers[endpoint]
            cause = Cause(number, tuple(in_the_way(endpoint, sockets)) if number else ())
            causes.setdefault(cause, []).append(endpoint)
        for cause, concerned in causes.items():
            refusal = refusals.explain(start, group, concerned, cause) if cause.number else None
            yield _finding(group, _listed(concerned), refusal)


def unix(start: Start) -> Iterator[Finding]:
    """Look at the path of every enabled listener on a unix socket."""
    for spec in _enabled(start):
        if isinstance(spec.endpoint, UnixEndpoint):
            yield _finding(spec.group, str(spec.endpoint), _unix(start, spec.endpoint))


def _enabled(start: Start) -> Iterator[ListenerSpec]:
    return (spec for spec in start.configuration.listeners() if spec.enabled)


def _finding(group: str, where: str, refusal: Refusal | None) -> Finding:
    if refusal is None:
        return ok(f"{group}: {where} can be opened")
    if not refusal.sure:
        return Finding(Level.UNKNOWN, f"{group}: {where}: {refusal.reason}")
    return problem(f"{group}: {where}: {refusal.reason}", _WHY, *refusal.remedies)


def _listed(endpoints: Sequence[TcpEndpoint]) -> str:
    if len(endpoints) == 1:
        return str(endpoints[0])
    return f"{len(endpoints)} endpoints, {endpoints[0]} to {endpoints[-1]}"


def _try(start: Start, endpoints: Sequence[TcpEndpoint]) -> dict[TcpEndpoint, int]:
    """Return the errno of a bind(2) to each of ``endpoints``; 0 is success.

    It is made in a child that has gone through the drop, because only then is the answer the
    daemon's own: a security module may let root bind, and not who was root. The sockets never
    listen and are closed at once. Whoever listens there is not disturbed (the bind fails), no
    connection is taken, and a program that wants the port in that instant gets it, if it binds
    with SO_REUSEADDR as servers do.
    """

    def bind_all() -> list[int]:
        return [_errno_of_bind(endpoint) for endpoint in endpoints]

    numbers = start.as_user(bind_all) if start.plan else in_child(bind_all)
    return dict(zip(endpoints, numbers, strict=True))


def _errno_of_bind(endpoint: TcpEndpoint) -> int:
    try:
        bind_tcp(endpoint).close()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _unix(start: Start, endpoint: UnixEndpoint) -> Refusal | None:
    path = Path(endpoint.path)
    if inode := listening_inode(endpoint.path):
        return refusals.held_by(start, holders([inode])[0], port=0)
    if path.parent in start.configuration.directories() and not path.parent.exists():
        return None  # the start makes it
    found = start.as_user(lambda: _unix_obstacle(path))
    return Refusal(*found) if found else None


def _unix_obstacle(path: Path) -> tuple[str, tuple[str, ...]] | None:
    """Return what keeps the calling process from binding ``path``, and the remedies."""
    for obstacle in obstacles((), (path.parent,)):
        return f"{obstacle.asked}: {obstacle.found}", (obstacle.help,)
    quoted = shlex.quote(str(path))
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(found):
        return "something that is no socket is there, and is left as it is", (f"rm -r {quoted}",)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        number = probe.connect_ex(os.fspath(path))
    if number == errno.ECONNREFUSED:
        return None  # the daemon removes a socket that nobody listens on
    return f"a socket is there that may be in use ({os.strerror(number)})", (f"rm {quoted}",)

"""Listening sockets: opened with the capability, closed so that the port is free at once."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
from contextlib import suppress
from pathlib import Path

from mtad.errors import BindError
from mtad.model.endpoint import ANY, Endpoint, TcpEndpoint, UnixEndpoint
from mtad.privilege.bind import bind_tcp, unprivileged_port_start

_HINTS = {
    errno.EADDRINUSE: (
        "another socket holds it: `mtad doctor` or `ss -ltnp` as root names the process; "
        "a wildcard address (*, 0.0.0.0, ::) excludes every specific one on the same port"
    ),
    errno.EADDRNOTAVAIL: "no interface of this machine has the address: see `ip address`",
    errno.EAFNOSUPPORT: "the kernel has no support for this kind of address: is IPv6 switched off?",
    errno.EMFILE: "raise the limit of open files (ulimit -n, LimitNOFILE=) and restart",
}
_UNIX_HINTS = {
    errno.EACCES: "the daemon's user may not write in the directory of the socket",
    errno.EADDRINUSE: "a program listens there, or a file that is no socket is in the way",
    errno.ENOENT: "the directory of the socket does not exist: make it, owned by the daemon's user",
}


def open_listening(endpoint: Endpoint, backlog: int) -> socket.socket:
    """Return a socket that listens at ``endpoint`` with ``backlog`` (listen(2)).

    Raises:
        BindError: the kernel refused; the message says what was asked, the help what would do.
    """
    try:
        if isinstance(endpoint, UnixEndpoint):
            return _with_room_left(_open_unix(endpoint, backlog))
        return _with_room_left(_open_tcp(endpoint, backlog))
    except OSError as error:
        number = error.errno or 0
        raise BindError(
            f"cannot listen on {endpoint}: {os.strerror(number)} ({errno.errorcode.get(number)})",
            errno=number,
            help=_hint(endpoint, number),
        ) from error


def close_listening(sock: socket.socket) -> None:
    """Close so that the port is free now, whoever else still holds the socket.

    shutdown(2) takes it out of the listening state for every process; closing alone would leave
    it listening until the last worker has closed its copy. The path of a unix socket is removed,
    unless it is somebody else's by now.
    """
    path = sock.getsockname() if sock.family == socket.AF_UNIX else ""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
    sock.close()
    if path:
        with suppress(OSError):  # whatever has become of its directory: stopping goes on
            _remove_stale(path)


def bound_endpoint(sock: socket.socket) -> Endpoint:
    """Return where ``sock`` listens in fact: port 0 has become a number."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return UnixEndpoint(str(name))
    v6only = sock.family == socket.AF_INET6 and bool(
        sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    )
    host = ANY if name[0] == "::" and not v6only else str(name[0])
    return TcpEndpoint(host, int(name[1]), v6only)


def _with_room_left(sock: socket.socket) -> socket.socket:
    """Return ``sock`` if half of the descriptors are left.

    So many may be needed at once to hand the sockets to a worker; and without any, no worker can
    be started and nobody comes in by the control socket.
    """
    if sock.fileno() >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2:
        close_listening(sock)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return sock


def _open_tcp(endpoint: TcpEndpoint, backlog: int) -> socket.socket:
    sock = bind_tcp(endpoint)
    try:
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(endpoint: UnixEndpoint, backlog: int) -> socket.socket:
    _remove_stale(endpoint.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # The mode is right from the first moment: bind(2) applies the umask.
        before = os.umask(0o777 & ~endpoint.mode)
        try:
            sock.bind(endpoint.path)
        finally:
            os.umask(before)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on; whatever else is there stays, and bind(2) fails."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except ConnectionRefusedError:
        Path(path).unlink(missing_ok=True)
    except OSError:
        return


def _hint(endpoint: Endpoint, number: int) -> str:
    if isinstance(endpoint, UnixEndpoint):
        return _UNIX_HINTS.get(number) or _HINTS.get(number, "")
    if number != errno.EACCES:
        return _HINTS.get(number, "")
    return (
        f"ports below {unprivileged_port_start()} (net.ipv4.ip_unprivileged_port_start) need "
        "cap_net_bind_service, which this process does not hold: security.capabilities must "
        'say "cap_net_bind_service+ep" and the start must allow it (`mtad doctor` tells)'
    )

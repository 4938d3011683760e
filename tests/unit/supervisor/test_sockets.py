"""Listening sockets: opened, refused with a hint, and closed so that nobody keeps the port."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.descriptors import count_open

from mtad.errors import BindError
from mtad.model.endpoint import Endpoint, TcpEndpoint, UnixEndpoint
from mtad.supervisor.sockets import bound_endpoint, close_listening, open_listening

LOOPBACK = TcpEndpoint("127.0.0.1", 0)


@contextmanager
def listening(endpoint: Endpoint) -> Iterator[socket.socket]:
    sock = open_listening(endpoint, 5)
    try:
        yield sock
    finally:
        if sock.fileno() >= 0:
            close_listening(sock)


def refused(endpoint: Endpoint) -> BindError:
    before = count_open()
    with pytest.raises(BindError) as caught:
        open_listening(endpoint, 5)
    assert count_open() <= before
    assert caught.value.message.startswith(f"cannot listen on {endpoint}: ")
    assert f"({caught.value.code})" in caught.value.message
    return caught.value


@contextmanager
def held_by_a_child(sock: socket.socket) -> Iterator[None]:
    """A process of its own has the socket as well, and will not close it."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[sock.fileno()],
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield
        finally:
            child.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "*", "0.0.0.0", "::"])
def test_tcp(host: str) -> None:
    with listening(TcpEndpoint(host, 0)) as sock:
        bound = bound_endpoint(sock)
        assert isinstance(bound, TcpEndpoint)
        assert bound.port > 0
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        assert sock.proto == socket.IPPROTO_TCP
        where = "::1" if host in ("::1", "::") else "127.0.0.1"
        socket.create_connection((where, bound.port), timeout=10).close()


def test_v6only_keeps_ipv4_out() -> None:
    with listening(TcpEndpoint("::", 0, v6only=True)) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.9.9.9", port), timeout=10)
    with listening(TcpEndpoint("::", 0, v6only=False)) as sock:
        port = sock.getsockname()[1]
        socket.create_connection(("127.9.9.9", port), timeout=10).close()


def test_a_port_in_use() -> None:
    with listening(LOOPBACK) as sock:
        error = refused(bound_endpoint(sock))
    assert error.errno == errno.EADDRINUSE
    assert "`mtad doctor` or `ss -ltnp`" in error.help


def test_an_address_of_no_interface() -> None:
    error = refused(TcpEndpoint("192.0.2.1", 0))
    assert (error.errno, error.help[:12]) == (errno.EADDRNOTAVAIL, "no interface")


def test_no_descriptor_left() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(BindError) as caught:
            open_listening(LOOPBACK, 5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
    assert "LimitNOFILE=" in caught.value.help


@pytest.mark.root
@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes a network namespace")
def test_a_privileged_port_without_the_capability() -> None:
    """In a namespace where ports below 1024 are privileged; with the capability it is had."""
    program = (
        "from pathlib import Path; from mtad.errors import BindError\n"
        "from mtad.model.endpoint import TcpEndpoint\n"
        "from mtad.supervisor.sockets import open_listening\n"
        "start = Path('/proc/sys/net/ipv4/ip_unprivileged_port_start').read_text()\n"
        "assert int(start) > 25, start\n"
        "try:\n    open_listening(TcpEndpoint('127.0.0.1', 25), 5); print('listens')\n"
        "except BindError as error:\n    print(error.code, error.help)"
    )
    setup = "ip link set lo up; echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start; "
    answers = []
    for prefix in ("", "setpriv --bounding-set -net_bind_service --inh-caps -all "):
        script = f'{setup} exec {prefix}"$0" -c "$1"'
        command = ["unshare", "--net", "sh", "-c", script, sys.executable, program]
        result = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert result.stderr == ""
        answers.append(result.stdout)
    assert answers[0] == "listens\n"
    assert answers[1].startswith("EACCES ports below 1024 (net.ipv4.ip_unprivileged_port_start)")
    assert "cap_net_bind_service" in answers[1]


def test_unix(tmp_path: Path) -> None:
    """Its mode is right from the first moment; its path goes with it."""
    path = tmp_path / "mx.sock"
    before = os.umask(0o077)
    try:
        for mode in (0o600, 0o660, 0o666):
            with listening(UnixEndpoint(str(path), mode)) as sock:
                assert path.stat().st_mode & 0o777 == mode
                assert str(bound_endpoint(sock)) == str(path)
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(path))
            assert not path.exists()
    finally:
        assert os.umask(before) == 0o077


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mx.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.is_socket()
    with listening(UnixEndpoint(str(path))), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_live_socket_is_kept(tmp_path: Path, kind: int) -> None:
    """Of any type, and with a full backlog too."""
    path = tmp_path / "mx.sock"
    with socket.socket(socket.AF_UNIX, kind) as live, socket.socket(socket.AF_UNIX, kind) as client:
        live.bind(str(path))
        if kind != socket.SOCK_DGRAM:
            live.listen(0)
        client.connect(str(path))
        inode = path.stat().st_ino
        error = refused(UnixEndpoint(str(path)))
        assert error.errno == errno.EADDRINUSE
        assert "a program listens there, or a file" in error.help
        assert path.stat().st_ino == inode


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link", "link to a socket"])
def test_a_file_in_the_way_is_kept(tmp_path: Path, kind: str) -> None:
    path, victim = tmp_path / "mx.sock", tmp_path / "victim"
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case "link":
            victim.write_text("precious")
            path.symlink_to(victim)
        case "dangling link":
            path.symlink_to(victim)
        case "link to a socket":
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(victim))
            path.symlink_to(victim)
    before = (path.lstat(), sorted(tmp_path.iterdir()))
    assert refused(UnixEndpoint(str(path))).errno == errno.EADDRINUSE
    assert (path.lstat().st_ino, sorted(tmp_path.iterdir())) == (before[0].st_ino, before[1])


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    error = refused(UnixEndpoint(str(tmp_path / "missing" / "mx.sock")))
    assert error.errno == errno.ENOENT
    assert "the directory of the socket does not exist" in error.help


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes another user")
def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    for place in tmp_path.parents[:2]:
        place.chmod(0o755)
    tmp_path.chmod(0o755)
    os.seteuid(65534)
    try:
        error = refused(UnixEndpoint(str(tmp_path / "mx.sock")))
    finally:
        os.seteuid(0)
    assert error.errno == errno.EACCES
    assert "may not write in the directory of the socket" in error.help


def test_closing_goes_on_when_the_path_cannot_be_removed(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    sock = open_listening(UnixEndpoint(str(directory / "mx.sock")), 5)
    (directory / "mx.sock").unlink()
    directory.rmdir()
    directory.touch()
    close_listening(sock)
    assert sock.fileno() == -1


def test_a_closed_port_is_free_though_a_child_holds_the_socket() -> None:
    sock = open_listening(LOOPBACK, 5)
    where = bound_endpoint(sock)
    assert isinstance(where, TcpEndpoint)
    with held_by_a_child(sock):
        close_listening(sock)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((where.host, where.port), timeout=10)
        for _ in range(3):
            with listening(where):
                socket.create_connection((where.host, where.port), timeout=10).close()


def test_close_alone_leaves_the_port_to_the_child() -> None:
    """The negative control: connections are still taken, and the port cannot be had."""
    sock = open_listening(LOOPBACK, 5)
    where = bound_endpoint(sock)
    assert isinstance(where, TcpEndpoint)
    with held_by_a_child(sock):
        sock.close()
        socket.create_connection((where.host, where.port), timeout=10).close()
        assert refused(where).errno == errno.EADDRINUSE


def test_a_closed_unix_socket_refuses_though_a_child_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "mx.sock"
    sock = open_listening(UnixEndpoint(str(path)), 5)
    kept = tmp_path / "kept.sock"
    kept.hardlink_to(path)
    with held_by_a_child(sock):
        close_listening(sock)
        assert not path.exists()
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            client.connect(str(kept))

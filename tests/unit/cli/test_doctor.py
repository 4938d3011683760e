"""The parts of mtad doctor that need no situation of their own."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from importlib import metadata
from ipaddress import ip_address
from pathlib import Path

import click
import pytest

from mtad.cli.doctor import program, report, sockets
from mtad.cli.doctor.checks import CHECKS
from mtad.cli.doctor.finding import CannotLookError, Finding, Level, ok, problem
from mtad.cli.doctor.processes import container_in, holders, process, unit_in
from mtad.cli.doctor.sockets import TcpSocket, in_the_way, tcp_table
from mtad.errors import PreflightError
from mtad.model.endpoint import TcpEndpoint

DOCS = Path(__file__).parents[3] / "docs"
ID = "0123456789ab" + "c" * 52


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/exim4.service\n", "exim4.service"),
        ("0::/system.slice/system-postfix.slice/postfix@-.service\n", "postfix@-.service"),
        ("1:name=systemd:/system.slice/ssh.service\n0::/\n", "ssh.service"),
        ("0::/system.slice/mtad.service/workers\n", "mtad.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service\n", "x.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", ""),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ""),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_the_unit_of_a_process(cgroup: str, unit: str) -> None:
    assert unit_in(cgroup) == unit


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", "docker 0123456789ab"),
        (f"12:pids:/docker/{ID}\n", "docker 0123456789ab"),
        (f"0::/machine.slice/libpod-{ID}.scope/container\n", "podman 0123456789ab"),
        (f"0::/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope\n", "crictl 0123456789ab"),
        ("0::/system.slice/docker.service\n", ""),
        ("0::/\n", ""),
    ],
)
def test_the_container_of_a_process(cgroup: str, container: str) -> None:
    assert container_in(cgroup) == container


@pytest.mark.parametrize(
    ("version", "wanted", "enough"),
    [
        ("1.4.6", "<1.5,>=1.4.6", True),
        ("1.4.5", "<1.5,>=1.4.6", False),
        ("1.5.0", "<1.5,>=1.4.6", False),
        ("1.10", ">=1.9", True),
        ("13.7", ">=13.7", True),
        ("none", "", False),
        ("0.1", "", True),
    ],
)
def test_versions(version: str, wanted: str, enough: bool) -> None:
    assert program.satisfies(version, wanted) is enough


def test_every_requirement_is_compared() -> None:
    (finding,) = program.packages()
    for name in ("aiosmtpd", "python-prctl", "uvloop"):
        assert f"{name} {metadata.version(name)}" in finding.found
    assert "pytest" not in finding.found


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_a_listening_socket_is_found_with_its_holder(host: str) -> None:
    """What the kernel says of a socket, against what its owner knows."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error.strerror}")
    with server:
        inode = os.fstat(server.fileno()).st_ino
        (found,) = (one for one in sockets.tcp_sockets() if one.inode == inode)
        assert (str(found.address), found.port) == (host, server.getsockname()[1])
        assert found.listens
        assert found.uid == os.geteuid()
        holding, _ = holders([found.inode])
        assert [one.pid for one in holding] == [os.getpid()]


def test_a_forked_holder_is_told_by_its_parent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        go_on, end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(end)
            os.read(go_on, 1)
            os._exit(0)
        try:
            holding, _ = holders([os.fstat(server.fileno()).st_ino])
        finally:
            os.close(end)
            os.waitpid(child, 0)
            os.close(go_on)
    assert [one.pid for one in holding] == [os.getpid()]


def test_who_this_process_is() -> None:
    found = process(os.getpid())
    assert found.parent == os.getppid()
    assert found.command.split()[0] in Path("/proc/self/cmdline").read_text()
    with pytest.raises(OSError, match="No such"):
        process(2**30)


def test_time_wait_is_not_in_the_way() -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
    row = "   0: {}:0019 00000000:0000 {} 00000000:00000000 00:00000000 00000000 0 0 7 1 0 100\n"
    loopback = "0100007F" if sys.byteorder == "little" else "7F000001"
    assert tcp_table(head + row.format(loopback, "06")) == []
    (found,) = tcp_table(head + row.format(loopback, "01"))
    assert (str(found), found.listens) == ("127.0.0.1:25", False)


def _socket(host: str, *, listens: bool = True, port: int = 25) -> TcpSocket:
    text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return TcpSocket(ip_address(host), port, listens, 0, hash(text))


@pytest.mark.parametrize(
    ("endpoint", "present", "blocking"),
    [
        (TcpEndpoint("127.0.0.1", 25), ["127.0.0.1", "127.0.0.2", "::1"], ["127.0.0.1"]),
        (TcpEndpoint("127.0.0.1", 25), ["0.0.0.0", "::"], ["0.0.0.0"]),
        (TcpEndpoint("127.0.0.1", 25), ["::"], ["::"]),
        (TcpEndpoint("0.0.0.0", 25), ["127.0.0.9"], ["127.0.0.9"]),
        (TcpEndpoint("::1", 25), ["::", "0.0.0.0"], ["::"]),
        (TcpEndpoint("::", 25, v6only=True), ["0.0.0.0", "::1"], ["::1"]),
        (TcpEndpoint("::", 25, v6only=False), ["127.0.0.1"], ["127.0.0.1"]),
        (TcpEndpoint("*", 25), ["127.0.0.1", "::1"], ["127.0.0.1", "::1"]),
        (TcpEndpoint("*", 26), ["127.0.0.1", "::1"], []),
    ],
)
def test_what_excludes_what(endpoint: TcpEndpoint, present: list[str], blocking: list[str]) -> None:
    found = in_the_way(endpoint, [_socket(host) for host in present])
    assert [str(one.address) for one in found] == blocking


def test_connections_are_told_only_where_nothing_listens() -> None:
    quiet, listening = _socket("127.0.0.1", listens=False), _socket("0.0.0.0")
    assert in_the_way(TcpEndpoint("127.0.0.1", 25), [quiet, listening]) == [listening]
    assert in_the_way(TcpEndpoint("127.0.0.1", 25), [quiet]) == [quiet]


def test_a_unix_listener_is_found(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert sockets.listening_inode(str(path)) == 0
        assert sockets.listening_pid(path) == 0
        server.listen()
        assert sockets.listening_inode(str(path)) == os.fstat(server.fileno()).st_ino
        assert sockets.listening_pid(path) == os.getpid()
    assert sockets.listening_inode(str(path)) == 0


def test_the_path_of_a_socket_breaks_no_row(tmp_path: Path) -> None:
    """Whoever binds chooses it, line breaks and all."""
    path = f"{tmp_path}/x\ny: 1 2"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert sockets.listening_inode("2") == 0


@pytest.mark.parametrize(
    "error",
    [
        CannotLookError("dark", "a lamp"),
        PreflightError("dark", help="a lamp"),
        PermissionError(13, "dark"),
        ZeroDivisionError("dark"),
        FileNotFoundError(2, "dark"),
    ],
)
def test_a_check_that_cannot_look_says_so(error: Exception) -> None:
    def check() -> Iterator[Finding]:
        yield ok("so far")
        raise error

    first, last = report.asked(check)
    assert first.level is Level.OK
    assert last.level is Level.UNKNOWN
    assert "dark" in last.found


def test_nothing_that_was_found_can_move_the_cursor() -> None:
    finding = problem("a\x1b[2J\nok", "b\r", "kill \u202e1")
    text = click.unstyle("\n".join(report.lines("listeners", finding)))
    assert len(text.splitlines()) == 3
    assert text.replace("\n", "").isprintable()


def test_json_has_what_people_are_told() -> None:
    finding = problem("found", "why", "one", "two")
    answer = json.loads(report.in_json([("listeners", finding)]))
    assert answer == {
        "ok": False,
        "counts": {"ok": 0, "warning": 0, "problem": 1, "unknown": 0},
        "findings": [
            {
                "check": "listeners",
                "level": "problem",
                "found": "found",
                "why": "why",
                "remedies": ["one", "two"],
            }
        ],
    }


def test_every_check_is_described() -> None:
    text = (DOCS / "doctor.md").read_text()
    for name in ("python", "packages", "libraries", "configuration", *CHECKS):
        assert f"| {name} | " in text

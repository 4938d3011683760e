"""The units under a real systemd, in a container, with all their hardening in force."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.checkout import CHECKOUT
from harness.daemon import until
from harness.podman import Container
from harness.privilege_witness import held_by_all

pytestmark = [
    pytest.mark.container,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

_NET_BIND_SERVICE = 1 << 10
_SECCOMP_FILTER = "2"

_UNITS = ("mtad.service", "mtad-ambient.service")

_OPTIONS = (
    "--systemd=always",
    # What systemd itself needs, to give services mounts of their own and the sets of the unit.
    "--cap-add=sys_admin,setpcap,net_admin,sys_ptrace",
    "--security-opt=seccomp=unconfined",
    "--security-opt=unmask=all",
    "--entrypoint=/sbin/init",
    *(f"--volume={CHECKOUT}/conf/systemd/{u}:/etc/systemd/system/{u}:ro" for u in _UNITS),
)


@dataclass
class _Unit:
    """One of the units, in a container that systemd runs."""

    name: str
    container: Container

    def systemctl(self, verb: str, *words: str) -> str:
        return self.container.execute("systemctl", verb, self.name, *words)

    def property(self, name: str) -> str:
        return self.systemctl("show", "--value", f"--property={name}")

    def override(self, name: str, *lines: str) -> None:
        """Add a drop-in ``name`` with these lines of [Service]."""
        text = "\\n".join(["[Service]", *lines])
        directory = f"/run/systemd/system/{self.name}.d"
        write = f"mkdir -p {directory} && printf '{text}\\n' >{directory}/{name}.conf"
        self.container.execute("sh", "-c", f"{write} && systemctl daemon-reload")

    def main(self) -> int:
        """Return the supervisor's id, as this machine numbers it."""
        inner = self.property("MainPID")
        return next(pid for pid in self.container.below() if _field(pid, "NSpid")[-1] == inner)


@pytest.fixture(params=_UNITS)
def unit(image: str, request: pytest.FixtureRequest) -> Iterator[_Unit]:
    with Container(image, *_OPTIONS) as container:
        until(lambda: _booted(container))
        yield _Unit(request.param, container)


def test_it_serves_and_keeps_mail_over_a_restart(unit: _Unit) -> None:
    unit.systemctl("start")
    assert unit.container.sends("first")
    unit.systemctl("restart")
    assert unit.container.sends("second")

    mail = unit.container.mail()
    assert "Subject: first" in mail
    assert "Subject: second" in mail

    unit.systemctl("stop")
    assert unit.property("Result") == "success"
    assert not unit.container.sends("third")


def test_every_process_is_confined(unit: _Unit) -> None:
    unit.systemctl("start")
    main = unit.main()
    workers = unit.container.below(main)

    assert workers
    assert held_by_all(main).permitted == held_by_all(main).effective == _NET_BIND_SERVICE
    for worker in workers:
        assert held_by_all(worker).permitted == held_by_all(worker).effective == 0
    for process in (main, *workers):
        held = held_by_all(process)
        assert held.inheritable == held.ambient == 0
        assert held.no_new_privs
        assert 0 not in held.uids + held.gids
        assert _field(process, "Seccomp") == [_SECCOMP_FILTER]


def test_reload_reads_the_configuration_again(unit: _Unit) -> None:
    unit.systemctl("start")
    main = unit.property("MainPID")
    more = "more:\\n    listen: 127.0.0.1:26"
    edit = f"s/^listeners:/listeners:\\n  {more}/"
    unit.container.execute("sed", "-i", edit, "/etc/mtad/mtad.yaml")

    unit.systemctl("reload")

    listeners = unit.container.execute("mtactl", "listener", "list")
    assert re.search(r"more .*running", listeners)
    assert unit.property("MainPID") == main


def test_the_watchdog_ends_a_daemon_that_hangs(unit: _Unit) -> None:
    unit.override("watchdog", "WatchdogSec=5", "RestartSec=0")
    unit.systemctl("start")
    # It is told often enough while all is well.
    first = unit.property("WatchdogTimestampMonotonic")
    until(lambda: unit.property("WatchdogTimestampMonotonic") != first)
    assert unit.property("NRestarts") == "0"

    os.kill(unit.main(), signal.SIGSTOP)

    until(lambda: unit.property("NRestarts") == "1")
    until(lambda: unit.property("ActiveState") == "active")
    assert unit.container.sends("after the watchdog")


def test_without_the_capability_the_unit_fails_and_says_why(unit: _Unit) -> None:
    unit.override("less", "CapabilityBoundingSet=", "AmbientCapabilities=", "Restart=no")

    with pytest.raises(AssertionError):
        unit.systemctl("start")

    assert unit.property("Result") in {"exit-code", "protocol"}
    journal = unit.container.execute("journalctl", "--unit", unit.name)
    assert "cap_" in journal
    assert "Traceback" not in journal


def _booted(container: Container) -> bool:
    state = container.execute("sh", "-c", "systemctl is-system-running || true")
    return state in {"running", "degraded"}


def _field(pid: int, name: str) -> list[str]:
    """The words of a line of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{name}:")).split()[1:]

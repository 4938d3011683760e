"""The image: mail in, the listener stopped and started from outside, with as little as it needs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.daemon import PROGRAMS, home
from harness.podman import Container
from harness.privilege_witness import held_by_all, unprivileged_port_start

pytestmark = [
    pytest.mark.container,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

_ECUSER = 525
"""The uid and gid of ecuser in the image."""

_NET_BIND_SERVICE = 1 << 10

_AS_ROOT = ("--cap-drop=all", "--cap-add=net_bind_service,setuid,setgid,setpcap")
_AS_ECUSER = ("--user=ecuser", "--cap-drop=all", "--cap-add=net_bind_service")


@dataclass
class _Service:
    """The container, with the directory of its control socket shared with this machine."""

    container: Container
    shared: Path

    def mtactl(self, *words: str) -> str:
        """Run this machine's mtactl on the mounted control socket."""
        command = [str(PROGRAMS / "mtactl"), "--socket", str(self.shared / "control.sock"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.container.log()}"
        return done.stdout


@pytest.fixture(params=[_AS_ROOT, _AS_ECUSER], ids=["root-with-four", "ecuser-with-one"])
def service(image: str, request: pytest.FixtureRequest) -> Iterator[_Service]:
    with home() as directory:
        shared = directory / "run"
        shared.mkdir()
        _give(shared)
        volume = f"--volume={shared}:/run/mtad"
        with Container(image, volume, *request.param) as container:
            service = _Service(container, shared)
            service.mtactl("ready", "--wait", "15")
            yield service


def test_a_listener_is_stopped_and_started_from_outside(service: _Service) -> None:
    assert unprivileged_port_start(service.container.pid) > 25

    assert service.container.sends("before")
    for cycle in range(3):
        service.mtactl("listener", "stop", "mx")
        assert not service.container.sends("never")
        service.mtactl("listener", "start", "mx")
        assert service.container.sends(f"after-{cycle}")

    mail = service.container.mail()
    assert "never" not in mail
    for subject in ("before", "after-0", "after-1", "after-2"):
        assert mail.count(f"Subject: {subject}") == 1


def test_the_supervisor_holds_one_capability_and_the_workers_none(service: _Service) -> None:
    supervisor = held_by_all(service.container.pid)
    workers = [held_by_all(pid) for pid in service.container.below()]

    assert supervisor.permitted == supervisor.effective == _NET_BIND_SERVICE
    assert supervisor.inheritable == supervisor.ambient == 0
    assert workers
    for worker in workers:
        assert worker.permitted == worker.effective == worker.inheritable == worker.ambient == 0
    for process in (supervisor, *workers):
        assert process.uids == process.gids == (_ECUSER,) * 4
        assert process.no_new_privs


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--user=ecuser", "--cap-drop=all"), "cap_net_bind_service"),
        (("--cap-drop=all",), "cap_setuid"),
        (("--cap-drop=all", "--cap-add=setuid,setgid,setpcap"), "cap_net_bind_service"),
    ],
    ids=["ecuser-with-none", "root-with-none", "root-that-cannot-bind"],
)
def test_without_what_it_needs_it_says_so(image: str, options: tuple[str, ...], word: str) -> None:
    done = Container(image, *options).attempt()

    assert done.returncode == 1
    assert word in done.stderr
    assert "--cap-add" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def _give(path: Path) -> None:
    """Let the container's ecuser write there, as `podman unshare chown` or an init step would."""
    subprocess.run(["chown", f"{_ECUSER}:{_ECUSER}", str(path)], check=True)

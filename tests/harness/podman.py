"""Containers as an operator would start them: podman with runc, a storage of the tests' own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from harness import debian
from harness.checkout import CHECKOUT

BASE_PACKAGES = (
    "ca-certificates",
    "libcap2",
    "libcap2-bin",
    "python3",
    "python3-venv",
    "systemd-sysv",
)
BASE_PYTHON = (3, 11)
"""The Python of SUITE: wheels for it are made by an interpreter of the same version."""

# The limits of a machine that has no cap_sys_resource to raise them with.
_LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000")
# What many engines set to 0, which would make every test of the capability vacuous.
_PORTS = "--sysctl=net.ipv4.ip_unprivileged_port_start=1024"

_SEND = """
import smtplib
with smtplib.SMTP("127.0.0.1", 25, timeout=10) as client:
    client.sendmail("sender@example.org", ["rcpt@example.com"], "Subject: {0}\\r\\n\\r\\n{0}\\r\\n")
"""

_MAIL = """
import sqlite3
for (body,) in sqlite3.connect("/var/lib/mtad/mail.db").execute("SELECT body FROM message"):
    print(body.decode())
"""


def podman(*words: str, timeout: float = 300) -> str:
    """Run podman, return its standard output; AssertionError with what it said if it failed."""
    done = subprocess.run(_command(*words), capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"podman {' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def _command(*words: str) -> list[str]:
    places = [f"--root={debian.CACHE}/containers", "--runroot=/run/mtad-tests"]
    return ["podman", *places, "--runtime=runc", "--cgroup-manager=cgroupfs", *words]


def base_image() -> str:
    """Return the name of an image of Debian with Python and systemd; made once, then kept."""
    tarball = debian.tarball(BASE_PACKAGES)
    image = f"localhost/mtad-tests-base:{tarball.stem.rpartition('-')[2]}"
    with debian.cached("base-image"):
        if subprocess.run(_command("image", "exists", image), check=False).returncode:
            podman("import", str(tarball), image)
    return image


def build_image(directory: Path) -> str:
    """Build the Containerfile of the checkout, with wheels made outside; return the image's id.

    Whoever asked for it removes it.
    """
    context = directory / "context"
    context.mkdir()
    for name in ("Containerfile", "pyproject.toml", "README.md"):
        shutil.copy2(CHECKOUT / name, context)
    for name in ("mtad", "conf"):
        shutil.copytree(CHECKOUT / name, context / name)
    wheel = [sys.executable, "-I", "-m", "pip", "wheel", "--quiet", "--use-pep517"]
    wheel += ["--wheel-dir", "wheels", "."]
    subprocess.run(wheel, cwd=context, check=True)
    base = f"--build-arg=BASE={base_image()}"
    return podman("build", "--quiet", "--isolation=chroot", "--layers=false", base, str(context))


class Container:
    """A running container in a network namespace of its own, without a way out."""

    def __init__(self, image: str, *options: str) -> None:
        self._options = ("--network=none", *_LIMITS, _PORTS, *options, image)

    def attempt(self) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        command = _command("run", "--rm", *self._options)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def __enter__(self) -> Container:
        self.name = podman("run", "--detach", *self._options)
        self.pid = int(podman("inspect", "--format={{.State.Pid}}", self.name))
        return self

    def __exit__(self, *_: object) -> None:
        podman("rm", "--force", "--time=0", "--volumes", self.name)

    def execute(self, *words: str, user: str = "root") -> str:
        """Run a command inside; return its output."""
        return podman("exec", f"--user={user}", self.name, *words)

    def log(self) -> str:
        """Return what it has written."""
        done = subprocess.run(_command("logs", self.name), capture_output=True, text=True)
        return done.stdout + done.stderr

    def below(self, pid: int | None = None) -> list[int]:
        """Return the processes that ``pid`` started, and those these started; None: all inside.

        The ids are those of this machine.
        """
        pid = pid or self.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [each for child in map(int, children) for each in (child, *self.below(child))]

    def sends(self, subject: str) -> bool:
        """Whether a message is taken on port 25, from inside the container's network."""
        inside = ["nsenter", f"--net=/proc/{self.pid}/ns/net"]
        send = [*inside, sys.executable, "-I", "-c", _SEND.format(subject)]
        return (
            subprocess.run(send, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode == 0
        )

    def mail(self) -> str:
        """Return everything that was captured."""
        return self.execute("python3", "-c", _MAIL, user="ecuser")

"""The two commands on a Debian that has nothing but git: the first time, and the second.

As root; and as somebody who has sudo, whose settings of pip must survive it.
"""

from __future__ import annotations

import os
import smtplib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from harness import debian
from harness.checkout import clone
from harness.daemon import PROGRAMS
from harness.mail_db import kept
from harness.netns import namespace

pytestmark = [
    pytest.mark.container,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]

# What is run inside; MTAD_BARE_TESTS=tests takes them all.
_TESTS = os.environ.get("MTAD_BARE_TESTS", "tests/unit").split()


@dataclass
class _Bare:
    """A bare system with the checkout in it, as a clone would lie there, not yet set up."""

    tree: debian.Tree
    user: str
    home: str

    def command(self, script: str, *arguments: str) -> list[str]:
        """Return the command that runs one of the scripts inside, as ``user``."""
        person = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"]
        path = f"{self.home}/mtad/scripts/{script}"
        return self.tree.command(*person, "env", f"HOME={self.home}", path, *arguments)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts inside, as ``user``."""
        return subprocess.run(
            self.command(script, *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )

    def mtactl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run this machine's mtactl on the control socket inside."""
        socket = ["--socket", str(self.tree.path / "run/mtad/control.sock")]
        command = [str(PROGRAMS / "mtactl"), *socket, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module", params=["root", "sudo"])
def bare(request: pytest.FixtureRequest) -> Iterator[_Bare]:
    if reason := debian.lacking("debootstrap"):
        pytest.skip(f"a system tree: {reason}")
    with debian.tree(["ca-certificates", "git", *({"sudo"} & {request.param})]) as tree:
        user, home = "root", "/root"
        if request.param == "sudo":
            user, home = "developer", "/home/developer"
            tree.run("useradd", "--create-home", "--key", "HOME_MODE=0700", user)
            (tree.path / "etc/sudoers.d/developer").write_text(f"{user} ALL=(ALL) NOPASSWD: ALL\n")
        clone(tree.path / home.removeprefix("/") / "mtad")
        # The daemon's user can read neither: Debian makes root's home so, and this one too.
        tree.run("chown", "-R", f"{user}:", home)
        tree.run("chmod", "0700", home)
        yield _Bare(tree, user, home)


@pytest.fixture(scope="module")
def programs(bare: _Bare) -> str:
    """The directory that scripts/setup names, when it has done its work for the first time."""
    done = bare.run("setup")

    assert done.returncode == 0, done.stderr
    assert "setup: installing Debian packages: " in done.stderr
    directory, end, rest = done.stdout.partition("\n")
    assert (end, rest) == ("\n", "")
    return directory


def test_the_second_setup_is_quick_and_changes_nothing(bare: _Bare, programs: str) -> None:
    began = time.monotonic()
    done = bare.run("setup")
    seconds = time.monotonic() - began

    assert (done.returncode, done.stdout) == (0, f"{programs}\n"), done.stderr
    assert "making" not in done.stderr
    assert "installing" not in done.stderr
    assert seconds < 15


def test_run_takes_mail_on_port_25(bare: _Bare, programs: str) -> None:
    log = bare.tree.path / "run.log"
    with namespace(), log.open("wb") as output:
        run = bare.command("run")
        running = subprocess.Popen(run, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            assert bare.mtactl("ready", "--wait", "30").returncode == 0, log.read_text()
            with smtplib.SMTP("127.0.0.1", 25, timeout=10) as client:
                client.sendmail("a@example.org", ["b@example.com"], "Subject: bare\r\n\r\n")
            assert bare.mtactl("shutdown").returncode == 0
            assert running.wait(60) == 0
        finally:
            running.kill()
            running.wait()

    (message,) = kept(bare.tree.path / "var/lib/mtad")
    assert b"Subject: bare" in message.content
    assert f"export PATH={programs}:$PATH; mtactl summary" in log.read_text()


@pytest.mark.usefixtures("programs")
def test_test_runs_the_tests(bare: _Bare) -> None:
    done = bare.run("test", *_TESTS)

    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert " passed" in done.stdout

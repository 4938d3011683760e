"""scripts/setup and scripts/run for an ordinary user: no root, no sudo, no ecuser."""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.checkout import clone
from harness.daemon import home, until
from harness.mail_db import kept
from harness.netns import namespace

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

_USER = "nobody"


@dataclass
class _Ordinary:
    """Who has a home and a checkout, and nothing else."""

    home: Path

    def start(self, *words: str) -> subprocess.Popen[str]:
        identity = [f"--reuid={_USER}", "--regid=nogroup", "--clear-groups", "--inh-caps=-all"]
        environment = [f"HOME={self.home}", "MTAD_SUDO=no", f"MTAD_PYTHON={sys.executable}"]
        return subprocess.Popen(
            ["setpriv", *identity, "env", "--unset=MTAD_VENV", *environment, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def script(self, name: str) -> subprocess.Popen[str]:
        return self.start(f"{self.home}/mtad/scripts/{name}")


@pytest.fixture(scope="module")
def ordinary() -> Iterator[_Ordinary]:
    with home() as directory:
        clone(directory / "mtad")
        settings = Path.home() / ".config/pip/pip.conf"
        if settings.exists():
            (directory / ".config/pip").mkdir(parents=True)
            shutil.copy(settings, directory / ".config/pip")
        subprocess.run(["chown", "-R", f"{_USER}:", str(directory)], check=True)
        yield _Ordinary(directory)


@dataclass
class _Done:
    status: int
    output: str
    said: str


def _end(process: subprocess.Popen[str]) -> _Done:
    output, said = process.communicate(timeout=500)
    return _Done(process.returncode, output, said)


@pytest.fixture(scope="module")
def setups(ordinary: _Ordinary) -> list[_Done]:
    """What two setups did that began together."""
    return [_end(one) for one in [ordinary.script("setup"), ordinary.script("setup")]]


def test_two_setups_at_once_do_the_work_once(setups: list[_Done]) -> None:
    assert [done.status for done in setups] == [0, 0], setups[0].said + setups[1].said
    assert setups[0].output == setups[1].output
    assert sorted("installing mtad" in done.said for done in setups) == [False, True]
    assert sorted("waiting for another setup" in done.said for done in setups) == [False, True]


def test_the_output_is_the_directory_of_the_programs(setups: list[_Done]) -> None:
    directory, end, rest = setups[0].output.partition("\n")

    assert (end, rest) == ("\n", "")
    assert {"mtad", "mtactl"} <= {path.name for path in Path(directory).iterdir()}


@pytest.mark.netns
@pytest.mark.usefixtures("setups")
def test_run_takes_mail_on_port_2525(ordinary: _Ordinary) -> None:
    with namespace():
        running = ordinary.script("run")
        try:
            until(lambda: _greets(2525) or running.poll() is not None)
            with smtplib.SMTP("127.0.0.1", 2525, timeout=10) as client:
                client.sendmail("a@example.org", ["b@example.com"], "Subject: ordinary\r\n\r\n")
        finally:
            running.terminate()
        done = _end(running)

    assert done.status == 0
    assert "notice: without root there is no port 25" in done.said
    store = ordinary.home / ".local/state/mtad"
    assert (store / "mail.db").owner() == _USER
    (message,) = kept(store)
    assert b"Subject: ordinary" in message.content


def test_what_was_interrupted_is_done_again(ordinary: _Ordinary, setups: list[_Done]) -> None:
    programs = Path(setups[0].output.strip())
    project = ordinary.home / "mtad" / "pyproject.toml"
    # Another dependency: everything is to be installed again.
    project.write_text(project.read_text().replace("dependencies = [", 'dependencies = [ "six",'))
    setup = ordinary.script("setup")
    until(lambda: not (programs.parent / ".requirements").exists())
    os.killpg(setup.pid, signal.SIGKILL)
    assert _end(setup).output == ""

    again = _end(ordinary.script("setup"))

    assert again.status == 0, again.said
    assert "making the environment" in again.said
    assert _end(ordinary.start(f"{programs}/mtad", "--version")).status == 0
    assert _end(ordinary.script("setup")) == _Done(0, setups[0].output, "")


def _greets(port: int) -> bool:
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=10):
            return True
    except OSError:
        return False

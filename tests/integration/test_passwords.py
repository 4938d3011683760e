"""Passwords of profiles: in use, and shown nowhere, whatever is asked and whatever goes wrong."""

from __future__ import annotations

import smtplib
import subprocess
from collections.abc import Callable

import pytest
from harness.daemon import PROGRAMS, Daemon, until

pytestmark = [pytest.mark.integration, pytest.mark.root]

Start = Callable[..., Daemon]
SECRET = "hunter2-hunter2"
USERS = f"profiles: {{default: {{auth: {{users: {{alice: {SECRET}}}}}}}}}\n"


def test_no_command_and_no_line_of_the_log_has_one(started: Start) -> None:
    daemon = started(extra=USERS + "log: {level: debug}\n")
    words = (
        ("config", "show"),
        ("config", "check"),
        ("config", "reload"),
        ("listener", "show", "mx"),
        ("listener", "restart", "mx"),
        ("status",),
        ("help",),
    )
    said = ""
    for command in words:
        for form in ((), ("--json",)):
            answer = daemon.mtactl(*form, *command)
            assert answer.returncode == 0, answer.stderr
            said += answer.stdout + answer.stderr
    assert "alice: '********'" in said
    assert '"alice": "********"' in said
    for text in (USERS.replace("users:", "users: x"), USERS.replace("{alice:", "[alice:")):
        daemon.config.write_text(daemon.config.read_text().partition("profiles:")[0] + text)
        answer = daemon.mtactl("config", "reload")
        assert answer.returncode == 1
        said += answer.stdout + answer.stderr
        for word in ("check", "doctor", "explain"):
            done = subprocess.run(
                [str(PROGRAMS / "mtad"), word, str(daemon.config)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 1
            said += done.stdout + done.stderr
    said += daemon.log.read_text()
    assert SECRET in daemon.config.read_text()
    assert SECRET not in said


def test_a_worker_has_it(started: Start) -> None:
    """What is shown as asterisks is not what is compared with."""
    daemon = started(
        extra=USERS.replace("{auth: {", "{auth: {before_tls: true, mechanisms: [PLAIN], ")
    )
    until(lambda: daemon.call("summary")["workers"]["serving"] == 1)
    with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=15) as client:
        client.login("alice", SECRET)
    with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=15) as client:
        client.ehlo()
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("alice", "********")

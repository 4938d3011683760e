"""Handlers of aiosmtpd, unchanged, in the daemon: aiosmtpd's own, and a user's package."""

from __future__ import annotations

import itertools
import os
import signal
import smtplib
import sysconfig
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.daemon import Daemon, send, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

Start = Callable[..., Daemon]
Install = Callable[[str], str]

USERS_PACKAGE = '''
"""As aiosmtpd's documentation has them: hooks, a mechanism, an excuse."""

from aiosmtpd.smtp import AuthResult, LoginPassword


class Handler:
    def __init__(self):
        self.seen = []

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        assert envelope.mail_from is None
        session.host_name = hostname
        return [*responses[:-1], "250-X-HELLO " + hostname, responses[-1]]

    async def handle_MAIL(self, server, session, envelope, address, options):
        if session.auth_data is None:
            return "530 5.7.0 Who are you?"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 Welcome " + session.auth_data.login.decode()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if not address.endswith("@example.com"):
            return "550 5.7.1 not relaying to that domain"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if b"fault" in envelope.content:
            raise ValueError("a secret of the handler")
        if b"spam" in envelope.content:
            return "554 5.7.1 Spam"
        self.seen.append(len(envelope.content))
        return f"250 {self.seen}"

    async def handle_NOOP(self, server, session, envelope, arg):
        return f"250 {arg!r} from {session.peer[0]}"

    async def auth_TICKET(self, server, args):
        answer = await server.challenge_auth("ticket?")
        if answer != b"valid":
            return AuthResult(success=False, handled=False)
        return AuthResult(success=True, auth_data=LoginPassword(b"bearer", answer))
'''


@pytest.fixture
def installed() -> Iterator[Install]:
    """A function that installs a module for the daemon's Python; returns its name."""
    numbers, made = itertools.count(), list[Path]()

    def install(source: str) -> str:
        name = f"mtad_test_{os.getpid()}_{next(numbers)}"
        made.append(Path(sysconfig.get_path("purelib"), f"{name}.py"))
        made[-1].write_text(source)
        return name

    yield install
    for path in made:
        path.unlink()


def serve(started: Start, handler: str) -> Daemon:
    return started(
        listen="127.0.0.1:25", extra=f"profiles: {{default: {{handler: '{handler}'}}}}\n"
    )


@pytest.mark.parametrize("handler", ["Sink", "Debugging"])
def test_those_of_aiosmtpd(started: Start, handler: str) -> None:
    daemon = serve(started, f"aiosmtpd.handlers:{handler}")
    send(25)
    assert daemon.messages() == [b"Subject: test\r\n\r\nhello\r\n"]
    assert daemon.stop() == 0
    assert ("MESSAGE FOLLOWS" in daemon.log.read_text()) == (handler == "Debugging")


def test_one_of_a_users(started: Start, installed: Install) -> None:
    daemon = serve(started, f"{installed(USERS_PACKAGE)}:Handler")
    with smtplib.SMTP("127.0.0.1", 25) as client:
        client.ehlo("client.example")
        assert client.esmtp_features["x-hello"] == "client.example"
        assert client.docmd("NOOP") == (250, b"2.0.0 None from 127.0.0.1")
        assert client.docmd("NOOP one") == (250, b"2.0.0 'one' from 127.0.0.1")
        assert client.mail("a@example.org") == (530, b"5.7.0 Who are you?")

        client.starttls()
        client.ehlo("client.example")
        assert "TICKET" in client.esmtp_features["auth"].split()
        assert client.docmd("AUTH TICKET") == (334, b64encode(b"ticket?"))
        assert client.docmd(b64encode(b"stolen").decode())[0] == 535
        client.docmd("AUTH TICKET")
        assert client.docmd(b64encode(b"valid").decode())[0] == 235

        assert client.mail("a@example.org") == (250, b"2.0.0 Welcome bearer")
        assert client.rcpt("b@example.net")[0] == 550
        assert client.rcpt("b@example.com")[0] == 250
        assert client.data(b"ham\r\n") == (250, b"2.0.0 [5]")
        for content, code in ((b"spam\r\n", 554), (b"fault\r\n", 451)):
            client.mail("a@example.org")
            client.rcpt("b@example.com")
            answer, text = client.data(content)
            assert answer == code
            assert b"secret" not in text
    assert daemon.messages() == [b"ham\r\n"]
    (envelope,) = daemon.envelopes()
    assert (envelope["user"], envelope["recipients"]) == ("bearer", ["b@example.com"])
    assert "a secret of the handler" in daemon.log.read_text()


def test_who_has_logged_in_with_a_mechanism_of_ours(started: Start, installed: Install) -> None:
    serve(started, f"{installed(USERS_PACKAGE)}:Handler")
    with smtplib.SMTP("127.0.0.1", 25) as client:
        client.starttls()
        client.login("ann", "any")
        assert client.mail("a@example.org") == (250, b"2.0.0 Welcome ann")


def test_one_that_is_not_installed_is_named(started: Start) -> None:
    daemon = started(
        listen="127.0.0.1:25",
        extra="profiles: {default: {handler: 'no_such_package:Handler'}}\n",
        ready=False,
    )
    until(lambda: "listener.failed" in daemon.log.read_text())
    shown = daemon.call("listener.show", name="mx")["listener"]
    assert shown["state"] == "failed"
    assert "no_such_package" in shown["error"]["text"]


HELPER = '''
"""Leaves a process behind, which has every socket that the worker lets it have."""

import subprocess


class Handler:
    async def handle_DATA(self, server, session, envelope):
        return f"250 {subprocess.Popen(['sleep', '60'], close_fds=False).pid}"
'''


def test_what_a_worker_has_left_behind_ends_with_it(started: Start, installed: Install) -> None:
    """A session of its own makes no difference, nor that it is nobody's child any more."""
    daemon = serve(started, f"{installed(HELPER)}:Handler")
    with smtplib.SMTP("127.0.0.1", 25) as client:
        client.ehlo()
        client.mail("a@example.org")
        client.rcpt("b@example.com")
        code, text = client.data(b"x\r\n")
    assert code == 250
    process = Path("/proc") / text.decode().split()[-1]
    assert (process / "comm").read_text() == "sleep\n"
    (worker,) = daemon.workers()
    assert (process / "comm").exists()  # it lives as long as the worker
    os.kill(worker, signal.SIGKILL)
    until(lambda: not process.exists())
    until(lambda: daemon.call("summary")["workers"]["serving"] == 1)

"""A daemon with a listener for every way there is to deliver, for senders to be pointed at."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from harness.daemon import Daemon, home, until
from harness.mail_db import Kept, kept
from mtad.model import ids

USER, PASSWORD = "tester", "open-sesame"
SENDER, RECIPIENTS = "sender@example.org", ("one@example.com", "two@example.com")

# Whoever relays would say that it loops if mtad greeted it with its own name.
_CONFIG = """
security: {{user: ecuser, capabilities: "cap_net_bind_service+ep"}}
listeners:
  mx: {{listen: "127.0.0.1:25"}}
  smtps: {{listen: "127.0.0.1:465", protocol: smtps}}
  lmtp: {{listen: "127.0.0.1:24", protocol: lmtp}}
  lmtp-unix: {{listen: "{0}/lmtp/socket", protocol: lmtp, mode: 0666}}
  clear: {{listen: "127.0.0.1:587", profile: clear}}
  proxied: {{listen: "127.0.0.1:26", profile: proxied}}
  proxied-smtps: {{listen: "127.0.0.1:466", protocol: smtps, profile: proxied}}
  xclient: {{listen: "127.0.0.1:27", profile: xclient}}
profiles:
  default: {{hostname: mx.example, auth: {{users: {{{1}: {2}}}}}}}
  clear:
    hostname: mx.example
    auth: {{users: {{{1}: {2}}}, before_tls: true, required: true}}
  proxied: {{hostname: mx.example, proxy_from: [127.0.0.0/8, "::1"]}}
  xclient: {{hostname: mx.example, xclient_from: [127.0.0.0/8, "::1"]}}
control: {{socket: {0}/run/control.sock}}
store: {{directory: {0}/store}}
pid_file: null
workers: 2
drain: 5
"""


class Arrived(NamedTuple):
    """A captured message: its envelope as the store tells it, and its octets."""

    envelope: dict[str, Any]
    content: bytes

    def people(self) -> tuple[str, tuple[str, ...]]:
        """Return sender and recipients."""
        return self.envelope["sender"], tuple(self.envelope["recipients"])


class Receiver:
    """The running daemon, its test CA in ``ca``, and what has arrived since it was last asked."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.directory = daemon.directory
        self._taken = 0
        self.ca = self.directory / "ca.pem"
        self.ca.write_text(daemon.mtactl("tls", "ca").stdout)
        self.lmtp_socket = self.directory / "lmtp" / "socket"

    def take(self, count: int = 1, seconds: float = 15.0) -> list[Arrived]:
        """Wait for ``count`` messages; return all that came, the first first, and forget them."""
        until(lambda: len(self._new()) >= count, seconds)
        new = self._new()
        self._taken = max((one.id for one in new), default=self._taken)
        return [Arrived({"id": ids.encode(one.id), **one.envelope}, one.content) for one in new]

    def _new(self) -> list[Kept]:
        return [one for one in kept(self.daemon.store) if one.id > self._taken]

    def run(self, *command: str, octets: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a sender in the directory; return what became of it."""
        return subprocess.run(
            command,
            cwd=self.directory,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            input=octets,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def deliver(self, *command: str, octets: bytes = b"") -> Arrived:
        """Run a sender that succeeds; return the one message that arrived by it."""
        done = self.run(*command, octets=octets)
        assert done.returncode == 0, f"{command}\n{done.stdout!r}\n{done.stderr!r}"
        (arrived,) = self.take()
        return arrived


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Start it, on the real ports of the present network namespace."""
    with home() as directory:
        (directory / "lmtp").mkdir()
        shutil.chown(directory / "lmtp", "ecuser")
        text = _CONFIG.format(directory, USER, PASSWORD)
        with Daemon(directory, text) as daemon:
            daemon.wait_ready()
            yield Receiver(daemon)


def message(name: str, octets: int = 0) -> bytes:
    """Return a message with what is easily spoilt on the way; ``octets`` are added to its body."""
    lines = [
        b"Date: Mon, 23 Nov 2026 12:00:00 +0000",
        b"From: Sender <sender@example.org>",
        b"To: one@example.com",
        b"Message-Id: <%b@example.org>" % name.encode(),
        b"Subject: %b" % name.encode(),
        b"X-Folded: a line that goes on",
        b"\tin the next",
        b"",
        b".",
        b"..",
        b".a line that begins with a dot",
        b"",
        b"From a line that is no header",
        b"trailing spaces  \t ",
        b"x" * 998,
        bytes(octet for octet in range(1, 256) if octet not in b"\r\n"),
    ]
    line = b"0123456789" * 7 + b"abcdef"
    lines += [line] * (octets // (len(line) + 2))
    return b"\r\n".join([*lines, b".", b"", b"the last line but one", b"", b""])


def without_trace(content: bytes) -> bytes:
    """Return ``content`` without the Received fields that relays have put on top of it."""
    lines = content.splitlines(keepends=True)
    while lines and lines[0].startswith(b"Received:"):
        del lines[0]
        while lines[0][:1] in b" \t":
            del lines[0]
    return b"".join(lines)

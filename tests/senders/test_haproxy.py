"""haproxy in front of mtad: it says by PROXY whom it speaks for."""

from __future__ import annotations

import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator

import pytest
from harness import installed
from harness.daemon import refuses, until
from harness.installed import Installed
from harness.receiver import RECIPIENTS, SENDER, Receiver, message

pytestmark = [pytest.mark.integration, pytest.mark.root, pytest.mark.netns]

# The health check of "checked" makes connections of its own, which v2 calls LOCAL.
CONFIG = """
defaults
    mode tcp
    timeout connect 5s
    timeout check 5s
    timeout client 30s
    timeout server 30s
listen v1
    bind 127.0.0.4:25
    server mx 127.0.0.1:26 send-proxy
listen v2
    bind 127.0.0.5:25
    server mx 127.0.0.1:26 send-proxy-v2 check inter 100ms
listen v2-smtps
    bind 127.0.0.5:465
    server mx 127.0.0.1:466 send-proxy-v2
listen v2-checked
    bind 127.0.0.6:25
    option smtpchk EHLO haproxy.example
    server mx 127.0.0.1:26 send-proxy-v2 check inter 100ms
listen v2-with-options
    bind 127.0.0.7:25
    server mx 127.0.0.1:26 send-proxy-v2 proxy-v2-options unique-id,crc32c,authority
listen without
    bind 127.0.0.8:25
    server mx 127.0.0.1:26
"""


@pytest.fixture(scope="module")
def haproxy(mx: Receiver) -> Iterator[None]:
    if reason := installed.lacking("haproxy"):
        pytest.skip(reason)
    file = mx.directory / "haproxy.cfg"
    file.write_text(CONFIG)
    with Installed("haproxy") as place, (mx.directory / "haproxy.log").open("wb") as log:
        command = place.command("haproxy", "-db", "-f", str(file))
        with subprocess.Popen(command, stdout=log, stderr=log) as process:
            until(lambda: not refuses("127.0.0.8", 25) or process.poll() is not None)
            assert process.poll() is None, (mx.directory / "haproxy.log").read_text()
            yield
            process.terminate()


def deliver(client: smtplib.SMTP, sent: bytes) -> str:
    """Deliver a message; return the client's own address."""
    host, port = client.sock.getsockname()  # type: ignore[union-attr]  # it is connected
    client.sendmail(SENDER, RECIPIENTS, sent)
    return f"{host}:{port}"


@pytest.mark.usefixtures("haproxy")
@pytest.mark.parametrize("address", ["127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7"])
@pytest.mark.parametrize("secure", [False, True], ids=["", "STARTTLS"])
def test_the_peer_is_the_client(mx: Receiver, address: str, secure: bool) -> None:
    sent = message("proxied", 300_000)
    with smtplib.SMTP(address, timeout=30) as client:
        if secure:
            client.starttls(context=by_name(mx))
        peer = deliver(client, sent)
    (arrived,) = mx.take()
    assert arrived.content == sent
    assert arrived.people() == (SENDER, RECIPIENTS)
    assert arrived.envelope["peer"] == peer
    assert arrived.envelope["protocol"] == ("ESMTPS" if secure else "ESMTP")


def by_name(mx: Receiver) -> ssl.SSLContext:
    """Return a context that trusts the test CA for any name: haproxy's addresses are its own."""
    context = ssl.create_default_context(cafile=str(mx.ca))
    context.check_hostname = False
    return context


@pytest.mark.usefixtures("haproxy")
def test_implicit_tls_after_the_header(mx: Receiver) -> None:
    with smtplib.SMTP_SSL("127.0.0.5", 465, timeout=30, context=by_name(mx)) as client:
        peer = deliver(client, message("wrapped"))
    (arrived,) = mx.take()
    assert arrived.content == message("wrapped")
    assert (arrived.envelope["peer"], arrived.envelope["protocol"]) == (peer, "ESMTPS")


@pytest.mark.usefixtures("haproxy")
def test_health_checks_follow_the_listener(mx: Receiver) -> None:
    """A check says LOCAL, with which there is no client to speak for."""
    log = mx.directory / "haproxy.log"

    def seen() -> int:
        total: int = mx.daemon.call("listener.show", name="proxied")["listener"]["sessions"][
            "total"
        ]
        return total

    before = seen()
    until(lambda: seen() > before + 10)  # three that fail are enough to be down
    assert "is DOWN" not in log.read_text()
    for action, state in (("stop", "DOWN"), ("start", "UP")):
        assert mx.daemon.mtactl("listener", action, "proxied").returncode == 0
        for name in ("v2/mx", "v2-checked/mx"):
            until(lambda line=f"Server {name} is {state}": line in log.read_text())


@pytest.mark.usefixtures("haproxy")
def test_without_the_header_nobody_is_served(mx: Receiver) -> None:
    with socket.create_connection(("127.0.0.8", 25), timeout=10) as client:
        client.sendall(b"EHLO client.example\r\n")
        assert client.recv(100) == b""
    assert not mx.take(0)

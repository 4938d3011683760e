"""TLS that is wrong on purpose, as openssl(1), ssl, curl and swaks see it: STARTTLS and smtps."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from harness.daemon import Daemon, config, home

from mtad.model.rules.values import Flawed

pytestmark = [pytest.mark.integration, pytest.mark.root]

BOTH = pytest.mark.parametrize("how", ["starttls", "smtps"])
FLAWS = {
    # What X509_verify_cert_error_string(3) says, by the numbers of x509_vfy.h.
    Flawed.EXPIRED: (10, "certificate has expired"),
    Flawed.NOT_YET_VALID: (9, "certificate is not yet valid"),
    Flawed.WRONG_NAME: (62, "hostname mismatch"),
    Flawed.WEAK_KEY: (66, "EE certificate key too weak"),
    Flawed.SELF_SIGNED: (18, "self-signed certificate"),
    Flawed.UNKNOWN_CA: (20, "unable to get local issuer certificate"),
}
CLIENT_CA = trustme.CA()
MAIL = ["--mail-from", "a@example.org", "--mail-rcpt", "b@example.com", "-T", "/dev/null"]
_PATIENCE = 15.0

LISTENERS = """\
listeners:
  starttls: {{listen: "127.0.0.1:0"}}
  smtps: {{listen: "127.0.0.1:0", protocol: smtps}}
  mutual-starttls: {{listen: "127.0.0.1:0", profile: mutual}}
  mutual-smtps: {{listen: "127.0.0.1:0", profile: mutual, protocol: smtps}}
profiles:
  mutual: {{tls: {{client_ca: {client_ca}}}}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One daemon for all tests of this file; each has a rule of its own."""

    daemon: Daemon
    ca: Path
    ports: dict[str, int]

    @contextmanager
    def rule(self, text: str) -> Iterator[None]:
        """Have a rule while the block runs."""
        self.daemon.call("rule.add", name="fault", text=text)
        try:
            yield
        finally:
            self.daemon.call("rule.remove", names=["fault"])

    def trusting(self) -> ssl.SSLContext:
        """Return the context of a client that trusts the test CA."""
        return ssl.create_default_context(cafile=self.ca)

    def client(self, how: str, context: ssl.SSLContext) -> smtplib.SMTP:
        """Return a client that has shaken hands, or raise what hindered it."""
        port = self.ports[how]
        if how.endswith("smtps"):
            return smtplib.SMTP_SSL("localhost", port, timeout=_PATIENCE, context=context)
        client = smtplib.SMTP("localhost", port, timeout=_PATIENCE)
        try:
            client.starttls(context=context)
        except BaseException:
            client.close()
            raise
        return client

    def version(self, how: str, context: ssl.SSLContext) -> str | None:
        """Return which version is spoken, mail being taken."""
        with self.client(how, context) as client:
            client.sendmail("a@example.org", ["b@example.com"], b"Subject: x\r\n\r\nx\r\n")
            assert isinstance(client.sock, ssl.SSLSocket)
            return client.sock.version()

    def connected(self, how: str) -> socket.socket:
        """Return a client that has to say its ClientHello next."""
        plain = socket.create_connection(("127.0.0.1", self.ports[how]), _PATIENCE)
        if how == "starttls":
            assert reply(plain).startswith(b"220 ")
            plain.sendall(b"EHLO client.example\r\n")
            assert b"250-STARTTLS\r\n" in reply(plain)
            plain.sendall(b"STARTTLS\r\n")
            assert reply(plain).startswith(b"220 ")
        return plain

    def s_client(self, how: str, *words: str) -> str:
        """Return what openssl s_client says."""
        starttls = [] if how.endswith("smtps") else ["-starttls", "smtp"]
        where = ["-connect", f"localhost:{self.ports[how]}", "-CAfile", str(self.ca)]
        return run("openssl", "s_client", *where, *starttls, *words).stdout

    def curl(self, how: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Have curl deliver a message."""
        scheme = "smtps" if how == "smtps" else "smtp"
        where = f"{scheme}://localhost:{self.ports[how]}"
        options = ["--silent", "--show-error", "--ssl-reqd", "--cacert", str(self.ca)]
        return run("curl", *options, *MAIL, *words, where)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input="QUIT\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_PATIENCE,
        check=False,
    )


def reply(client: socket.socket) -> bytes:
    octets = b""
    while not re.search(rb"^\d{3} .*\r\n\Z", octets, re.MULTILINE):
        piece = client.recv(1000)
        assert piece, octets
        octets += piece
    return octets


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with home() as directory:
        client_ca = directory / "client-ca.pem"
        CLIENT_CA.cert_pem.write_to_path(str(client_ca))
        text = config(directory).replace(
            "listeners:\n  mx:\n    listen: '127.0.0.1:0'\n", LISTENERS.format(client_ca=client_ca)
        )
        with Daemon(directory, text) as daemon:
            daemon.wait_ready()
            ca = directory / "mtad-ca.pem"
            ca.write_text(daemon.mtactl("tls", "ca").stdout)
            rows = daemon.call("listener.list")["listeners"]
            yield Server(daemon, ca, {row["name"]: daemon.port(row["name"]) for row in rows})


# Certificates


@BOTH
@pytest.mark.parametrize("flaw", Flawed)
def test_each_flaw_is_told_by_its_name(server: Server, how: str, flaw: Flawed) -> None:
    number, words = FLAWS[flaw]
    with server.rule(f"at: tls, do: {{tls: {{certificate: {flaw}}}}}"):
        with pytest.raises(ssl.SSLCertVerificationError) as raised:
            server.client(how, server.trusting())
        assert raised.value.verify_code == number
        said = server.s_client(how, "-verify_hostname", "localhost")
        assert f"verify error:num={number}:{words}\n" in said
        refused = server.curl(how)
        assert refused.returncode == 60, refused.stdout  # CURLE_PEER_FAILED_VERIFICATION
        assert words in refused.stdout or flaw is Flawed.WRONG_NAME  # which curl sees for itself

        careless = ssl.create_default_context()
        careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
        if flaw is Flawed.WEAK_KEY:  # OpenSSL has no use for it, verified or not
            careless.set_ciphers("DEFAULT:@SECLEVEL=1")
        assert server.version(how, careless) == "TLSv1.3"
    # The negative control: nothing is wrong without the rule.
    assert server.version(how, server.trusting()) == "TLSv1.3"
    assert "Verify return code: 0 (ok)\n" in server.s_client(how, "-verify_hostname", "localhost")
    delivered = server.curl(how)
    assert delivered.returncode == 0, delivered.stdout


def test_swaks_sees_it(server: Server) -> None:
    swaks = ["swaks", "--server", "localhost", "--to", "b@example.com", "--from", "a@example.org"]
    verify = ["--tls", "--tls-verify", "--tls-ca-path", str(server.ca)]
    port = ["--port", str(server.ports["starttls"])]
    with server.rule("at: tls, do: {tls: {certificate: self-signed}}"):
        refused = run(*swaks, *verify, *port)
    assert refused.returncode == 29, refused.stdout  # TLS could not be negotiated
    delivered = run(*swaks, *verify, *port)
    assert delivered.returncode == 0, delivered.stdout


@BOTH
def test_the_first_handshake_alone(server: Server, how: str) -> None:
    first = "at: tls, when: {first: 1, per: peer}, do: {tls: {certificate: expired}}"
    with server.rule(first):
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
            server.client(how, server.trusting())
        assert server.version(how, server.trusting()) == "TLSv1.3"


@BOTH
def test_one_of_two_flaws(server: Server, how: str) -> None:
    flaws = ("expired", "wrong-name")
    choices = ", ".join(f"{{weight: 1, tls: {{certificate: {flaw}}}}}" for flaw in flaws)
    with server.rule(f"at: tls, do: {{one_of: [{choices}]}}"):
        seen = set()
        for _ in range(40):
            with pytest.raises(ssl.SSLCertVerificationError) as raised:
                server.client(how, server.trusting())
            seen.add(raised.value.verify_code)
            if len(seen) == len(flaws):
                break
    assert seen == {10, 62}


# Versions


@BOTH
@pytest.mark.parametrize(
    ("fault", "refused", "spoken"),
    [
        ("minimum_version: 1.3", "-tls1_2", "TLSv1.3"),
        ("maximum_version: 1.2", "-tls1_3", "TLSv1.2"),
    ],
)
def test_floor_and_ceiling(server: Server, how: str, fault: str, refused: str, spoken: str) -> None:
    with server.rule(f"at: tls, do: {{tls: {{{fault}}}}}"):
        assert "alert protocol version" in server.s_client(how, refused)
        assert server.version(how, server.trusting()) == spoken
    assert "Verify return code: 0 (ok)\n" in server.s_client(how, refused)


@BOTH
def test_a_server_of_long_ago(server: Server, how: str) -> None:
    old = ["-cipher", "DEFAULT:@SECLEVEL=0"]
    with server.rule("at: tls, do: {tls: {maximum_version: 1.1}}"):
        modern = server.trusting()
        modern.minimum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            server.client(how, modern)
        assert "Protocol  : TLSv1.1\n" in server.s_client(how, "-tls1_1", *old)
    assert "alert protocol version" in server.s_client(how, "-tls1_1", *old)


# Certificates of clients


@BOTH
@pytest.mark.parametrize(
    ("asked", "listener", "shows", "error"),
    [
        ("ask", "", False, ""),
        ("ask", "", True, "unknown ca"),
        ("ask", "mutual-", False, ""),
        ("ask", "mutual-", True, ""),
        ("require", "", False, "certificate required"),
        ("require", "", True, "unknown ca"),
        ("require", "mutual-", False, "certificate required"),
        ("require", "mutual-", True, ""),
    ],
)
def test_certificates_of_clients(
    server: Server, how: str, asked: str, listener: str, error: str, *, shows: bool
) -> None:
    context = server.trusting()
    if shows:
        CLIENT_CA.issue_cert("client.example").configure_cert(context)
    name = listener + how
    with server.rule(f"at: tls, do: {{tls: {{client_certificates: {asked}}}}}"):
        if error:  # smtplib meets it when it reads: in TLS 1.3 the client has finished by then
            with pytest.raises((ssl.SSLError, smtplib.SMTPServerDisconnected), match=error):
                server.version(name, context)
        else:
            assert server.version(name, context) == "TLSv1.3"
        assert "Client Certificate Types: " in server.s_client(name, "-tls1_2")
    assert server.version(name, context) == "TLSv1.3"


# What breaks off a handshake


@BOTH
@pytest.mark.parametrize(
    ("alert", "number"), [("handshake_failure", 40), ("internal_error", 80), (112, 112)]
)
def test_an_alert(server: Server, how: str, alert: str | int, number: int) -> None:
    with server.rule(f"at: tls, do: {{tls: {{alert: {alert}}}}}"):
        assert f"SSL alert number {number}\n" in server.s_client(how)
        with server.connected(how) as plain:
            plain.sendall(CLIENT_HELLO)
            assert read(plain) == bytes([21, 3, 3, 0, 2, 2, number])
        assert server.curl(how).returncode == 35  # CURLE_SSL_CONNECT_ERROR


@BOTH
def test_fin_in_mid_handshake(server: Server, how: str) -> None:
    with server.rule("at: tls, do: {close: fin}"):
        with server.connected(how) as plain:
            plain.sendall(CLIENT_HELLO)
            assert read(plain) == b""
        with pytest.raises((ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            server.client(how, server.trusting())
        assert "unexpected eof while reading" in server.s_client(how)


@BOTH
def test_rst_in_mid_handshake(server: Server, how: str) -> None:
    with server.rule("at: tls, do: {close: rst}"):
        with server.connected(how) as plain:
            plain.sendall(CLIENT_HELLO)
            with pytest.raises(ConnectionResetError):
                read(plain)
        with pytest.raises(ConnectionResetError):
            server.client(how, server.trusting())
        assert "write:errno=104" in server.s_client(how)  # ECONNRESET


@BOTH
def test_octets_instead_of_a_server_hello(server: Server, how: str) -> None:
    with server.rule(r'at: tls, do: {raw: "220 hello\r\n", close: fin}'):
        with server.connected(how) as plain:
            plain.sendall(CLIENT_HELLO)
            assert read(plain) == b"220 hello\r\n"
        with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
            server.client(how, server.trusting())
        assert "wrong version number" in server.s_client(how)


@BOTH
@pytest.mark.parametrize("do", ["silent: yes", "deaf: yes", r'raw: "\x16\x03\x03"'])
def test_a_handshake_that_stalls(server: Server, how: str, do: str) -> None:
    with server.rule(f"at: tls, do: {{{do}}}"):
        assert server.curl(how, "--max-time", "0.3").returncode == 28  # CURLE_OPERATION_TIMEDOUT
        with server.connected(how) as plain:
            plain.sendall(CLIENT_HELLO)
            plain.settimeout(0.2)
            with pytest.raises(TimeoutError):
                read(plain)


@BOTH
def test_a_handshake_that_comes_late(server: Server, how: str) -> None:
    with server.rule("at: tls, do: {delay: 0.3, tls: {maximum_version: 1.2}}"):
        began = time.monotonic()
        assert server.version(how, server.trusting()) == "TLSv1.2"
        assert 0.3 <= time.monotonic() - began < 5


# STARTTLS


def test_starttls_is_offered_and_refused(server: Server) -> None:
    with server.rule("at: starttls, do: {reply: 454 4.7.0 TLS not available}"):
        with pytest.raises(smtplib.SMTPResponseException, match="TLS not available"):
            server.client("starttls", server.trusting())
        assert server.curl("starttls").returncode == 64  # CURLE_USE_SSL_FAILED


def test_starttls_is_stripped_and_yet_works(server: Server) -> None:
    with server.rule("at: ehlo, do: {hide: [STARTTLS]}"):
        with pytest.raises(smtplib.SMTPNotSupportedError):
            server.client("starttls", server.trusting())
        assert server.curl("starttls").returncode == 64
        with socket.create_connection(("127.0.0.1", server.ports["starttls"]), _PATIENCE) as plain:
            reply(plain)
            plain.sendall(b"EHLO client.example\r\n")
            assert b"STARTTLS" not in reply(plain)
            plain.sendall(b"STARTTLS\r\n")
            assert reply(plain).startswith(b"220 ")
            with server.trusting().wrap_socket(plain, server_hostname="localhost") as secure:
                secure.sendall(b"QUIT\r\n")
                assert secure.recv(100).startswith(b"221 ")


def test_octets_behind_the_220(server: Server) -> None:
    with (
        server.rule(r'at: starttls, do: {raw: "220 ready\r\n250 injected\r\n"}'),
        socket.create_connection(("127.0.0.1", server.ports["starttls"]), _PATIENCE) as plain,
    ):
        reply(plain)
        plain.sendall(b"EHLO client.example\r\n")
        reply(plain)
        plain.sendall(b"STARTTLS\r\n")
        said = b""
        while len(said) < len(b"220 ready\r\n250 injected\r\n"):
            said += plain.recv(100)
        assert said == b"220 ready\r\n250 injected\r\n"
        with server.trusting().wrap_socket(plain, server_hostname="localhost") as secure:
            secure.sendall(b"EHLO client.example\r\n")
            assert reply(secure).startswith(b"250-")


def read(client: socket.socket) -> bytes:
    """Return everything up to the end."""
    octets = b""
    while piece := client.recv(1000):
        octets += piece
    return octets


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


CLIENT_HELLO = _client_hello()

"""The profiles that come with mtad, as their clients meet them."""

from __future__ import annotations

import re
import select
import smtplib
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.daemon import Daemon, config, home

from mtad.config import shipped

pytestmark = [pytest.mark.integration, pytest.mark.root]

CONF = Path(__file__).parents[2] / "conf"
COMPLETE = (
    b"From: a@example.org\r\nDate: Sun, 29 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.org>\r\n\r\nhello\r\n"
)
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Served:
    """A daemon with a listener for each profile, named as that."""

    daemon: Daemon
    ports: dict[str, int]

    def client(
        self,
        name: str,
        *,
        helo: str = "client.example.org",
        source: str = "127.0.0.1",
        patience: float = _PATIENCE,
    ) -> smtplib.SMTP:
        """Return a client that has read the greeting."""
        return smtplib.SMTP(
            "127.0.0.1",
            self.ports[name],
            helo,
            timeout=patience,
            source_address=(source, 0),
        )

    def delivers(self, number: int) -> bool:
        """Whether a message over the bad line is answered 250 before the client loses patience."""
        try:
            client = self.client("flaky-network", source=f"127.0.1.{number}", patience=6)
        except (OSError, smtplib.SMTPException):
            return False
        try:
            client.sendmail("a@example.org", ["b@example.com"], COMPLETE)
        except (OSError, smtplib.SMTPException):
            return False
        finally:
            client.close()
        return True

    def connected(self, name: str) -> socket.socket:
        """Return a client that has read nothing."""
        return socket.create_connection(("127.0.0.1", self.ports[name]), _PATIENCE)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    listeners = "".join(
        f"  {name}: {{listen: '127.0.0.1:0', profile: {name}}}\n" for name in shipped.files()
    )
    with home() as directory:
        text = config(directory).replace("  mx:\n    listen: '127.0.0.1:0'\n", listeners)
        with Daemon(directory, text) as daemon:
            daemon.wait_ready()
            rows = daemon.call("listener.list")["listeners"]
            yield Served(daemon, {r["name"]: int(r["bound"].rpartition(":")[2]) for r in rows})


def rcpt(client: smtplib.SMTP, recipient: str, sender: str = "a@example.org") -> str:
    """Return what RCPT is answered in a transaction of its own."""
    client.rset()
    assert client.mail(sender)[0] == 250
    return said(*client.rcpt(recipient))


def said(code: int, text: bytes) -> str:
    return f"{code} {text.decode()}"


def mailed(client: smtplib.SMTP, body: bytes, recipient: str = "b@example.com") -> str:
    """Return what a message is answered."""
    assert rcpt(client, recipient).startswith("250 ")
    return said(*client.data(body))


# gmail-like


def test_gmail_like_announces_what_gmail_does(served: Served) -> None:
    with served.client("gmail-like") as client:
        client.ehlo()
        assert client.esmtp_features.keys() == {
            "size",
            "8bitmime",
            "starttls",
            "enhancedstatuscodes",
            "pipelining",
            "chunking",
            "smtputf8",
        }
        assert client.esmtp_features["size"] == "35882577"
        assert said(*client.mail("a@example.org", ["SIZE=35882578"])).startswith("552 5.3.4 ")


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("unknown@example.com", "550 5.1.1 The email account"),
        ("unknown+tag@example.com", "550 5.1.1 The email account"),
        ("over-quota@example.com", "452 4.2.2 The email account"),
        ("no-ptr@example.com", "550 5.7.25 The IP address"),
        ("unknowns@example.com", "250 2.1.5 "),
    ],
)
def test_gmail_like_refuses_recipients(served: Served, recipient: str, reply: str) -> None:
    with served.client("gmail-like") as client:
        client.ehlo()
        assert rcpt(client, recipient).startswith(reply)


@pytest.mark.parametrize(
    ("recipient", "body", "reply"),
    [
        ("unauthenticated@example.com", COMPLETE, "550 5.7.26 "),
        ("spam@example.com", COMPLETE, "550 5.7.1 Our system"),
        ("b@example.com", b"Subject: x\r\n\r\nx\r\n", "550 5.7.1 Messages missing"),
        ("b@example.com", COMPLETE, "250 2.0.0 "),
    ],
)
def test_gmail_like_refuses_messages(
    served: Served, recipient: str, body: bytes, reply: str
) -> None:
    with served.client("gmail-like") as client:
        client.ehlo()
        assert mailed(client, body, recipient).startswith(reply)


def test_gmail_like_is_fed_up_with_more_than_a_hundred_a_minute(served: Served) -> None:
    with served.client("gmail-like", source="127.0.0.2") as client:
        client.ehlo()
        answers: list[str] = []
        while len(answers) < 110 and (not answers or answers[-1].startswith("250 ")):
            answers.append(said(*client.mail("a@example.org")))
            if answers[-1].startswith("250 "):
                client.rset()
        assert 101 <= len(answers) < 110  # a few come back while we go on
        assert answers[-1].startswith("421 4.7.0 Our system")
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.noop()


# microsoft-365-like


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("unknown@example.com", "550 5.4.1 Recipient address rejected: Access denied."),
        ("banned@example.com", "550 5.7.606 Access denied, banned sending IP."),
        ("wrong-region@example.com", "451 4.4.62 "),
        ("restricted@example.com", "550 5.7.133 "),
        ("b@example.com", "250 2.1.5 "),
    ],
)
def test_microsoft_365_like_refuses_recipients(served: Served, recipient: str, reply: str) -> None:
    with served.client("microsoft-365-like") as client:
        client.ehlo()
        assert client.esmtp_features["size"] == "157286400"
        assert {"dsn", "binarymime", "chunking"} <= client.esmtp_features.keys()
        assert rcpt(client, recipient).startswith(reply)


def test_microsoft_365_like_is_busy_twice(served: Served) -> None:
    with served.client("microsoft-365-like") as client:
        client.ehlo()
        answers = [rcpt(client, "busy@example.com") for _ in range(3)]
        assert [answer[:9] for answer in answers] == ["451 4.7.5", "451 4.7.5", "250 2.1.5"]
        assert rcpt(client, "busy@example.com", "other@example.org").startswith("451 4.7.500 ")


# strict-corporate


def test_strict_corporate_refuses_who_does_not_wait_for_the_greeting(served: Served) -> None:
    with served.connected("strict-corporate") as client:
        client.sendall(b"EHLO client.example.org\r\n")
        assert client.recv(1000).startswith(b"554 5.5.1 ")
        assert client.recv(1000) == b""


def test_strict_corporate_wants_a_full_name_and_tls_and_a_whole_message(served: Served) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    began = time.monotonic()
    with served.client("strict-corporate", helo="localhost") as client:
        assert time.monotonic() - began >= 2
        began = time.monotonic()
        assert said(*client.ehlo()).startswith("504 5.5.2 Helo command rejected")
        assert time.monotonic() - began >= 1
        assert client.ehlo("[192.0.2.1]")[0] == 250
        assert client.ehlo("client.example.org")[0] == 250
        assert said(*client.mail("a@example.org")).startswith("530 5.7.0 ")
        client.starttls(context=context)
        client.ehlo("client.example.org")
        assert said(*client.mail("root@localhost")).startswith("504 5.5.2 Sender address rejected")
        assert rcpt(client, "unknown@example.com").startswith("550 5.1.1 ")
        assert rcpt(client, "b@example.com", "").startswith("250 2.1.5 ")
        assert mailed(client, b"Subject: x\r\n\r\nx\r\n").startswith("550 5.6.0 ")
        assert mailed(client, COMPLETE).startswith("250 2.0.0 ")


# greylisting


def test_greylisting_takes_mail_the_second_time(served: Served) -> None:
    with served.client("greylisting") as client:
        client.ehlo()
        for _ in range(2):
            assert rcpt(client, "b@example.com").startswith("450 4.2.0 ")
        for recipient in ("postmaster", "postmaster@example.com", "abuse@example.com"):
            assert rcpt(client, recipient).startswith("250 2.1.5 ")
    quick = "at: rcpt, when: {greylist: {delay: 0.5}}, do: {reply: 450 4.2.0 Greylisted}"
    served.daemon.call("rule.change", name="greylisting/greylist", text=quick)
    with served.client("greylisting") as client:
        client.ehlo()
        assert rcpt(client, "b@example.com") == "450 4.2.0 Greylisted"
        assert rcpt(client, "c@example.com") == "450 4.2.0 Greylisted"
        time.sleep(0.6)
        assert rcpt(client, "b@example.com").startswith("250 2.1.5 ")
        assert rcpt(client, "b@example.com").startswith("250 2.1.5 ")
        assert rcpt(client, "b@example.com", "c@example.org") == "450 4.2.0 Greylisted"


# overloaded


def test_overloaded_turns_every_fourth_away_and_lets_the_others_wait(served: Served) -> None:
    began = time.monotonic()
    clients = [served.connected("overloaded") for _ in range(4)]
    heard = []
    for client in clients:
        heard.append((client.recv(1000)[:9], time.monotonic() - began))
        client.close()
    banners = Counter(banner[:3] for banner, _ in heard)
    assert banners == {b"421": 1, b"220": 3}
    assert all(seconds >= 2 for banner, seconds in heard if banner.startswith(b"220"))


# flaky-network


def test_flaky_network_loses_connections_and_answers(served: Served) -> None:
    clients, fates = [], Counter[str]()
    for _ in range(150):
        try:
            clients.append(served.connected("flaky-network"))
        except ConnectionResetError:  # before connect(2) returned
            fates["reset"] += 1
    fates.update(fate(client) for client in clients)
    assert fates["greeted"] > 120
    assert fates["reset"] >= 1
    assert fates["closed"] >= 1


def fate(client: socket.socket) -> str:
    """Return what becomes of a connection within two seconds."""
    with client:
        if not select.select([client], [], [], 2)[0]:
            return "silent"
        try:
            return "greeted" if client.recv(1) else "closed"
        except ConnectionResetError:
            return "reset"


def test_flaky_network_keeps_messages_that_it_does_not_answer_for(served: Served) -> None:
    before = len(served.daemon.messages())
    with ThreadPoolExecutor(20) as pool:
        answered = list(pool.map(served.delivers, range(200)))
    kept = len(served.daemon.messages()) - before
    assert 100 < sum(answered) < kept < 200


# no-tls


def test_no_tls(served: Served) -> None:
    with served.client("no-tls") as client:
        client.ehlo()
        assert "starttls" not in client.esmtp_features
        assert said(*client.docmd("STARTTLS")).startswith("502 5.5.1 ")
        assert mailed(client, COMPLETE).startswith("250 2.0.0 ")


# broken-tls


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("expired", "certificate has expired"),
        ("not-yet-valid", "certificate is not yet valid"),
        ("wrong-name", "Hostname mismatch"),
        ("self-signed", "self-signed certificate"),
        ("unknown-ca", "unable to get local issuer certificate"),
        ("weak-key", "EE certificate key too weak"),
        ("old", "protocol|sigalg"),
        ("alert", "handshake failure"),
    ],
)
def test_broken_tls_is_broken_as_the_client_says(served: Served, word: str, reason: str) -> None:
    ca = served.daemon.directory / "ca.pem"
    ca.write_text(served.daemon.mtactl("tls", "ca").stdout)
    context = ssl.create_default_context(cafile=ca)
    client = smtplib.SMTP("localhost", served.ports["broken-tls"], f"{word}.example.org", _PATIENCE)
    with pytest.raises(ssl.SSLError, match=re.compile(reason, re.IGNORECASE)):
        client.starttls(context=context)
    client.close()


def test_broken_tls_refuses_cuts_and_injects(served: Served) -> None:
    with served.client("broken-tls", helo="refused") as client:
        client.ehlo()
        assert said(*client.docmd("STARTTLS")).startswith("454 4.7.0 ")
    client = served.client("broken-tls", helo="cut.example.org")
    with pytest.raises(ConnectionError):
        client.starttls()
    with served.client("broken-tls", helo="injected.example.org") as client:
        client.ehlo()
        assert client.docmd("STARTTLS")[0] == 220
        assert said(*client.getreply()) == "250 2.0.0 injected"


def test_broken_tls_is_broken_for_all_others(served: Served) -> None:
    with pytest.raises((OSError, smtplib.SMTPResponseException)):
        served.client("broken-tls").starttls(context=ssl.create_default_context())


# smuggling-prone


def test_smuggling_prone_takes_a_second_message(served: Served) -> None:
    before = len(served.daemon.envelopes())
    smuggled = (
        b"Subject: first\r\n\r\nhello\n.\r\nMAIL FROM:<boss@example.org>\r\n"
        b"RCPT TO:<b@example.com>\r\nDATA\r\nSubject: second\r\n\r\nx\r\n.\r\n"
    )
    with served.client("smuggling-prone") as client:
        client.ehlo()
        assert rcpt(client, "b@example.com").startswith("250 ")
        assert client.docmd("DATA")[0] == 354
        client.send(smuggled)
        assert [client.getreply()[0] for _ in range(5)] == [250, 250, 250, 354, 250]
    first, second = served.daemon.envelopes()[before:]
    assert (first["terminator"], first["sender"]) == ("lf-dot-crlf", "a@example.org")
    assert (second["terminator"], second["sender"]) == ("CRLF.CRLF", "boss@example.org")


# legacy


def test_legacy_knows_no_ehlo(served: Served) -> None:
    with served.client("legacy") as client:
        assert said(*client.ehlo()) == "500 Command unrecognized"
        assert said(*client.helo()) == "250 legacy.example"
        assert client.docmd("MAIL FROM:<a@example.org> SIZE=5")[0] == 555
        assert not re.match(r"\d\.\d\.\d", client.mail("a@example.org")[1].decode())
        client.rset()
        client.sendmail("a@example.org", ["b@example.com"], COMPLETE)
    with served.connected("legacy") as raw:
        assert raw.recv(100) == b"220 legacy.example Simple Mail Transfer Service Ready\r\n"


# How they are used


def test_a_second_file_is_for_every_listener(directory: Path) -> None:
    files = [CONF / "profiles" / "legacy.yaml"]
    with Daemon(directory, config(directory), files=files) as daemon:
        daemon.wait_ready()
        with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=_PATIENCE) as client:
            assert client.ehlo()[0] == 500
        assert [one["name"] for one in daemon.call("rule.list")["rules"]] == [
            "default/banner",
            "default/no-ehlo",
        ]


def test_a_listener_that_is_added_names_one(directory: Path) -> None:
    with Daemon(directory, config(directory)) as daemon:
        daemon.wait_ready()
        daemon.call("rule.add", name="mine", text="at: noop, do: {reply: 250 mine}")
        added = daemon.mtactl("listener", "add", "old", "127.0.0.1:0", "--profile", "legacy")
        assert added.returncode == 0, added.stderr
        for _ in range(2):
            with smtplib.SMTP("127.0.0.1", daemon.port("old"), timeout=_PATIENCE) as client:
                assert client.ehlo()[0] == 500
            with smtplib.SMTP("127.0.0.1", daemon.port("mx"), timeout=_PATIENCE) as client:
                assert client.ehlo()[0] == 250
            assert [one["name"] for one in daemon.call("rule.list")["rules"]] == [
                "mine",
                "legacy/banner",
                "legacy/no-ehlo",
            ]
            shown = daemon.call("config.show")
            assert shown["stanzas"]["profiles"]["shipped"].keys() == {"legacy"}
            assert re.search("^# legacy: /.*/legacy.yaml$", shown["text"], re.MULTILINE)
            assert daemon.call("config.reload")["changes"] == []
        refused = daemon.mtactl("listener", "add", "x", "127.0.0.1:0", "--profile", "x")
        assert "greylisting" in refused.stderr

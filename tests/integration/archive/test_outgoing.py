"""Mail that rules have sent on, held and bounced: the daemon, its next hop, and what is between."""

from __future__ import annotations

import email
import hashlib
import json
import os
import signal
import smtplib
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email import policy
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import Daemon, config, home, until
from harness.hop import Hop, hop
from harness.mail_db import Kept, kept

from mtad.archive.outgoing.loops import MOST_RELAYS

pytestmark = [pytest.mark.integration, pytest.mark.root]

MAIL = b"Subject: hello\r\n\r\nhello\r\n"
LENIENT = "profiles: {default: {newlines: lenient}}\n"


def rules(**mails: Any) -> str:
    """Return the stanza that has mail for NAME@… treated as ``NAME`` says."""
    each = {
        name: {
            "at": "message",
            "where": {"recipient": f"{name}*@example.com"},
            "do": {"mail": mail},
        }
        for name, mail in mails.items()
    }
    return f"rules: {json.dumps(each)}\n"


@contextmanager
def running(extra: str = "", workers: int = 1, listen: str = "127.0.0.1:0") -> Iterator[Daemon]:
    with home() as directory:
        text = config(directory, listen=listen, workers=workers, extra=extra)
        with Daemon(directory, text) as daemon:
            yield daemon.wait_ready()


@contextmanager
def relaying(to: str, **more: Any) -> Iterator[Daemon]:
    """A daemon that sends what is for on@… to a hop, and so on."""
    mails = {
        "on": {"forward": to},
        "held": {"hold": True, "forward": to},
        "kept": "hold",
        "gone": "discard",
        "bounce": {"bounce": {"hop": to, "status": "5.1.1", "text": "No such user"}},
    }
    with running(rules(**mails) + LENIENT, **more) as daemon:
        yield daemon


def deliver(
    daemon: Daemon,
    *recipients: str,
    content: bytes = MAIL,
    sender: str = "shop@example.org",
    options: Sequence[str] = (),
    rcpt_options: Sequence[str] = (),
) -> str:
    """Deliver a message by BDAT, which takes any octets; return the end of the reply."""
    with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=20) as client:
        client.ehlo("client.example")
        client.command_encoding = "utf-8"
        code, reply = client.docmd(" ".join([f"MAIL FROM:<{sender}>", *options]))
        assert code == 250, reply
        for recipient in recipients:
            code, reply = client.docmd(" ".join([f"RCPT TO:<{recipient}>", *rcpt_options]))
            assert code == 250, reply
        client.send(b"BDAT %d LAST\r\n" % len(content) + content)
        code, reply = client.getreply()
        assert code == 250, reply
        return reply.decode().rpartition(" ")[2]


def shown(daemon: Daemon, which: str) -> dict[str, Any]:
    answer = json.loads(daemon.mtactl("--json", "message", "show", which).stdout)
    message: dict[str, Any] = answer["message"]
    return message


def count(daemon: Daemon, query: str) -> int:
    number: int = daemon.call("message.count", query=query)["count"]
    return number


def archive(daemon: Daemon) -> int | None:
    pid: int | None = daemon.call("summary")["archive"]["pid"]
    return pid


@pytest.fixture(scope="module")
def next_daemon() -> Iterator[Daemon]:
    """Another mtad, that takes what it is sent."""
    with running(LENIENT, workers=2) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def daemon(next_daemon: Daemon) -> Iterator[Daemon]:
    with relaying(f"localhost:{next_daemon.port()}", workers=2) as daemon:
        yield daemon


CONTENTS = {
    "plain": MAIL,
    "nothing": b"",
    "any octets": bytes(range(256)) * 40,
    "dots": b"Subject: x\r\n\r\n.\r\n..\r\n.a\r\n\n.\r\n\n.\n\r.\r.",
    "in a file": os.urandom(3_000_000),
}


def arrived(daemon: Daemon, recipient: str) -> list[Kept]:
    """Return what has arrived for somebody."""
    return [one for one in kept(daemon.store) if recipient in one.envelope["recipients"]]


@pytest.mark.parametrize("name", CONTENTS)
def test_octet_for_octet(daemon: Daemon, next_daemon: Daemon, name: str) -> None:
    content, who = CONTENTS[name], f"on+{name.replace(' ', '-')}@example.com"
    given = ("BODY=BINARYMIME", "RET=HDRS", "ENVID=QQ+2B")
    which = deliver(
        daemon,
        who,
        content=content,
        options=[f"SIZE={len(content)}", *given],
        rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;a+40b"],
    )
    (there,) = until(lambda: arrived(next_daemon, who))
    assert there.content == content
    assert there.sha256 == hashlib.sha256(content).digest()
    (here,) = arrived(daemon, who)
    assert here.sha256 == there.sha256
    for member in ("sender", "recipients", "recipient_options", "sender_options"):
        assert there.envelope[member] == here.envelope[member]
    assert there.envelope["helo"].startswith("mtad-relay-1.")
    assert there.envelope["protocol"] == "ESMTPS"
    until(lambda: shown(daemon, which)["outgoing"] == ["delivered"])
    (delivery,) = shown(daemon, which)["deliveries"]
    assert delivery["recipient"] == who
    assert (delivery["kind"], delivery["tries"], delivery["due"]) == ("forward", 1, None)
    assert delivery["said"].startswith("250 2.0.0 Ok: kept as ")


def test_addresses_that_are_not_ascii(daemon: Daemon, next_daemon: Daemon) -> None:
    who = "on+ü@example.com"
    deliver(daemon, who, sender="jürgen@example.org", options=["SMTPUTF8", "BODY=8BITMIME"])
    (there,) = until(lambda: arrived(next_daemon, who))
    assert there.envelope["sender"] == "jürgen@example.org"
    assert "SMTPUTF8" in there.envelope["sender_options"]


def test_what_no_rule_speaks_of_is_not_sent(daemon: Daemon, next_daemon: Daemon) -> None:
    which = deliver(daemon, "nobody@example.com")
    assert shown(daemon, which)["outgoing"] == []
    deliver(daemon, "on+last@example.com")
    until(lambda: arrived(next_daemon, "on+last@example.com"))
    assert arrived(next_daemon, "nobody@example.com") == []


def test_discarded(daemon: Daemon) -> None:
    deliver(daemon, "gone@example.com")
    assert arrived(daemon, "gone@example.com") == []


def test_held_and_released(daemon: Daemon, next_daemon: Daemon) -> None:
    held = deliver(daemon, "held@example.com")
    kept_here = deliver(daemon, "kept@example.com")
    assert count(daemon, "outgoing:held") == 2
    assert arrived(next_daemon, "held@example.com") == []
    refused = daemon.mtactl("message", "release", kept_here)
    assert refused.returncode == 1
    assert "no rule says where it is to go" in refused.stderr
    assert "--to mx.example.org:25" in refused.stderr
    released = daemon.mtactl("message", "release", held)
    assert released.stdout.split() == ["released", "1"]
    until(lambda: arrived(next_daemon, "held@example.com"))
    hop_name = f"127.0.0.1:{next_daemon.port()}"
    daemon.mtactl("message", "release", "--query", "outgoing:held", "--to", hop_name)
    until(lambda: arrived(next_daemon, "kept@example.com"))
    until(lambda: shown(daemon, kept_here)["outgoing"] == ["delivered"])
    table = daemon.mtactl("message", "show", kept_here).stdout
    (row,) = [line for line in table.splitlines() if line.startswith("kept@example.com")]
    assert row.split()[:5] == ["kept@example.com", "forward", hop_name, "delivered", "1"]


def test_a_bounce_field_by_field(daemon: Daemon, next_daemon: Daemon) -> None:
    which = deliver(
        daemon,
        "bounce@example.com",
        "bounce+2@example.com",
        sender="back@example.org",
        options=["RET=FULL", "ENVID=QQ+2B1"],
        rcpt_options=["ORCPT=rfc822;first@example.com"],
    )
    (there,) = until(lambda: arrived(next_daemon, "back@example.org"))
    assert there.envelope["sender"] == ""
    message = email.message_from_bytes(there.content, policy=policy.default)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["To"] == "back@example.org"
    assert message["Auto-Submitted"] == "auto-replied"
    parts = list(message.walk())
    about, first, second = [part for part in parts if part.get_content_type() == "text/plain"][1:4]
    assert about["Original-Envelope-Id"] == "QQ+1"
    assert about["Reporting-MTA"].startswith("dns; ")
    assert about["Arrival-Date"]
    for part, who in ((first, "bounce@example.com"), (second, "bounce+2@example.com")):
        assert part["Original-Recipient"] == "rfc822; first@example.com"
        assert part["Final-Recipient"] == f"rfc822; {who}"
        assert part["Action"] == "failed"
        assert part["Status"] == "5.1.1"
        assert part["Diagnostic-Code"] == "smtp; 550 5.1.1 No such user"
    assert there.content.count(MAIL) == 1
    assert [part.get_content_type() for part in parts].count("message/rfc822") == 1
    until(lambda: shown(daemon, which)["outgoing"] == ["delivered"])
    assert shown(daemon, which)["deliveries"][0]["kind"] == "bounce"


@pytest.mark.parametrize(
    ("sender", "notify", "said"),
    [("", [], "null sender"), ("never@example.org", ["NOTIFY=NEVER"], "NOTIFY")],
)
def test_who_is_not_told(
    daemon: Daemon, next_daemon: Daemon, sender: str, notify: list[str], said: str
) -> None:
    which = deliver(daemon, "bounce@example.com", sender=sender, rcpt_options=notify)
    until(lambda: shown(daemon, which)["outgoing"] == ["unwanted"])
    assert said in shown(daemon, which)["deliveries"][0]["said"]
    assert arrived(next_daemon, sender) == []


def test_greylisted_then_taken_and_one_refused() -> None:
    """As a next hop has it: 450 at first, 550 for one of two."""
    greylisting = [True]

    def script(line: str) -> str | None:
        if line.startswith("RCPT TO:<on+b"):
            return "550 5.1.1 No such user"
        return "450 4.2.0 Greylisted" if line.startswith("RCPT") and greylisting[0] else None

    with hop(script, ("SIZE",)) as server, relaying(server.name) as daemon:
        which = deliver(daemon, "on+a@example.com", "on+b@example.com")
        until(lambda: shown(daemon, which)["outgoing"] == ["failed", "waiting"])
        first, second = shown(daemon, which)["deliveries"]
        assert (first["state"], first["said"]) == ("waiting", "450 4.2.0 Greylisted")
        assert first["due"] > shown(daemon, which)["received"]
        assert (second["state"], second["said"]) == ("failed", "550 5.1.1 No such user")
        greylisting[0] = False
        until(lambda: shown(daemon, which)["outgoing"] == ["delivered", "failed"], 90)
        assert count(daemon, "outgoing:failed") == count(daemon, "outgoing:delivered") == 1
        assert [one.rcpts for one in server.taken] == [["TO:<on+a@example.com>"]]
        (failed,) = [one for one in daemon.events() if one["event"] == "delivery.failed"]
        assert (failed["id"], failed["level"]) == (which, "warning")
        until(lambda: daemon.call("status")["ok"])


def test_a_hop_that_is_not_there() -> None:
    """Status tells so, once it has been tried twice; what is deleted is not waited for."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # else somebody else may take the port
        name = "{}:{}".format(*nobody.getsockname())
        assert_waits(name)


def assert_waits(name: str) -> None:
    with relaying(name) as daemon:
        deliver(daemon, "on@example.com")
        problem = f"archive: mail waits for {name}: Connection refused"
        until(lambda: daemon.call("status")["problems"] == [problem], 60)
        assert daemon.call("ready")["ok"]
        daemon.mtactl("message", "delete", "--query", "outgoing:waiting")
        until(lambda: daemon.call("status")["ok"])
        assert count(daemon, "outgoing:*") == 0


def test_to_itself(directory: Path) -> None:
    """It goes round so often, and no more; each time there is one message."""
    with hop() as server:
        port = server.name.rpartition(":")[2]
    with relaying(f"127.0.0.1:{port}", listen=f"127.0.0.1:{port}") as daemon:
        deliver(daemon, "on@example.com")
        until(lambda: count(daemon, "outgoing:failed") == 1)
        until(lambda: count(daemon, "outgoing:delivered") == MOST_RELAYS)
        assert len(arrived(daemon, "on@example.com")) == MOST_RELAYS + 1
        last = shown(daemon, "latest")
        assert last["helo"].startswith(f"mtad-relay-{MOST_RELAYS}.")
        assert "circles" in last["deliveries"][0]["said"]


def _killed(daemon: Daemon) -> None:
    pid = until(lambda: archive(daemon))
    os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(300)
def test_kill_9_of_the_archive(next_daemon: Daemon) -> None:
    """Again and again while it sends: each message is there once at least, and none waits."""
    number = 150
    with relaying(f"127.0.0.1:{next_daemon.port()}", workers=2) as daemon:
        names = [f"on+{each}.killed@example.com" for each in range(number)]
        for at, name in enumerate(names):
            deliver(daemon, name, content=b"Subject: %d\r\n\r\n" % at)
            if at in (20, 60, 100):
                _killed(daemon)
        until(lambda: archive(daemon), 60)
        until(lambda: count(daemon, "outgoing:delivered") == number, 90)
        assert daemon.call("summary")["archive"]["restarts"] == 3
    found = [one.envelope["recipients"][0] for one in kept(next_daemon.store)]
    assert {name for name in found if "killed" in name} == set(names)


def test_a_daemon_that_was_stopped_goes_on(directory: Path) -> None:
    """What waits, waits for the next start; what was held is held."""
    refusing = [True]

    def script(line: str) -> str | None:
        return "451 Later" if refusing[0] and line.startswith("MAIL") else None

    with hop(script) as server:
        mails = {"on": {"forward": server.name}, "held": {"hold": True, "forward": server.name}}
        text = config(directory, extra=rules(**mails))
        with Daemon(directory, text) as daemon:
            daemon.wait_ready()
            deliver(daemon, "on@example.com")
            deliver(daemon, "held@example.com")
            until(lambda: server.connections)
            assert daemon.stop() == 0
        refusing[0] = False
        with Daemon(directory, text) as daemon:
            daemon.wait_ready()
            until(lambda: count(daemon, "outgoing:delivered") == 1)
            assert count(daemon, "outgoing:held") == 1
        assert _people(server) == [["TO:<on@example.com>"]]


def test_retention_holds_for_what_is_held(directory: Path) -> None:
    """It goes when its time has come, and is not sent; the log says that it was to be."""
    with hop() as server:
        mails = {"on": {"forward": server.name}, "held": {"hold": True, "forward": server.name}}
        with Daemon(directory, config(directory, extra=rules(**mails))) as daemon:
            daemon.wait_ready()
            deliver(daemon, "held@example.com", "held+2@example.com")
            deliver(daemon, "on@example.com")
            until(lambda: count(daemon, "outgoing:delivered") == 1)
            assert count(daemon, "outgoing:held") == 1
            text = daemon.config.read_text()
            stanza = f"  directory: {directory}/store\n"
            daemon.config.write_text(
                text.replace(stanza, f"{stanza}  retention: {{messages: 1}}\n")
            )
            assert daemon.call("config.reload")["ok"]
            until(lambda: count(daemon, "") == 1)
            assert count(daemon, "outgoing:delivered") == 1
            pruned = until(lambda: [e for e in daemon.events() if e["event"] == "store.pruned"])
            assert [(one["messages"], one["unsent"]) for one in pruned] == [(1, 2)]
        assert _people(server) == [["TO:<on@example.com>"]]


def _people(server: Hop) -> list[list[str]]:
    return [one.rcpts for one in server.taken]

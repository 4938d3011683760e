"""`message show`, `part`, `extract`: what a message is to people, and to a test of a sign-up."""

from __future__ import annotations

import json
import threading
from email.message import EmailMessage
from pathlib import Path

import pytest
from harness.daemon import Daemon, until
from harness.sender import Sender

from mtad.control.client import ControlClient
from mtad.errors import CommandError

pytestmark = [pytest.mark.integration, pytest.mark.root]

PICTURE = bytes(range(256)) * 8_192


@pytest.fixture(scope="module")
def welcome(daemon: Daemon, sender: Sender) -> str:
    """The id of a message with two texts, two links, a code and a picture of 2 MiB."""
    message = EmailMessage()
    message["Subject"] = "Willkommen, Jürgen"
    message["From"] = "Shop <shop@example.org>"
    message["To"] = "Jürgen <juergen@example.com>"
    message.set_content("Your code is 123456.\nhttps://shop.example/confirm?t=a_b-\n")
    html = '<p>Code <b>123456</b>, or <a href="https://shop.example/h?a=1&amp;b=2">here</a></p>'
    message.add_alternative(html, subtype="html")
    message.add_attachment(PICTURE, maintype="image", subtype="png", filename="Größe.png")
    sender.bdat(message.as_bytes().replace(b"\n", b"\r\n"))
    kept: str = daemon.call("message.cursor")["cursor"]
    sender.bdat(b"Subject: something else\r\n\r\n")
    return kept


def test_show(daemon: Daemon, welcome: str) -> None:
    shown = daemon.call("message.show", id=welcome)["message"]
    assert shown["subject"] == "Willkommen, Jürgen"
    assert shown["from"] == ["shop@example.org"]
    assert ["Subject", "Willkommen, Jürgen"] in shown["headers"]
    assert shown["text"].startswith("Your code is 123456.")
    assert shown["links"] == [
        "https://shop.example/confirm?t=a_b-",
        "https://shop.example/h?a=1&b=2",
    ]
    assert [(part["number"], part["type"], part["name"]) for part in shown["parts"]] == [
        (1, "text/plain", None),
        (2, "text/html", None),
        (3, "image/png", "Größe.png"),
    ]
    assert shown["parts"][2]["size"] == len(PICTURE)
    assert (shown["sender"], shown["recipients"]) == ("sender@example.org", ["rcpt@example.com"])
    assert shown["terminator"] == "BDAT"
    (listed,) = daemon.call("message.list", query=f"id:{welcome}")["messages"]
    assert {**shown, **listed} == shown


def test_show_for_people(daemon: Daemon, welcome: str) -> None:
    shown = daemon.mtactl("message", "show", welcome)
    assert shown.returncode == 0
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert "Subject Willkommen, Jürgen" in lines
    assert "3 image/png - attachment Größe.png 2 MiB" in lines
    assert "Your code is 123456." in lines


def test_part(daemon: Daemon, welcome: str, tmp_path: Path) -> None:
    written = daemon.mtactl("message", "part", welcome, "3", "--output", str(tmp_path / "x.png"))
    assert (written.returncode, written.stderr) == (0, "")
    assert (tmp_path / "x.png").read_bytes() == PICTURE
    some = daemon.mtactl("message", "part", welcome, "1", "--offset", "5", "--length", "4")
    assert some.stdout == "code"
    refused = daemon.mtactl("message", "part", welcome, "4")
    assert refused.returncode == 1
    assert f"message {welcome} has no part 4 (it has 3)" in refused.stderr


def test_raw_in_any_pieces(daemon: Daemon, welcome: str) -> None:
    size = daemon.call("message.raw", id=welcome, length=1)["size"]
    assert daemon.call("message.raw", id=welcome, length=2**31 - 1)["next"] == 2**20
    assert daemon.call("message.raw", id=welcome, offset=size - 1)["next"] is None
    beyond = daemon.call("message.raw", id=welcome, offset=size + 1)
    assert (beyond["octets"], beyond["next"]) == ("", None)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (("--link", "1"), "https://shop.example/confirm?t=a_b-"),
        (("--link", "2"), "https://shop.example/h?a=1&b=2"),
        (("--code", "[0-9]{6}"), "123456"),
        (("--code", "Willkommen, (.*)"), "Jürgen"),
        (("--code", "(?:code|Code) is ([0-9]+)"), "123456"),
    ],
)
def test_extract(daemon: Daemon, welcome: str, words: tuple[str, ...], value: str) -> None:
    by_id = daemon.mtactl("message", "extract", welcome, *words)
    assert (by_id.returncode, by_id.stdout) == (0, f"{value}\n")
    by_query = daemon.mtactl("message", "extract", "--query", "from:shop@example.org", *words)
    assert by_query.stdout == by_id.stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("latest", "--link", "1"), "has no link 1 (it has 0)"),
        (("latest", "--code", "x{9}"), "has no match of 'x{9}'"),
        (("latest", "--code", "("), "is no regular expression"),
        (("latest", "--code", "(?P<a"), "is no regular expression"),
        (("--query", "subject:never", "--link", "1"), "no message matches"),
        (("0000000000000", "--link", "1"), "there is no message 0000000000000"),
        (("latest", "--code", "x" * 1_001), "more than 1000 characters"),
    ],
)
def test_what_is_not_there(
    daemon: Daemon, welcome: str, words: tuple[str, ...], reason: str
) -> None:
    failed = daemon.mtactl("message", "extract", *words)
    assert failed.returncode == 1
    assert reason in failed.stderr
    assert failed.stdout == ""


def test_an_error_as_json(daemon: Daemon, welcome: str) -> None:
    failed = daemon.mtactl("message", "show", "0000000000000", "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"]["message"] == "there is no message 0000000000000"


def test_a_mistake_in_a_query_comes_with_its_place_and_what_helps(daemon: Daemon) -> None:
    failed = daemon.mtactl("message", "list", "--query", "form:alice")
    assert (failed.returncode, failed.stdout) == (2, "")
    reason, query, place, helps = failed.stderr.splitlines()
    assert reason == "mtactl: there is no field 'form'; did you mean 'from'?"
    assert (query, place) == ("    form:alice", "    ^~~~")
    assert helps.startswith("  help: fields: from, to, cc, ")
    failed = daemon.mtactl("message", "list", "--query", "form:alice", "--json")
    assert failed.returncode == 2
    assert json.loads(failed.stdout)["error"]["code"] == -32602


def test_a_catastrophic_pattern_is_the_asker_s_own_trouble(daemon: Daemon, sender: Sender) -> None:
    """It ends, and meanwhile others are answered."""
    sender.bdat(b"\r\n" + b"y" * 1_000)
    errors = []

    def ask() -> None:
        with ControlClient(daemon.socket) as client:
            try:
                client.call("message.extract", id="latest", code="(y+y+)+z")
            except CommandError as error:
                errors.append(error.message)

    asker = threading.Thread(target=ask)
    asker.start()
    answers = 0
    while asker.is_alive():
        daemon.call("message.show", id="latest")
        answers += 1
    asker.join()
    assert errors == ["the pattern '(y+y+)+z' takes too long"]
    assert answers > 5


def test_a_bomb_of_parts_is_shown(daemon: Daemon, sender: Sender) -> None:
    nested = (
        b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n)
        for n in range(10_000)
    )
    sender.bdat(b"".join(nested))
    shown = daemon.call("message.show", id="latest")["message"]
    assert len(shown["parts"]) == 1
    assert shown["cut"] == ["parts"]
    sender.bdat(b"Subject: " + b"x" * 30_000_000)
    shown = daemon.call("message.show", id="latest")["message"]
    assert len(dict(shown["headers"])["Subject"]) < 300_000
    assert shown["cut"] == ["headers"]


def test_what_is_cut_short_is_said(daemon: Daemon, sender: Sender) -> None:
    sender.bdat(b"\r\n" + b"y" * 262_144)
    assert daemon.call("message.show", id="latest")["message"]["cut"] == []
    sender.bdat(b"\r\n" + b"y" * 262_145)
    shown = daemon.mtactl("message", "show", "latest").stdout
    assert shown.endswith("y\ncut short here, and whole in message raw:\n  text\n")


def test_mail_that_is_no_utf8_is_shown(daemon: Daemon, sender: Sender) -> None:
    sender.bdat(b"Subject: \xff\0\x1b[2J\r\nX\xff: y\r\n\r\n\xfe\0")
    shown = daemon.mtactl("message", "show", "latest")
    assert shown.returncode == 0
    assert "\x1b" not in shown.stdout
    assert daemon.mtactl("message", "show", "latest", "--json").returncode == 0


def test_a_message_that_is_gone(daemon: Daemon, sender: Sender) -> None:
    sender.bdat(b"Subject: short life\r\n\r\n")
    which = daemon.call("message.cursor")["cursor"]
    daemon.call("message.delete", ids=[which])
    until(lambda: not daemon.call("message.count", query=f"id:{which}")["count"])
    for command in ("show", "raw", "transcript"):
        with pytest.raises(CommandError, match="no message"):
            daemon.call(f"message.{command}", id=which)

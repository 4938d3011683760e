"""Export and import: what goes out in a format comes in again, and nothing is left half done."""

from __future__ import annotations

import base64
import json
import mailbox
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.contents import CHUNKS, HEADER
from harness.daemon import PROGRAMS, Daemon, config, home, until
from harness.sender import Sender

from mtad.archive.uploads import UPLOADS
from mtad.control.wire import Code
from mtad.errors import CommandError

pytestmark = [pytest.mark.integration, pytest.mark.root]

ODD = {
    **CHUNKS,
    "quotes before From": HEADER + b">" * 2_000 + b"From x\r\n" + b">" * 999 + b"From y\r\n",
    "From at the end of a piece": b"x" * (786_432 - 4) + b"\r\nFrom x\r\n\r\nFrom y\r\n",
}


@pytest.fixture(scope="module")
def sent(daemon: Daemon, sender: Sender) -> list[bytes]:
    for content in ODD.values():
        sender.bdat(content)
    return list(ODD.values())


@pytest.fixture(scope="module")
def other() -> Iterator[Daemon]:
    """Where messages are imported."""
    with home() as directory, Daemon(directory, config(directory)) as running:
        yield running.wait_ready()


def export(daemon: Daemon, form: str, path: Path, *options: str) -> None:
    done = daemon.mtactl("message", "export", "--format", form, str(path), *options)
    assert done.returncode == 0, done.stderr


def imported(other: Daemon, *words: str) -> tuple[list[bytes], list[dict[str, object]]]:
    """Import, and return the contents and the envelopes of what has come by it."""
    before = len(other.messages())
    done = other.mtactl("message", "import", *words)
    assert done.returncode == 0, done.stderr
    contents = other.messages()[before:]
    assert done.stdout == f"imported  {len(contents)}\n"
    return contents, other.envelopes()[before:]


@pytest.mark.parametrize("form", ["eml", "maildir", "jsonl"])
def test_there_and_back(
    daemon: Daemon, sent: list[bytes], other: Daemon, tmp_path: Path, form: str
) -> None:
    export(daemon, form, tmp_path / "out")
    contents, envelopes = imported(other, "--format", form, str(tmp_path / "out"))
    assert contents == sent
    if form == "jsonl":
        there = [dict(one, id=None, session=0) for one in daemon.envelopes()]
        assert [dict(one, id=None) for one in envelopes] == there


def test_there_and_back_by_mbox(
    daemon: Daemon, sent: list[bytes], other: Daemon, tmp_path: Path
) -> None:
    export(daemon, "mbox", tmp_path / "out")
    contents, envelopes = imported(other, str(tmp_path / "out"))
    assert contents == [one if one[-1:] in (b"", b"\n") else one + b"\n" for one in sent]
    assert {one["sender"] for one in envelopes} == {"sender@example.org"}


@pytest.mark.parametrize("form", ["mbox", "maildir"])
def test_another_program_reads_it(
    daemon: Daemon, sent: list[bytes], tmp_path: Path, form: str
) -> None:
    export(daemon, form, tmp_path / "out")
    box = {"mbox": mailbox.mbox, "maildir": mailbox.Maildir}[form](tmp_path / "out", create=False)
    assert len(box) == len(sent)
    if form == "maildir":
        found = [box.get_bytes(key) for key in box.keys()]  # noqa: SIM118 (it yields messages)
        assert sorted(found) == sorted(sent)


@pytest.mark.parametrize("form", ["mbox", "jsonl"])
def test_no_message_at_all(other: Daemon, tmp_path: Path, form: str) -> None:
    export(other, form, tmp_path / "out", "--query", "id:0000000000000")
    assert other.mtactl("message", "import", str(tmp_path / "out")).stdout == "imported  0\n"


def test_what_another_program_has_written(other: Daemon, tmp_path: Path) -> None:
    text = (
        "Return-Path: <bounce@example.org>\nDelivered-To: b@example.com\nFrom: A <a@example>\n\nx\n"
    )
    box = mailbox.mbox(tmp_path / "box")
    box.add(text)
    box.add("From: A <a@example>\nTo: B <b@example>, c@example\n\nFrom here\n\nFrom there\n")
    box.close()
    contents, envelopes = imported(other, str(tmp_path / "box"))
    assert contents[0] == text.encode()
    found = [(one["listener"], one["sender"], one["recipients"]) for one in envelopes]
    assert found == [
        ("import", "bounce@example.org", ["b@example.com"]),
        ("import", "a@example", ["b@example", "c@example"]),
    ]


def test_an_envelope_that_fills_many_lines(other: Daemon, tmp_path: Path) -> None:
    recipients = [f'"{number}\\\\"{"x" * 200}@example.com' for number in range(2_000)]
    line = {
        "octets": base64.b64encode(b"x").decode(),
        "envelope": {"sender": "\udcff@example", "recipients": recipients},
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    _, (envelope,) = imported(other, "--format", "jsonl", str(tmp_path / "a.jsonl"))
    assert envelope["recipients"] == recipients
    assert envelope["sender"] == "\udcff@example"
    assert envelope["recipient_options"] == [[]] * 2_000


def test_an_envelope_with_octets_that_are_no_text(other: Daemon, tmp_path: Path) -> None:
    """The archive answers, in JSON without a control character, and is not ended for it."""
    line = {"octets": "eA==", "envelope": {"sender": "\udcff\x9b31m\x7f@example"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    imported(other, "--format", "jsonl", str(tmp_path / "a.jsonl"))
    archive = other.call("summary")["archive"]["pid"]
    listed = other.call("message.list", limit=1)["messages"]
    assert [one["sender"] for one in listed] == ["?\x9b31m\x7f@example"]
    assert other.call("summary")["archive"]["pid"] == archive


def test_a_query_chooses(daemon: Daemon, sent: list[bytes], tmp_path: Path) -> None:
    export(daemon, "eml", tmp_path / "out", "--query", "subject:fidelity")
    chosen = [one for one in sent if one.startswith(HEADER)]
    found = [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())]
    assert found == chosen


def test_nothing_is_left_where_a_file_cannot_be_written(
    daemon: Daemon, sent: list[bytes], tmp_path: Path
) -> None:
    for form in ("eml", "mbox", "maildir", "jsonl"):
        path = tmp_path / form
        command = ["prlimit", "--fsize=100000", PROGRAMS / "mtactl", "--socket", daemon.socket]
        command += ["message", "export", "--format", form, path]
        failed = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, timeout=60, check=False
        )
        assert failed.returncode == 1
        assert "File too large" in failed.stderr
        assert str(tmp_path) in failed.stderr
        left = [file for file in tmp_path.rglob("*") if file.is_file()]
        whole = {one for one in sent if len(one) <= 100_000}
        assert all(file.read_bytes() in whole for file in left)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("export", "--format", "mbox", "{}/taken"), "taken exists"),
        (("export", "--format", "mbox", "{}/none/x"), "no directory"),
        (("export", "--format", "mbox", "{}/x", "--query", "from:"), "missing"),
        (("import", "{}/none"), "none: No such file or directory"),
        (("import", "{}"), "has no *.eml"),
        (("export", "--format", "mbox", "-"), "not to the standard output"),
        (("import", "{}/taken"), "does not begin with a header field"),
        (("import", "--format", "mbox", "{}/taken"), "is no mbox"),
        (("import", "--format", "jsonl", "{}/taken"), "taken:1: no message"),
        (("import", "--format", "jsonl", "{}/odd"), "message 2: the envelope has no 'colour'"),
        (("import", "--format", "jsonl", "{}/odd"), " (1 are imported)\n"),
        (
            ("import", "--format", "eml", "{}/odd", "{}/none"),
            "file or directory (1 are imported)\n",
        ),
        (("part", "latest", "1", "--output", "{}/taken"), "taken exists"),
    ],
)
def test_what_cannot_be_done_says_why(
    daemon: Daemon, sent: list[bytes], tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "taken").write_text("x\n")
    (tmp_path / "odd").write_text('{"octets": "eA=="}\n{"octets": "", "envelope": {"colour": 1}}\n')
    failed = daemon.mtactl("message", *(word.format(tmp_path) for word in words))
    assert failed.returncode in (1, 2)
    assert reason in failed.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"taken", "odd"}


def test_the_log_has_no_mail(other: Daemon, tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(b"Subject: x\n\n" + b"secret " * 100_000)
    imported(other, str(tmp_path / "a.eml"))
    pieces = [one for one in other.events() if one.get("command") == "message import"][-20:]
    assert all(len(one["params"]["octets"]) < 300 for one in pieces)
    assert pieces[-1]["params"]["octets"].endswith("characters)")


def test_what_is_no_envelope_is_refused(other: Daemon) -> None:
    for envelope, reason in (
        ("{", "is none"),
        ("[]", "is none"),
        ('{"received_ns": 9223372036854775808}', "<= 9223372036854775807"),
        ('{"worker": "x"}', "is none"),
        ('{"recipients": ["a"], "recipient_options": []}', "for each of recipients"),
    ):
        with pytest.raises(CommandError, match=reason):
            other.call("message.import", upload="x", octets="", last=True, envelope=envelope)
    with pytest.raises(CommandError, match="no base64"):
        other.call("message.import", upload="x", octets="?", last=True)
    assert not list((other.store / "bodies").glob("*.tmp"))


def test_uploads_are_bounded(other: Daemon) -> None:
    piece = base64.b64encode(b"x" * 40_000).decode()
    for number in range(UPLOADS):
        for _ in range(2):
            assert other.call("message.import", upload=str(number), octets=piece) == {"id": None}
    assert len(list((other.store / "bodies").glob("*.tmp"))) == UPLOADS
    with pytest.raises(CommandError, match="being imported already") as refused:
        other.call("message.import", upload="one more", octets="")
    assert refused.value.code == Code.BUSY
    for number in range(UPLOADS):
        kept = other.call("message.import", upload=str(number), octets=piece, last=True)
        assert other.call("message.show", id=kept["id"])["message"]["size"] == 120_000
    until(lambda: not list((other.store / "bodies").glob("*.tmp")))

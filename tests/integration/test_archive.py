"""The archive: asked through the supervisor, killed, frozen, and taken over."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import smtplib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest
from harness.control_attacks import connect, exchange
from harness.daemon import PROGRAMS, Daemon, send, until
from harness.lies import channel_of

from mtad.control.client import ControlClient
from mtad.errors import CommandError
from mtad.ipc.messages import Hello
from mtad.ipc.questions import MAX_ANSWER, PIECE, Answer, Health, Item, Refusal

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

Start = Callable[..., Daemon]

encode = msgspec.msgpack.encode


def archive(daemon: Daemon) -> int | None:
    """Return the process that serves now."""
    pid: int | None = daemon.call("summary")["archive"]["pid"]
    return pid


def another(daemon: Daemon, than: int) -> int:
    """Return the process that has taken the place of ``than``."""
    pid: int = until(lambda: (pid := archive(daemon)) != than and pid)
    return pid


def count(daemon: Daemon) -> int:
    number: int = daemon.call("message.count")["count"]
    return number


@contextmanager
def frozen(pid: int, store: Path) -> Iterator[None]:
    """Have the archive stand still, while it does not hold the lock of the store."""

    def stands_still() -> bool:
        os.kill(pid, signal.SIGSTOP)
        until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "T")
        with (store / "mail.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.kill(pid, signal.SIGCONT)
                return False
        return True

    until(stands_still)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def daemon(started: Start) -> Daemon:
    """A daemon whose archive serves."""
    running = started(listen="127.0.0.1:25")
    until(lambda: archive(running))
    return running


def test_what_was_answered_250_is_counted(daemon: Daemon) -> None:
    assert count(daemon) == 0
    before = daemon.call("message.cursor")["cursor"]
    send(25)
    after = daemon.call("message.cursor")["cursor"]
    assert count(daemon) == 1
    assert before < after
    assert daemon.mtactl("message", "count").stdout == "1\n"
    assert exchange(daemon.socket, b"message count\n") == b"1\n"


def test_an_error_has_its_code_and_help(daemon: Daemon) -> None:
    with pytest.raises(CommandError, match="there is no message") as raised:
        daemon.call("message.show", id="0" * 13)
    assert raised.value.code == -32000
    assert daemon.mtactl("message", "show", "0" * 13).returncode == 1


def test_questions_of_the_first_moment_are_answered(started: Start) -> None:
    """They wait for the archive, which the daemon does not wait for to be ready."""
    daemon = started(listen="127.0.0.1:25")
    assert count(daemon) == 0


def test_kill_9(daemon: Daemon) -> None:
    """Mail is taken meanwhile, the daemon stays ready, and the next archive has it all."""
    send(25)
    assert count(daemon) == 1
    worker, restarts = daemon.workers(), 5
    for _ in range(restarts):
        os.kill(until(lambda: archive(daemon)), signal.SIGKILL)
        until(lambda: not archive(daemon))
        send(25)
    # The back-off has grown: there is none now.
    status = daemon.call("status")
    assert "the archive is starting again" in status["problems"]
    assert (status["ok"], status["ready"]) == (False, True)
    assert daemon.call("ready")["ok"]
    assert count(daemon) == 1 + restarts
    until(lambda: daemon.call("status")["ok"])
    summary = daemon.call("summary")
    assert summary["archive"]["restarts"] == restarts
    assert daemon.workers() == worker
    assert summary["workers"]["restarts"] == 0


@contextmanager
def dying_over(daemon: Daemon, line: bytes, after: float = 0.0) -> Iterator[BinaryIO]:
    """Yield what a client reads that has asked ``line``, over which the archive is killed.

    It is after so many seconds.
    """
    pid = archive(daemon)
    assert pid
    with closing(connect(daemon.socket)) as client:
        os.kill(pid, signal.SIGSTOP)
        client.sendall(line)
        daemon.call("pid")
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
        yield client.makefile("rb")


def test_a_question_that_the_archive_dies_over_is_asked_again(daemon: Daemon) -> None:
    send(25)
    with dying_over(daemon, b"message wait --count 2 --timeout 20\nmessage count\n") as lines:
        until(lambda: archive(daemon))
        send(25)
        assert lines.readline().startswith(b"ID ")
        assert len([lines.readline() for _ in range(2)]) == 2
        assert lines.readline() == b"2\n"


def test_who_waits_has_the_time_that_is_left(daemon: Daemon) -> None:
    began = time.monotonic()
    with dying_over(daemon, b"message wait --timeout 12\n", after=8) as lines:
        assert lines.readline() == b"error: message wait: waited in vain\n"
        assert 11.9 < time.monotonic() - began < 18


@pytest.mark.parametrize(
    "line",
    [
        b"message delete --all\n",
        b"message wait --after latest\n",
        b"message expect-none --for 20\n",
        b"message follow\n",
    ],
)
def test_what_would_be_another_question_is_not_asked_again(daemon: Daemon, line: bytes) -> None:
    with dying_over(daemon, line) as lines:
        assert b"the archive is starting again" in lines.readline()
        assert lines.readline().startswith(b"help: ")


def test_who_follows_is_told_that_the_archive_has_died(daemon: Daemon) -> None:
    following = subprocess.Popen(
        [str(PROGRAMS / "mtactl"), "--socket", str(daemon.socket), "message", "follow", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with following, closing(connect(daemon.socket)) as client:
        client.sendall(b"message follow\n")
        assert following.stdout
        both = [following.stdout.fileno(), client.fileno()]
        while len(select.select(both, [], [], 0.1)[0]) < len(both):  # they may not follow yet
            send(25)
        os.kill(until(lambda: archive(daemon)), signal.SIGKILL)
        *_, told, _ = client.makefile("rb").readlines()
        assert told == b"error: the stream has ended: the archive is starting again\n"
        *_, last = following.stdout.read().splitlines()
        assert json.loads(last)["error"]["message"] == told.decode().strip()[len("error: ") :]
        assert following.stderr
        assert "message list --since ID" in following.stderr.read()
        assert following.wait() == 1


def test_a_question_that_ends_every_archive_is_not_asked_for_ever(daemon: Daemon) -> None:
    with closing(connect(daemon.socket)) as client:
        client.sendall(b"message wait --timeout 60\n")
        for _ in range(3):
            pid = until(lambda: archive(daemon))
            time.sleep(0.1)
            os.kill(pid, signal.SIGKILL)
            another(daemon, pid)
        assert client.makefile("rb").readline() == b"error: the archive is starting again\n"


def test_a_frozen_archive_holds_up_nothing_else(daemon: Daemon) -> None:
    pid = archive(daemon)
    assert pid
    with frozen(pid, daemon.store):
        waiting = connect(daemon.socket)
        waiting.sendall(b"message count\n")
        send(25)
        began = time.monotonic()
        for method in ("status", "listener.list", "security", "events"):
            daemon.call(method)
        assert time.monotonic() - began < 2
        gone = connect(daemon.socket)
        gone.sendall(b"message count\n")
        gone.close()
    assert waiting.makefile("rb").readline() == b"1\n"
    waiting.close()
    assert archive(daemon) == pid


def test_a_frozen_archive_does_not_hold_up_the_end(daemon: Daemon) -> None:
    pid = archive(daemon)
    assert pid
    with frozen(pid, daemon.store):
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 5
    assert not Path(f"/proc/{pid}").exists()


def test_the_archive_ends_last(daemon: Daemon) -> None:
    assert daemon.mtactl("shutdown", "--cut").returncode == 0
    assert daemon.process.wait(10) == 0
    ended = [each for each in daemon.events() if each["event"].endswith(".exited")]
    assert [each["event"] for each in ended] == ["worker.exited", "archive.exited"]
    assert [each["level"] for each in ended] == ["info", "info"]
    assert ended[-1]["status"] == 0


def test_levels_and_files_of_the_log_are_the_archives_too(started: Start, directory: Path) -> None:
    target = directory / "log" / "mtad.log"
    daemon = started(listen="127.0.0.1:25", extra=f"log: {{target: {target}, form: json}}\n")
    pid = until(lambda: archive(daemon))
    target.rename(target.with_suffix(".1"))
    daemon.call("log.reopen")
    until(lambda: Path(f"/proc/{pid}/fd/1").readlink() == target)


def test_who_follows_slowly_misses_nothing(daemon: Daemon) -> None:
    """One item is on its way: neither process holds what the reader does not read."""
    number = 200
    with closing(connect(daemon.socket)) as client:
        client.sendall(b'{"jsonrpc":"2.0","id":1,"method":"message.follow"}\n')
        lines = client.makefile("rb")
        assert json.loads(lines.readline())["result"] == {"ok": True}
        with smtplib.SMTP("127.0.0.1", 25) as sender:
            for each in range(number):
                recipients = [f"{name:060}@example.org" for name in range(100)]
                sender.sendmail("a@example.org", recipients, f"Subject: {each}\r\n\r\n")
        assert count(daemon) == number
        items = [json.loads(lines.readline())["params"] for _ in range(number)]
        assert [item["subject"] for item in items] == list(map(str, range(number)))
        assert sum(len(json.dumps(item)) for item in items) > 1_000_000


def test_a_stream_that_is_refused_has_not_begun(daemon: Daemon) -> None:
    with pytest.raises(CommandError, match="no field"):
        daemon.call("message.follow", query="subj:x")
    assert exchange(daemon.socket, b"message follow --query subj:x\n").startswith(b"error: ")


def test_followers_in_words(daemon: Daemon) -> None:
    with closing(connect(daemon.socket)) as client:
        client.sendall(b"message count\nmessage follow\n")
        lines = client.makefile("rb")
        assert lines.readline() == b"0\n"
        while not select.select([client], [], [], 0.1)[0]:  # it may not follow yet
            send(25)
        assert b"  sender@example.org  rcpt@example.com  test  " in lines.readline()


LIES = {
    "junk": b"\xff" * 100,
    "an order": encode({"type": "Stop", "grace": 0.0}),
    "an answer to nobody": encode(Answer(10**6, b"{}", False)),
    "an item to nobody": encode(Item(10**6, b"{}", False)),
    "a refusal to nobody": encode(Refusal(10**6, -32000, "no", "")),
    "a code of its own": encode(Refusal(0, 1, "no", "")),
    "a novel": encode(Refusal(0, -32000, "x" * 100_000, "")),
    "many troubles": encode(Health(("x",) * 100)),
    "hello again": encode(Hello()),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lie_ends_the_archive(daemon: Daemon, lie: bytes) -> None:
    pid = archive(daemon)
    assert pid
    with channel_of(pid) as channel:
        channel.send(lie)
    another(daemon, pid)
    assert count(daemon) == 0
    assert "Traceback" not in daemon.log.read_text()


@contextmanager
def asked(daemon: Daemon, line: bytes) -> Iterator[tuple[socket.socket, socket.socket, int]]:
    """Yield a client that has asked ``line``, the channel to answer by, and the ticket.

    The archive is frozen and the question taken from it.
    """
    pid = archive(daemon)
    assert pid
    with channel_of(pid) as channel, closing(connect(daemon.socket)) as client:
        os.kill(pid, signal.SIGSTOP)
        client.sendall(line)
        yield client, channel, msgspec.msgpack.decode(channel.recv(2**17))["ticket"]
    another(daemon, pid)


JSON = b'{"jsonrpc":"2.0","id":1,"method":"message.count"}\n'
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"count":0}}\n'


@pytest.mark.parametrize(
    ("line", "octets"),
    [
        (JSON, b'{"count":1}\n{"jsonrpc":"2.0","id":2,"result":{}}'),
        (b"message count\n", b"1\x1b[2J\n"),
        (b"message count\n", b"\x00"),
    ],
    ids=["a second line", "a cursor that moves", "a NUL"],
)
def test_octets_that_no_client_may_see(daemon: Daemon, line: bytes, octets: bytes) -> None:
    """The next archive is asked; nothing of them reaches the client."""
    with asked(daemon, line) as (client, channel, ticket):
        channel.send(encode(Answer(ticket, octets, False)))
        assert client.makefile("rb").readline() in {b"0\n", ANSWER}
    assert any(each["event"] == "archive.misbehaves" for each in daemon.events())


def test_an_answer_without_end(daemon: Daemon) -> None:
    """It is cut off at its bound, and the archive with it."""
    with asked(daemon, JSON) as (client, channel, ticket):
        piece, sent = encode(Answer(ticket, b" " * PIECE, True)), 0
        with suppress(BrokenPipeError, ConnectionResetError):
            while sent < 4 * MAX_ANSWER:
                sent += channel.send(piece)
        assert client.makefile("rb").readline() == ANSWER
        assert sent < 2 * MAX_ANSWER


def test_a_flood_holds_up_nobody(daemon: Daemon) -> None:
    """What it may say at any time, as fast as it can: the supervisor answers meanwhile."""
    pid = archive(daemon)
    assert pid
    slowest, ends = 0.0, time.monotonic() + 1.0
    with channel_of(pid) as channel, ControlClient(daemon.socket) as client:
        while time.monotonic() < ends:
            for _ in range(50):
                channel.send(encode(Health(("it is unwell",) * 16)))
            asked_at = time.monotonic()
            client.call("pid")
            slowest = max(slowest, time.monotonic() - asked_at)
        status: dict[str, Any] = client.call("status")
    assert slowest < 3.0
    assert status["problems"] == ["archive: it is unwell"] * 16
    assert status["ready"]
    send(25)

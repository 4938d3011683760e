"""A sender in the middle of its message when the listener is stopped, or the worker dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from harness.daemon import until
from harness.descriptors import opened
from harness.receiver import RECIPIENTS, SENDER, Receiver, message

pytestmark = [pytest.mark.integration, pytest.mark.root, pytest.mark.netns]

SENT = message("slow", 4_000_000)
CURL = ("curl", "--silent", "--show-error", "--upload-file", "message.eml", "smtp://127.0.0.1")
SECONDS = 4
"""How long an upload takes that comes to its end."""


@contextmanager
def slow_upload(mx: Receiver, seconds: int = 40) -> Iterator[subprocess.Popen[bytes]]:
    """Begin to send SENT, slowly; it is being received when this yields."""
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine: scripts/setup --test installs it")
    (mx.directory / "message.eml").write_bytes(SENT)
    rate = ["--limit-rate", str(len(SENT) // seconds)]
    people = ["--mail-from", SENDER, "--mail-rcpt", RECIPIENTS[0]]
    place = mx.daemon.store / "bodies"
    before = set(place.iterdir())
    with subprocess.Popen(
        [*CURL, *rate, *people], cwd=mx.directory, stderr=subprocess.PIPE
    ) as sender:
        # Beyond what is kept in memory: the message is in a file already, and not yet whole.
        until(lambda: set(place.iterdir()) - before)
        yield sender


def upload(mx: Receiver) -> bytes:
    """Send it at full speed; return what arrived."""
    people = ("--mail-from", SENDER, "--mail-rcpt", RECIPIENTS[0])
    return mx.deliver(*CURL, *people).content


def stop(mx: Receiver, *options: str) -> None:
    answer = mx.daemon.mtactl("listener", "stop", "mx", *options)
    assert answer.returncode == 0, answer.stderr


@pytest.fixture
def started_again(mx: Receiver) -> Iterator[None]:
    yield
    assert mx.daemon.mtactl("listener", "start", "mx").returncode == 0


@pytest.mark.usefixtures("started_again")
def test_a_drain_waits_for_a_slow_upload(mx: Receiver) -> None:
    with slow_upload(mx, SECONDS) as sender:
        stop(mx, "--drain", "30")
        other = mx.run("curl", "--silent", "smtp://127.0.0.1", "--max-time", "5")
        assert other.returncode == 7, "nobody else may connect"
        assert sender.poll() is None
        assert sender.wait(20) == 0
    (arrived,) = mx.take()
    assert arrived.content == SENT
    until(lambda: mx.daemon.call("listener.show", name="mx")["listener"]["state"] == "stopped")


@pytest.mark.parametrize("options", [("--drain", "0.2"), ("--cut",)], ids=["drained", "cut"])
def test_what_is_cut_off_is_not_kept_and_can_be_sent_again(
    mx: Receiver, options: tuple[str, ...]
) -> None:
    with slow_upload(mx) as sender:
        stop(mx, *options)
        assert sender.wait(20) != 0
    assert not mx.take(0)
    assert not list((mx.daemon.store / "bodies").glob("*.tmp"))
    assert mx.daemon.mtactl("listener", "start", "mx").returncode == 0
    assert upload(mx) == SENT


def test_a_message_dies_with_its_worker_unless_it_was_answered(mx: Receiver) -> None:
    answered = upload_and_keep(mx)
    with slow_upload(mx) as sender:
        (begun,) = (mx.daemon.store / "bodies").glob("*.tmp")
        (worker,) = (pid for pid in mx.daemon.workers() if str(begun) in opened(pid))
        os.kill(worker, signal.SIGKILL)
        assert sender.wait(20) != 0
    assert mx.daemon.messages() == answered
    again = mx.run(*CURL, "--mail-from", SENDER, "--mail-rcpt", RECIPIENTS[0])
    assert again.returncode == 0
    assert [one.content for one in mx.take(2)] == [SENT, SENT]


def upload_and_keep(mx: Receiver) -> list[bytes]:
    """Send it at full speed, and do not take it; return everything that is kept."""
    (mx.directory / "message.eml").write_bytes(SENT)
    done = mx.run(*CURL, "--mail-from", SENDER, "--mail-rcpt", RECIPIENTS[0])
    assert done.returncode == 0, done.stderr
    return mx.daemon.messages()

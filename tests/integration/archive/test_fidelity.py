"""What `message raw` gives is what was sent, octet for octet."""

from __future__ import annotations

import hashlib
import subprocess

import pytest
from harness.contents import CHUNKS, WHOLE_LINES
from harness.daemon import PROGRAMS, Daemon
from harness.sender import Sender, raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.integration, pytest.mark.root]

SETTINGS = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Line ends and dots in every place, and what is on both sides of them.
OCTETS = st.lists(
    st.one_of(
        st.sampled_from(
            [b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"\0", b"\xff", b"a"]
        ),
        st.binary(max_size=20),
    ),
    max_size=30,
).map(b"".join)


def told(daemon: Daemon) -> tuple[bytes, str, int]:
    """Return the newest message, with its sha256 and its size as a list has them."""
    (summary,) = daemon.call("message.list", limit=1)["messages"]
    return raw(daemon), summary["sha256"], summary["size"]


def whole(content: bytes) -> tuple[bytes, str, int]:
    return content, hashlib.sha256(content).hexdigest(), len(content)


@pytest.mark.parametrize("content", WHOLE_LINES.values(), ids=WHOLE_LINES)
def test_by_data(daemon: Daemon, sender: Sender, content: bytes) -> None:
    sender.data(content)
    assert told(daemon) == whole(content)


@pytest.mark.parametrize("content", CHUNKS.values(), ids=CHUNKS)
def test_by_bdat(daemon: Daemon, sender: Sender, content: bytes) -> None:
    sender.bdat(content)
    assert told(daemon) == whole(content)


@SETTINGS
@given(content=OCTETS)
def test_anything_by_data(daemon: Daemon, sender: Sender, content: bytes) -> None:
    lines = content.replace(b"\r\n.\r\n", b"\r\n.") + b"\r\n"
    sender.data(lines)
    assert raw(daemon) == lines


@SETTINGS
@given(chunks=st.lists(OCTETS, min_size=1, max_size=4))
def test_anything_by_bdat(daemon: Daemon, sender: Sender, chunks: list[bytes]) -> None:
    sender.bdat(*chunks)
    assert raw(daemon) == b"".join(chunks)


@pytest.mark.parametrize("name", ["every octet", "large", "empty"])
def test_mtactl_prints_the_octets_and_nothing_else(
    daemon: Daemon, sender: Sender, name: str
) -> None:
    sender.bdat(CHUNKS[name])
    command = [str(PROGRAMS / "mtactl"), "--socket", str(daemon.socket), "message", "raw", "latest"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert done.stdout == CHUNKS[name]
    assert done.stderr == b""


def test_a_damaged_message_is_not_exported(daemon: Daemon, sender: Sender) -> None:
    """The check can fail: one octet of a file is changed behind the store's back."""
    sender.bdat(CHUNKS["large"])
    newest = max((daemon.store / "bodies").iterdir())
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    failed = daemon.mtactl("message", "export", "--format", "eml", str(daemon.directory / "out"))
    assert failed.returncode == 1
    assert "has changed: its sha256 is" in failed.stderr
    newest.unlink()
    gone = daemon.mtactl("message", "raw", "latest")
    assert gone.returncode == 1
    assert "is gone" in gone.stderr
    which = daemon.call("message.cursor")["cursor"]
    assert not list((daemon.directory / "out").glob(f"*{which}*"))

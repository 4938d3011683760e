"""An upload that nobody goes on with is given up, and leaves nothing."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from harness.mail_db import kept

from mtad.archive import uploads
from mtad.archive.uploads import Uploads
from mtad.errors import CommandError


def growing(store: Path) -> list[Path]:
    return list(store.glob("bodies/*.tmp"))


async def test_one_that_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "IDLE_SECONDS", 0.01)
    room = Uploads(tmp_path, lambda _: None, -1)
    room.add("a", b"x" * 100_000, "")
    assert growing(tmp_path)
    for _ in range(1_000):
        await asyncio.sleep(0.01)
        if not growing(tmp_path):
            return
    pytest.fail("it is there for ever")


@pytest.mark.parametrize(
    ("limit", "octets", "envelope"),
    [("OCTETS", b"x" * 100_001, ""), ("ENVELOPE_CHARACTERS", b"", "x" * 100_001)],
)
async def test_one_that_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, octets: bytes, envelope: str
) -> None:
    monkeypatch.setattr(uploads, limit, 100_000)
    room = Uploads(tmp_path, lambda _: None, -1)
    room.add("a", octets[:90_000], envelope[:90_000])
    with pytest.raises(CommandError, match="more than 100000"):
        room.add("a", octets[90_000:], envelope[90_000:])
    assert not growing(tmp_path)
    room.add("a", b"from its beginning", "")


async def test_what_a_rule_once_said_is_not_done_again(tmp_path: Path) -> None:
    """Elsewhere it was relayed; here it is imported."""
    news = os.eventfd(0, os.EFD_NONBLOCK)
    room = Uploads(tmp_path, lambda _: None, news)
    told = {"sender": "a@example.com", "mail": {"forward": "192.0.2.1:25"}}
    room.add("a", b"x", json.dumps(told))
    await room.keep("a", "file")
    os.close(news)
    (one,) = kept(tmp_path)
    assert (one.envelope["sender"], one.envelope["mail"]) == ("a@example.com", None)

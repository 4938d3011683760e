"""What a tester reads in the log about a sender that was refused."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from harness.serving import serving


def _fields(caplog: pytest.LogCaptureFixture, name: str) -> dict[str, Any]:
    (record,) = (record for record in caplog.records if record.message == name)
    fields: dict[str, Any] = vars(record)["fields"]
    return fields


async def test_a_refused_message_is_logged_with_what_the_sender_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "mtad.smtp")
    async with serving() as served:
        client = await served.greeted()
        await client.begin()
        reply = await client.send(b"a\nb\r\n")
    fields = _fields(caplog, "message.refused")
    assert fields["reason"] == "Message refused: it has a bare LF"
    assert fields["reason"] in reply
    assert all(fields[key] for key in ("listener", "peer", "sender"))

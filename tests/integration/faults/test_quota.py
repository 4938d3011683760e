"""A quota of octets for each mailbox, whatever other recipients a message has."""

from __future__ import annotations

import smtplib
from collections.abc import Callable

import pytest
from harness.daemon import Daemon

pytestmark = [pytest.mark.integration, pytest.mark.root]

_RULES = """
rules:
  full: {at: message, when: {quota: 1000}, do: {reply: 452 4.2.2 Mailbox full}}
"""
_MESSAGE = b"Subject: x\r\n\r\n" + b"x" * 600 + b"\r\n"


def test_each_mailbox_has_a_quota_of_its_own(started: Callable[..., Daemon]) -> None:
    daemon = started(workers=2, extra=_RULES)

    def sent(*recipients: str) -> int:
        with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=10) as client:
            client.ehlo()
            client.mail("a@example.org")
            for recipient in recipients:
                client.rcpt(recipient)
            return client.data(_MESSAGE)[0]

    assert sent("alice@example.com", "bob@example.com") == 250
    assert sent("carol@example.com", "bob@example.com") == 452  # bob's is full
    assert sent("bob@example.com") == 452
    assert sent("ALICE@example.com") == 452
    assert sent("dave@example.com") == 250
    daemon.call("rule.reset", names=["full"])
    assert sent("bob@example.com") == 250

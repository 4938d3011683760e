"""A sender with a queue: each message is tried until it is accepted, and what happened is noted."""

from __future__ import annotations

import smtplib
import threading
import time
from typing import NamedTuple


class Try(NamedTuple):
    """One attempt: when it began, in seconds since the epoch, and what was said; 0: nothing."""

    at: float
    recipient: str
    code: int


class Retrying(threading.Thread):
    """Tries one message after the other, and again after ``pause`` seconds, until it is stopped."""

    def __init__(self, port: int, *recipients: str, pause: float = 0.2, subject: str = "m") -> None:
        super().__init__(daemon=True)
        self._port = port
        self._pause = pause
        self._subject = subject
        self._stopped = threading.Event()
        self._left = list(recipients)
        self.tries: list[Try] = []

    def run(self) -> None:
        """Try until nothing is left."""
        while self._left and not self._stopped.is_set():
            self._left = [one for one in self._left if not self._is_accepted(one)]
            self._stopped.wait(self._pause)

    def _is_accepted(self, recipient: str) -> bool:
        at = time.time()
        code = self._send(recipient)
        self.tries.append(Try(at, recipient, code))
        return code == 250

    def _send(self, recipient: str) -> int:
        """Return the code that decided it."""
        name = f"{self._subject}-{recipient}"
        content = f"Message-ID: <{name}>\r\nSubject: {name}\r\n\r\nhello\r\n"
        try:
            with smtplib.SMTP("127.0.0.1", self._port, timeout=5) as client:
                client.sendmail("sender@example.org", [recipient], content)
        except smtplib.SMTPRecipientsRefused as refused:
            return refused.recipients[recipient][0]
        except smtplib.SMTPResponseException as error:
            return max(0, error.smtp_code)
        except (OSError, smtplib.SMTPServerDisconnected):
            return 0
        return 250

    def of(self, recipient: str) -> list[Try]:
        """Return the attempts for one recipient."""
        return [one for one in self.tries if one.recipient == recipient]

    def stop(self) -> None:
        """End it, and wait for that."""
        self._stopped.set()
        self.join(10)

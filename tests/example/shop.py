"""An application that sends mail: whoever signs up gets a code and a link."""

from __future__ import annotations

import secrets
import smtplib
from email.message import EmailMessage


class Shop:
    """A shop that sends its mail by the server at ``host`` and ``port``."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._codes: dict[str, str] = {}

    def sign_up(self, address: str) -> None:
        """Send ``address`` what it takes to confirm it."""
        code = f"{secrets.randbelow(10**6):06}"
        self._codes[address] = code
        message = EmailMessage()
        message["From"] = "Shop <shop@example.org>"
        message["To"] = address
        message["Subject"] = "Welcome: confirm your address"
        message.set_content(
            f"Your code is {code}.\nOr follow https://shop.example.org/confirm?code={code}\n"
        )
        message.add_attachment("No refunds.\n", filename="terms.txt")
        with smtplib.SMTP(self._host, self._port, timeout=5) as client:
            client.send_message(message)

    def confirm(self, address: str, code: str) -> bool:
        """Whether ``code`` is the one that was sent to ``address``."""
        return self._codes.get(address) == code

"""Scenes of their own, where a sender is in trouble that replies do not tell of."""

from __future__ import annotations

import smtplib
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime

from cryptography import x509

from harness.scenes import Scene, message, whole
from harness.talk import ENDS, Talk


def interrupted(port: int) -> object:
    """What is said behind 354 to who sends no content, and whether that takes a second."""
    with Talk(port, patience=3) as talk:
        talk.reach("DATA")
        answer = talk.answer()
        return answer, min(whole(talk.seconds), 1), talk.answer()


def idle(port: int) -> object:
    """Whether a connection is ended for saying nothing."""
    with Talk(port, patience=3) as talk:
        talk.reach("EHLO")
        while (answer := talk.answer()) not in (*ENDS, "silence"):
            pass
        return answer in ENDS


def crowded(port: int) -> object:
    """The code that greets the second of two at the same time."""
    with Talk(port) as first:
        first.answer()
        with Talk(port) as second:
            return second.answer()[:3]


def blocked(port: int) -> object:
    """Whether who sends a large content has to wait."""
    with Talk(port) as talk:
        talk.reach("DATA")
        talk.socket.settimeout(2)
        with suppress(TimeoutError):
            for _ in range(256):
                talk.socket.sendall(b"x" * 65_534 + b"\r\n")
            return False
        return True


def at_rcpt(source: str) -> Scene:
    """The answer to RCPT that a client at this address gets."""

    def scene(port: int) -> object:
        with Talk(port, source=source) as talk:
            return talk.reach("RCPT")

    return scene


def is_kept(recipient: str) -> Scene:
    """Whether a message is answered with the name that it is kept by."""

    def scene(port: int) -> object:
        with Talk(port) as talk:
            talk.answer()
            return "1h" in [talk.say(line) for line in message(recipient=recipient)][-1]

    return scene


def unanswered(port: int) -> object:
    """Whether who connects is not even greeted, for a second."""
    with Talk(port, patience=1) as talk:
        return talk.answer() == "silence"


def in_backlog(port: int) -> object:
    """Whether who connects is not greeted at first, but in the end."""
    with Talk(port, patience=0.5) as talk:
        first = talk.answer()
        talk.socket.settimeout(10)
        return first == "silence" and talk.answer()[:3] == "220"


def drips(port: int) -> object:
    """Whether one to four octets of the greeting come in three seconds."""
    with Talk(port) as talk:
        begun, octets = time.monotonic(), b""
        while (left := begun + 3 - time.monotonic()) > 0:
            talk.socket.settimeout(left)
            with suppress(TimeoutError):
                octets += talk.socket.recv(100)
        return 1 <= len(octets) <= 4


def lost_in_content(port: int) -> object:
    """What comes of a content of 20,000 octets without an end."""
    with Talk(port, patience=1) as talk:
        talk.reach("DATA")
        return talk.say("x" * 20_000)


def said_to(command: str) -> Scene:
    """All octets that answer a command, up to the end or for a second."""

    def scene(port: int) -> object:
        with Talk(port, patience=1) as talk:
            talk.reach("EHLO")
            return talk.rest(command)

    return scene


def slower(port: int) -> object:
    """How long RCPT takes at first, after one error, and after two, in units of 0.4 seconds."""
    with Talk(port) as talk:
        talk.reach("MAIL")
        units = []
        for _ in range(3):
            talk.say("RCPT")
            units.append(whole(talk.seconds / 0.4))
            talk.say("NONSENSE")
        return units


def certificate(port: int) -> object:
    """Whether the certificate that STARTTLS shows is of now."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", port, timeout=15) as client:
        client.starttls(context=context)
        assert isinstance(client.sock, ssl.SSLSocket)
        shown = x509.load_der_x509_certificate(client.sock.getpeercert(binary_form=True) or b"")
    return shown.not_valid_before_utc < datetime.now(UTC) < shown.not_valid_after_utc


def handshake(port: int) -> object:
    """Whether a TLS handshake comes to an end."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with Talk(port, patience=2) as talk:
        talk.reach("STARTTLS")
        try:
            context.wrap_socket(talk.socket).close()
        except TimeoutError:
            return False
        return True

"""The mechanisms of AUTH (RFC 4954), each as a generator of challenges.

PLAIN is RFC 4616, CRAM-MD5 RFC 2195, XOAUTH2 Google's (developers.google.com/gmail/imap/xoauth2-
protocol), and LOGIN what everybody makes of draft-murchison-sasl-login. Names and passwords are
compared as they are, without SASLprep (RFC 4013).
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Callable, Generator, Mapping
from typing import NamedTuple

from mtad.smtp.reply import CHALLENGE_LIMIT, Refusal, Reply

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_CRAM = re.compile(rb"(.+) ([0-9a-f]{32})", re.DOTALL)
_XOAUTH2 = re.compile(rb"user=([^\x01]+)\x01auth=[Bb]earer ([!-~]+)\x01\x01")
_XOAUTH2_FAILURE = b'{"status":"401","schemes":"bearer"}'

Steps = Generator[bytes, bytes, str]
"""Yields challenges, is sent responses, and returns the identity; raises Refusal for none."""


class NotProved(Refusal):
    """The credentials are not right; ``name`` is the user's whose they should be."""

    def __init__(self, name: str) -> None:
        super().__init__(535, "5.7.8", "Authentication credentials invalid")
        self.name = name


class Users:
    """Who may log in: the names of ``users`` with their passwords or tokens; None: anyone.

    Neither the time that an answer takes nor the repr of anything tells a password, or whether
    there is a user of a name.
    """

    __slots__ = ("_key", "_nobody", "_secrets")

    def __init__(self, users: Mapping[str, str] | None) -> None:
        self._secrets = (
            None if users is None else {name: secret.encode() for name, secret in users.items()}
        )
        self._nobody = secrets.token_bytes(16)
        self._key = secrets.token_bytes(32)

    def accept(self, name: str, password: str) -> bool:
        """Whether ``password`` is that of ``name``."""
        return self._accept(name, lambda secret: secret, password.encode())

    def accept_digest(self, name: str, challenge: bytes, digest: bytes) -> bool:
        """Whether ``digest`` is what the password of ``name`` makes of a CRAM-MD5 challenge."""
        return self._accept(
            name, lambda secret: hmac.new(secret, challenge, "md5").hexdigest().encode(), digest
        )

    def permit(self, name: str, authorization: str) -> bool:
        """Whether ``name`` may act as ``authorization``: as itself ("" or its name); or anyone."""
        return self._secrets is None or authorization in ("", name)

    def _accept(self, name: str, expected: Callable[[bytes], bytes], given: bytes) -> bool:
        if self._secrets is None:
            return True
        # An unknown user costs what a known one does, and has a password that nobody knows.
        right = expected(self._secrets.get(name, self._nobody))
        # Hashed, both are of one length.
        return hmac.compare_digest(self._hash(right), self._hash(given))

    def _hash(self, octets: bytes) -> bytes:
        return hmac.digest(self._key, octets, "sha256")


class Exchange:
    """One AUTH command, from its first argument to its end.

    ``begin`` and then ``respond`` return the 334 to send next, or the identity (str) of the client
    once it has proved it.
    """

    __slots__ = ("_mechanism", "_steps")

    def __init__(self, mechanism: str, users: Users, hostname: str) -> None:
        """``mechanism`` is a name of MECHANISMS; ``hostname`` goes into CRAM-MD5's challenge."""
        self._mechanism = MECHANISMS[mechanism]
        self._steps = self._mechanism.steps(users, hostname)

    def begin(self, initial: str | None) -> Reply | str:
        """Take the initial response of the AUTH command, None without one.

        Raises:
            Refusal: 501, or 535 for credentials that are not right; the command is over.
        """
        challenge = next(self._steps)
        if initial is None:
            return _challenge(challenge)
        if not self._mechanism.initial_response:
            raise Refusal(501, "5.7.0", "This mechanism has no initial response")
        return self._send(b"" if initial == "=" else decode(initial))

    def respond(self, line: str) -> Reply | str:
        """Take the client's answer to a challenge, without its CRLF. Raises as ``begin``."""
        if line == "*":
            raise Refusal(501, "5.7.0", "Authentication cancelled")
        return self._send(decode(line))

    def _send(self, response: bytes) -> Reply | str:
        try:
            return _challenge(self._steps.send(response))
        except StopIteration as done:
            identity: str = done.value
            return identity


def decode(line: str) -> bytes:
    """Return the octets of a line in base64, strictly (RFC 4648 section 4).

    Raises:
        Refusal: 501 5.5.2; 500 5.5.6 for more than RFC 4954 section 4 wants to be taken.
    """
    if len(line) > CHALLENGE_LIMIT:
        raise Refusal(500, "5.5.6", "Authentication exchange line is too long")
    try:
        return a2b_base64(line, strict_mode=True)
    except ValueError:
        raise Refusal(501, "5.5.2", "Not base64") from None


def _challenge(octets: bytes) -> Reply:
    return Reply(334, "", b64encode(octets).decode())


def _plain(users: Users, _: str) -> Steps:
    fields = (yield b"").split(b"\0")
    if len(fields) != 3:
        raise _malformed("PLAIN has an authorization identity, a name and a password")
    authorization, name, password = _text(fields[0]), _name(fields[1]), _text(fields[2])
    if not password:
        raise _malformed("The password is empty")
    return _identity(name, users.accept(name, password) and users.permit(name, authorization))


def _login(users: Users, _: str) -> Steps:
    name = _name((yield b"Username:"))
    password = _text((yield b"Password:"))
    return _identity(name, users.accept(name, password))


def _cram_md5(users: Users, hostname: str) -> Steps:
    challenge = f"<{secrets.token_hex(16)}@{hostname}>".encode()
    response = _CRAM.fullmatch((yield challenge))
    if response is None:
        raise _malformed("CRAM-MD5 has a name, a space and 32 hexadecimal digits in lower case")
    name = _name(response[1])
    return _identity(name, users.accept_digest(name, challenge, response[2]))


def _xoauth2(users: Users, _: str) -> Steps:
    response = _XOAUTH2.fullmatch((yield b""))
    if response is None:
        raise _malformed("XOAUTH2 has user=NAME^Aauth=Bearer TOKEN^A^A, ^A being octet 1")
    name = _name(response[1])
    accepted = users.accept(name, response[2].decode())
    if not accepted:
        yield _XOAUTH2_FAILURE  # whatever the client says to it
    return _identity(name, accepted)


class Mechanism(NamedTuple):
    """How a mechanism runs, and whether the client may speak first (RFC 4954 section 4)."""

    steps: Callable[[Users, str], Steps]
    initial_response: bool = True


MECHANISMS = {
    "PLAIN": Mechanism(_plain),
    "LOGIN": Mechanism(_login),
    "CRAM-MD5": Mechanism(_cram_md5, initial_response=False),
    "XOAUTH2": Mechanism(_xoauth2),
}


def _identity(name: str, accepted: bool) -> str:
    if not accepted:
        raise NotProved(name)
    return name


def _name(octets: bytes) -> str:
    name = _text(octets)
    if not name or _CONTROL.search(name):
        raise _malformed("The name is empty, or has control characters")
    return name


def _text(octets: bytes) -> str:
    if b"\0" in octets:
        raise _malformed("A NUL in a name or password")
    # Replaced, not caught: the exception would carry the password.
    text = octets.decode("utf-8", "replace")
    if text.encode() != octets:
        raise _malformed("Names and passwords are UTF-8")
    return text


def _malformed(text: str) -> Refusal:
    return Refusal(501, "5.5.2", text)

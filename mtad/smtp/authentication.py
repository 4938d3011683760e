"""AUTH (RFC 4954)."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from aiosmtpd.smtp import MISSING, AuthResult

from mtad.smtp.dialogue import Dialogue
from mtad.smtp.reply import Refusal, Reply, encode
from mtad.smtp.sasl import Exchange, NotProved, decode

_SUCCESS = encode(Reply(235, "2.7.0", "Authentication successful"))
_INVALID = Reply(535, "5.7.8", "Authentication credentials invalid")


class Authentication(Dialogue):
    """Who the client is."""

    _failed = 0

    async def auth(self, argument: str) -> None:
        """Let the client prove who it is, by a mechanism of the profile or of the handler."""
        name, _, initial = argument.partition(" ")
        self._check_auth(name)
        try:
            status = await self._authenticated(name.upper(), initial or None)
        except Refusal as refusal:
            user = refusal.name if isinstance(refusal, NotProved) else ""
            self.do_auth(encode(refusal.reply), user=user, failed=True)
        else:
            if status is not None:
                self.do_auth(status, user=self.user, failed=False)

    def do_auth(self, status: bytes, *, user: str, failed: bool) -> None:
        """Say what has come of it; ``user`` is who the client is, or says to be."""
        self.reply(status)
        if failed:
            self._failed += 1
            if self._failed == self.service.profile.auth.attempts:
                self.goodbye(encode(Reply(421, "4.7.0", "Too many failed attempts")))

    def _check_auth(self, name: str) -> None:
        if not (self.session.host_name and self.session.extended_smtp):
            raise Refusal(503, "5.5.1", "Send EHLO first")
        if self.session.authenticated:
            raise Refusal(503, "5.5.1", "Already authenticated")
        if self.in_transaction:
            raise Refusal(503, "5.5.1", "AUTH within a transaction")
        if not (self.is_secure or self.service.profile.auth.before_tls):
            how = (
                "say STARTTLS first" if self.service.offers("STARTTLS") else "there is no TLS here"
            )
            raise Refusal(538, "5.7.11", f"Encryption required: {how}")
        if not name:
            raise Refusal(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")

    async def _authenticated(self, name: str, initial: str | None) -> bytes | None:
        """Run the exchange; return the reply, None if it is sent already."""
        words = [name] if initial is None else [name, initial]
        if "AUTH" in self.service.hooks:
            status = await self.ask("AUTH", words)
            if status is not MISSING:
                return self.said(status)
        method = self.service.handler_mechanisms.get(name)
        if method is not None:
            return self._judged(await method(self, words))
        if name not in self.service.profile.auth.mechanisms:
            raise Refusal(504, "5.5.4", "Unrecognized authentication mechanism")
        exchange = Exchange(name, self.service.users, self.service.hostname)
        step = exchange.begin(initial)
        while not isinstance(step, str):
            self.reply(encode(step))
            line = await self.next_line()
            step = exchange.respond(line.decode("latin-1"))
        self.log_in(step.encode())
        return _SUCCESS

    def _judged(self, result: Any) -> bytes | None:
        """Return the reply to what a handler's ``auth_`` method has returned, old style or new."""
        if result is None:
            return None
        if isinstance(result, AuthResult):
            if not result.success:
                if result.handled:
                    return None
                if result.message:
                    return self.said(result.message)
                raise Refusal(*_INVALID)
            self.log_in(getattr(result.auth_data, "login", None), result.auth_data)
            return self.said(result.message) if result.message else _SUCCESS
        if result is MISSING or result is False:
            raise Refusal(*_INVALID)
        self.log_in(result, None)
        return _SUCCESS

    async def challenge_auth(
        self,
        challenge: str | bytes,
        encode_to_b64: bool = True,
        log_client_response: bool = False,
    ) -> Any:
        """Send a challenge; return the client's response, MISSING when that was answered 501."""
        octets = challenge.encode() if isinstance(challenge, str) else challenge
        text = b64encode(octets) if encode_to_b64 else octets
        self.reply(encode(Reply(334, "", text.decode("latin-1"))))
        line = (await self.next_line()).decode("latin-1")
        try:
            if line == "*":
                raise Refusal(501, "5.7.0", "Authentication cancelled")
            return decode(line)
        except Refusal as refusal:
            self.reply(encode(refusal.reply))
            return MISSING

"""The commands that carry no mail: greetings, questions, and what changes the session."""

from __future__ import annotations

import logging
import ssl
from typing import Any, cast

from mtad.log import event
from mtad.smtp.dialogue import Dialogue
from mtad.smtp.frame import log
from mtad.smtp.lines import Run
from mtad.smtp.reply import Refusal, Reply, encode, from_hook
from mtad.smtp.stage import Stage
from mtad.smtp.xclient import Client

_OK = encode(Reply(250, "2.0.0", "Ok"))
_BYE = encode(Reply(221, "2.0.0", "Bye"))
_READY_FOR_TLS = encode(Reply(220, "2.0.0", "Ready to start TLS"))
_CANNOT_VERIFY = encode(Reply(252, "2.1.5", "Cannot verify, but will accept the message"))
_HELP = encode(
    Reply(
        214,
        "2.0.0",
        "This is mtad, a test MTA: what it accepts it keeps, and relays nowhere\n"
        "Commands: HELO EHLO LHLO MAIL RCPT DATA BDAT RSET VRFY HELP NOOP QUIT\n"
        "and, where EHLO announces them, STARTTLS AUTH XCLIENT",
    )
)


class Commands(Dialogue):
    """Everything but mail and AUTH."""

    def helo(self, name: str) -> Run:
        """Greet a client that wants no extensions (RFC 5321 section 4.1.1.1)."""
        self._check_greeting("HELO")
        return self.do_helo(name)

    def do_helo(self, name: str) -> Run:
        """Greet a client that may be greeted."""
        self.end_transaction()
        self.session.extended_smtp = False
        if "HELO" in self.service.hooks:
            return self._helo_by_hook(name)
        self.session.host_name = name
        self.reply(encode(Reply(250, "", self.service.hostname)))
        return None

    async def _helo_by_hook(self, name: str) -> None:
        """Let the handler take the name, or not; MISSING: as if there were no hook."""
        reply = await self.hook("HELO", b"", name)
        if not reply:
            self.session.host_name = name
        self.reply(reply or encode(Reply(250, "", self.service.hostname)))

    def ehlo(self, hostname: str) -> Run:
        """Greet a client and say what is served (RFC 5321 section 4.1.1.1)."""
        self._check_greeting("EHLO")
        return self.do_ehlo(hostname)

    def lhlo(self, hostname: str) -> Run:
        """Greet, as EHLO does (RFC 2033 section 4.1)."""
        self._check_greeting("LHLO")
        return self.do_ehlo(hostname)

    def _check_greeting(self, verb: str) -> None:
        if self.service.is_lmtp and verb != "LHLO":
            raise Refusal(500, "5.5.1", "This is LMTP: say LHLO")
        if verb == "LHLO" and not self.service.is_lmtp:
            raise Refusal(500, "5.5.1", "This is SMTP: say EHLO")

    def do_ehlo(self, name: str) -> Run:
        """Greet a client that may be told what is served."""
        self.end_transaction()
        session = self.session
        session.extended_smtp = True
        lines, reply = self.service.hello(self.is_secure, self.is_trusted)
        if "EHLO" in self.service.hooks:
            return self._hello_by_hook(name, lines)
        session.host_name = name
        self.reply(reply)
        return None

    async def _hello_by_hook(self, name: str, lines: list[str]) -> None:
        answer = [f"250-{line}" for line in lines]
        if self._ehlo_hook_ver == "old":  # four arguments, and only the last line
            answer.append(await self.ask("EHLO", name))
        else:
            answer[-1] = f"250 {lines[-1]}"
            answer = await self.ask("EHLO", name, answer)
        self.reply(from_hook("\r\n".join(answer), enhanced=False))

    @property
    def is_trusted(self) -> bool:
        """Whether the client may use XCLIENT."""
        networks = self.service.xclients
        if not networks:
            return False
        address = self.connected_address  # whatever an earlier XCLIENT has said
        return (address[0] if isinstance(address, tuple) else None) in networks

    def noop(self, argument: str) -> Run:
        """Do nothing (RFC 5321 section 4.1.1.9)."""
        return self.answer("NOOP", _OK, argument or None)

    def rset(self, _: None) -> Run:
        """Give up the transaction (RFC 5321 section 4.1.1.5)."""
        self.end_transaction()
        return self.answer("RSET", _OK)

    def quit(self, _: None) -> Run:
        """Say goodbye (RFC 5321 section 4.1.1.10)."""
        if "QUIT" in self.service.hooks:
            return self._quit_by_hook()
        self.reply(_BYE)
        self.stage(Stage.QUIT)
        self.end()
        return None

    async def _quit_by_hook(self) -> None:
        self.reply(await self.hook("QUIT", _BYE))
        self.stage(Stage.QUIT)
        self.end()

    def help(self, _: str) -> Run:
        """Tell what is here (RFC 5321 section 4.1.1.8)."""
        self.reply(_HELP)
        return None

    def vrfy(self, argument: str) -> Run:
        """Neither confirm nor deny (RFC 5321 section 3.5.3)."""
        if not argument:
            raise Refusal(501, "5.5.4", "Syntax: VRFY user")
        self.check_authenticated()  # a handler may tell who is here
        return self.do_vrfy(argument)

    def do_vrfy(self, argument: str) -> Run:
        """Answer a client that may ask."""
        return self.answer("VRFY", _CANNOT_VERIFY, argument)

    def expn(self, _: str) -> Run:
        """Refuse: there are no lists here (RFC 5321 section 3.5.2)."""
        raise Refusal(502, "5.5.1", "There are no mailing lists here")

    def etrn(self, _: str) -> Run:
        """Refuse: there is no queue here (RFC 1985)."""
        raise Refusal(502, "5.5.1", "There is no queue here: nothing is relayed")

    def starttls(self, argument: str) -> Run:
        """Encrypt the rest of the connection (RFC 3207)."""
        if argument:
            raise Refusal(501, "5.5.4", "Syntax: STARTTLS")
        if self.is_secure:
            raise Refusal(503, "5.5.1", "TLS is active")
        return self.do_starttls()

    def do_starttls(self) -> Run:
        """Encrypt a connection that is not encrypted yet."""
        self.reply(_READY_FOR_TLS)
        if dropped := self.drop_input():
            # What came in clear must not be taken for something that came encrypted (section 6).
            event(log, logging.WARNING, "starttls.injection", peer=self.client)
            self.stage(Stage.IGNORED, str(dropped))
        self.flush()
        self.end_transaction()
        # Without a context there is no STARTTLS.
        self.secure(cast("ssl.SSLContext", self.service.context))
        return None

    def xclient(self, client: Client) -> Run:
        """Let a trusted client say whom it speaks for (Postfix, XCLIENT_README)."""
        if not self.is_trusted:
            raise Refusal(550, "5.7.0", "XCLIENT is not allowed from your address")
        if self.in_transaction:
            raise Refusal(503, "5.5.1", "XCLIENT within a transaction")
        return self.do_xclient(client)

    def do_xclient(self, client: Client) -> Run:
        """Take the word of a client that may give it."""
        self.become(client)
        self.stage(Stage.BECAME, self.client)
        self.reply(self.service.greeting)
        return None

    def become(self, client: Client) -> None:
        """Begin anew as ``client``."""
        told: Any = self.client_address
        host, port = told[:2] if isinstance(told, tuple) else ("", 0)
        if isinstance(client.addr, str):
            host = client.addr
        if isinstance(client.port, int):
            port = client.port
        self.begin_anew()
        self.told_address = (host, port)
        if isinstance(client.login, str):
            self.log_in(client.login.encode())
        if isinstance(client.helo, str):
            self.session.host_name = client.helo
            self.session.extended_smtp = client.proto != "SMTP"

"""Rules for a TLS handshake: asked when the ClientHello has come, which has to be answered."""

from __future__ import annotations

import logging
import ssl
from functools import partial

from msgspec.structs import replace

from mtad.errors import TlsError
from mtad.log import event
from mtad.model.rules.values import At, Close, Do, Moment, TlsFault
from mtad.smtp.faults.acting import Acting
from mtad.smtp.faults.answers import Raw, answer, ends
from mtad.smtp.faults.facts import facts_of
from mtad.smtp.faults.tls_records import alert
from mtad.smtp.frame import log
from mtad.smtp.stage import Stage
from mtad.tls.faults import fault_context

_TLS = At(Moment.TLS)


class Handshakes(Acting):
    """The moment TLS."""

    def secure(self, context: ssl.SSLContext) -> None:
        """Shake hands next, if a rule lets it."""
        if self._ended:
            return
        self.connection.await_hello(partial(self._take_hello, context))

    def _take_hello(self, context: ssl.SSLContext, octets: bytes) -> None:
        self._input = octets
        self.at_moment(_TLS, facts_of(self), partial(self._answer_hello, context))

    def _answer_hello(self, context: ssl.SSLContext, do: Do) -> None:
        """Answer as a rule says, or shake hands: what a rule says instead is said in clear."""
        hello, self._input = self._input, b""
        fault = do.tls
        if fault is not None and fault.alert is not None:
            # Both sides close after an alert (RFC 8446 section 6.2).
            self.say((Raw(alert(fault.alert)),), do if ends(do) else replace(do, close=Close.FIN))
        elif do.raw is not None or ends(do):
            self.say(answer(do) or (), do if ends(do) else replace(do, silent=True))
        elif fault is None:
            self._shake_hands(context, hello)
        else:
            self._shake_hands_with(fault, hello)

    def _shake_hands_with(self, fault: TlsFault, hello: bytes) -> None:
        try:
            context = fault_context(self.service.profile.tls, fault, self.automatic_tls)
        except TlsError as error:
            # Not with the profile's own: a sender that fails to object would pass the test.
            listener, peer = self.service.name, self.client
            reason = str(error)
            event(log, logging.ERROR, "rule.failed", listener=listener, peer=peer, reason=reason)
            self.stage(Stage.FAULT, error.message)
            self.connection.abort()
        else:
            self._shake_hands(context, hello)

    def _shake_hands(self, context: ssl.SSLContext, hello: bytes) -> None:
        super().secure(context)
        self.connection.unwrap(hello)

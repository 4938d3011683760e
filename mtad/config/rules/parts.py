"""Those options of ``do`` that are mappings.

What is said here to be a default is that of mtad.model.rules.values.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from mtad.config.profile_values import ClientCertificatesWord, TlsVersion
from mtad.config.rules.action_values import Alert, BounceStatus, BounceText, Flaw, Hop
from mtad.config.rules.reading import clash
from mtad.config.rules.values import Growth, SomeTime
from mtad.config.stanza import Stanza
from mtad.config.values import Switch, refuse
from mtad.model.rules import values

_TARPIT, _BOUNCE = values.Tarpit(), values.Bounce("")


class Tarpit(Stanza):
    """A delay that grows with the session's errors: `base * growth ** errors` seconds."""

    base: SomeTime = Field(_TARPIT.base, description="The delay while there are no errors.")
    growth: Growth = Field(_TARPIT.growth, description="By what each error multiplies it.")
    most: SomeTime = Field(_TARPIT.most, description="The longest delay.")

    def value(self) -> values.Tarpit:
        """Return this as the rest of the program knows it."""
        return values.Tarpit(**dict(self))


class Shutter(Stanza):
    """A fault of the whole listener, for some time; one of the two."""

    close: SomeTime | None = Field(
        None, description="How long the listener is closed: connections are refused."
    )
    deaf: SomeTime | None = Field(
        None, description="How long it accepts nobody: connections wait in the backlog."
    )

    @model_validator(mode="after")
    def _fits(self) -> Shutter:
        if (self.close is None) == (self.deaf is None):
            raise refuse("one of close and deaf is needed", "{close: 20} or {deaf: 20}, in seconds")
        return self

    def value(self) -> values.Shutter:
        """Return this as the rest of the program knows it."""
        return values.Shutter(self.close or self.deaf or 0.0, deaf=self.deaf is not None)


class TlsFault(Stanza):
    """Another TLS than the profile's; what is null is the profile's."""

    certificate: Flaw | None = Field(
        None, description="What is wrong with the certificate that is shown."
    )
    minimum_version: TlsVersion | None = Field(
        None, description="The oldest version that is spoken."
    )
    maximum_version: TlsVersion | None = Field(
        None, description="The newest version that is spoken."
    )
    client_certificates: ClientCertificatesWord | None = Field(
        None, description="Whether clients are to show a certificate."
    )
    alert: Alert | None = Field(
        None,
        description="The alert that answers the ClientHello, by name or number (RFC 8446 section "
        "6); there is no handshake then.",
    )

    @model_validator(mode="after")
    def _fits(self) -> TlsFault:
        if not (given := self.model_fields_set):
            raise refuse("a TLS fault without an option", "such as {certificate: expired}")
        if self.alert is not None and len(given) > 1:
            raise clash("alert", "alert ends the handshake", "take the other options out")
        if (self.minimum_version or "0") > (self.maximum_version or "9"):
            reason = f"the versions end at {self.maximum_version}, before {self.minimum_version}"
            raise clash("maximum_version", reason, "exchange the two")
        return self

    def value(self) -> values.TlsFault:
        """Return this as the rest of the program knows it."""
        return values.TlsFault(
            self.certificate,
            self.minimum_version or "",
            self.maximum_version or "",
            self.client_certificates or "",
            self.alert,
        )


class Bounce(Stanza):
    """A delivery status notification (RFC 3464) to the sender of a message that was taken."""

    hop: Hop = Field(description="Where it is sent.")
    status: BounceStatus = Field(_BOUNCE.status, description="The enhanced status code in it.")
    text: BounceText = Field(_BOUNCE.text, description="The reason in it.")

    def value(self) -> values.Bounce:
        """Return this as the rest of the program knows it."""
        return values.Bounce(**dict(self))


class Mail(Stanza):
    """What becomes of a message that is answered 250, besides being kept.

    `mail: discard` and `mail: hold` are short for `{discard: yes}` and `{hold: yes}`.
    """

    discard: Switch = Field(False, description="Whether it is thrown away.")
    hold: Switch = Field(False, description="Whether it waits until it is released.")
    forward: Hop | None = Field(None, description="Where it is relayed to.")
    bounce: Bounce | None = Field(None)

    @model_validator(mode="after")
    def _fits(self) -> Mail:
        wanted = [name for name, value in self if value]
        if not wanted:
            raise refuse("nothing is said of the mail", "such as discard or {forward: HOST:PORT}")
        if len(wanted) > 1 and wanted != ["hold", "forward"]:
            raise refuse(f"{' and '.join(wanted)} exclude each other", f"keep {wanted[-1]}")
        return self

    def value(self) -> values.Mail:
        """Return this as the rest of the program knows it."""
        bounce = None if self.bounce is None else self.bounce.value()
        return values.Mail(self.discard, self.hold, self.forward or "", bounce)

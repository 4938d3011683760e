"""The options of a profile: how the listeners that name it treat their senders.

What is said here to be a default is that of mtad.model.profile.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mtad.config.profile_values import (
    ClientCertificatesWord,
    Count,
    EarlyWord,
    Extensions,
    Handler,
    Mechanisms,
    Network,
    NewlinesPolicy,
    RunRules,
    TlsVersion,
    TranscriptsWord,
    Users,
    passwords,
)
from mtad.config.rules.schema import Rule
from mtad.config.shorthand import InShort, Word
from mtad.config.stanza import Stanza
from mtad.config.values import AbsolutePath, Hostname, Name, Seconds, Size, Switch, refuse
from mtad.model import profile
from mtad.model.profile import EXTENSIONS, ClientCertificates, Newlines

_PROFILE = profile.Profile()
_TLS, _AUTH, _LIMITS, _TIMEOUTS = _PROFILE.tls, _PROFILE.auth, _PROFILE.limits, _PROFILE.timeouts

_Positive = Annotated[Seconds, Field(gt=0)]


class KeyPair(Stanza):
    """A certificate and its private key, as PEM files."""

    certificate: AbsolutePath = Field(
        description="The server's own certificate, and those between it and the CA's."
    )
    key: AbsolutePath = Field(description="Its private key, not encrypted.")


class Tls(Stanza):
    """STARTTLS (RFC 3207), and the TLS of an smtps listener (RFC 8314).

    `tls: auto` is short for a mapping with nothing but defaults, `tls: off` for one with
    `certificates: []`.
    """

    certificates: Annotated[list[KeyPair] | None, Word("auto", list, "a list of mappings")] = Field(
        None,
        description="`auto`: a certificate of a test CA that the daemon makes, see `mtactl tls "
        "ca`. A list of `{certificate: FILE, key: FILE}`: the first is for clients whose SNI names "
        "no other. `[]`: no TLS.",
        json_schema_extra={"default": "auto"},
    )
    minimum_version: TlsVersion = Field(
        _TLS.minimum_version, description="The oldest version that is spoken."
    )
    client_certificates: ClientCertificatesWord = Field(
        _TLS.client_certificates, description="Whether clients are to show a certificate."
    )
    client_ca: AbsolutePath | None = Field(
        None, description="A PEM file of the CAs that vouch for certificates of clients."
    )
    required: Switch = Field(
        _TLS.required, description="Whether mail is taken only after STARTTLS."
    )

    @model_validator(mode="after")
    def _fits(self) -> Tls:
        if self.required and self.certificates == []:
            raise refuse("required, without certificates", "write certificates: auto")
        if self.client_certificates is not ClientCertificates.NONE and self.client_ca is None:
            raise refuse(
                f"client_certificates: {self.client_certificates} needs client_ca",
                "name a PEM file with the CA of the clients",
            )
        return self

    def value(self, automatic: profile.KeyPair) -> profile.Tls:
        """Return this as the rest of the program knows it; ``automatic`` is for ``auto``."""
        pairs = (
            (automatic,)
            if self.certificates is None
            else tuple(
                profile.KeyPair(str(pair.certificate), str(pair.key)) for pair in self.certificates
            )
        )
        return profile.Tls(
            key_pairs=pairs,
            minimum_version=self.minimum_version,
            client_certificates=self.client_certificates,
            client_ca="" if self.client_ca is None else str(self.client_ca),
            required=self.required,
        )


class Auth(Stanza):
    """Who may log in (AUTH, RFC 4954)."""

    users: Annotated[Users | None, Word("any", dict, "a mapping of names to passwords")] = Field(
        None,
        description="Names and their passwords (tokens, for XOAUTH2), which are never shown; "
        "`any`: whoever says anything.",
        json_schema_extra={"default": "any"},
    )
    mechanisms: Mechanisms = Field(
        list(_AUTH.mechanisms), description="The SASL mechanisms, in the order announced."
    )
    before_tls: Switch = Field(
        _AUTH.before_tls, description="Whether AUTH is announced and taken without TLS."
    )
    required: Switch = Field(_AUTH.required, description="Whether mail is taken only after AUTH.")
    attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        _AUTH.attempts, description="How many attempts may fail before the session is ended."
    )

    @model_validator(mode="after")
    def _fits(self) -> Auth:
        if self.required and not self.mechanisms:
            raise refuse("required, without mechanisms", "name one")
        if self.required and self.users == {}:
            raise refuse("required, without users", "name one, or write users: any")
        return self

    def value(self) -> profile.Auth:
        """Return this as the rest of the program knows it."""
        users = None if self.users is None else passwords(self.users)
        return profile.Auth(
            users, tuple(self.mechanisms), self.before_tls, self.required, self.attempts
        )


class Limits(Stanza):
    """Where a session ends or a command is refused; 0 is no limit."""

    message_size: Size = Field(
        _LIMITS.message_size, description="The largest message accepted (SIZE, RFC 1870)."
    )
    line_length: Size = Field(
        _LIMITS.line_length,
        description="Octets of a line of a message, its CRLF included (RFC 5321 section "
        "4.5.3.1.6: 1000).",
    )
    command_length: Annotated[int, Field(ge=64, le=65_536)] = Field(
        _LIMITS.command_length,
        description="Octets of a command, its CRLF included (RFC 5321 section 4.5.3.1.4: at least "
        "512; extensions need more).",
    )
    recipients: Count = Field(
        _LIMITS.recipients,
        description="Recipients of a message (RFC 5321 section 4.5.3.1.8: at least 100).",
    )
    transactions: Count = Field(_LIMITS.transactions, description="Messages of a session.")
    errors: Count = Field(
        _LIMITS.errors,
        description="Commands that may break the protocol (500 to 504, 535, 538, 555) before the "
        "session is ended; 550, 552 or 452 are about the mail and do not count.",
    )
    sessions: Count = Field(
        _LIMITS.sessions, description="Sessions that a listener has at the same time."
    )
    sessions_per_peer: Count = Field(
        _LIMITS.sessions_per_peer,
        description="Sessions that one address has with a listener at the same time.",
    )

    def value(self) -> profile.Limits:
        """Return this as the rest of the program knows it."""
        return profile.Limits(**self.model_dump())


class Timeouts(Stanza):
    """How long a silent client is waited for."""

    command: _Positive = Field(
        _TIMEOUTS.command,
        description="For the next command (RFC 5321 section 4.5.3.2.7: at least 300).",
    )
    data: _Positive = Field(
        _TIMEOUTS.data, description="For more of a message (RFC 5321 section 4.5.3.2.5: 180)."
    )
    handshake: _Positive = Field(
        _TIMEOUTS.handshake,
        description="For a whole PROXY header and a whole TLS handshake, however busy.",
    )

    def value(self) -> profile.Timeouts:
        """Return this as the rest of the program knows it."""
        return profile.Timeouts(**self.model_dump())


class Profile(Stanza):
    """How the listeners that name it treat their senders."""

    hostname: Hostname = Field(
        _PROFILE.hostname,
        description="The server's name in its banner and replies; empty: the machine's own name.",
    )
    extensions: Extensions = Field(
        {},
        description="What is not `on`, by name, as in `{CHUNKING: off}`: `hidden` works and is "
        f"not announced, `off` is refused as unknown. There are {', '.join(EXTENSIONS)}.",
    )
    tls: Annotated[Tls, InShort({"auto": {}, "off": {"certificates": []}})] = Field(Tls())
    auth: Auth = Field(Auth())
    limits: Limits = Field(Limits())
    timeouts: Timeouts = Field(Timeouts())
    newlines: NewlinesPolicy = Field(
        _PROFILE.newlines.value,
        description="A message with a bare CR, a bare LF or a NUL: `strict` refuses it, `lenient` "
        "keeps and notes it; `{emulate: lf-dot-lf}` keeps it and ends it as a weak server would "
        "(SMTP smuggling).",
    )
    greeting_delay: Seconds = Field(
        _PROFILE.greeting_delay, description="How long the greeting is held back."
    )
    early_talkers: EarlyWord = Field(
        _PROFILE.early_talkers,
        description="What is done with a client that talks before the greeting: `note` serves it, "
        "and says so in the log and in its envelopes, `refuse` answers 554. Seen only during a "
        "`greeting_delay`.",
    )
    proxy_from: list[Network] = Field(
        list(_PROFILE.proxy_from),
        description="Whose connections have to begin with a PROXY header, version 1 or 2.",
    )
    xclient_from: list[Network] = Field(
        list(_PROFILE.xclient_from), description="Who may use XCLIENT, as Postfix knows it."
    )
    handler: Handler = Field(
        _PROFILE.handler,
        description="A class with the hooks of aiosmtpd, made once in each worker, without "
        "arguments; docs/running.md says how it is installed. Empty: no hooks.",
    )
    store: Literal["keep", "discard"] = Field(
        "keep" if _PROFILE.keep else "discard",
        description="Whether messages are kept, or thrown away after their 250.",
    )
    transcripts: TranscriptsWord = Field(
        _PROFILE.transcripts,
        description="Which sessions are kept command by command, without the secrets of AUTH: "
        "`all`, those that `failed`, or `none`. With `store: discard` there are none.",
    )
    runs: RunRules = Field(
        list(_PROFILE.runs),
        description="What gives a message the tag of a test run (`--run NAME`), the first that "
        "does: `header NAME`, the value of that header; `plus-address`, what is behind the + of a "
        "recipient; `user`, who has logged in; `listener`, its name.",
    )

    rules: dict[Name, Rule] = Field(
        {},
        description="Faults on purpose, as in the stanza `rules` and asked behind those; their "
        "names are PROFILE/NAME elsewhere.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Profile:
        if self.auth.required and self.extensions.get("AUTH") is profile.Switch.OFF:
            raise refuse("auth.required, with AUTH off", "take AUTH: off out of extensions")
        if self.auth.required and self.tls.certificates == [] and not self.auth.before_tls:
            raise refuse("auth.required, and AUTH needs TLS", "write tls: auto, or before_tls: yes")
        return self

    def value(self, automatic: profile.KeyPair) -> profile.Profile:
        """Return the profile as the rest of the program knows it; ``automatic`` as for Tls."""
        policy = self.newlines
        return profile.Profile(
            hostname=self.hostname,
            extensions={
                name: switch
                for name, switch in self.extensions.items()
                if switch is not profile.Switch.ON
            },
            tls=self.tls.value(automatic),
            auth=self.auth.value(),
            limits=self.limits.value(),
            timeouts=self.timeouts.value(),
            newlines=Newlines(policy) if isinstance(policy, str) else Newlines.EMULATE,
            terminator="" if isinstance(policy, str) else policy["emulate"],
            greeting_delay=self.greeting_delay,
            early_talkers=self.early_talkers,
            proxy_from=tuple(self.proxy_from),
            xclient_from=tuple(self.xclient_from),
            handler=self.handler,
            keep=self.store == "keep",
            transcripts=self.transcripts,
            runs=tuple(self.runs),
        )

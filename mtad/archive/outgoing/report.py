"""A delivery status notification: the bounce of a message (RFC 3461, 3464, 6522, 6533).

It is made of nothing but the message, the rule and the name of the host, so that each try sends
the same octets. What a stranger's message has is put in as lines; no field of ours can be forged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.message import Message
from email.policy import SMTPUTF8
from email.utils import format_datetime

from mtad.model import ids
from mtad.model.envelope import Captured
from mtad.model.rules.values import Bounce
from mtad.smtp.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    MailParameters,
    RcptParameters,
    mail_parameters,
    rcpt_parameters,
)
from mtad.smtp.reply import Refusal
from mtad.store.reader import Kept

MOST_RETURNED = 1_048_576
"""A larger message is not returned whole, whatever RET says: its header is."""

_EXTENSIONS = frozenset({"SIZE", "8BITMIME", "BINARYMIME", "SMTPUTF8", "DSN", "AUTH", "REQUIRETLS"})
# Fields stand on one line each, as they are.
_POLICY = SMTPUTF8.clone(max_line_length=None, refold_source="none", cte_type="8bit")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LINE_END = re.compile(rb"\r\n|\r|\n")
# What utf-8-addr-xtext does not take as it is (RFC 6533 section 3).
_EMBEDDED = re.compile(r"[^!-*,-<>-\[\]-~]")
_TEXT_CHARACTERS = 500


def unwanted(envelope: Captured) -> str:
    """Return why nobody is to be told that a message has not been delivered; "": the sender is."""
    if not envelope.sender:
        return "it has the null sender, to whom nothing is ever reported (RFC 5321 section 4.5.5)"
    if not _to_report(envelope):
        return "no recipient asks for it (NOTIFY)"
    return ""


def returns_all(kept: Kept) -> bool:
    """Whether the whole message is returned, not its header alone (RFC 3461 section 4.3)."""
    return _mail_parameters(kept.envelope).ret == "FULL" and kept.size <= MOST_RETURNED


def report(kept: Kept, bounce: Bounce, returned: bytes, host: str) -> bytes:
    """Return the notification that ``host`` sends; ``returned`` is of the message."""
    envelope = kept.envelope
    recipients = _to_report(envelope)
    original = b"\r\n".join(_LINE_END.split(returned.replace(b"\0", b"")))
    whole = returns_all(kept)
    boundary = f"=_mtad-{ids.encode(kept.id)}"
    while boundary.encode() in original:
        boundary += "_"
    text = _part("text/plain; charset=utf-8", _words(recipients, bounce, host))
    status = Message()
    status["Content-Type"] = "message/delivery-status"
    status.set_payload(list(_groups(envelope, recipients, bounce, host)))
    message = Message()
    for name, value in _header(kept, boundary, host).items():
        message[name] = value
    message.set_payload([text, status])
    head, _, end = message.as_bytes(policy=_POLICY).rpartition(f"\r\n--{boundary}--".encode())
    kind = "message/rfc822" if whole else "text/rfc822-headers"
    opening = f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    return head + opening.encode() + original + f"\r\n--{boundary}--".encode() + end


def _header(kept: Kept, boundary: str, host: str) -> dict[str, str]:
    name = ids.encode(kept.id)
    return {
        "Date": _date(kept),
        "From": f"Mail Delivery System <MAILER-DAEMON@{host}>",
        "To": f"<{_line(kept.envelope.sender)}>",
        "Subject": "Undelivered Mail Returned to Sender",
        "Message-ID": f"<{name}.bounce@{host}>",
        "Auto-Submitted": "auto-replied",
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/report; report-type=delivery-status; boundary="{boundary}"',
        "Content-Transfer-Encoding": "8bit",
    }


def _words(recipients: Sequence[tuple[str, RcptParameters]], bounce: Bounce, host: str) -> str:
    """Return what people read."""
    lines = [
        f"This is mtad, a test mail server, at {host}.",
        "",
        "Your message was taken and not delivered, as a rule of this server wants it, to:",
        "",
        *(f"<{_line(address)}>: {bounce.status} {_line(bounce.text)}" for address, _ in recipients),
        "",
    ]
    return "\r\n".join(lines)


def _groups(
    envelope: Captured,
    recipients: Sequence[tuple[str, RcptParameters]],
    bounce: Bounce,
    host: str,
) -> Iterator[Message]:
    """Yield the fields of the message, then those of each recipient (RFC 3464 section 2)."""
    arrived = datetime.fromtimestamp(envelope.received_ns // 10**9, UTC)
    fields = {
        "Original-Envelope-Id": _ascii(_mail_parameters(envelope).envid),
        "Reporting-MTA": f"dns; {host}",
        "Arrival-Date": format_datetime(arrived),
    }
    yield _fields(fields)
    for address, parameters in recipients:
        kind, _, original = parameters.orcpt.partition(";")
        code = f"{bounce.status[:1]}50"
        yield _fields(
            {
                "Original-Recipient": original and f"{kind}; {_address(original)}",
                "Final-Recipient": _typed(address),
                "Action": "failed",
                "Status": bounce.status,
                "Diagnostic-Code": f"smtp; {code} {bounce.status} {_ascii(bounce.text)}",
            }
        )


def _fields(values: dict[str, str]) -> Message:
    group = Message()
    for name, value in values.items():
        if value:
            group[name] = value
    return group


def _part(kind: str, text: str) -> Message:
    part = Message()
    part["Content-Type"] = kind
    part["Content-Transfer-Encoding"] = "8bit"
    part.set_payload(text.encode().decode("ascii", "surrogateescape"))
    return part


def _to_report(envelope: Captured) -> list[tuple[str, RcptParameters]]:
    """Return the recipients about whom the sender wants to know (RFC 3461 section 4.1)."""
    pairs = zip(
        envelope.recipients, map(_rcpt_parameters, envelope.recipient_options), strict=False
    )
    return [
        (address, parameters)
        for address, parameters in pairs
        if not parameters.notify or "FAILURE" in parameters.notify
    ]


def _mail_parameters(envelope: Captured) -> MailParameters:
    try:
        return mail_parameters(" ".join(envelope.sender_options), _EXTENSIONS)
    except Refusal:  # kept by somebody else
        return NO_MAIL_PARAMETERS


def _rcpt_parameters(options: Sequence[str]) -> RcptParameters:
    try:
        return rcpt_parameters(" ".join(options), _EXTENSIONS)
    except Refusal:
        return NO_RCPT_PARAMETERS


def _typed(address: str) -> str:
    """Return an address with its type (RFC 3464 section 2.3.2)."""
    return f"{'rfc822' if address.isascii() else 'utf-8'}; {_address(address)}"


def _address(address: str) -> str:
    """Return an address in ASCII: as it is, or as utf-8-addr-xtext."""
    if address.isascii():
        return _line(address)
    return _EMBEDDED.sub(lambda match: f"\\x{{{ord(match[0]):X}}}", address)


def _line(text: str) -> str:
    """Return text that stays on its line."""
    return _CONTROL.sub("?", text)[:_TEXT_CHARACTERS]


def _ascii(text: str) -> str:
    return _line(text).encode("ascii", "replace").decode()


def _date(kept: Kept) -> str:
    return format_datetime(datetime.fromtimestamp(kept.id // 10**9, UTC))

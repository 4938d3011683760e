"""The clients of mail: what each can do, done; what arrives is what was sent, octet for octet."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import smtplib
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import aiosmtplib
import pytest
import trustme
from harness import installed
from harness.installed import Installed
from harness.receiver import PASSWORD, RECIPIENTS, SENDER, USER, Arrived, Receiver, message
from harness.tap import tap

pytestmark = [pytest.mark.integration, pytest.mark.root, pytest.mark.netns]

UTF8_SENDER, UTF8_RECIPIENTS = "jürgen@example.org", ("δοκιμή@example.com",)
CLIENT = "192.0.2.7:4321"

# What the envelope says of a delivery, whoever makes it.
FEATURES: dict[str, dict[str, Any]] = {
    "HELO": {"listener": "mx", "protocol": "SMTP"},
    "EHLO": {"listener": "mx", "protocol": "ESMTP", "user": ""},
    "1 MB": {"listener": "mx", "protocol": "ESMTP"},
    "STARTTLS": {"listener": "mx", "protocol": "ESMTPS"},
    "implicit TLS": {"listener": "smtps", "protocol": "ESMTPS"},
    "AUTH PLAIN": {"listener": "mx", "protocol": "ESMTPSA", "user": USER},
    "AUTH LOGIN": {"listener": "mx", "protocol": "ESMTPSA", "user": USER},
    "AUTH CRAM-MD5": {"listener": "mx", "protocol": "ESMTPSA", "user": USER},
    "AUTH XOAUTH2": {"listener": "mx", "protocol": "ESMTPSA", "user": USER},
    "AUTH, implicit TLS": {"listener": "smtps", "protocol": "ESMTPSA", "user": USER},
    "AUTH in clear": {"listener": "clear", "protocol": "ESMTPA", "user": USER},
    "LMTP": {"listener": "lmtp", "protocol": "LMTP"},
    "LMTP, unix": {"listener": "lmtp-unix", "protocol": "LMTP", "peer": "unix"},
    "LMTP, STARTTLS": {"listener": "lmtp", "protocol": "LMTPS"},
    "LMTP, one recipient": {"listener": "lmtp", "recipients": [RECIPIENTS[0]]},
    "LMTP, unix, one recipient": {"listener": "lmtp-unix", "recipients": [RECIPIENTS[0]]},
    "SMTPUTF8": {
        "sender": UTF8_SENDER,
        "recipients": list(UTF8_RECIPIENTS),
    },
    "DSN": {
        "sender_options": ["RET=HDRS", "ENVID=id+2B1"],
        "recipient_options": [["NOTIFY=SUCCESS,DELAY"]] * 2,
    },
    "DSN, NOTIFY and RET": {
        "sender_options": ["RET=FULL"],
        "recipient_options": [["NOTIFY=FAILURE,DELAY"]] * 2,
    },
    "8BITMIME": {"sender_options": ["BODY=8BITMIME"]},
    "PROXY v1": {"listener": "proxied", "peer": CLIENT},
    "PROXY v2": {"listener": "proxied", "peer": CLIENT},
    "PROXY v1, implicit TLS": {"listener": "proxied-smtps", "protocol": "ESMTPS"},
    "PROXY v2, STARTTLS": {"listener": "proxied", "peer": CLIENT, "protocol": "ESMTPS"},
    "PROXY, own address": {"listener": "proxied"},
    "XCLIENT": {"listener": "xclient", "peer": CLIENT, "user": "somebody"},
}

SWAKS = f"swaks --silent 2 --from {SENDER} --to {','.join(RECIPIENTS)} --data -"
_SWAKS_CA = "--tls-verify --tls-ca-path ca.pem"
_SWAKS_AUTH = f"{_SWAKS_CA} --tls --auth-user {USER} --auth-password '{PASSWORD}'"
_SWAKS_FROM = (
    "--proxy-source 192.0.2.7 --proxy-source-port 4321 --proxy-dest 192.0.2.1 --proxy-dest-port 25"
)
MSMTP = f"msmtp --host=localhost --from={SENDER}"
_MSMTP_TLS = "--tls=on --tls-trust-file=ca.pem"
_MSMTP_AUTH = f"{_MSMTP_TLS} --user={USER} --passwordeval='echo {PASSWORD}'"
_MSMTP_TO = f"-- {' '.join(RECIPIENTS)}"
_CURL = "curl --silent --show-error --upload-file - --crlf"
_CURL_ADDRESSES = f"--mail-from {SENDER} --mail-rcpt {' --mail-rcpt '.join(RECIPIENTS)}"
CURL = f"{_CURL} {_CURL_ADDRESSES}"
_CURL_AUTH = f"--ssl-reqd --cacert ca.pem --user '{USER}:{PASSWORD}' smtp://localhost"

COMMANDS = {
    "swaks": {
        "HELO": f"{SWAKS} --server localhost --protocol SMTP",
        "EHLO": f"{SWAKS} --server localhost",
        "1 MB": f"{SWAKS} --server localhost",
        "STARTTLS": f"{SWAKS} --server localhost --tls {_SWAKS_CA}",
        "implicit TLS": f"{SWAKS} --server localhost --tls-on-connect {_SWAKS_CA}",
        "AUTH PLAIN": f"{SWAKS} --server localhost --auth PLAIN {_SWAKS_AUTH}",
        "AUTH LOGIN": f"{SWAKS} --server localhost --auth LOGIN {_SWAKS_AUTH}",
        "AUTH CRAM-MD5": f"{SWAKS} --server localhost --auth CRAM-MD5 {_SWAKS_AUTH}",
        "AUTH in clear": (
            f"{SWAKS} --server localhost:587 --auth --auth-user {USER} --auth-password '{PASSWORD}'"
        ),
        "LMTP": f"{SWAKS} --server localhost --protocol LMTP",
        "LMTP, unix": f"{SWAKS} --socket lmtp/socket --protocol LMTP",
        "LMTP, STARTTLS": f"{SWAKS} --server localhost --protocol LMTP --tls {_SWAKS_CA}",
        "PROXY v1": f"{SWAKS} --server localhost:26 --proxy-family TCP4 {_SWAKS_FROM}",
        "PROXY v2": (
            f"{SWAKS} --server localhost:26 --proxy-version 2 --proxy-family AF_INET {_SWAKS_FROM}"
        ),
        "PROXY v2, STARTTLS": (
            f"{SWAKS} --server localhost:26 --proxy-version 2 --proxy-family AF_INET {_SWAKS_FROM}"
            f" --tls {_SWAKS_CA}"
        ),
        "XCLIENT": (
            f"{SWAKS} --server localhost:27 --xclient-addr 192.0.2.7 --xclient-port 4321"
            " --xclient-login somebody"
        ),
    },
    "msmtp": {
        "EHLO": f"{MSMTP} {_MSMTP_TO}",
        "1 MB": f"{MSMTP} {_MSMTP_TO}",
        "STARTTLS": f"{MSMTP} {_MSMTP_TLS} {_MSMTP_TO}",
        "implicit TLS": f"{MSMTP} --port=465 --tls-starttls=off {_MSMTP_TLS} {_MSMTP_TO}",
        "AUTH PLAIN": f"{MSMTP} --auth=plain {_MSMTP_AUTH} {_MSMTP_TO}",
        "AUTH LOGIN": f"{MSMTP} --auth=login {_MSMTP_AUTH} {_MSMTP_TO}",
        "AUTH CRAM-MD5": f"{MSMTP} --auth=cram-md5 {_MSMTP_AUTH} {_MSMTP_TO}",
        "AUTH XOAUTH2": (
            f"{MSMTP} --auth=xoauth2 {_MSMTP_TLS} --user={USER} --passwordeval='echo {PASSWORD}'"
            f" {_MSMTP_TO}"
        ),
        "LMTP": f"{MSMTP} --protocol=lmtp --port=24 {_MSMTP_TO}",
        "LMTP, unix": f"{MSMTP} --protocol=lmtp --port=24 --socket=lmtp/socket {_MSMTP_TO}",
        "LMTP, STARTTLS": f"{MSMTP} --protocol=lmtp --port=24 {_MSMTP_TLS} {_MSMTP_TO}",
        "DSN, NOTIFY and RET": (
            f"{MSMTP} --dsn-notify=failure,delay --dsn-return=full {_MSMTP_TO}"
        ),
    },
    "curl": {
        "EHLO": f"{CURL} smtp://localhost",
        "1 MB": f"{CURL} smtp://localhost",
        "STARTTLS": f"{CURL} --ssl-reqd --cacert ca.pem smtp://localhost",
        "implicit TLS": f"{CURL} --cacert ca.pem smtps://localhost",
        "AUTH PLAIN": f"{CURL} --login-options AUTH=PLAIN {_CURL_AUTH}",
        "AUTH LOGIN": f"{CURL} --login-options AUTH=LOGIN {_CURL_AUTH}",
        "AUTH CRAM-MD5": f"{CURL} --login-options AUTH=CRAM-MD5 {_CURL_AUTH}",
        "AUTH XOAUTH2": (
            f"{CURL} --ssl-reqd --cacert ca.pem --user {USER}: --oauth2-bearer {PASSWORD}"
            " --login-options AUTH=XOAUTH2 smtp://localhost"
        ),
        "AUTH, implicit TLS": (
            f"{CURL} --cacert ca.pem --user '{USER}:{PASSWORD}' smtps://localhost"
        ),
        "SMTPUTF8": (
            f"{_CURL} --mail-from {UTF8_SENDER} --mail-rcpt {UTF8_RECIPIENTS[0]} smtp://localhost"
        ),
        "PROXY, own address": f"{CURL} --haproxy-protocol smtp://localhost:26",
        "PROXY v1, implicit TLS": (
            f"{CURL} --haproxy-protocol --cacert ca.pem smtps://localhost:466"
        ),
    },
}

Send = Callable[[Receiver, bytes], None]


def _context(mx: Receiver) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(mx.ca))


def _smtplib(
    port: int = 25,
    *,
    starttls: bool = False,
    mechanism: str = "",
    people: tuple[str, tuple[str, ...]] = (SENDER, RECIPIENTS),
    **options: Any,
) -> Send:
    def send(mx: Receiver, octets: bytes) -> None:
        made: dict[int, Callable[[], smtplib.SMTP]] = {
            0: lambda: smtplib.LMTP(str(mx.lmtp_socket)),
            24: lambda: smtplib.LMTP("localhost", 24),
            465: lambda: smtplib.SMTP_SSL("localhost", 465, context=_context(mx), timeout=30),
        }
        with made.get(port, lambda: smtplib.SMTP("localhost", port, timeout=30))() as client:
            if starttls:
                client.starttls(context=_context(mx))
            if mechanism:
                client.ehlo()
                client.user, client.password = USER, PASSWORD
                method = getattr(client, f"auth_{mechanism.lower().replace('-', '_')}")
                client.auth(mechanism, method)
            client.sendmail(*people, octets, **options)

    return send


def _aiosmtplib(
    port: int = 25,
    *,
    starttls: bool = False,
    mechanism: str = "",
    people: tuple[str, tuple[str, ...]] = (SENDER, RECIPIENTS),
    **options: Any,
) -> Send:
    async def talk(mx: Receiver, octets: bytes) -> None:
        async with aiosmtplib.SMTP(
            hostname="localhost",
            port=port,
            timeout=30,
            use_tls=port == 465,
            start_tls=starttls,
            tls_context=_context(mx) if starttls or port == 465 else None,
        ) as client:
            if mechanism:
                await client.ehlo()
                method = getattr(client, f"auth_{mechanism.lower().replace('-', '')}")
                await method(USER, PASSWORD)
            await client.sendmail(people[0], list(people[1]), octets, **options)

    return lambda mx, octets: asyncio.run(talk(mx, octets))


_DSN: dict[str, Any] = {
    "mail_options": ["RET=HDRS", "ENVID=id+2B1"],
    "rcpt_options": ["NOTIFY=SUCCESS,DELAY"],
}
_UTF8: dict[str, Any] = {"people": (UTF8_SENDER, UTF8_RECIPIENTS)}

LIBRARIES: dict[str, dict[str, Send]] = {
    "smtplib": {
        "EHLO": _smtplib(),
        "1 MB": _smtplib(),
        "STARTTLS": _smtplib(starttls=True),
        "implicit TLS": _smtplib(465),
        "AUTH PLAIN": _smtplib(starttls=True, mechanism="PLAIN"),
        "AUTH LOGIN": _smtplib(starttls=True, mechanism="LOGIN"),
        "AUTH CRAM-MD5": _smtplib(starttls=True, mechanism="CRAM-MD5"),
        "AUTH, implicit TLS": _smtplib(465, mechanism="PLAIN"),
        "AUTH in clear": _smtplib(587, mechanism="CRAM-MD5"),
        # It does not know that each recipient has a reply of its own.
        "LMTP, one recipient": _smtplib(24, people=(SENDER, RECIPIENTS[:1])),
        "LMTP, unix, one recipient": _smtplib(0, people=(SENDER, RECIPIENTS[:1])),
        "SMTPUTF8": _smtplib(**_UTF8, mail_options=["SMTPUTF8"]),
        "8BITMIME": _smtplib(mail_options=["BODY=8BITMIME"]),
        "DSN": _smtplib(**_DSN),
    },
    "aiosmtplib": {
        "EHLO": _aiosmtplib(),
        "1 MB": _aiosmtplib(),
        "STARTTLS": _aiosmtplib(starttls=True),
        "implicit TLS": _aiosmtplib(465),
        "AUTH PLAIN": _aiosmtplib(starttls=True, mechanism="PLAIN"),
        "AUTH LOGIN": _aiosmtplib(starttls=True, mechanism="LOGIN"),
        "AUTH CRAM-MD5": _aiosmtplib(starttls=True, mechanism="CRAM-MD5"),
        "AUTH, implicit TLS": _aiosmtplib(465, mechanism="PLAIN"),
        "SMTPUTF8": _aiosmtplib(**_UTF8, mail_options=["SMTPUTF8"]),
        "8BITMIME": _aiosmtplib(mail_options=["BODY=8BITMIME"]),
        "DSN": _aiosmtplib(**_DSN),
    },
}


def by_command(command: str) -> Send:
    """Return what runs ``command`` with a message as a Unix text, with LF, on standard input."""
    words = shlex.split(command)
    if shutil.which(words[0]) is None:
        pytest.skip(f"no {words[0]} on this machine: scripts/setup --test installs it")

    def send(mx: Receiver, octets: bytes) -> None:
        text = octets.replace(b"\r\n", b"\n")
        if words[0] == "swaks":
            text = text.removesuffix(b"\n")  # it adds one
        done = mx.run(*words, octets=text)
        if done.returncode:
            raise OSError(f"{command}\n{done.stdout!r}\n{done.stderr!r}")

    return send


def sends(tool: str, feature: str) -> Send:
    return LIBRARIES[tool][feature] if tool in LIBRARIES else by_command(COMMANDS[tool][feature])


PAIRS = [(tool, feature) for tool, known in (COMMANDS | LIBRARIES).items() for feature in known]


def pairs(*features: str) -> list[tuple[str, str]]:
    return [pair for pair in PAIRS if pair[1] in features]


@pytest.mark.parametrize(("tool", "feature"), PAIRS)
def test_delivers(mx: Receiver, tool: str, feature: str) -> None:
    sent = message(f"{tool}-{feature}".replace(" ", "-"), 1_000_000 if feature == "1 MB" else 0)
    sends(tool, feature)(mx, sent)
    (arrived,) = mx.take()
    assert arrived.content == sent
    assert_envelope(arrived, FEATURES[feature])


def assert_envelope(arrived: Arrived, expected: dict[str, Any]) -> None:
    # Every octet is in the message, which a sender may declare (RFC 6152, RFC 6531).
    declared = {"BODY=8BITMIME", "SMTPUTF8"} & set(arrived.envelope["sender_options"])
    notes = [] if declared else ["8bit"]
    default = {"sender": SENDER, "recipients": list(RECIPIENTS), "notes": notes}
    expected = default | expected
    seen = {name: arrived.envelope[name] for name in expected}
    for name in ("sender_options", "recipient_options"):
        if name in expected:  # SIZE and BODY come besides
            assert set(map(str, expected[name])) <= set(map(str, seen.pop(name)))
            expected = {key: value for key, value in expected.items() if key != name}
    assert seen == expected
    assert bool(arrived.envelope["tls_version"]) == (
        arrived.envelope["protocol"].removesuffix("A").endswith("S")
    )


@pytest.mark.parametrize(
    ("tool", "feature"), pairs("STARTTLS", "implicit TLS", "LMTP, STARTTLS", "AUTH PLAIN")
)
def test_the_certificate_is_what_the_sender_goes_by(
    mx: Receiver, monkeypatch: pytest.MonkeyPatch, tool: str, feature: str
) -> None:
    """With another CA nothing is delivered: what the other tests show, the sender has verified."""
    ours = mx.ca.read_bytes()
    trustme.CA().cert_pem.write_to_path(str(mx.ca))
    try:
        with pytest.raises(OSError):  # noqa: PT011 (each has its own words)
            sends(tool, feature)(mx, message("distrusted"))
    finally:
        mx.ca.write_bytes(ours)
    assert not mx.take(0)


@pytest.mark.parametrize(
    "command",
    [
        f"{SWAKS} --server localhost --auth CRAM-MD5 {_SWAKS_AUTH}",
        f"{MSMTP} --auth=login {_MSMTP_AUTH} {_MSMTP_TO}",
        f"{CURL} --login-options AUTH=PLAIN {_CURL_AUTH}",
    ],
    ids=["swaks", "msmtp", "curl"],
)
def test_another_password_is_refused(mx: Receiver, command: str) -> None:
    with pytest.raises(OSError, match=r"5\.7\.8|authentication failed|Login denied"):
        by_command(command.replace(PASSWORD, "open-barley"))(mx, message("barley"))
    assert not mx.take(0)


PIPELINED = {
    "swaks": f"{SWAKS} --pipeline --server localhost:PORT",
    "msmtp": f"{MSMTP} --port=PORT {_MSMTP_TO}",
}


def envelope_in_one(turns: list[bytes]) -> bool:
    """Whether a sender said both MAIL and RCPT before it had a reply to either."""
    return any(b"MAIL FROM" in turn and b"RCPT TO" in turn for turn in turns)


@pytest.mark.parametrize("tool", PIPELINED)
def test_pipelining(mx: Receiver, tool: str) -> None:
    sent = message("pipelined")
    with tap(("localhost", 25)) as wire:
        by_command(PIPELINED[tool].replace("PORT", str(wire.port)))(mx, sent)
    (arrived,) = mx.take()
    assert arrived.content == sent
    assert envelope_in_one(wire.said())


def test_lockstep(mx: Receiver) -> None:
    """What test_pipelining looks for is not there where the sender waits for each reply."""
    with tap(("localhost", 25)) as wire:
        _smtplib(wire.port)(mx, message("lockstep"))
    assert len(mx.take()) == 1
    assert not envelope_in_one(wire.said())


SOURCE = ("smtp-source", "-f", SENDER, "-t", RECIPIENTS[0], "-M", "client.example")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("localhost:25",), {"listener": "mx", "protocol": "SMTP"}),
        (("-L", "localhost:24"), {"listener": "lmtp", "protocol": "LMTP"}),
        (("-L", "unix:{0}"), {"listener": "lmtp-unix", "protocol": "LMTP"}),
    ],
    ids=["SMTP", "LMTP", "LMTP, unix"],
)
def test_smtp_source(
    mx: Receiver, postfix_programs: Installed, options: tuple[str, ...], expected: dict[str, str]
) -> None:
    """Twenty messages by three connections at a time, of two recipients each."""
    sent = message("source")
    text = mx.directory / "message.eml"
    text.write_bytes(sent.replace(b"\r\n", b"\n").removesuffix(b"\n"))  # it adds one
    program = [*SOURCE, "-F", str(text), "-m", "20", "-s", "3", "-r", "2"]
    options = tuple(option.format(mx.lmtp_socket) for option in options)
    done = mx.run(*postfix_programs.command(*program, *options))
    assert done.returncode == 0, done.stderr
    arrived = mx.take(20)
    assert [one.content for one in arrived] == [sent] * 20
    for one in arrived:
        assert {name: one.envelope[name] for name in expected} == expected
        assert one.people() == (SENDER, (f"2{RECIPIENTS[0]}", RECIPIENTS[0]))


@pytest.fixture(scope="module")
def postfix_programs(mx: Receiver) -> Iterator[Installed]:
    if reason := installed.lacking("postfix"):
        pytest.skip(reason)
    with Installed("postfix") as programs:
        yield programs

"""Postfix and Exim relay to mtad: by every way they know, and in spite of what happens to mtad."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from harness import exim, installed, postfix
from harness.daemon import until
from harness.exim import Exim
from harness.postfix import Postfix
from harness.receiver import SENDER, USER, Arrived, Receiver, message, without_trace
from harness.tap import tap

pytestmark = [pytest.mark.integration, pytest.mark.root, pytest.mark.netns]

Relay = Postfix | Exim


@pytest.fixture(scope="module", params=[postfix, exim], ids=["postfix", "exim"])
def program(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    if reason := installed.lacking(module.PACKAGE):
        pytest.skip(reason)
    return module


@pytest.fixture(scope="module")
def relay(mx: Receiver, program: ModuleType) -> Iterator[Relay]:
    with program.relay(mx) as running:
        yield running


WAYS: dict[str, dict[str, Any]] = {
    "plain": {"listener": "mx", "protocol": "ESMTP"},
    "starttls": {"listener": "mx", "protocol": "ESMTPS"},
    "smtps": {"listener": "smtps", "protocol": "ESMTPS"},
    "auth-plain": {"listener": "mx", "protocol": "ESMTPSA", "user": USER},
    "auth-login": {"listener": "mx", "protocol": "ESMTPSA", "user": USER},
    "auth-cram-md5": {"listener": "mx", "protocol": "ESMTPSA", "user": USER},
    "auth-smtps": {"listener": "smtps", "protocol": "ESMTPSA", "user": USER},
    "auth-clear": {"listener": "clear", "protocol": "ESMTPA", "user": USER},
    "lmtp": {"listener": "lmtp", "protocol": "LMTP"},
    "lmtp-starttls": {"listener": "lmtp", "protocol": "LMTPS"},
    "lmtp-unix": {"listener": "lmtp-unix", "protocol": "LMTP"},
}


@pytest.mark.parametrize("way", WAYS)
def test_relays(mx: Receiver, relay: Relay, way: str) -> None:
    sent = message(way, 100_000)
    people = [f"{name}@{way}.example" for name in ("one", "two", "three")]
    relay.submit([sent], SENDER, people)
    (arrived,) = mx.take()
    assert without_trace(arrived.content) == sent
    assert arrived.envelope["sender"] == SENDER
    assert sorted(arrived.envelope["recipients"]) == sorted(people)
    assert {name: arrived.envelope[name] for name in WAYS[way]} == WAYS[way]
    # Each recipient has its line, with our reply in it.
    reply = f"250 2.0.0 Ok: kept as {arrived.envelope['id']}"
    until(lambda: relay.said().count(reply) == len(people))


def test_parameters_are_handed_on(mx: Receiver, relay: Relay, program: ModuleType) -> None:
    """DSN (RFC 3461), SMTPUTF8 (RFC 6531), 8BITMIME and SIZE."""
    relay.submit(
        [message("parameters")],
        "jürgen@example.org",
        ["δοκιμή@plain.example"],
        mail_options=["SMTPUTF8", "BODY=8BITMIME", "RET=HDRS", "ENVID=id+2B1"],
        rcpt_options=["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;somebody@example.net"],
    )
    (arrived,) = mx.take()
    assert without_trace(arrived.content) == message("parameters")
    assert arrived.people() == ("jürgen@example.org", ("δοκιμή@plain.example",))
    options = {one for one in arrived.envelope["sender_options"] if not one.startswith("SIZE=")}
    body = set() if program is exim else {"BODY=8BITMIME"}  # Exim never says it
    assert options == {"SMTPUTF8", "RET=HDRS", "ENVID=id+2B1"} | body
    (options,) = map(set, arrived.envelope["recipient_options"])
    assert options == {"NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;somebody@example.net"}


def test_the_null_sender(mx: Receiver, relay: Relay) -> None:
    relay.submit([message("bounce")], "", ["postmaster@plain.example"])
    (arrived,) = mx.take()
    assert arrived.people() == ("", ("postmaster@plain.example",))


def test_the_envelope_is_pipelined(mx: Receiver, relay: Relay, program: ModuleType) -> None:
    """MAIL and every RCPT without a reply; test_clients.py has the control.

    Postfix has DATA with them, Exim a BDAT with the whole message.
    """
    people = [f"{number}@tapped.example" for number in range(20)]
    with tap(("127.0.0.1", 25), ("127.0.0.1", 2500)) as wire:
        relay.submit([message("pipelined")], SENDER, people)
        (arrived,) = mx.take()
    assert without_trace(arrived.content) == message("pipelined")
    (envelope,) = [turn for turn in wire.said() if b"MAIL FROM" in turn]
    assert envelope.count(b"RCPT TO") == len(people)
    if program is exim:
        assert b"BDAT %d LAST\r\n%b" % (len(arrived.content), arrived.content) in envelope
    else:
        assert envelope.endswith(b"DATA\r\n")


def deliver_many(relay: Relay, names: list[str], domain: str) -> None:
    relay.submit([message(name) for name in names], SENDER, [f"one@{domain}.example"])


def names(arrived: list[Arrived]) -> list[str]:
    """Return the names of messages, each of which has to be whole."""
    found = []
    for one in arrived:
        content = without_trace(one.content)
        name = content.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()
        assert content == message(name)
        found.append(name)
    return sorted(found)


def test_mail_waits_for_a_listener_that_is_stopped(mx: Receiver, relay: Relay) -> None:
    """Stopped and started while mail flows: none is lost, none arrives twice."""
    sent = [f"flow-{number:03}" for number in range(150)]
    for at in range(0, 150, 50):
        deliver_many(relay, sent[at : at + 50], "plain")
        assert mx.daemon.mtactl("listener", "stop", "mx", "--wait").returncode == 0
        said = len(relay.said())
        deliver_many(relay, [f"late-{at}"], "plain")
        sent.append(f"late-{at}")
        until(lambda before=said: "Connection refused" in relay.said()[before:])
        assert mx.daemon.mtactl("listener", "start", "mx").returncode == 0
    until(lambda: not relay.queue(), 60)
    assert names(mx.take(len(sent))) == sorted(sent)


def test_no_mail_is_lost_with_a_worker(mx: Receiver, relay: Relay) -> None:
    """Workers are killed while mail flows; only what was answered in that moment may come twice."""
    sent = [f"killed-{number:03}" for number in range(100)]
    deaths = 4  # after more, the next worker is a long time coming
    for at in range(0, len(sent), len(sent) // deaths):
        deliver_many(relay, sent[at : at + len(sent) // deaths], "plain")
        worker = until(mx.daemon.workers)[0]
        os.kill(worker, signal.SIGKILL)
        until(lambda gone=worker: gone not in mx.daemon.workers())
    until(lambda: not relay.queue(), 60)
    arrived = names(mx.take(len(sent)))
    assert set(arrived) == set(sent)
    # A process delivers one message at a time, and Postfix has twenty of them.
    assert len(arrived) <= len(sent) + 20 * deaths


def test_the_certificate_is_what_it_goes_by(
    mx: Receiver, relay: Relay, program: ModuleType
) -> None:
    """Without our CA mail waits; it is the last test, because Exim then lets the host be."""
    relay.submit([message("distrusted")], SENDER, ["one@distrusted.example"])
    until(lambda: program.DISTRUSTED in relay.said())
    assert not mx.take(0)

"""docs/senders.md: what it tells to do is done, as it stands there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import exim, installed, postfix
from harness.checkout import CHECKOUT
from harness.daemon import PROGRAMS
from harness.installed import Installed
from harness.receiver import SENDER, Receiver, message, without_trace

pytestmark = [pytest.mark.integration, pytest.mark.root, pytest.mark.netns]

PAGE = (CHECKOUT / "docs" / "senders.md").read_text()
SENT = message("documented")


def blocks(kind: str) -> list[str]:
    """Return the fenced blocks of a kind, in order."""
    return re.findall(rf"(?ms)^```{kind}\n(.*?)^```$", PAGE)


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    kinds = set(re.findall(r"(?m)^```(.+)$", PAGE))
    exims = {f"exim {part}" for part in ("routers", "transports", "authenticators")}
    shells = {"sh", "sh machine", "sh each", "sh postfix"}
    assert kinds == shells | exims | {"python", "haproxy", "yaml"}


@pytest.fixture(scope="module")
def surroundings(mx: Receiver) -> Iterator[Receiver]:
    """The directory, the variables and the name that the page takes for granted."""
    (mx.directory / "message.eml").write_bytes(SENT.replace(b"\r\n", b"\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{PROGRAMS}:{os.environ['PATH']}")
        patch.setenv("MTAD_SOCKET", str(mx.daemon.socket))
        (trust,) = blocks("sh")
        assert mx.run("sh", "-ec", trust).returncode == 0
        yield mx


@pytest.mark.parametrize("command", "".join(blocks("sh each")).splitlines())
def test_commands(surroundings: Receiver, command: str) -> None:
    arrived = surroundings.deliver("bash", "-c", command)
    assert arrived.people() == (SENDER, ("one@example.com",))
    assert arrived.content.rstrip() == SENT.rstrip()  # swaks adds an empty line


# At the end of a program: what it has sent, for the test to see.
TELL = """
import email.policy
import sys
sys.stdout.buffer.write(message.as_bytes(policy=email.policy.SMTP))
"""


@pytest.mark.parametrize("program", blocks("python"), ids=["smtplib", "aiosmtplib"])
def test_programs(surroundings: Receiver, program: str) -> None:
    done = surroundings.run(sys.executable, "-c", program + TELL)
    assert done.returncode == 0, done.stderr
    (arrived,) = surroundings.take()
    assert arrived.content == done.stdout
    assert arrived.people() == (SENDER, ("one@example.com",))
    assert (arrived.envelope["protocol"], arrived.envelope["user"]) == ("ESMTPSA", "tester")


# It trusts what the machine trusts.
TRUSTING = blocks("python")[0].replace('cafile="mtad-ca.pem"', "")


def test_a_program_that_is_told_by_its_environment(surroundings: Receiver) -> None:
    program = (sys.executable, "-c", TRUSTING)
    assert b"CERTIFICATE_VERIFY_FAILED" in surroundings.run(*program).stderr
    arrived = surroundings.deliver("env", "SSL_CERT_FILE=mtad-ca.pem", *program)
    assert arrived.envelope["protocol"] == "ESMTPSA"


def place_of(package: str) -> Installed:
    if reason := installed.lacking(package):
        pytest.skip(reason)
    return Installed(package)


def test_a_machine_that_trusts(surroundings: Receiver) -> None:
    (trust,) = blocks("sh machine")
    with place_of("haproxy") as place:  # any: what counts is an /etc of its own
        place.run(trust)
        place.run(f"{sys.executable} -c '{TRUSTING}'")
    (arrived,) = surroundings.take()
    assert arrived.envelope["protocol"] == "ESMTPSA"


def test_postfix(surroundings: Receiver) -> None:
    place_of(postfix.PACKAGE)
    expected = [
        {"listener": "mx", "protocol": "ESMTPS", "user": ""},
        {"listener": "mx", "protocol": "ESMTPSA", "user": "tester"},
        {"listener": "lmtp", "protocol": "LMTP"},
    ]
    with postfix.configured() as place:
        place.run("echo 127.0.0.1 mx.example >>/etc/hosts")
        with postfix.running(place, surroundings) as relay:
            for script, envelope in zip(blocks("sh postfix"), expected, strict=True):
                place.run(script)
                relay.submit([SENT], SENDER, ["one@example.com"])
                (arrived,) = surroundings.take()
                assert without_trace(arrived.content) == SENT
                assert {name: arrived.envelope[name] for name in envelope} == envelope


def test_exim(surroundings: Receiver) -> None:
    place_of(exim.PACKAGE)
    parts = {part: blocks(f"exim {part}")[0] for part in ("routers", "transports")}
    parts["retry"] = "* * F,1d,1s\n"
    (parts["authenticators"],) = blocks("exim authenticators")
    sections = (f"begin {name}\n{text}" for name, text in parts.items())
    configuration = exim.MAIN + "domainlist local_domains = @\n" + "".join(sections)
    with exim.installed() as place:
        place.run("echo 127.0.0.1 mx.example >>/etc/hosts; mtactl tls ca >/etc/exim4/mtad-ca.pem")
        with exim.running(place, configuration) as relay:
            relay.submit([SENT], SENDER, ["one@example.com"])
            (arrived,) = surroundings.take()
    assert without_trace(arrived.content) == SENT
    assert (arrived.envelope["protocol"], arrived.envelope["user"]) == ("ESMTPSA", "tester")


def test_haproxy(surroundings: Receiver) -> None:
    (text,) = blocks("haproxy")
    (surroundings.directory / "haproxy.cfg").write_text(text)
    with place_of("haproxy") as place:
        place.run("echo 127.0.0.1 mx.example >>/etc/hosts")
        place.run(f"haproxy -c -f {surroundings.directory}/haproxy.cfg")


@pytest.mark.parametrize("text", blocks("yaml"), ids=["proxy", "xclient"])
def test_stanzas(surroundings: Receiver, tmp_path: Path, text: str) -> None:
    file = tmp_path / "stanza.yaml"
    file.write_text(text)
    done = surroundings.run("mtad", "check", str(file))
    assert done.returncode == 0, done.stderr

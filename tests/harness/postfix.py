"""Postfix as a relay in front of mtad: by the recipient's domain it takes one way or another."""

from __future__ import annotations

import json
import smtplib
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from harness.daemon import refuses, until
from harness.installed import Installed
from harness.receiver import PASSWORD, USER, Receiver

ADDRESS = ("127.0.0.2", 25)
"""Where it takes mail from anyone on this machine; to an address of its own it relays nothing."""

_VERIFIED = {"smtp_tls_security_level": "verify"}
_LOGGED_IN = _VERIFIED | {"smtp_sasl_auth_enable": "yes"}
_LMTP_VERIFIED = {"lmtp_tls_security_level": "verify"}

PACKAGE = "postfix"
DISTRUSTED = "Server certificate not verified"

# Domain: where to, and the parameters of a delivery agent of its own.
_ROUTES: dict[str, tuple[str, dict[str, str]]] = {
    "plain": ("[localhost]:25", {}),
    "starttls": ("[localhost]:25", _VERIFIED),
    "smtps": ("[localhost]:465", _VERIFIED | {"smtp_tls_wrappermode": "yes"}),
    "distrusted": ("[localhost]:25", _VERIFIED | {"smtp_tls_CAfile": ""}),
    "auth-plain": ("[localhost]:25", _LOGGED_IN | {"smtp_sasl_mechanism_filter": "plain"}),
    "auth-login": ("[localhost]:25", _LOGGED_IN | {"smtp_sasl_mechanism_filter": "login"}),
    "auth-cram-md5": ("[localhost]:25", _LOGGED_IN | {"smtp_sasl_mechanism_filter": "cram-md5"}),
    "auth-smtps": ("[localhost]:465", _LOGGED_IN | {"smtp_tls_wrappermode": "yes"}),
    "auth-clear": ("[localhost]:587", {"smtp_sasl_auth_enable": "yes"}),
    "tapped": ("[127.0.0.1]:2500", {}),
    "slow": ("[127.0.0.1]:2500", {}),
    "haproxy-v1": ("[localhost]:2601", {}),
    "haproxy-v2": ("[localhost]:2602", _VERIFIED),
    "lmtp": ("inet:localhost:24", {}),
    "lmtp-starttls": ("inet:localhost:24", _LMTP_VERIFIED),
    "lmtp-unix": ("unix:{lmtp}", {}),
}

_CONFIGURE = """
ip address replace 127.0.0.2/8 dev lo
getent group postdrop || groupadd --system postdrop
getent passwd postfix || useradd --system postfix
chown postfix: /var/lib/postfix
cp /usr/share/postfix/main.cf.debian /etc/postfix/main.cf
cp /usr/share/postfix/master.cf.dist /etc/postfix/master.cf
postconf -F '*/*/chroot = n'
postconf -e myhostname=relay.example mydestination= alias_maps= inet_interfaces=127.0.0.2 \
    mynetworks=127.0.0.0/8 smtp_host_lookup=native lmtp_host_lookup=native \
    maillog_file=/dev/stdout
"""

# qmgr puts what it finds "still being delivered" back into incoming, where it looks as often as it
# is woken, which is every five minutes.
_RELAY = """
postconf -F qmgr/unix/wakeup=1
postconf -e smtp_tls_CAfile={ca} lmtp_tls_CAfile={ca} \
    transport_maps=texthash:/etc/postfix/transport \
    smtp_sasl_password_maps=texthash:/etc/postfix/passwords \
    smtp_sasl_security_options=noanonymous \
    queue_run_delay=1s minimal_backoff_time=1s maximal_backoff_time=1s
"""


class Postfix:
    """The running relay; ``place`` is where its programs are as if installed."""

    def __init__(self, place: Installed, log: IO[bytes]) -> None:
        self.place = place
        self._log = log
        self._master = subprocess.Popen(
            place.command("postfix", "start-fg"), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        until(lambda: not refuses(*ADDRESS) or self._master.poll() is not None)
        assert self._master.poll() is None, self.said()

    def submit(
        self, messages: Sequence[bytes], sender: str, recipients: Sequence[str], **options: Any
    ) -> None:
        """Hand messages over, in one session."""
        with smtplib.SMTP(*ADDRESS, timeout=30) as client:
            for message in messages:
                client.sendmail(sender, recipients, message, **options)

    def queue(self) -> list[str]:
        """Return the names of what is still in the queue (postqueue(1), -j)."""
        lines = self.place.run("postqueue -j").splitlines()
        return [json.loads(line)["queue_id"] for line in lines]

    def said(self) -> str:
        """Return the log."""
        with open(self._log.name) as log:  # noqa: PTH123 (what is open already has but a name)
            return log.read()

    def stop(self) -> None:
        self._master.terminate()
        self._master.wait(15)


def _routes(ca: str, lmtp: str) -> str:
    """Return the script that writes the routes."""
    services, transports = [], []
    for name, (nexthop, parameters) in _ROUTES.items():
        client = "lmtp" if "lmtp" in name else "smtp"
        services.append(f"to-{name} unix - - n - - {client}")
        services += [f"  -o {key}={value}" for key, value in parameters.items()]
        transports.append(f"{name}.example to-{name}:{nexthop.format(lmtp=lmtp)}")
    files = {
        "master.cf": "\n".join(services),
        "transport": "\n".join(transports),
        "passwords": f"[localhost]:25 {USER}:{PASSWORD}\n"
        f"[localhost]:465 {USER}:{PASSWORD}\n[localhost]:587 {USER}:{PASSWORD}",
    }
    writes = [f"cat >>/etc/postfix/{name} <<'END'\n{text}\nEND\n" for name, text in files.items()]
    return _RELAY.format(ca=ca) + "".join(writes)


@contextmanager
def configured() -> Iterator[Installed]:
    """Yield Postfix as Debian configures it, but for the address where it takes mail."""
    with Installed(PACKAGE) as place:
        place.run(_CONFIGURE)
        yield place


@contextmanager
def running(place: Installed, receiver: Receiver) -> Iterator[Postfix]:
    """Run it as it is configured."""
    with (receiver.directory / "postfix.log").open("wb") as log:
        postfix = Postfix(place, log)
        try:
            yield postfix
        finally:
            postfix.stop()


@contextmanager
def relay(receiver: Receiver) -> Iterator[Postfix]:
    """Run it with a way to every listener of ``receiver``."""
    with configured() as place:
        place.run(_routes(str(receiver.ca), str(receiver.lmtp_socket)))
        with running(place, receiver) as postfix:
            yield postfix

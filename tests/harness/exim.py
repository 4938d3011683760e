"""Exim as a relay in front of mtad: by the recipient's domain it takes one way or another."""

from __future__ import annotations

import smtplib
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from harness.daemon import refuses, until
from harness.installed import Installed
from harness.receiver import PASSWORD, USER, Receiver

ADDRESS = ("127.0.0.3", 25)
"""Where it takes mail from anyone on this machine."""

PACKAGE = "exim4-daemon-light"
DISTRUSTED = "certificate verification failed"

_TLS = "hosts_require_tls = *\ntls_verify_hosts = *\n"
_VERIFIED = _TLS + "tls_verify_certificates = {ca}\n"
_LOGGED_IN = _VERIFIED + "hosts_require_auth = *\n"
_SMTPS = "protocol = smtps\nport = 465\n" + _VERIFIED
_LMTP = "protocol = lmtp\nport = 24\n"

# Domain: the options of a transport of its own; Exim sends BDAT wherever it is announced.
_ROUTES = {
    "plain": "hosts_avoid_tls = *\n",
    "data": "hosts_avoid_tls = *\nhosts_try_chunking =\n",
    "starttls": _VERIFIED,
    "distrusted": _TLS + "tls_verify_certificates = system\n",
    "smtps": _SMTPS,
    "auth_plain": _LOGGED_IN,
    "auth_login": _LOGGED_IN,
    "auth_cram_md5": _LOGGED_IN,
    "auth_smtps": _SMTPS + "hosts_require_auth = *\n",
    "auth_clear": "port = 587\nhosts_avoid_tls = *\nhosts_require_auth = *\n",
    "tapped": "port = 2500\nhosts_avoid_tls = *\n",
    "lmtp": _LMTP + "hosts_avoid_tls = *\n",
    "lmtp_starttls": _LMTP + _VERIFIED,
}

MAIN = f"""
primary_hostname = relay.example
local_interfaces = {ADDRESS[0]}
disable_ipv6 = true
acl_smtp_rcpt = accept
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
tls_advertise_hosts =
retry_interval_max = 1s
log_selector = +millisec
keep_environment =
"""
"""What is to be said before the routers."""

_ROUTER = """
{name}:
driver = manualroute
domains = {domain}.example
route_list = * localhost byname
self = send
transport = to_{name}
"""

_TRANSPORT = """
to_{name}:
driver = smtp
{options}
"""

_UNIX = """
lmtp_unix:
driver = accept
domains = lmtp-unix.example
transport = to_lmtp_unix
"""

_UNIX_TRANSPORT = """
to_lmtp_unix:
driver = lmtp
socket = {lmtp}
batch_max = 100
user = Debian-exim
"""

# Each way to log in has its own mechanism; the first that may be used is.
_REST = f"""
begin retry
* * F,1d,1s
begin authenticators
login:
driver = plaintext
public_name = LOGIN
client_condition = ${{if eq{{$transport_name}}{{to_auth_login}}}}
client_send = : {USER} : {PASSWORD}
cram_md5:
driver = cram_md5
public_name = CRAM-MD5
client_condition = ${{if eq{{$transport_name}}{{to_auth_cram_md5}}}}
client_name = {USER}
client_secret = {PASSWORD}
plain:
driver = plaintext
public_name = PLAIN
client_send = ^{USER}^{PASSWORD}
"""

_CONFIGURE = """
getent passwd Debian-exim || useradd --system Debian-exim
mkdir -p /run/exim4 /var/log/exim4 /var/spool/exim4
chown Debian-exim: /run/exim4 /var/log/exim4 /var/spool/exim4
"""


class Exim:
    """The running relay; ``place`` is where its programs are as if installed."""

    def __init__(self, place: Installed) -> None:
        self.place = place
        self._daemon = subprocess.Popen(
            place.command("exim4", "-bdf", "-q1s"), stdin=subprocess.DEVNULL
        )
        until(lambda: not refuses(*ADDRESS) or self._daemon.poll() is not None)
        assert self._daemon.poll() is None, self.said()

    def submit(
        self, messages: Sequence[bytes], sender: str, recipients: Sequence[str], **options: Any
    ) -> None:
        """Hand messages over, in one session."""
        with smtplib.SMTP(*ADDRESS, timeout=30) as client:
            for message in messages:
                client.sendmail(sender, recipients, message, **options)

    def queue(self) -> list[str]:
        """Return the names of what is still in the queue."""
        return self.place.run("find /var/spool/exim4/input -name '*-H'").splitlines()

    def said(self) -> str:
        """Return the log."""
        return self.place.run("cat /var/log/exim4/*log")

    def stop(self) -> None:
        self._daemon.terminate()
        self._daemon.wait(15)


def _configuration(receiver: Receiver) -> str:
    """Return a configuration with all the routes."""
    routers, transports = [], []
    for name, options in _ROUTES.items():
        routers.append(_ROUTER.format(name=name, domain=name.replace("_", "-")))
        options = options.format(ca=receiver.ca)
        transports.append(_TRANSPORT.format(name=name, options=options))
    transports.append(_UNIX_TRANSPORT.format(lmtp=receiver.lmtp_socket))
    return "".join(
        [MAIN, "begin routers\n", *routers, _UNIX, "begin transports\n", *transports, _REST]
    )


@contextmanager
def installed() -> Iterator[Installed]:
    """Yield Exim with the user and the directories that it needs."""
    with Installed(PACKAGE) as place:
        place.run(_CONFIGURE)
        yield place


@contextmanager
def running(place: Installed, configuration: str) -> Iterator[Exim]:
    """Run it as it is configured."""
    place.run(f"cat >/etc/exim4/exim4.conf <<'END'\n{configuration}\nEND\n")
    exim = Exim(place)
    try:
        yield exim
    finally:
        exim.stop()


@contextmanager
def relay(receiver: Receiver) -> Iterator[Exim]:
    """Run it with a way to every listener of ``receiver``."""
    with installed() as place, running(place, _configuration(receiver)) as exim:
        yield exim

"""`tls: auto`: a test CA of the daemon's own, and the certificates that it has signed.

They are one for the server, and those with a flaw that fault rules may ask for. The CA's private
key lives as long as the call that makes it, and is never written: whoever trusts the CA trusts no
other server, whatever becomes of the workers that can read the keys.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from mtad.config.load import Configuration
from mtad.errors import TlsError
from mtad.model.automatic_tls import AutomaticTls
from mtad.model.endpoint import ANY, TcpEndpoint
from mtad.model.profile import Profile
from mtad.model.rules.values import Do, Flawed, Rule
from mtad.tls.contexts import reason

MAX_NAMES = 200
"""More would not fit the messages of TLS everywhere: a range of listeners has thousands."""

_LEAST_SECONDS_LEFT = 30 * 86_400.0

_LOCAL = ("localhost", "127.0.0.1", "::1")

_END = b"-----END CERTIFICATE-----\n"


def ensure(configuration: Configuration, rules: Iterable[Rule] = ()) -> str:
    """Have the files that profiles with `tls: auto` and ``rules`` need; return why they are new.

    "": nothing had to be made. All are made together, the flawed certificates, too. Where these
    are missing (an earlier version has made the rest), there is a new CA only if a rule needs them.

    Raises:
        TlsError: they cannot be made.
    """
    flawed = _need_flawed(rules)
    wanted = names(configuration, flawed=flawed)
    if not wanted:
        return ""
    places = configuration.settings.automatic_tls()
    flaw = _flaw(places, wanted) or (_flaw_of_flawed(places) if flawed else "")
    if flaw:
        # The names of all others with TLS cost nothing now, and another CA later.
        all_names = _names(configuration, _has_tls)
        try:
            _make(places, list(dict.fromkeys([*wanted, *all_names]))[:MAX_NAMES])
        except OSError as error:
            raise TlsError(
                "the certificate of tls: auto cannot be written: "
                f"{error.filename or places.directory}: {error.strerror}",
                help="store.directory must be one that the daemon's user can write; "
                "tls: off does without",
            ) from error
    return flaw


def are_needed(configuration: Configuration, rules: Iterable[Rule]) -> bool:
    """Whether ``ensure`` would have a CA."""
    return bool(names(configuration, flawed=_need_flawed(rules)))


def _need_flawed(rules: Iterable[Rule]) -> bool:
    return any(_needs_flawed(rule.do) for rule in rules)


def _needs_flawed(do: Do) -> bool:
    if do.tls is not None and do.tls.certificate is not None:
        return True
    return any(_needs_flawed(choice.do) for choice in do.one_of)


def names(configuration: Configuration, *, flawed: bool = False) -> list[str]:
    """Return the names and addresses that the certificates have to have; none: nobody needs them.

    They are those of the machine, of the profiles with `tls: auto`, and of their listeners. Where
    there is none, and a rule needs a ``flawed`` certificate, of all with TLS.
    """
    pair = configuration.settings.automatic_tls().key_pair
    found = _names(configuration, lambda profile: pair in profile.tls.key_pairs)
    return found or (_names(configuration, _has_tls) if flawed else [])


def _has_tls(profile: Profile) -> bool:
    return bool(profile.tls.key_pairs)


def _names(configuration: Configuration, counts: Callable[[Profile], bool]) -> list[str]:
    """Return the names of the profiles that count; none where no profile does."""
    settings = configuration.settings
    profiles = list(filter(counts, map(settings.profile, settings.all_profiles())))
    if not profiles:
        return []
    hosts = [profile.hostname for profile in profiles if profile.hostname]
    addresses = (
        spec.endpoint.host
        for spec in configuration.listeners()
        if isinstance(spec.endpoint, TcpEndpoint) and counts(spec.profile)
    )
    found = dict.fromkeys([*_LOCAL, socket.gethostname(), *map(_bare, hosts), *addresses])
    return list(islice(filter(_can_be_named, found), MAX_NAMES))


def _bare(hostname: str) -> str:
    """Return the address in an address literal (RFC 5321 section 4.1.3), else the name."""
    return hostname.strip("[]").removeprefix("IPv6:")


def _can_be_named(name: str) -> bool:
    if address := _address(name):
        return not address.is_unspecified
    return name != ANY and name.isascii()


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _flaw(places: AutomaticTls, wanted: Iterable[str]) -> str:
    """Return what is wrong with the files; "": a client that trusts the CA would be content."""
    files = (places.ca, places.certificate, places.key)
    missing = [file for file in files if not file.exists()]
    if len(missing) == len(files):
        return "there was none"
    if missing:
        return f"{missing[0]} was missing"
    for key in (places.key, *filter(Path.exists, map(places.flawed, Flawed))):
        if stat.S_IMODE(key.stat().st_mode) & 0o077:
            return f"others than the daemon's user could use {key}"
    try:
        certificate = _as_a_client_sees_it(places)
    except OSError as error:
        why = reason(error) if isinstance(error, ssl.SSLError) else error.strerror
        return f"what was there could not be used: {why}"
    if ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time() < _LEAST_SECONDS_LEFT:
        return "the old one was about to expire"
    there = {_canonical(name) for _, name in certificate["subjectAltName"]}
    lacking = [name for name in wanted if _canonical(name) not in there]
    return f"the old one did not name {', '.join(lacking[:3])}" if lacking else ""


def _flaw_of_flawed(places: AutomaticTls) -> str:
    """Return what is wrong with the files of flawed certificates; "": nothing else than should."""
    for file in map(places.flawed, Flawed):
        try:
            if not file.read_bytes().endswith(_END):
                return f"{file} was not whole"
        except FileNotFoundError:
            return f"{file} was missing"
        except OSError as error:
            return f"{file} could not be read: {error.strerror}"
    return ""


def _canonical(name: str) -> str:
    return str(_address(name) or name.lower())


def _as_a_client_sees_it(places: AutomaticTls) -> dict[str, Any]:
    """Return the server's certificate as ssl describes it, after a handshake with ourselves.

    Raises:
        OSError: (ssl.SSLError, for the most part) a file cannot be used, or the client objects.
    """
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # An encrypted key is none of ours; with a password nobody is asked for one.
    server_side.load_cert_chain(places.certificate, places.key, password="")
    client_side = ssl.create_default_context(cafile=places.ca)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    client = client_side.wrap_bio(to_client, to_server, server_hostname=_LOCAL[0])
    for end in (client, server, client):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return client.getpeercert() or {}


def _make(places: AutomaticTls, wanted: Sequence[str]) -> None:
    """Make a CA and what it signs, and write all but the CA's key.

    Raises:
        OSError: a file cannot be written.
        TlsError: cryptography is not installed, or not for the daemon's user.
    """
    try:
        from mtad.supervisor.signing import make
    except ImportError as error:
        raise TlsError(
            f"the certificate of tls: auto cannot be made: {error}",
            help="install the package cryptography so that the daemon's user can read it; "
            "tls: off does without",
        ) from error
    made = make(wanted)
    places.directory.mkdir(mode=0o750, exist_ok=True)
    # The CA's certificate comes last: what was written in part is found out by the next start.
    _write(places.key, made.key, 0o600)
    _write(places.certificate, made.certificate, 0o644)
    for flaw, octets in made.flawed.items():
        # The disk is not waited for, 5 ms a file: few will ever need them.
        _write(places.flawed(flaw), octets, 0o600, sync=False)
    _write(places.ca, made.ca, 0o644)


def _write(path: Path, octets: bytes, mode: int, *, sync: bool = True) -> None:
    """Have ``octets`` in ``path``, all of them or what was there before.

    Without ``sync`` that does not hold for a machine that fails within the next minute.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # of an earlier process of this id
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            if sync:
                os.fsync(descriptor)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

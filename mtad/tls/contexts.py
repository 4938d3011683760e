"""Contexts for TLS, made from a profile.

Session tickets are on (RFC 5077, RFC 8446 section 4.6.1). Their keys belong to a process: a client
that resumes at another worker makes a full handshake there.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from mtad.errors import TlsError
from mtad.model.profile import ClientCertificates, KeyPair, Tls
from mtad.tls.certificates import CERTIFICATE, PRIVATE_KEY, host_names, read_pem

_VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}

# OpenSSL's security levels above 0 rule out TLS 1.0 and 1.1, and those above 1 RSA keys of 1024
# bits (SSL_CTX_set_security_level(3)).
_OLD = frozenset({"1.0", "1.1"})
_ANY_CIPHERS = "DEFAULT:@SECLEVEL=0"

_VERIFY = {
    ClientCertificates.NONE: ssl.CERT_NONE,
    ClientCertificates.ASK: ssl.CERT_OPTIONAL,
    ClientCertificates.REQUIRE: ssl.CERT_REQUIRED,
}


class ServerObject(ssl.SSLObject):
    """One connection; ``sni`` is the host that the client named (RFC 6066 section 3), or ""."""

    sni = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a context is made by: the TLS of a profile, and what only a fault has.

    ``maximum_version`` "" is the newest there is; ``weak_keys`` says that the key pairs are such as
    OpenSSL would not use. No profile has client certificates without a client_ca: with such terms
    nobody is vouched for.
    """

    tls: Tls
    maximum_version: str = ""
    weak_keys: bool = False


def shared_context(tls: Tls) -> ssl.SSLContext:
    """Return what server_context does, the same as last time while no file has changed.

    Reading the files takes milliseconds, and what they make tens of KB: much, for a listener.

    Raises:
        TlsError: as server_context.
    """
    _need_client_ca(tls)
    return shared(Terms(tls))


def shared(terms: Terms) -> ssl.SSLContext:
    """Return the context of ``terms``, in the same way. Raises TlsError as server_context does."""
    tls = terms.tls
    files = [file for pair in tls.key_pairs for file in (pair.certificate, pair.key)]
    return _shared(terms, tuple(map(_stamp, filter(None, [*files, tls.client_ca]))))


@lru_cache(maxsize=64)
def _shared(terms: Terms, _: tuple[tuple[int, ...], ...]) -> ssl.SSLContext:
    return _server_context(terms)


def _stamp(file: str) -> tuple[int, ...]:
    """Return what is another when the file is; () when there is none."""
    try:
        found = Path(file).stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def server_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of a listener with the TLS of a profile.

    With several key pairs SNI (RFC 6066 section 3) chooses: the first whose certificate names the
    host, else the first with a wildcard for it, else the first of all.

    ``minimum_version`` 1.0 and 1.1 lower OpenSSL's security level to 0, for they do not work
    above it; an OpenSSL built without them still refuses. Where client certificates are asked
    for, a client without one is served. One that shows a certificate that ``client_ca`` does not
    vouch for is refused in the handshake, asked or required: OpenSSL can be told to go on, but
    Python's ssl module has no way to say so.

    Raises:
        TlsError: a file is missing, unreadable, no PEM, or does not fit the others.
    """
    _need_client_ca(tls)
    return _server_context(Terms(tls))


def _server_context(terms: Terms) -> ssl.SSLContext:
    tls = terms.tls
    if not tls.key_pairs:
        raise TlsError("TLS has no certificate", help="name a certificate and its key")
    contexts = [_context(terms, pair) for pair in tls.key_pairs]
    # Several only: what is wrong with the names of one does not matter.
    by_name = _by_name(contexts, tls.key_pairs) if len(contexts) > 1 else {}
    first = contexts[0]

    # A name that is not ASCII never gets here: the ssl module reports it to sys.unraisablehook,
    # and the handshake fails.
    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        cast("ServerObject", connection).sni = name or ""
        host = (name or "").lower()
        wildcard = "*." + host.partition(".")[2]
        connection.context = by_name.get(host) or by_name.get(wildcard) or first

    first.sslobject_class = ServerObject
    first.sni_callback = choose
    return first


def check(tls: Tls) -> None:
    """Look at every file of ``tls``; without key pairs, at those for clients alone.

    Raises:
        TlsError: as server_context.
    """
    if tls.key_pairs:
        server_context(tls)
    elif tls.client_certificates is not ClientCertificates.NONE:
        _need_client_ca(tls)
        _load_client_ca(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls.client_ca)


def _by_name(
    contexts: list[ssl.SSLContext], pairs: tuple[KeyPair, ...]
) -> dict[str, ssl.SSLContext]:
    """Return the contexts by the names of their certificates."""
    by_name: dict[str, ssl.SSLContext] = {}
    for pair, context in zip(pairs, contexts, strict=True):
        names = host_names(pair.certificate)
        if not names and context is not contexts[0]:
            raise TlsError(
                f"the certificate {pair.certificate} names no host: no client ever gets it",
                help="put it first, or give it a subjectAltName with DNS names",
            )
        for name in names:
            by_name.setdefault(name, context)
    return by_name


def _context(terms: Terms, pair: KeyPair) -> ssl.SSLContext:
    """Return a context with one key pair and everything else that the terms say."""
    tls = terms.tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.minimum_version]
    if terms.maximum_version:
        context.maximum_version = _VERSIONS[terms.maximum_version]
    context.options |= ssl.OP_NO_RENEGOTIATION  # OpenSSL 1.1.1 has it on
    if tls.minimum_version in _OLD or terms.weak_keys:
        context.set_ciphers(_ANY_CIPHERS)
    _load_key_pair(context, pair)
    if tls.client_certificates is not ClientCertificates.NONE and tls.client_ca:
        _load_client_ca(context, tls.client_ca)
    context.verify_mode = _VERIFY[tls.client_certificates]
    return context


def _load_key_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    read_pem("certificate", pair.certificate, CERTIFICATE)
    read_pem("key", pair.key, PRIVATE_KEY)

    def encrypted() -> str:
        raise TlsError(  # OpenSSL would ask at the terminal
            f"the key {pair.key} is encrypted",
            help="decrypt it with openssl pkey, and keep others from reading it",
        )

    try:
        context.load_cert_chain(pair.certificate, pair.key, encrypted)
    except ssl.SSLError as error:
        raise TlsError(
            f"the key {pair.key} and the certificate {pair.certificate} cannot be used together: "
            f"{reason(error)}",
            help="name the key that the certificate was made for; in a chain, the server's own "
            "certificate comes first",
        ) from error


def _need_client_ca(tls: Tls) -> None:
    if tls.client_certificates is not ClientCertificates.NONE and not tls.client_ca:
        raise TlsError(
            "client certificates are asked for, but no client_ca vouches for any",
            help="name a PEM file with the CA of the clients",
        )


def _load_client_ca(context: ssl.SSLContext, file: str) -> None:
    read_pem("client_ca", file, CERTIFICATE)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise TlsError(
            f"the client_ca {file} cannot be used: {reason(error)}",
            help="name a PEM file with the CA of the clients",
        ) from error


def reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (error.reason or str(error)).lower().replace("_", " ")

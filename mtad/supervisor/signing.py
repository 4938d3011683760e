"""A CA for tests, and what it signs. Imported only where that is to be made."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mtad.model.rules.values import Flawed

_VALID = timedelta(days=3650)
# For senders whose clock is late.
_SINCE = timedelta(days=1)
_SERVER = "mtad test server"

# What is wrong with those that have a flaw. Nobody has the name (RFC 2606 section 2).
_WRONG_NAMES = ("wrong-name.invalid",)
_WEAK_BITS = 1024  # no security level but 0 and 1 of OpenSSL's takes it; fewer, and TLS 1.3 fails
_FORGOTTEN = timedelta(days=90)  # the life of one that was to be renewed
_EXPIRED_FOR = timedelta(days=7)

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Signed:
    """All in PEM: a CA's certificate, a server's, the server's key.

    ``flawed`` has, for each flaw, a certificate that has it, behind its key.
    """

    ca: bytes
    certificate: bytes
    key: bytes
    flawed: dict[Flawed, bytes]


def make(names: Sequence[str]) -> Signed:
    """Return a CA, and certificates for the server ``names``: a good one, and the flawed.

    ECDSA over P-256, for ten years, by RFC 5280. The CA's key is forgotten.
    """
    ca = _Authority("mtad test CA")
    key = _new_key()
    flawed = {flaw: b"".join(map(_pem, pair(ca, names))) for flaw, pair in _FLAWED.items()}
    return Signed(_pem(ca.certificate()), _pem(ca.sign(key, names)), _pem(key), flawed)


class _Authority:
    """A CA; its private key lives as long as this."""

    def __init__(self, name: str) -> None:
        # A name of its own: in a trust store it may meet one that was made earlier.
        self._name = _named(f"{name} {secrets.token_hex(4)}")
        self._key = _new_key()
        self._id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self.begins = datetime.now(UTC) - _SINCE
        self.ends = self.begins + _SINCE + _VALID

    def certificate(self) -> x509.Certificate:
        """Return the CA's own certificate."""
        return (
            _begun(self._name, self._name, self._key, self.begins, self.ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(self._id, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def sign(
        self,
        key: _Key,
        names: Sequence[str],
        begins: datetime | None = None,
        ends: datetime | None = None,
    ) -> x509.Certificate:
        """Return a server's certificate for ``names``, valid as long as the CA's."""
        return (
            _server(self._name, key, names, begins or self.begins, ends or self.ends)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._id),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )


_Pair = tuple[_Key, x509.Certificate]


def _expired(ca: _Authority, names: Sequence[str]) -> _Pair:
    ended = datetime.now(UTC) - _EXPIRED_FOR
    key = _new_key()
    return key, ca.sign(key, names, ended - _FORGOTTEN, ended)


def _not_yet_valid(ca: _Authority, names: Sequence[str]) -> _Pair:
    key = _new_key()  # and never will be: the CA's own certificate ends where this begins
    return key, ca.sign(key, names, ca.ends, ca.ends + _FORGOTTEN)


def _wrong_name(ca: _Authority, _: Sequence[str]) -> _Pair:
    key = _new_key()
    return key, ca.sign(key, _WRONG_NAMES)


def _weak_key(ca: _Authority, names: Sequence[str]) -> _Pair:
    key = rsa.generate_private_key(65_537, _WEAK_BITS)
    return key, ca.sign(key, names)


def _self_signed(ca: _Authority, names: Sequence[str]) -> _Pair:
    # Without keyUsage: what may not sign certificates is not self-signed for OpenSSL 1.1.1.
    key = _new_key()
    server = _server(_named(_SERVER), key, names, ca.begins, ca.ends)
    return key, server.sign(key, hashes.SHA256())


def _unknown_ca(_: _Authority, names: Sequence[str]) -> _Pair:
    key = _new_key()  # signed by a CA whose certificate is nowhere
    return key, _Authority("mtad unknown CA").sign(key, names)


_FLAWED: dict[Flawed, Callable[[_Authority, Sequence[str]], _Pair]] = {
    Flawed.EXPIRED: _expired,
    Flawed.NOT_YET_VALID: _not_yet_valid,
    Flawed.WRONG_NAME: _wrong_name,
    Flawed.WEAK_KEY: _weak_key,
    Flawed.SELF_SIGNED: _self_signed,
    Flawed.UNKNOWN_CA: _unknown_ca,
}

_new_key = partial(ec.generate_private_key, ec.SECP256R1())


def _pem(part: _Key | x509.Certificate) -> bytes:
    if isinstance(part, x509.Certificate):
        return part.public_bytes(Encoding.PEM)
    return part.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _server(
    issuer: x509.Name, key: _Key, names: Sequence[str], begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        _begun(_named(_SERVER), issuer, key, begins, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(map(_general_name, names)), critical=False)
        .add_extension(identifier, critical=False)
    )


def _begun(
    subject: x509.Name, issuer: x509.Name, key: _Key, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=begins,
        not_valid_after=ends,
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)

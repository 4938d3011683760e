"""Files with certificates and keys: what is in them, told before OpenSSL fails over it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

from mtad.errors import TlsError

CERTIFICATE = "BEGIN CERTIFICATE-----"
PRIVATE_KEY = "PRIVATE KEY-----"
"""What a PEM file with a key has, be it RSA's, EC's, encrypted or any."""

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

# Tags of DER (X.690 section 8.1.2), as the certificate of RFC 5280 section 4.1 uses them.
_SEQUENCE = 0x30
_OCTET_STRING = 0x04
_EXTENSIONS = 0xA3
_DNS_NAME = 0x82

_SUBJECT_ALT_NAME = bytes.fromhex("0603551d11")


def read_pem(what: str, file: str, label: str) -> str:
    """Return the text of ``file``, the ``what`` of a profile, which has to hold ``label``.

    Raises:
        TlsError: the file cannot be read, or is no PEM.
    """
    try:
        text = Path(file).read_text(encoding="latin-1")
    except OSError as error:
        raise TlsError(
            f"the {what} {file} cannot be read: {error.strerror}",
            help="it must exist and be readable for the user that the daemon runs as",
        ) from error
    if label not in text:
        raise TlsError(
            f"the {what} {file} has no PEM block {label.strip('-').removeprefix('BEGIN ')}",
            help="convert it with openssl x509 or openssl pkey, -outform pem",
        )
    return text


def host_names(file: str) -> tuple[str, ...]:
    """Return the dNSNames (RFC 5280 section 4.2.1.6) of the first certificate, in lower case.

    The ssl module does not tell those of one's own certificate. The common name is no host name
    any more (RFC 9525 section 2) and is left alone.

    Raises:
        TlsError: the file holds no certificate.
    """
    match = _PEM.search(read_pem("certificate", file, CERTIFICATE))
    try:
        return tuple(
            name.decode("ascii").lower()
            for name in _dns_names(ssl.PEM_cert_to_DER_cert(match[0] if match else ""))
        )
    except (IndexError, ValueError) as error:
        raise TlsError(
            f"the certificate {file} is not a certificate within: {error}",
            help="convert it with openssl x509 -outform pem",
        ) from error


def _dns_names(certificate: bytes) -> Iterator[bytes]:
    to_be_signed = _first(_first(certificate))
    for extensions in _elements(to_be_signed, _EXTENSIONS):
        for extension in _elements(_first(extensions), _SEQUENCE):
            if extension.startswith(_SUBJECT_ALT_NAME):
                for names in _elements(extension, _OCTET_STRING):
                    yield from _elements(_first(names), _DNS_NAME)


def _first(octets: bytes) -> bytes:
    """Return the content of the first sequence of ``octets``; b"" without one."""
    return next(_elements(octets, _SEQUENCE), b"")


def _elements(octets: bytes, wanted: int) -> Iterator[bytes]:
    """Yield the content of each DER element of ``octets`` that has the tag ``wanted``."""
    at = 0
    while at < len(octets):
        tag, length = octets[at], octets[at + 1]
        at += 2
        if length & 0x80:  # the long form: so many octets of length follow
            size = length & 0x7F
            length = int.from_bytes(octets[at : at + size], "big")
            at += size
        if tag == wanted:
            yield octets[at : at + length]
        at += length

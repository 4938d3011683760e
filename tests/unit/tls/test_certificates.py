"""The names of a certificate, against another reader of the same certificate."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from mtad.errors import TlsError
from mtad.tls.certificates import host_names

KEY = ec.generate_private_key(ec.SECP256R1())
SUBJECT = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "common.example")])


def pem(*names: x509.GeneralName, other: int = 0) -> str:
    """Return a certificate with ``names``, and ``other`` octets in an extension before them."""
    builder = (
        x509.CertificateBuilder(SUBJECT, SUBJECT, KEY.public_key(), 1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2021, 1, 1, tzinfo=UTC))
    )
    if other:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(other))
        builder = builder.add_extension(unknown, critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=bool(other))
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates") / "certificate.pem"


host = st.from_regex(r"(\*\.)?[A-Za-z0-9-]{1,20}(\.[A-Za-z0-9-]{1,20}){0,3}", fullmatch=True)
names = st.one_of(
    host.map(x509.DNSName),
    host.map("https://{}/".format).map(x509.UniformResourceIdentifier),
    host.map("postmaster@{}".format).map(x509.RFC822Name),
    st.ip_addresses().map(x509.IPAddress),
    st.just(x509.DirectoryName(SUBJECT)),
)


@given(st.lists(names, max_size=20), st.sampled_from([0, 1, 127, 128, 300, 70_000]))
def test_the_dns_names_and_no_others(file: Path, some: list[x509.GeneralName], other: int) -> None:
    file.write_text(pem(*some, other=other))
    expected = [name.value.lower() for name in some if isinstance(name, x509.DNSName)]
    assert list(host_names(str(file))) == expected


def test_of_several_certificates_the_first_counts(file: Path) -> None:
    first, second = pem(x509.DNSName("first.example")), pem(x509.DNSName("second.example"))
    file.write_text(f"subject=\xe9\n{first}\n{second}", encoding="latin-1")
    assert host_names(str(file)) == ("first.example",)


def test_a_common_name_is_none(file: Path) -> None:
    file.write_text(pem(x509.IPAddress(ip_address("192.0.2.1"))))
    assert host_names(str(file)) == ()


def test_a_name_that_is_not_ascii_is_refused(file: Path) -> None:
    octets = ssl.PEM_cert_to_DER_cert(pem(x509.DNSName("mx.example")))
    file.write_text(ssl.DER_cert_to_PEM_cert(octets.replace(b"mx.ex", b"m\xc3\xbc.x")))
    with pytest.raises(TlsError, match="not a certificate within"):
        host_names(str(file))


GOOD = ssl.PEM_cert_to_DER_cert(pem(x509.DNSName("a.example"), x509.DNSName("b.example")))


@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=3),
    st.integers(0, len(GOOD)),
)
def test_what_is_no_certificate_has_names_or_an_error(
    file: Path, changes: list[tuple[int, int]], end: int
) -> None:
    octets = bytearray(GOOD)
    for at, octet in changes:
        octets[at] = octet
    file.write_text(ssl.DER_cert_to_PEM_cert(bytes(octets[:end])))
    found: tuple[str, ...] = ()
    with suppress(TlsError):
        found = host_names(str(file))
    assert all(name.isascii() for name in found)

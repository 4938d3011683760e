"""Contexts of profiles: what clients of each kind see of them, and files that are refused."""

from __future__ import annotations

import ssl
from contextlib import nullcontext
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from harness.tls_peers import CA, VERSIONS, Peers, client_context, key_pair

from mtad.errors import TlsError
from mtad.model.profile import ClientCertificates, KeyPair, Tls
from mtad.smtp.tls import TlsProtocolError
from mtad.tls.contexts import server_context, shared_context

CLIENT_CA = trustme.CA()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return key_pair(tmp_path_factory.mktemp("pair"), "mx.example")


@pytest.fixture(scope="module")
def client_ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("client-ca") / "ca.pem"
    CLIENT_CA.cert_pem.write_to_path(str(file))
    return str(file)


# Versions


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("floor", VERSIONS)
def test_the_floor_of_versions(pair: KeyPair, floor: str) -> None:
    server = server_context(Tls((pair,), minimum_version=floor))
    faults = {version: Peers(server, client_context(version)).fault() for version in VERSIONS}
    assert faults == {
        version: "" if version >= floor else "unsupported protocol" for version in VERSIONS
    }


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_session_is_resumed(pair: KeyPair, version: str) -> None:
    server, client = server_context(Tls((pair,))), client_context(version)
    first = Peers(server, client).shake_hands()
    first.layer.send(b"220\r\n")
    first.carry()
    assert first.read() == b"220\r\n"  # in 1.3, the tickets come with it
    assert first.client.session is not None
    again = Peers(server, client, session=first.client.session).shake_hands()
    assert (first.client.session_reused, again.client.session_reused) == (False, True)
    assert again.layer.established


# SNI


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder = tmp_path_factory.mktemp("several")
    pairs = (
        key_pair(folder, "first.example"),
        key_pair(folder, "*.wild.example", "second.example"),
        key_pair(folder, "mx.wild.example", "Third.Example", "192.0.2.1", "first.example"),
    )
    return server_context(Tls(pairs))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("first.example", "first.example"),
        ("second.example", "*.wild.example"),
        ("SECOND.example", "*.wild.example"),
        ("a.wild.example", "*.wild.example"),
        ("a.b.wild.example", "first.example"),
        ("wild.example", "first.example"),
        ("mx.wild.example", "mx.wild.example"),
        ("third.example", "mx.wild.example"),
        ("unknown.example", "first.example"),
        ("192.0.2.1", "first.example"),  # an address is no SNI
        ("localhost", "first.example"),
        (None, "first.example"),
    ],
)
def test_the_certificate_is_that_of_the_name(
    several: ssl.SSLContext, version: str, name: str | None, served: str
) -> None:
    client = client_context(version)
    client.check_hostname = False
    peers = Peers(several, client, name).shake_hands()
    certificate = peers.client.getpeercert()
    assert certificate is not None
    assert certificate["subjectAltName"][0] == ("DNS", served)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("name", "served"),
    [
        (b"\xfferver.example", False),
        (b"s\0rver.example", False),
        (b"s\r\nver.example", True),
        (b"..............", True),
    ],
)
def test_a_name_that_is_none(several: ssl.SSLContext, name: bytes, *, served: bool) -> None:
    peers = Peers(several, name="server.example")
    with pytest.raises(ssl.SSLWantReadError):
        peers.client.do_handshake()
    hello = peers.wire.read()
    assert hello.count(b"server.example") == 1
    with nullcontext() if served else pytest.raises(TlsProtocolError):
        peers.layer.receive(hello.replace(b"server.example", name))
    answer = peers.layer.outgoing()
    assert answer.startswith(b"\x16\x03" if served else b"\x15\x03")


# Client certificates


def certified(authority: trustme.CA | None) -> ssl.SSLContext:
    context = client_context()
    if authority is not None:
        authority.issue_cert("client.example").configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("policy", "authority", "shown"),
    [
        (ClientCertificates.NONE, None, False),
        (ClientCertificates.NONE, CLIENT_CA, False),
        (ClientCertificates.ASK, None, False),
        (ClientCertificates.ASK, CLIENT_CA, True),
        (ClientCertificates.REQUIRE, CLIENT_CA, True),
    ],
)
def test_clients_that_are_served(
    pair: KeyPair,
    client_ca: str,
    policy: ClientCertificates,
    authority: trustme.CA | None,
    *,
    shown: bool,
) -> None:
    server = server_context(Tls((pair,), client_certificates=policy, client_ca=client_ca))
    peers = Peers(server, certified(authority)).shake_hands()
    assert peers.layer.established
    certificate = peers.layer.object.getpeercert()
    assert bool(certificate) is shown
    if certificate:
        assert certificate["subjectAltName"] == (("DNS", "client.example"),)


@pytest.mark.parametrize(
    ("policy", "authority", "reason"),
    [
        (ClientCertificates.ASK, CA, "certificate in certificate chain"),
        (ClientCertificates.REQUIRE, CA, "certificate in certificate chain"),
        (ClientCertificates.REQUIRE, None, "peer did not return a certificate"),
    ],
)
def test_clients_that_are_refused(
    pair: KeyPair,
    client_ca: str,
    policy: ClientCertificates,
    authority: trustme.CA | None,
    reason: str,
) -> None:
    server = server_context(Tls((pair,), client_certificates=policy, client_ca=client_ca))
    peers = Peers(server, certified(authority))
    assert reason in peers.fault()
    assert peers.layer.outgoing() != b""
    assert not peers.layer.established


# Files


def test_several_by_name_need_names(tmp_path: Path, pair: KeyPair) -> None:
    nameless = key_pair(tmp_path, "192.0.2.1")
    server_context(Tls((nameless,)))
    server_context(Tls((nameless, pair)))
    with pytest.raises(TlsError, match="names no host") as raised:
        server_context(Tls((pair, nameless)))
    assert nameless.certificate in raised.value.message
    assert raised.value.help


@pytest.fixture
def folder(tmp_path: Path, pair: KeyPair) -> Path:
    """A folder with files that are wrong, and good.pem with good.key."""
    for suffix, file in (("pem", pair.certificate), ("key", pair.key)):
        (tmp_path / f"good.{suffix}").write_bytes(Path(file).read_bytes())
    key_pair(tmp_path, "other.example")
    issued = CA.issue_cert("encrypted.example")
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    (tmp_path / "encrypted.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    (tmp_path / "der.pem").write_bytes(ssl.PEM_cert_to_DER_cert(CA.cert_pem.bytes().decode()))
    (tmp_path / "empty.pem").touch()
    for label in ("CERTIFICATE", "PRIVATE KEY"):
        block = f"-----BEGIN {label}-----\nMIIB\n-----END {label}-----\n"
        (tmp_path / f"broken.{'pem' if label == 'CERTIFICATE' else 'key'}").write_text(block)
    (tmp_path / "folder.pem").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("certificate", "key", "culprit", "problem"),
    [
        ("missing.pem", "good.key", "certificate {}/missing.pem", "No such file"),
        ("good.pem", "missing.key", "key {}/missing.key", "No such file"),
        ("folder.pem", "good.key", "certificate {}/folder.pem", "Is a directory"),
        ("empty.pem", "good.key", "certificate {}/empty.pem", "no PEM block CERTIFICATE"),
        ("der.pem", "good.key", "certificate {}/der.pem", "no PEM block CERTIFICATE"),
        ("good.key", "good.pem", "certificate {}/good.key", "no PEM block CERTIFICATE"),
        ("good.pem", "good.pem", "key {}/good.pem", "no PEM block PRIVATE KEY"),
        ("good.pem", "other.example.key", "key {}/other.example.key", "key values mismatch"),
        ("good.pem", "encrypted.key", "key {}/encrypted.key", "is encrypted"),
        ("good.pem", "broken.key", "key {}/broken.key", "cannot be used together"),
        ("broken.pem", "good.key", "certificate {}/broken.pem", "cannot be used together"),
    ],
)
def test_files_that_are_refused(
    folder: Path, certificate: str, key: str, culprit: str, problem: str
) -> None:
    with pytest.raises(TlsError) as raised:
        server_context(Tls((KeyPair(str(folder / certificate), str(folder / key)),)))
    assert culprit.format(folder) in raised.value.message
    assert problem in raised.value.message
    assert raised.value.help


def test_the_good_files_of_the_folder_are_good(folder: Path) -> None:
    server_context(Tls((KeyPair(str(folder / "good.pem"), str(folder / "good.key")),)))


def test_no_key_pair_is_an_error() -> None:
    with pytest.raises(TlsError, match="no certificate"):
        server_context(Tls())


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("", "no client_ca"),
        ("missing.pem", "No such file"),
        ("empty.pem", "no PEM block"),
        ("broken.pem", "cannot be used"),
    ],
)
@pytest.mark.parametrize("policy", [ClientCertificates.ASK, ClientCertificates.REQUIRE])
def test_a_client_ca_that_is_refused(
    folder: Path, pair: KeyPair, policy: ClientCertificates, file: str, problem: str
) -> None:
    client_ca = file and str(folder / file)
    with pytest.raises(TlsError, match=problem) as raised:
        server_context(Tls((pair,), client_certificates=policy, client_ca=client_ca))
    assert client_ca in raised.value.message
    assert raised.value.help


# Shared


def test_one_context_while_no_file_changes(tmp_path: Path, client_ca: str) -> None:
    pair = key_pair(tmp_path, "mx.example")
    tls = Tls((pair,))
    asking = Tls((pair,), client_certificates=ClientCertificates.ASK, client_ca=client_ca)
    first = shared_context(tls)
    assert shared_context(Tls((pair,))) is first
    assert shared_context(asking) is shared_context(asking) is not first
    renewed = key_pair(tmp_path, "other.example")
    Path(renewed.certificate).rename(pair.certificate)
    Path(renewed.key).rename(pair.key)
    second = shared_context(tls)
    assert second is not first
    Peers(second, client_context("1.3"), name="other.example").shake_hands()
    Path(pair.key).unlink()
    with pytest.raises(TlsError, match=pair.key):
        shared_context(tls)

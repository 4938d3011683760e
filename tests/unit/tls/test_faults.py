"""The TLS of fault rules: what a client that verifies says of it, and one that does not."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest
import trustme
from harness.tls_peers import VERSIONS, Peers, client_context, key_pair

from mtad.config.rules.text import load_rule
from mtad.errors import TlsError
from mtad.model.automatic_tls import AutomaticTls
from mtad.model.profile import ClientCertificates, KeyPair, Tls
from mtad.model.rules.values import Flawed, TlsFault
from mtad.supervisor.signing import make
from mtad.tls.contexts import shared_context
from mtad.tls.faults import fault_context

CLIENT_CA = trustme.CA()

VERIFY_CODES = {
    Flawed.EXPIRED: 10,  # X509_V_ERR_CERT_HAS_EXPIRED (x509_vfy.h)
    Flawed.NOT_YET_VALID: 9,  # X509_V_ERR_CERT_NOT_YET_VALID
    Flawed.WRONG_NAME: 62,  # X509_V_ERR_HOSTNAME_MISMATCH
    Flawed.WEAK_KEY: 66,  # X509_V_ERR_EE_KEY_TOO_SMALL
    Flawed.SELF_SIGNED: 18,  # X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
    Flawed.UNKNOWN_CA: 20,  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
}


@pytest.fixture(scope="module")
def automatic(tmp_path_factory: pytest.TempPathFactory) -> AutomaticTls:
    places = AutomaticTls(tmp_path_factory.mktemp("tls"))
    made = make(["mx.example"])
    places.ca.write_bytes(made.ca)
    places.certificate.write_bytes(made.certificate)
    places.key.write_bytes(made.key)
    for flaw, octets in made.flawed.items():
        places.flawed(flaw).write_bytes(octets)
    return places


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return key_pair(tmp_path_factory.mktemp("pair"), "mx.example")


def verdict(server: ssl.SSLContext, client: ssl.SSLContext) -> int:
    """Return the code of a client's verification (X509_STORE_CTX_get_error(3)); 0 is content."""
    try:
        Peers(server, client).shake_hands()
    except ssl.SSLCertVerificationError as error:
        return error.verify_code
    return 0


# Certificates


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("flaw", Flawed)
def test_each_flaw_is_told_by_its_name(automatic: AutomaticTls, flaw: Flawed, version: str) -> None:
    client = ssl.create_default_context(cafile=str(automatic.ca))
    client.minimum_version = client.maximum_version = VERSIONS[version]
    tls = Tls((automatic.key_pair,))
    faulty = fault_context(tls, TlsFault(flaw), automatic)
    assert verdict(faulty, client) == VERIFY_CODES[flaw]
    assert verdict(shared_context(tls), client) == 0


@pytest.mark.parametrize("flaw", Flawed)
def test_who_does_not_verify_is_served(automatic: AutomaticTls, flaw: Flawed) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    if flaw is Flawed.WEAK_KEY:  # OpenSSL does not use such a key, verified or not
        client.set_ciphers("DEFAULT:@SECLEVEL=1")
    peers = Peers(fault_context(Tls((automatic.key_pair,)), TlsFault(flaw), automatic), client)
    assert peers.shake_hands().layer.established
    assert peers.layer.object.sni == "mx.example"
    peers.layer.send(b"220\r\n")
    peers.carry()
    assert peers.read() == b"220\r\n"


def test_a_profile_with_files_has_the_flaws_of_the_test_ca(
    automatic: AutomaticTls, pair: KeyPair
) -> None:
    tls = Tls((pair, pair))
    faulty = fault_context(tls, TlsFault(Flawed.EXPIRED), automatic)
    trusting_both = client_context()
    trusting_both.load_verify_locations(automatic.ca)
    assert verdict(faulty, trusting_both) == VERIFY_CODES[Flawed.EXPIRED]
    assert verdict(faulty, client_context()) == VERIFY_CODES[Flawed.UNKNOWN_CA]
    assert verdict(fault_context(tls, TlsFault(), automatic), client_context()) == 0


def test_one_that_was_never_made(tmp_path: Path, pair: KeyPair) -> None:
    with pytest.raises(TlsError, match=r"there is no .*/expired\.pem") as raised:
        fault_context(Tls((pair,)), TlsFault(Flawed.EXPIRED), AutomaticTls(tmp_path))
    assert "mtactl config reload makes it" in raised.value.help


# Versions


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("profile", "fault", "spoken"),
    [
        ("1.2", TlsFault(), ["1.2", "1.3"]),
        ("1.2", TlsFault(minimum_version="1.3"), ["1.3"]),
        ("1.2", TlsFault(minimum_version="1.0"), ["1.0", "1.1", "1.2", "1.3"]),
        ("1.2", TlsFault(maximum_version="1.2"), ["1.2"]),
        ("1.0", TlsFault(maximum_version="1.2"), ["1.0", "1.1", "1.2"]),
        ("1.2", TlsFault(maximum_version="1.1"), ["1.1"]),
        ("1.3", TlsFault(maximum_version="1.0"), ["1.0"]),
        ("1.3", TlsFault(minimum_version="1.1", maximum_version="1.2"), ["1.1", "1.2"]),
    ],
)
def test_floor_and_ceiling(
    automatic: AutomaticTls, pair: KeyPair, profile: str, fault: TlsFault, spoken: list[str]
) -> None:
    server = fault_context(Tls((pair,), minimum_version=profile), fault, automatic)
    assert [version for version in VERSIONS if is_spoken(server, version)] == spoken


def is_spoken(server: ssl.SSLContext, version: str) -> bool:
    try:
        return Peers(server, client_context(version)).fault() == ""
    except ssl.SSLError:  # the client's, which is offered less
        return False


# Certificates of clients


@pytest.fixture(scope="module")
def client_ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("client-ca") / "ca.pem"
    CLIENT_CA.cert_pem.write_to_path(str(file))
    return str(file)


@pytest.mark.parametrize(
    ("asked", "has_ca", "shows", "fault"),
    [
        ("ask", True, False, ""),
        ("ask", True, True, ""),
        ("ask", False, False, ""),
        ("ask", False, True, "unable to get local issuer certificate"),
        ("require", True, False, "peer did not return a certificate"),
        ("require", True, True, ""),
        ("require", False, False, "peer did not return a certificate"),
        ("require", False, True, "unable to get local issuer certificate"),
        ("none", True, False, ""),
    ],
)
def test_certificates_of_clients(
    automatic: AutomaticTls,
    pair: KeyPair,
    client_ca: str,
    asked: str,
    *,
    has_ca: bool,
    shows: bool,
    fault: str,
) -> None:
    tls = Tls(
        (pair,),
        client_certificates=ClientCertificates.REQUIRE if has_ca else ClientCertificates.NONE,
        client_ca=client_ca if has_ca else "",
    )
    client = client_context()
    if shows:
        CLIENT_CA.issue_cert("client.example").configure_cert(client)
    peers = Peers(fault_context(tls, TlsFault(client_certificates=asked), automatic), client)
    assert peers.fault() == fault
    if not fault:
        assert bool(peers.layer.object.getpeercert()) is shows


# Shared


def test_one_context_for_each_fault(automatic: AutomaticTls, pair: KeyPair) -> None:
    tls = Tls((pair,))
    expired = fault_context(tls, TlsFault(Flawed.EXPIRED), automatic)
    assert fault_context(tls, TlsFault(Flawed.EXPIRED, alert=40), automatic) is expired
    assert fault_context(tls, TlsFault(Flawed.WRONG_NAME), automatic) is not expired
    assert fault_context(tls, TlsFault(maximum_version="1.2"), automatic) is not expired
    assert fault_context(tls, TlsFault(), automatic) is shared_context(tls)


# Documentation


def test_every_rule_of_the_page_is_one() -> None:
    page = (Path(__file__).parents[3] / "docs" / "faults.md").read_text()
    (section,) = re.findall(r"(?ms)^## TLS\n(.*?)^## ", page)
    rules = [load_rule("documented", text) for text in re.findall("`(at: [^`]+)`", section)]
    faults = [rule.do.tls for rule in rules if rule.do.tls is not None]
    assert {fault.certificate for fault in faults} == {*Flawed, None}

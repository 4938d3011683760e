"""The files of `tls: auto`: made, kept, and made anew, as openssl(1) and ssl see them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mtad.config.load import Configuration, load
from mtad.errors import TlsError
from mtad.model.automatic_tls import AutomaticTls
from mtad.model.rules.values import At, Choice, Close, Do, Flawed, Moment, Rule, TlsFault
from mtad.supervisor import signing
from mtad.supervisor.automatic_tls import MAX_NAMES, ensure, names

LISTENERS = """
listeners:
  any: {listen: "*:2525"}
  one: {listen: 192.0.2.7:25}
  six: {listen: "[2001:db8::7]:25"}
  path: {listen: /run/mx.sock}
"""


def configured(directory: Path, text: str = LISTENERS) -> Configuration:
    file = directory / "mtad.yaml"
    file.write_text(f"store: {{directory: {directory}}}\n{text}")
    return load([file])


def places(directory: Path) -> AutomaticTls:
    return AutomaticTls(directory / "tls")


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in places(directory).directory.iterdir()}


def openssl(*words: str | Path) -> str:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def verifies(directory: Path, *words: str) -> bool:
    files = places(directory)
    said = openssl("verify", "-x509_strict", "-CAfile", files.ca, *words, files.certificate)
    return said == f"{files.certificate}: OK\n"


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("", []),
        (LISTENERS, ["192.0.2.7", "2001:db8::7"]),
        ('listeners: {r: {listen: "192.0.2.8/30:25"}}', [f"192.0.2.{n}" for n in range(8, 12)]),
        ("profiles: {p: {hostname: mx.example}}", ["mx.example"]),
        ('profiles: {p: {hostname: "[192.0.2.9]"}}', ["192.0.2.9"]),
        ('profiles: {p: {hostname: "[IPv6:2001:db8::9]"}}', ["2001:db8::9"]),
        ("profiles: {p: {hostname: mx.example, tls: off}}", []),
        ("listeners: {a: {listen: 192.0.2.7:25, profile: p}}\nprofiles: {p: {tls: off}}", []),
    ],
)
def test_what_is_named(
    tmp_path: Path, text: str, added: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    assert names(configured(tmp_path, text)) == ["localhost", "127.0.0.1", "::1", "box", *added]


def test_nothing_is_made_where_nobody_needs_it(tmp_path: Path) -> None:
    assert ensure(configured(tmp_path, "profiles: {default: {tls: off}}")) == ""
    assert not places(tmp_path).directory.exists()


def test_a_client_that_trusts_the_ca_accepts_every_name_and_no_other(tmp_path: Path) -> None:
    assert ensure(configured(tmp_path)) == "there was none"
    assert verifies(tmp_path, "-verify_hostname", "localhost")
    for address in ("127.0.0.1", "::1", "192.0.2.7", "2001:db8::7"):
        assert verifies(tmp_path, "-verify_ip", address)
    assert not verifies(tmp_path, "-verify_hostname", "other.example")
    assert not verifies(tmp_path, "-verify_ip", "192.0.2.8")


def test_who_may_read_what(tmp_path: Path) -> None:
    ensure(configured(tmp_path))
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in places(tmp_path).directory.iterdir()
    }
    assert modes == {
        "ca.pem": 0o644,
        "server.pem": 0o644,
        "server.key": 0o600,
        **{f"{flaw}.pem": 0o600 for flaw in Flawed},
    }


def test_the_key_of_the_ca_is_nowhere(tmp_path: Path) -> None:
    ensure(configured(tmp_path))
    files = places(tmp_path)
    of_ca = openssl("x509", "-in", files.ca, "-noout", "-pubkey")
    of_server = openssl("x509", "-in", files.certificate, "-noout", "-pubkey")
    keys = [name for name, octets in contents(tmp_path).items() if b"PRIVATE KEY" in octets]
    assert sorted(keys) == sorted(["server.key", *(f"{flaw}.pem" for flaw in Flawed)])
    publics = {openssl("pkey", "-in", files.directory / name, "-pubout") for name in keys}
    assert len(publics) == len(keys)
    assert of_server in publics
    assert of_ca not in publics


FLAWS: dict[Flawed, tuple[str, tuple[str, ...]]] = {
    Flawed.EXPIRED: ("10 at 0 depth lookup: certificate has expired", ("-no_check_time",)),
    Flawed.NOT_YET_VALID: (
        "9 at 0 depth lookup: certificate is not yet valid",
        ("-no_check_time",),
    ),
    Flawed.WRONG_NAME: (
        "62 at 0 depth lookup: hostname mismatch",
        ("-verify_hostname", "wrong-name.invalid"),
    ),
    Flawed.WEAK_KEY: ("66 at 0 depth lookup: EE certificate key too weak", ("-auth_level", "1")),
    Flawed.SELF_SIGNED: ("18 at 0 depth lookup: self-signed certificate", ("-partial_chain",)),
    Flawed.UNKNOWN_CA: (
        "20 at 0 depth lookup: unable to get local issuer certificate",
        ("-partial_chain",),
    ),
}
"""What openssl(1) says of each, and with what it has no complaint."""


@pytest.mark.parametrize("flaw", Flawed)
def test_each_flawed_certificate_has_its_flaw_and_no_other(tmp_path: Path, flaw: Flawed) -> None:
    ensure(configured(tmp_path))
    file = places(tmp_path).flawed(flaw)
    strict = ("verify", "-x509_strict", "-auth_level", "2", "-verify_hostname", "localhost")
    error, content = FLAWS[flaw]
    said = openssl(*strict, "-CAfile", places(tmp_path).ca, file).splitlines()
    assert said[1:] == [f"error {error}", f"error {file}: verification failed"]
    trusted = file if "-partial_chain" in content else places(tmp_path).ca
    assert openssl(*strict, *content, "-trusted", trusted, file) == f"{file}: OK\n"


def test_what_is_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = configured(tmp_path)
    ensure(configuration)
    before = contents(tmp_path)
    monkeypatch.setattr(signing, "make", None)  # nobody may ask for it
    assert ensure(configuration) == ""
    assert contents(tmp_path) == before


def rule(**do: Any) -> Rule:
    return Rule("r", (At(Moment.TLS),), Do(**do))


EXPIRED = rule(tls=TlsFault(Flawed.EXPIRED))


def test_a_ca_of_an_earlier_version_is_kept_until_a_rule_needs_another(tmp_path: Path) -> None:
    configuration = configured(tmp_path)
    ensure(configuration)
    for flaw in Flawed:
        places(tmp_path).flawed(flaw).unlink()
    before = contents(tmp_path)
    harmless = rule(tls=TlsFault(maximum_version="1.2"), one_of=(Choice(1, Do(close=Close.RST)),))
    assert ensure(configuration, [harmless]) == ""
    assert contents(tmp_path) == before
    missing = places(tmp_path).flawed(Flawed.EXPIRED)
    assert ensure(configuration, [harmless, EXPIRED]) == f"{missing} was missing"
    assert ensure(configuration, [EXPIRED]) == ""
    assert contents(tmp_path)["ca.pem"] != before["ca.pem"]


def test_a_rule_that_may_choose_a_flawed_certificate_needs_it(tmp_path: Path) -> None:
    nobody = configured(tmp_path, "profiles: {default: {tls: off}, p: {tls: {certificates: []}}}")
    chaos = rule(one_of=(Choice(9, Do()), Choice(1, EXPIRED.do)))
    assert ensure(nobody, [chaos]) == ""
    assert ensure(configured(tmp_path, FILES), [chaos]) == "there was none"


FILES = """
listeners:
  a: {listen: "192.0.2.7:25", profile: files}
profiles:
  default: {tls: off}
  files:
    hostname: files.example
    tls: {certificates: [{certificate: /nowhere.pem, key: /nowhere.key}]}
"""


def test_where_all_certificates_are_in_files_a_rule_alone_needs_the_ca(tmp_path: Path) -> None:
    configuration = configured(tmp_path, FILES)
    assert ensure(configuration) == ""
    assert not places(tmp_path).directory.exists()
    assert ensure(configuration, [EXPIRED]) == "there was none"
    assert verifies(tmp_path, "-verify_hostname", "files.example")
    assert verifies(tmp_path, "-verify_ip", "192.0.2.7")
    assert names(configuration) == []
    assert "files.example" in names(configuration, flawed=True)


def test_a_new_ca_has_the_names_of_those_with_files_too_and_is_not_made_for_them(
    tmp_path: Path,
) -> None:
    both = configured(tmp_path, FILES.replace("tls: off", "tls: auto"))
    assert ensure(both) == "there was none"
    assert verifies(tmp_path, "-verify_hostname", "files.example")
    more = FILES.replace("tls: off", "tls: auto").replace("files.example", "more.example")
    assert ensure(configured(tmp_path, more), [EXPIRED]) == ""


@pytest.mark.parametrize("flaw", Flawed)
@pytest.mark.parametrize("damage", ["emptied", "cut", "a directory", "readable"])
def test_damage_to_a_flawed_certificate(tmp_path: Path, flaw: Flawed, damage: str) -> None:
    configuration = configured(tmp_path)
    ensure(configuration)
    file = places(tmp_path).flawed(flaw)
    if damage == "a directory":
        file.unlink()
        file.mkdir(mode=0o700)
        with pytest.raises(TlsError, match="cannot be written"):
            ensure(configuration, [EXPIRED])
        return
    if damage == "readable":
        file.chmod(0o640)
        reason = f"others than the daemon's user could use {file}"
    else:
        octets = file.read_bytes()
        file.write_bytes(octets[: len(octets) - 1] if damage == "cut" else b"")
        reason = f"{file} was not whole"
        assert ensure(configuration) == ""
    assert ensure(configuration, [EXPIRED]) == reason
    assert ensure(configuration, [EXPIRED]) == ""


def test_a_name_that_is_missing(tmp_path: Path) -> None:
    ensure(configured(tmp_path))
    before = contents(tmp_path)
    more = configured(tmp_path, f"{LISTENERS}profiles: {{p: {{hostname: MX.example}}}}")
    assert ensure(more) == "the old one did not name MX.example"
    assert contents(tmp_path)["ca.pem"] != before["ca.pem"]
    assert verifies(tmp_path, "-verify_hostname", "mx.example")
    assert ensure(configured(tmp_path)) == "", "names that nobody needs any more do no harm"


@pytest.mark.parametrize(
    ("valid", "reason"),
    [
        (timedelta(seconds=-1), "what was there could not be used: certificate has expired"),
        (timedelta(days=29), "the old one was about to expire"),
        (timedelta(days=31), ""),
    ],
)
def test_expiry(
    tmp_path: Path, valid: timedelta, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = configured(tmp_path)
    monkeypatch.setattr(signing, "_VALID", valid)
    assert ensure(configuration) == "there was none"
    monkeypatch.undo()
    assert ensure(configuration) == reason
    assert ensure(configuration) == ""


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key"])
@pytest.mark.parametrize("damage", ["removed", "emptied", "cut", "another's", "a directory"])
def test_damage_is_found_and_mended(tmp_path: Path, name: str, damage: str) -> None:
    configuration = configured(tmp_path)
    ensure(configuration)
    file = places(tmp_path).directory / name
    octets = file.read_bytes()
    if damage == "removed":
        file.unlink()
    elif damage == "a directory":
        file.unlink()
        file.mkdir(mode=0o700)
        with pytest.raises(TlsError, match="cannot be written"):
            ensure(configuration)
        return
    elif damage == "another's":
        ensure(configured(tmp_path, "profiles: {p: {hostname: other.example}}"))
        file.write_bytes(octets)
    else:
        file.write_bytes(octets[: len(octets) // 2] if damage == "cut" else b"")
    assert ensure(configuration)
    assert ensure(configuration) == ""
    assert verifies(tmp_path, "-verify_hostname", "localhost")


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    configuration = configured(tmp_path)
    ensure(configuration)
    key = places(tmp_path).key
    before = key.read_bytes()
    key.chmod(0o640)
    assert ensure(configuration) == f"others than the daemon's user could use {key}"
    assert key.read_bytes() != before
    assert key.stat().st_mode & 0o777 == 0o600


def test_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "tls").write_text("in the way")
    with pytest.raises(TlsError, match=r"cannot be written: .*/tls: File exists") as caught:
        ensure(configured(tmp_path))
    assert "tls: off" in caught.value.help


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure(configured(tmp_path))
    before = contents(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TlsError, match="No space left"):
        ensure(configured(tmp_path, "profiles: {p: {hostname: mx.example}}"))
    assert contents(tmp_path) == before


def test_a_thousand_addresses_are_too_many_for_a_certificate(tmp_path: Path) -> None:
    configuration = configured(tmp_path, 'listeners: {r: {listen: "127.1.0.0/16:25"}}')
    assert len(names(configuration)) == MAX_NAMES
    ensure(configuration)
    assert verifies(tmp_path, "-verify_ip", "127.1.0.100")


def test_what_is_there_is_looked_at_in_no_time(tmp_path: Path) -> None:
    configuration = configured(tmp_path)
    ensure(configuration)
    began = time.process_time()
    for _ in range(10):
        assert ensure(configuration) == ""
    assert time.process_time() - began < 1.0


def test_cryptography_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mtad.supervisor.signing")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(TlsError, match=r"cannot be made: .*cryptography") as caught:
        ensure(configured(tmp_path))
    assert "install the package cryptography" in caught.value.help

"""Certificates and keys that profiles name: problems with their place in the configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme

from mtad.config.load import Configuration, load
from mtad.errors import ConfigError

CA = trustme.CA()
MISSING = "No such file or directory"
WHAT = "CERTIFICATE"


def pair(directory: Path, name: str) -> tuple[Path, Path]:
    """Write a certificate and its key; return their paths."""
    issued = CA.issue_cert(f"{name}.example")
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    return certificate, key


def configured(directory: Path, *tls: str) -> Configuration:
    file = directory / "mtad.yaml"
    profiles = "".join(f"  p{number}:\n    tls: {one}\n" for number, one in enumerate(tls))
    file.write_text(f"profiles:\n{profiles}")
    return load([file])


def problems(configuration: Configuration) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configuration.check_tls()
    return [f"{one.file.name}:{one.line}: {one.key}: {one.reason}" for one in caught.value.problems]


def test_sound_files(tmp_path: Path) -> None:
    (first, first_key), (second, second_key) = pair(tmp_path, "a"), pair(tmp_path, "b")
    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    pairs = [
        f"{{certificate: {a}, key: {b}}}" for a, b in ((first, first_key), (second, second_key))
    ]
    both = ", ".join(pairs)
    configuration = configured(
        tmp_path,
        "off",
        "auto",
        f"{{client_certificates: ask, client_ca: {tmp_path}/ca.pem}}",
        f"{{certificates: [{both}]}}",
    )
    configuration.check_tls()
    assert configuration.tls_files() == (
        tmp_path / "ca.pem",
        first,
        first_key,
        second,
        second_key,
    )


def test_every_problem_has_its_line(tmp_path: Path) -> None:
    (certificate, key), (_, other) = pair(tmp_path, "a"), pair(tmp_path, "b")
    (tmp_path / "no.pem").write_text("no PEM")
    configuration = configured(
        tmp_path,
        f"{{certificates: [{{certificate: {certificate}, key: {other}}}]}}",
        f"{{certificates: [{{certificate: {certificate}, key: {key}}}]}}",
        "{certificates: [{certificate: /none.pem, key: /none.key}]}",
        f"{{client_certificates: require, client_ca: {tmp_path}/no.pem}}",
    )
    together = f"the key {other} and the certificate {certificate} cannot be used together"
    assert problems(configuration) == [
        f"mtad.yaml:3: profiles.p0.tls: {together}: key values mismatch",
        f"mtad.yaml:7: profiles.p2.tls: the certificate /none.pem cannot be read: {MISSING}",
        f"mtad.yaml:9: profiles.p3.tls: the client_ca {tmp_path}/no.pem has no PEM block {WHAT}",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_key_that_may_not_be_read(tmp_path: Path) -> None:
    certificate, key = pair(tmp_path, "a")
    key.chmod(0)
    configuration = configured(
        tmp_path, f"{{certificates: [{{certificate: {certificate}, key: {key}}}]}}"
    )
    assert "Permission denied" in problems(configuration)[0]


def test_the_line_is_that_of_the_file_that_won(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("\n\nprofiles: {p: {tls: off}}\n")
    second.write_text(
        "profiles:\n  p:\n    tls: {certificates: [{certificate: /none.pem, key: /none.key}]}\n"
    )
    assert problems(load([first, second]))[0].startswith("b.yaml:3: profiles.p.tls: ")
    load([second, first]).check_tls()

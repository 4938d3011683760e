"""Certificates and keys of the operator: looked at before anything is touched."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from harness.daemon import PROGRAMS, Daemon, config, until

pytestmark = [pytest.mark.integration, pytest.mark.root]

Start = Callable[..., Daemon]


def pair(directory: Path, name: str, mode: int) -> tuple[Path, Path]:
    issued = trustme.CA().issue_cert(f"{name}.example")
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    certificate.chmod(0o644)
    key.chmod(mode)
    return certificate, key


def profile(certificate: Path, key: Path) -> str:
    tls = f"{{certificates: [{{certificate: {certificate}, key: {key}}}]}}"
    return f"profiles: {{default: {{tls: {tls}}}}}\n"


def test_a_start_with_a_key_that_only_root_can_read(directory: Path) -> None:
    certificate, key = pair(directory, "a", 0o600)
    with Daemon(directory, config(directory, extra=profile(certificate, key))) as daemon:
        assert daemon.process.wait(15) == 1
        log = daemon.log.read_text()
    assert f"cannot read {key}" in log
    assert f"chgrp ecuser {key}" in log
    assert not (directory / "store").exists() or not list((directory / "store").iterdir())
    key.chmod(0o640)
    subprocess.run(["chgrp", "ecuser", str(key)], check=True)
    with daemon:
        daemon.wait_ready()


def test_a_start_with_a_key_of_another_certificate(directory: Path) -> None:
    (certificate, _), (_, other) = pair(directory, "a", 0o644), pair(directory, "b", 0o644)
    with Daemon(directory, config(directory, extra=profile(certificate, other))) as daemon:
        assert daemon.process.wait(15) == 1
        log = daemon.log.read_text()
    assert "profiles.default.tls: " in log
    assert "key values mismatch" in log
    assert "listener.running" not in log


def test_check_and_doctor_look_at_them_too(directory: Path) -> None:
    certificate, key = pair(directory, "a", 0o600)
    file = directory / "mtad.yaml"
    file.write_text(config(directory, extra=profile(certificate, key)))

    def say(word: str) -> str:
        done = subprocess.run(
            [str(PROGRAMS / "mtad"), word, str(file)], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    assert say("check").startswith("ok: ")
    assert f"as ecuser, cannot read {key}" in say("doctor")
    assert "the start is refused, and so is a reload" in say("doctor")
    _, other = pair(directory, "b", 0o644)
    other.rename(key)
    assert "profiles.default.tls: the key" in say("doctor")
    key.unlink()
    assert f"the key {key} cannot be read: No such file" in say("check")


def test_a_certificate_that_was_renewed_is_served_after_a_reload(
    started: Start, directory: Path
) -> None:
    certificate, key = pair(directory, "a", 0o644)
    daemon = started(extra=profile(certificate, key))
    text = daemon.config.read_text()
    daemon.config.write_text(
        text.replace("control:", "  s: {listen: '127.0.0.1:0', protocol: smtps}\ncontrol:")
    )
    daemon.call("config.reload")
    until(lambda: daemon.call("listener.show", name="s")["listener"]["state"] == "running")
    address = ("127.0.0.1", daemon.port("s"))
    assert ssl.get_server_certificate(address, timeout=15) == certificate.read_text()
    pair(directory, "a", 0o644)
    daemon.call("config.reload")
    until(lambda: ssl.get_server_certificate(address, timeout=15) == certificate.read_text())


def test_a_reload_changes_nothing_where_a_key_is_missing(started: Start, directory: Path) -> None:
    daemon = started()
    certificate, key = pair(directory, "a", 0o644)
    text = config(directory, extra=profile(certificate, key))
    daemon.config.write_text(text.replace("listen: '127.0.0.1:0'", "listen: '127.0.0.2:0'"))
    key.rename(directory / "away.key")
    answer = daemon.mtactl("config", "reload")
    assert answer.returncode == 1
    assert f"the key {key} cannot be read: No such file" in answer.stdout
    assert "profiles.default.tls" in answer.stdout
    (row,) = daemon.call("listener.list")["listeners"]
    assert row["endpoint"] == "127.0.0.1:0"
    (directory / "away.key").rename(key)
    assert daemon.mtactl("config", "reload").returncode == 0
    (row,) = daemon.call("listener.list")["listeners"]
    assert (row["endpoint"], row["state"]) == ("127.0.0.2:0", "running")

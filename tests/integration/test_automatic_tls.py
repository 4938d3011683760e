"""`tls: auto` of the real daemon: made by its user before a listener is open, kept, and told."""

from __future__ import annotations

import os
import pwd
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.daemon import Daemon, config, until
from harness.tls_peers import key_pair

from mtad.model.rules.values import Flawed

pytestmark = [pytest.mark.integration, pytest.mark.root]

Start = Callable[..., Daemon]
NO_TLS = "profiles: {default: {tls: off}}\n"


def created(daemon: Daemon) -> list[str]:
    """Return why the CA was made, each time."""
    return [one["reason"] for one in daemon.events() if one.get("event") == "tls.ca_created"]


def test_a_ca_for_the_trust_stores_of_senders(started: Start) -> None:
    daemon = started()
    files = {path.name: path.stat() for path in (daemon.store / "tls").iterdir()}
    assert {name: oct(found.st_mode & 0o777) for name, found in files.items()} == {
        "ca.pem": "0o640",
        "server.pem": "0o640",
        "server.key": "0o600",
        **{f"{flaw}.pem": "0o600" for flaw in Flawed},
    }
    assert {found.st_uid for found in files.values()} == {pwd.getpwnam("ecuser").pw_uid}
    assert created(daemon) == ["there was none"]
    names = [one.get("event") for one in daemon.events()]
    assert names.index("tls.ca_created") < names.index("listener.running")

    answer = daemon.mtactl("tls", "ca")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == (daemon.store / "tls" / "ca.pem").read_text()
    (ca,) = trusted(answer.stdout)
    assert daemon.call("tls.ca") == {
        "file": str(daemon.store / "tls" / "ca.pem"),
        "pem": answer.stdout,
    }
    daemon.stop()
    with daemon:
        daemon.wait_ready()
        assert trusted(daemon.mtactl("tls", "ca").stdout) == [ca]
    assert created(daemon) == ["there was none"]


def trusted(pem: str) -> list[object]:
    """Return the CAs that a client has which is given ``pem``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem)
    return list(context.get_ca_certs())


def greeted(port: int, ca: str, name: str) -> bool:
    """Whether a client that trusts ``ca`` gets a greeting over TLS from the server ``name``."""
    context = ssl.create_default_context(cadata=ca)
    with (
        socket.create_connection(("127.0.0.1", port), 15) as plain,
        context.wrap_socket(plain, server_hostname=name) as client,
    ):
        return client.recv(100).startswith(b"220 ")


def trusts(port: int, ca: str) -> bool:
    try:
        return greeted(port, ca, "localhost")
    except ssl.SSLCertVerificationError:
        return False


def test_senders_that_trust_the_ca_are_served(started: Start) -> None:
    daemon = started()
    daemon.call("listener.add", name="s", endpoint="127.0.0.1:0", protocol="smtps")
    port, ca = daemon.port("s"), daemon.mtactl("tls", "ca").stdout
    assert greeted(port, ca, "localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        greeted(port, ca, "mx.example")
    daemon.config.write_text(
        daemon.config.read_text() + "profiles: {default: {hostname: mx.example}}\n"
    )
    daemon.call("config.reload")
    after = daemon.mtactl("tls", "ca").stdout
    until(lambda: trusts(port, after))  # one that was added by hand, too
    assert greeted(port, after, "mx.example")
    assert not trusts(port, ca)


def test_observers_may_have_the_ca(started: Start) -> None:
    daemon = started()
    daemon.config.write_text(
        daemon.config.read_text().replace("  socket:", "  observe: [nobody]\n  socket:")
    )
    assert "may not use this socket" in daemon.mtactl("tls", "ca", user="nobody").stderr
    daemon.call("config.reload")
    answer = daemon.mtactl("tls", "ca", user="nobody")
    assert answer.stdout.startswith("-----BEGIN CERTIFICATE-----"), answer.stderr


def test_a_reload_that_needs_other_names_makes_another_ca(started: Start) -> None:
    daemon = started()
    before = daemon.mtactl("tls", "ca").stdout
    daemon.config.write_text(
        daemon.config.read_text() + "profiles: {default: {hostname: mx.example}}\n"
    )
    daemon.call("config.reload")
    assert created(daemon) == ["there was none", "the old one did not name mx.example"]
    assert daemon.mtactl("tls", "ca").stdout != before
    daemon.call("config.reload")
    assert len(created(daemon)) == 2


def test_a_reload_that_cannot_make_it_changes_nothing(started: Start) -> None:
    daemon = started(extra=NO_TLS)
    assert not (daemon.store / "tls").exists()
    answer = daemon.mtactl("tls", "ca")
    assert (answer.returncode, answer.stderr.splitlines()[0]) == (
        1,
        "mtactl: no profile has tls: auto",
    )
    (daemon.store / "tls").write_text("in the way")
    text = config(daemon.directory).replace(
        "listeners:\n", "listeners:\n  two: {listen: '127.0.0.2:0'}\n"
    )
    daemon.config.write_text(text)
    answer = daemon.mtactl("config", "reload")
    assert answer.returncode == 1
    assert "the certificate of tls: auto cannot be written" in answer.stderr
    assert [row["name"] for row in daemon.call("listener.list")["listeners"]] == ["mx"]
    assert daemon.call("config.show")["stanzas"]["profiles"]["value"] != {}
    (daemon.store / "tls").unlink()
    daemon.call("config.reload")
    assert {row["name"]: row["state"] for row in daemon.call("listener.list")["listeners"]} == {
        "mx": "running",
        "two": "running",
    }


def test_a_start_that_cannot_make_it_ends_before_a_listener_is_open(directory: Path) -> None:
    store = directory / "store"
    store.mkdir()
    (store / "tls").write_text("in the way")
    os.chown(store, *pwd.getpwnam("ecuser")[2:4])
    with Daemon(directory, config(directory)) as daemon:
        assert daemon.process.wait(15) == 1
        log = daemon.log.read_text()
    assert "mtad: error: the certificate of tls: auto cannot be written" in log
    assert "mtad: help: store.directory must be one" in log
    assert "listener.running" not in log
    assert not daemon.socket.exists()


def test_smtps_needs_tls(started: Start) -> None:
    daemon = started(extra="profiles: {plain: {tls: off}}\n")
    answer = daemon.mtactl(
        *("listener", "add", "x", "127.0.0.1:0", "--protocol", "smtps", "--profile", "plain")
    )
    assert answer.returncode == 1
    assert "smtps is SMTP in TLS, and the profile 'plain' has tls: off" in answer.stderr
    answer = daemon.mtactl("listener", "add", "x", "127.0.0.1:0", "--protocol", "smtps")
    assert answer.returncode == 0, answer.stderr
    until(lambda: daemon.call("listener.show", name="x")["listener"]["state"] == "running")


def test_a_ca_of_an_earlier_version_stays_until_a_rule_needs_what_it_lacks(
    started: Start,
) -> None:
    daemon = started()
    before = daemon.mtactl("tls", "ca").stdout
    daemon.stop()
    for flaw in Flawed:
        (daemon.store / "tls" / f"{flaw}.pem").unlink()
    with daemon:
        daemon.wait_ready()
        assert daemon.mtactl("tls", "ca").stdout == before
        daemon.call("listener.add", name="s", endpoint="127.0.0.1:0", protocol="smtps")
        port = daemon.port("s")
        assert greeted(port, before, "localhost")
        rules = "rules: {stale: {at: tls, do: {tls: {certificate: expired}}}}\n"
        daemon.config.write_text(daemon.config.read_text() + rules)
        daemon.call("config.reload")
        missing = daemon.store / "tls" / "expired.pem"
        assert created(daemon) == ["there was none", f"{missing} was missing"]
        after = daemon.mtactl("tls", "ca").stdout
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
            greeted(port, after, "localhost")
        daemon.config.write_text(daemon.config.read_text().replace(rules, ""))
        daemon.call("config.reload")
        assert greeted(port, after, "localhost")
        assert len(created(daemon)) == 2


def test_a_rule_that_is_added_has_all_listeners_serve_its_new_ca(started: Start) -> None:
    daemon = started()
    daemon.call("listener.add", name="s", endpoint="127.0.0.1:0", protocol="smtps")
    before = daemon.mtactl("tls", "ca").stdout
    (daemon.store / "tls" / "weak-key.pem").unlink()
    daemon.call("rule.add", name="weak", text="at: tls, do: {tls: {certificate: weak-key}}")
    assert len(created(daemon)) == 2
    daemon.call("rule.remove", names=["weak"])
    assert not trusts(daemon.port("s"), before)
    assert trusts(daemon.port("s"), daemon.mtactl("tls", "ca").stdout)


def test_a_rule_whose_certificate_cannot_be_made_is_refused(started: Start) -> None:
    daemon = started()
    places = daemon.store / "tls"
    (places / "weak-key.pem").unlink()
    os.chown(places, 0, 0)
    places.chmod(0o755)
    answer = daemon.mtactl("rule", "add", "weak", "at: tls, do: {tls: {certificate: weak-key}}")
    assert answer.returncode == 1
    assert "the certificate of tls: auto cannot be written" in answer.stderr
    assert daemon.call("rule.list")["rules"] == []


def test_where_certificates_are_in_files_a_rule_has_those_of_the_test_ca(
    started: Start, directory: Path
) -> None:
    pair = key_pair(directory, "localhost")
    Path(pair.key).chmod(0o644)
    files = f"{{certificates: [{{certificate: {pair.certificate}, key: {pair.key}}}]}}"
    daemon = started(extra=f"profiles: {{default: {{tls: {files}}}}}\n")
    assert daemon.mtactl("tls", "ca").returncode == 1
    daemon.call("listener.add", name="s", endpoint="127.0.0.1:0", protocol="smtps")
    daemon.call("rule.add", name="stale", text="at: tls, do: {tls: {certificate: expired}}")
    assert created(daemon) == ["there was none"]
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        greeted(daemon.port("s"), daemon.mtactl("tls", "ca").stdout, "localhost")

"""Loading: what a file means, which file wins, and that nothing but ConfigError comes out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtad.config import reader
from mtad.config.document import MAX_PROBLEMS
from mtad.config.load import Configuration, load
from mtad.config.schema import Settings
from mtad.config.texts import MAX_OCTETS
from mtad.errors import ConfigError
from mtad.model.endpoint import TcpEndpoint, UnixEndpoint
from mtad.model.listener import Protocol
from mtad.model.profile import (
    Auth,
    ClientCertificates,
    Early,
    KeyPair,
    Limits,
    Newlines,
    Profile,
    Switch,
    Timeouts,
    Tls,
    Transcripts,
)


def loaded(directory: Path, *texts: str) -> Configuration:
    paths = [directory / f"{number}.yaml" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return load(paths)


def problems(directory: Path, *texts: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(directory, *texts)
    return [
        f"{problem.file.name}:{problem.line}: {problem.key}: {problem.reason}"
        for problem in caught.value.problems
    ]


def test_defaults(tmp_path: Path) -> None:
    configuration = load([])
    options = configuration.settings
    assert options == Settings() == loaded(tmp_path, "{}").settings
    assert options.security.user is None
    assert options.security.capabilities == ""
    assert options.store.directory == Path("/var/lib/mtad")
    assert options.control.socket == Path("/run/mtad/control.sock")
    assert options.pid_file == Path("/run/mtad/mtad.pid")
    assert (options.workers, options.drain) == ("auto", 30)
    automatic = KeyPair("/var/lib/mtad/tls/server.pem", "/var/lib/mtad/tls/server.key")
    assert options.profile("default") == Profile(tls=Tls((automatic,)))
    assert configuration.listeners() == ()


def test_the_profile_of_the_file_has_the_defaults_of_the_model_and_automatic_tls() -> None:
    settings = Settings.model_validate({"profiles": {"empty": {}}})
    pair = KeyPair("/c", "/k")
    assert settings.profiles["empty"].value(pair) == Profile(tls=Tls((pair,)))


def test_every_option_of_a_profile(tmp_path: Path) -> None:
    text = """
profiles:
  p:
    hostname: mx.example
    extensions: {chunking: off, DSN: hidden, size: true, Vrfy: false}
    tls:
      certificates:
        - {certificate: /a.pem, key: /a.key}
        - {certificate: /b.pem, key: /b.key}
      minimum_version: 1.3
      client_certificates: require
      client_ca: /ca.pem
      required: true
    auth:
      users: {alice: secret, bob: "1234"}
      mechanisms: [xoauth2, PLAIN]
      before_tls: yes
      required: true
      attempts: 1
    limits:
      message_size: 1M
      line_length: 1000
      command_length: 512
      recipients: 100
      transactions: 1
      errors: 2
      sessions: 3
      sessions_per_peer: 4
    timeouts: {command: 1, data: 2, handshake: 3.5}
    newlines: {emulate: LF-dot-LF}
    greeting_delay: 0.5
    early_talkers: refuse
    proxy_from: [127.0.0.1, "2001:db8::/32"]
    xclient_from: [10.0.0.0/255.0.0.0]
    handler: my.handlers:Handler
    store: discard
    transcripts: failed
    runs: [USER, Header X-Run, listener]
"""
    assert loaded(tmp_path, text).settings.profile("p") == Profile(
        hostname="mx.example",
        extensions={"CHUNKING": Switch.OFF, "DSN": Switch.HIDDEN, "VRFY": Switch.OFF},
        tls=Tls(
            (KeyPair("/a.pem", "/a.key"), KeyPair("/b.pem", "/b.key")),
            "1.3",
            ClientCertificates.REQUIRE,
            "/ca.pem",
            required=True,
        ),
        auth=Auth(
            {"alice": "secret", "bob": "1234"},
            ("XOAUTH2", "PLAIN"),
            before_tls=True,
            required=True,
            attempts=1,
        ),
        limits=Limits(1_048_576, 1000, 512, 100, 1, 2, 3, 4),
        timeouts=Timeouts(1, 2, 3.5),
        newlines=Newlines.EMULATE,
        terminator="lf-dot-lf",
        greeting_delay=0.5,
        early_talkers=Early.REFUSE,
        proxy_from=("127.0.0.1/32", "2001:db8::/32"),
        xclient_from=("10.0.0.0/8",),
        handler="my.handlers:Handler",
        keep=False,
        transcripts=Transcripts.FAILED,
        runs=("user", "header X-Run", "listener"),
    )


@pytest.mark.parametrize("word", ["off", "false", "{certificates: []}"])
def test_tls_can_be_off(tmp_path: Path, word: str) -> None:
    settings = loaded(tmp_path, f"profiles: {{p: {{tls: {word}}}}}").settings
    assert settings.profile("p").tls == Tls()


@pytest.mark.parametrize("word", ["auto", "{}", "{certificates: auto}"])
def test_automatic_tls_is_below_the_store(tmp_path: Path, word: str) -> None:
    text = f"profiles: {{p: {{tls: {word}}}}}\nstore: {{directory: /mail}}"
    assert loaded(tmp_path, text).settings.profile("p").tls == Tls(
        (KeyPair("/mail/tls/server.pem", "/mail/tls/server.key"),)
    )


def test_passwords_are_never_shown(tmp_path: Path) -> None:
    text = "profiles: {p: {auth: {users: {alice: hunter2}}}}"
    configuration = loaded(tmp_path, text)
    profile = configuration.settings.profile("p")
    assert profile.auth.users == {"alice": "hunter2"}
    shown = configuration.effective()["profiles"]["value"]["p"]["auth"]["users"]
    assert shown == {"alice": "********"}
    everything = f"{configuration} {configuration!r} {configuration.settings!r} {profile!r}"
    assert "'alice'" in everything
    assert "hunter2" not in everything


def test_errors_never_show_a_password() -> None:
    bad = Path(__file__).parents[2] / "bad_configs" / "auth-users.yaml"
    with pytest.raises(ConfigError) as caught:
        load([bad])
    assert "hunter2" in bad.read_text()
    assert len(caught.value.problems) > 10
    error: BaseException | None = caught.value
    while error is not None:  # what a traceback would print
        assert "hunter2" not in f"{error} {error!r}"
        assert "12345678" not in f"{error} {error!r}"
        error = error.__context__


def test_a_default_profile_that_is_written_holds_for_all(tmp_path: Path) -> None:
    text = 'listeners: {mx: {listen: "*:25"}}\nprofiles: {default: {limits: {message_size: 1K}}}'
    (mx,) = loaded(tmp_path, text).listeners()
    assert mx.profile.limits.message_size == 1024


def test_a_later_stanza_replaces_the_whole_earlier_one(tmp_path: Path) -> None:
    configuration = loaded(
        tmp_path,
        'security: {user: ecuser, capabilities: "cap_net_bind_service+ep"}\n'
        "store: {directory: /a}\nworkers: 2",
        "security: {user: alice}\nworkers: 3",
    )
    assert configuration.settings.security.model_dump(exclude_defaults=True) == {"user": "alice"}
    assert configuration.settings.store.directory == Path("/a")
    assert configuration.settings.workers == 3
    assert configuration.sources["security"] == tmp_path / "1.yaml"
    assert configuration.sources["store"] == tmp_path / "0.yaml"
    assert configuration.sources["log"] is None


def test_problems_of_all_files_and_all_kinds_come_together(tmp_path: Path) -> None:
    assert problems(
        tmp_path,
        "store: {directory: mail}\nlisteners:\n  a: {listen: 127.0.0.1:25}\n  b: {listen: 25}\n"
        "  c: {listen: 127.0.0.1:25, profile: x}\n",
        "drain: no\nsecurity: [\n",
        "store: {directory: /mail}\nworkers: 0\n",
    ) == [
        "0.yaml:1: store.directory: expected an absolute path, found 'mail'",
        "0.yaml:4: listeners.b.listen: expected an address and a port, found 25",
        "0.yaml:5: listeners.c.profile: no profile 'x'",
        "0.yaml:5: listeners.c.listen: 127.0.0.1:25 is taken by listener a (127.0.0.1:25)",
        "1.yaml:2: : not YAML: did not find expected node content",
        "2.yaml:2: workers: expected auto or a number from 1 to 64, found 0",
    ]


def test_a_broken_profile_is_not_reported_as_missing_too(tmp_path: Path) -> None:
    text = 'listeners: {mx: {listen: "*:25", profile: p}}\nprofiles: {p: {timeouts: {command: 0}}}'
    assert problems(tmp_path, text) == [
        "0.yaml:2: profiles.p.timeouts.command: expected more than 0, found 0"
    ]


def test_a_range_makes_a_listener_of_each_address(tmp_path: Path) -> None:
    text = "listeners: {r: {listen: 127.0.0.0/30:2525, backlog: 7, enabled: no, protocol: lmtp}}"
    listeners = loaded(tmp_path, text).listeners()
    assert [spec.name for spec in listeners] == [f"r/127.0.0.{n}" for n in range(4)]
    assert [spec.endpoint for spec in listeners] == [
        TcpEndpoint(f"127.0.0.{n}", 2525) for n in range(4)
    ]
    assert {(spec.group, spec.backlog, spec.enabled, spec.protocol) for spec in listeners} == {
        ("r", 7, False, Protocol.LMTP)
    }


def test_a_range_of_one_keeps_its_name(tmp_path: Path) -> None:
    (spec,) = loaded(tmp_path, 'listeners: {one: {listen: "[::1/128]:25"}}').listeners()
    assert (spec.name, spec.endpoint) == ("one", TcpEndpoint("::1", 25))


@pytest.mark.parametrize("mode", ["0600", "'0600'", "0o600", '"0o600"'])
def test_a_mode_is_octal(tmp_path: Path, mode: str) -> None:
    text = f"listeners: {{u: {{listen: /run/x.sock, mode: {mode}}}}}"
    (spec,) = loaded(tmp_path, text).listeners()
    assert spec.endpoint == UnixEndpoint("/run/x.sock", 0o600)


@pytest.mark.parametrize("word", ["no", "on", "y", "null", "true", "1", "1e3", "0x10", "12.5"])
def test_a_name_is_what_it_looks_like(tmp_path: Path, word: str) -> None:
    (spec,) = loaded(tmp_path, f"listeners: {{{word}: {{listen: 127.0.0.1:25}}}}").listeners()
    assert spec.name == word


def test_user_ids_are_numbers_and_names_are_not_words_of_yaml(tmp_path: Path) -> None:
    text = 'security: {user: "1000", group: 1001, supplemental_groups: [on, no]}'
    security = loaded(tmp_path, text).settings.security
    assert (security.user, security.group) == (1000, 1001)
    assert security.supplemental_groups == ["on", "no"]


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    text = "store: {directory: ~/mail}\nlisteners: {u: {listen: ~/mx.sock}}"
    configuration = loaded(tmp_path, text)
    assert configuration.settings.store.directory == Path("/home/alice/mail")
    assert configuration.listeners()[0].endpoint == UnixEndpoint("/home/alice/mx.sock")


@pytest.mark.parametrize(
    "listeners",
    [
        '{a: {listen: "0.0.0.0:25"}, b: {listen: "[::]:25"}}',
        '{a: {listen: "*:25"}, b: {listen: "*:26"}}',
        '{a: {listen: "*:25"}, b: {listen: "127.0.0.1:25", enabled: false}}',
        '{a: {listen: "127.0.0.1:0"}, b: {listen: "127.0.0.1:0"}, c: {listen: "*:0"}}',
        '{a: {listen: "127.0.0.0/25:25"}, b: {listen: "127.0.0.128/25:25"}}',
        '{a: {listen: "[::]:25"}, b: {listen: "127.0.0.1:25"}}',
    ],
)
def test_listeners_that_can_be_open_together(tmp_path: Path, listeners: str) -> None:
    assert loaded(tmp_path, f"listeners: {listeners}").listeners()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("*:25", "*:25"),
        ("*:25", "0.0.0.0:25"),
        ("127.0.0.1:25", "*:25"),
        ("[::1]:25", "[::]:25"),
        ("127.0.0.0/24:25", "127.0.0.255:25"),
        ("/run/a.sock", "/run/./a.sock"),
    ],
)
def test_listeners_that_cannot_be_open_together(tmp_path: Path, first: str, second: str) -> None:
    text = f'listeners:\n  a: {{listen: "{first}"}}\n  b: {{listen: "{second}"}}'
    (only,) = problems(tmp_path, text)
    assert only.startswith(f"0.yaml:3: listeners.b.listen: {second.split('/24')[0]} is taken by")


def test_effective_names_the_file_that_won_and_is_json(tmp_path: Path) -> None:
    text = 'listeners: {mx: {listen: "*:25"}}\nlog: {target: /var/log/mtad.log}'
    effective = json.loads(json.dumps(loaded(tmp_path, text).effective()))
    assert list(effective) == list(Settings.model_fields)
    assert effective["pid_file"] == {"source": None, "value": "/run/mtad/mtad.pid"}
    assert effective["listeners"]["source"] == str(tmp_path / "0.yaml")
    assert effective["listeners"]["value"]["mx"]["mode"] == "0660"
    assert effective["log"]["value"]["target"] == "/var/log/mtad.log"


def test_effective_loads_again(tmp_path: Path) -> None:
    text = (
        "listeners: {mx: {listen: /run/x.sock, mode: 0600}}\nsecurity: {user: 1000}\ndrain: 1.5\n"
        "profiles: {p: {tls: off, newlines: {emulate: lf-dot-lf}}, q: {extensions: {dsn: off}}}"
    )
    first = loaded(tmp_path, text)
    again = {stanza: one["value"] for stanza, one in first.effective().items()}
    assert loaded(tmp_path, json.dumps(again)).settings == first.settings


def test_privileges_of_solaris_are_noted(tmp_path: Path) -> None:
    configuration = loaded(tmp_path, 'security: {privileges: "basic net_privaddr"}')
    assert configuration.notes() == ("security.privileges: not applicable on Linux",)
    assert load([]).notes() == ()


def test_a_rule_for_a_listener_that_there_is_not_is_noted(tmp_path: Path) -> None:
    """It is no error, because that may be added while the daemon runs."""
    listeners = 'listeners: {mx: {listen: "127.0.0.1:25"}}\n'
    rules = ", ".join(
        f"{name}: {{at: noop, where: {{listener: {name}}}, do: {{}}}}" for name in ("mx", "mxx")
    )
    configuration = loaded(tmp_path, f"{listeners}rules: {{{rules}}}")
    assert configuration.notes() == ("rules.mxx.where.listener: no listener is mxx",)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load([tmp_path / "none.yaml"])


def test_a_file_that_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load([tmp_path])


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="cannot be read: not a regular file"):
        load([tmp_path / "fifo"])


@pytest.mark.parametrize("extra", [0, 1])
def test_the_largest_file(tmp_path: Path, extra: int) -> None:
    text = "{}\n#".ljust(MAX_OCTETS + extra, "x")
    if extra:
        assert problems(tmp_path, text) == ["0.yaml:0: : larger than 1 MiB"]
    else:
        assert loaded(tmp_path, text).settings == Settings()


def test_problems_are_bounded(tmp_path: Path) -> None:
    found = problems(tmp_path, "".join(f"key{number}: 1\n" for number in range(5000)))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == "0.yaml:0: : only the first 100 problems are shown"


@pytest.mark.parametrize("opening", ["[", "{", "- ", "? ", "a: [", '"a": {'])
def test_deep_nesting_is_refused_at_once(tmp_path: Path, opening: str) -> None:
    assert len(problems(tmp_path, opening * (MAX_OCTETS // len(opening)))) == 1


@pytest.mark.parametrize(
    ("code", "is_loaded"),
    [
        ("import mtad.config.load", False),
        ("from pydantic import create_model; create_model('Any')", True),
    ],
)
def test_no_plugin_of_another_package_is_loaded(tmp_path: Path, code: str, is_loaded: bool) -> None:
    metadata = tmp_path / "intruder-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: intruder\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[pydantic]\nintruder = intruder:plugin\n")
    (tmp_path / "intruder.py").write_text(
        "class plugin:\n    new_schema_validator = staticmethod(lambda *a, **k: (None,) * 3)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"}
    environment.pop("PYDANTIC_DISABLE_PLUGINS", None)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print('intruder' in sys.modules)"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout == f"{is_loaded}\n"


_WORDS = st.sampled_from(
    [
        *Settings.model_fields,
        "mx",
        "listen",
        "profile",
        "user",
        "socket",
        "*:25",
        "127.0.0.1:25",
        "&a",
        "*a",
        "!!int",
        "<<",
        "---",
        "...",
        "|",
        ">",
        "%YAML 1.1",
        "\t",
        "0660",
        "~",
        "\ufeff",
        ": ",
        ":",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "? ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "#",
        "'",
        '"',
        "1",
    ]
)


@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(str.encode),
        st.lists(_WORDS, max_size=40).map(lambda words: "".join(words).encode()),
    )
)
def test_nothing_but_config_error_comes_of_any_octets(
    tmp_path: Path, loader: type, octets: bytes
) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(octets)
    outcome = configuration_or_error(path, loader)
    if isinstance(outcome, ConfigError):
        assert outcome.problems
        assert all(line.isprintable() for line in str(outcome).splitlines())
    else:
        outcome.listeners()


def configuration_or_error(path: Path, loader: type) -> Configuration | ConfigError:
    """Return what comes of ``path`` with PyYAML's parser or libyaml's, whichever is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_Loader", loader)
        try:
            return load([path])
        except ConfigError as error:
            return error


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
_OPTIONS = st.sampled_from(
    [
        "user",
        "group",
        "supplemental_groups",
        "capabilities",
        "socket",
        "operate",
        "directory",
        "target",
        "form",
        "level",
        "a",
        "listen",
        "mode",
        "backlog",
        "enabled",
    ]
)


@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.sampled_from(list(Settings.model_fields)),
        _VALUES | st.dictionaries(_OPTIONS, _VALUES | st.dictionaries(_OPTIONS, _VALUES)),
        min_size=1,
    )
)
def test_nothing_but_config_error_comes_of_any_values(
    tmp_path: Path, loader: type, data: object
) -> None:
    path = tmp_path / "any.json"
    path.write_text(json.dumps(data))
    outcome = configuration_or_error(path, loader)
    if isinstance(outcome, ConfigError):
        assert all(problem.line >= 1 for problem in outcome.problems)

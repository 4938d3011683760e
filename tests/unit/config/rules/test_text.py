"""Rules from texts, and texts from rules."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from harness.rules import rules
from hypothesis import given, settings
from hypothesis import strategies as st

from mtad.config.load import load
from mtad.config.rules.schema import Rule as RuleStanza
from mtad.config.rules.text import (
    as_file,
    as_yaml,
    check_name,
    in_line,
    load_moment,
    load_rule,
    load_rules,
)
from mtad.errors import ConfigError
from mtad.model.profile import ClientCertificates
from mtad.model.rules import values
from mtad.model.rules.values import (
    At,
    Between,
    Bounce,
    Choice,
    Close,
    Cycle,
    Do,
    Flawed,
    Mail,
    Moment,
    Rule,
    Said,
    Shutter,
    Source,
    Tarpit,
    TlsFault,
    When,
    Where,
    Window,
)

_TRIPLET = ("peer", "sender", "recipient")
RCPT = (At(Moment.RCPT),)
LATER = Do(reply=Said(450, "4.2.0", "Try again later"))


def one(text: str) -> Rule:
    return load_rule("name", text)


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        one(text)
    return str(caught.value).splitlines()


def test_every_condition() -> None:
    rule = one("""
at: message
where:
  listener: mx
  peer: [10.0.0.0/8, "::1", unix]
  helo: ["*.example.org", "/^mail[0-9]+/"]
  tls: no
  user: alice
  sender: ""
  recipient: "*@example.com"
  size: ">1M"
  header: {X-Test: abc, Subject: [a, b]}
  run: nightly
do: {}
""")
    assert rule.where == Where(
        listener=("mx",),
        peer=("10.0.0.0/8", "::1/128", "unix"),
        helo=("*.example.org", "/^mail[0-9]+/"),
        tls=False,
        user=("alice",),
        sender=("",),
        recipient=("*@example.com",),
        size=Between(2**20 + 1),
        header={"x-test": ("abc",), "subject": ("a", "b")},
        run="nightly",
    )
    assert rule.source is Source.ADDED


ALL = tuple(map(At, dict.fromkeys(values.COMMANDS.values())))


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("rcpt", RCPT),
        ("[mail, rcpt]", (At(Moment.MAIL), *RCPT)),
        ("byte 1000", (At(Moment.BODY, octets=1000),)),
        ("[body, line 20]", (At(Moment.BODY), At(Moment.BODY, lines=20))),
        ("command", ALL),
        ("[banner, command, rcpt]", (At(Moment.BANNER), *ALL)),
    ],
)
def test_moments(text: str, at: tuple[At, ...]) -> None:
    assert one(f"at: {text}, do: {{}}").at == at


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ('">1K"', Between(1025)),
        ("<1K", Between(0, 1023)),
        ("< 64 KiB", Between(0, 65_535)),
        ("1K..2M", Between(1024, 2**21)),
        ("5..5", Between(5, 5)),
    ],
)
def test_sizes(text: str, size: Between) -> None:
    assert one(f"at: mail, where: {{size: {text}}}, do: {{}}").where.size == size


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("nth: 3", When(values.Nth(3))),
        ("every: 3", When(values.Every(3))),
        ("first: 100, per: peer", When(values.First(100), ("peer",))),
        ("after: 3, per: [sender_domain]", When(values.After(3), ("sender_domain",))),
        (
            "chance: 0.25, seed: 7",
            When(values.Chance(0.25), ("peer", "helo", "user", "sender", "recipient"), 7),
        ),
        ("chance: 1, per: []", When(values.Chance(1.0))),
        ("greylist: {}", When(values.Greylist(60, 14_400, 3_024_000), _TRIPLET)),
        (
            "greylist: {delay: 0.5, window: 5m, remember: 7d}",
            When(values.Greylist(0.5, 300, 604_800), _TRIPLET),
        ),
        ("rate: {limit: 10}", When(values.Rate(10))),
        ("rate: {limit: 1, seconds: 1h, growth: 2}", When(values.Rate(1, 3600, 0, 2))),
        ("rate: {limit: 0.5, burst: 3}, per: peer", When(values.Rate(0.5, 60, 3), ("peer",))),
        ("quota: 10M", When(values.Quota(10 * 2**20), ("recipient",))),
        ("daily: 02:00-04:00", When(daily=(Window(7200, 14_400),))),
        (
            "daily: [22:30-00:00, 23:59:59-24:00]",
            When(daily=(Window(81_000, 0), Window(86_399, 86_400))),
        ),
        ("cycle: {on: 5, off: 25.5}", When(cycle=Cycle(5, 25.5))),
    ],
)
def test_times_and_counts(text: str, when: When) -> None:
    assert one(f"at: rcpt, when: {{{text}}}, do: {{}}").when == when


def test_what_is_drawn_depends_on_the_attempt_and_not_on_the_order() -> None:
    attempt = ("peer", "helo", "user", "sender", "recipient")
    assert one("at: rcpt, do: {jitter: 1}").when.per == attempt
    assert one("at: rcpt, do: {one_of: [{}, {close: rst}]}").when.per == attempt
    assert one("at: rcpt, when: {first: 2}, do: {jitter: 1}").when.per == ()
    assert one("at: rcpt, do: {delay: 1}").when.per == ()


def test_a_random_seed_is_drawn_and_shown() -> None:
    seeds = {one("at: rcpt, when: {seed: random}, do: {}").when.seed for _ in range(8)}
    assert len(seeds) > 1
    rule = one("at: rcpt, when: {chance: 0.5, seed: random}, do: {}")
    assert f"seed: {rule.when.seed}" in as_yaml(rule)


@pytest.mark.parametrize(
    ("at", "text", "do"),
    [
        ("rcpt", "reply: 450 4.2.0 Try again later", LATER),
        ("rcpt", "reply: 450", Do(reply=Said(450))),
        ("rcpt", "reply: 421 4.7.0", Do(reply=Said(421, "4.7.0"))),
        ("data", "reply: 354 Go", Do(reply=Said(354, "", "Go"))),
        (
            "banner",
            'reply: "220 192.0.2.1 ESMTP, ready"',
            Do(reply=Said(220, "", "192.0.2.1 ESMTP, ready")),
        ),
        (
            "ehlo",
            "reply: [250-mx, 250-SIZE 5, 250 HELP]",
            Do(reply=Said(250, "", "mx\nSIZE 5\nHELP")),
        ),
        (
            "rcpt",
            "reply: [550 5.1.1 a, 550 5.1.1, 550-5.1.1 c]",
            Do(reply=Said(550, "5.1.1", "a\n\nc")),
        ),
        ("rcpt", "reply: none", Do(mute=True)),
        ("rcpt", r'raw: "250 \xff\0\r\n", repeat: 2', Do(raw=b"250 \xff\0\r\n", repeat=2)),
        ("rcpt", "delay: 2, jitter: 0.5", Do(delay=2, jitter=0.5)),
        ("rcpt", "tarpit: {}", Do(tarpit=Tarpit(1, 2, 60))),
        ("rcpt", "tarpit: {base: 5, growth: 1.5, most: 5m}", Do(tarpit=Tarpit(5, 1.5, 300))),
        ("connect", "send_rate: 1, read_rate: 0.5", Do(send_rate=1, read_rate=0.5)),
        ("rcpt", "silent: yes, deaf: true", Do(silent=True, deaf=True)),
        ("quit", "close: half", Do(close=Close.HALF)),
        ("connect", "listener: {close: 20}", Do(listener=Shutter(20))),
        ("connect", "listener: {deaf: 5m}", Do(listener=Shutter(300, deaf=True))),
        ("ehlo", "hide: [starttls, SIZE]", Do(hide=("STARTTLS", "SIZE"))),
        (
            "tls",
            "tls: {certificate: expired, maximum_version: 1.2, client_certificates: ask}",
            Do(tls=TlsFault(Flawed.EXPIRED, "", "1.2", ClientCertificates.ASK)),
        ),
        ("tls", "tls: {alert: handshake_failure}", Do(tls=TlsFault(alert=40))),
        ("tls", "tls: {alert: 250}", Do(tls=TlsFault(alert=250))),
        ("message", "mail: discard", Do(mail=Mail(discard=True))),
        ("message", "mail: hold", Do(mail=Mail(hold=True))),
        ("message", 'mail: {forward: "10.0.0.1:25"}', Do(mail=Mail(forward="10.0.0.1:25"))),
        (
            "message",
            'mail: {forward: "[::1]:25", hold: yes}',
            Do(mail=Mail(hold=True, forward="[::1]:25")),
        ),
        (
            "message",
            'reply: 250 ok, mail: {bounce: {hop: "mx.example:25", status: 5.1.1, text: No}}',
            Do(reply=Said(250, "", "ok"), mail=Mail(bounce=Bounce("mx.example:25", "5.1.1", "No"))),
        ),
        (
            "rcpt",
            "one_of: [{weight: 9}, {close: rst}]",
            Do(one_of=(Choice(9, Do()), Choice(1, Do(close=Close.RST)))),
        ),
    ],
)
def test_every_action(at: str, text: str, do: Do) -> None:
    assert one(f"at: {at}, do: {{{text}}}").do == do


def test_for_how_long() -> None:
    rule = one("at: rcpt, do: {}, for: {hits: 10, seconds: 1m}, enabled: no")
    assert (rule.hits, rule.seconds, rule.enabled) == (10, 60, False)


@pytest.mark.parametrize(
    "text",
    [
        "at: rcpt, do: {reply: 450 4.2.0 Try again later}",
        " {at: rcpt, do: {reply: 450 4.2.0 Try again later}}\n",
        '{"at": "rcpt", "do": {"reply": "450 4.2.0 Try again later"}}',
        "at: rcpt\ndo:\n  reply: 450 4.2.0 Try again later\n",
    ],
)
def test_the_same_rule_in_other_words(text: str) -> None:
    assert one(text) == Rule("name", RCPT, LATER, source=Source.ADDED)


def test_a_rule_of_a_command_line_has_line_1_and_the_path_of_keys() -> None:
    assert complaints("at: rctp, do: {reply: 650 No, tls: {alert: bad}}, when: {first: 0}") == [
        "rule name:1: at: 'rctp' is no moment of a session",
        "    help: did you mean rcpt?",
        "rule name:1: when.first: expected at least 1, found 0",
        "rule name:1: do.reply: expected a code from 200 to 599, found 650",
        "    help: `raw` sends others",
        "rule name:1: do.tls.alert: 'bad' is no alert of TLS",
        "    help: a name of RFC 8446 section 6, or its number",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "rule name:1: at: required, but not there"),
        ("rcpt", "rule name:1: rcpt: no value"),
        ("at: rcpt", "rule name:1: do: required, but not there"),
        ("at: rcpt, do: {reply: 450 Later, please}", "rule name:1: do.please: no value"),
        ("at: rcpt, do: {", "rule name:1: not YAML: did not find expected ',' or '}'"),
        ("at: rcpt, do: {}, name: x", "rule name:1: name: unknown option"),
        ("at: rcpt\ndo: {}\nwhere: &a {}", "rule name:3: where: anchors and aliases are not taken"),
        ("at: rcpt\x07", "rule name:1: the character U+0007 is not allowed in YAML"),
        ("at: \ud800", "rule name:1: the character U+D800 is not allowed in YAML"),
        ("#" * (2**20 + 1), "rule name: larger than 1 MiB"),
    ],
)
def test_what_is_no_rule(text: str, complaint: str) -> None:
    assert complaint in complaints(text)


@pytest.mark.parametrize("name", ["", "a/b", "-a", "a b", "a\n", "x" * 64])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a name"):
        check_name(name)


def test_a_file_of_rules() -> None:
    text = "rules:\n  b: {at: rcpt, do: {}}\n  a: {at: quit, do: {close: rst}}\n"
    loaded = load_rules(text, "faults.yaml")
    assert list(loaded) == ["b", "a"]
    assert loaded["a"] == Rule("a", (At(Moment.QUIT),), Do(close=Close.RST), source=Source.ADDED)


def test_a_file_of_rules_is_taken_whole_or_not_at_all() -> None:
    text = "rules:\n  a: {at: rcpt, do: {}}\n  b: {at: rctp, do: {}}\n  c: {at: rcpt}\nlog: {}\n"
    with pytest.raises(ConfigError) as caught:
        load_rules(text, "faults.yaml")
    assert str(caught.value).splitlines() == [
        "faults.yaml:3: rules.b.at: 'rctp' is no moment of a session",
        "    help: did you mean rcpt?",
        "faults.yaml:4: rules.c.do: required, but not there",
        "faults.yaml:5: log: unknown option",
        "    help: the options here are rules",
    ]


def test_the_same_file_is_a_second_file_of_a_configuration(tmp_path: Path) -> None:
    text = "rules: {a: {at: rcpt, do: {}}, b: {at: quit, do: {close: rst}}}"
    (tmp_path / "rules.yaml").write_text(text)
    (tmp_path / "mtad.yaml").write_text(
        "rules: {gone: {at: rcpt, do: {}}}\n"
        "profiles: {p: {rules: {b: {at: noop, do: {}}}}, default: {rules: {c: {at: quit, do: {}}}}}"
    )
    in_a_file = load([tmp_path / "mtad.yaml", tmp_path / "rules.yaml"]).rules()
    assert [(rule.name, rule.source, rule.profile) for rule in in_a_file] == [
        ("a", Source.FILE, ""),
        ("b", Source.FILE, ""),
        ("default/c", Source.PROFILE, "default"),
        ("p/b", Source.PROFILE, "p"),
    ]
    assert [
        msgspec.structs.replace(rule, source=Source.FILE) for rule in load_rules(text, "x").values()
    ] == list(in_a_file[:2])


def test_a_moment() -> None:
    assert load_moment("byte 1000") == At(Moment.BODY, octets=1000)
    with pytest.raises(ConfigError, match="did you mean rcpt"):
        load_moment("rctp")


@given(rules())
def test_from_a_rule_to_its_text_and_back(rule: Rule) -> None:
    check_name(rule.name)
    assert load_rule(rule.name, as_yaml(rule)) == rule
    assert load_rule(rule.name, in_line(rule)) == rule


@given(st.lists(rules(), min_size=1, max_size=3, unique_by=lambda rule: rule.name))
def test_from_rules_to_a_file_and_back(several: list[Rule]) -> None:
    assert list(load_rules(as_file(several), "any.yaml").values()) == several


_OPTIONS = st.sampled_from(
    sorted(
        name
        for model in RuleStanza.model_json_schema()["$defs"].values()
        for name in model["properties"]
    )
)
_WORDS = st.sampled_from(
    ["rcpt", "message", "command", "byte 9", "/(/", "450 x", "1K..2M", ">1K", "02:00-04:00", "1.3"]
)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | _WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_OPTIONS, inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=12,
)


@settings(max_examples=500)
@given(st.dictionaries(st.sampled_from(["at", "where", "when", "do", "for"]), _ANYTHING))
def test_nothing_but_config_error_comes_of_any_values(data: dict[str, object]) -> None:
    outcome = rule_or_error(json.dumps({"at": "message", "do": {}} | data))
    if isinstance(outcome, ConfigError):
        assert all(problem.line == 1 for problem in outcome.problems)
    else:
        assert one(as_yaml(outcome)) == outcome


def rule_or_error(text: str) -> Rule | ConfigError:
    try:
        return one(text)
    except ConfigError as error:
        return error


def test_a_text_is_short() -> None:
    assert as_yaml(one("at: rcpt, when: {first: 3}, do: {reply: 450 4.2.0 Try again later}")) == (
        "at: rcpt\nwhen: {first: 3}\ndo: {reply: 450 4.2.0 Try again later}\n"
    )

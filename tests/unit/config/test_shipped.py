"""The profiles that come with mtad: as a second file, by name, and told apart from others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mtad.config import shipped
from mtad.config.load import Configuration, load
from mtad.errors import ConfigError
from mtad.model.rules.values import Source

CONF = Path(__file__).parents[3] / "conf"
NAMES = [
    "broken-tls",
    "flaky-network",
    "gmail-like",
    "greylisting",
    "legacy",
    "microsoft-365-like",
    "no-tls",
    "overloaded",
    "smuggling-prone",
    "strict-corporate",
]


def loaded(directory: Path, text: str) -> Configuration:
    (directory / "mtad.yaml").write_text(text)
    return load([directory / "mtad.yaml"])


def using(name: str) -> str:
    return f"listeners: {{mx: {{listen: 127.0.0.1:25, profile: {name}}}}}"


def test_which_there_are() -> None:
    assert list(shipped.files()) == NAMES
    installed = {name: file.read_text() for name, file in shipped.files().items()}
    assert installed == {file.stem: file.read_text() for file in CONF.glob("profiles/*.yaml")}


@pytest.mark.parametrize("name", NAMES)
def test_as_a_second_file_it_is_for_listeners_that_name_no_profile(name: str) -> None:
    configuration = load([CONF / "mtad.yaml", CONF / "profiles" / f"{name}.yaml"])
    (mx,) = configuration.listeners()
    assert mx.profile_name == "default"
    assert {rule.profile for rule in configuration.rules()} <= {"default"}


@pytest.mark.parametrize("name", NAMES)
def test_by_name_it_is_the_same(name: str, tmp_path: Path) -> None:
    second = load([CONF / "mtad.yaml", CONF / "profiles" / f"{name}.yaml"])
    named = loaded(tmp_path, using(name))
    (mx,) = named.listeners()
    assert mx.profile == second.settings.profile("default")
    assert [rule.name for rule in named.rules()] == [
        rule.name.replace("default/", f"{name}/") for rule in second.rules()
    ]
    assert {rule.source for rule in named.rules()} <= {Source.PROFILE}


@pytest.mark.parametrize("name", NAMES)
def test_it_says_how_it_is_used_and_where_it_is_from(name: str) -> None:
    text = (CONF / "profiles" / f"{name}.yaml").read_text()
    assert f"\n| `{name}` | " in (CONF.parent / "docs" / "profiles.md").read_text()
    assert f"mtad run conf/mtad.yaml conf/profiles/{name}.yaml\n" in text
    assert f"`profile: {name}`" in text
    assert re.search("^# Sources: .*(RFC|https://)", text, re.MULTILINE | re.DOTALL)
    assert max(map(len, text.splitlines())) <= 100


def test_only_those_that_are_named_are_there(tmp_path: Path) -> None:
    configuration = loaded(tmp_path, using("greylisting"))
    assert list(configuration.settings.profiles) == ["greylisting"]
    assert loaded(tmp_path, "{}").rules() == ()


def test_one_of_the_file_has_its_name_to_itself(tmp_path: Path) -> None:
    text = f"{using('legacy')}\nprofiles: {{legacy: {{hostname: mine.example}}}}"
    configuration = loaded(tmp_path, text)
    assert configuration.settings.profile("legacy").hostname == "mine.example"
    assert configuration.rules() == ()
    assert configuration.effective()["profiles"]["shipped"] == {}


def test_what_is_shown_says_where_it_is_from(tmp_path: Path) -> None:
    shown = loaded(tmp_path, using("greylisting")).effective()["profiles"]
    assert shown["source"] is None
    assert shown["shipped"] == {"greylisting": str(shipped.files()["greylisting"])}
    assert list(shown["value"]["greylisting"]["rules"]) == ["postmaster", "greylist"]


def test_a_listener_may_name_one_later(tmp_path: Path) -> None:
    configuration = loaded(tmp_path, using("default"))
    assert configuration.knowing(["default", "nobody's"]) is configuration
    more = configuration.knowing(["legacy"])
    assert more.settings.profile("legacy").hostname == "legacy.example"
    assert configuration.settings.profiles == {}


def test_an_unknown_profile_is_told_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, using("gmail"))
    assert "no profile 'gmail'" in str(caught.value)
    assert f"are default; with mtad come {', '.join(NAMES)}" in str(caught.value)

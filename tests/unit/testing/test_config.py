"""A test's configuration over the default one, as the daemon reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtad.config.load import Configuration, load
from mtad.errors import ConfigError
from mtad.privilege import capabilities
from mtad.testing.config import Config, merged


def loaded(directory: Path, config: Config) -> Configuration:
    """Return the merged configuration, as the daemon has it."""
    file = directory / "merged.yaml"
    file.write_text(json.dumps(merged(directory, config), default=str))
    return load([file], capabilities.parse)


def test_the_default_is_one_listener_on_a_free_port_of_this_machine(tmp_path: Path) -> None:
    (mx,) = loaded(tmp_path, {}).listeners()
    assert (mx.name, str(mx.endpoint)) == ("mx", "127.0.0.1:0")


def test_every_path_of_the_default_is_in_the_directory(tmp_path: Path) -> None:
    settings = loaded(tmp_path, {}).settings
    assert {settings.store.directory.parent, settings.control.socket.parent} == {tmp_path}
    assert settings.pid_file is None


@pytest.mark.parametrize("form", ["mapping", "text", "file"])
def test_a_configuration_adds_to_the_default(tmp_path: Path, form: str) -> None:
    stanzas: dict[str, Any] = {
        "listeners": {"mx": {"profile": "small"}, "lmtp": {"listen": "[::1]:0"}},
        "profiles": {"small": {"limits": {"message_size": "1M"}}},
    }
    text = yaml.safe_dump(stanzas)
    (tmp_path / "mine.yaml").write_text(text)
    forms: dict[str, Config] = {
        "mapping": stanzas,
        "text": text,
        "file": tmp_path / "mine.yaml",
    }
    listeners = {one.name: one for one in loaded(tmp_path, forms[form]).listeners()}
    assert str(listeners["mx"].endpoint) == "127.0.0.1:0"
    assert listeners["mx"].profile_name == "small"
    assert str(listeners["lmtp"].endpoint) == "[::1]:0"


def test_scalars_and_lists_replace(tmp_path: Path) -> None:
    settings = loaded(tmp_path, {"workers": 2, "control": {"observe": ["@users"]}}).settings
    assert settings.workers == 2
    assert settings.control.observe == ["@users"]
    assert settings.control.socket.parent == tmp_path


def test_scalars_are_what_they_are_to_the_daemon(tmp_path: Path) -> None:
    """YAML 1.1 would make 480 of the mode, and false of the name."""
    config = merged(tmp_path, "listeners: {no: {listen: /run/x, mode: 0740}}")
    assert config["listeners"]["no"] == {"listen": "/run/x", "mode": "0740"}


def test_a_mapping_is_left_as_it_is(tmp_path: Path) -> None:
    config = {"control": {"observe": ["@users"]}}
    merged(tmp_path, config)["control"]["more"] = 1
    assert config == {"control": {"observe": ["@users"]}}


@pytest.mark.parametrize("text", ["- a", "word", "{"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        merged(tmp_path, text)

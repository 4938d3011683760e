"""The configuration of a private daemon: a small default, and over it what a test wants."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtad.config.reader import read
from mtad.errors import ConfigError

Config = str | Path | Mapping[str, Any]
"""A configuration: YAML, the path of a file with it, or what such a file says."""


def merged(directory: Path, config: Config) -> dict[str, Any]:
    """Return ``config`` over the default, in which ``directory`` has everything.

    Mappings are merged, key by key; all else replaces what was there.

    Raises:
        ConfigError: it is not YAML.
    """
    return _over(_default(directory), _said(directory, config))


def _default(directory: Path) -> dict[str, Any]:
    return {
        "security": {"user": os.geteuid()},
        "listeners": {"mx": {"listen": "127.0.0.1:0"}},
        "control": {"socket": f"{directory}/control"},
        "store": {"directory": f"{directory}/store"},
        "pid_file": None,
        "workers": 1,
        "drain": 1,
    }


def _said(directory: Path, config: Config) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    file = config if isinstance(config, Path) else directory / "config.yaml"
    if isinstance(config, str):
        file.write_text(config)
    document = read(file)
    if document.problems:
        raise ConfigError(document.in_order())
    return document.data


def _over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _over(under[key], value)
        for key, value in over.items()
        if isinstance(value, Mapping) and isinstance(under.get(key), Mapping)
    }
    return {**under, **over, **both}

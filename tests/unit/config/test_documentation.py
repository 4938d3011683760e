"""Every option is described, in the schema, in the reference and in the default file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtad.cli.docs import configuration_md
from mtad.config.load import load
from mtad.config.schema import Settings
from mtad.model.endpoint import TcpEndpoint

ROOT = Path(__file__).parents[3]
CONF = ROOT / "conf"
REFERENCE = (ROOT / "docs" / "configuration.md").read_text()


def options() -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the JSON schema of every option that is not a mapping."""
    schema = Settings.model_json_schema()
    return [found for option in schema["properties"].items() for found in within(option, schema)]


def within(
    named: tuple[str, dict[str, Any]], schema: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield an option, or those of the mapping that it is, or of the mappings that it holds."""
    text = json.dumps({key: value for key, value in named[1].items() if key != "default"})
    models = re.findall(r'"#/\$defs/(\w+)"', text)
    if not models:
        yield named
    for model in models:
        for option in schema["$defs"][model]["properties"].items():
            yield from within(option, schema)


def test_the_reference_is_current() -> None:
    assert configuration_md() == REFERENCE, "run: python -m mtad.cli.docs configuration"


@pytest.mark.parametrize(("name", "option"), options(), ids=lambda value: str(value)[:20])
def test_every_option_is_described(name: str, option: dict[str, Any]) -> None:
    assert option["description"].endswith(".")
    assert re.search(
        rf"^[ #]*{name}:|{{{name}: |, {name}: ", (CONF / "mtad.yaml").read_text(), re.MULTILINE
    ), f"conf/mtad.yaml does not show {name}"


def test_the_default_file() -> None:
    configuration = load([CONF / "mtad.yaml"])
    security = configuration.settings.security
    assert (security.user, security.group) == ("ecuser", "ecuser")
    assert security.capabilities == "cap_net_bind_service+ep"
    (mx,) = configuration.listeners()
    assert (mx.name, mx.endpoint) == ("mx", TcpEndpoint("*", 25, v6only=False))


def test_what_the_default_file_shows_commented_out_is_the_default(tmp_path: Path) -> None:
    shown = tmp_path / "shown.yaml"
    text = (CONF / "mtad.yaml").read_text()
    shown.write_text(
        re.sub(
            r"^( *)# ?( *(?:[a-z0-9_]+: .*|[a-z]+:))$",
            r"\1\2",
            text,
            flags=re.MULTILINE,
        )
    )
    as_shown, as_is = load([shown]), load([CONF / "mtad.yaml"])
    assert "profiles" in {stanza for stanza, source in as_shown.sources.items() if source}
    assert as_shown.settings.profile("default") == as_is.settings.profile("default")
    assert [rule.name for rule in as_shown.rules()][:2] == ["short", "long"]
    without = as_shown.settings.model_copy(update={"profiles": {}, "rules": {}})
    assert without == as_is.settings


def test_the_file_for_a_start_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    configuration = load([CONF / "mtad.yaml", CONF / "mtad-user.yaml"])
    settings = configuration.settings
    assert settings.security == Settings().security
    assert settings.pid_file is None
    assert settings.store.directory == Path("/home/alice/.local/state/mtad")
    assert [spec.endpoint for spec in configuration.listeners()] == [
        TcpEndpoint("*", 2525, v6only=False)
    ]


def test_the_file_for_a_cluster() -> None:
    configuration = load([CONF / "mtad.yaml", CONF / "mtad-cluster.yaml"])
    assert configuration.settings.security.capabilities == (
        "cap_net_bind_service,cap_net_admin,cap_net_raw,cap_sys_resource+ep"
    )
    assert configuration.sources["listeners"] == CONF / "mtad.yaml"


def test_examples_in_the_reference_load(tmp_path: Path) -> None:
    examples = re.findall(r"^```yaml\n(.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL)
    assert examples
    for number, text in enumerate(examples):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        load([path])


EXAMPLES = [
    (document.name, block)
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for block in re.findall(r"```yaml\n(.*?)```", document.read_text(), re.DOTALL)
    if re.match(r"(?m)^(security|listeners|profiles|rules|control|store|log|workers)\b", block)
]


@pytest.mark.parametrize(("document", "example"), EXAMPLES)
def test_every_example_loads(document: str, example: str, tmp_path: Path) -> None:
    file = tmp_path / "mtad.yaml"
    file.write_text(example)
    load([file])  # raises what is wrong with it


def test_there_are_examples() -> None:
    assert "README.md" in [document for document, _ in EXAMPLES]

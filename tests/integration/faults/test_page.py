"""docs/faults.md: its examples are rules, and its tables leave nothing out."""

from __future__ import annotations

import re

import pytest
from harness.checkout import CHECKOUT
from harness.pages import Row, rows

from mtad.config.rules.actions import Do
from mtad.config.rules.schema import For, When, Where
from mtad.config.rules.text import load_moment, load_rule, load_rules
from mtad.config.rules.values import MOMENTS
from mtad.config.stanza import Stanza
from mtad.model.rules.values import FACTS, MEANT_FOR, Moment

PAGE = CHECKOUT / "docs" / "faults.md"
EXAMPLES = {part: rows(PAGE, part) for part in ("Where", "When", "Do")}
STANZAS: dict[str, type[Stanza]] = {"Where": Where, "When": When, "Do": Do, "For": For}


@pytest.mark.parametrize(
    ("part", "row"), [(part, row) for part in EXAMPLES for row in EXAMPLES[part]]
)
def test_examples(part: str, row: Row) -> None:
    """What a table shows is taken, at a moment where it has a meaning."""
    shown = {"do": "{}"} | {part.lower(): row.title.strip("`")}
    options = re.findall(r"(\w+):", shown["do"])
    moments = [one for one in Moment if all(one in MEANT_FOR.get(name, Moment) for name in options)]
    at = Moment.MESSAGE if Moment.MESSAGE in moments else moments[0]
    text = ", ".join(f"{name}: {what}" for name, what in shown.items())
    load_rule("shown", f"at: {at}, {text}")


def test_rules() -> None:
    """Whatever begins as a rule is one; MOMENT stands for many."""
    shown = re.findall("`(at: [^`…]+)`", PAGE.read_text())
    assert len([load_rule("shown", text.replace("MOMENT", "rcpt")) for text in shown]) > 100


def test_files() -> None:
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```$", PAGE.read_text())
    assert [list(load_rules(block, "page")) for block in blocks] == [["busy"]]


@pytest.mark.parametrize("part", STANZAS)
def test_every_option_is_shown(part: str) -> None:
    (text,) = re.findall(rf"(?ms)^## {part}\n(.*?)^## ", PAGE.read_text())
    shown = set(re.findall(r"\b(\w+): ", " ".join(re.findall("`([^`]+)`", text))))
    shown |= set(re.findall(r"`(\w+)`", text))
    assert set(STANZAS[part].model_fields) <= shown


def test_every_fact_is_named() -> None:
    (text,) = re.findall(r"(?s)`per` says what .*?:", PAGE.read_text())
    assert [name for name in re.findall(r"`(\w+)`", text) if name != "per"] == list(FACTS)


def test_moments() -> None:
    """Each has a row, and what it can be told is what has a meaning there."""
    everywhere = {name for name, moments in MEANT_FOR.items() if moments == frozenset(Moment)}
    (text,) = re.findall(r"(?s)What every moment can be told: (.*?)\. ", PAGE.read_text())
    assert everywhere - {"repeat"} == set(re.findall("`(.*?)`", text))

    named: list[str] = []
    for row in rows(PAGE, "A rule"):
        moments = re.findall("`(.*?)`", row.title)
        named += moments
        for moment in map(load_moment, moments):
            told = {name for name, known in MEANT_FOR.items() if moment.moment in known}
            assert told - everywhere - {"mute"} == set(row.code), row.title
    assert sorted(named) == sorted(MOMENTS)

"""docs/query.md: every field is there and no other, and what it shows is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mtad.archive.fields import FIELDS
from mtad.archive.headers import HEADER_CHARACTERS, TEXT_CHARACTERS
from mtad.archive.query import MAX_CONDITIONS, MAX_DEPTH, MAX_LENGTH, parse, show
from mtad.archive.terms import HAS, LINT
from mtad.errors import QueryError

DOCUMENT = Path(__file__).parents[3].joinpath("docs/query.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`.*?`) \| (.*?) \| (.*) \|$", DOCUMENT, re.MULTILINE)
EXAMPLES = re.findall(r"^```query\n(.*?)\n```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def test_every_field_has_its_row() -> None:
    named = [name for cell, _, _ in ROWS for name in re.findall(r"`(.+?):`", cell)]
    assert sorted(named) == sorted([*FIELDS, "header.NAME"])


def test_the_values_of_fields_and_the_bounds() -> None:
    for field, told in ("has", HAS), ("lint", LINT):
        (values,) = [value for cell, _, value in ROWS if cell == f"`{field}:`"]
        assert tuple(re.findall("`(.+?)`", values)) == told
    for bound in (MAX_LENGTH, MAX_CONDITIONS, MAX_DEPTH):
        assert f" {bound} " in DOCUMENT.replace("\n", " ")
    for bound in (TEXT_CHARACTERS, HEADER_CHARACTERS):
        assert f" {bound:,}" in DOCUMENT


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 5


@pytest.mark.parametrize("query", EXAMPLES)
def test_examples(query: str) -> None:
    assert parse(show(parse(query))) == parse(query)


def test_the_mistake() -> None:
    query, shown = re.findall(r"--query '(.*)'\n(.*?)\n```", DOCUMENT, re.DOTALL)[0]
    with pytest.raises(QueryError) as error:
        parse(query)
    assert shown == f"mtactl: {error.value.message}\n  help: {error.value.help}"

"""Tables in the documentation, whose cells are tried."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_SPAN = re.compile(r"`([^`]+)`")


class Row(NamedTuple):
    """A row of a table: the heading above it, its first cell, and the code in its last."""

    heading: str
    title: str
    code: tuple[str, ...]

    def starting(self, word: str) -> list[str]:
        """Return the pieces of code that begin with ``word``."""
        return [text for text in self.code if text.startswith(word)]


def rows(page: Path, section: str) -> list[Row]:
    """Return the rows of all tables of a section (``## …``), in order."""
    (text,) = re.findall(rf"(?ms)^## {re.escape(section)}\n(.*?)(?=^## |\Z)", page.read_text())
    found: list[Row] = []
    heading, is_head = section, True
    for line in text.splitlines():
        if line.startswith("### "):
            heading = line[4:]
        if not line.startswith("| "):
            is_head = True  # the next line of a table is the first of another
        elif is_head or line.startswith("| ---"):
            is_head = False
        else:
            title, *_, last = line.removeprefix("| ").removesuffix("|").split(" | ")
            found.append(Row(heading, title, tuple(_SPAN.findall(last))))
    return found

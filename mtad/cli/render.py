"""Results on a terminal: aligned text, with colours.

What does not fit into a line is the terminal's to break, which leaves an id or a link in one piece
for whoever copies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from mtad.control import plain
from mtad.control.view import Block, Grid, Lines, Section, lay_out

# Whose cells say how somebody or something is, and nothing else.
_STYLED = {"STATE", "VERDICT", "state", "ready"}
_STYLES = {
    "running": "green",
    "serving": "green",
    "ok": "green",
    "yes": "green",
    "starting": "yellow",
    "draining": "yellow",
    "stopped": "dim",
    "failed": "bold red",
    "differs": "bold red",
    "gone": "bold red",
}


def render(view: Sequence[Section], result: Mapping[str, Any]) -> None:
    """Print ``result`` on standard output, which is a terminal."""
    console = Console(highlight=False)
    for block in lay_out(view, result):
        for line in _drawn(block):
            line.rstrip()
            console.print(line, soft_wrap=True)


def _drawn(block: Block) -> Iterator[Text]:
    if isinstance(block, Grid):
        titles, *rows = plain.padded(block)
        yield _joined(Text(title, style="bold") for title in titles)
        for row in rows:
            yield _joined(map(_cell, block.titles, row))
        return
    if block.title:
        yield Text(block.title, style="bold")
    indent = "  " if block.title else ""
    if isinstance(block, Lines):
        for line in block.lines:
            yield Text(indent + plain.visible(line))
        return
    for name, value in plain.padded_pairs(block):
        yield _joined((Text(indent + name, style="cyan"), _cell(name.rstrip(), value)))


def _joined(cells: Iterable[Text]) -> Text:
    return Text("  ").join(cells)


def _cell(title: str, text: str) -> Text:
    return Text(text, style=_STYLES.get(text.strip(), "") if title in _STYLED else "")

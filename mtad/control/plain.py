"""Results as plain aligned text: for answers to plain lines, and for mtactl without a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import combining, east_asian_width

from mtad.control.values import show
from mtad.control.view import Block, Grid, Lines, Pairs, Section, lay_out
from mtad.log import printable


def render(view: Sequence[Section], result: Mapping[str, Any]) -> str:
    """Return ``result`` as lines of text, each ended; "" where there is nothing to say."""
    blocks = ["".join(f"{line.rstrip()}\n" for line in _lines(b)) for b in lay_out(view, result)]
    return "".join(blocks)


def item(view: Sequence[Section], told: Mapping[str, Any]) -> str:
    """Return an item of a stream as lines; where it has no view, it is an event."""
    return render(view, told) if view else event_line(told)


def _lines(block: Block) -> list[str]:
    if isinstance(block, Grid):
        return ["  ".join(cells) for cells in padded(block)]
    indent = "  " if block.title else ""
    lines = [f"{block.title}:"] if block.title else []
    if isinstance(block, Lines):
        return lines + [indent + visible(line) for line in block.lines]
    return lines + [f"{indent}{name}  {value}" for name, value in padded_pairs(block)]


def padded(grid: Grid) -> list[list[str]]:
    """Return the cells of the titles, and of each row, as wide as their columns."""
    rows = [grid.titles, *(tuple(visible(cell) for cell in row) for row in grid.rows)]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return [
        [
            " " * (width - _width(cell)) + cell if right else cell + " " * (width - _width(cell))
            for cell, width, right in zip(row, widths, grid.numeric, strict=True)
        ]
        for row in rows
    ]


def padded_pairs(block: Pairs) -> list[tuple[str, str]]:
    """Return the names, all as wide as the widest, with their values."""
    pairs = [(visible(name), visible(value)) for name, value in block.pairs]
    width = max(len(name) for name, _ in pairs)
    return [(f"{name:<{width}}", value) for name, value in pairs]


def _width(text: str) -> int:
    """Return how many columns a text takes: ideographs two, accents of their own none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 1 + (east_asian_width(char) in "WF") for char in text)


def visible(text: str) -> str:
    """Return ``text``, with control characters escaped if it has any."""
    return text if text.isprintable() else printable(text)


def event_line(event: Mapping[str, Any]) -> str:
    """Return one event as a line: ``2026-01-02T03:04:05Z listener.started name=mx``."""
    words = [show(event.get("ts", "-"), "time"), show(event.get("event", "-"))]
    for name, value in event.items():
        if name not in ("ts", "event"):
            text = show(value)
            words.append(f"{name}={text}" if text and " " not in text else f'{name}="{text}"')
    return visible(" ".join(words)) + "\n"

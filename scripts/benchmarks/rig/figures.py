"""Figures of several servers that took turns: medians, ratios, and how they are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Protocol


class Measured(Protocol):
    """One server under one load, in one turn."""

    @property
    def row(self) -> str: ...
    @property
    def server(self) -> str: ...
    @property
    def turn(self) -> int: ...


def paired(
    measurements: Sequence[Measured], row: str, over: str, under: str, what: str
) -> float | None:
    """Return the median over the turns of ``over``'s figure divided by ``under``'s."""
    figures = {(m.server, m.turn): getattr(m, what) for m in measurements if m.row == row}
    turns = {turn for server, turn in figures if server == over}
    ratios = [figures[over, t] / figures[under, t] for t in turns if (under, t) in figures]
    return median(ratios) if ratios else None


def middle(measurements: Iterable[Measured], what: str) -> float | None:
    """Return the median of a figure, of those that have it."""
    values = [value for one in measurements if (value := getattr(one, what)) is not None]
    return median(values) if values else None


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

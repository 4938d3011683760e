"""Transcripts in the documentation: commands behind ``# ``, and what they print."""

from __future__ import annotations

import re
from pathlib import Path

from harness.whole import Whole

_MARK = "----8<----"

Step = tuple[str, list[str]]
"""A command, and the lines that it prints."""


def shown(page: Path) -> list[Step]:
    """Return the commands of all transcripts of a page, with what they print there."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    steps = [step.splitlines() for block in blocks for step in re.split(r"(?m)^# ", block) if step]
    return [(command, _alike(output)) for command, *output in steps]


def seen(whole: Whole, commands: list[str]) -> list[Step]:
    """Return what the commands print, one after the other in one shell."""
    ran = whole.shell("\n".join(f"{command}\necho '{_MARK}'" for command in commands))
    outputs = [part.splitlines() for part in ran.stdout.split(_MARK)]
    return [
        (command, _alike(output)) for command, output in zip(commands, outputs, strict=False)
    ] or [("", ran.stderr.splitlines())]


def _alike(lines: list[str]) -> list[str]:
    """Return ``lines`` without what differs from run to run: ids, numbers, widths of columns."""
    named = (re.sub(r"\b1[0-9a-z]{12}\b", "ID", line) for line in lines)
    return [" ".join(re.sub(r"\d+(\.\d+)?", "N", line).split()) for line in named if line.strip()]

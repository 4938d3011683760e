"""Every check asked, and its findings printed."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click

from mtad.cli.doctor import program
from mtad.cli.doctor.finding import CannotLookError, Finding, Level, ok, problem
from mtad.errors import ConfigError, MtadError
from mtad.log import printable

Told = tuple[str, Finding]
"""The name of a check, and a finding of it."""

# Before anything else: what all other checks are made with.
_PROGRAM: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": program.python,
    "packages": program.packages,
    "libraries": program.libraries,
}

_MARKS = {
    Level.OK: ("ok", "green"),
    Level.WARNING: ("warning", "yellow"),
    Level.PROBLEM: ("PROBLEM", "red"),
    Level.UNKNOWN: ("?", "cyan"),
}
_WIDTH_OF_MARK, _WIDTH_OF_NAME = 9, 18


def diagnose(paths: Sequence[Path], *, as_json: bool) -> bool:
    """Examine a start with ``paths``, print what is found, return whether there is no problem."""
    told = []
    for name, finding in examine(paths):
        told.append((name, finding))
        if not as_json:
            click.echo("\n".join(lines(name, finding)))
    click.echo(in_json(told) if as_json else f"\n{summary(told, paths)}")
    return all(finding.level is not Level.PROBLEM for _, finding in told)


def examine(paths: Sequence[Path]) -> Iterator[Told]:
    """Yield what every check finds of a start with the configuration files ``paths``."""
    sound = True
    for name, check in _PROGRAM.items():
        for finding in asked(check):
            sound = sound and finding.level is not Level.PROBLEM
            yield name, finding
    if sound:
        yield from _configured(paths)
    else:
        reason = "everything else is made with what is missing above"
        yield "configuration", Finding(Level.UNKNOWN, reason)


def _configured(paths: Sequence[Path]) -> Iterator[Told]:
    # Not sooner: these are made with libcap and python-prctl.
    from mtad.cli.doctor.checks import CHECKS
    from mtad.cli.doctor.start import Start
    from mtad.config.load import load
    from mtad.privilege import capabilities

    try:
        configuration = load(paths, capabilities.parse)
    except ConfigError as error:
        for one in error.problems:
            found = str(replace(one, help=""))
            yield "configuration", problem(found, "nothing is opened", one.help)
        names = ", ".join(CHECKS)
        yield "configuration", Finding(Level.UNKNOWN, f"not looked at: {names}")
        return
    yield "configuration", ok(f"{' '.join(map(str, paths))}: no mistake")
    start = Start.of(configuration)
    for name, check in CHECKS.items():
        yield from ((name, finding) for finding in asked(lambda: check(start)))  # noqa: B023


def asked(check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what ``check`` finds; that it cannot look, or fails itself, is a finding too."""
    try:
        yield from check()
    except CannotLookError as error:
        yield Finding(Level.UNKNOWN, str(error), "", tuple(filter(None, [error.remedy])))
    except MtadError as error:
        yield Finding(Level.UNKNOWN, error.message, "", tuple(filter(None, [error.help])))
    except PermissionError as error:
        yield Finding(Level.UNKNOWN, f"not allowed to look: {error}", "", ("run it as root",))
    except Exception as error:
        yield Finding(Level.UNKNOWN, f"this check failed: {type(error).__name__}: {error}")


def in_json(told: Sequence[Told]) -> str:
    """Return the findings as one JSON object."""
    counts = Counter(finding.level.value for _, finding in told)
    return json.dumps(
        {
            "ok": not counts[Level.PROBLEM],
            "counts": {level.value: counts[level] for level in Level},
            "findings": [{"check": name, **finding.as_dict()} for name, finding in told],
        },
        indent=2,
    )


def lines(name: str, finding: Finding) -> Iterator[str]:
    """Yield the lines for a person: what was found, why it matters, the remedies."""
    mark, colour = _MARKS[finding.level]
    yield (
        click.style(f"{mark:<{_WIDTH_OF_MARK}}", fg=colour)
        + f"{name:<{_WIDTH_OF_NAME}}{printable(finding.found)}"
    )
    indent = " " * _WIDTH_OF_MARK
    if finding.why:
        yield f"{indent}why: {printable(finding.why)}"
    for number, remedy in enumerate(filter(None, finding.remedies)):
        yield f"{indent}{'or:  ' if number else 'try: '}{printable(remedy)}"


def summary(told: Sequence[Told], paths: Sequence[Path]) -> str:
    """Return the last line."""
    counts = Counter(finding.level for _, finding in told)
    files = shlex.join(map(str, paths))
    parts = [_count(counts[Level.PROBLEM], "problem"), _count(counts[Level.WARNING], "warning")]
    if counts[Level.UNKNOWN]:
        parts.append(f"{_count(counts[Level.UNKNOWN], 'check')} could not look")
    verdict = "would not become ready" if counts[Level.PROBLEM] else "should work"
    return f"{', '.join(parts)}: `mtad run {files}` {verdict}"


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'s' * (number != 1)}"

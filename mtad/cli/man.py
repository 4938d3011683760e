"""The man pages, made from the table of commands and from the command line of mtad; see man(7)."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

import mtad
from mtad.cli import commands as program
from mtad.cli.command_line import GROUPS, SYSTEM_SOCKET, USER_SOCKET
from mtad.cli.local import MTACTL_COMMANDS
from mtad.cli.manual import EXIT_STATUS, described, spelled

_OPTIONS = (
    ("--socket PATH", f"The control socket; default {SYSTEM_SOCKET}, else {USER_SOCKET}."),
    ("--json", "Print the result as JSON."),
    ("--version", "Print the version."),
    ("--help", "Print how it is used; also behind a command."),
)


def mtactl_1() -> str:
    """Return docs/man/mtactl.1."""
    commands = []
    for command in MTACTL_COMMANDS:
        text = " ".join(filter(None, [command.summary, command.details]))
        commands += _tagged([(command.usage, text)])
        if command.params:
            params = _tagged((spelled(param), described(param)) for param in command.params)
            commands += [".RS", *params, ".RE"]
    examples = [f"mtactl {e}" for command in MTACTL_COMMANDS for e in command.examples]
    return _page(
        "mtactl",
        1,
        "control a running mtad",
        r"[\fB\-\-socket\fR \fIPATH\fR] [\fB\-\-json\fR] \fICOMMAND\fR",
        DESCRIPTION=[
            "Talks to the control socket of",
            ".BR mtad (8).",
            *map(_roff, GROUPS.values()),
        ],
        OPTIONS=_tagged(_OPTIONS),
        COMMANDS=commands,
        EXIT_STATUS=_tagged(EXIT_STATUS),
        ENVIRONMENT=_tagged([("MTAD_SOCKET", "The control socket, unless --socket is given.")]),
        FILES=_tagged([(str(SYSTEM_SOCKET), "The control socket.")]),
        EXAMPLES=[".nf", *map(_roff, examples), ".fi"],
        SEE_ALSO=[".BR mtad (8)"],
    )


def mtad_8() -> str:
    """Return docs/man/mtad.8."""
    cli = program.cli
    context = click.Context(cli, info_name="mtad")
    commands = []
    for name, command in cli.commands.items():
        words = " ".join([name, *command.collect_usage_pieces(context)])
        commands.append((_prose(words.replace("[OPTIONS]", "")), _prose(command.help)))
    return _page(
        "mtad",
        8,
        "a test MTA with least privilege",
        r"\fICOMMAND\fR [\fIFILES\fR]",
        DESCRIPTION=[_roff(_prose(cli.help))],
        COMMANDS=_tagged(commands),
        EXIT_STATUS=_tagged(EXIT_STATUS[:3]),
        FILES=_tagged(
            [
                (str(program.DEFAULT_FILE), "The configuration, unless FILES are given."),
                (str(SYSTEM_SOCKET), "The control socket."),
            ]
        ),
        SEE_ALSO=[".BR mtactl (1),", ".BR capabilities (7)"],
    )


def _page(name: str, number: int, what: str, synopsis: str, **sections: list[str]) -> str:
    """Return a page of section ``number``; ``synopsis`` and the sections are roff already."""
    lines = [
        f'.TH {name.upper()} {number} "" "mtad {mtad.__version__}" ""',
        ".SH NAME",
        rf"{name} \- {_roff(what)}",
        ".SH SYNOPSIS",
        f".B {name}",
        synopsis,
    ]
    for title, body in sections.items():
        lines += [f".SH {title.replace('_', ' ')}", *body]
    return "\n".join(lines) + "\n"


def _tagged(entries: Iterable[tuple[str, str]]) -> list[str]:
    """Return tagged paragraphs."""
    return [line for tag, text in entries for line in (".TP", f".B {_roff(tag)}", _roff(text))]


def _prose(text: str | None) -> str:
    """Return the paragraphs of a docstring as one."""
    return " ".join((text or "").replace("\b", "").split())


def _roff(text: str) -> str:
    """Return ``text`` such that nothing in it is markup, and that its dashes can be copied."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("…", r"\[u2026]")
    return re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE)

"""The manual is what the table of commands says now, and man can show it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mtad.cli.docs import PAGES
from mtad.cli.local import MTACTL_COMMANDS
from mtad.cli.man import mtactl_1
from mtad.cli.manual import mtactl_md
from mtad.control.commands import COMMANDS
from mtad.control.grammar import Command
from mtad.control.wire import Code

DOCS = Path(__file__).parents[3] / "docs"
MAN_PAGES = ["mtactl.1", "mtad.8"]


@pytest.mark.parametrize(
    ("page", "file"), [("mtactl", "mtactl.md"), *((page, f"man/{page}") for page in MAN_PAGES)]
)
def test_the_page_is_current(page: str, file: str) -> None:
    assert (DOCS / file).read_text() == PAGES[page](), (
        f"run: python -m mtad.cli.docs {page} > docs/{file}"
    )


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_and_parameter_is_told(command: Command) -> None:
    assert f"## {command.name}\n" in mtactl_md()
    for param in command.params:
        assert param.help in mtactl_md()


@pytest.mark.parametrize("command", MTACTL_COMMANDS, ids=lambda command: command.method)
def test_every_command_and_parameter_of_mtactl_is_told(command: Command) -> None:
    assert f"## {command.name}\n" in mtactl_md()
    for param in command.params:
        assert param.help in mtactl_md()
        assert param.help.replace("-", "\\-") in mtactl_1()


def test_every_error_code_is_told() -> None:
    for code in Code:
        assert f"| {code.value} | " in mtactl_md()


@pytest.mark.parametrize("page", MAN_PAGES)
@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_shows_the_page_without_a_warning(page: str) -> None:
    done = subprocess.run(
        ["man", "--warnings", "-l", DOCS / "man" / page],
        env={"MANPAGER": "cat", "MANWIDTH": "80", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    assert "SYNOPSIS" in done.stdout

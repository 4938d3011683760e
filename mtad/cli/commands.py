"""The commands of `mtad`: run the daemon, and say what it would do.

They import what they need when they run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

import mtad
from mtad.cli.ending import EXIT_DONE, EXIT_FAILED, status_of
from mtad.cli.mtad import become_supervisor
from mtad.errors import ConfigError, MtadError

if TYPE_CHECKING:
    from mtad.config.load import Configuration

DEFAULT_FILE = Path("/etc/mtad/mtad.yaml")


def main(arguments: list[str]) -> NoReturn:
    """Run the command that ``arguments`` name, and exit as mtad.cli.mtad.main says."""
    try:
        status = status_of(cli, "mtad", arguments)
    except MtadError as error:
        click.echo(_in_words(error), err=True)
        status = EXIT_FAILED
    sys.exit(status)


def _in_words(error: MtadError) -> str:
    if isinstance(error, ConfigError):
        return "\n".join(str(problem) for problem in error.problems)
    help_line = f"\n    help: {error.help}" if error.help else ""
    return f"mtad: {error.message}{help_line}"


def _or_default(context: click.Context, _: click.Parameter, files: tuple[Path, ...]) -> list[Path]:
    if files:
        return list(files)
    try:
        DEFAULT_FILE.lstat()
    except FileNotFoundError:
        message = f"no FILES were given, and {DEFAULT_FILE} is not there"
        raise click.UsageError(message, context) from None
    except OSError:
        pass  # whoever reads it says why it cannot be read
    return [DEFAULT_FILE]


def _files(command: Callable[..., object]) -> Callable[..., object]:
    return click.argument("files", nargs=-1, type=click.Path(path_type=Path), callback=_or_default)(
        command
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(mtad.__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """A test MTA: SMTP on port 25 as an ordinary user.

    FILES are configurations; a stanza of a later file replaces the whole stanza of an earlier
    one. Without any, /etc/mtad/mtad.yaml is read.
    """


@cli.command()
@_files
def run(files: list[Path]) -> None:
    """Run the daemon in the foreground.

    SIGTERM lets sessions finish their transaction, a second one does not; SIGHUP opens the log
    again.
    """
    become_supervisor([str(file) for file in files])


@cli.command()
@_files
def check(files: list[Path]) -> None:
    """Say everything that is wrong with FILES and the certificates they name; change nothing."""
    configuration = _load(files)
    configuration.check_tls()
    listeners = configuration.listeners()
    security = configuration.settings.security
    user = "who starts it" if security.user is None else security.user
    click.echo(
        f"ok: {len(listeners)} listener{'s' * (len(listeners) != 1)}, user {user}, "
        f"capabilities {security.capabilities.strip() or 'none'}"
    )


@cli.command()
@_files
def explain(files: list[Path]) -> None:
    """Say what a start with FILES would do with privileges; do none of it."""
    from mtad.privilege import plan

    request = plan.Request.of(_load(files).settings.security)
    click.echo(plan.explain(request, plan.Situation.here()))


@cli.command()
@_files
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(files: list[Path], as_json: bool) -> int:
    """Say why a start with FILES would fail on this machine, and what would help.

    Nothing is changed, and a running daemon is not disturbed. As root it sees most. Exit status
    0: no problem, 1: problems, 2: usage.
    """
    from mtad.cli.doctor.report import diagnose

    return EXIT_DONE if diagnose(files, as_json=as_json) else EXIT_FAILED


@cli.command()
def schema() -> None:
    """Print the JSON schema of the configuration."""
    from mtad.config.schema import Settings

    click.echo(json.dumps(Settings.model_json_schema(), indent=2))


def _load(files: list[Path]) -> Configuration:
    from mtad.config.load import load
    from mtad.privilege import capabilities

    configuration = load(files, capabilities.parse)
    for note in configuration.notes():
        click.echo(f"note: {note}", err=True)
    return configuration

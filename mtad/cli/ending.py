"""How a program ends: its exit status, and what it has printed written, or the reason why not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import click

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def status_of(program: click.Group, name: str, arguments: list[str] | None) -> int:
    """Run ``program`` and return its exit status; its own errors are the caller's to show."""
    try:
        status: Any = program.main(arguments, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return EXIT_INTERRUPTED
    except OSError as error:
        _give_up_output()
        reason = error.strerror or error
        click.echo(f"{name}: the standard output cannot be written: {reason}", err=True)
        return EXIT_FAILED
    return EXIT_DONE if status is None else int(status)


def unless_unread(work: Callable[[], int]) -> int:
    """Return the exit status of ``work``; that nobody reads any further is no error."""
    try:
        status = work()
        sys.stdout.flush()
    except KeyboardInterrupt:  # of which click would say something
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _give_up_output()
        return EXIT_DONE
    return status


def _give_up_output() -> None:
    """Write to nowhere: the interpreter must not find the fault again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

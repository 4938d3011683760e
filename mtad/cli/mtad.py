"""The program `mtad`: its commands, and the short way to the one that becomes the daemon."""

from __future__ import annotations

import os
import sys


def main(arguments: list[str] | None = None) -> None:
    """Run `mtad`; it exits with status 0: done, 1: refused or failed, 2: usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    match arguments:
        case ["run", *files] if files and not any(file.startswith("-") for file in files):
            become_supervisor(files)
    # Not above: a command line library is slow to load, and a start has no use for it.
    from mtad.cli import commands

    commands.main(arguments)


def become_supervisor(files: list[str]) -> None:
    """Replace this process by the supervisor, in an interpreter that looks at no environment."""
    os.execv(sys.executable, [sys.executable, "-I", "-m", "mtad.supervisor", *files])  # noqa: S606


if __name__ == "__main__":
    main()

"""The supervisor from its start to its end. The privilege boundary is `drop`, below."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from mtad import log
from mtad.config.load import Configuration, load
from mtad.errors import MtadError
from mtad.privilege import capabilities
from mtad.privilege.access import program_files
from mtad.privilege.drop import adopt_orphans, drop
from mtad.privilege.plan import Plan, Request, Situation, make_plan
from mtad.privilege.terminal import leave_terminal
from mtad.supervisor import files
from mtad.supervisor.commands import Commands
from mtad.supervisor.daemon import Daemon
from mtad.supervisor.notify import ServiceManager

_FIRST_INHERITABLE = 3


def main(arguments: Sequence[str]) -> int:
    """Run the daemon with the configuration files ``arguments``; return the exit status."""
    try:
        run([Path(argument).absolute() for argument in arguments])
    except MtadError as error:
        print(f"mtad: error: {error.message}", file=sys.stderr)  # noqa: T201 (there is no log yet)
        if error.help:
            print(f"mtad: help: {error.help}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def run(paths: Sequence[Path]) -> None:
    """Read the configuration, drop, serve.

    Raises:
        MtadError: what the program cannot start with.
    """
    # Where a standard stream is closed, what we open first would take its place, and its output.
    while (stream := os.open(os.devnull, os.O_RDWR)) < _FIRST_INHERITABLE:
        os.set_inheritable(stream, True)
    # Nothing that whoever started us left open is ours, or a worker's.
    os.closerange(_FIRST_INHERITABLE, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    leave_terminal()
    manager = ServiceManager()
    configuration = load(paths, capabilities.parse)
    plan = make_plan(request(configuration), Situation.here())
    prepare(configuration, plan)

    drop(plan)
    adopt_orphans()

    configuration.check_tls()
    settings = configuration.settings
    if settings.log.target != "stdout":
        os.close(files.open_log(settings.log.target))
    form = log.configure(settings.log.form, settings.log.level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(configuration, plan, form, manager))


def request(configuration: Configuration) -> Request:
    """Return what the configuration asks of the drop, and what must be usable after it."""
    return Request.of(
        configuration.settings.security,
        readable=(*program_files(), *configuration.paths, *configuration.tls_files()),
        writable=tuple(configuration.directories()),
    )


def prepare(configuration: Configuration, plan: Plan) -> None:
    """Do what only root may do, and what must be as it is before the first file is made."""
    os.umask(0o027)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for path, mode in configuration.directories().items():
        files.prepare_directory(path, plan.uid, plan.gid, mode)


async def _serve(
    configuration: Configuration, plan: Plan, form: log.Form, manager: ServiceManager
) -> None:
    daemon = Daemon(configuration, plan, form)
    await daemon.run(manager, Commands(daemon).handlers())

"""The program `mtactl`: every command of the control socket, made from the one table of them."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from mtad.cli.command_line import SYSTEM_SOCKET, build, default_socket
from mtad.cli.ending import EXIT_FAILED, status_of, unless_unread
from mtad.cli.local import LOCAL
from mtad.control import plain
from mtad.control.client import ControlClient
from mtad.control.grammar import Command
from mtad.control.wire import Code
from mtad.errors import CommandError, MtadError, UnavailableError

EXIT_USAGE = 2
EXIT_NO_DAEMON = 3
EXIT_IN_VAIN = 4

_RETRY_SECONDS = 0.1
# How much longer than it was told to wait the daemon may take to answer.
_PATIENCE_SECONDS = 5.0


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run `mtactl`.

    Exit status 0: done, 1: refused or failed, 2: usage, 3: no daemon, 4: waited in vain.
    """
    try:
        status = status_of(cli, "mtactl", arguments)
    except _FailedError as failed:
        status = failed.status
        click.echo(f"mtactl: {failed}", err=True)
    sys.exit(status)


class _FailedError(Exception):
    """An error of ours, as it is shown, and the exit status it means."""

    def __init__(self, error: MtadError, status: int) -> None:
        hint = f"\n  help: {error.help}" if error.help else ""
        super().__init__("\n".join(map(plain.visible, f"{error.message}{hint}".splitlines())))
        self.status = status


def _run(command: Command) -> Callable[..., int]:
    """Return what click calls for ``command``."""

    def run(**given: Any) -> int:
        params = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value is not None
        }
        options: dict[str, Any] = click.get_current_context().ensure_object(dict)
        as_json = bool(options.get("json"))
        try:
            command.check(params)
        except CommandError as error:
            raise click.UsageError(error.message) from None
        try:
            where = options.get("socket")
            return unless_unread(lambda: _carry_out(command, params, where, as_json))
        except UnavailableError as error:
            raise _FailedError(error, EXIT_NO_DAEMON) from None
        except CommandError as error:
            if as_json:
                told = {"ok": False, "error": _as_dict(error)}
                click.echo(json.dumps(told, indent=None if command.stream else 2))
            # Such as a query with a mistake: what helps is better known to whoever has read it.
            status = EXIT_USAGE if error.code == Code.INVALID_PARAMS else EXIT_FAILED
            raise _FailedError(error, status) from None

    return run


def _as_dict(error: CommandError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "help": error.help}


def _carry_out(command: Command, params: dict[str, Any], where: Path | None, as_json: bool) -> int:
    """Carry out ``command`` at the socket ``where``; None: where a daemon's is by default."""
    local = LOCAL.get(command.method)
    if local is not None and local.alone is not None:
        result: dict[str, Any] | None = local.alone(params)
    else:
        result = _ask(command, params, where, as_json)
    if result is None:
        return 0
    if as_json:
        click.echo(json.dumps(result, indent=2))
    elif sys.stdout.isatty():
        # Not above: colours are slow to load, and most who ask are scripts.
        from mtad.cli.render import render

        render(command.view, result)
    else:
        click.echo(plain.render(command.view, result), nl=False)
    if result.get("ok") is not False:
        return 0
    return EXIT_IN_VAIN if result.get("waited") else EXIT_FAILED


def _ask(
    command: Command, params: dict[str, Any], where: Path | None, as_json: bool
) -> dict[str, Any] | None:
    """Have the daemon carry out ``command``; return its result, None if all of it is printed."""
    if command.method == "ready" and params.get("wait") is not None:
        client, params = _wait_for_daemon(where, params["wait"])
    else:
        client = ControlClient(where or default_socket())
    with client:
        if command.stream:
            for item in client.stream(command.method, **params):
                told = json.dumps(item) if as_json else plain.item(command.view, item)
                click.echo(told, nl=as_json)
            raise UnavailableError("the daemon has ended the connection")
        local = LOCAL.get(command.method)
        if local is not None and local.carry_out is not None:
            return local.carry_out(client, params, as_json)
        return client.call(command.method, **params)


def _wait_for_daemon(where: Path | None, seconds: float) -> tuple[ControlClient, dict[str, Any]]:
    """Return a client, once there is a daemon, and the parameters for the rest of the wait."""
    deadline = time.monotonic() + seconds
    while True:
        left = max(0.0, deadline - time.monotonic())
        try:
            client = ControlClient(where or default_socket(), timeout=left + _PATIENCE_SECONDS)
            return client, {"wait": left}
        except UnavailableError as error:
            # Where no socket is named, the user's own may be on its way.
            if error.errno == errno.EACCES and (where or os.path.lexists(SYSTEM_SOCKET)):
                raise
            if not left:
                raise _FailedError(error, EXIT_IN_VAIN) from None
        time.sleep(min(_RETRY_SECONDS, left))


cli = build(_run)

if __name__ == "__main__":
    main()

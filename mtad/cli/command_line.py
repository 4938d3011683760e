"""The command line of mtactl, as click has it: made from the table of commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

import mtad
from mtad.cli.local import MTACTL_COMMANDS
from mtad.control.client import ControlClient
from mtad.control.grammar import Command
from mtad.control.params import Param
from mtad.errors import MtadError

SYSTEM_SOCKET = Path("/run/mtad/control.sock")
USER_SOCKET = Path("~/.local/state/mtad/control.sock")
"""Where a daemon that was started without root has it."""

_COMPLETION_SECONDS = 1.0


def default_socket() -> Path:
    """Return the system's control socket, or the user's own where the former is not there."""
    own = USER_SOCKET.expanduser()
    # lexists: a socket that may not be looked at is one nevertheless.
    return own if own.exists() and not os.path.lexists(SYSTEM_SOCKET) else SYSTEM_SOCKET


def _keep(context: click.Context, param: click.Parameter, value: Any) -> None:
    """Note an option that may stand before or after the command."""
    if value:
        context.ensure_object(dict)[param.name] = value


def _shared_options(envvar: str | None = None) -> list[click.Parameter]:
    """Return the options that every command has; ``envvar`` may name the socket as well."""
    return [
        click.Option(
            ["--socket"],
            type=click.Path(path_type=Path, readable=False),
            metavar="PATH",
            envvar=envvar,
            expose_value=False,
            callback=_keep,
            help=f"The control socket; default: {SYSTEM_SOCKET}, else {USER_SOCKET}.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_keep,
            help="Print the result as JSON.",
        ),
    ]


def _type(param: Param) -> click.ParamType[Any]:
    if param.choices:
        return click.Choice(param.choices)
    types: dict[str, click.ParamType[Any]] = {
        "text": click.STRING,
        # The daemon has another working directory.
        "path": click.Path(resolve_path=True, readable=False),
        "count": click.INT,
        "seconds": click.FLOAT,
        "size": click.INT,
        "id": click.STRING,
    }
    return types[param.type]


def _names(
    method: str, rows: str, keys: Sequence[str]
) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return what completes names, which ``method`` tells at ``keys`` of its ``rows``."""

    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
        path = context.ensure_object(dict).get("socket") or default_socket()
        try:
            with ControlClient(path, timeout=_COMPLETION_SECONDS) as client:
                found = client.call(method)[rows]
        except MtadError:
            return []
        names = {row.get(key, "") for row in found for key in keys}
        return sorted(name for name in names if name and name.startswith(begun))

    return complete


_COMPLETERS = {
    "listener": _names("listener.list", "listeners", ("name", "group")),
    "rule": _names("rule.list", "rules", ("name",)),
}
"""By the group of the command whose argument is a name."""
_NAMED = {"selectors", "name", "names"}


def _click_param(param: Param, group: str) -> click.Parameter:
    if param.kind == "argument":
        return click.Argument(
            [param.name],
            type=_type(param),
            metavar=param.usage,
            nargs=-1 if param.repeated else 1,
            required=param.required,
            shell_complete=_COMPLETERS.get(group) if param.name in _NAMED else None,
        )
    if param.kind == "flag":
        spelled = f"--{param.name}/--no-{param.name}" if param.default else param.spelled
        return click.Option([spelled], is_flag=True, default=param.default, help=param.help)
    implied = {} if param.implied is None else {"is_flag": False, "flag_value": param.implied}
    return click.Option(
        [param.spelled],
        type=_type(param),
        metavar=param.placeholder,
        default=param.default,
        show_default=param.default is not None,
        help=param.help,
        **implied,
    )


def _click_params(command: Command) -> Iterator[click.Parameter]:
    for param in command.params:
        yield _click_param(param, command.name.split()[0])


def _help(command: Command) -> str:
    arguments = [param for param in command.params if param.kind == "argument"]
    parts = [
        command.summary,
        command.details,
        *(f"{param.placeholder}: {param.help}." for param in arguments),
        "\b\n" + "\n".join(f"mtactl {example}" for example in command.examples),
    ]
    return "\n\n".join(part for part in parts if part.strip())


GROUPS = {
    "listener": "Open, close, make and forget listeners.",
    "rule": "Have listeners misbehave on purpose.",
    "message": "Ask for captured mail, wait for it, delete it.",
    "session": "Ask for sessions, those too that brought no mail.",
    "stats": "Show the statistics, or begin them anew.",
    "store": "Check and repair what is kept.",
    "scenario": "Check scenarios, and run them.",
    "transcript": "Make a scenario of a session.",
    "config": "Check, show and reload the configuration.",
    "log": "Set and reopen the log.",
    "tls": "Show what senders need for TLS.",
}
"""What the commands of one first word are about."""


def build(runner: Callable[[Command], Callable[..., int]]) -> click.Group:
    """Return the whole program; ``runner`` gives what click calls for a command."""
    settings = {"help_option_names": ["-h", "--help"]}
    root = click.Group(
        "mtactl",
        help="Control a running mtad.",
        params=_shared_options("MTAD_SOCKET"),
        context_settings=settings,
        epilog="Exit status: 0 done, 1 refused or failed, 2 usage, 3 no daemon, 4 waited in vain.",
    )
    groups = {
        name: click.Group(name, help=text, params=_shared_options())
        for name, text in GROUPS.items()
    }
    for group in groups.values():
        root.add_command(group)
    for command in MTACTL_COMMANDS:
        *group_name, name = command.name.split()
        parent = groups[group_name[0]] if group_name else root
        if not group_name and name in groups:
            _make_command(groups[name], runner(command), _help(command))
            continue
        parent.add_command(
            click.Command(
                name,
                callback=runner(command),
                params=[*_click_params(command), *_shared_options()],
                help=_help(command),
                short_help=command.summary,
            )
        )
    root.add_command(_help_command(root))
    root.add_command(_completion_command(root))
    return click.version_option(mtad.__version__, message="%(prog)s %(version)s")(root)


def _make_command(group: click.Group, run: Callable[..., int], text: str) -> None:
    """Have ``group`` be a command too, of the same name, without parameters."""

    def run_alone() -> int:
        return 0 if click.get_current_context().invoked_subcommand else run()

    group.callback, group.help = run_alone, text
    group.invoke_without_command, group.no_args_is_help = True, False


def _help_command(root: click.Group) -> click.Command:
    @click.command("help", short_help="List the commands, or explain one.")
    @click.argument("command", nargs=-1)
    @click.pass_context
    def help_on(context: click.Context, command: tuple[str, ...]) -> None:
        """List the commands, or explain one; no daemon is asked."""
        found: click.Command = root
        context = context.find_root()
        for word in command:
            inner = found.get_command(context, word) if isinstance(found, click.Group) else None
            if inner is None:
                raise click.UsageError(f"No such command '{' '.join(command)}'.", context)
            context = click.Context(inner, parent=context, info_name=word)
            found = inner
        click.echo(found.get_help(context))

    return help_on


def _completion_command(root: click.Group) -> click.Command:
    @click.command("completion", short_help="Print what makes a shell complete mtactl.")
    @click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
    def completion(shell: str) -> None:
        r"""Print what makes a shell complete mtactl.

        \b
        bash: eval "$(mtactl completion bash)"      in ~/.bashrc
        zsh:  eval "$(mtactl completion zsh)"       in ~/.zshrc
        fish: mtactl completion fish > ~/.config/fish/completions/mtactl.fish
        """
        maker = get_completion_class(shell)
        if maker is None:  # click has all three
            raise click.UsageError(f"no completion for {shell}")
        click.echo(maker(root, {}, "mtactl", "_MTACTL_COMPLETE").source())

    return completion

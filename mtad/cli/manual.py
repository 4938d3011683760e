"""docs/mtactl.md, made from the table of commands."""

from __future__ import annotations

from mtad.cli.command_line import SYSTEM_SOCKET, USER_SOCKET
from mtad.cli.local import MTACTL_COMMANDS
from mtad.control.calls import PLAIN_LIMIT
from mtad.control.commands import COMMANDS
from mtad.control.grammar import Command
from mtad.control.params import Param
from mtad.control.server import Limits
from mtad.control.wire import LINE_LIMIT, Code

_INTRODUCTION = f"""\
# mtactl

*Generated from the table of commands by `python -m mtad.cli.docs mtactl`.*

`mtactl` controls a running mtad through its control socket: {SYSTEM_SOCKET}, or
{USER_SOCKET} where the former is not there and a daemon was started without root;
`--socket PATH` or the environment variable `MTAD_SOCKET` names another.

```
mtactl [--socket PATH] [--json] COMMAND …
```

`--socket` and `--json` may also stand behind the command. With `--json` the result is printed as it
came, for programs; without, as aligned text, on a terminal with colours.
"""

EXIT_STATUS = (
    ("0", "done"),
    ("1", "refused, or failed in part; the result says what"),
    ("2", "wrong usage"),
    ("3", "no daemon answers at the socket"),
    ("4", "waited in vain"),
    ("130", "interrupted"),
)

_MEANINGS = {
    Code.PARSE_ERROR: "not JSON, not UTF-8, too long, too slow",
    Code.INVALID_REQUEST: "JSON, but not one request",
    Code.METHOD_NOT_FOUND: "no such command",
    Code.INVALID_PARAMS: "a parameter is unknown, missing or wrong",
    Code.INTERNAL_ERROR: "a fault of mtad's; the log has the details under the reference given",
    Code.REFUSED: "understood, permitted, and refused",
    Code.NOT_PERMITTED: "the caller lacks the role",
    Code.BUSY: "too many connections",
}

_COMPLETION = """\
## completion

```
eval "$(mtactl completion bash)"      # in ~/.bashrc; zsh likewise
mtactl completion fish > ~/.config/fish/completions/mtactl.fish
```

Commands, options, values, and the names of the listeners that the daemon has now.
"""


def mtactl_md() -> str:
    """Return docs/mtactl.md."""
    statuses = [f"| {status} | {meaning} |" for status, meaning in EXIT_STATUS]
    parts = [
        _INTRODUCTION,
        "## Exit status\n\n| | |\n| --- | --- |\n" + "\n".join(statuses) + "\n",
        *map(_section, MTACTL_COMMANDS),
        _COMPLETION,
        _socket(),
    ]
    return "\n".join(parts)


def _section(command: Command) -> str:
    parts = [
        f"## {command.name}",
        f"```\nmtactl {command.usage}\n```",
        command.summary,
        command.details,
    ]
    if command.params:
        parts.append(_rows(command))
    parts += [f"Role: {command.role}."]
    if command.examples:
        parts.append("\n".join(["```", *(f"mtactl {e}" for e in command.examples), "```"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _rows(command: Command) -> str:
    rows = [
        "| `{}` | {} |".format(spelled(param).replace("|", "\\|"), described(param))
        for param in command.params
    ]
    return "\n".join(["| | |\n| --- | --- |", *rows])


def spelled(param: Param) -> str:
    """Return how a parameter is written, without the brackets of what may be left out."""
    text = param.usage.removeprefix("[")
    return text if text == param.usage else text.removesuffix("]")


def described(param: Param) -> str:
    """Return what a parameter is, with its default."""
    extra = []
    if param.default not in (None, False, True, []):
        extra.append(f"default: {param.default}")
    if param.implied is not None:
        extra.append(f"{param.implied:g} if it has no value")
    return param.help + (f" ({', '.join(extra)})" if extra else "")


def _socket() -> str:
    limits = Limits()
    codes = "\n".join(f"| {code.value} | {_MEANINGS[code]} |" for code in Code)
    return f"""\
## The control socket

A line is a command. One that does not begin with `{{` is a plain one, in the words that mtactl
takes, quoted as in a shell; its answer is plain text, its errors begin with `error: `:

```
echo 'listener stop mx' | socat - {SYSTEM_SOCKET}
```

One that begins with `{{` is a [JSON-RPC 2.0](https://www.jsonrpc.org/specification) request: the
method is the command with dots, the parameters go by the names above, without the dashes before
them; `--for-run` is `for_run`. `selectors`, `names` and `files` are lists, flags are true or false,
and `--no-v6only` is `"v6only": false`.

```
{{"jsonrpc": "2.0", "id": 1, "method": "listener.stop", "params": {{"selectors": ["mx"]}}}}
```

Answers come in the order of the requests. A request without an id is carried out and not answered;
batches are refused. `events` is answered by a result, and then every event is a notification of
the method `events`, until the connection ends; a client that does not keep up is told by
`events.lost` how many it missed. `message follow` goes on likewise; where it cannot, the last line
is an error whose id is null. Instants are seconds since 1970-01-01 UTC, durations seconds,
sizes octets. `help` lists all commands and their parameters; `version` has the version of this
protocol. A result with `"ok": false` was not done, or not wholly. An error has a `message`, often
`data.help` with what would help, and a `code`:

| | |
| --- | --- |
{codes}

`message.export` is a matter of mtactl's. `message.import` takes one message, in pieces that go
into a line, and has its id with the last:

{_rows(COMMANDS["message.import"])}

`rule.load` takes the text of the file, whose name is told with what is wrong with it:

{_rows(COMMANDS["rule.load"])}

Who may do what: the kernel says who the peer is (SO_PEERCRED). Root may do everything, and so may
the daemon's own user where no capability is retained; where one is, it may only look, because the
workers have the same user. `control.operate` and `control.observe` in the configuration name
others. Whoever has no role is told so and sent away. Every command of the role operate is logged
with the uid, user and pid that asked for it.

Limits: a line has at most {LINE_LIMIT} octets, a plain one {PLAIN_LIMIT} (a longer one is dropped,
and answered with an error), and {limits.line:g} seconds from its first octet to its end. There are
at most {limits.connections} connections, the last {limits.reserved} of them for those who may
operate. A connection that says nothing for {limits.idle / 60:g} minutes is closed, unless it
follows events.
"""

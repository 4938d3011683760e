"""The table of commands: the daemon answers them, mtactl offers them, the manual tells them.

Instants in results are seconds since 1970-01-01 UTC, durations are seconds, sizes are octets. A
result with ``"ok": false`` says that not everything was done (mtactl then exits with 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtad.control.grammar import Command, OneOf, Role, did_you_mean
from mtad.control.mail_commands import MAIL_COMMANDS
from mtad.control.params import argument, flag, option
from mtad.control.rule_commands import RULE_COMMANDS
from mtad.control.values import Form
from mtad.control.view import Column, Errors, Fields, Table, Text
from mtad.control.wire import Code
from mtad.errors import CommandError
from mtad.log import LEVELS
from mtad.model.listener import Protocol

_SELECTOR_HELP = "a name, a group (a range's name in the configuration), or a glob: 'mx/127.0.0.1*'"
_SELECTORS = argument("selectors", _SELECTOR_HELP, metavar="SELECTOR", repeated=True)
_ALL = flag("all", "every listener")
_DRAIN = option(
    "drain", "let sessions finish their transaction for so long, then 421", type="seconds"
)
_CUT = flag("cut", "reset the sessions now")
_WHICH = OneOf(("selectors", "all"), required=True)
_HOW = OneOf(("drain", "cut"))

_LISTENERS = (
    Table(
        "listeners",
        (
            Column("name", "NAME"),
            Column("fault.state", "STATE", otherwise="state"),
            Column("bound", "ENDPOINT", otherwise="endpoint"),
            Column("protocol", "PROTOCOL"),
            Column("profile", "PROFILE"),
            Column("sessions.active", "SESSIONS"),
            Column("messages", "MESSAGES"),
            Column("since", "FOR", "age"),
        ),
        empty="no listeners",
    ),
    Errors("listeners"),
)
_SETS: tuple[tuple[str, Form], ...] = tuple(
    (name, "set") for name in ("permitted", "effective", "inheritable", "bounding", "ambient")
)
_HELD = (
    Column("role", "PROCESS"),
    Column("pid", "PID"),
    Column("tid", "TID"),
    Column("uids", "UIDS", "ids"),
    Column("gids", "GIDS", "ids"),
    Column("groups", "GROUPS", "ids"),
    Column("permitted.hex", "PERMITTED"),
    Column("effective.hex", "EFFECTIVE"),
    Column("inheritable.hex", "INHERITABLE"),
    Column("bounding.hex", "BOUNDING"),
    Column("ambient.hex", "AMBIENT"),
    Column("no_new_privs", "NNP"),
    Column("securebits", "SECUREBITS"),
    Column("seccomp", "SECCOMP"),
    Column("verdict", "VERDICT"),
)

_TABLE = (
    Command(
        "listener list",
        "List listeners, all or those selected.",
        Role.OBSERVE,
        (_SELECTORS,),
        view=_LISTENERS,
        examples=("listener list", "listener list 'mx/127.0.0.1*'"),
    ),
    Command(
        "listener show",
        "Show everything about one listener.",
        Role.OBSERVE,
        (argument("name", "the listener's name", metavar="NAME", required=True),),
        view=(Fields("listener", forms=(("since", "time"), ("fault.until", "time"))),),
        examples=("listener show mx",),
    ),
    Command(
        "listener start",
        "Open listeners: bind, listen, accept.",
        Role.OPERATE,
        (_SELECTORS, _ALL),
        rules=(_WHICH,),
        view=_LISTENERS,
        details="One that is running already stays as it is. A start that fails leaves everything "
        "else as it was.",
        examples=("listener start mx", "listener start --all"),
    ),
    Command(
        "listener stop",
        "Close listeners at once, then let their sessions end.",
        Role.OPERATE,
        (
            _SELECTORS,
            _ALL,
            _DRAIN,
            _CUT,
            flag("wait", "answer when the last session has ended"),
            option("for", "open them again after so long", type="seconds"),
        ),
        rules=(_WHICH, _HOW),
        view=_LISTENERS,
        details="The port is free when the answer is there. Without --drain or --cut, sessions "
        "have the time that the configuration gives them.",
        examples=(
            "listener stop mx",
            "listener stop mx --cut",
            "listener stop mx --drain 5 --wait",
            "listener stop mx --for 20",
        ),
    ),
    Command(
        "listener deaf",
        "Have listeners listen, and accept nobody.",
        Role.OPERATE,
        (_SELECTORS, _ALL, option("for", "for so long", type="seconds", required=True)),
        rules=(_WHICH,),
        view=_LISTENERS,
        details="Clients wait, or find that they cannot connect; sessions that are under way go "
        "on. listener start ends it early.",
        examples=("listener deaf mx --for 20",),
    ),
    Command(
        "listener restart",
        "Close listeners and open them again.",
        Role.OPERATE,
        (_SELECTORS, _ALL, _DRAIN, _CUT),
        rules=(_WHICH, _HOW),
        view=_LISTENERS,
        examples=("listener restart mx",),
    ),
    Command(
        "listener add",
        "Make a listener that the configuration does not have, and start it.",
        Role.OPERATE,
        (
            argument("name", "its name", metavar="NAME", required=True),
            argument(
                "endpoint",
                "127.0.0.1:2525, [::1]:25, *:25, 127.0.0.0/24:25 (a range), or a unix path",
                metavar="ENDPOINT",
                required=True,
            ),
            option(
                "protocol",
                "what is spoken there",
                choices=tuple(protocol.value for protocol in Protocol),
                default=Protocol.SMTP.value,
            ),
            option("profile", "the profile it follows", metavar="NAME", default="default"),
            option("backlog", "connections that may wait (listen(2))", type="count"),
            flag("v6only", "with --no-v6only, [::] takes IPv4 as well (IPV6_V6ONLY)", default=True),
            flag("stopped", "do not start it"),
        ),
        view=_LISTENERS,
        details="It lasts until it is removed or the daemon ends; a reload leaves it alone.",
        examples=(
            "listener add extra 127.0.0.1:2526",
            "listener add lab 127.0.1.0/24:25 --stopped",
        ),
    ),
    Command(
        "listener remove",
        "Stop listeners and forget them.",
        Role.OPERATE,
        (_SELECTORS, _ALL, _DRAIN, _CUT),
        rules=(_WHICH, _HOW),
        view=_LISTENERS,
        details="One that the configuration has comes back with the next reload.",
        examples=("listener remove extra",),
    ),
    *RULE_COMMANDS,
    *MAIL_COMMANDS,
    Command(
        "security",
        "Compare what every process and thread holds with what is configured.",
        Role.OBSERVE,
        view=(
            Text("verdict"),
            Fields("configured", title="configured"),
            Fields("expected", title="expected of the supervisor", forms=_SETS),
            Table("processes", _HELD, nested="threads"),
            Text("deviations", title="deviations"),
            Text("notes", title="notes"),
        ),
        details="Read from /proc/PID/task/*/status at the moment of the question.",
    ),
    Command(
        "status",
        "Say whether the daemon is well, and what is wrong.",
        Role.OBSERVE,
        view=(
            Fields(forms=(("uptime", "duration"), ("since", "time")), without=("ok", "problems")),
            Text("problems", title="problems"),
        ),
    ),
    Command(
        "summary",
        "Count listeners, sessions, messages and workers.",
        Role.OBSERVE,
        view=(Fields(forms=(("uptime", "duration"),)),),
    ),
    Command(
        "version", "Show the versions of the daemon and its parts.", Role.OBSERVE, view=(Fields(),)
    ),
    Command("pid", "Show the process id of the daemon.", Role.OBSERVE, view=(Text("pid"),)),
    Command(
        "workers",
        "List the workers.",
        Role.OBSERVE,
        view=(
            Table(
                "workers",
                (
                    Column("id", "ID"),
                    Column("pid", "PID"),
                    Column("state", "STATE"),
                    Column("sessions", "SESSIONS"),
                    Column("messages", "MESSAGES"),
                    Column("rss", "RSS", "size"),
                    Column("since", "FOR", "age"),
                ),
                empty="no workers",
            ),
        ),
    ),
    Command(
        "config check",
        "Read configuration files as a reload would, and change nothing.",
        Role.OBSERVE,
        (argument("files", "default: the files the daemon runs with", type="path", repeated=True),),
        view=(Text("problems"), Text("changes", empty="nothing would change"), Text("notes")),
        details="The daemon reads them, as its own user.",
    ),
    Command(
        "config show",
        "Show the configuration in force, with every default, and which file won.",
        Role.OBSERVE,
        view=(Text("text"),),
    ),
    Command(
        "config reload",
        "Read the configuration again and apply what changed; all of it or nothing.",
        Role.OPERATE,
        view=(Text("problems"), Text("changes", empty="nothing changed"), Text("notes")),
        details="Security is not dynamic: what changed there is told, and needs a restart.",
    ),
    Command(
        "tls ca",
        "Print the certificate of the test CA behind `tls: auto`, in PEM.",
        Role.OBSERVE,
        view=(Text("pem"),),
        details="A sender that trusts this CA accepts the certificates of all listeners whose "
        "profile has tls: auto. The CA has signed certificates for them, and for nobody else: a "
        "good one, and those with a flaw that fault rules may ask for. Its private key is kept "
        "nowhere. A new CA is made when a start, a reload or a rule needs a name or a flaw that "
        "was not thought of when it was made.",
        examples=("tls ca",),
    ),
    Command(
        "events",
        "Show what happens, one event a line, until interrupted.",
        Role.OBSERVE,
        stream=True,
        details="A reader that does not keep up misses events; events.lost says how many.",
    ),
    Command(
        "log level",
        "Set the level of the log, of all processes, until the daemon ends.",
        Role.OPERATE,
        (argument("level", "the least level to log", choices=tuple(LEVELS), required=True),),
        view=(Text("level"),),
        examples=("log level debug",),
    ),
    Command(
        "log reopen",
        "Open the log file again, after it was rotated.",
        Role.OPERATE,
        view=(Text("file"),),
    ),
    Command(
        "ready",
        "Say whether every enabled listener accepts connections.",
        Role.OBSERVE,
        (option("wait", "wait for it so long", type="seconds", implied=30.0),),
        view=(Fields(without=("ok", "problems", "waited")), Text("problems")),
        examples=("ready", "ready --wait", "ready --wait 5"),
    ),
    Command(
        "shutdown",
        "End the daemon: close all listeners, let sessions end, stop the processes.",
        Role.OPERATE,
        (_DRAIN, _CUT),
        rules=(_HOW,),
        view=(Fields(),),
    ),
    Command(
        "help",
        "List the commands, or explain one.",
        Role.OBSERVE,
        (argument("command", "the name of a command", metavar="COMMAND", repeated=True),),
        view=(
            Table("commands", (Column("name", "COMMAND"), Column("summary", ""))),
            Text("text"),
        ),
    ),
)

COMMANDS: Mapping[str, Command] = {command.method: command for command in _TABLE}
"""Every command by its method (``listener.stop``), in the order of the manual."""


def by_method(method: str) -> Command:
    """Return the command of a JSON-RPC method; CommandError if there is none."""
    command = COMMANDS.get(method)
    if command is None:
        raise CommandError(
            f"no method {method[:64]!r}{did_you_mean(method, COMMANDS)}",
            code=Code.METHOD_NOT_FOUND,
            help="the method help lists them all",
        )
    return command


def by_words(words: Sequence[str]) -> tuple[Command, list[str]]:
    """Return the command that ``words`` begin with, and the words after it."""
    for length in (2, 1):
        command = COMMANDS.get(".".join(words[:length]))
        if command is not None and len(words) >= length:
            return command, list(words[length:])
    said = " ".join(words[:2])
    group = "".join(words[:1])
    members = [command.name for command in _TABLE if command.name.startswith(f"{group} ")]
    raise CommandError(
        f"no command {said[:64]!r}{did_you_mean(said, [command.name for command in _TABLE])}",
        code=Code.METHOD_NOT_FOUND,
        help=f"there are: {', '.join(members)}" if members else "the command help lists them all",
    )


def help_on(words: Sequence[str]) -> dict[str, Any]:
    """Return the result of ``help``."""
    if not words:
        return {"commands": [_described(command) for command in _TABLE]}
    command, _ = by_words(" ".join(words).replace(".", " ").split())
    return {"commands": [_described(command)], "text": manual(command)}


def _described(command: Command) -> dict[str, Any]:
    return {
        "name": command.name,
        "method": command.method,
        "usage": command.usage,
        "summary": command.summary,
        "role": command.role.value,
        "params": [
            {
                "name": param.name,
                "kind": param.kind,
                "type": param.type,
                "choices": list(param.choices),
                "required": param.required,
                "repeated": param.repeated,
                "default": param.default,
                "help": param.help,
            }
            for param in command.params
        ],
    }


def manual(command: Command) -> str:
    """Return what there is to know about ``command``, as plain text."""
    lines = [f"usage: {command.usage}", *([command.details] if command.details else [])]
    lines += [f"  {param.usage:<24} {param.help}" for param in command.params]
    lines += [f"example: {example}" for example in command.examples]
    return "\n".join(lines)

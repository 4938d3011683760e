"""The commands of mtactl's own: the control socket lacks them, or has other parameters there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from mtad.cli import mail, rules, scenarios
from mtad.cli.exporting import FORMATS
from mtad.control.client import ControlClient
from mtad.control.commands import COMMANDS
from mtad.control.grammar import Command, Role
from mtad.control.params import argument, flag, option
from mtad.control.view import Column, Fields, Table, Text
from mtad.errors import CommandError
from mtad.scenario.shown import VIEW


@dataclass(frozen=True, slots=True)
class Local:
    """A command, and what carries it out (see mtad.cli.mail), or does so without a daemon."""

    command: Command
    carry_out: mail.Carry | None = None
    alone: Callable[[mail.Params], mail.Result] | None = None


_ID = COMMANDS["message.raw"].by_name["id"]
_SOME = (
    COMMANDS["message.raw"].by_name["offset"],
    replace(COMMANDS["message.raw"].by_name["length"], default=None),
)
_FORMATS = tuple(FORMATS)
_SCENARIO = argument("file", "the scenario, in YAML", type="path", metavar="FILE", required=True)
_PROBLEMS = Text("problems")


def _pid(client: ControlClient, _: mail.Params, __: bool) -> mail.Result:
    """Return the process id that the daemon says, if the kernel says so, too: it may be signalled.

    Raises CommandError.
    """
    result = client.call("pid")
    if result.get("pid") != client.peer:
        raise CommandError(
            f"process {client.peer} answers, and says that it is {result.get('pid')}",
            help="it is in another pid namespace, or another program: do not signal it by this",
        )
    return result


LOCAL: Mapping[str, Local] = {
    local.command.method: local
    for local in (
        Local(
            replace(
                COMMANDS["message.raw"],
                params=(_ID, *_SOME),
                details="The octets go to standard output, and nothing else does. With --json: a "
                "piece, as it comes over the socket.",
                examples=("message raw latest", "message raw latest | sha256sum"),
            ),
            mail.octets_of("message.raw"),
        ),
        Local(
            replace(
                COMMANDS["message.part"],
                params=(
                    _ID,
                    COMMANDS["message.part"].by_name["number"],
                    *_SOME,
                    option(
                        "output", "write it to this file, which is new", type="path", metavar="FILE"
                    ),
                ),
                details="The octets go to standard output, and nothing else does. With --json: a "
                "piece, as it comes over the socket.",
                examples=("message part latest 2 --output report.pdf",),
            ),
            mail.octets_of("message.part"),
        ),
        Local(COMMANDS["pid"], _pid),
        Local(
            Command(
                "message export",
                "Write messages to files, the oldest first.",
                Role.OBSERVE,
                (
                    argument(
                        "path",
                        "the file (mbox, jsonl), which is new, or the directory (eml, maildir)",
                        type="path",
                        metavar="PATH",
                        required=True,
                    ),
                    option("format", "how they are written", choices=_FORMATS, required=True),
                    COMMANDS["message.list"].by_name["query"],
                    COMMANDS["message.list"].by_name["run"],
                ),
                view=(Fields(),),
                details="The octets of a message stay what they are; an mbox (mboxrd) adds a line "
                "end at its end where there is none. jsonl has the envelope, too. What is written "
                "is compared with the sha256 of what came.",
                examples=(
                    "message export --format mbox all.mbox",
                    "message export --format eml --query from:alice alice/",
                ),
            ),
            mail.export,
        ),
        Local(
            replace(
                COMMANDS["message.import"],
                summary="Keep messages of files, as if they had been sent.",
                params=(
                    argument(
                        "files",
                        "files, Maildirs, or directories of *.eml",
                        type="path",
                        metavar="FILE",
                        required=True,
                        repeated=True,
                    ),
                    option(
                        "format", "how they are written; default: as it looks", choices=_FORMATS
                    ),
                ),
                view=(Fields(),),
                details="jsonl brings the envelope. Otherwise it is that of Return-Path, "
                "Delivered-To or X-Original-To, else of the addresses of the header, and the "
                "listener is import.",
                examples=("message import all.mbox", "message import alice/ welcome.eml"),
            ),
            mail.import_,
        ),
        Local(
            Command(
                "scenario run",
                "Do what a scenario file says, at its times; say what senders did meanwhile.",
                Role.OPERATE,
                (
                    _SCENARIO,
                    flag("report", "show every step and every attempt, too"),
                    option(
                        "start",
                        "start this in a shell when the steps of the beginning are done",
                        metavar="COMMAND",
                    ),
                    option(
                        "run",
                        "have its rules, and the report, for this test run alone",
                        metavar="NAME",
                    ),
                ),
                view=(_PROBLEMS, *VIEW),
                details="The exit status is 0 when all is as it was expected, 1 otherwise. Its "
                "rules are gone afterwards, and the listeners that it closed are open, also when "
                "it is interrupted. Steps are told on the standard error as they are done.",
                examples=(
                    "scenario run outage.yaml --report",
                    "scenario run outage.yaml --start './send-newsletter'",
                ),
            ),
            scenarios.run,
        ),
        Local(
            Command(
                "scenario check",
                "Say everything that is wrong with a scenario file.",
                Role.OBSERVE,
                (_SCENARIO,),
                view=(
                    _PROBLEMS,
                    Fields("scenario", forms=(("end", "duration"),)),
                    Table("steps", (Column("at", "SECONDS", "seconds"), Column("done", "STEP"))),
                ),
                details="No daemon is asked.",
                examples=("scenario check outage.yaml",),
            ),
            alone=scenarios.check,
        ),
        Local(
            Command(
                "transcript to-scenario",
                "Print a scenario that answers as a session was answered.",
                Role.OBSERVE,
                (COMMANDS["session.show"].by_name["id"],),
                view=(Text("text"),),
                details="Its rules give the replies of the session in their order, with the delays "
                "that were longer than 0.1 s, and end the connection as it was ended.",
                examples=("transcript to-scenario latest",),
            ),
            scenarios.to_scenario,
        ),
        Local(
            replace(
                COMMANDS["rule.load"],
                summary="Add the fault rules of a file: all of them, or none.",
                params=(
                    argument(
                        "file",
                        "YAML with the stanza rules, as in the configuration",
                        type="path",
                        metavar="FILE",
                        required=True,
                    ),
                    COMMANDS["rule.load"].by_name["replace"],
                ),
                examples=("rule load faults.yaml", "rule load faults.yaml --replace"),
            ),
            rules.load,
        ),
    )
}
"""By method."""


_BEFORE = {
    "message.import": ("message.export",),
    "security": ("scenario.run", "scenario.check", "transcript.to-scenario"),
}
"""Where commands stand that the control socket lacks."""


def _in_order() -> Iterator[Command]:
    for method, command in COMMANDS.items():
        yield from (LOCAL[name].command for name in _BEFORE.get(method, ()))
        yield LOCAL[method].command if method in LOCAL else command


MTACTL_COMMANDS = tuple(_in_order())
"""What mtactl has, in the order of the manual."""

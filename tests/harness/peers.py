"""What each row of docs/faults.md, "Every knob of the peers", is to show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from harness import scenes, troubles
from harness.scenes import (
    Scene,
    Some,
    announces,
    answers,
    each,
    fate,
    late,
    login,
    many,
    message,
    strikes,
)

COMMANDS = ["CONNECT", "HELO", "EHLO", "LHLO", "XCLIENT", "AUTH", "MAIL", "RCPT", "DATA", "."]
COMMANDS += ["RSET", "NOOP", "VRFY", "QUIT"]
MOMENTS = {"CONNECT": "banner", "LHLO": "ehlo", ".": "message"}
"""The moments of what the peers call commands, where they are not called like those."""


class Check(NamedTuple):
    """What a scene shows where a row is in force; ``options``: and smtp-sink with these."""

    scene: Scene
    seen: object
    options: tuple[str, ...] = ()
    command: str = ""


def of_each(
    scene: Callable[[str], Scene], seen: Any, *options: str, commands: list[str] = COMMANDS
) -> list[Check]:
    """Return a check for each command; a mapping of what is seen is one of commands."""
    return [
        Check(
            scene(command),
            seen[command] if isinstance(seen, dict) else seen,
            tuple(word.replace("COMMAND", command) for word in options),
            command,
        )
        for command in commands
    ]


NO_EHLO = ["500", "250"]
ROB, NOT_ROB = "AUTH PLAIN AHJvYgBwYXNz", "AUTH PLAIN AHJvYgB3cm9uZw=="
A_SECOND_LATE = {command: ("3" if command == "DATA" else "2", 1) for command in COMMANDS}

CHECKS: dict[str, dict[str, Check | list[Check]]] = {
    "smtp-sink": {
        "`-f COMMAND`": of_each(
            strikes, ("500 5.3.0 Error: command failed", "goes on"), "-f", "COMMAND"
        ),
        "`-r COMMAND`": of_each(
            strikes, ("450 4.3.0 Error: command failed", "goes on"), "-r", "COMMAND"
        ),
        "`-q COMMAND`": of_each(strikes, "fin", "-q", "COMMAND"),
        "`-Q COMMAND`": of_each(
            strikes, ("421 4.0.0 Server closing connection", "fin"), "-Q", "COMMAND"
        ),
        "`-W COMMAND:1`": of_each(late, A_SECOND_LATE, "-W", "COMMAND:1"),
        "`-W RCPT:1:50`": Check(scenes.beside_each_other(late("RCPT")), Some(("2", 0))),
        "`-w 1`": Check(late("DATA"), ("3", 1), ("-w", "1")),
        "`-H 1`": Check(late("."), ("2", 1), ("-H", "1")),
        "`-A 1`": Check(troubles.interrupted, ("550 This violates SMTP", 1, "fin"), ("-A", "1")),
        '`-r RCPT -b "451 4.1.1 Soft"`': Check(
            fate(message()), "451 4.1.1 Soft", ("-r", "RCPT", "-b", "451 4.1.1 Soft")
        ),
        '`-f RCPT -B "551 5.1.1 Hard"`': Check(
            fate(message()), "551 5.1.1 Hard", ("-f", "RCPT", "-B", "551 5.1.1 Hard")
        ),
        "`-8`": Check(announces("8BITMIME"), False, ("-8",)),
        "`-a`": Check(announces("AUTH"), False, ("-a",)),
        "`-C`": Check(announces("XCLIENT"), False, ("-C",)),
        "`-e`": Check(answers("EHLO", "HELO"), NO_EHLO, ("-e",)),
        "`-E`": Check(announces("ENHANCEDSTATUSCODES"), False, ("-E",)),
        "`-F`": Check(announces("XFORWARD"), False, ("-F",)),
        "`-N`": Check(announces("DSN"), False, ("-N",)),
        "`-p`": Check(announces("PIPELINING"), False, ("-p",)),
        "`-P`": Check(
            each(scenes.greeting, answers("EHLO", "HELO")), ["220 ********", NO_EHLO], ("-P",)
        ),
        "`-T 1000`": Check(troubles.blocked, True),
        "`-m 1`": Check(troubles.crowded, "421"),
        "`-n 3`": Check(many(attempts=4), ["250", "250", "250", "refused"]),
        "`-M 3`": Check(many(attempts=4), ["250", "250", "250", "refused"]),
        "`-t 1`": Check(troubles.idle, True, ("-t", "1")),
        "`-h mx.example`": Check(scenes.hostname, "mx.example", ("-h", "mx.example")),
        "`-L`": Check(answers("LHLO"), ["250"], ("-L",)),
    },
    "Mailpit": {
        "`Sender: {ErrorCode: 451, Probability: 50}`": Check(
            many(), Some("451 Chaos sender error")
        ),
        "`Recipient: {ErrorCode: 451, Probability: 50}`": Check(
            many(), Some("451 Chaos recipient error")
        ),
        "`Authentication: {ErrorCode: 535, Probability: 50}`": Check(
            many(login), Some("535 Chaos authentication error")
        ),
    },
    "MailHog": {
        "`-jim-accept 0.5`": Check(many(), Some("fin")),
        "`-jim-disconnect 0.5`": Check(many(), Some("fin")),
        "`-jim-linkspeed-affect 0.5`": Check(
            scenes.beside_each_other(late("CONNECT")), Some(("2", 0))
        ),
        "`-jim-linkspeed-min 20 -jim-linkspeed-max 20000`": Check(
            scenes.beside_each_other(late("CONNECT")), Some(("2", 0))
        ),
        "`-jim-reject-sender 0.5`": Check(many(), Some("550 Invalid sender")),
        "`-jim-reject-recipient 0.5`": Check(many(), Some("550 Invalid recipient")),
        "`-jim-reject-auth 0.5`": Check(many(login), Some("535 Authentication unsuccessful")),
    },
    "smtp4dev": {
        '`CredentialsValidationExpression: credentials.username == "rob" && '
        'credentials.password == "pass"`': Check(
            each(answers("EHLO", ROB), answers("EHLO", NOT_ROB)), [["250", "235"], ["250", "535"]]
        ),
        '`RecipientValidationExpression: recipient != "foo@bar.example"`': Check(
            each(fate(message(recipient="foo@bar.example")), fate(message())),
            ["550 Recipient rejected", "250"],
        ),
        '`RecipientValidationExpression: recipient == "foo@bar.example"`': Check(
            each(fate(message(recipient="foo@bar.example")), fate(message())),
            ["250", "550 Recipient rejected"],
        ),
        '`MessageValidationExpression: message.subject.includes("19") ? 441 : null`': Check(
            each(fate(message(subject="in 1999")), fate(message())),
            ["441 Message rejected", "250"],
        ),
        '`CommandValidationExpression: command.Verb != "VRFY"`': Check(
            strikes("VRFY"), ("500 Command rejected", "goes on")
        ),
        '`session.clientAddress == "127.0.0.1"`': Check(
            each(troubles.at_rcpt("127.0.0.1"), troubles.at_rcpt("127.0.0.2")),
            ["550 Rejected", "250 2.1.5 Recipient ok"],
        ),
        '`error(452, "Full")`': Check(fate(message()), "452 Full"),
        "`delay(1)`": Check(late("RCPT"), ("2", 1)),
        "`delay(-1)`": Check(fate(message()), "silence"),
        "`random(1, 2) == 1`": Check(many(), Some("550 Rejected")),
        "`throttle(160)`": Check(late("CONNECT"), ("2", 1)),
        "`disconnect()`": Check(strikes("RCPT"), "fin"),
    },
    "James mock-smtp-server": {
        '`{"command": "COMMAND", "condition": {"operator": "matchAll"}, '
        '"response": {"code": 451, "message": "mock"}}`': of_each(
            strikes,
            ("451 mock", "goes on"),
            commands=["EHLO", "MAIL", "RCPT", ".", "RSET", "VRFY", "NOOP", "QUIT"],
        ),
        '`"condition": {"operator": "contains", "matchingValue": "bob"}`': Check(
            each(fate(message(recipient="a.bob@example.com")), fate(message())),
            ["451 mock", "250"],
        ),
        '`"numberOfAnswer": 2`': Check(many(attempts=4), ["451 mock", "451 mock", "250", "250"]),
        "`PUT /smtpExtensions`": Check(each(announces("SIZE"), announces("DSN")), [False, False]),
    },
    "Inbucket": {
        "`REJECTDOMAINS=example.net`": Check(
            each(fate(message(recipient="a@example.net")), fate(message())),
            ["550 Relay not permitted", "250"],
        ),
        "`DEFAULTACCEPT=false`, `ACCEPTDOMAINS=example.com`": Check(
            each(fate(message(recipient="a@example.net")), fate(message())),
            ["550 Relay not permitted", "250"],
        ),
        "`REJECTORIGINDOMAINS=example.org`": Check(
            each(fate(message(sender="a@example.net")), fate(message())),
            ["250", "501 Unauthorized domain"],
        ),
        "`DISCARDDOMAINS=example.com`": Check(
            each(troubles.is_kept("a@example.com"), troubles.is_kept("a@example.net")),
            [False, True],
        ),
        "`MAXRECIPIENTS=1`": Check(answers("EHLO", "MAIL", "RCPT", "RCPT"), ["250"] * 3 + ["452"]),
        "`MAXMESSAGEBYTES=1000`": Check(
            answers("EHLO", "MAIL FROM:<a@example.org> SIZE=1001"), ["250", "552"]
        ),
        "`TIMEOUT=1s`": Check(troubles.idle, True),
    },
    "go-smtp-mock": {
        "`ResponseDelayHelo: 1`": Check(each(late("HELO"), late("EHLO")), [("2", 1), ("2", 1)]),
        "`ResponseDelayMailfrom: 1`, `…Rcptto`, `…Data`, `…Rset`, `…Noop`, `…Quit`": of_each(
            late, A_SECOND_LATE, commands=["MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT"]
        ),
        "`ResponseDelayMessage: 1`": Check(late("."), ("2", 1)),
        "`BlacklistedHeloDomains: client.example`": Check(
            each(fate(["HELO"]), fate(["EHLO other.example"])),
            ["421 Service not available", "250"],
        ),
        "`BlacklistedMailfromEmails: sender@example.org`": Check(
            fate(message()), "421 Service not available"
        ),
        "`BlacklistedRcpttoEmails: rcpt@example.com`": Check(
            fate(message()), "421 Service not available"
        ),
        "`NotRegisteredEmails: rcpt@example.com`": Check(fate(message()), "550 User not found"),
        "`MsgSizeLimit: 1000`": Check(
            answers("EHLO", "MAIL FROM:<a@example.org> SIZE=1001"), ["250", "552"]
        ),
        "`IsCmdFailFast: true`": Check(answers("NONSENSE", "NOOP"), ["502", "421"]),
        "`MsgGreeting: Welcome`, and those of other commands": Check(
            scenes.greeting, "220 Welcome"
        ),
        "`SessionTimeout: 1`": Check(troubles.idle, True),
    },
}

"""A line of a client's, as a command: parsed once, and remembered for when it comes again."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from mtad.model.profile import Newlines
from mtad.smtp.reply import Refusal, Reply

AUTH_LINE = 12_288
"""Octets of a line of AUTH, which may be longer than others (RFC 4954 section 4)."""

Run = Coroutine[Any, Any, None] | None
"""What a command returns: None when it has answered, else what has to be run until it has."""


class Command(NamedTuple):
    """A command: ``run(session, argument)`` with what ``parse`` makes of the argument's text.

    ``parse`` is pure, and raises Refusal; how the session stands is for ``run`` to look at.
    """

    run: Callable[[Any, Any], Run]
    parse: Callable[[str], Any] = str


def no_argument(verb: str) -> Callable[[str], None]:
    """Return what parses the argument of a command that has none."""

    def parse(argument: str) -> None:
        if argument:
            raise Refusal(501, "5.5.4", f"Syntax: {verb}")

    return parse


class Line(NamedTuple):
    """A command line that is as it should be: ``verb`` is in upper case."""

    verb: str
    run: Callable[[Any, Any], Run]
    argument: Any


# Senders say the same again and again. Lines that are remembered are short, and few.
_SHORT = 128
_FEW = 1024
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Lines:
    """The command lines of a listener: ``commands`` are those that it serves, by their verbs.

    ``length_limit`` is in octets of a line with its CRLF (RFC 5321 section 4.5.3.1.4).
    """

    def __init__(
        self, commands: Mapping[str, Command], length_limit: int, newlines: Newlines
    ) -> None:
        self.commands = dict(commands)
        self._length_limit = length_limit
        self._takes_bare_lf = newlines is not Newlines.STRICT
        self._known: dict[bytes, Line] = {}

    def parse(self, octets: bytes) -> Line:
        """Return the command of a line, which comes with its end.

        Raises:
            Refusal: it is none, or not one of this listener's.
        """
        known = self._known.get(octets)
        if known is not None:
            return known
        line = self._parse(octets)
        if len(octets) <= _SHORT and line.verb != "AUTH":  # secrets are not remembered
            if len(self._known) >= _FEW:
                self._known.clear()
            self._known[octets] = line
        return line

    def _parse(self, octets: bytes) -> Line:
        if not (octets.endswith(b"\r\n") or self._takes_bare_lf):
            raise Refusal(500, "5.5.2", "Syntax error: bare LF; a line ends with CRLF")
        try:
            text = octets.rstrip(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise Refusal(500, "5.5.2", "Syntax error: not UTF-8") from None
        verb, _, argument = text.partition(" ")
        verb = verb.upper()
        if len(octets) > (AUTH_LINE if verb == "AUTH" else self._length_limit):
            raise Refusal(500, "5.5.2", "Line too long")
        if _CONTROL.search(text):
            raise Refusal(500, "5.5.2", "Syntax error: control characters")
        command = self.commands.get(verb)
        if command is None:
            raise Refusal(*(_UNKNOWN if verb else _EMPTY))
        return Line(verb, command.run, command.parse(argument.strip(" ")))


_UNKNOWN = Reply(502, "5.5.1", "Command not implemented")
_EMPTY = Reply(500, "5.5.2", "Syntax error: empty line")

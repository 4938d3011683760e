"""One line from a client, and how it is answered: as JSON-RPC, or as plain text."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from mtad.control import plain, wire
from mtad.control.commands import by_method, by_words
from mtad.control.grammar import Command
from mtad.errors import CommandError
from mtad.ipc.questions import Form

# shlex takes a microsecond for each character; what a person types is short.
PLAIN_LIMIT = 4096
"""Octets of a plain command."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """A result, or an item of a stream, that another process has put into a call's form.

    Nobody here looks into it: a line of JSON, without its end, or lines of plain text.
    """

    octets: bytes


Result = Mapping[str, Any] | Relayed


class Call(Protocol):
    """What a line asks for, and the form of its answer (octets to send, maybe none)."""

    form: Form

    def resolve(self) -> tuple[Command, dict[str, Any]]:
        """Return the command and its checked parameters; CommandError if it is no good call."""

    def result(self, command: Command, result: Result) -> bytes:
        """Return the answer to a call that was carried out."""

    def error(self, error: CommandError) -> bytes:
        """Return the answer to a call that was not carried out."""

    def item(self, command: Command, item: Result) -> bytes:
        """Return one item of a stream."""

    def ended(self, error: CommandError) -> bytes:
        """Return why a stream, which was answered, has no further items."""


class JsonCall:
    """A JSON-RPC 2.0 request; a notification is answered with nothing."""

    __slots__ = ("_read",)
    form: Form = "json"

    def __init__(self, line: bytes) -> None:
        self._read = wire.decode(line)

    def resolve(self) -> tuple[Command, dict[str, Any]]:
        """See Call."""
        if isinstance(self._read, wire.Failure):
            raise self._read.error
        command = by_method(self._read.method)
        return command, command.check(self._read.params)

    def result(self, command: Command, result: Result) -> bytes:
        """See Call."""
        return b"" if self._silent else wire.result_line(self._read.id, _value(result))

    def error(self, error: CommandError) -> bytes:
        """See Call."""
        return b"" if self._silent else wire.error_line(self._read.id, error)

    def item(self, command: Command, item: Result) -> bytes:
        """See Call."""
        return wire.notification_line(command.method, _value(item))

    def ended(self, error: CommandError) -> bytes:
        """See Call."""
        return wire.error_line(None, error)

    @property
    def _silent(self) -> bool:
        return isinstance(self._read, wire.Request) and self._read.notification


class PlainCall:
    """A command line in words, quoted as in a shell; its errors begin with ``error: ``."""

    __slots__ = ("_line",)
    form: Form = "plain"

    def __init__(self, line: bytes) -> None:
        self._line = line

    def resolve(self) -> tuple[Command, dict[str, Any]]:
        """See Call."""
        if len(self._line) > PLAIN_LIMIT:
            raise CommandError(
                f"a plain command of more than {PLAIN_LIMIT} octets",
                code=wire.Code.PARSE_ERROR,
                help=f"as JSON it may have {wire.LINE_LIMIT}",
            )
        try:
            words = shlex.split(wire.text_of(self._line))
        except ValueError as error:
            raise CommandError(f"not a command line: {error}", code=wire.Code.PARSE_ERROR) from None
        command, rest = by_words(words)
        return command, command.parse(rest)

    def result(self, command: Command, result: Result) -> bytes:
        """See Call."""
        return result.octets if isinstance(result, Relayed) else plain_result(command, result)

    def error(self, error: CommandError) -> bytes:
        """See Call."""
        lines = [f"error: {error.message}", *([f"help: {error.help}"] if error.help else [])]
        shown = [plain.visible(line) for text in lines for line in text.splitlines()]
        return "".join(f"{line}\n" for line in shown).encode("utf-8", "backslashreplace")

    def item(self, command: Command, item: Result) -> bytes:
        """See Call."""
        return item.octets if isinstance(item, Relayed) else plain_item(command, item)

    def ended(self, error: CommandError) -> bytes:
        """See Call."""
        return self.error(error)


def _value(result: Result) -> Mapping[str, Any] | msgspec.Raw:
    """Return what a result is in JSON-RPC."""
    return msgspec.Raw(result.octets) if isinstance(result, Relayed) else result


def plain_result(command: Command, result: Mapping[str, Any]) -> bytes:
    """Return the lines that answer a plain call."""
    said = "waited in vain" if result.get("waited") else "failed"
    failed = f"error: {command.name}: {said}\n" if result.get("ok") is False else ""
    view = () if command.stream else command.view
    return (failed + plain.render(view, result)).encode("utf-8", "backslashreplace")


def plain_item(command: Command, item: Mapping[str, Any]) -> bytes:
    """Return the lines that tell a plain call of one item of its stream."""
    return plain.item(command.view, item).encode("utf-8", "backslashreplace")


def read_call(line: bytes) -> Call:
    """Return what ``line`` (not blank) asks for."""
    return JsonCall(line) if wire.is_json(line) else PlainCall(line)

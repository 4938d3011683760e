"""What a command is: its name, its rules, its view; and how a call of it is checked.

A call reaches the daemon as JSON (names and values) or as a plain line of words; both become the
same dictionary, with every parameter of the command in it.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mtad.control.params import TYPES, Param, brief
from mtad.control.view import Section
from mtad.control.wire import Code
from mtad.errors import CommandError


class Role(StrEnum):
    """What a caller may do: look, or change things."""

    OBSERVE = "observe"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class OneOf:
    """At most one of these parameters is given; if ``required``, exactly one."""

    names: tuple[str, ...]
    required: bool = False


@dataclass(frozen=True)
class Command:
    """One command: ``listener stop`` for people, ``listener.stop`` as a JSON-RPC method.

    ``view`` says how its result is shown. A ``stream`` is answered by a result and then by one
    notification for each item, until the connection ends; its ``view``, if it has one, is of an
    item. What is ``relayed`` the archive carries out.
    """

    name: str
    summary: str
    role: Role
    params: tuple[Param, ...] = ()
    rules: tuple[OneOf, ...] = ()
    view: tuple[Section, ...] = ()
    stream: bool = False
    relayed: bool = False
    details: str = ""
    examples: tuple[str, ...] = ()
    method: str = field(init=False)
    defaults: Mapping[str, Any] = field(init=False)
    by_name: Mapping[str, Param] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", self.name.replace(" ", "."))
        object.__setattr__(self, "defaults", {p.name: p.default for p in self.params})
        object.__setattr__(self, "by_name", {p.name: p for p in self.params})

    @property
    def usage(self) -> str:
        """``listener stop [SELECTOR…] [--all] [--drain SECONDS]``."""
        return " ".join([self.name, *(param.usage for param in self.params)])

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``given`` with every default filled in.

        Raises:
            CommandError: a parameter is unknown, missing, of another type, or excludes another.
        """
        values = {**self.defaults, **given}
        for name, value in given.items():
            param = self.by_name.get(name)
            if param is None:
                raise self._wrong(
                    f"{self.name} has no parameter {brief(name)}{did_you_mean(name, self.by_name)}"
                )
            if value is None and not param.required:
                values[name] = param.default
            else:
                self._check_value(param, value)
        for param in self.params:
            if param.repeated:
                values[param.name] = values[param.name] or []
            if param.required and values[param.name] in (None, []):
                raise self._wrong(f"{self.name} needs {param.usage} ({param.name})")
        for rule in self.rules:
            self._check_rule(rule, values)
        return values

    def _check_value(self, param: Param, value: Any) -> None:
        kind = TYPES[param.type]
        if param.repeated and not isinstance(value, list):
            raise self._wrong(f"{param.name} is a list, not {brief(value)}")
        for item in value if param.repeated else (value,):
            if not kind.accepts(item):
                raise self._wrong(f"{param.name} is {kind.what}, not {brief(item)}")
            if param.choices and item not in param.choices:
                raise self._wrong(
                    f"{param.name} is one of {', '.join(param.choices)}, not {brief(item)}"
                    f"{did_you_mean(item, param.choices)}"
                )

    def _check_rule(self, rule: OneOf, values: Mapping[str, Any]) -> None:
        given = sum(values[name] not in (self.defaults[name], []) for name in rule.names)
        if given == 1 or (given == 0 and not rule.required):
            return
        spelled = [self.by_name[name].usage.strip("[]") for name in rule.names]
        if given:
            raise self._wrong(f"{self.name} takes only one of {' and '.join(spelled)}")
        raise self._wrong(f"{self.name} needs {' or '.join(spelled)}")

    def _wrong(self, reason: str) -> CommandError:
        return CommandError(reason, code=Code.INVALID_PARAMS, help=f"usage: {self.usage}")

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        """Return the call that ``words`` (after the name) make; raises like ``check``.

        Options and arguments may mix, as with getopt_long(3); ``--`` ends the options.
        """
        given: dict[str, Any] = {}
        places = [param for param in self.params if param.kind == "argument"]
        rest = deque(words)
        options = True
        while rest:
            word = rest.popleft()
            if options and word == "--":
                options = False
            elif options and word.startswith("--"):
                self._parse_option(word[2:], rest, given)
            elif not places:
                raise self._wrong(f"{self.name} does not take {brief(word)}")
            elif places[0].repeated:
                given.setdefault(places[0].name, []).append(self._value(places[0], word))
            else:
                param = places.pop(0)
                given[param.name] = self._value(param, word)
        return self.check(given)

    def _parse_option(self, word: str, rest: deque[str], given: dict[str, Any]) -> None:
        spelled, equals, value = word.partition("=")
        name = spelled.replace("-", "_")
        param = self.by_name.get(name)
        negated = self.by_name.get(name.removeprefix("no_")) if name.startswith("no_") else None
        if negated is not None and negated.default is True and not equals:
            given[negated.name] = False
        elif param is None or param.kind == "argument":
            known = [param.spelled for param in self.params if param.kind != "argument"]
            said = f"--{spelled}"
            raise self._wrong(f"{self.name} has no option {brief(said)}{did_you_mean(said, known)}")
        elif param.kind == "flag":
            if equals:
                raise self._wrong(f"--{spelled} takes no value")
            given[name] = True
        elif equals:
            given[name] = self._value(param, value)
        elif param.implied is not None and (not rest or rest[0].startswith("-")):
            given[name] = param.implied
        elif not rest:
            raise self._wrong(f"--{spelled} needs {param.placeholder}")
        else:
            given[name] = self._value(param, rest.popleft())

    def _value(self, param: Param, word: str) -> Any:
        kind = TYPES[param.type]
        try:
            return kind.parse(word)
        except ValueError:
            raise self._wrong(f"{param.name} is {kind.what}, not {brief(word)}") from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'stop'?"``, or nothing when no known word is near."""
    # difflib is quadratic; no known word is long.
    near = difflib.get_close_matches(word[:64], list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""

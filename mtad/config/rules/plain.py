"""From a rule back to the plain data that a file would say it with: the inverse of `schema`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from mtad.config.rules.action_values import MUTE
from mtad.config.rules.gates import GATES, default_per
from mtad.config.rules.values import ALL_COMMANDS
from mtad.model.rules import values
from mtad.model.rules.alerts import ALERTS
from mtad.model.rules.values import (
    AnyGate,
    At,
    Between,
    Choice,
    Do,
    Mail,
    Rule,
    Said,
    Shutter,
    TlsFault,
    Value,
    When,
    Where,
    Window,
)


def plain(rule: Rule) -> dict[str, Any]:
    """Return the mapping that makes ``rule``; its name, source and profile are not in it."""
    limits = {"hits": rule.hits, "seconds": _plain(rule.seconds)}
    parts = {
        "at": _at(rule.at),
        "where": _where(rule.where),
        "when": _when(rule.when, rule.do),
        "do": _do(rule.do),
        "for": {name: limit for name, limit in limits.items() if limit},
    }
    shown = {name: part for name, part in parts.items() if part or name == "do"}
    return shown if rule.enabled else shown | {"enabled": False}


def _at(at: tuple[At, ...]) -> Any:
    if at == tuple(map(At, ALL_COMMANDS)):
        return "command"
    return _one_or_more([_moment(one) for one in at])


def _moment(at: At) -> str:
    if at.octets:
        return f"byte {at.octets}"
    return f"line {at.lines}" if at.lines else at.moment.value


def _where(where: Where) -> dict[str, Any]:
    shown: dict[str, Any] = {
        name: _one_or_more(getattr(where, name))
        for name in ("listener", "peer", "helo", "user", "sender", "recipient")
        if getattr(where, name)
    }
    if where.tls is not None:
        shown["tls"] = where.tls
    if where.size is not None:
        shown["size"] = _range(where.size)
    if where.header:
        shown["header"] = {name: _one_or_more(one) for name, one in where.header.items()}
    if where.run:
        shown["run"] = where.run
    return shown


def _range(size: Between) -> str:
    return f">{size.least - 1}" if size.most is None else f"{size.least}..{size.most}"


def _when(when: When, do: Do) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if when.gate is not None:
        name = next(name for name, kind in GATES.items() if isinstance(when.gate, kind))
        shown[name] = _gate(when.gate)
    if when.per != default_per(when.gate, do):
        shown["per"] = list(when.per)
    if when.seed:
        shown["seed"] = when.seed
    if when.daily:
        shown["daily"] = _one_or_more([_window(one) for one in when.daily])
    if when.cycle is not None:
        shown["cycle"] = _members(when.cycle)
    return shown


def _gate(gate: AnyGate) -> Any:
    members = _members(gate)
    if isinstance(gate, values.Greylist | values.Rate):
        return members
    (number,) = members.values()
    return number


def _window(window: Window) -> str:
    return f"{_clock(window.begin)}-{_clock(window.end)}"


def _clock(second: int) -> str:
    text = f"{second // 3600:02}:{second // 60 % 60:02}"
    return f"{text}:{second % 60:02}" if second % 60 else text


def _do(do: Do) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for field in msgspec.structs.fields(Do):
        value = getattr(do, field.name)
        if field.name == "mute" and value:
            shown["reply"] = MUTE
        elif value != field.default:
            shown[field.name] = _ACTIONS.get(field.name, _plain)(value)
    return shown


def _reply(said: Said) -> Any:
    start = f"{said.code} {said.status}" if said.status else f"{said.code}"
    return _one_or_more([f"{start} {line}" if line else start for line in said.text.split("\n")])


def _shutter(shutter: Shutter) -> dict[str, Any]:
    return {"deaf" if shutter.deaf else "close": _plain(shutter.seconds)}


def _tls(tls: TlsFault) -> dict[str, Any]:
    shown = _members(tls)
    if tls.alert is not None:
        shown["alert"] = _ALERT_NAMES.get(tls.alert, tls.alert)
    return shown


def _mail(mail: Mail) -> Any:
    shown = _members(mail)
    if mail.bounce is not None:
        shown["bounce"] = _members(mail.bounce)
    return next(iter(shown)) if shown in ({"discard": True}, {"hold": True}) else shown


def _choice(choice: Choice) -> dict[str, Any]:
    return {"weight": _plain(choice.weight), **_do(choice.do)}


# How an action is written that is not written as it is.
_ACTIONS: dict[str, Callable[[Any], Any]] = {
    "reply": _reply,
    "raw": lambda raw: raw.decode("latin-1"),
    "tarpit": lambda tarpit: _members(tarpit),
    "listener": _shutter,
    "hide": lambda names: _one_or_more(names),
    "tls": _tls,
    "mail": _mail,
    "one_of": lambda choices: [_choice(one) for one in choices],
}
_ALERT_NAMES = {number: name for name, number in ALERTS.items()}


def _members(value: Value) -> dict[str, Any]:
    """Return what is not a default."""
    return {
        field.name: _plain(getattr(value, field.name))
        for field in msgspec.structs.fields(value)
        if getattr(value, field.name) != field.default
    }


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _one_or_more(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else list(values)

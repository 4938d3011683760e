"""A new configuration for running listeners: mark and sweep, all of it or nothing.

A listener's identity is its name and endpoint. What keeps both keeps its socket and sessions.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from mtad.config.document import key_text
from mtad.config.load import Configuration, load
from mtad.config.schema import Settings
from mtad.errors import BindError, ConfigError, MtadError, Problem
from mtad.model.endpoint import TcpEndpoint, UnixEndpoint
from mtad.model.listener import ListenerSpec, Origin, State
from mtad.privilege import capabilities
from mtad.supervisor.listener import Listener
from mtad.supervisor.listeners import Listeners
from mtad.supervisor.rules import Rules
from mtad.supervisor.sockets import close_listening, open_listening


async def read(paths: Sequence[Path], objection: Callable[[str], Awaitable[str]]) -> Configuration:
    """Return the configuration in ``paths``, of which everything has been checked.

    ``objection(handler)`` says why the workers cannot have a handler, or "".

    Raises:
        ConfigError: with every problem that was found.
    """
    configuration = load(paths, capabilities.parse)
    configuration.check_tls()
    problems = []
    for name in configuration.settings.profiles:
        handler = configuration.settings.profile(name).handler
        if handler and (reason := await objection(handler)):
            key = ("profiles", name, "handler")
            file = configuration.sources["profiles"] or Path()
            problems.append(Problem(file, configuration.lines[key], key_text(key), reason))
    if problems:
        raise ConfigError(problems)
    return configuration


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new configuration means for the listeners there are."""

    kept: tuple[tuple[Listener, ListenerSpec], ...]
    gone: tuple[Listener, ...]
    fresh: tuple[ListenerSpec, ...]

    def describe(self) -> list[str]:
        """Return a line for each listener that changes."""
        fresh = {spec.name: spec for spec in self.fresh}
        lines = [
            f"{one.spec.name}: {one.spec.endpoint} → {fresh.pop(one.spec.name).endpoint}"
            if one.spec.name in fresh
            else f"{one.spec.name}: removed"
            for one in self.gone
        ]
        lines += [f"{spec.name}: new, {spec.endpoint}" for spec in fresh.values()]
        lines += [
            f"{new.name}: {aspect}" for one, new in self.kept for aspect in _aspects(one.spec, new)
        ]
        return lines


# What a running daemon has done for good: a reload keeps these as they are, and says so.
_FIXED = (
    "security",
    "store.directory",
    "store.durability",
    "pid_file",
    "control.socket",
    "log.target",
    "log.form",
)


# What it changes besides listeners and profiles.
_DYNAMIC = (
    "workers",
    "drain",
    "log.level",
    "control.operate",
    "control.observe",
    "store.retention",
)


@dataclass(frozen=True, slots=True)
class ReloadPlan:
    """A configuration that was read and checked, and what it changes.

    ``lines`` says what it changes, against the listeners before it; ``notes`` what it does not
    change, though the files do.
    """

    configuration: Configuration
    changes: Changes
    lines: list[str]
    notes: list[str]

    @classmethod
    def of(
        cls,
        old: Configuration,
        new: Configuration,
        listeners: Iterable[Listener],
        rules: Rules,
    ) -> ReloadPlan:
        """Return what becomes of ``old``, and the listeners and rules there are."""
        differs = [
            option
            for option in _FIXED
            if attrgetter(option)(new.settings) != attrgetter(option)(old.settings)
        ]
        notes = [f"{option} has changed: a restart is needed for that" for option in differs]
        kept = replace(new, settings=_keep(old.settings, new.settings))
        changes = compare(listeners, kept.listeners())
        before, after = old.settings, new.settings
        lines = [
            f"{option}: {attrgetter(option)(before)} → {attrgetter(option)(after)}"
            for option in _DYNAMIC
            if attrgetter(option)(before) != attrgetter(option)(after)
        ]
        lines = [*changes.describe(), *lines, *rules.differences(kept.rules())]
        return cls(kept, changes, lines, notes)


def _keep(old: Settings, new: Settings) -> Settings:
    """Return ``new`` with the options of ``old`` that a reload does not change."""
    for option in _FIXED:
        stanza, _, member = option.partition(".")
        kept = getattr(old, stanza)
        if member:
            kept = getattr(new, stanza).model_copy(update={member: getattr(kept, member)})
        new = new.model_copy(update={stanza: kept})
    return new


def compare(current: Iterable[Listener], wanted: Sequence[ListenerSpec]) -> Changes:
    """Return what has to change. Listeners added by hand stay, unless the file has their name."""
    by_name = {spec.name: spec for spec in wanted}
    kept: list[tuple[Listener, ListenerSpec]] = []
    gone: list[Listener] = []
    for listener in current:
        spec = by_name.get(listener.spec.name)
        if spec is not None and spec.endpoint == listener.spec.endpoint:
            kept.append((listener, spec))
            del by_name[spec.name]
        elif spec is not None or listener.spec.origin is Origin.FILE:
            gone.append(listener)
    return Changes(tuple(kept), tuple(gone), tuple(by_name.values()))


def apply(
    listeners: Listeners, changes: Changes, grace: float, prepare: Callable[[], None]
) -> None:
    """Make the changes. ``prepare`` is called in between, when nothing else can fail.

    The new sockets are opened before anything is given up; only a listener that is to go, and
    stands in the way of a new one (a wildcard and a specific address on one port), makes room
    first, and is opened again when the new one fails all the same.

    Raises:
        BindError: a new listener cannot be opened; everything is as it was.
        MtadError: ``prepare`` raised it; everything is as it was.
    """
    made_room: list[Listener] = []
    opened: dict[str, socket.socket] = {}
    try:
        for spec in changes.fresh:
            if spec.enabled:
                opened[spec.name] = _open(listeners, spec, changes.gone, made_room, grace)
        prepare()
    except MtadError:
        for sock in opened.values():
            close_listening(sock)
        listeners.start(made_room)
        raise
    listeners.remove(changes.gone, grace)
    for spec in changes.fresh:
        listener = listeners.add(spec)
        if spec.name in opened:
            listeners.adopt(listener, opened[spec.name])
    for listener, spec in changes.kept:
        _update(listeners, listener, spec, grace)
    for listener in listeners:
        if listener.spec.origin is Origin.ADDED:
            listeners.update(listener, listener.spec)  # its certificates may have been renewed


def _open(
    listeners: Listeners,
    spec: ListenerSpec,
    gone: Sequence[Listener],
    made_room: list[Listener],
    grace: float,
) -> socket.socket:
    try:
        return open_listening(spec.endpoint, spec.backlog)
    except BindError as error:
        in_the_way = [one for one in gone if one.socket is not None and _collide(one, spec)]
        if error.errno != errno.EADDRINUSE or not in_the_way:
            raise
    listeners.stop(in_the_way, grace)
    made_room += in_the_way
    return open_listening(spec.endpoint, spec.backlog)


def _collide(old: Listener, new: ListenerSpec) -> bool:
    bound, endpoint = old.bound, new.endpoint
    if isinstance(bound, TcpEndpoint) and isinstance(endpoint, TcpEndpoint):
        return bound.port == endpoint.port
    if isinstance(bound, UnixEndpoint) and isinstance(endpoint, UnixEndpoint):
        return bound.path == endpoint.path
    return False


def _update(listeners: Listeners, listener: Listener, spec: ListenerSpec, grace: float) -> None:
    before = listener.spec
    listeners.update(listener, spec)
    # What an operator started or stopped by hand stays so, unless the file changed its mind.
    mended = listener.state is State.FAILED and spec != before
    if spec.enabled and (mended or not before.enabled):
        listeners.start([listener])
    elif before.enabled and not spec.enabled:
        listeners.stop([listener], grace)


def _aspects(old: ListenerSpec, new: ListenerSpec) -> list[str]:
    aspects = [
        ("profile", old.profile_name, new.profile_name),
        ("backlog", old.backlog, new.backlog),
        ("protocol", old.protocol, new.protocol),
    ]
    lines = [f"{name} {was} → {will}" for name, was, will in aspects if was != will]
    if old.profile_name == new.profile_name and old.profile != new.profile:
        lines.append(f"profile {new.profile_name} has changed")
    if old.enabled != new.enabled:
        lines.append("enabled" if new.enabled else "disabled")
    return lines

"""From files to a configuration, or to every problem they have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mtad.config import shipped
from mtad.config.conflicts import conflicts
from mtad.config.document import MAX_PROBLEMS, Document, KeyPath, key_text
from mtad.config.reader import read
from mtad.config.schema import DEFAULT_PROFILE, Listener, Settings
from mtad.config.words import report
from mtad.errors import ConfigError, MtadError, Problem, TlsError
from mtad.model.listener import ListenerSpec, Protocol, misfit
from mtad.model.profile import Profile
from mtad.model.rules.matching import is_for
from mtad.model.rules.values import Rule, Source
from mtad.tls import contexts


@dataclass(frozen=True)
class Configuration:
    """The settings, and where they came from.

    ``sources`` names for each stanza the file that won, or None for a default; ``paths`` are all
    files. Both are as they were given. ``lines`` has the line of every key in the file that won.
    """

    settings: Settings
    sources: dict[str, Path | None]
    paths: tuple[Path, ...]
    lines: dict[KeyPath, int]

    def listeners(self) -> tuple[ListenerSpec, ...]:
        """Return a listener for each endpoint; a member of a range is named NAME/ADDRESS.

        A name in the file holds no slash, so no two listeners share one.
        """
        settings = self.settings
        profiles = {name: settings.profile(name) for name in settings.all_profiles()}
        return tuple(
            spec
            for name, one in settings.listeners.items()
            for spec in self._specs(name, one, profiles[one.profile])
        )

    def _specs(self, group: str, listener: Listener, profile: Profile) -> Iterator[ListenerSpec]:
        endpoints = listener.endpoints()
        for endpoint in endpoints:
            address = f"/{getattr(endpoint, 'host', '')}" if len(endpoints) > 1 else ""
            yield ListenerSpec(
                name=group + address,
                group=group,
                endpoint=endpoint,
                protocol=Protocol(listener.protocol),
                profile_name=listener.profile,
                profile=profile,
                backlog=listener.backlog,
                enabled=listener.enabled,
            )

    def rules(self) -> tuple[Rule, ...]:
        """Return the fault rules in the order in which they are asked; those of profiles last."""
        settings = self.settings
        rules = [rule.value(name, Source.FILE) for name, rule in settings.rules.items()]
        for profile, options in settings.all_profiles().items():
            rules += [
                rule.value(f"{profile}/{name}", Source.PROFILE)
                for name, rule in options.rules.items()
            ]
        return tuple(rules)

    def knowing(self, profiles: Iterable[str]) -> Configuration:
        """Return this with those of ``profiles`` that come with mtad, as if it named them."""
        settings = shipped.knowing(self.settings, profiles)
        return self if settings is self.settings else replace(self, settings=settings)

    def directories(self) -> dict[Path, int]:
        """Return the directories that the daemon writes to, each with the mode it is made with."""
        settings = self.settings
        wanted = {settings.store.directory: 0o750, settings.control.socket.parent: 0o755}
        if settings.pid_file is not None:
            wanted.setdefault(settings.pid_file.parent, 0o755)
        if settings.log.target != "stdout":
            wanted.setdefault(settings.log.target.parent, 0o750)
        return wanted

    def check_tls(self) -> None:
        """Look at the certificates and keys that profiles name, as the calling process may.

        Raises:
            ConfigError: with a problem for each profile that cannot be served.
        """
        problems = []
        automatic = self.settings.automatic_tls().key_pair
        for name in self.settings.profiles:
            tls = self.settings.profile(name).tls
            if automatic in tls.key_pairs:
                tls = replace(tls, key_pairs=())  # it may be yet to be made
            try:
                contexts.check(tls)
            except TlsError as error:
                path = ("profiles", name, "tls")
                file = self.sources["profiles"] or Path()
                problems.append(
                    Problem(file, self.lines[path], key_text(path), error.message, error.help)
                )
        if problems:
            raise ConfigError(problems)

    def tls_files(self) -> tuple[Path, ...]:
        """Return the files with certificates and keys that the profiles name."""
        found = []
        for profile in self.settings.profiles.values():
            for pair in profile.tls.certificates or ():
                found += [pair.certificate, pair.key]
            if profile.tls.client_ca is not None:
                found.append(profile.tls.client_ca)
        return tuple(found)

    def notes(self) -> tuple[str, ...]:
        """Return what is accepted and has no effect."""
        found = []
        if self.settings.security.privileges:
            found.append("security.privileges: not applicable on Linux")
        names = [listener.name for listener in self.listeners()]
        for rule in self.rules():
            if not any(is_for(rule, name, rule.profile) for name in names):
                wanted = ", ".join(rule.where.listener)
                found.append(f"rules.{rule.name}.where.listener: no listener is {wanted}")
        return tuple(found)

    def effective(self) -> dict[str, Any]:
        """Return ``{stanza: {"source": file or None, "value": …}}`` as JSON and YAML can hold.

        That of the profiles names the files of those that come with mtad as ``shipped``.
        """
        values = self.settings.model_dump(mode="json", by_alias=True)
        stanzas: dict[str, Any] = {
            stanza: {"source": str(source) if source else None, "value": values[stanza]}
            for stanza, source in self.sources.items()
        }
        stanzas["profiles"]["shipped"] = {
            name: str(file)
            for name, file in shipped.files().items()
            if name in self.settings.profiles and ("profiles", name) not in self.lines
        }
        return stanzas


def load(
    paths: Sequence[Path], parse_capabilities: Callable[[str], object] | None = None
) -> Configuration:
    """Return the configuration that ``paths`` make; a later file's stanzas replace earlier ones.

    ``parse_capabilities`` raises MtadError for a capability text that it cannot read; without it
    any text is taken.

    Raises:
        ConfigError: with every problem of every file, in the order of files and lines.
    """
    documents = [read(path) for path in paths]
    winners: dict[str, Document] = {}
    stanzas: dict[str, Any] = {}
    for document in documents:
        for stanza, value in _stanzas(document):
            stanzas[stanza] = value
            winners[stanza] = document
    # Each stanza was validated in its own file, so that its problems have their line.
    settings = Settings().model_copy(update=stanzas)
    settings = shipped.knowing(settings, (one.profile for one in settings.listeners.values()))
    if "listeners" in winners:
        _check_listeners(settings, winners)
    if "security" in winners and parse_capabilities is not None:
        _check_capabilities(settings, winners["security"], parse_capabilities)
    problems = [problem for document in documents for problem in document.in_order()]
    if problems:
        raise ConfigError(problems)
    return Configuration(
        settings=settings,
        sources={
            stanza: winners[stanza].file if stanza in winners else None
            for stanza in Settings.model_fields
        },
        paths=tuple(paths),
        lines={
            path: line
            for stanza, document in winners.items()
            for path, line in document.lines.items()
            if path[0] == stanza
        },
    )


def _stanzas(document: Document) -> Iterator[tuple[str, Any]]:
    """Yield the stanzas of a file, or what is sound of them; report the rest."""
    for stanza, value in document.data.items():
        if len(document.problems) >= MAX_PROBLEMS:
            return
        try:
            yield stanza, _validated(stanza, value)
        except ValidationError as errors:
            report(document, errors)
            broken = {error["loc"][:2] for error in errors.errors(include_url=False)}
            if all(len(path) == 2 for path in broken):
                sound = {key: one for key, one in value.items() if (stanza, key) not in broken}
                yield stanza, _validated(stanza, sound)


def _validated(stanza: str, value: Any) -> Any:
    return getattr(Settings.model_validate({stanza: value}), stanza)


def _check_capabilities(
    settings: Settings, document: Document, parse: Callable[[str], object]
) -> None:
    path = ("security", "capabilities")
    try:
        parse(settings.security.capabilities)
    except MtadError as error:
        document.report(document.line(path), path, error.message, error.help)


def _check_listeners(settings: Settings, winners: dict[str, Document]) -> None:
    """Report what is wrong with the listeners as a whole."""
    document = winners["listeners"]
    # A profile that is there but broken has a problem of its own already.
    written = winners["profiles"].keys("profiles") if "profiles" in winners else []
    names = {DEFAULT_PROFILE, *written}
    for name, listener in settings.listeners.items():
        if listener.profile not in names | shipped.files().keys():
            path: KeyPath = ("listeners", name, "profile")
            others = ", ".join(shipped.files())
            hint = f"the profiles are {', '.join(sorted(names))}; with mtad come {others}"
            document.report(document.line(path), path, f"no profile {listener.profile!r}", hint)
        elif reason := _misfit(settings, listener):
            path = ("listeners", name, "protocol")
            hint = f"change tls in profiles.{listener.profile}, or name another profile"
            document.report(document.line(path), path, reason, hint)
    for name, reason in conflicts(settings.listeners, str(settings.control.socket)):
        path = ("listeners", name, "listen")
        document.report(document.line(path), path, reason, "disable one, or choose another port")


def _misfit(settings: Settings, listener: Listener) -> str:
    if listener.profile not in settings.all_profiles():
        return ""  # it is broken, and has a problem of its own
    profile = settings.profile(listener.profile)
    return misfit(Protocol(listener.protocol), listener.profile, profile)

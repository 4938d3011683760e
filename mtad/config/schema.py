"""The options of the configuration file: their types, defaults and documentation, once.

The reference in the documentation, the JSON schema and the checks all come from here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from mtad.config.profiles import Profile
from mtad.config.rules.schema import Rule
from mtad.config.stanza import Stanza
from mtad.config.values import (
    MAX_WORKERS,
    AbsolutePath,
    Account,
    Duration,
    Listen,
    LogTarget,
    Mode,
    Name,
    Principal,
    Seconds,
    Size,
    SocketPath,
    Switch,
    Text,
    Workers,
)
from mtad.log import Form
from mtad.model import profile
from mtad.model.automatic_tls import AutomaticTls
from mtad.model.endpoint import Endpoint, parse_endpoints

DEFAULT_PROFILE = "default"


class Security(Stanza):
    """Who the daemon is after the drop, and what it keeps.

    The sets are exclusive, not cumulative: what is not named is given up, once, before a socket
    is open. A reload does not change them.
    """

    user: Account | None = Field(
        None, description="The user to become; null to stay who started the daemon."
    )
    group: Account | None = Field(
        None, description="The group to become; null for the user's primary group."
    )
    supplemental_groups: list[Account] = Field(
        [], description="The supplementary groups to have; those of the user are not added."
    )
    capabilities: Text = Field(
        "",
        description="The capability sets to keep, as any text that cap_from_text(3) accepts; "
        "empty: nothing is kept.",
    )
    privileges: Text = Field(
        "",
        description="Privileges of Solaris, accepted so that one file serves everywhere; "
        "reported as not applicable on Linux.",
    )


class Listener(Stanza):
    """One endpoint, or a range of them."""

    listen: Listen = Field(
        description="Where to listen. An IP network makes one listener of each of its addresses, "
        "named NAME/ADDRESS."
    )
    protocol: Literal["smtp", "lmtp", "smtps"] = Field(
        "smtp",
        description="What is spoken: SMTP (RFC 5321), LMTP (RFC 2033), or SMTP in TLS from the "
        "first octet (RFC 8314).",
    )
    profile: Name = Field(
        DEFAULT_PROFILE, description="The profile that says how senders are treated."
    )
    backlog: int = Field(
        500,
        ge=1,
        le=65_535,
        description="How many connections may wait to be accepted (listen(2)).",
    )
    enabled: Switch = Field(True, description="Whether the listener starts with the daemon.")
    v6only: Switch = Field(
        True,
        description="Whether `[::]` leaves IPv4 alone (IPV6_V6ONLY, ipv6(7)); "
        "other endpoints do not look at it.",
    )
    mode: Mode = Field(
        "0660", description="The permission bits of a unix socket; others do not look at it."
    )

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the endpoints of this listener: one, or all of its range in order."""
        return parse_endpoints(self.listen, v6only=self.v6only, mode=int(self.mode, 8))


class Control(Stanza):
    """The control socket, and who may use it besides root."""

    socket: SocketPath = Field(
        Path("/run/mtad/control.sock"), description="The unix socket that mtactl talks to."
    )
    operate: list[Principal] = Field(
        [], description="Who may run every command: users, and groups as `@group`."
    )
    observe: list[Principal] = Field(
        [], description="Who may run the commands that change nothing: users, `@group`."
    )


class Retention(Stanza):
    """How much captured mail is kept. What is over goes, the oldest first; 0 is no limit."""

    age: Duration = Field(
        7 * 86_400,
        description="How long messages, sessions and their transcripts are kept (`7d`).",
    )
    size: Size = Field(
        10 * 2**30, description="How much room all that is kept may take on the disk (`10GiB`)."
    )
    messages: int = Field(0, ge=0, le=10**12, description="How many messages are kept.")


class Store(Stanza):
    """Where captured mail is kept."""

    directory: AbsolutePath = Field(
        Path("/var/lib/mtad"), description="A directory that the daemon's user can write."
    )
    durability: Literal["fsync", "os", "memory"] = Field(
        "fsync",
        description="When a message is answered 250: `fsync`, when it is on disk; `os`, when the "
        "kernel has it: it is lost if that stops, or the power; `memory`, at once: it is lost if "
        "its worker dies, and its id is not told.",
    )
    retention: Retention = Field(Retention())


class Log(Stanza):
    """The daemon's log."""

    target: LogTarget = Field("stdout", description="`stdout`, or a file, opened again on SIGHUP.")
    form: Form = Field(
        "auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important events that are logged."
    )


class Settings(Stanza):
    """A whole configuration. Stanzas without a description here have that of their class."""

    security: Security = Field(Security())
    listeners: dict[Name, Listener] = Field({}, description="The listeners, by name.")
    profiles: dict[Name, Profile] = Field(
        {},
        description="The profiles, by name; `default` need not be written, nor those that come "
        "with mtad (docs/profiles.md).",
    )
    rules: dict[Name, Rule] = Field(
        {}, description="Faults on purpose, by name, in the order in which they are asked."
    )
    control: Control = Field(Control())
    workers: Workers = Field(
        "auto", description="How many processes serve sessions; `auto`: one for each processor."
    )
    store: Store = Field(Store())
    log: Log = Field(Log())
    pid_file: AbsolutePath | None = Field(
        Path("/run/mtad/mtad.pid"), description="Where the process id is written; null: nowhere."
    )
    drain: Seconds = Field(
        30.0, description="How long sessions may finish their transaction when the daemon stops."
    )

    def worker_count(self) -> int:
        """Return how many workers there are to be; ``auto``: one for each usable processor."""
        if self.workers == "auto":
            return min(len(os.sched_getaffinity(0)), MAX_WORKERS)
        return self.workers

    def profile(self, name: str) -> profile.Profile:
        """Return the profile ``name``; KeyError if there is none (`load` has checked that)."""
        return self.all_profiles()[name].value(self.automatic_tls().key_pair)

    def all_profiles(self) -> dict[str, Profile]:
        """Return the profiles by name, `default` among them."""
        return {DEFAULT_PROFILE: Profile(), **self.profiles}

    def automatic_tls(self) -> AutomaticTls:
        """Return where the files of `tls: auto` are."""
        return AutomaticTls.of_store(self.store.directory)

"""What supervisor and worker say to each other; everything there is, in two short lists.

Messages travel as MessagePack over a socketpair (channel.py). The supervisor decodes nothing
beyond these types: a worker that has been taken over can lie about itself, and do nothing else.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from mtad.model.listener import Protocol
from mtad.model.profile import Profile
from mtad.model.rules.values import Rule

MAX_RULE_NAME = 131
"""Characters of the name of a rule: two names of the configuration, and a slash."""

MAX_HITS = 512
"""Rules that one message names: all of them with the longest names fit in one (channel.py)."""

_RuleName = Annotated[str, msgspec.Meta(max_length=MAX_RULE_NAME)]


class Place(msgspec.Struct, frozen=True):
    """What distinguishes one opening of a profile from another."""

    id: int
    slot: int
    listener: str
    protocol: Protocol
    profile_name: str


class Opening(Place, frozen=True):
    """One listening socket, from its bind to its close.

    A listener that is stopped and started has a new opening each time, so that sessions of the
    old one can end while the new one takes connections. ``slot`` is the listener's row in the
    worker's counters.
    """

    profile: Profile

    @property
    def place(self) -> Place:
        """What there is to it besides its profile."""
        return Place(self.id, self.slot, self.listener, self.protocol, self.profile_name)


# From the supervisor


class Setup(msgspec.Struct, frozen=True, tag=True):
    """The first message: what a worker needs to know before it can take a session."""

    worker: int
    store: str
    durability: str
    log_form: str
    log_level: str


class Open(msgspec.Struct, frozen=True, tag=True):
    """Accept connections on the sockets that come with this message, one for each place.

    The profile is theirs all: a thousand listeners of one profile share one in each worker.
    """

    profile: Profile
    places: tuple[Place, ...]

    @property
    def openings(self) -> tuple[Opening, ...]:
        """The openings, in the order of the sockets."""
        return tuple(
            Opening(**msgspec.structs.asdict(place), profile=self.profile) for place in self.places
        )


class Close(msgspec.Struct, frozen=True, tag=True):
    """Accept no more on these openings; end their sessions.

    Sessions may finish their transaction within ``grace`` seconds; 0 resets them at once.
    """

    openings: tuple[int, ...]
    grace: float


class Configure(msgspec.Struct, frozen=True, tag=True):
    """New sessions behave by what the opening is now; its id is that of an open one.

    A worker that cannot do so takes no new sessions on it: Refused.
    """

    opening: Opening


class LogLevel(msgspec.Struct, frozen=True, tag=True):
    """Log events of this level and above."""

    level: str


class ReopenLog(msgspec.Struct, frozen=True, tag=True):
    """The file that comes with this message is the log from now on."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End all sessions as Close does, then exit."""

    grace: float


class Try(msgspec.Struct, frozen=True, tag=True):
    """Can a profile have this handler? ``ticket`` is a number that is used once."""

    ticket: int
    handler: str


class Admitted(msgspec.Struct, frozen=True, tag=True):
    """The answer to Admit: "", or the limit (``sessions``) that is in the way."""

    ticket: int
    refused_by: str


class Retire(msgspec.Struct, frozen=True, tag=True):
    """Accept no more on these openings; their sessions go on until they end by themselves."""

    ticket: int
    openings: tuple[int, ...]


class SetRules(msgspec.Struct, frozen=True, tag=True):
    """The fault rules from now on, for sessions that begin, in the order in which they are asked.

    Those that are disabled or used up are left out. It comes before the first socket.
    """

    ticket: int
    rules: tuple[Rule, ...]


class Sync(msgspec.Struct, frozen=True, tag=True):
    """Say Done: all that was said before is so then."""

    ticket: int


class Weighed(msgspec.Struct, frozen=True, tag=True):
    """The answer to Weigh: the rule that fires, "" for none; ``draw`` is a number in [0, 1)."""

    ticket: int
    rule: str
    draw: float


# From a worker


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The worker has verified that it holds nothing, and can take sessions."""


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The worker takes connections on these openings."""

    openings: tuple[int, ...]


class Drained(msgspec.Struct, frozen=True, tag=True):
    """The last sessions of these openings have ended."""

    openings: tuple[int, ...]


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The worker takes no connections on these openings; ``reason`` is for people.

    Drained follows, when no sessions are left, or none were begun.
    """

    openings: tuple[int, ...]
    reason: Annotated[str, msgspec.Meta(max_length=200)]


class Tried(msgspec.Struct, frozen=True, tag=True):
    """The answer to Try: "", or why not."""

    ticket: int
    reason: Annotated[str, msgspec.Meta(max_length=200)]


class Admit(msgspec.Struct, frozen=True, tag=True):
    """May a session of ``peer`` begin? ``ticket`` is a number that the worker uses once."""

    ticket: int
    opening: int
    peer: Annotated[str, msgspec.Meta(max_length=64)]


class Left(msgspec.Struct, frozen=True, tag=True):
    """The session of a ticket has ended."""

    ticket: int


class StoreState(msgspec.Struct, frozen=True, tag=True):
    """Why the worker can keep no mail, from now on; "": it can again."""

    reason: Annotated[str, msgspec.Meta(max_length=200)]


class Done(msgspec.Struct, frozen=True, tag=True):
    """What the message with this ticket says is so, for whoever connects from now on."""

    ticket: int


class Hit(msgspec.Struct, frozen=True, array_like=True):
    """What a rule asks for is the case. ``key`` tells what has a count of its own apart.

    ``octets`` is the size of the message, where there is one.
    """

    rule: _RuleName
    key: Annotated[bytes, msgspec.Meta(max_length=16)]
    octets: Annotated[int, msgspec.Meta(ge=0, le=2**48)]


class Weigh(msgspec.Struct, frozen=True, tag=True):
    """Which of these fires? They are in the order of the rules; the first that does, decides."""

    ticket: int
    opening: int
    hits: Annotated[tuple[Hit, ...], msgspec.Meta(max_length=MAX_HITS)]


class Fired(msgspec.Struct, frozen=True, tag=True):
    """So many times has each of these rules fired, without a question."""

    counts: Annotated[
        dict[_RuleName, Annotated[int, msgspec.Meta(ge=1, le=2**32)]],
        msgspec.Meta(max_length=MAX_HITS),
    ]


FromSupervisor = (
    Setup
    | Open
    | Close
    | Configure
    | LogLevel
    | ReopenLog
    | Stop
    | Try
    | Admitted
    | Retire
    | SetRules
    | Sync
    | Weighed
)
FromWorker = (
    Hello | Opened | Drained | Refused | Tried | Admit | Left | StoreState | Done | Weigh | Fired
)

"""What the drop will do, decided before anything is changed: facts in, a plan or an error out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from mtad.errors import PreflightError
from mtad.privilege import accounts, preflight, risks
from mtad.privilege.capabilities import CapabilitySets, describe
from mtad.privilege.report import Expected
from mtad.privilege.situation import (
    ALL_LOCKS,
    CAP_SETGID,
    CAP_SETPCAP,
    CAP_SETUID,
    KEEP_CAPS,
    LOCKED_DOWN,
    NO_SETUID_FIXUP,
    Situation,
)
from mtad.privilege.steps import VERIFY, Step, choose

__all__ = ["Plan", "Request", "Situation", "explain", "make_plan"]


class Stanza(Protocol):
    """The ``security`` stanza; the configuration has one of this shape."""

    @property
    def user(self) -> str | int | None: ...
    @property
    def group(self) -> str | int | None: ...
    @property
    def supplemental_groups(self) -> Sequence[str | int]: ...
    @property
    def capabilities(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Request:
    """The ``security`` stanza, and the files that must be usable afterwards.

    ``user`` None: stay whoever started the program. ``group`` None: the user's primary group.
    ``readable`` and ``writable`` are paths that exist now; a directory must be searchable too.
    """

    user: str | int | None = None
    group: str | int | None = None
    supplemental_groups: tuple[str | int, ...] = ()
    capabilities: str = ""
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()

    @classmethod
    def of(
        cls, stanza: Stanza, readable: tuple[Path, ...] = (), writable: tuple[Path, ...] = ()
    ) -> Request:
        """Return what ``stanza`` asks for."""
        return cls(
            user=stanza.user,
            group=stanza.group,
            supplemental_groups=tuple(stanza.supplemental_groups),
            capabilities=stanza.capabilities,
            readable=readable,
            writable=writable,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, in order, and what must hold of every thread afterwards."""

    user: str
    group: str
    expected: Expected
    steps: tuple[Step, ...]
    warnings: tuple[str, ...]
    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    bounding_drop: int
    """What leaves the bounding set: a mask."""

    @property
    def uid(self) -> int:
        """The user id that all four ids become."""
        return self.expected.uid

    @property
    def gid(self) -> int:
        """The group id that all four ids become."""
        return self.expected.gid

    @property
    def expected_worker(self) -> Expected:
        """What a process without capabilities is to hold that starts after the drop."""
        return replace(self.expected, sets=CapabilitySets())

    @property
    def facts(self) -> dict[str, str]:
        """What will hold afterwards, in words."""
        expected, sets = self.expected, self.expected.sets
        groups = (accounts.group(gid)[1] for gid in sorted(expected.groups))
        return {
            "user": f"{self.user} ({expected.uid})",
            "group": f"{self.group} ({expected.gid})",
            "supplementary": ", ".join(groups) or "none",
            "permitted": describe(sets.permitted),
            "effective": describe(sets.effective),
            "inheritable": describe(sets.inheritable),
            "ambient": "none",
            "bounding": describe(expected.bounding),
            "securebits": f"{expected.securebits:#x}",
            "no_new_privs": "yes",
        }

    def describe(self) -> str:
        """Return the plan for a person, over several lines."""
        facts = [f"{name:14}{value}" for name, value in self.facts.items()]
        steps = [
            f"{number:4}. {step.call:32} {step.why}"
            for number, step in enumerate((*self.steps, VERIFY), 1)
        ]
        return "\n".join([*facts, "", "steps, in this order", *steps, *self._warning_lines()])

    def _warning_lines(self) -> list[str]:
        lines = [f"  - {warning}" for warning in self.warnings]
        return ["", "warnings", *lines] if lines else []


def make_plan(request: Request, situation: Situation) -> Plan:
    """Return how a process in ``situation`` becomes what ``request`` asks for.

    Raises:
        PreflightError: it cannot; the error names the option of the configuration.
        CapabilityTextError: ``request.capabilities`` cannot be read.
    """
    preflight.one_thread(situation)
    identity = preflight.identity(request.user, request.group, situation)
    groups = preflight.supplementary_groups(
        request.supplemental_groups, identity, situation, staying=request.user is None
    )
    sets = preflight.capability_sets(request.capabilities, situation)
    setpcap = situation.may(CAP_SETPCAP)
    bounding_drop = situation.bounding & ~sets.inheritable if setpcap else 0
    expected = Expected(
        uid=identity.uid,
        gid=identity.gid,
        groups=groups,
        sets=sets,
        bounding=situation.bounding & ~bounding_drop,
        securebits=_securebits(situation.securebits & ~KEEP_CAPS, setpcap),
    )
    # Leaving uid 0 empties the permitted set, unless one of two flags is set (capabilities(7)).
    keep_caps = (
        expected.sets.permitted != 0
        and 0 in situation.uids[:3]
        and expected.uid != 0
        and not expected.securebits & NO_SETUID_FIXUP
    )
    if keep_caps:
        preflight.can_keep_capabilities(expected.securebits)
    return Plan(
        user=identity.user,
        group=identity.group,
        expected=expected,
        steps=choose(
            setpcap=setpcap,
            keep_caps=keep_caps,
            groups=situation.may(CAP_SETGID),
            gid=situation.may(CAP_SETGID) or set(situation.gids) != {identity.gid},
            uid=situation.may(CAP_SETUID) or set(situation.uids) != {identity.uid},
        ),
        warnings=(
            *risks.of_what_is_kept(expected, situation),
            *risks.of_the_start(expected, situation),
        ),
        readable=request.readable,
        writable=request.writable,
        bounding_drop=bounding_drop,
    )


def explain(request: Request, situation: Situation) -> str:
    """Return the plan of a start as root, and how a start in ``situation`` would differ from it.

    Needs no privilege. Raises as make_plan() does, where neither start could do it.
    """
    root, here = (_attempt(request, start) for start in (Situation.of_root(), situation))
    if isinstance(root, PreflightError) and isinstance(here, PreflightError):
        raise root
    if isinstance(root, Plan) and isinstance(here, Plan):
        now = "\n".join(f"  - {difference}" for difference in _differences(root, here))
    else:
        now = _told(here)
    held = describe(situation.sets.permitted)
    return (
        f"started as root, with every capability\n\n{_told(root)}\n\n"
        f"started as now, as uid {situation.uids[1]} with {held}\n\n{now or '  the same'}"
    )


def _told(attempt: Plan | PreflightError) -> str:
    return attempt.describe() if isinstance(attempt, Plan) else f"  refused: {attempt}"


def _attempt(request: Request, situation: Situation) -> Plan | PreflightError:
    try:
        return make_plan(request, situation)
    except PreflightError as error:
        return error


def _differences(root: Plan, here: Plan) -> Iterator[str]:
    for name, value in here.facts.items():
        if root.facts[name] != value:
            yield f"{name} is {value}, not {root.facts[name]}"
    yield from (f"not done: {step}" for step in root.steps if step not in here.steps)
    yield from (f"done besides: {step}" for step in here.steps if step not in root.steps)
    yield from (warning for warning in here.warnings if warning not in root.warnings)


def _securebits(present: int, setpcap: bool) -> int:
    """Return the securebits to have: LOCKED_DOWN, but what is locked already stays."""
    if not setpcap:
        return present
    frozen = (present & ALL_LOCKS) >> 1
    return (LOCKED_DOWN & ~frozen) | (present & frozen) | (present & ALL_LOCKS)

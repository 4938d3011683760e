"""Plans for made-up situations: steps and their order, refusals, warnings."""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd
import re
from pathlib import Path
from typing import Any

import pytest

from mtad.errors import PreflightError
from mtad.privilege import drop, steps
from mtad.privilege.capabilities import CapabilitySets, every
from mtad.privilege.plan import Plan, Request, Situation, explain, make_plan

BIND = 1 << 10
SETGID, SETUID, SETPCAP = 1 << 6, 1 << 7, 1 << 8
ALL = every()
# A user that every system has (Debian policy 9.2.2).
DAEMON = pwd.getpwnam("daemon")

FULL = [
    "core_limit",
    "bounding_set",
    "securebits",
    "groups",
    "gid",
    "uid",
    "capabilities",
    "ambient",
    "no_new_privs",
    "dumpable",
]


def root(**changes: Any) -> Situation:
    return dataclasses.replace(Situation.of_root(), **changes)


def holding(mask: int) -> CapabilitySets:
    return CapabilitySets(mask, mask, 0)


def ordinary(uid: int = DAEMON.pw_uid, gid: int = DAEMON.pw_gid, **changes: Any) -> Situation:
    facts: dict[str, Any] = {
        "uids": (uid,) * 4,
        "gids": (gid,) * 4,
        "groups": (),
        "sets": CapabilitySets(),
    }
    return root(**{**facts, **changes})


def request(**changes: Any) -> Request:
    return Request(**{"user": "daemon", "capabilities": "cap_net_bind_service+ep", **changes})


def step_names(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps]


@pytest.mark.parametrize(
    ("situation", "expected_steps", "bounding", "securebits"),
    [
        pytest.param(root(), FULL, 0, 0xEF, id="root with all capabilities"),
        pytest.param(
            root(
                sets=holding(SETGID | SETUID | SETPCAP | BIND),
                bounding=SETGID | SETUID | SETPCAP | BIND,
            ),
            FULL,
            0,
            0xEF,
            id="root with just enough",
        ),
        pytest.param(
            root(sets=holding(ALL & ~SETPCAP), bounding=ALL & ~SETPCAP),
            [
                "core_limit",
                "keep_caps",
                "groups",
                "gid",
                "uid",
                "capabilities",
                "keep_caps_off",
                "ambient",
                "no_new_privs",
                "dumpable",
            ],
            ALL & ~SETPCAP,
            0,
            id="root without setpcap",
        ),
        pytest.param(
            ordinary(sets=CapabilitySets(BIND, BIND, BIND), ambient=BIND),
            ["core_limit", "capabilities", "ambient", "no_new_privs", "dumpable"],
            ALL,
            0,
            id="the user itself, ambient",
        ),
        pytest.param(
            root(securebits=0x2F),
            FULL,
            0,
            0xEF,
            id="root under some securebits",
        ),
        pytest.param(
            root(securebits=0x80),
            FULL,
            0,
            0xAF,
            id="ambient raise is locked open already",
        ),
        pytest.param(
            ordinary(uids=(DAEMON.pw_uid, 0, 0, 0), sets=holding(BIND)),
            [
                "core_limit",
                "keep_caps",
                "uid",
                "capabilities",
                "keep_caps_off",
                "ambient",
                "no_new_privs",
                "dumpable",
            ],
            ALL,
            0,
            id="a setuid start, back to the real user",
        ),
    ],
)
def test_start_modes(
    situation: Situation, expected_steps: list[str], bounding: int, securebits: int
) -> None:
    plan = make_plan(request(), situation)
    assert step_names(plan) == expected_steps
    assert plan.expected.sets == holding(BIND)
    assert (plan.expected.bounding, plan.expected.securebits) == (bounding, securebits)
    assert (plan.uid, plan.gid, plan.expected.groups) == (DAEMON.pw_uid, DAEMON.pw_gid, frozenset())


def test_without_capabilities_an_ordinary_start_is_fine() -> None:
    plan = make_plan(request(capabilities=""), ordinary())
    assert plan.expected.sets == CapabilitySets()


def test_nothing_to_keep_needs_no_keep_caps() -> None:
    situation = root(sets=holding(ALL & ~SETPCAP))
    assert "keep_caps" not in step_names(make_plan(request(capabilities=""), situation))


def test_inheritable_capabilities_stay_in_the_bounding_set() -> None:
    plan = make_plan(request(capabilities="cap_net_bind_service+eip"), root())
    assert plan.expected.bounding == BIND
    assert plan.bounding_drop == ALL & ~BIND


def test_what_a_worker_is_to_hold_is_nothing() -> None:
    plan = make_plan(request(), root())
    assert plan.expected_worker == dataclasses.replace(plan.expected, sets=CapabilitySets())


@pytest.mark.parametrize(
    ("changes", "situation", "parts"),
    [
        ({"user": None}, root(), ["security.user: none is named", "user: root if you mean it"]),
        ({"user": "nobody-of-that-name"}, root(), ["security.user: there is no user", "useradd"]),
        ({"user": "a\0b"}, root(), ["security.user: there is no user 'a\\x00b'"]),
        ({"user": 2**32 - 1}, root(), ["security.user: 4294967295 is no id"]),
        ({"user": -1}, root(), ["security.user: -1 is no id"]),
        ({"user": "4294967295"}, root(), ["security.user: 4294967295 is no id"]),
        ({"user": 3_999_999_999}, root(), ["security.group: uid 3999999999 is not in the user"]),
        ({"group": "no-such-group"}, root(), ["security.group: there is no group", "groupadd"]),
        (
            {"supplemental_groups": ("no-such-group",)},
            root(),
            ["security.supplemental_groups: there is no group"],
        ),
        (
            {},
            ordinary(uid=4321, gid=4321),
            ["security.user: only a process with cap_setuid becomes daemon", "uid 4321", "User="],
        ),
        (
            {},
            root(sets=holding(ALL & ~SETUID)),
            ["security.user: only a process with cap_setuid", "--cap-add=SETUID,SETGID"],
        ),
        (
            {"group": 4321, "capabilities": ""},
            ordinary(),
            ["security.group: only a process with cap_setgid takes the group 4321", "Group="],
        ),
        (
            {"supplemental_groups": (4321,), "capabilities": ""},
            ordinary(),
            ["security.supplemental_groups: this process is not in 4321"],
        ),
        (
            {"capabilities": ""},
            ordinary(groups=(4321, DAEMON.pw_gid)),
            ["security.supplemental_groups: this process is in 4321 (4321) as well"],
        ),
        (
            {},
            ordinary(),
            [
                "security.capabilities: this process lacks cap_net_bind_service;",
                "its bounding set would allow it",
                "--cap-add=NET_BIND_SERVICE",
                "AmbientCapabilities=CAP_NET_BIND_SERVICE",
                "setpriv",
            ],
        ),
        (
            {"capabilities": "cap_net_bind_service,cap_sys_resource+ep"},
            root(sets=holding(ALL & ~(1 << 24)), bounding=ALL & ~(1 << 24)),
            [
                "this process lacks cap_sys_resource, and so does its bounding set",
                "--cap-drop",
                "CapabilityBoundingSet=",
                "--cap-add=SYS_RESOURCE",
            ],
        ),
        (
            {"capabilities": "cap_net_bind_service,cap_sys_resource+ep"},
            ordinary(bounding=ALL & ~(1 << 24)),
            [
                "lacks cap_sys_resource, and so does its bounding set",
                "lacks cap_net_bind_service; its bounding set would allow it",
            ],
        ),
        (
            {"capabilities": "cap_net_bind_service+e"},
            root(),
            ["makes cap_net_bind_service effective without permitting it"],
        ),
        (
            {"capabilities": "cap_chown+i"},
            root(sets=holding(ALL & ~1), bounding=ALL & ~1),
            ["cap_chown cannot be made inheritable here"],
        ),
        (
            {"capabilities": "cap_chown+i"},
            ordinary(),
            ["cap_chown cannot be made inheritable here"],
        ),
        ({}, root(threads=3), ["this process has 3 threads", "drop before anything"]),
        (
            {},
            root(sets=holding(ALL & ~SETPCAP), securebits=0x20),
            ["the securebits (0x20) are locked so that leaving uid 0 loses every capability"],
        ),
    ],
)
def test_refuses(changes: dict[str, Any], situation: Situation, parts: list[str]) -> None:
    with pytest.raises(PreflightError) as caught:
        make_plan(request(**changes), situation)
    for part in parts:
        assert part in str(caught.value)


def test_setgroups_gives_exactly_the_groups_named() -> None:
    tty = grp.getgrnam("tty").gr_gid
    plan = make_plan(request(supplemental_groups=("tty", 4321)), root(groups=(0, 1, 2)))
    assert plan.expected.groups == {tty, 4321}


def test_who_stays_and_may_not_leave_its_groups_keeps_them_and_is_told() -> None:
    plan = make_plan(Request(), ordinary(groups=(4321,)))
    assert plan.expected.groups == {4321}
    assert any("supplementary groups stay" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("changes", "situation", "parts"),
    [
        ({}, root(), []),
        (
            {"user": "root"},
            root(),
            [
                "user: root still owns the system's files",
                "exclusive, not cumulative: this root keeps cap_net_bind_service, and loses",
                "cannot read or write the files of other users",
            ],
        ),
        (
            {"capabilities": "=ep cap_sys_resource-ep"},
            root(),
            ["as good as root", "cap_setuid (becomes any user)", "cap_sys_admin"],
        ),
        (
            {},
            root(sets=holding(ALL & ~SETPCAP), bounding=ALL & ~SETPCAP),
            [
                "the bounding set stays as it is, for want of cap_setpcap: all but cap_setpcap",
                "the securebits stay 0x0",
            ],
        ),
        ({}, root(securebits=0x80), ["some securebits are locked already: they become 0xaf"]),
    ],
)
def test_warns(changes: dict[str, Any], situation: Situation, parts: list[str]) -> None:
    warnings = make_plan(request(**changes), situation).warnings
    for part in parts:
        assert any(part in warning for warning in warnings)
    assert bool(warnings) == bool(parts)


def test_every_step_of_the_order_has_an_action() -> None:
    assert list(drop.STEPS) == [step.name for step in steps.ORDER]


def test_the_documentation_has_the_same_order() -> None:
    text = (Path(__file__).parents[3] / "docs" / "privileges.md").read_text()
    table = text.partition("## The order")[2].partition("## How it can be started")[0]
    calls = [step.call for step in steps.ORDER if step.name in FULL]
    words = [re.findall(r"PR_\w+|RLIMIT_\w+|\w+(?=\(\))", call)[-1] for call in calls]
    rows = [line for line in table.splitlines() if re.match(r"\| \d", line)]
    assert [word in row for word, row in zip(words, rows, strict=False)] == [True] * len(words)


def test_explains_the_start_as_root_and_the_present_one() -> None:
    text = explain(request(), ordinary())
    first, _, second = text.partition("started as now")
    assert "permitted     cap_net_bind_service" in first
    assert [first.index(step.call) for step in steps.ORDER if step.name in FULL] == sorted(
        first.index(step.call) for step in steps.ORDER if step.name in FULL
    )
    assert "refused: security.capabilities: this process lacks cap_net_bind_service" in second


def test_explains_what_the_present_start_leaves_out() -> None:
    text = explain(request(), root(sets=holding(ALL & ~SETPCAP)))
    second = text.partition("started as now")[2]
    assert "not done: prctl(PR_SET_SECUREBITS)" in second
    assert "done besides: prctl(PR_SET_KEEPCAPS, 1)" in second
    assert "securebits is 0x0, not 0xef" in second


def test_explains_that_root_needs_a_user_and_goes_on() -> None:
    text = explain(Request(), ordinary())
    assert "refused: security.user: none is named" in text
    assert f"daemon ({DAEMON.pw_uid})" in text


def test_explains_nothing_where_no_start_would_do() -> None:
    with pytest.raises(PreflightError, match="there is no user"):
        explain(request(user="nobody-of-that-name"), ordinary())


def test_reads_the_present_situation() -> None:
    here = Situation.here()
    assert here.uids[:3] == os.getresuid()
    assert here.gids[:3] == os.getresgid()
    assert sorted(here.groups) == sorted(os.getgroups())

"""Who may do what at the control socket."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from mtad.control.grammar import Role
from mtad.control.peer import Caller
from mtad.errors import PreflightError
from mtad.supervisor.roles import Roles

ALL, OBSERVE, NONE = frozenset(Role), frozenset({Role.OBSERVE}), frozenset[Role]()
STRANGER = 4_000_000_000


def caller(uid: int = STRANGER, gid: int = STRANGER, *groups: int) -> Caller:
    return Caller(pid=1, uid=uid, gid=gid, groups=frozenset(groups), name=str(uid))


def test_root_and_the_daemons_user_may_do_everything() -> None:
    roles = Roles([], [])
    assert roles(caller(0)) == roles(caller(os.getuid())) == ALL
    assert roles(caller()) == roles(caller(STRANGER, 0, 0)) == NONE
    assert roles.socket_mode == 0o660


def test_where_something_is_retained_the_daemons_user_may_look_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1234)
    roles = Roles([], [], retained=True)
    assert roles(caller(0)) == ALL
    assert roles(caller(1234)) == OBSERVE
    assert roles(caller()) == NONE
    assert roles.socket_mode == 0o666
    assert Roles([1234], [], retained=True)(caller(1234)) == Roles([], [])(caller(1234)) == ALL


@pytest.mark.parametrize(
    ("principal", "asks"),
    [
        (1234, caller(1234)),
        ("1234", caller(1234)),
        (pwd.getpwuid(1).pw_name, caller(1)),
        ("@1234", caller(STRANGER, 1234)),
        ("@1234", caller(STRANGER, STRANGER, 5, 1234)),
        ("@" + grp.getgrgid(1).gr_name, caller(STRANGER, 1)),
    ],
)
def test_principals(principal: str | int, asks: Caller) -> None:
    observing, operating = Roles([], [principal]), Roles([principal], [])
    assert observing(asks) == OBSERVE
    assert operating(asks) == ALL
    assert observing(caller()) == operating(caller()) == NONE
    assert observing.socket_mode == 0o666
    assert operating.socket_mode == 0o666


def test_a_user_id_is_not_a_group_id() -> None:
    assert Roles([1234], [])(caller(STRANGER, 1234, 1234)) == NONE
    assert Roles(["@1234"], [])(caller(1234)) == NONE


def test_roles_add_up_and_none_is_taken_away() -> None:
    assert Roles([1234], [1234])(caller(1234)) == ALL
    assert Roles([], [0, os.getuid()])(caller(0)) == ALL
    assert Roles(["@7"], [1234])(caller(1234, 7)) == ALL
    assert Roles(["@7"], [1234])(caller(1234)) == OBSERVE


@pytest.mark.parametrize(
    ("operate", "observe", "says"),
    [
        (["nobody-of-that-name"], [], "control.operate: this machine has no user 'nobody-of-th"),
        ([], ["@nobody-of-that-name"], "control.observe: this machine has no group 'nobody-of-t"),
        (["@"], [], "control.operate: this machine has no group ''"),
        (["-1"], [], "control.operate: this machine has no user '-1'"),
    ],
)
def test_names_of_nobody(operate: list[str | int], observe: list[str | int], says: str) -> None:
    with pytest.raises(PreflightError, match="groups are written @group") as caught:
        Roles(operate, observe)
    assert caught.value.message.startswith(says)

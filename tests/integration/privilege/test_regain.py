"""What was given up cannot be had again: tried by the process itself, from its own thread."""

from __future__ import annotations

import errno
import pwd

import pytest
from harness.privilege_battery import ATTEMPTS, NEED_SETPCAP, Workshop, attempt, bind, gains
from harness.privilege_subject import subject
from harness.privilege_tracer import traced
from harness.privilege_witness import held

pytestmark = [pytest.mark.root, pytest.mark.netns, pytest.mark.usefixtures("ecuser")]

ONE = "cap_net_bind_service+ep"
CLONE_NEWUSER = 0x10000000


@pytest.mark.parametrize("act", ["drop", "renounce", "both"])
@pytest.mark.parametrize("user", ["ecuser", "root"])
def test_nothing_is_regained_after_a_start_as_root(act: str, user: str, shop: Workshop) -> None:
    with subject("root", act=act, user=user, capabilities=ONE) as daemon:
        assert gains(daemon.pid, shop) == {}


@pytest.mark.parametrize(
    ("start", "order", "open_still"),
    [
        ("root_without_setpcap", {"act": "drop", "capabilities": ONE}, NEED_SETPCAP),
        ("root_without_setpcap", {"act": "both", "capabilities": ONE}, {"keep_caps"}),
        ("root_without_setpcap", {"act": "renounce"}, {"keep_caps"}),
        ("ecuser_ambient", {"act": "drop", "capabilities": ONE}, NEED_SETPCAP),
        ("ecuser_ambient", {"act": "both", "capabilities": ONE}, {"keep_caps"}),
        ("ecuser_nothing", {"act": "drop"}, {"keep_caps"}),
        ("ecuser_nothing", {"act": "renounce"}, {"keep_caps"}),
    ],
)
def test_a_lesser_start_leaves_open_only_what_yields_nothing_new(
    start: str, order: dict[str, str], open_still: set[str], shop: Workshop
) -> None:
    """Without cap_setpcap nobody can lock KEEP_CAPS, or forbid passing on what is held anyway."""
    with subject(start, user="ecuser", **order) as daemon:
        assert set(gains(daemon.pid, shop)) == open_still


@pytest.mark.parametrize("name", [*sorted(ATTEMPTS.keys() - {"kept_caps"}), "look_into"])
def test_each_attempt_succeeds_before_the_drop(name: str, shop: Workshop) -> None:
    """The control: an attempt that always fails would prove nothing.

    kept_caps has its own: the mutation that leaves KEEP_CAPS on.
    """
    start = "ecuser_nothing" if name in {"look_into", "setuid_program"} else "root"
    with subject(start, act="nothing") as daemon:
        assert attempt(name, daemon.pid, shop)


def test_an_ambient_capability_is_what_a_plain_program_gets(
    ecuser: pwd.struct_passwd, shop: Workshop
) -> None:
    with subject("ecuser_ambient", act="nothing") as daemon:
        assert attempt("plain_program", daemon.pid, shop) == "capabilities 0x400"


def test_root_without_setpcap_gets_back_at_exec_what_it_held_until_it_renounces(
    shop: Workshop,
) -> None:
    """Why a worker renounces before anything else, whoever it is."""
    order = {"user": "root", "capabilities": ONE}
    with subject("root_without_setpcap", **order) as daemon:
        assert attempt("plain_program", daemon.pid, shop) == "capabilities 0x400"
    with subject("root_without_setpcap", act="both", **order) as daemon:
        assert attempt("plain_program", daemon.pid, shop) == ""


def test_the_limit_a_user_namespace_gives_everything_but_over_itself_alone() -> None:
    """What only seccomp or systemd's RestrictNamespaces= stops, as docs/privileges.md says."""
    with subject("root", act="both", user="ecuser", capabilities=ONE) as daemon:
        with traced(daemon.pid) as thread:
            assert thread.call("unshare", CLONE_NEWUSER) == 0
        assert held(daemon.pid).effective != 0
        assert bind(daemon.pid, 25) == errno.EACCES

"""The drop: rehearsed in a child, done step by step, and verified before anything else happens."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import prctl

from mtad.errors import PreflightError, PrivilegeError, VerificationError
from mtad.privilege import access, capabilities
from mtad.privilege.capabilities import CapabilitySets
from mtad.privilege.child import in_child
from mtad.privilege.plan import Plan, Request, Situation, make_plan
from mtad.privilege.report import inspect, judge, tracer_of

# linux/prctl.h; python-prctl has no ambient set and refuses the newer securebits.
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_libc = ctypes.CDLL(None, use_errno=True)

STEPS: dict[str, Callable[[Plan], None]] = {
    "core_limit": lambda plan: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    "bounding_set": lambda plan: capabilities.drop_from_bounding_set(plan.bounding_drop),
    "securebits": lambda plan: _prctl(_PR_SET_SECUREBITS, plan.expected.securebits),
    "keep_caps": lambda plan: prctl.set_keepcaps(1),
    "groups": lambda plan: os.setgroups(sorted(plan.expected.groups)),
    "gid": lambda plan: os.setresgid(plan.gid, plan.gid, plan.gid),
    "uid": lambda plan: os.setresuid(plan.uid, plan.uid, plan.uid),
    "capabilities": lambda plan: capabilities.apply(plan.expected.sets),
    "keep_caps_off": lambda plan: prctl.set_keepcaps(0),
    "ambient": lambda plan: _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL),
    "no_new_privs": lambda plan: prctl.set_no_new_privs(1),
    "dumpable": lambda plan: prctl.set_dumpable(0),
}
"""What each step of a plan does; the order and the reasons are in mtad.privilege.steps."""

# What raised() goes back to: set by drop() where something is permitted but not effective.
_resting: CapabilitySets | None = None


def drop(plan: Plan) -> None:
    """Become what ``plan`` says, for good, and prove it. Call it once, before any thread exists.

    A child rehearses it first, so that a step that fails, or a file that is out of reach
    afterwards, is found while nothing has been changed yet.

    Raises:
        PreflightError: the rehearsal failed; this process is as it was.
        PrivilegeError: a step failed: the process is half way, and must end.
        VerificationError: a thread holds something else than planned: the process must end.
    """
    found = rehearse(plan, lambda: list(access.obstacles(plan.readable, plan.writable)))
    if found:
        asked, reason, hint = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise PreflightError(f"security.user: as {plan.user}, {asked}: {reason}{more}", help=hint)
    _take_steps(plan)
    verify(plan)
    _rest(plan)


def rehearse(plan: Plan, work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns in a forked child that has taken the steps of ``plan``.

    It is anything that JSON can hold. This process stays as it was.

    Raises:
        PreflightError: a step failed, or ``work`` raised an MtadError.
    """

    def work_after_steps() -> Any:
        _take_steps(plan)
        _rest(plan)
        return work()

    return in_child(work_after_steps)


def renounce() -> None:
    """Give up every capability that the start left, and every way to one; what a worker does first.

    User and groups stay what they are. Raises as drop() does; the process must end then: also when
    somebody had begun to trace it before it was not dumpable, and not its parent, too.
    """
    situation = Situation.here()
    plan = make_plan(
        Request(
            user=situation.uids[1],
            group=situation.gids[1],
            supplemental_groups=situation.groups,
        ),
        situation,
    )
    _take_steps(plan)
    verify(plan)
    tracer = tracer_of("self")
    if tracer and tracer != tracer_of(os.getppid()):
        raise VerificationError(f"process {tracer} traces this one, and not its parent")


def verify(plan: Plan) -> None:
    """Read back from the kernel what every thread holds.

    Raises:
        VerificationError: something differs from ``plan``; the message has all of it.
    """
    if wrong := judge(inspect(os.getpid()), plan.expected):
        raise VerificationError(f"the drop did not take effect: {'; '.join(wrong)}")


@contextmanager
def raised() -> Iterator[None]:
    """Within, what is permitted is effective too; for a bind(2) under ``cap_net_bind_service+p``.

    The sets are the thread's: there must be no ``await`` inside. Where all that is permitted is
    effective anyway, it does nothing.
    """
    if _resting is None:
        yield
        return
    permitted, inheritable = _resting.permitted, _resting.inheritable
    capabilities.apply(CapabilitySets(permitted, permitted, inheritable))
    try:
        yield
    finally:
        capabilities.apply(_resting)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, process ``parent``, ends.

    Call it after the drop or renounce(): a change of uid clears it (PR_SET_PDEATHSIG, prctl(2)).
    """
    prctl.set_pdeathsig(signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel knew
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of what a child leaves behind when it ends (PR_SET_CHILD_SUBREAPER)."""
    prctl.set_child_subreaper(1)


def _rest(plan: Plan) -> None:
    """Note what raised() goes back to."""
    global _resting
    sets = plan.expected.sets
    _resting = sets if sets.effective != sets.permitted else None


def _take_steps(plan: Plan) -> None:
    for step in plan.steps:
        try:
            STEPS[step.name](plan)
        except OSError as error:
            raise PrivilegeError(
                f"step {step.name} of the drop: {step.call}: {error.strerror}",
                help=_help_for(step.name),
            ) from error


def _help_for(step: str) -> str:
    if step in {"groups", "gid", "uid"}:
        return (
            "in a user namespace the id must be mapped (/proc/self/uid_map, gid_map) and setgroups "
            "allowed (/proc/self/setgroups)"
        )
    return "a seccomp filter or a security module may forbid the call: see `mtad doctor`"


def _prctl(option: int, argument: int) -> None:
    # prctl(2) is variadic and wants its unused arguments to be 0, as unsigned long.
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

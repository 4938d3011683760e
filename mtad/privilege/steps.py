"""The steps of the drop in the one order that works, and when each is taken.

The order follows from what each step needs: cap_setpcap for the bounding set and the securebits,
cap_setgid for the groups, cap_setuid for the uid; capset(2) takes all three away.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name, the call it makes, and why."""

    name: str
    call: str
    why: str
    when: str = ""
    """The condition under which it is taken (a keyword of choose()); empty: always."""

    def __str__(self) -> str:
        return f"{self.call}: {self.why}"


ORDER = (
    Step("core_limit", "setrlimit(RLIMIT_CORE, 0)", "no core file with mail in it, past any exec"),
    Step(
        "bounding_set",
        "prctl(PR_CAPBSET_DROP, each)",
        "no exec can gain a capability from a file",
        when="setpcap",
    ),
    Step(
        "securebits",
        "prctl(PR_SET_SECUREBITS)",
        "uid 0 means nothing, the sets survive the change of uid, all locked",
        when="setpcap",
    ),
    Step(
        "keep_caps",
        "prctl(PR_SET_KEEPCAPS, 1)",
        "the permitted set survives leaving root",
        when="keep_caps",
    ),
    Step("groups", "setgroups()", "while cap_setgid is there", when="groups"),
    Step("gid", "setresgid()", "real, effective and saved; before the uid goes", when="gid"),
    Step("uid", "setresuid()", "real, effective and saved", when="uid"),
    Step("capabilities", "capset()", "exactly the configured sets"),
    Step(
        "keep_caps_off",
        "prctl(PR_SET_KEEPCAPS, 0)",
        "a later change of uid keeps nothing",
        when="keep_caps",
    ),
    Step("ambient", "prctl(PR_CAP_AMBIENT_CLEAR_ALL)", "no exec passes a capability on"),
    Step("no_new_privs", "prctl(PR_SET_NO_NEW_PRIVS)", "setuid and capability files gain nothing"),
    Step("dumpable", "prctl(PR_SET_DUMPABLE, 0)", "no ptrace by the same user, no core"),
)

VERIFY = Step(
    "verify", "read /proc/self/task/*/status", "every thread holds exactly that, or it ends here"
)


def choose(**conditions: bool) -> tuple[Step, ...]:
    """Return the steps to take, in order."""
    return tuple(step for step in ORDER if not step.when or conditions[step.when])

"""Who the daemon is to become, with which capabilities, and whether the drop gets it there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mtad.cli.doctor import surroundings
from mtad.cli.doctor.finding import CannotLookError, Finding, Level, ok, problem, warning
from mtad.cli.doctor.start import Start
from mtad.errors import PreflightError, PrivilegeError
from mtad.model.endpoint import TcpEndpoint
from mtad.privilege import accounts, capabilities, preflight
from mtad.privilege.bind import unprivileged_port_start
from mtad.privilege.capabilities import describe
from mtad.privilege.drop import rehearse
from mtad.privilege.report import inspect
from mtad.privilege.situation import CAP_NET_BIND_SERVICE

_SYSCTL = "net.ipv4.ip_unprivileged_port_start"
_SMTP_PORT = 25

_SECCOMP = ("no seccomp filter", "strict seccomp", "a seccomp filter is in force")
_APPARMOR = Path("/sys/module/apparmor")
_SELINUX = Path("/sys/fs/selinux/enforce")
_LABEL = Path("/proc/self/attr/current")


def user(start: Start) -> Iterator[Finding]:
    """Look for the accounts of the configuration, and at the right to become them."""
    request, situation = start.request, start.situation
    try:
        identity = preflight.identity(request.user, request.group, situation)
        groups = preflight.supplementary_groups(
            request.supplemental_groups, identity, situation, staying=request.user is None
        )
    except PreflightError as error:
        remedies = [error.help]
        if not start.by_root and accounts_exist(start):
            remedies.insert(0, f"sudo {start.command('run')}")
        yield problem(error.message, "the drop is refused, and nothing is opened", *remedies)
    else:
        listed = ", ".join(accounts.group(gid)[1] for gid in sorted(groups)) or "none"
        yield ok(
            f"{identity.user} ({identity.uid}), group {identity.group} ({identity.gid}), "
            f"supplementary groups: {listed}"
        )
    control = start.configuration.settings.control
    for option, principals in (
        ("control.operate", control.operate),
        ("control.observe", control.observe),
    ):
        for principal in principals:
            if unknown := _unknown(principal, option):
                why = "the daemon cannot tell who has which role, and does not start"
                remedy = f"take it out of {option} in {start.files}"
                yield problem(unknown.message, why, unknown.help, remedy)


def accounts_exist(start: Start) -> bool:
    """Whether the user and the group that are configured exist."""
    request = start.request
    try:
        if request.user is not None:
            accounts.user(request.user)
        if request.group is not None:
            accounts.group(request.group)
    except PreflightError:
        return False
    return True


def _unknown(principal: str | int, option: str) -> PreflightError | None:
    name = str(principal)
    try:
        if name.startswith("@"):
            accounts.group(name[1:], option)
        else:
            accounts.user(name, option)
    except PreflightError as error:
        return error
    return None


def capability(start: Start) -> Iterator[Finding]:
    """See whether this start has the capabilities that are to be retained, or who took them."""
    text, situation = start.request.capabilities, start.situation
    try:
        sets = preflight.capability_sets(text, situation)
    except PreflightError as error:
        missing = capabilities.parse(text).permitted & ~situation.sets.permitted
        if not missing:
            yield problem(error.message, "the drop is refused", error.help)
            return
        barred = missing & ~situation.bounding
        yield problem(
            f"{error.message}; {surroundings.who_took(barred)}" if barred else error.message,
            "the drop is refused: the daemon keeps exactly what is configured, or does not start",
            *surroundings.how_to_give(missing, start.command("run")),
            f"in {start.files}: take {describe(missing)} out of security.capabilities"
            + (", and listen on ports that need none" if missing & CAP_NET_BIND_SERVICE else ""),
        )
    else:
        yield ok(f"{describe(sets.permitted)} permitted, {describe(sets.effective)} effective")


def privileged_ports(start: Start) -> Iterator[Finding]:
    """Compare the ports of the listeners with those that need cap_net_bind_service."""
    first = unprivileged_port_start()
    endpoints = [spec.endpoint for spec in start.configuration.listeners() if spec.enabled]
    wanted = sorted({one.port for one in endpoints if isinstance(one, TcpEndpoint) and one.port})
    reserved = [port for port in wanted if port < first]
    retained = capabilities.parse(start.request.capabilities).permitted & CAP_NET_BIND_SERVICE
    rule = f"{_SYSCTL} is {first}: ports below it need cap_net_bind_service"
    if reserved and not retained:
        yield problem(
            f"{rule}, and the configuration does not retain it",
            f"port {reserved[0]} could not be bound after the drop",
            f'security.capabilities: "cap_net_bind_service+ep" in {start.files}',
        )
    elif retained and first <= _SMTP_PORT:
        yield warning(
            f"{_SYSCTL} is {first}: any process may bind port {_SMTP_PORT}",
            "the retained capability is not needed and nothing here can prove it, and another "
            "program can take the port while a listener is stopped",
            f"sysctl -w {_SYSCTL}=1024",
            f"in a container: podman run --sysctl {_SYSCTL}=1024 …",
        )
    else:
        yield ok(f"{rule}; wanted: {', '.join(map(str, reserved)) or 'none'}")


def drop(start: Start) -> Iterator[Finding]:
    """Take every step of the drop, in a child."""
    if start.plan is None:
        told = [*user(start), *capability(start)]
        if start.refusal is None or any(finding.level is Level.PROBLEM for finding in told):
            raise CannotLookError("not rehearsed: it is refused for what is said above")
        yield problem(start.refusal.message, "the drop is refused", start.refusal.help)
        return
    try:
        rehearse(start.plan, lambda: None)
    except PrivilegeError as error:
        yield problem(
            f"the rehearsal failed: {error.message}",
            "the daemon does not start half dropped",
            error.help,
            surroundings.HOW_TO_SEE_DENIALS,
        )
        return
    # no_new_privs takes nothing from a start: only a file's capabilities or setuid need it unset.
    already = "no_new_privs is set already; " if start.situation.no_new_privs else ""
    yield ok(f"every step works here ({already}securebits are {start.situation.securebits:#x})")
    for text in start.plan.warnings:
        yield warning(text, "the daemon runs, with more than it needs")


def confinement(start: Start) -> Iterator[Finding]:
    """Look at what else may forbid a system call: seccomp, AppArmor, SELinux, namespaces."""
    (thread, *_) = inspect(os.getpid()).threads
    found = [_SECCOMP[thread.seccomp], *_modules()]
    if where := surroundings.container():
        found.append(f"in a container ({where})")
    if unit := surroundings.unit():
        found.append(f"started by {unit}")
    if surroundings.in_user_namespace():
        found.append("in a user namespace: its capabilities count for what belongs to it alone")
    yield ok("; ".join(found))


def _modules() -> Iterator[str]:
    label = _label()
    if _SELINUX.exists():
        mode = "enforcing" if _SELINUX.read_text().strip() == "1" else "permissive"
        yield f"SELinux {mode}, as {label or 'nothing'}"
    elif _APPARMOR.exists():
        yield f"AppArmor profile: {label or 'none'}"
    else:
        yield "neither AppArmor nor SELinux"


def _label() -> str:
    try:
        return _LABEL.read_text("utf-8", "backslashreplace").rstrip("\0\n")
    except OSError:  # no module answers
        return ""

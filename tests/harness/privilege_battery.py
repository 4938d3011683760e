"""Attempts to regain privilege, made by the very process that gave it up.

Each attempt is carried out by a thread of the process under test, stopped by the tracer. It
answers what was gained, or the empty text where the kernel refused. An attempt is worth something
only where it succeeds before the drop: the tests make it there first.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.privilege_tracer import Tracee, traced
from harness.privilege_witness import Held, held, parse_status, readable_by_same_user

# linux/prctl.h
_GET_KEEPCAPS, _SET_KEEPCAPS, _SET_SECUREBITS = 7, 8, 28
_AMBIENT, _AMBIENT_RAISE, _AMBIENT_LOWER = 47, 2, 3
_RLIMIT_CORE = 4
_CAP_VERSION_3 = 0x20080522
_CAP_NET_BIND_SERVICE = 10
NOBODY = 65534

_numbers = itertools.count()


@dataclass(frozen=True)
class Workshop:
    """A directory with what the attempts need: programs that give privilege, files of others."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> Workshop:
        """Fill ``directory``; its parents must be open to everyone, and not mounted nosuid."""
        directory.chmod(0o755)
        shop = cls(directory)
        # cp copies its own /proc/self/status: it tells what it was given by exec.
        cp = shutil.which("cp")
        assert cp is not None
        for name in ("plain", "file_capabilities", "setuid_0", f"setuid_{NOBODY}"):
            shutil.copy(cp, directory / name)
            (directory / name).chmod(0o755)
        subprocess.run(
            ["setcap", "cap_setuid,cap_dac_override+ep", directory / "file_capabilities"],
            check=True,
        )
        for owner in (0, NOBODY):
            os.chown(directory / f"setuid_{owner}", owner, owner)
            (directory / f"setuid_{owner}").chmod(0o4755)
            for name, mode in ((f"user_{owner}", 0o600), (f"group_{owner}", 0o040)):
                (directory / name).write_text("secret\n")
                os.chown(directory / name, owner, owner)
                (directory / name).chmod(mode)
        (directory / "out").mkdir()
        (directory / "out").chmod(0o777)
        return shop

    def run(self, thread: Tracee, program: str) -> Held | None:
        """What ``program`` holds when ``thread`` runs it; None where exec is refused."""
        out = self.directory / "out" / str(next(_numbers))
        try:
            status = thread.run(str(self.directory / program), "/proc/self/status", str(out))
        except PermissionError:
            return None
        assert status == 0, f"{program} ended with {status}"
        return parse_status(out.read_text())


@dataclass(frozen=True)
class Bench:
    """What an attempt works with: the stopped thread, what it held before, and the workshop.

    ``other`` is an id that the thread should not have.
    """

    thread: Tracee
    before: Held
    shop: Workshop
    other: int


def _gained(result: int, what: str) -> str:
    """``what`` where the call succeeded; any failure but a refusal is a broken attempt."""
    if result >= 0:
        return what
    assert -result in {errno.EPERM, errno.EACCES}, f"{what}: {os.strerror(-result)}"
    return ""


def _capset(bench: Bench, permitted: int, effective: int, inheritable: int) -> int:
    words = [
        (mask >> shift) & 0xFFFFFFFF
        for shift in (0, 32)
        for mask in (effective, permitted, inheritable)
    ]
    header = struct.pack("<Ii", _CAP_VERSION_3, 0)
    return bench.thread.call("capset", header, struct.pack("<6I", *words))


def _setuid(bench: Bench) -> str:
    return _gained(bench.thread.call("setuid", bench.other), f"uid {bench.other}")


def _seteuid(bench: Bench) -> str:
    return _gained(bench.thread.call("setresuid", -1, bench.other, -1), f"euid {bench.other}")


def _setresuid(bench: Bench) -> str:
    return _gained(bench.thread.call("setresuid", *[bench.other] * 3), f"uid {bench.other}")


def _setgid(bench: Bench) -> str:
    return _gained(bench.thread.call("setgid", bench.other), f"gid {bench.other}")


def _setresgid(bench: Bench) -> str:
    return _gained(bench.thread.call("setresgid", *[bench.other] * 3), f"gid {bench.other}")


def _setgroups(bench: Bench) -> str:
    groups = struct.pack("<I", bench.other)
    return _gained(bench.thread.call("setgroups", 1, groups), f"group {bench.other}")


def _capset_of_more(bench: Bench) -> str:
    everything = held(os.getpid()).permitted | bench.before.permitted
    return _gained(_capset(bench, everything, everything, 0), "every capability")


def _inheritable(bench: Bench) -> str:
    gain = _take_inheritable(bench)
    _give_back_inheritable(bench)
    return gain


def _take_inheritable(bench: Bench) -> str:
    before = bench.before
    added = before.permitted or 1 << _CAP_NET_BIND_SERVICE
    result = _capset(bench, before.permitted, before.effective, before.inheritable | added)
    return _gained(result, f"inheritable {added:#x}")


def _give_back_inheritable(bench: Bench) -> None:
    before = bench.before
    assert _capset(bench, before.permitted, before.effective, before.inheritable) == 0


def _ambient(bench: Bench) -> str:
    # An ambient capability must be inheritable: take that too where it can be had.
    _take_inheritable(bench)
    bit = (bench.before.permitted or 1 << _CAP_NET_BIND_SERVICE).bit_length() - 1
    raised = bench.thread.call("prctl", _AMBIENT, _AMBIENT_RAISE, bit, 0, 0)
    if raised == 0 and not bench.before.ambient >> bit & 1:
        bench.thread.call("prctl", _AMBIENT, _AMBIENT_LOWER, bit, 0, 0)
    _give_back_inheritable(bench)
    return _gained(raised, f"ambient capability {bit}")


def _keep_caps(bench: Bench) -> str:
    before = bench.thread.call("prctl", _GET_KEEPCAPS)
    gain = _gained(bench.thread.call("prctl", _SET_KEEPCAPS, 1), "KEEP_CAPS")
    if gain:
        bench.thread.call("prctl", _SET_KEEPCAPS, before)
    return gain


def _kept_caps(bench: Bench) -> str:
    return "KEEP_CAPS was left on" if bench.thread.call("prctl", _GET_KEEPCAPS) else ""


def _securebits(bench: Bench) -> str:
    return _gained(bench.thread.call("prctl", _SET_SECUREBITS, 0), "securebits 0")


def _core_limit(bench: Bench) -> str:
    unlimited = struct.pack("<2Q", 2**64 - 1, 2**64 - 1)
    return _gained(bench.thread.call("prlimit64", 0, _RLIMIT_CORE, unlimited, 0), "core files")


def _file_of_user(bench: Bench) -> str:
    path = f"{bench.shop.directory}/user_{bench.other}\0".encode()
    return _gained(bench.thread.call("open", path, os.O_RDONLY), f"a 0600 file of {bench.other}")


def _file_of_group(bench: Bench) -> str:
    path = f"{bench.shop.directory}/group_{bench.other}\0".encode()
    return _gained(bench.thread.call("open", path, os.O_RDONLY), f"a file of group {bench.other}")


def _program(name: str) -> Callable[[Bench], str]:
    def attempt(bench: Bench) -> str:
        after = bench.shop.run(bench.thread, name.format(bench.other))
        if after is None:
            return ""
        gained = [f"euid {after.uids[1]}"] if after.uids[1] != bench.before.uids[1] else []
        if after.permitted or after.ambient:
            gained.append(f"capabilities {after.permitted:#x}")
        return ", ".join(gained)

    return attempt


ATTEMPTS: dict[str, Callable[[Bench], str]] = {
    "setuid": _setuid,
    "seteuid": _seteuid,
    "setresuid": _setresuid,
    "setgid": _setgid,
    "setresgid": _setresgid,
    "setgroups": _setgroups,
    "capset_of_more": _capset_of_more,
    "inheritable": _inheritable,
    "ambient": _ambient,
    "keep_caps": _keep_caps,
    "kept_caps": _kept_caps,
    "securebits": _securebits,
    "core_limit": _core_limit,
    "file_of_user": _file_of_user,
    "file_of_group": _file_of_group,
    "setuid_program": _program("setuid_{}"),
    "file_capability_program": _program("file_capabilities"),
    "plain_program": _program("plain"),
}


NEED_SETPCAP = frozenset({"inheritable", "ambient", "keep_caps"})
"""What stays open where the start had no cap_setpcap to close it: nothing that is not held."""


def attempt(name: str, tid: int, shop: Workshop, other: int | None = None) -> str:
    """Have thread ``tid`` make one attempt; what it gained, empty if it was refused.

    ``other`` is the user to become and to rob: root, or nobody where root is what it is anyway.
    """
    if name == "look_into":
        return "ptrace(2) by its user" if readable_by_same_user(tid) else ""
    before = held(tid)
    if other is None:
        other = NOBODY if before.uids[1] == 0 else 0
    with traced(tid) as thread:
        return ATTEMPTS[name](Bench(thread, before, shop, other))


def gains(tid: int, shop: Workshop) -> dict[str, str]:
    """Have thread ``tid`` try everything; what it gained, by the name of the attempt."""
    found = {name: attempt(name, tid, shop) for name in (*ATTEMPTS, "look_into")}
    return {name: gain for name, gain in found.items() if gain}


def bind(tid: int, port: int, address: str = "127.0.0.25") -> int:
    """Have thread ``tid`` bind a TCP socket; 0 or the errno. The socket is closed again."""
    name = struct.pack("<H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(address)
    with traced(tid) as thread:
        descriptor = thread.call("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
        assert descriptor >= 0
        result = thread.call("bind", descriptor, name + bytes(8), 16)
        thread.call("close", descriptor)
    return -result

"""A user namespace in which every id is itself: ``python userns.py [--net] COMMAND…``.

Root in it has every capability, over what belongs to the namespace alone; with ``--net`` that is a
network too. unshare(1) asks newuidmap(1), which /etc/subuid lets map less.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_ALL_IDS = "0 0 65536"


def main(arguments: list[str]) -> None:
    """Become COMMAND in the namespace."""
    net = arguments[0] == "--net"
    pid = os.getpid()
    unshared, go = os.pipe()
    helper = os.fork()
    if helper == 0:  # it stays outside, where the ids may be mapped
        os.close(go)
        os.read(unshared, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(_ALL_IDS)
        os._exit(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | (_CLONE_NEWNET if net else 0)):
        raise OSError(ctypes.get_errno(), "unshare")
    os.close(go)
    os.waitpid(helper, 0)
    if net:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    command = arguments[net:]
    os.execvp(command[0], command)  # noqa: S606 (a prefix becomes its command)


if __name__ == "__main__":
    main(sys.argv[1:])

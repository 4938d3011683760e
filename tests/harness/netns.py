"""A network namespace of the test's own: port 25 is free there, and reserved.

The calling thread is moved into it, and with it every socket it makes and every process it starts.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.namespaces import NET, unshared

_UNPRIVILEGED_START = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@contextmanager
def namespace() -> Iterator[None]:
    """Be in a new network namespace, with loopback up and ports below 1024 reserved."""
    with unshared(NET):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        # Without this every test of the capability would pass for the wrong reason.
        assert int(_UNPRIVILEGED_START.read_text()) > 25
        yield

"""`scripts/run` with conf/mtad.yaml, as a user starts it, in namespaces of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.daemon import until

ROOT = Path(__file__).parents[2]

# Directories of its own, so that neither another daemon nor its mail is in the way.
_SURROUNDINGS = """
ip link set lo up
for place in /run/mtad /var/lib/mtad; do
    mkdir -p $place
    mount -t tmpfs -o mode=755 none $place
done
exec "$@"
"""


class Whole:
    """The running daemon; ``pid`` is the supervisor's."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script beside the daemon, in its namespaces and the checkout."""
        inside = ["nsenter", f"--target={self.pid}", "--net", "--mount", f"--wdns={ROOT}"]
        command = [*inside, "bash", "-c", f'PATH="$(scripts/setup 2>/dev/null):$PATH"\n{script}']
        return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@contextmanager
def running() -> Iterator[Whole]:
    """Run it; it is ready when this yields, and gone afterwards."""
    # While there is a network: in the namespace nothing more can be fetched.
    subprocess.run(["scripts/setup"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    command = ["unshare", "--net", "--mount", "bash", "-ec", _SURROUNDINGS, "bash", "scripts/run"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        until(lambda: _namespaces(process.pid).isdisjoint(_namespaces(os.getpid())))
        whole = Whole(process.pid)
        ready = whole.shell("mtactl ready --wait 120")
        assert ready.returncode == 0, ready.stderr
        yield whole
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


def _namespaces(pid: int) -> set[str]:
    return {str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in ("net", "mnt")}

"""A program of Debian's as if it were installed and configured, for its own processes alone.

What scripts/setup unpacked is laid over this machine's files in a mount namespace. What is written
there is gone with it, and so are the processes.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

UNPACKED = Path("/var/cache/mtad")

# A tmpfs: the upper directory of an overlay cannot be on an overlay, which / is in a container.
_LAY_OVER = """
mount -t tmpfs -o mode=755 none /mnt
cp -R "$1" /mnt/upper
for place in etc usr var; do
    mkdir -p /mnt/work/$place
    mount -t overlay -o "lowerdir=/$place,upperdir=/mnt/upper/$place,workdir=/mnt/work/$place" \
        overlay /$place
done
mount -t tmpfs -o mode=755 none /run
echo laid
exec cat
"""


def lacking(package: str) -> str:
    """Return why ``package`` cannot be had; empty: it can."""
    if (UNPACKED / package).is_dir():
        return ""
    return f"no {package}: scripts/setup --test unpacks it to {UNPACKED}, where it can"


class Installed:
    """``package`` in a mount namespace and the present network namespace, while the block runs."""

    def __init__(self, package: str) -> None:
        self._tree = UNPACKED / package

    def __enter__(self) -> Installed:
        spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._keeper = subprocess.Popen(
            [*spaces, "sh", "-ec", _LAY_OVER, "sh", str(self._tree)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"laid\n", f"overlays of {self._tree}"
        children = Path(f"/proc/{self._keeper.pid}/task/{self._keeper.pid}/children")
        self._inside = children.read_text().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.kill()  # and with it, by --kill-child, every process of the namespace
        self._keeper.communicate()

    def command(self, *words: str) -> list[str]:
        """Return the command that runs ``words`` there."""
        return ["nsenter", f"--target={self._inside}", "--mount", "--pid", *words]

    def run(self, script: str) -> str:
        """Run a shell script there, to its first failure; return what it printed."""
        done = subprocess.run(
            self.command("sh", "-ec", script), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

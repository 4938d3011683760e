"""System trees of Debian, made by debootstrap and kept between runs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CACHE = Path("/var/cache/mtad-tests")
"""What takes long to make; removing it costs the next run two or three minutes."""

SUITE = "bookworm"


def lacking(*programs: str) -> str:
    """Return why trees or containers cannot be made here; empty: they can."""
    if os.geteuid() != 0:
        return "needs root"
    if absent := [program for program in programs if shutil.which(program) is None]:
        return f"not installed: {', '.join(absent)}"
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False).returncode:
        return "no mount namespace can be made here"
    return ""


@contextmanager
def cached(name: str) -> Iterator[Path]:
    """Yield the path CACHE/name, under a lock of its own: others wait until it is made."""
    CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield CACHE / name


def tarball(packages: Sequence[str] = ()) -> Path:
    """Return a tar file of Debian 12's minbase and ``packages``, with what they depend on."""
    words = [SUITE, platform.machine(), *sorted(packages)]
    key = hashlib.sha256(" ".join(words).encode()).hexdigest()[:12]
    with cached(f"{SUITE}-{key}.tar") as path:
        if not path.exists():
            _debootstrap(packages, path)
    return path


def _debootstrap(packages: Sequence[str], path: Path) -> None:
    debs = CACHE / "debs"
    debs.mkdir(exist_ok=True)
    tree = path.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", f"--cache-dir={debs}"]
    if packages:
        command.append(f"--include={','.join(packages)}")
    command += [SUITE, str(tree), *_mirror()]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, f"{made.stdout}{made.stderr}"
    partial = path.with_suffix(".partial")
    # No device nodes: whoever uses the tree brings a /dev of its own.
    pack = ["tar", "-C", str(tree), "--exclude=./dev/*", "-cf", str(partial), "."]
    subprocess.run(pack, check=True)
    partial.rename(path)
    shutil.rmtree(tree)


def _mirror() -> list[str]:
    """Return where this machine has Debian from; nothing: debootstrap knows a place itself."""
    if shutil.which("apt-get") is None:
        return []
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Label: Debian"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.split()[:1]


# What package clients are configured by: pip, apt-get, TLS.
_SETTINGS = re.compile(r"(?i)pip_|ssl_cert_|(requests|curl)_ca_bundle$|(https?|all|no)_proxy$")
_APT_SETTINGS = re.compile(r"Acquire::(https?|ftp|Check-|Force|Retries)")
_FILES = (
    Path("/etc/resolv.conf"),
    Path("/etc/hosts"),
    Path("/etc/pip.conf"),
    Path.home() / ".config/pip/pip.conf",
    Path("/usr/local/share/ca-certificates"),
)

# Not chroot(2), which nobody may leave for a user namespace; and not exec, so that what runs inside
# is not process 1.
_ENTER = """
mount --bind "$0" "$0"
cd "$0"
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
pivot_root . .
umount --lazy .
cd /
"$@"
exit $?
"""


class Tree:
    """A system tree to be root in, with this machine's network and its ways to get packages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._environment = {
            **{name: value for name, value in os.environ.items() if _SETTINGS.match(name)},
            "HOME": "/root",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }

    def command(self, *words: str) -> list[str]:
        """Return the command that runs ``words`` inside; its mounts and processes end with it."""
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", _ENTER]
        variables = (f"{name}={value}" for name, value in self._environment.items())
        return [*enter, str(self.path), "env", "-i", *variables, *words]

    def run(self, *words: str) -> None:
        """Run ``words`` inside; AssertionError with what they said if they failed."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"

    def settle(self) -> None:
        """Take over how this machine reaches its package sources."""
        named = (Path(value) for value in self._environment.values())
        for source in (*_FILES, *(path for path in named if path.is_file())):
            target = self.path / source.relative_to("/")
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        if shutil.which("apt-config"):
            dump = subprocess.run(
                ["apt-config", "dump"], capture_output=True, text=True, check=True
            )
            lines = filter(_APT_SETTINGS.match, dump.stdout.splitlines(keepends=True))
            (self.path / "etc/apt/apt.conf.d/90machine").write_text("".join(lines))
        self.run("update-ca-certificates")


@contextmanager
def tree(packages: Sequence[str]) -> Iterator[Tree]:
    """Yield a fresh tree of Debian 12's minbase and ``packages``; it is removed afterwards."""
    source = tarball(packages)
    with tempfile.TemporaryDirectory(prefix="tree-", dir=CACHE) as name:
        path = Path(name)
        path.chmod(0o755)
        subprocess.run(["tar", "-C", name, "-xf", str(source)], check=True)
        fresh = Tree(path)
        fresh.settle()
        yield fresh

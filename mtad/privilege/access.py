"""Whether the calling process can use files: asked of the kernel, with what is in the way."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from mtad.privilege import accounts

# As many symbolic links as path_resolution(7) follows.
_MAX_LINKS = 40


class Obstacle(NamedTuple):
    """What cannot be done (``cannot read PATH``), what is in the way, and what root could do."""

    asked: str
    found: str
    help: str


def program_files() -> tuple[Path, ...]:
    """Return what this program goes on reading after the drop: interpreter, modules, libraries."""
    modules = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = {sys.executable, *sys.path, *filter(None, modules)}
    return tuple(sorted(path for path in map(Path, paths) if path.is_absolute() and path.exists()))


def obstacles(readable: tuple[Path, ...], writable: tuple[Path, ...]) -> Iterator[Obstacle]:
    """Yield an obstacle for each path that the calling process cannot use."""
    for path in readable:
        if not _may(path, os.R_OK):
            yield Obstacle(f"cannot read {path}", *_in_the_way(path, _how_to_let_read))
    for path in writable:
        if not _may(path, os.R_OK | os.W_OK):
            yield Obstacle(f"cannot write {path}", *_in_the_way(path, _how_to_let_write))


def _may(path: Path, mode: int) -> bool:
    try:
        found = path.stat().st_mode
    except OSError:
        return False
    # A directory is to be searched, a program to be run.
    if stat.S_ISDIR(found) or found & 0o111:
        mode |= os.X_OK
    return os.access(path, mode, effective_ids=True)


def _in_the_way(path: Path, let: Callable[[Path], str], links: int = 0) -> tuple[str, str]:
    """Return what is in the way to ``path``, a missing name or a mode and an owner, and a help."""
    for place in (*reversed(path.parents), path):
        try:
            found = place.lstat()
        except FileNotFoundError:
            return f"{place} does not exist", let(place)
        except OSError as error:
            return f"{place}: {error.strerror}", "use another place"
        if stat.S_ISLNK(found.st_mode):
            if links == _MAX_LINKS:
                return f"{place}: too many symbolic links", f"rm {quote(str(place))}"
            target = place.parent / place.readlink()
            return _in_the_way(target / path.relative_to(place), let, links + 1)
        if place != path and not os.access(place, os.X_OK, effective_ids=True):
            return (
                f"{place} does not let it pass ({_who_may(found)})",
                f"chmod a+x {quote(str(place))}, or use another place",
            )
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        remedy = f"mount -o remount,rw {quote(str(path))}"
        return f"{path} is on a file system mounted read-only", remedy
    return f"{path} does not allow it ({_who_may(path.lstat())})", let(path)


def _how_to_let_read(path: Path) -> str:
    if not path.exists():
        return f"make {path}, or name what exists"
    name = quote(str(path))
    group = accounts.group(os.getegid())[1]
    return f"chgrp {group} {name} && chmod g+rX {name}"


def _how_to_let_write(path: Path) -> str:
    user = accounts.user(os.geteuid()).name
    do = "chown -R" if path.exists() else "install -d -o"
    return f"{do} {user} {quote(str(path))}"


def _who_may(found: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}:{found.st_gid}"

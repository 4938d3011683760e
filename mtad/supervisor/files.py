"""The files and directories of the daemon: made so that nothing planted there is followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mtad.errors import MtadError, PreflightError

_STDOUT = 1
_MAX_LINKS = 40  # as path_resolution(7)
# O_NONBLOCK for a FIFO: neither wait for its reader here, nor at any write.
_LOG_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def prepare_directory(path: Path, uid: int, gid: int, mode: int) -> None:
    """Make ``path`` a directory of ``uid`` and ``gid``, before root is given up.

    Missing parents are made for the present user. A directory that exists is left as it is, but
    for an empty one of root, such as a fresh volume, which is handed over; one that everybody may
    write to (an empty /tmp) stays root's.

    Raises:
        PreflightError: it cannot be made, or is something else.
    """
    before = os.umask(0o022)  # the user who is to come must be able to pass through the parents
    try:
        descriptor = _open_directory(path, mode)
        try:
            opened = Path(f"/proc/self/fd/{descriptor}")
            found = os.fstat(descriptor)
            ours = os.geteuid() == 0 == found.st_uid and not found.st_mode & stat.S_IWOTH
            if ours and not any(opened.iterdir()):
                os.chown(opened, uid, gid)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise PreflightError(
            f"the directory {path} cannot be made ready: {error.strerror}",
            help=f"make it, owned by uid {uid}, or name another in the configuration",
        ) from error
    finally:
        os.umask(before)


def _open_directory(path: Path, mode: int) -> int:
    """Return a descriptor of the directory ``path``, made with its parents where it is missing.

    A link in its parents is followed if root made it, or the present user: by another's, root
    would be led to make, and give away, a directory anywhere.
    """
    # By descriptor: between two calls by name somebody could put a link there. O_PATH asks for no
    # permission: root without cap_dac_override may not open what was handed over before.
    here = os.open("/", os.O_PATH)
    try:
        names, links = list(reversed(path.parts)), 0
        while names:
            name = names.pop()
            with suppress(FileExistsError):
                os.mkdir(name, 0o777 if names else mode, dir_fd=here)
            before, here = here, os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=here)
            found = os.fstat(here)
            if stat.S_ISLNK(found.st_mode) and names:
                links += 1
                if found.st_uid not in (0, os.geteuid()) or links > _MAX_LINKS:
                    os.close(before)
                    raise OSError(errno.ELOOP, f"{name} is a symbolic link of uid {found.st_uid}")
                names += reversed(Path(os.readlink("", dir_fd=here)).parts)
                before, here = here, before
            os.close(before)
        if not stat.S_ISDIR(os.fstat(here).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except BaseException:
        os.close(here)
        raise
    return here


def open_log(path: Path) -> int:
    """Open ``path`` for appending, make it this process's standard output, return the descriptor.

    Raises:
        MtadError: it cannot be opened; standard output stays as it was.
    """
    try:
        descriptor = os.open(path, _LOG_FLAGS, 0o640)
    except OSError as error:
        raise MtadError(
            f"the log file {path} cannot be opened: {error.strerror}",
            help="log.target must be a file in a directory that the daemon's user can write",
        ) from error
    os.dup2(descriptor, _STDOUT)
    return descriptor


@contextmanager
def pid_file(path: Path | None) -> Iterator[None]:
    """Have the process id in ``path`` while the block runs; None: nowhere.

    Raises:
        MtadError: it cannot be written.
    """
    if path is None:
        yield
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)  # of an earlier process of this id
        with temporary.open("x") as file:
            file.write(f"{os.getpid()}\n")
        temporary.rename(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise MtadError(
            f"the pid file {path} cannot be written: {error.strerror}",
            help="pid_file must be in a directory that the daemon's user can write, or null",
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)

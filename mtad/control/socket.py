"""The control socket on disk: whose it is, and that nobody else's is taken for it.

Everything here runs after the drop, as the daemon's own user. Whoever may bind is decided by a
lock (flock(2)) beside the socket, which its holder keeps for life and the kernel takes back when
it dies; the lock file itself stays, because a lock on a file that others may unlink is none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from mtad.control.peer import caller_of
from mtad.errors import ControlSocketError

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_PROBE_SECONDS = 1.0
BACKLOG = 1_024
"""How many connections may wait to be accepted."""


class ControlSocket:
    """A bound unix socket at ``path`` with the permission bits ``mode``, while it is entered.

    Entering returns the socket, which listens: who comes early waits until the server is there.
    Leaving removes it from the disk.

    Raises:
        ControlSocketError: another daemon lives there, or the place is not safe, or not ours.
    """

    def __init__(self, path: Path, mode: int = 0o660) -> None:
        self._path = path
        self._mode = mode
        self._lock = -1
        self._inode = (0, 0)

    def __enter__(self) -> socket.socket:
        try:
            _check_directory(self._path.parent)
            self._lock = _lock(self._path)
            _clear(self._path)
            self._socket = _bind(self._path, self._mode)
            self._inode = _inode(self._path)
        except OSError as error:
            self._unlock()
            raise ControlSocketError(
                f"the control socket {self._path} cannot be made: {error.strerror or error}",
                help=f"the user of the daemon (uid {os.geteuid()}) must be able to write in "
                f"{self._path.parent}",
            ) from error
        except ControlSocketError:
            self._unlock()
            raise
        return self._socket

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # First the name, then the lock: whoever gets the lock must not find our socket.
        try:
            if _inode(self._path) == self._inode:
                self._path.unlink()
        except OSError:
            pass  # somebody was quicker, or took the directory away: it is gone, as wanted
        self._socket.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def check_place(path: Path) -> None:
    """See that the calling process could make a control socket at ``path``; change nothing.

    Raises:
        ControlSocketError: as entering a ControlSocket does, where looking can tell.
    """
    try:
        _check_directory(path.parent)
        lock = _lock_beside(path)
        with suppress(FileNotFoundError):
            _check_lock(lock.lstat(), lock)
        _is_stale(path)
    except OSError as error:
        raise ControlSocketError(
            f"the place of the control socket {path} cannot be looked at: {error.strerror}"
        ) from error


def _inode(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _check_directory(directory: Path) -> None:
    """Refuse a directory in which somebody else could put a socket of their own in our place."""
    found = directory.stat()
    shared = found.st_mode & stat.S_IWOTH or (
        found.st_mode & stat.S_IWGRP and found.st_gid != os.getegid()
    )
    if found.st_uid not in (0, os.geteuid()):
        raise ControlSocketError(
            f"the directory {directory} of the control socket belongs to uid {found.st_uid}",
            help=f"it must belong to root or to the daemon's user (uid {os.geteuid()})",
        )
    if shared and not found.st_mode & stat.S_ISVTX:
        raise ControlSocketError(
            f"others may write in the directory {directory} of the control socket "
            f"(mode {stat.S_IMODE(found.st_mode):04o})",
            help=f"chmod go-w {directory}",
        )


def _lock(path: Path) -> int:
    """Return the descriptor of the lock file beside ``path``, locked."""
    place = _lock_beside(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        lock = os.open(place, flags, 0o600)
    except OSError as error:
        # ELOOP: O_NOFOLLOW met a symbolic link.
        what = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise ControlSocketError(
            f"the lock file {place} cannot be opened: {what}", help=f"remove {place}"
        ) from error
    try:
        _check_lock(os.fstat(lock), place)
        _take(lock, place)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _lock_beside(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _check_lock(found: os.stat_result, place: Path) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
        raise ControlSocketError(
            f"the lock file {place} is not one of ours: {_kind(found)}, uid {found.st_uid}, "
            f"{found.st_nlink} links",
            help=f"remove {place}",
        )


def _take(lock: int, place: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        raise ControlSocketError(
            f"another daemon is running here: process {holder or 'unknown'} holds {place}",
            help="stop it first (mtactl shutdown), or give this one another control.socket",
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on any more; refuse everything else at ``path``."""
    if _is_stale(path):
        path.unlink()


def _is_stale(path: Path) -> bool:
    """Whether ``path`` is a socket that nobody listens on, or else nothing."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        raise ControlSocketError(
            f"{path} is {_kind(found)}, not a socket; it is left as it is",
            help=f"remove {path} if nobody needs it",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return True
        except OSError as error:
            raise ControlSocketError(
                f"{path} is a socket that may be in use: {error}",
                help=f"remove {path} if it is not",
            ) from error
        else:
            raise ControlSocketError(
                f"process {caller_of(probe).pid} listens on {path} already",
                help="stop it first, or give this daemon another control.socket",
            )


def _bind(path: Path, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # bind(2) makes the inode with 0777 & ~umask: there is no moment with wider permissions. The
    # umask is of the process, which has one thread here.
    umask = os.umask(0o777 & ~mode)
    try:
        sock.bind(os.fspath(path))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(umask)
    return sock


def _kind(found: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(found.st_mode), "something unknown")

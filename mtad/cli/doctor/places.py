"""Files and directories: what the daemon reads and writes, as the user that it will be."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from mtad.cli.doctor.finding import Finding, ok, problem, warning
from mtad.cli.doctor.processes import process
from mtad.cli.doctor.sockets import listening_pid
from mtad.cli.doctor.start import Start
from mtad.control.socket import check_place
from mtad.errors import ControlSocketError
from mtad.privilege.access import obstacles

_REFUSED = "the start is refused, before anything is changed"

# What the processes of the daemon import; some of it is read for the first time after the drop.
_IMPORTS = (
    "import encodings.idna, ssl, traceback, mtad.supervisor.main, mtad.supervisor.signing, "
    "mtad.worker.main"
)
_LIST_FILES = (
    "import json; from mtad.privilege.access import program_files; "
    "print(json.dumps([str(path) for path in program_files()]))"
)
_IMPORT_SECONDS = 60
_SETUP = "scripts/setup, which makes an environment that the daemon's user can read and run"

_MIB = 2**20
_FEW_INODES = 1_000
_ROOM_FOR_MESSAGES = 100


def files(start: Start) -> Iterator[Finding]:
    """Read what must be readable after the drop: interpreter, modules, configuration."""
    done = _python(_IMPORTS, _LIST_FILES)
    if done.returncode:
        yield problem(f"the program cannot be started: {_last_line(done)}", _REFUSED, _SETUP)
        return
    program = {Path(path) for path in json.loads(done.stdout)}
    paths = (*program, *(path.absolute() for path in start.configuration.paths))
    reasons: dict[tuple[str, str], list[str]] = {}
    for asked, found, hint in start.as_user(lambda: list(obstacles(paths, ()))):
        reasons.setdefault((found, hint), []).append(asked)
    for (found, hint), asked in reasons.items():
        more = f" (and {len(asked) - 1} more)" if len(asked) > 1 else ""
        setup = [_SETUP] if Path(asked[0].removeprefix("cannot read ")) in program else []
        yield problem(f"as {start.user}, {asked[0]}{more}: {found}", _REFUSED, hint, *setup)
    if not reasons:
        yield ok(f"{start.user} can read the program ({len(program)} files) and the configuration")


def imports(start: Start) -> Iterator[Finding]:
    """Start the interpreter as the daemon's user, and have it import what the daemon does."""
    said = start.as_user(_cannot_import)
    if said:
        why = "the worker processes would not come up"
        yield problem(f"as {start.user}, the program cannot be started: {said}", why, _SETUP)
    else:
        yield ok(f"{start.user} can start {sys.executable} and import the program")


def _cannot_import() -> str:
    """Return why the program cannot be imported, "" where it can."""
    try:
        done = _python(_IMPORTS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return _last_line(done) if done.returncode else ""


def _python(*code: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` as the processes of the daemon run: without PYTHONPATH, home or directory."""
    return subprocess.run(
        [sys.executable, "-I", "-c", "; ".join(code)],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=_IMPORT_SECONDS,
        check=False,
    )


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1]


def directories(start: Start) -> Iterator[Finding]:
    """Look at each directory that the daemon writes to, or at where it would be made."""
    for path, mode in start.configuration.directories().items():
        yield _directory(start, path, mode)
    settings = start.configuration.settings
    if settings.log.target != "stdout" and os.path.lexists(settings.log.target):
        yield _log(start, settings.log.target)
    if settings.pid_file is not None and settings.pid_file.is_dir():
        why = "the process id cannot be written there"
        yield problem(f"pid_file: {settings.pid_file} is a directory", why, "pid_file: null")


def _log(start: Start, target: Path) -> Finding:
    if target.is_symlink():
        why = "a log that anybody could point elsewhere is not opened"
        return problem(f"log.target: {target} is a symbolic link", why, f"rm {quote(str(target))}")
    for asked, reason, hint in start.as_user(lambda: list(obstacles((), (target,)))):
        why = "the daemon ends before anything is open"
        return problem(f"log.target: as {start.user}, {asked}: {reason}", why, hint)
    return ok(f"{start.user} can write {target}")


def _directory(start: Start, path: Path, mode: int) -> Finding:
    name = quote(str(path))
    make = f"install -d -o {start.user} -m {mode:04o} {name}"
    try:
        found = path.lstat()
    except FileNotFoundError:
        return _to_be_made(path, make)
    except OSError as error:
        return problem(f"{path}: {error.strerror}", _REFUSED, make)
    if not stat.S_ISDIR(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no directory"
        why = "the start follows no link and replaces no file"
        return problem(f"{path} is {kind}", why, f"mv {name} {name}.old", "name another path")
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return _read_only(path)
    if start.by_root and found.st_uid == 0 and not any(path.iterdir()):
        return ok(f"{path} is empty, and the start hands it over to {start.user}")
    for asked, reason, hint in start.as_user(lambda: list(obstacles((), (path,)))):
        return problem(f"as {start.user}, {asked}: {reason}", _REFUSED, hint)
    return ok(f"{start.user} can write {path}")


def _to_be_made(path: Path, make: str) -> Finding:
    above = _existing(path)
    if not above.is_dir():
        return problem(f"{path} cannot be made: {above} is no directory", _REFUSED, make)
    if os.statvfs(above).f_flag & os.ST_RDONLY:
        return _read_only(above)
    if not os.access(above, os.W_OK | os.X_OK, effective_ids=True):
        found = f"{path} is missing, and whoever starts may not make it in {above}"
        return problem(found, _REFUSED, f"sudo {make}")
    return ok(f"{path} is missing, and the start makes it")


def _read_only(path: Path) -> Finding:
    found = f"{path} is on a file system mounted read-only"
    remedy = f"mount -o remount,rw {quote(str(path))}"
    return problem(found, _REFUSED, remedy, "name another path")


def _existing(path: Path) -> Path:
    """Return ``path``, or the nearest directory above it that exists."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def control_socket(start: Start) -> Iterator[Finding]:
    """Look at the place of the control socket, and for a daemon that has it."""
    path = start.configuration.settings.control.socket
    if pid := listening_pid(path):
        yield problem(
            f"{process(pid)} answers at {path}",
            "a second daemon would be refused the socket",
            f"mtactl --socket {quote(str(path))} summary shows whether it is the one that you want",
            f"mtactl --socket {quote(str(path))} shutdown",
        )
        return
    if not path.parent.exists():
        yield ok(f"{path} is to be made, with its directory")
        return
    if refused := start.as_user(lambda: _refused_place(path)):
        message, hint = refused
        yield problem(message, "the start is refused: it would not be safe", hint)
    else:
        yield ok(f"{path} can be made")


def _refused_place(path: Path) -> tuple[str, str] | None:
    try:
        check_place(path)
    except ControlSocketError as error:
        return error.message, error.help
    return None


def disk(start: Start) -> Iterator[Finding]:
    """Look at the room where captured mail is to be kept."""
    settings = start.configuration.settings
    store = settings.store.directory
    room = os.statvfs(_existing(store))
    free = room.f_bavail * room.f_frsize
    limits = {spec.profile.limits.message_size for spec in start.configuration.listeners()}
    largest = max(limits, default=0)
    found = f"{free // _MIB} MiB are free for {store}"
    why = f"a message may have {largest // _MIB} MiB; what does not fit is refused with 452"
    remedies = (f"df {quote(str(_existing(store)))}", "store.directory: on another file system")
    if free < largest:
        yield problem(found, why, *remedies)
    elif free < _ROOM_FOR_MESSAGES * largest:
        yield warning(found, why, *remedies)
    elif room.f_files > 0 and room.f_favail < _FEW_INODES:
        why = "each captured message takes two files"
        yield warning(f"{room.f_favail} inodes are left for {store}", why, *remedies)
    else:
        yield ok(found)

"""A process of the supervisor's: started by exec, spoken to by a channel, watched, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from mtad.ipc import channel
from mtad.ipc.channel import Channel
from mtad.privilege.terminal import leads_session

EXIT_SECONDS = 2.0
"""How long a process may take to end once it has nothing more to do."""

SPAWN_AGAIN_SECONDS = 1.0
"""After which a process that could not be started may be."""

_LONG_LIFE_SECONDS = 10.0
_FIRST_BACKOFF_SECONDS = 0.1
_LAST_BACKOFF_SECONDS = 30.0

# What was killed is gone after that, and can be reaped.
_REAP_SECONDS = 1.0

# A child needs none of the supervisor's environment; the interpreter wants a UTF-8 locale.
_ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}

M = TypeVar("M")


class Child(Generic[M]):
    """``python -I -m MODULE SUPERVISOR CHANNEL DESCRIPTOR… NUMBER…``, from its start on.

    ``serving`` is set by its owner, when it has said that it does.

    Raises:
        OSError: there is no room for one more process or descriptor.
    """

    channel: Channel[M]
    _ours: ClassVar[set[int]] = set()

    def __init__(self, module: str, descriptors: Sequence[int], *numbers: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket, theirs = channel.pair()
        passed = (theirs.fileno(), *descriptors)
        arguments = map(str, (os.getpid(), *passed, *numbers))
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=passed,
                env=_ENVIRONMENT,
                start_new_session=leads_session(),
            )
        finally:
            theirs.close()
        self._ours.add(self.process.pid)
        self._pidfd = os.pidfd_open(self.process.pid)
        self.started = time.time()
        self.serving = False

    def watch(
        self,
        receives: Any,
        on_message: Callable[[M], None],
        on_exit: Callable[[int], None],
    ) -> None:
        """Hear what it says, and once how it exited (as Popen has it); then all is closed."""
        self.channel = Channel(
            self._socket, receives, lambda message, _: on_message(message), self.must_end
        )
        self._loop.add_reader(self._pidfd, self._exited, on_exit)

    def kill(self) -> None:
        """End it now (SIGKILL)."""
        self.process.kill()

    def must_end(self) -> None:
        """It was told to, hung up, or cannot be understood: one that does not end is killed."""
        self._loop.call_later(EXIT_SECONDS, self.process.kill)

    def _exited(self, on_exit: Callable[[int], None]) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self.process.wait()
        self._ours.discard(self.process.pid)
        self.channel.close()
        end_strangers(self._ours)
        self._loop.call_later(_REAP_SECONDS, end_strangers, self._ours)
        on_exit(status)


def end_strangers(ours: Collection[int]) -> None:
    """Kill the children of this process that are not ``ours``.

    They were a worker's, which has ended without them; to get them, this process has to be a
    subreaper (prctl(2), PR_SET_CHILD_SUBREAPER). They would keep the sockets that the worker had.
    """
    with suppress(OSError):  # a kernel without CONFIG_PROC_CHILDREN
        found = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
        for pid in {int(word) for text in found for word in text.split()} - set(ours):
            with suppress(ProcessLookupError, PermissionError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)


class Backoff:
    """How long a successor has to wait: not at all after a long life, then more each time."""

    def __init__(self) -> None:
        self._quick_deaths = 0

    def after(self, dead: Child[Any]) -> float:
        """Return the seconds from the death of ``dead`` to the next start."""
        if time.time() - dead.started > _LONG_LIFE_SECONDS:
            self._quick_deaths = 0
            return 0.0
        self._quick_deaths += 1
        if self._quick_deaths == 1:
            return 0.0
        backoff = _FIRST_BACKOFF_SECONDS * 2.0 ** (self._quick_deaths - 2)
        return float(min(backoff, _LAST_BACKOFF_SECONDS))
